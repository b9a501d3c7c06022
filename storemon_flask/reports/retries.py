"""Which failures pass by themselves, and how long to wait before the next try."""

import errno
from typing import Final

from storemon_flask.errors import StoremonError, out_of_memory
from storemon_flask.model import SECOND_US

# With the waits below, the last try is half an hour after the first.
MOST_TRIES: Final = 8
_FIRST_S: Final = 1
_LONGEST_S: Final = 900

# Locked, the disk full, an I/O error, too many files open; and a folder or temporary file that somebody removed.
_PASSING_ERRNOS: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE,
        errno.ENOMEM, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT,
    }
)  # fmt: skip
_PASSING_CODES: Final = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
)


def passes(error: BaseException) -> bool:
    """Whether the failure may pass by itself: what the system or SQLite said of it, or of what caused it."""
    if out_of_memory(error) is not None:
        return True
    found: BaseException | None = error
    while found is not None:
        code = getattr(found, "sqlite_errorname", None) or getattr(found, "members", {}).get("sqlite")
        if code:
            return str(code).startswith(_PASSING_CODES)
        if isinstance(found, OSError):
            return found.errno in _PASSING_ERRNOS
        found = found.__cause__
    return False


def sentence(error: Exception) -> str:
    """What is said of a failure to whoever waits for the report."""
    if isinstance(error, StoremonError):
        return error.message
    no_memory = out_of_memory(
        error, "this report", "ask for fewer stores, days or columns, or give the server more memory"
    )
    if no_memory is not None:
        return no_memory.message
    return f"unexpected error ({type(error).__name__}); see the log"


def wait_us(tries: int) -> int:
    """How long to wait after so many tries (1 or more), in microseconds: 1 s, and four times as long each time, up to
    15 min.
    """
    return min(_FIRST_S << 2 * min(tries - 1, 20), _LONGEST_S) * SECOND_US
