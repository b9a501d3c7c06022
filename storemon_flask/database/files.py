"""Files and folders that only this user can read, and files that appear whole or not at all.

Whole or not at all: written under a temporary name beside the final one, synced, renamed.
"""

import errno
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from storemon_flask.errors import DatabaseError, NoTemporaryRoom

# What SQLite keeps beside a database.
COMPANIONS: Final = ("-wal", "-shm", "-journal")
# What stores did, and the digests of keys, are nobody else's business, whatever the umask of the process is.
PRIVATE_FILE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MOUNTS: Final = Path("/proc/self/mountinfo")


def create(file: Path) -> None:
    """Create an empty file that only this user can read and write; one that is there stays as it is."""
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, PRIVATE_FILE))


def make_folder(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for this user alone; others stay as they are."""
    for path in (*reversed(folder.parents), folder):
        if path.is_dir():
            continue
        try:
            path.mkdir(mode=_PRIVATE_FOLDER)
        except FileExistsError:
            # Another process made it just now, or a file has its name.
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def refuse_second_name(database: Path) -> None:
    """Raise `DatabaseError` when the file can be reached by a second path that has a log of its own.

    SQLite names the log after the path: by two hard links, or where a single file is mounted, two programs would write
    the same pages past each other (https://www.sqlite.org/howtocorrupt.html, section 2.5).
    """
    try:
        names = database.stat().st_nlink
    except OSError:
        return
    if names > 1:
        raise DatabaseError(
            f"{database} has {names} names (hard links), and by two names at once its content would be damaged; "
            f"keep one of them: `find FOLDER -samefile {database}` lists those in a folder"
        )
    if _is_mounted_alone(database.resolve()):
        raise DatabaseError(
            f"{database} is mounted as a single file, so that its log would be kept elsewhere and lost; "
            "mount its folder"
        )


def _is_mounted_alone(path: Path) -> bool:
    """Return whether a single file is mounted at the path (Linux: `docker run -v FILE:FILE`)."""
    # proc(5): blanks and backslashes are written as octal numbers.
    written = re.sub(r"[ \t\n\\]", lambda sign: f"\\{ord(sign[0]):03o}", str(path))
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(line.split(" ")[4] == written for line in lines)


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`, which takes its place at the end, or is removed after an error."""
    temporary = final.with_name(f".{final.name[:200]}.{secrets.token_hex(4)}.tmp")
    create(temporary)
    try:
        yield temporary
        put(temporary, final)
    finally:
        remove(temporary)


def put(temporary: Path, final: Path) -> None:
    """Rename `temporary` to `final`, durably: its content is on the disk before its name is."""
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
    """Return the path with `suffix` at the end of its name."""
    return file.with_name(file.name + suffix)


def leftovers(database: Path) -> list[Path]:
    """Return temporary files beside a database that a killed command left behind (or one still writes)."""
    return sorted(database.parent.glob(f".{database.name}*.tmp"))


def sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_folder() -> Path:
    """Return the folder for temporary files (TMPDIR); `OSError` when none can be written.

    What comes in and what is not taken yet waits there, and it may be full.
    """
    return Path(tempfile.gettempdir())


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether the error says of a disk that it is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def no_temporary_room(error: OSError, outcome: str) -> NoTemporaryRoom:
    """Return the error for a temporary file that could not be written; `outcome` is what that means for the request."""
    try:
        folder = temporary_folder()
    except OSError:
        return NoTemporaryRoom(
            f"no folder for temporary files can be written, so {outcome}; set TMPDIR to one that can"
        )
    if is_disk_full(error):
        return NoTemporaryRoom(
            f"the folder for temporary files, {folder}, is full, so {outcome}; make room there, or start the server "
            "with TMPDIR set to a folder that has more"
        )
    return NoTemporaryRoom(
        f"the folder for temporary files, {folder}, cannot be written ({error.strerror or error}), so {outcome}"
    )


@contextmanager
def server_lock(database: Path) -> Iterator[bool]:
    """Hold the lock of a database's one server, free again however it dies; yield whether the last one ended in order.

    `DatabaseError` names the process that has it.
    """
    # Imported only here: it imports asyncio, which no other command needs.
    from filelock import FileLock, Timeout

    # By whatever name it is reached, a database has one lock.
    real = database.resolve()
    file = real.with_name(real.name + ".server-lock")
    holder = real.with_name(real.name + ".server-pid")
    lock = FileLock(file, mode=PRIVATE_FILE)
    try:
        make_folder(file.parent)
        lock.acquire(timeout=0)
    except Timeout:
        raise DatabaseError(
            f"another storemon server{_holder_text(holder)} serves {database}; stop it first, or set STOREMON_DATABASE"
        ) from None
    except OSError as error:
        raise DatabaseError(f"{file} cannot be locked: {error.strerror or error}") from None
    try:
        # Whoever ends in good order takes it away.
        in_order = not holder.exists()
        # The lock alone protects; the process id is for the message.
        with suppress(OSError):
            create(holder)
            holder.write_text(f"{os.getpid()}\n")
        yield in_order
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def server_runs(database: Path) -> bool:
    """Return whether a server of that database seems to run: the process that its file names lives."""
    real = database.resolve()
    with suppress(OSError, ValueError):
        return _is_alive(int(real.with_name(real.name + ".server-pid").read_text()))
    return False


def _holder_text(holder: Path) -> str:
    """Return the process that has the lock, if its file names a living one; a server that starts may yet write it."""
    for _ in range(20):
        with suppress(OSError, ValueError):
            number = int(holder.read_text())
            if _is_alive(number):
                return f" (process {number})"
        time.sleep(0.05)
    return ""


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return number > 0
