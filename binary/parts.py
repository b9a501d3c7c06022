"""What the build adds to the single file and takes off it: the build's stamp, licences, debugging symbols; and what it
needs.
"""

import importlib.util
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
# (name inside the file, path outside, kind), as PyInstaller lists them.
Entry = tuple[str, str, str]


def stamp() -> str:
    """The commit this is built from (`-dirty` with changes beside it; `unknown` without git) and the day and minute,
    UTC.
    """
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return f"{commit}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC"


def stripped(binaries: Iterable[Entry], folder: Path) -> list[Entry]:
    """The same entries; those that are not from packages are copies without debugging symbols, in `folder`.

    libpython shrinks from 23 to 6 MB. The libraries inside wheels were rewritten by their makers, and strip would break
    them; they have no symbols to lose.
    """
    made = []
    for name, path, kind in binaries:
        if "site-packages" not in path and sys.platform == "linux":
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if subprocess.run(["strip", "--strip-unneeded", "-o", copy, path], check=False).returncode == 0:
                path = str(copy)
        made.append((name, path, kind))
    return made


def zipped(package: str, file: Path) -> Path:
    """`file`, which now holds the sources and data of an installed package, as Python can import them from there."""
    folder = Path(importlib.util.find_spec(package).origin).parent  # type: ignore[union-attr, arg-type]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                made.write(path, path.relative_to(folder.parent))
    return file


def newest_glibc(paths: Iterable[str]) -> str:
    """Return the newest symbol version of glibc that any of these files needs, such as `2.35`."""
    versions = {
        (int(major), int(minor))
        for path in paths
        for major, minor in re.findall(rb"GLIBC_(\d+)\.(\d+)", Path(path).read_bytes())
    }
    return ".".join(map(str, max(versions, default=(0, 0))))


def system_licenses(binaries: Iterable[Entry]) -> str:
    """The texts for what no Python package brings: Python itself, and the machine's libraries as Debian keeps them."""
    texts = [("Python", _python_license())]
    packages = {_debian_package(path) for _, path, _ in binaries if path.startswith(("/lib", "/usr"))} - {None}
    for package in sorted(filter(None, packages)):
        file = Path("/usr/share/doc", package, "copyright")
        texts.append((f"{package} (a library of the machine this was built on)", _text(file)))
    return "".join(f"\n{'=' * 80}\n{name}\n{'=' * 80}\n{text.strip()}\n" for name, text in texts)


def _python_license() -> str:
    import sysconfig

    for folder in (sysconfig.get_path("stdlib"), sys.base_prefix):
        for name in ("LICENSE.txt", "LICENSE"):
            if Path(folder, name).is_file():
                return _text(Path(folder, name))
    return "Python Software Foundation License; https://docs.python.org/3/license.html"


def _debian_package(path: str) -> str | None:
    for spelling in (str(Path(path).resolve()), str(Path(path).resolve()).removeprefix("/usr"), path):
        done = subprocess.run(["dpkg", "-S", spelling], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return None


def _text(file: Path) -> str:
    return file.read_text("utf-8", "replace") if file.is_file() else "see the package's own documentation"
