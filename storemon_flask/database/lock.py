"""One server a database: a lock file beside it, held while the server lives and free again however it dies."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from storemon_flask.database import files
from storemon_flask.errors import DatabaseError


@contextmanager
def server_lock(database: Path) -> Iterator[bool]:
    """Hold the server's lock and yield whether its last holder ended in good order.

    `DatabaseError` names the process that has it.
    """
    # By whatever name it is reached, a database has one lock.
    real = database.resolve()
    file = real.with_name(real.name + ".server-lock")
    holder = real.with_name(real.name + ".server-pid")
    lock = FileLock(file, mode=files.PRIVATE_FILE)
    try:
        files.make_folder(file.parent)
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
            files.create(holder)
            holder.write_text(f"{os.getpid()}\n")
        yield in_order
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


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
