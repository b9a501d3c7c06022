"""The licences of what storemon is made of: read from the packages' metadata, or from the text a single file was built
with.
"""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from storemon_flask.errors import StoremonError

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_LINE: Final = "=" * 80
_FILE_NAMES: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)


def text() -> str:
    """The licence of storemon and of every package it runs on; `StoremonError` when they cannot be known."""
    built_in = _PACKAGE / "licenses.txt"
    if built_in.is_file():
        return built_in.read_text("utf-8")
    try:
        asked = distribution("storemon").requires or []
    except PackageNotFoundError:
        raise StoremonError(
            "storemon is not installed as a package, so what it runs on is not known; `pip install -e .` installs it"
        ) from None
    return own(_PACKAGE.parent / "LICENSE") + of(_closure(asked, set()))


def requirements(file: Path, without: set[str]) -> list[str]:
    """The names of the packages that file asks for and of all that those need, sorted; `without` names those left out."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return _closure(lines, without)


def own(file: Path) -> str:
    """The first part of the text: storemon's own licence."""
    return f"storemon\n{file.read_text('utf-8').strip() if file.is_file() else _of_one(distribution('storemon'))}\n"


def of(names: Iterable[str]) -> str:
    """The licences of those packages, one after the other, each below a line with its name, version and licence."""
    return "".join(f"\n{_LINE}\n{_title(found)}\n{_LINE}\n{_of_one(found)}\n" for found in map(distribution, names))


def _closure(requires: Iterable[str], without: set[str]) -> list[str]:
    found: set[str] = set()
    waiting = [_name(line) for line in requires if _needed(line)]
    while waiting:
        name = waiting.pop()
        # pip comes with sqlite-utils, for a command of its own.
        if name in found or name in without | {"pip"}:
            continue
        try:
            more = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += [_name(line) for line in more if _needed(line)]
    return sorted(found)


def _needed(requirement: str) -> bool:
    return "extra ==" not in requirement


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _title(found: Distribution) -> str:
    meta = found.metadata
    stated = next((meta[name] for name in ("License-Expression", "License") if name in meta), "see below")
    return f"{meta['Name']} {found.version} ({stated.strip().partition(chr(10))[0][:60]})"


def _of_one(found: Distribution) -> str:
    files = [file for file in found.files or [] if _FILE_NAMES.match(file.name) and ".dist-info" in file.parts[0]]
    texts = [Path(str(file.locate())).read_text("utf-8", "replace").strip() for file in files]
    return "\n\n".join(texts) or "The package brings no text of its licence."
