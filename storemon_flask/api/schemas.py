"""Schemas that several operations answer with or take."""

import re
from dataclasses import asdict
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields

from storemon_flask import clock
from storemon_flask.model import Counts, FileSummary, Reject


class Closed(Schema):
    """A schema that takes nothing it does not name, and whose documentation says so."""

    class Meta:
        """Anything else is an error that names the field."""

        unknown = RAISE


class Component(fields.Raw):
    """A value that is as a schema of the document's components says, which no schema here does."""

    def __init__(self, component: str, **options: Any) -> None:
        super().__init__(**options)
        self.component = component


class Instant(fields.Field[int]):
    """An instant as ISO 8601 text; microseconds since 1970 UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str):
            raise ValidationError("must be text such as 2024-10-14T23:55:18Z")
        try:
            return clock.parse_timestamp(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Whole(fields.Integer):
    """A whole number: what JSON writes as 1 or 1.0, and in an address plain digits. Nothing is rounded."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, (bool, float)) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


_DIGITS: Final = re.compile(r"-?[0-9]{1,30}")


def _count(about: str) -> fields.Integer:
    return fields.Integer(required=True, metadata={"description": about, "minimum": 0})


_LOAD_ID: Final = {"description": "its number; its rejects are at /api/v1/loads/NUMBER/rejects", "minimum": 1}


class RejectSchema(Closed):
    """A row that could not be used."""

    line = fields.Integer(required=True, metadata={"description": "the line it begins on; in JSON the row's number"})
    reason = fields.String(required=True, metadata={"description": "why it could not be used"})
    text = fields.String(required=True, metadata={"description": "its first 1,000 characters"})


class FileRejectSchema(RejectSchema):
    """A rejected row and the file it stands in."""

    file = fields.String(required=True, metadata={"description": "the file's name, or body"})


class ProblemSchema(Closed):
    """RFC 9457: what went wrong and what to do."""

    type = fields.String(
        required=True, metadata={"description": "what kind of problem, for programs: urn:storemon:problem:..."}
    )
    title = fields.String(required=True, metadata={"description": "the kind in words"})
    status = fields.Integer(required=True, metadata={"description": "the HTTP status"})
    detail = fields.String(required=True, metadata={"description": "what was wrong, what is allowed, what to do"})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.Raw(metadata={"description": "what is wrong with it"}),
        metadata={"description": "by field or parameter, where there are any"},
    )
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"description": "ok, or what is wrong"}),
        metadata={"description": "what was looked at, where the service is not ready"},
    )
    report_id = fields.String(metadata={"description": "the id of a report that failed"})
    error = fields.String(metadata={"description": "why that report failed"})
    load_id = fields.Integer(
        metadata={"description": "the number of a load of which nothing was stored, where it is remembered"}
    )
    rejected = fields.Integer(metadata={"description": "how many rows of it could not be used"})
    rejects = fields.List(fields.Nested(FileRejectSchema), metadata={"description": "the first 100 of these rows"})


class RowCountsSchema(Closed):
    """What became of rows: rows = new + changed + unchanged + repeated + rejected."""

    rows = _count("rows it has")
    new = _count("of stores or instants not known before")
    changed = _count("that replaced something else")
    unchanged = _count("that said what was known")
    repeated = _count("that a later row of the same file replaced")
    rejected = _count("that could not be used")


class CountsSchema(RowCountsSchema):
    """One file and what became of its rows."""

    feed = fields.String(
        required=True, metadata={"description": "polls, hours, timezones or stores; empty if it is none"}
    )
    reasons = fields.Dict(
        required=True,
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "rejected rows by reason"},
    )
    notes = fields.List(
        fields.String(), required=True, metadata={"description": "sentences about what else there is to know"}
    )
    file = fields.String(required=True, metadata={"description": "the file's name, or body"})
    error = fields.String(
        required=True, allow_none=True, metadata={"description": "why nothing of the file was stored; null if it was"}
    )


class LoadFileSchema(CountsSchema):
    """One file, with the first 100 of its rejected rows."""

    rejects = fields.List(
        fields.Nested(RejectSchema),
        required=True,
        metadata={"description": "its first 100 rows that could not be used"},
    )


class LoadedSchema(LoadFileSchema):
    """What a push did."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)


FEW_HEARD: Final = (
    "a sentence when under 5 % of the stores that were polled before have been heard since, so that the as-of is one of few "
    "stores; else null"
)


NOTE: Final = (
    "what to know of the as-of: a sentence when under 5 % of the stores that were polled before have been heard since, and one when "
    "stores have polls in the future, which count for nothing before their time; else null"
)


def _load_notes() -> fields.Field[Any]:
    return fields.List(
        fields.String(),
        required=True,
        metadata={"description": "what the load changes for other data, such as polled stores that have no hours"},
    )


class LoadSchema(Closed):
    """What an upload did, file by file."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    notes = _load_notes()
    files = fields.List(fields.Nested(LoadFileSchema), required=True, metadata={"description": "file by file"})


class ListedLoadSchema(RowCountsSchema):
    """A load of the past, with the rows of all its files together."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    started = fields.String(required=True, metadata={"description": "when it began", "format": "date-time"})
    notes = _load_notes()
    file = fields.String(required=True, metadata={"description": "the name of its first file, or body"})
    file_count = _count("how many files it has")
    failed_count = _count("how many of them were not loaded")


class PastLoadSchema(ListedLoadSchema):
    """One load of the past, with its files."""

    files = fields.List(
        fields.Nested(CountsSchema), required=True, metadata={"description": "file by file, the first 1,000"}
    )


class LoadsSchema(Closed):
    """Loads, the newest first."""

    found = fields.List(
        fields.Nested(ListedLoadSchema), required=True, data_key="loads", metadata={"description": "a page of them"}
    )
    next = fields.String(
        required=True, allow_none=True, metadata={"description": "the cursor of the next page; null at the end"}
    )


class RejectsSchema(Closed):
    """The rejected rows of a load, as far as they are kept (the first 10,000)."""

    load_id = fields.Integer(required=True, metadata=_LOAD_ID)
    rejects = fields.List(
        fields.Nested(FileRejectSchema), required=True, metadata={"description": "in the order of the files and rows"}
    )


def reject_json(reject: Reject) -> dict[str, Any]:
    """As `RejectSchema`."""
    return {"line": reject.line, "reason": reject.reason, "text": reject.text}


def row_counts_json(counts: Counts) -> dict[str, int]:
    """As `RowCountsSchema`."""
    return asdict(counts)


def counts_json(summary: FileSummary) -> dict[str, Any]:
    """As `CountsSchema`."""
    return {
        "file": summary.file,
        "feed": summary.feed,
        **row_counts_json(summary.counts),
        "reasons": summary.reasons,
        "notes": summary.notes,
        "error": summary.error or None,
    }


def pushed_json(load_id: int, summary: FileSummary, load_notes: list[str], most_rejects: int) -> dict[str, Any]:
    """As `LoadedSchema`: a push is one file, so its notes and those of the load are one list."""
    found = file_json(summary, most_rejects)
    return {"load_id": load_id, **found, "notes": [*summary.notes, *load_notes]}


def file_json(summary: FileSummary, most_rejects: int) -> dict[str, Any]:
    """As `LoadFileSchema`."""
    return {**counts_json(summary), "rejects": [reject_json(reject) for reject in summary.rejects[:most_rejects]]}
