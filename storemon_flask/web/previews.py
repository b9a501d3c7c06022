"""Previews: what a load would do, and the bytes it would read, kept until somebody applies or discards it."""

import io
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final

from storemon_flask.database import files, loads
from storemon_flask.database.connections import Database
from storemon_flask.errors import Busy, Forbidden, NotFound, Unprocessable
from storemon_flask.feeds import sources
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.load_notes import list_files
from storemon_flask.model import Counts, FileSummary

KEPT_S: Final = 900
# Of each reason.
_EXAMPLES: Final = 3
_MOST_PREVIEWS: Final = 50
# Only their numbers are kept, for who presses "Apply" again.
_MOST_APPLIED: Final = 1_000
_COPIED_BYTES: Final = 1 << 20
_GONE: Final = (
    "this preview is gone: it is kept for 15 minutes, and until the server stops. It loads nothing unless Apply is "
    "pressed, and then the load is in the list on the Data page; if it is not there, choose the files again"
)


@dataclass
class Preview:
    """What a load of some files would do. `result` is that of the dry run; `load` the number once it is applied.

    `secret` is known to the browser alone that sent the files.
    """

    token: str
    secret: str
    made_s: float
    size: int
    # The whole content of all files, and of each its name, beginning and size.
    content: IO[bytes]
    parts: list[tuple[str, int, int]]
    # How it is loaded: the arguments that a form has.
    choices: dict[str, Any]
    result: LoadResult = field(default_factory=LoadResult)
    load: int = 0
    # Held while its content is read: it does not expire then.
    applying: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # However it ends, its bytes do.
        self.close = weakref.finalize(self, _close, self.content)

    @property
    def loads_something(self) -> bool:
        """Whether applying it can store anything."""
        return any(not summary.error for summary in self.result.files)

    def items(self, most_bytes: int, check: Callable[[], None]) -> list[sources.LoadItem]:
        """Return what the files hold, as when they were sent; arguments as of `upload_sources`."""
        return sources.upload_sources(
            [(name, io.BufferedReader(_Part(self.content, start, size))) for name, start, size in self.parts],
            most_bytes,
            check,
        )


class Previews:
    """The previews of one server, each kept for 15 minutes, and all of them within a limit of bytes."""

    def __init__(
        self,
        most_bytes: int,
        call_later: Callable[[str, Callable[[], object], int], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most_bytes` is the most that all may take on the disk; `call_later` takes a name, a function and in how
        many microseconds it is called.
        """
        self._most_bytes = most_bytes
        self._call_later = call_later
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Preview] = {}
        # By token: the secret, and the number of the load.
        self._applied: dict[str, tuple[str, int]] = {}

    def make(
        self,
        database: Database,
        uploads: Sequence[tuple[str, IO[bytes]]],
        choices: dict[str, Any],
        options: LoadOptions,
        most_bytes: int,
    ) -> Preview:
        """Try out a load of uploaded files, and keep it; `Busy` when too much is kept, and what a load raises.

        `options` are those of a dry run, made of `choices`.
        """
        sizes = [stream.seek(0, io.SEEK_END) for _, stream in uploads]
        preview = self._reserve(sum(sizes), choices)
        try:
            with preview.applying:
                _copy(uploads, sizes, preview)
                result = load_sources(database, preview.items(most_bytes, options.check), options)
                preview.result = replace(result, files=[_with_examples(summary) for summary in result.files])
                preview.made_s = self._clock()
        except BaseException:
            self._drop(preview)
            raise
        # Its bytes go, also when nobody asks for a preview again.
        self._call_later(f"preview {preview.token}", self.drop_expired, (KEPT_S + 1) * 1_000_000)
        return preview

    def get(self, token: str, secret: str) -> Preview | int:
        """Return a preview, or the number of the load it has become; `NotFound` when it is gone, `Forbidden` when the
        secret is another.
        """
        self.drop_expired()
        with self._lock:
            preview = self._waiting.get(token)
            known, load = (preview.secret, 0) if preview else self._applied.get(token, ("", 0))
        if not known:
            raise NotFound(_GONE)
        if not secrets.compare_digest(known.encode(), secret.encode("utf-8", "replace")):
            raise Forbidden(
                "only the browser that sent the files can see this preview and apply it; choose the files here, too"
            )
        return preview or load

    def apply(
        self,
        database: Database,
        token: str,
        secret: str,
        options: LoadOptions,
        most_bytes: int,
    ) -> int:
        """Load what was previewed and return the load's number; a second call returns that of the first.

        Where another load came in between, a note of the load says of which files the preview said otherwise.
        """
        preview = self.get(token, secret)
        if isinstance(preview, int):
            return preview
        with preview.applying:
            # Perhaps another request applied or discarded it while this one waited.
            preview_or_load = self.get(token, secret)
            if isinstance(preview_or_load, int):
                return preview_or_load
            if not preview.loads_something:
                raise Unprocessable("nothing of these files can be loaded; correct them and choose them again")
            result = load_sources(database, preview.items(most_bytes, options.check), options)
            if result.load:
                with self._lock:
                    self._applied[token] = secret, result.load
                    while len(self._applied) > _MOST_APPLIED:
                        del self._applied[next(iter(self._applied))]
                self._drop(preview)
        difference = _difference(preview.result.files, result.files)
        if result.load and difference:
            with database.write() as connection:
                loads.set_notes(connection, result.load, [*result.notes, difference])
        return result.load

    def discard(self, token: str, secret: str) -> None:
        """Forget a preview; errors as `get`."""
        preview = self.get(token, secret)
        if isinstance(preview, Preview):
            with preview.applying:
                self._drop(preview)

    def drop_expired(self) -> None:
        """Forget what was kept for 15 minutes; not what is just being applied."""
        with self._lock:
            previews = list(self._waiting.values())
        for preview in previews:
            # What takes long to check is kept from its end on.
            if self._clock() - preview.made_s >= KEPT_S and preview.applying.acquire(blocking=False):
                try:
                    if self._clock() - preview.made_s >= KEPT_S:
                        self._drop(preview)
                finally:
                    preview.applying.release()

    def _reserve(self, size: int, choices: dict[str, Any]) -> Preview:
        """Return a preview that counts towards the limits, without content as yet."""
        self.drop_expired()
        try:
            content = tempfile.TemporaryFile(dir=files.temporary_folder())  # noqa: SIM115
        except OSError as error:
            raise files.no_temporary_room(error, "this cannot be checked") from error
        preview = Preview(
            secrets.token_urlsafe(24), secrets.token_urlsafe(24), self._clock(), size, content, [], choices
        )
        with self._lock:
            taken = sum(one.size for one in self._waiting.values())
            if taken + size <= self._most_bytes and len(self._waiting) < _MOST_PREVIEWS:
                self._waiting[preview.token] = preview
                return preview
        preview.close()
        raise Busy(
            f"{len(self._waiting)} previews are kept, of {taken / 1e6:,.1f} MB, and with this one they would be more "
            f"than {_MOST_PREVIEWS} or {self._most_bytes / 1e6:,.0f} MB; press Load, use "
            "`storemon load-data --dry-run` or POST /api/v1/feeds?dry_run=1, or try again in 15 minutes"
        )

    def _drop(self, preview: Preview) -> None:
        with self._lock:
            self._waiting.pop(preview.token, None)
        preview.close()


class _Part(io.RawIOBase):
    """A part of a file that has several, read as a file of its own."""

    def __init__(self, content: IO[bytes], start: int, size: int) -> None:
        self._content, self._start, self._size = content, start, size
        self._at = 0

    def readable(self) -> bool:
        """Return True: the file was open for reading when the part was made."""
        return True

    def seekable(self) -> bool:
        """Return True: a zip is read from its end."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position in the part and return it."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer up to the part's end, and return the bytes read."""
        self._content.seek(self._start + self._at)
        data = self._content.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _copy(uploads: Sequence[tuple[str, IO[bytes]]], sizes: Sequence[int], preview: Preview) -> None:
    """Copy uploaded files into the preview's own."""
    start = 0
    try:
        for (name, stream), size in zip(uploads, sizes, strict=True):
            stream.seek(0)
            shutil.copyfileobj(stream, preview.content, _COPIED_BYTES)
            preview.parts.append((name, start, size))
            start += size
        preview.content.flush()
    except OSError as error:
        raise files.no_temporary_room(error, "this cannot be checked") from error


def _close(content: IO[bytes]) -> None:
    # What was not written yet finds no room at the end, either.
    with suppress(OSError):
        content.close()


def _with_examples(summary: FileSummary) -> FileSummary:
    """Return a summary whose rejects are the first of each reason."""
    shown = [reject for reason in summary.reasons for reject in summary.examples(reason, _EXAMPLES)]
    return replace(summary, rejects=shown)


def _difference(previewed: Sequence[FileSummary], loaded: Sequence[FileSummary]) -> str:
    """Return the sentence that names the files of which the preview said otherwise; empty when it said the same."""
    before = {summary.file: summary for summary in previewed}
    pairs = [(before[new.file], new) for new in loaded if new.file in before and before[new.file].counts != new.counts]
    if not pairs:
        return ""
    old, new = pairs[0]
    more = f"; also {list_files([new.file for _, new in pairs[1:]])}" if len(pairs) > 1 else ""
    return (
        f"the data changed between the preview and this load: of {new.file} the preview said {_outcome(old.counts)}, "
        f"and it is {_outcome(new.counts)}{more}"
    )


def _outcome(counts: Counts) -> str:
    return (
        f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged, {counts.rejected:,} rejected"
    )
