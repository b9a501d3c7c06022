"""Whether the service can work now (no answer names a path), and what whoever starts a server should know."""

import errno
import ipaddress
import logging
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from storemon_flask import zonedata
from storemon_flask.database import files, keys
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, DiskFull
from storemon_flask.settings import Settings, unknown

log = logging.getLogger("storemon.web")

OK: Final = "ok"
# Anybody may ask, and each check takes the write lock for a moment: a flood of questions gets one answer a second.
KEPT_S: Final = 1.0


class ReadyCheck:
    """The checks of one application, kept for a second."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._checks: dict[str, str] = {}
        self._checked_s = 0.0

    def checks(self, takes_work: bool) -> dict[str, str]:
        """Return what `check` returns, at most a second old; the log says what changed since the last time."""
        with self._lock:
            if not self._checks or time.monotonic() - self._checked_s > KEPT_S:
                checks = check(self._database, self._settings, takes_work)
                if self._checks != checks:
                    wrong = faults(checks)
                    if wrong:
                        log.warning("not ready: %s", wrong)
                    else:
                        log.info("ready")
                self._checks, self._checked_s = checks, time.monotonic()
            return self._checks


def faults(checks: dict[str, str]) -> str:
    """Return what is wrong, as one sentence; empty when nothing is."""
    return "; ".join(sentence for sentence in checks.values() if sentence != OK)


def check(database: Database, settings: Settings, takes_work: bool) -> dict[str, str]:
    """Return `ok` or what is wrong for `database`, `disk`, `reports` and `jobs`. Takes milliseconds."""
    return {
        "database": _database(database),
        "disk": _shortage(settings, temporary_too=True),
        "reports": _reports(settings.reports_dir),
        "jobs": OK if takes_work else "the server is stopping and computes no more reports",
    }


def _database(database: Database) -> str:
    # A database that is not there yet is made by the first load: what counts is whether it can be.
    try:
        if not database.exists():
            folder = _nearest(database.path.parent)
            return OK if os.access(folder, os.W_OK | os.X_OK) else "the database is not there and cannot be made"
        database.try_to_write()
    except DatabaseError as error:
        # Without the path at its start: that is nobody's business who asks without a key.
        return f"the database {error.message.removeprefix(str(database.path)).strip()}"
    return OK


def require_room(settings: Settings) -> None:
    """Raise `DiskFull` when the disk of the database or of the reports has less free than `STOREMON_MIN_FREE_MB`."""
    shortage = _shortage(settings, temporary_too=False)
    if shortage != OK:
        raise DiskFull(f"{shortage}; reports are made again when there is more") from OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC)
        )


def _shortage(settings: Settings, temporary_too: bool) -> str:
    """Return `ok`, or which disk has too little room: of the database, of reports, of temporary files."""
    folders: dict[str, Path | None] = {"database": settings.database.parent, "reports": settings.reports_dir}
    if temporary_too:
        folders["temporary files (TMPDIR)"] = None
    for name, folder in folders.items():
        try:
            free_mb = shutil.disk_usage(_nearest(folder or files.temporary_folder())).free // 1_000_000
        except OSError as error:
            return f"the disk of the {name} cannot be asked: {error.strerror}"
        if free_mb < settings.min_free_mb:
            least_mb = f"{settings.min_free_mb:,} of STOREMON_MIN_FREE_MB"
            return f"the disk of the {name} has {free_mb:,} MB free, less than the {least_mb}"
    return OK


def _reports(folder: Path) -> str:
    """Return `ok` when a file can be made there; a folder that is not there is made with the first report."""
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
    """Return the folder itself, or the nearest one above it that is there."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def start_warnings(settings: Settings, database: Database, host_is_judged: bool = False) -> list[str]:
    """Return the warnings for the start of a server and for `storemon info`; at most one read of the database.

    `storemon serve` judges by itself at which addresses it listens (`host_is_judged`).
    """
    warnings = unknown(settings.home)
    old_zones = zonedata.old_sentence(time.gmtime().tm_year)
    if old_zones:
        warnings.append(old_zones)
    reasons = _strangers(settings, host_is_judged)
    if reasons and not _has_key(settings, database):
        warnings.append(
            f"no key is set, and other machines are let in ({', '.join(reasons)}): everybody who can reach this server "
            "can read and change everything; set STOREMON_API_KEY, or run `storemon keys add --scope admin`"
        )
    if not host_is_judged and not _is_this_machine(settings.host):
        warnings += without_a_proxy(settings, f"STOREMON_HOST is {settings.host}")
    return warnings


def without_a_proxy(settings: Settings, where: str) -> list[str]:
    """Return the warning that a reverse proxy belongs in front of a server that other machines reach.

    None where one of them is trusted: a proxy on this machine alone keeps nobody else away. `where` says by what they
    reach it.
    """
    if any(not network.is_loopback for network in settings.trusted_networks):
        return []
    return [
        f"other machines reach this server without a reverse proxy ({where}): put one in front (docs/deploy.md), for "
        "senders that trickle and readers that stall are its job, and set STOREMON_TRUSTED_PROXY to its address; on "
        "the same machine let the server listen on 127.0.0.1"
    ]


def _strangers(settings: Settings, host_is_judged: bool) -> list[str]:
    """Return the settings, with their values, that let requests from other machines in."""
    names = [] if settings.trusted_hosts == "auto" else settings.trusted_hosts.split(",")
    reasons = []
    if any(not _is_this_machine(name) for name in names):
        reasons.append(f"STOREMON_TRUSTED_HOSTS is {settings.trusted_hosts}")
    if settings.trusted_proxy != "none":
        reasons.append(f"STOREMON_TRUSTED_PROXY is {settings.trusted_proxy}")
    if not host_is_judged and not _is_this_machine(settings.host):
        reasons.append(f"STOREMON_HOST is {settings.host}")
    return reasons


def _is_this_machine(name: str) -> bool:
    name = name.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _has_key(settings: Settings, database: Database) -> bool:
    try:
        return keys.required(database, settings.api_key)
    except DatabaseError:
        # No server starts with such a database; the message about it is more to the point.
        return True
