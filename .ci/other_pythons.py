"""Prints the Pythons of this machine that the tests should run on besides the one that runs this, one path a line.

Of each supported minor version it is the newest patch version. Folders to look in may be given, instead of the usual
ones.
"""

import configparser
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDERS = (*Path.home().glob(".pyenv/versions/*/bin"), Path("/usr/bin"), Path("/usr/local/bin"))
_ASK = "import sys, sqlite3, venv, ensurepip; print(*sys.version_info[:3])"
_CLASSIFIER = re.compile(r"Programming Language :: Python :: 3\.(\d+)")


def supported() -> set[tuple[int, int]]:
    """The minor versions that setup.cfg names."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(Path(__file__).parent.parent / "setup.cfg", "utf-8")
    return {(3, int(minor)) for minor in _CLASSIFIER.findall(setup["metadata"]["classifiers"])}


def version(python: Path) -> tuple[int, ...] | None:
    """Its version; None when it does not run, or lacks what makes a virtual environment."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def others(folders: Iterable[Path], used: tuple[int, ...]) -> list[Path]:
    """The interpreters of those folders: the newest patch of each supported minor version but that of `used`."""
    newest: dict[tuple[int, ...], tuple[tuple[int, ...], Path]] = {}
    for folder in folders:
        for python in sorted(folder.glob("python3.*")):
            named = re.fullmatch(r"python3\.(\d+)", python.name)
            minor = (3, int(named[1])) if named else used[:2]
            if minor not in supported() or minor == used[:2]:
                continue
            found = version(python)
            if found is None:
                print(f"{python} is passed over: it cannot make a virtual environment", file=sys.stderr)
            elif minor not in newest or found > newest[minor][0]:
                newest[minor] = (found, python)
    return [python for _, (_, python) in sorted(newest.items())]


if __name__ == "__main__":
    for python in others([Path(name) for name in sys.argv[1:]] or FOLDERS, sys.version_info[:3]):
        print(python)
