"""Feeds pushed as CSV, JSON or files."""

import io
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from typing import IO, Any, Final

from flask import Blueprint, request
from marshmallow import fields, validate
from werkzeug.exceptions import RequestEntityTooLarge

from storemon_flask.api.schemas import REJECTS_SHOWN, LoadedSchema, LoadSchema, RejectSchema
from storemon_flask.database import files
from storemon_flask.errors import SERVER_STOPPING, BadRequest, Stopped, Unprocessable, UnsupportedMediaType
from storemon_flask.feeds import archives, groups, sources
from storemon_flask.feeds.encodings import CP1252, ENCODINGS, UTF8
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_options, load_sources
from storemon_flask.model import FileSummary
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import JSON, Answer, Closed, Whole, operation

blueprint = Blueprint("feeds", __name__)

DAYS: Final = ("0-6", "iso")
# UTF-16 is known by its byte order mark.
_CHARSETS: Final = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "utf-16", "utf-16le", "utf-16be"), UTF8),
    **dict.fromkeys(("windows-1252", "cp1252"), CP1252),
}


class LoadQuery(Closed):
    """How a feed is to be applied."""

    atomic = Whole(
        load_default=0,
        validate=validate.OneOf((0, 1)),
        metadata={"description": "1: nothing is applied if any row is rejected"},
    )
    dry_run = Whole(
        load_default=0,
        validate=validate.OneOf((0, 1)),
        metadata={"description": "1: the answer is that of the load, and nothing is changed; `load_id` is 0"},
    )
    days = fields.String(
        load_default="0-6",
        validate=validate.OneOf(DAYS),
        metadata={"description": "how hours number days: from 0 (Monday) to 6, or iso: from 1 (Monday) to 7 (Sunday)"},
    )
    encoding = fields.String(
        load_default=UTF8,
        validate=validate.OneOf(ENCODINGS),
        metadata={"description": "of CSV without a byte order mark: utf-8, or cp1252, the text of Windows"},
    )


_FEED_BODY: Final = ("text/csv", JSON, "application/x-ndjson", "application/gzip", "application/zip")
_PUSHED: Final = {
    200: Answer("what became of the rows", LoadedSchema()),
    413: Answer("larger than STOREMON_MAX_BODY_MB"),
    415: Answer("multipart, or in a charset or Content-Encoding that is not read"),
    422: Answer("not that feed, or atomic and a row was rejected"),
}


@operation(
    blueprint,
    "POST",
    "/api/v1/feeds/<any(polls, hours, special_hours, timezones, stores):feed>",
    scope="write",
    tag="feeds",
    query=LoadQuery(),
    body=_FEED_BODY,
    answers=_PUSHED,
)
def push(feed: str, query: dict[str, Any]) -> LoadResult:
    """Push one feed: CSV (also gzip), JSON (an object or a list) or NDJSON.

    Rows that cannot be used are listed in the answer, with their reasons, and the others are stored. Pushing the same
    again changes nothing.
    """
    media_type, gzipped, encoding = _media_type(query["encoding"])
    app = storemon()
    length = request.content_length or 0
    # A dry run is rolled back, so it shares no commit.
    small = feed == "polls" and not gzipped and 0 < length <= groups.MOST_BYTES and not query["dry_run"]
    with one_load(query["atomic"], query["days"], encoding, patient=small, dry_run=query["dry_run"]) as options:
        if small:
            result = _load_small_polls(media_type, options)
        else:
            source = sources.body_source(request.stream, length, media_type, feed, gzipped, app.settings.max_body_bytes)
            result = load_sources(app.database, [source], options)
    if result.error is not None:
        raise result.error
    (summary,) = result.files
    if result.refused:
        raise _refusal(result.load, summary.error, [summary])
    return result


def _load_small_polls(media_type: str, options: LoadOptions) -> LoadResult:
    app = storemon()
    body = request.stream.read()
    if archives.is_packed(body):
        most_bytes = app.settings.max_body_bytes
        source = sources.body_source(io.BytesIO(body), len(body), media_type, "polls", False, most_bytes)
        return load_sources(app.database, [source], options)
    return app.poll_groups.load(sources.small_body_source(body, media_type, "polls"), options)


@operation(
    blueprint,
    "POST",
    "/api/v1/feeds",
    scope="write",
    tag="feeds",
    query=LoadQuery(),
    body=("multipart/form-data",),
    answers={**_PUSHED, 200: Answer("what became of each file", LoadSchema())},
)
def upload(query: dict[str, Any]) -> LoadResult:
    """Upload files and zips; the feed of each is recognised by its header.

    They are one load: hours and zones of all its files replace earlier ones together.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(
            f"the body is {request.mimetype or 'of no stated type'}; send files as multipart/form-data "
            "(`curl -F file=@polls.csv`), or one feed to /api/v1/feeds/polls"
        )
    result = load_uploaded(query["atomic"], query["days"], query["encoding"], dry_run=query["dry_run"])
    if result.refused:
        why = next(summary.error for summary in result.files if summary.error)
        raise _refusal(result.load, why, result.files)
    if result.error is not None and all(summary.error for summary in result.files):
        # Where there is no database yet, it is not remembered.
        members: dict[str, Any] = {"load_id": result.load} if result.load else {}
        raise Unprocessable(
            "; ".join(f"{summary.file}: {summary.error}" for summary in result.files[:10]),
            errors={summary.file: [summary.error] for summary in result.files},
            **members,
        )
    return result


def load_uploaded(
    atomic: int, days: str, encoding: str, other_fields: Collection[str] = (), dry_run: int = 0
) -> LoadResult:
    """Load the files of the request's form. Errors as `uploaded`, `BadRequest` when there is no file, `Busy` when too
    much is being loaded.
    """
    # Uploaded files are closed with the request, whatever becomes of them.
    with closing(request):
        files = uploaded(other_fields)
        with one_load(atomic, days, encoding, dry_run=dry_run) as options:
            items = sources.upload_sources(files, storemon().settings.max_body_bytes, options.check)
            if not items:
                raise BadRequest(
                    "no file was sent; send one or more as multipart/form-data, as `curl -F file=@polls.csv` does"
                )
            return load_sources(storemon().database, items, options)


def _media_type(asked_encoding: str) -> tuple[str, bool, str]:
    """Return the media type of the body, whether its headers say that it is gzipped, and the encoding of its text."""
    media_type, encoding = request.mimetype, request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding is {encoding!r}; it must be gzip, or left out")
    if request.content_length is None and not request.environ.get("wsgi.input_terminated"):
        raise BadRequest("the request has no Content-Length, so it has no body; send the feed as the body")
    gzipped = encoding != "identity"
    if media_type.startswith("multipart/"):
        raise UnsupportedMediaType(
            f"Content-Type is {media_type}; send one feed as the body itself (`curl --data-binary @polls.csv`), or "
            "files to /api/v1/feeds"
        )
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in _CHARSETS:
        raise UnsupportedMediaType(f"the charset is {charset}; it must be utf-8, utf-16 or windows-1252")
    return media_type, gzipped, _CHARSETS[charset] if asked_encoding == UTF8 else asked_encoding


def uploaded(other_fields: Collection[str] = ()) -> list[tuple[str, IO[bytes]]]:
    """Return names and streams of the files of the request's form. `Unprocessable` when it holds anything else but
    `other_fields`, `NoTemporaryRoom` when there is none for the files, `Stopped` when the server stops meanwhile.
    """
    request.environ["wsgi.input"] = _CheckedInput(request.environ["wsgi.input"], _check())
    try:
        received = [(file.filename or "", file.stream) for _, file in request.files.items(multi=True)]
    except RequestEntityTooLarge:
        if (request.content_length or 0) > (request.max_content_length or 0):
            raise
        # What is no file is held in memory, so there may not be much of it. Too many files are the same error.
        raise Unprocessable(
            "the form has more than 1,000 files, or a long field that is no file; send files only, at most 1,000 of "
            "them",
            errors={"form": ["more than 1,000 files, or too much that is no file"]},
        ) from None
    except OSError as error:
        # The files of a form are taken out of its body, into the same folder.
        raise files.no_temporary_room(error, "nothing of this was stored") from error
    others = [name for name in request.form if name not in other_fields]
    if others:
        raise Unprocessable(
            f"{', '.join(others)}: not a file; send files only, at most 1,000 of them",
            errors={name: ["not a file"] for name in others},
        )
    return received


def _refusal(load: int, why: str, files: list[FileSummary]) -> Unprocessable:
    rejects = [{"file": summary.file, **RejectSchema().dump(reject)} for summary in files for reject in summary.rejects]
    # A dry run has no number.
    members: dict[str, Any] = {"load_id": load} if load else {}
    return Unprocessable(
        f"{why}; all rejected rows are at /api/v1/loads/{load}/rejects" if load else why,
        **members,
        rejected=sum(summary.counts.rejected for summary in files),
        rejects=rejects[:REJECTS_SHOWN],
    )


# The client's connection is looked at this often, and not before: who sends a small feed may close his side with it.
_CLIENT_EVERY_S: Final = 1.0
# As long as small pushes need that are stored together.
_PATIENCE_S: Final = 0.1


@contextmanager
def one_load(
    atomic: int = 0,
    days: str = "0-6",
    encoding: str = UTF8,
    *,
    patient: bool = False,
    dry_run: int = 0,
    unattended: bool = False,
) -> Iterator[LoadOptions]:
    """Hold a slot for one more load, and give its options; `Busy` when there is none.

    `patient`: wait for one for a moment, unless those who have one wait for the database. `unattended`: the load goes
    on when its client is gone.
    """
    check, settings = _check(attended=not unattended), storemon().settings
    patience_s = _PATIENCE_S if patient and not storemon().poll_groups.is_slow else 0.0
    with storemon().slots.for_load(patience_s):
        yield load_options(settings, check, atomic=bool(atomic), days=days, encoding=encoding, dry_run=bool(dry_run))


def _check(attended: bool = True) -> Callable[[], None]:
    """Return a function to call now and then, from any thread: it raises `Stopped` once the server stops or, if
    attended, the client of this request is gone.
    """
    database = storemon().database
    is_gone: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    due_s = time.monotonic() + _CLIENT_EVERY_S

    def check() -> None:
        """Raise `Stopped` when the server stops or the client is gone (looked for now and then)."""
        nonlocal due_s
        if database.stopping:
            raise Stopped(SERVER_STOPPING)
        now_s = time.monotonic()
        if attended and now_s >= due_s:
            due_s = now_s + _CLIENT_EVERY_S
            if is_gone():
                due_s = now_s
                raise Stopped("the client closed the connection before the answer")

    return check


class _CheckedInput(io.RawIOBase):
    """A request's stream that calls `check` before each read."""

    def __init__(self, stream: Any, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check

    def readable(self) -> bool:
        """Return True: a request can always be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer and return the bytes read; `Stopped` when the load must end."""
        try:
            self._check()
        except Stopped as error:
            raise Stopped(f"{error.message}; nothing of this was stored") from error
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
