"""Files that appear whole or not at all: written under a temporary name beside the final one, synced, renamed."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# What SQLite keeps beside a database.
COMPANIONS: Final = ("-wal", "-shm", "-journal")


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A temporary path beside `final`; what is written there takes its place at the end, or is removed after an error."""
    temporary = final.with_name(f".{final.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        put(temporary, final)
    finally:
        remove(temporary)


def put(temporary: Path, final: Path) -> None:
    """`temporary` becomes `final`, durably: its content is on the disk before its name is."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(final)
    sync_folder(final.parent)


def remove(file: Path) -> None:
    """Remove a file and what SQLite left beside it, as far as they are there."""
    for suffix in ("", *COMPANIONS):
        with suppress(OSError):
            beside(file, suffix).unlink(missing_ok=True)


def beside(file: Path, suffix: str) -> Path:
    """The path with `suffix` at the end of its name."""
    return file.with_name(file.name + suffix)


def leftovers(database: Path) -> list[Path]:
    """Temporary files beside a database that a killed backup, restore or migration left behind (or that one still writes)."""
    return sorted(database.parent.glob(f".{database.name}*.tmp"))


def sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
