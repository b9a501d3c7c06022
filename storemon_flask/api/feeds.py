"""Data in: feeds pushed as CSV, JSON or files."""

from collections.abc import Collection
from contextlib import closing
from typing import IO, Any, Final

from flask import Blueprint, Response, jsonify, request
from marshmallow import fields, validate
from werkzeug.exceptions import RequestEntityTooLarge

from storemon_flask.api.loading import REJECTS_SHOWN, one_load, stop_reading_when_unwanted
from storemon_flask.api.schemas import Closed, LoadedSchema, LoadSchema, Whole, file_json, pushed_json, reject_json
from storemon_flask.database import temporary
from storemon_flask.errors import BadRequest, Unprocessable, UnsupportedMediaType
from storemon_flask.feeds import intake
from storemon_flask.feeds.load import LoadResult
from storemon_flask.model import FileSummary
from storemon_flask.web.app import runner
from storemon_flask.web.contract import JSON, Answer, operation

blueprint = Blueprint("feeds", __name__)

DAYS: Final = ("0-6", "iso")


class LoadQuery(Closed):
    """How a feed is to be applied."""

    atomic = Whole(
        load_default=0,
        validate=validate.OneOf((0, 1)),
        metadata={"description": "1: nothing is applied if any row is rejected"},
    )
    days = fields.String(
        load_default="0-6",
        validate=validate.OneOf(DAYS),
        metadata={"description": "how hours number days: from 0 (Monday) to 6, or iso: from 1 (Monday) to 7 (Sunday)"},
    )


_FEED_BODY: Final = {"text/csv": None, JSON: None, "application/x-ndjson": None, "application/gzip": None}
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
def push(feed: str, query: dict[str, Any]) -> Response:
    """Push one feed: CSV (also gzip), JSON (an object or a list) or NDJSON.

    Rows that cannot be used are listed in the answer, with their reasons, and the others are stored. Pushing the same
    again changes nothing.
    """
    label, packed = _label()
    with one_load() as terms:
        result = intake.body(
            runner().database,
            request.stream,
            request.content_length or 0,
            label,
            feed,
            packed,
            terms(query["atomic"], query["days"]),
            runner().settings.max_body_bytes,
        )
    (summary,) = result.files
    if result.refused:
        raise _refusal(result.load, summary.error, [summary])
    return jsonify(pushed_json(result.load, summary, result.notes, REJECTS_SHOWN))


@operation(
    blueprint,
    "POST",
    "/api/v1/feeds",
    scope="write",
    tag="feeds",
    query=LoadQuery(),
    body={"multipart/form-data": None},
    answers={**_PUSHED, 200: Answer("what became of each file", LoadSchema())},
)
def upload(query: dict[str, Any]) -> Response:
    """Upload files and zips; the feed of each is recognised by its header.

    They are one load: hours and zones of all its files replace earlier ones together.
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType(
            f"the body is {request.mimetype or 'of no stated type'}; send files as multipart/form-data "
            "(`curl -F file=@polls.csv`), or one feed to /api/v1/feeds/polls"
        )
    result = load_uploaded(query["atomic"], query["days"])
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
    files = [file_json(summary, REJECTS_SHOWN) for summary in result.files]
    return jsonify(load_id=result.load, notes=result.notes, files=files)


def load_uploaded(atomic: int, days: str, also: Collection[str] = ()) -> LoadResult:
    """What became of the files of the request's form, loaded. Errors as `uploaded`, `BadRequest` when it holds nothing,
    `Busy` when too much is being loaded.
    """
    # Uploaded files are closed with the request, whatever becomes of them.
    with closing(request):
        found = uploaded(also)
        with one_load() as terms:
            return intake.files(runner().database, found, terms(atomic, days), runner().settings.max_body_bytes)


def _label() -> tuple[str, bool]:
    """The media type of the body, and whether its headers say that it is gzipped."""
    kind, packing = request.mimetype, request.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaType(f"Content-Encoding is {packing!r}; it must be gzip, or left out")
    if request.content_length is None and not request.environ.get("wsgi.input_terminated"):
        raise BadRequest("the request has no Content-Length, so it has no body; send the feed as the body")
    packed = packing != "identity" or kind in ("application/gzip", "application/x-gzip")
    if kind.startswith("multipart/"):
        raise UnsupportedMediaType(
            f"Content-Type is {kind}; send one feed as the body itself (`curl --data-binary @polls.csv`), or files to /api/v1/feeds"
        )
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"the charset is {charset}; it must be utf-8")
    return kind, packed


def uploaded(also: Collection[str] = ()) -> list[tuple[str, IO[bytes]]]:
    """Names and streams of the files of the request's form. `Unprocessable` when it holds anything else but fields
    named in `also`, `NoTemporaryRoom` when there is none for them, `Stopped` when the server stops meanwhile.
    """
    stop_reading_when_unwanted()
    try:
        found = [(file.filename or "", file.stream) for _, file in request.files.items(multi=True)]
    except RequestEntityTooLarge:
        if (request.content_length or 0) > (request.max_content_length or 0):
            raise
        # What is no file is held in memory, so there may not be much of it. That there are too many files is the same
        # error.
        raise Unprocessable(
            "the form has more than 1,000 files, or a long field that is no file; send files only, at most 1,000 of them",
            errors={"form": ["more than 1,000 files, or too much that is no file"]},
        ) from None
    except OSError as error:
        # The files of a form are taken out of its body, into the same folder.
        raise temporary.no_room(error, "nothing of this was stored") from error
    others = [name for name in request.form if name not in also]
    if others:
        raise Unprocessable(_FILES_ONLY.format(", ".join(others)), errors={name: ["not a file"] for name in others})
    return found


_FILES_ONLY: Final = "{}: not a file; send files only, at most 1,000 of them"


def _refusal(load: int, why: str, files: list[FileSummary]) -> Unprocessable:
    rejects = [{"file": summary.file, **reject_json(reject)} for summary in files for reject in summary.rejects]
    return Unprocessable(
        f"{why}; all rejected rows are at /api/v1/loads/{load}/rejects",
        load_id=load,
        rejected=sum(summary.counts.rejected for summary in files),
        rejects=rejects[:REJECTS_SHOWN],
    )
