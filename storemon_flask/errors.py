"""Every failure a person can meet, as a sentence: what was wrong, what is allowed, what to do.

The errors are `click.ClickException`s, so both command lines print `Error: <sentence>` and exit with `exit_code`;
the web layer turns the same object into an `application/problem+json` answer with `status` and `kind`.
"""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from storemon_flask.characters import escaped


class StoremonError(click.ClickException):
    """A failure with a sentence for its reader; `status` is the HTTP answer, `kind` names it for programs."""

    status = 500
    kind = "internal"
    title = "Internal error"
    exit_code = 1

    def __init__(self, sentence: str, **members: object) -> None:
        super().__init__(sentence)
        self.members = members

    def format_message(self) -> str:
        """The sentence for a command line: on one line, whatever the names in it."""
        return escaped(self.message)


class SettingsError(StoremonError):
    """A setting has a value it must not have; raised before anything starts."""

    kind = "settings"
    title = "Wrong setting"


class DatabaseError(StoremonError):
    """The database file cannot be used: missing, not a database, newer than this program, not writable."""

    status = 503
    kind = "database"
    title = "Database cannot be used"


class NoTemporaryRoom(StoremonError):
    """The folder for temporary files takes no more: bodies, workbooks and answers go through it."""

    status = 503
    kind = "temporary-files"
    title = "No room for temporary files"


class DataError(StoremonError):
    """A file or folder given to load cannot be read, or is none of the feeds."""

    status = 422
    kind = "data"
    title = "Not a feed"


class NotJson(DataError):
    """What was sent as JSON is none."""

    status = 400
    kind = "bad-request"
    title = "Bad request"


class TooLarge(DataError):
    """More was sent, or comes out of what was sent packed, than `STOREMON_MAX_BODY_MB` allows."""

    status = 413
    kind = "too-large"
    title = "Too large"


class BadRequest(StoremonError):
    """The request cannot be understood at all (not JSON, a parameter missing)."""

    status = 400
    kind = "bad-request"
    title = "Bad request"


class Unauthorized(StoremonError):
    """The request needs a key, and brings none that is known."""

    status = 401
    kind = "unauthorized"
    title = "Key needed"


class Forbidden(StoremonError):
    """The request is understood and may not be made: the key allows too little, or another site sent it."""

    status = 403
    kind = "forbidden"
    title = "Not allowed"


class Unprocessable(StoremonError):
    """The request is understood and asks for something that is not allowed; `errors` names the fields."""

    status = 422
    kind = "unprocessable"
    title = "Not acceptable"


class UnsupportedMediaType(StoremonError):
    """The body is of a kind that is not read here; the sentence says which are."""

    status = 415
    kind = "unsupported-media-type"
    title = "Unsupported media type"


class NotFound(StoremonError):
    """The thing asked for was never here."""

    status = 404
    kind = "not-found"
    title = "Not found"


class Busy(StoremonError):
    """Too much at once; `retry_after_s` says when to try again."""

    status = 503
    kind = "busy"
    title = "Busy"
    retry_after_s = 2


class Stopped(Busy):
    """Work was given up before its end: the server stops, or nobody waits for the answer any more."""


class QueueFull(Busy):
    """As many reports wait as may."""

    kind = "queue-full"
    title = "Queue full"
    retry_after_s = 10


class NotComplete(Busy):
    """The report was waited for, and is not complete yet."""

    kind = "not-complete"
    title = "Not complete yet"


class OutOfMemory(Busy):
    """The system has no more memory, or no more threads, for this now."""

    kind = "out-of-memory"
    title = "Not enough memory"
    retry_after_s = 10


class DiskFull(Busy):
    """There is less room on a disk than `STOREMON_MIN_FREE_MB` leaves free."""

    kind = "disk-full"
    title = "Disk full"
    retry_after_s = 60


class Conflict(StoremonError):
    """The thing asked for is there, and not in the state that this needs."""

    status = 409
    kind = "conflict"
    title = "Not now"


class Gone(StoremonError):
    """The thing asked for was here and is not any more."""

    status = 410
    kind = "gone"
    title = "Gone"


class NoPolls(StoremonError):
    """A report was asked for "now", and without a poll there is no now."""

    status = 409
    kind = "no-polls"
    title = "No polls loaded"

    def __init__(self) -> None:
        super().__init__("no polls loaded; run `storemon load-data`")


class OnlyFuturePolls(StoremonError):
    """A report was asked for "now", and every poll is later than that."""

    status = 409
    kind = "only-future-polls"
    title = "Every poll is in the future"


class ReportFailed(StoremonError):
    """A report could not be computed or written; the sentence says why."""

    kind = "report-failed"
    title = "Report failed"


class ReportHasFailed(ReportFailed):
    """A report that is asked for has failed, whenever that was; it is no fault of this request, and asking again is no
    use.
    """

    status = 409


SERVER_STOPPING = "the server is stopping; send the request again when it is back"
TRY_AGAIN = "try again later, ask for less at once, or give storemon more memory"


def out_of_memory(error: BaseException, what: str = "this", then: str = TRY_AGAIN) -> OutOfMemory | None:
    """The error as `OutOfMemory`, if it or its cause says that the system had no more memory or threads; else None.

    The sentence says that there is not enough memory for `what`, how much was asked for if the error says that, and
    `then`. What the frames of the error held is released: a handler needs some memory itself.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OutOfMemory):
            return cause
        reason = _lack_of(cause)
        if reason:
            shape, size = getattr(cause, "shape", None), getattr(cause, "_total_size", None)
            much = f" ({size / 2**20:,.1f} MiB more were asked for)" if shape is not None and size else ""
            lacking = "is not enough memory" if reason == "memory" else "are not enough threads"
            no_memory = OutOfMemory(f"there {lacking} for {what}{much}; {then}")
            traceback.clear_frames(error.__traceback__)
            traceback.clear_frames(cause.__traceback__)
            return no_memory
        cause = cause.__cause__
    return None


def _lack_of(error: BaseException) -> str:
    """What the system has no more of, by that error: `memory`, `threads`, or nothing."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError):
        return "memory" if error.errno == errno.ENOMEM else ""
    if getattr(error, "sqlite_errorname", None) in ("SQLITE_NOMEM", "SQLITE_IOERR_NOMEM"):
        return "memory"
    words = str(error)
    if isinstance(error, RuntimeError) and "can't start new thread" in words:
        return "threads"
    # A library that cannot be loaded says it in words only.
    is_linker_error = isinstance(error, ImportError) and any(text in words for text in _WORDS_OF_NO_MEMORY)
    return "memory" if is_linker_error else ""


# Of the loader of libraries, in another language than the errors of the system.
_WORDS_OF_NO_MEMORY = ("failed to map segment", "annot allocate memory")


@contextmanager
def lack_of_memory(what: str = "this", then: str = TRY_AGAIN) -> Iterator[None]:
    """Errors that say that the system has no more memory or threads become `OutOfMemory` (`out_of_memory`)."""
    try:
        yield
    except Exception as error:
        no_memory = out_of_memory(error, what, then)
        if no_memory is None or no_memory is error:
            raise
        raise no_memory from None
