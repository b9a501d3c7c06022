"""Holds the build's environment to binary/constraints.txt; `--write` makes that file anew from what is installed."""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

FILE = Path(__file__).with_name("constraints.txt")
HEAD = (
    "# Everything the single file is built with, exactly. `make "
    "binary-versions` makes this list anew; try the file then.\n"
)
# They are not built with: venv puts it there.
LEFT_OUT = {"pip"}


def installed() -> dict[str, str]:
    """The version of every package in this environment, by its name in small letters."""
    return {re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version for found in distributions()}


def listed() -> dict[str, str]:
    """The same, as the file has it."""
    lines = [line for line in FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return {line.partition("==")[0]: line.partition("==")[2] for line in lines}


def main() -> None:
    """Write the list, or exit with a sentence when the environment has something that it does not."""
    found = {name: version for name, version in sorted(installed().items()) if name not in LEFT_OUT}
    if "--write" in sys.argv:
        FILE.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in found.items()))
        return
    known = listed()
    wrong = [f"{name} {version}" for name, version in found.items() if known.get(name) != version]
    if wrong:
        sys.exit(f"{FILE.name} does not have {', '.join(wrong)}; `make binary-versions` makes it anew")


if __name__ == "__main__":
    main()
