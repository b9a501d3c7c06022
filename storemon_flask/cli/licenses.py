"""The licences of what storemon is made of: from the packages' metadata, or the text a single file was built with."""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from storemon_flask.errors import StoremonError

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_LINE: Final = "=" * 80
_FILE_NAMES: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)


def read_licenses() -> str:
    """Return the licence of storemon and of every package it runs on; `StoremonError` when they cannot be known."""
    built_in = _PACKAGE / "licenses.txt"
    if built_in.is_file():
        return built_in.read_text("utf-8")
    try:
        required = distribution("storemon").requires or []
    except PackageNotFoundError:
        raise StoremonError(
            "storemon is not installed as a package, so what it runs on is not known; `pip install -e .` installs it"
        ) from None
    return own_license(_PACKAGE.parent / "LICENSE") + package_licenses(_closure(required, set()))


def required_packages(file: Path, without: set[str]) -> list[str]:
    """Return the packages that file names and all that those need, sorted; `without` names those left out."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return _closure(lines, without)


def own_license(file: Path) -> str:
    """Return the first part of the text: storemon's own licence."""
    text = file.read_text("utf-8").strip() if file.is_file() else _license_text(distribution("storemon"))
    return f"storemon\n{text}\n"


def package_licenses(names: Iterable[str]) -> str:
    """Return the licences of those packages, each below a line with its name, version and licence."""
    return "".join(
        f"\n{_LINE}\n{_title(package)}\n{_LINE}\n{_license_text(package)}\n" for package in map(distribution, names)
    )


def _closure(required: Iterable[str], without: set[str]) -> list[str]:
    # pip comes with sqlite-utils, for a command of its own.
    skipped, names = without | {"pip"}, set()
    waiting = _names(required)
    while waiting:
        name = waiting.pop()
        if name in names or name in skipped:
            continue
        try:
            waiting += _names(distribution(name).requires or [])
        except PackageNotFoundError:
            continue
        names.add(name)
    return sorted(names)


def _names(requirements: Iterable[str]) -> list[str]:
    """Return the names of requirements such as `Flask>=3; python_version > "3"`, without those of extras."""
    return [
        re.split(r"[^A-Za-z0-9._-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")
        for line in requirements
        if "extra ==" not in line
    ]


def _title(package: Distribution) -> str:
    meta = package.metadata
    stated = next((meta[name] for name in ("License-Expression", "License") if name in meta), "see below")
    return f"{meta['Name']} {package.version} ({stated.strip().partition(chr(10))[0][:60]})"


def _license_text(package: Distribution) -> str:
    files = [file for file in package.files or [] if _FILE_NAMES.match(file.name) and ".dist-info" in file.parts[0]]
    texts = [Path(str(file.locate())).read_text("utf-8", "replace").strip() for file in files]
    return "\n\n".join(texts) or "The package brings no text of its licence."
