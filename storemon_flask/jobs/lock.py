"""One server a database: a lock file beside it, held while the server lives and free again however it dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from storemon_flask.errors import DatabaseError


@contextmanager
def server_lock(database: Path) -> Iterator[None]:
    """Hold the server's lock; `DatabaseError` names the process that has it."""
    file = database.with_name(database.name + ".server-lock")
    holder = database.with_name(database.name + ".server-pid")
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise DatabaseError(
            f"another storemon server{_named(holder)} serves {database}; stop it first, or set STOREMON_DATABASE"
        ) from None
    except OSError as error:
        raise DatabaseError(f"{file} cannot be locked: {error.strerror or error}") from None
    try:
        # The lock alone protects; the process id is for the other one's sentence.
        with suppress(OSError):
            holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    try:
        return f" (process {int(holder.read_text())})"
    except (OSError, ValueError):
        return ""
