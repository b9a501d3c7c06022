"""Whether the service can do its work now: take data in, compute reports, keep them. No answer names a path."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storemon_flask.database import files
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, DiskFull
from storemon_flask.settings import Settings

OK: Final = "ok"


def check(database: Database, settings: Settings, takes_work: bool) -> dict[str, str]:
    """`ok`, or a sentence that says what is wrong, for `database`, `disk`, `reports` and `jobs`. Takes milliseconds."""
    return {
        "database": _database(database),
        "disk": _disk(settings),
        "reports": _reports(settings.reports_dir),
        "jobs": OK if takes_work else "the server is stopping and computes no more reports",
    }


def _database(database: Database) -> str:
    """A database that is not there yet is made by the first load: what counts is whether it can be.

    One whose write lock another has is being written, so it can be written.
    """
    try:
        if not database.exists():
            folder = _nearest(database.path.parent)
            return OK if os.access(folder, os.W_OK | os.X_OK) else "the database is not there and cannot be made"
        database.try_to_write()
    except DatabaseError as error:
        # "<path> cannot be written; ...": the path is nobody's business who asks without a key.
        return f"the database {error.message.removeprefix(str(database.path)).strip()}"
    return OK


def require_room(settings: Settings) -> None:
    """Raise `DiskFull` when the disk of the database or of the reports has less free than `STOREMON_MIN_FREE_MB`."""
    sentence = _shortage(settings, _places_of_reports(settings))
    if sentence != OK:
        raise DiskFull(
            f"{sentence}; reports are made again when there is more",
            people="the disk of this server is full; try again later",
        ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _places_of_reports(settings: Settings) -> dict[str, Callable[[], Path]]:
    return {"database": lambda: settings.database.parent, "reports": lambda: settings.reports_dir}


def _disk(settings: Settings) -> str:
    return _shortage(settings, _places_of_reports(settings) | {"temporary files (TMPDIR)": files.temporary_folder})


def _shortage(settings: Settings, folders: dict[str, Callable[[], Path]]) -> str:
    """`ok`, or which disk has too little room."""
    for name, folder in folders.items():
        try:
            free_mb = shutil.disk_usage(_nearest(folder())).free // 1_000_000
        except OSError as error:
            return f"the disk of the {name} cannot be asked: {error.strerror}"
        if free_mb < settings.min_free_mb:
            return f"the disk of the {name} has {free_mb:,} MB free, less than the {settings.min_free_mb:,} of STOREMON_MIN_FREE_MB"
    return OK


def _reports(folder: Path) -> str:
    """Whether a file can be made there; a folder that is not there is made with the first report."""
    try:
        if folder.is_dir():
            with tempfile.TemporaryFile(dir=folder):
                return OK
    except OSError as error:
        return f"the reports folder cannot be written: {error.strerror}"
    nearest = _nearest(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return "the reports folder is not there and cannot be made"
    return OK


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
