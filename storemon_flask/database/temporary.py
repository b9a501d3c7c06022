"""The folder for temporary files, TMPDIR: what comes in and what is not taken yet waits there, and it may be full."""

import errno
import tempfile
from pathlib import Path
from typing import Final

from storemon_flask.errors import NoTemporaryRoom

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def folder() -> Path:
    """Where they are made; `OSError` when there is no folder that can be written."""
    return Path(tempfile.gettempdir())


def is_full(error: BaseException | None) -> bool:
    """Whether that says of a disk that it is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def no_room(error: OSError, outcome: str) -> NoTemporaryRoom:
    """What to say when a temporary file could not be made or written, and `outcome` is what that means for the request."""
    try:
        place = str(folder())
    except OSError:
        return NoTemporaryRoom(
            f"no folder for temporary files can be written, so {outcome}; set TMPDIR to one that can"
        )
    if is_full(error):
        return NoTemporaryRoom(
            f"the folder for temporary files, {place}, is full, so {outcome}; make room there, or start the server with TMPDIR set "
            "to a folder that has more"
        )
    return NoTemporaryRoom(
        f"the folder for temporary files, {place}, cannot be written ({error.strerror or error}), so {outcome}"
    )
