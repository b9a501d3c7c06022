"""One report as its row says it, and the columns that are read for it."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final

# In the shape as it is stored, beside what was asked: older programs pass over it, a column would keep them out.
_AS_OF: Final = "as_of_asked"
# A row of a list has so many of the stores it was asked for: a report may name all of a fleet.
LISTED_STORES: Final = 10


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report: what was asked, where it stands, what came out. `stores` None means every store.

    `altered` maps columns to row numbers (from 0) to the texts that the CSV shows differently, for the JSON form. In a
    list (`newest`) it is empty, and `stores` has the first few; `more_stores` says how many there are beyond those.
    """

    id: str
    state: str
    as_of_us: int
    columns: str
    stores: list[str] | None
    requested_us: int
    started_us: int | None
    finished_us: int | None
    attempts: int
    progress: float
    error: str | None
    row_count: int | None
    byte_count: int | None
    sha256: str | None
    altered: dict[str, dict[int, str]]
    shape: dict[str, Any] | None
    method: dict[str, Any] | None
    shares: str | None = None
    last_error: str | None = None
    next_try_us: int | None = None
    gone: str | None = None
    died: int = 0
    more_stores: int = 0
    # Whether the as-of was asked for; otherwise it was that of the newest poll.
    as_of_asked: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is complete or failed, and so stays as it is."""
        return self.state in ("complete", "failed")

    @property
    def tries(self) -> int:
        """How often it was begun and the process lived to see it end."""
        return self.attempts - self.died

    @property
    def stores_asked(self) -> int | None:
        """How many stores were named; None when none were."""
        return None if self.stores is None else len(self.stores) + self.more_stores

    @property
    def job(self) -> str:
        """The id of the computation, which its file bears: its own, or that of the report it shares."""
        return self.shares or self.id


def _text(column: str, reference: str, part: str) -> str:
    """The SQL of what stands in the row or, if it is long, in `report_text`."""
    return f"iif({reference} IS NULL, {column}, (SELECT {part} FROM report_text WHERE number = {reference}))"


_STORES: Final = _text("stores", "asked_text", "large")
_ALTERED: Final = _text("altered_ids", "outcome_text", "large")
_SHAPE: Final = _text("shape", "asked_text", "json_patch(coalesce(small, '{}'), coalesce(shape, '{}'))")
_METHOD: Final = _text("method", "outcome_text", "small")
COLUMNS: Final = (
    f"id, state, as_of_us, columns, {_STORES}, requested_us, started_us, finished_us, attempts, "
    "CASE WHEN shares IS NOT NULL AND state IN ('pending', 'running') "
    "THEN (SELECT first.progress FROM report AS first WHERE first.id = report.shares) ELSE progress END, error, "
    f"row_count, report.byte_count, sha256, {_ALTERED}, {_SHAPE}, {_METHOD}, shares, last_error, next_try_us, gone, died"
)


# The same without what grows with the fleet. SQLite hands over the few stores alone.
LISTED: Final = COLUMNS.replace(_ALTERED, "NULL").replace(
    _STORES,
    _text(
        "iif(stores IS NULL, NULL, (SELECT json_group_array(value) FROM "
        f"(SELECT value FROM json_each(report.stores) LIMIT {LISTED_STORES})))",
        "asked_text",
        "first_stores",
    ),
)
MORE: Final = (
    f"max(0, coalesce({_text('json_array_length(stores)', 'asked_text', 'store_count')}, 0) - {LISTED_STORES})"
)


def read(row: tuple[Any, ...]) -> ReportRow:
    """The report of a row of `COLUMNS`, or of `LISTED` and `MORE`."""
    stores, altered, shape, method = (
        None if row[place] is None else json.loads(row[place]) for place in (4, 14, 15, 16)
    )
    texts: dict[str, dict[int, str]] = {}
    for key, value in (altered or {}).items():
        if isinstance(value, str):
            # Reports of before there were names: ids alone, by row.
            texts.setdefault("store_id", {})[int(key)] = value
        else:
            texts[key] = {int(place): text for place, text in value.items()}
    as_of_asked = shape is not None and shape.pop(_AS_OF, False) is True
    found = ReportRow(*(*row[:4], stores, *row[5:14], texts, shape or None, method, *row[17:]))
    return replace(found, as_of_asked=as_of_asked)


def shape_text(shape: dict[str, Any] | None, as_of_asked: bool) -> str | None:
    """What was asked besides columns and stores, and whether an as-of was."""
    return json_text({**(shape or {}), _AS_OF: True} if as_of_asked else shape)


def json_text(asked: object) -> str | None:
    """As it is stored; None stays None."""
    return None if asked is None else json.dumps(asked)
