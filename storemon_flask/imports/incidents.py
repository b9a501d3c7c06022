"""Lists of incidents, as UptimeRobot, Better Stack, Pingdom and others export them: start, end and name, as CSV.

They say when something was down. That it was up at other times is known only of the time somebody says was watched.
"""

import csv
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from dateutil.parser import ParserError, isoparse
from dateutil.parser import parse as parse_date_text

from storemon_flask import zonedata
from storemon_flask.characters import count_text
from storemon_flask.clock import EPOCH, minute_text, timestamp_text
from storemon_flask.errors import DataError
from storemon_flask.feeds.schema import spelled
from storemon_flask.imports.checks import ACTIVE, INACTIVE, SLOT_US, UNWATCHED, Check, timestamp_us
from storemon_flask.model import DAY_US

COLUMNS: Final = ("name", "start", "end", "duration", "event")
_US: Final = 1_000_000
_SIDE_US: Final = 1_000
# Whoever was down for longer has closed.
_LONGEST_US: Final = 366 * DAY_US
_HEADINGS: Final = {
    "name": (
        "name", "monitor", "monitorname", "friendlyname", "store", "storename", "storeid", "check", "checkname",
        "service", "site", "website", "host", "resource",
    ),
    "start": (
        "start", "started", "startedat", "starttime", "startdate", "begin", "from", "datetime", "downsince", "downat",
        "opened", "openedat", "createdat",
    ),
    "end": (
        "end", "ended", "endedat", "endtime", "enddate", "to", "until", "resolved", "resolvedat", "upsince", "upat",
        "closed", "closedat", "recovered", "recoveredat",
    ),
    "duration": ("duration", "durationseconds", "durationinseconds", "durations"),
    "event": ("event", "status", "state", "type"),
}  # fmt: skip
# What a row is about that is no incident.
_EVENTS: Final = {
    "up": ACTIVE, "online": ACTIVE, "ok": ACTIVE, "paused": UNWATCHED, "started": UNWATCHED, "unpaused": UNWATCHED,
    "maintenance": UNWATCHED, "unknown": UNWATCHED,
}  # fmt: skip
_UNIT_S: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LENGTH: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(d|h|m|s)[a-z]*\.?(?:,| and)? ?", re.IGNORECASE)
_CLOCK_LENGTH: Final = re.compile(r"([0-9]+):([0-5][0-9]):([0-5][0-9])")
# A longer one is no number that can be computed with.
_LENGTH_CHARACTERS: Final = 100
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MONTH: Final = re.compile(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", re.IGNORECASE)
_DELIMITERS: Final = ",;\t|"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_WORKBOOKS_AND_ZIPS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

NO_NAME: Final = "name is empty"
NO_START: Final = "start is not a date and time that means one thing (YYYY-MM-DD HH:MM[:SS])"
NO_END: Final = "end is not a date and time that means one thing (YYYY-MM-DD HH:MM[:SS])"
NO_LENGTH: Final = "duration is not a length of time (seconds, H:MM:SS, 1 h 5 min)"
BACKWARDS: Final = "end is before start"
TOO_LONG: Final = "incident is longer than 366 days; check its start and end"
FEW_FIELDS: Final = "row has fewer fields than the header"


class _Span(NamedTuple):
    start_us: int
    end_us: int
    row: int


@dataclass
class _Name:
    """What is known of one name."""

    down: list[_Span] = field(default_factory=list)
    up: list[_Span] = field(default_factory=list)
    unwatched: list[_Span] = field(default_factory=list)
    # Where an incident was not over, as far as the list knows.
    open_ends: set[int] = field(default_factory=set)


class _BadRow(ValueError):
    """A row that cannot be used; the message is the reason."""


class IncidentReader:
    """Reads a CSV of incidents.

    `zone` is that of timestamps without one; `headings` what the columns are called where their own names do not say
    it; `only_name` the name of all rows where there is no such column. From `from_us` to `to_us` everything was
    watched, also `known_names` without an incident.
    """

    def __init__(
        self,
        path: Path,
        *,
        zone: str = "UTC",
        headings: Mapping[str, str] | None = None,
        only_name: str = "",
        from_us: int | None = None,
        to_us: int | None = None,
        known_names: Iterable[str] = (),
    ) -> None:
        self.label = "a list of incidents"
        self.has_checks = False
        self.name = path.name
        self.aside: dict[str, str] = {}
        self._path = path
        self._zone_name = zonedata.find(zone) or ""
        if not self._zone_name:
            raise DataError(f"{zone!r} is not the name of an IANA zone, such as America/New_York")
        self._headings = dict(headings or {})
        self._only_name = only_name
        self._from_us, self._to_us = from_us, to_us
        if from_us is not None and to_us is None:
            raise DataError("--from says since when all was watched; say with --to until when")
        if from_us is not None and to_us is not None and from_us >= to_us:
            raise DataError("--from must be before --to")
        self._known_names = known_names
        self._without_end = 0
        self._rejects: list[tuple[str, Check]] = []

    def checks(self, is_included: Callable[[str], bool]) -> Iterator[tuple[str, Check]]:
        """Return name and check of the edges of each incident and of every 10 minutes of it; the same of the time
        that was up.
        """
        names: dict[str, _Name] = defaultdict(_Name)
        if self._from_us is not None and self._to_us is not None:
            for name in self._known_names:
                names[name] = _Name()
        self._read(names)
        for name, check in self._rejects:
            if is_included(name):
                yield name, check
        for name, known in names.items():
            if is_included(name):
                for check in self._checks(known):
                    yield name, check

    def notes(self) -> list[str]:
        """Return notes about the time between incidents, incidents without an end, and the zone."""
        notes = []
        if self._from_us is not None and self._to_us is not None:
            notes.append(
                f"taken as watched, and up outside of incidents, from {minute_text(self._from_us)} to "
                f"{minute_text(self._to_us)}"
            )
        else:
            notes.append(
                "only the incidents and their edges; of the time between them the list says nothing (--from and --to "
                "say when all was watched)"
            )
        if self._without_end:
            its = "its" if self._without_end == 1 else "their"
            what = "until --to" if self._to_us is not None else f"only {its} beginning is loaded (--to says until when)"
            notes.append(f"{count_text(self._without_end, 'incident')} without an end: {what}")
        if self._zone_name not in ("UTC", "Etc/UTC"):
            notes.append(f"timestamps without a zone were read in {self._zone_name}")
        return notes

    # Rows

    def _read(self, names: dict[str, _Name]) -> None:
        try:
            with self._path.open("rb") as raw:
                first_bytes = raw.read(4)
            if first_bytes in _WORKBOOKS_AND_ZIPS:
                raise DataError(f"{self._path} is a workbook or a zip; save its sheet as CSV in UTF-8, and import that")
            encoding = "utf-16" if first_bytes[:2] in _UTF_16 else "utf-8-sig"
            with self._path.open(encoding=encoding, newline="") as lines:
                first = lines.readline()
                delimiter = max(_DELIMITERS, key=first.count)
                columns = self._columns(next(csv.reader([first], delimiter=delimiter), []))
                rows = csv.reader(lines, delimiter=delimiter)
                line = 2
                for row in rows:
                    if any(cell.strip() for cell in row):
                        self._add_row(names, line, row, columns)
                    line = rows.line_num + 2
        except UnicodeDecodeError:
            raise DataError(f"{self._path} is not UTF-8; save it as CSV in UTF-8") from None
        except csv.Error as error:
            raise DataError(f"{self._path} is not CSV that can be read: {error}") from None
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror or error}") from None

    def _columns(self, header: list[str]) -> dict[str, int]:
        """Return the position of each column that the header has; `DataError` when one that is needed is missing."""
        spellings = [spelled(cell).replace("-", "") for cell in header]
        positions = {}
        for column in COLUMNS:
            heading = self._headings.get(column)
            accepted = (spelled(heading).replace("-", ""),) if heading else _HEADINGS[column]
            index = next((spellings.index(one) for one in accepted if one in spellings), None)
            if index is None and heading:
                raise DataError(f"{self._path} has no column {heading!r}, which is to be {column}")
            if index is not None:
                positions[column] = index
        lacking = [] if "start" in positions else ["start"]
        lacking += [] if "name" in positions or self._only_name else ["name"]
        lacking += [] if "end" in positions or "duration" in positions else ["end"]
        if lacking:
            raise DataError(
                f"{self._path} has no column that is clearly the {' or the '.join(lacking)} of an incident; say which "
                f"it is, as --column {lacking[0]}='Its heading'"
                + (", or give all rows one name with --name" if "name" in lacking else "")
            )
        return positions

    def _add_row(self, names: dict[str, _Name], line: int, row: list[str], columns: Mapping[str, int]) -> None:
        cells = {column: row[index].strip() if index < len(row) else None for column, index in columns.items()}
        name = self._only_name or cells.get("name") or ""
        try:
            if None in cells.values():
                raise _BadRow(FEW_FIELDS)
            if not name:
                raise _BadRow(NO_NAME)
            start_us, end_us = self._times({column: cell or "" for column, cell in cells.items()})
        except _BadRow as error:
            text = ",".join(row)
            self._rejects.append((name, Check(line, None, cells.get("start") or "", INACTIVE, str(error), text)))
            return
        status = _EVENTS.get((cells.get("event") or "").casefold(), INACTIVE)
        known = names[name]
        if end_us is None and status == INACTIVE:
            self._without_end += 1
            end_us = max(start_us + _SIDE_US, start_us if self._to_us is None else self._to_us)
            known.open_ends.add(end_us)
        if end_us is not None:
            spans = known.down if status == INACTIVE else known.up if status == ACTIVE else known.unwatched
            spans.append(_Span(start_us, end_us, line))

    def _times(self, cells: Mapping[str, str]) -> tuple[int, int | None]:
        start_us = self._time(cells["start"], NO_START)
        end_us = None
        if cells.get("end"):
            end_us = self._time(cells["end"], NO_END)
        elif cells.get("duration"):
            end_us = start_us + _length_us(cells["duration"])
        if end_us is not None and end_us < start_us:
            raise _BadRow(BACKWARDS)
        if end_us is not None and end_us - start_us > _LONGEST_US:
            raise _BadRow(TOO_LONG)
        return start_us, end_us

    def _time(self, text: str, reason: str) -> int:
        if _NUMBER.fullmatch(text):
            number_us = timestamp_us(text)
            if number_us is None:
                raise _BadRow(reason)
            return number_us
        moment = _moment(text)
        if moment is None:
            raise _BadRow(reason)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zonedata.zone(self._zone_name))
        try:
            return (moment.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
        except OverflowError:
            # The first or last day there is, in another zone.
            raise _BadRow(reason) from None

    # Spans

    def _checks(self, known: _Name) -> Iterator[Check]:
        down = _merged(known.down)
        sides = [_Span(span.start_us - _SIDE_US, span.start_us, span.row) for span in down]
        # Nobody says of an incident without an end that it was over.
        sides += [
            _Span(span.end_us, span.end_us + _SIDE_US, span.row) for span in down if span.end_us not in known.open_ends
        ]
        up = list(known.up)
        if self._from_us is not None and self._to_us is not None:
            up.append(_Span(self._from_us, self._to_us, 1))
        up = _without(_without(_merged(up), _merged(known.unwatched)) + sides, down)
        statuses = [*((span, INACTIVE) for span in down), *((span, ACTIVE) for span in _merged(up))]
        for span, status in sorted(statuses):
            for at_us in _instants(span):
                yield Check(span.row, at_us, timestamp_text(at_us), status)


def _moment(text: str) -> datetime | None:
    """The instant of a text that means one thing: the parts of a date in the order of ISO 8601, or a month's name."""
    cleaned = re.sub(r" ?\(?(?:UTC|GMT)\)?$", "Z", text)
    cleaned = re.sub(r" (?=[-+][0-9]{2}:?[0-9]{2}$)", "", cleaned)
    if ":" not in cleaned:
        return None
    try:
        return isoparse(cleaned)
    except ValueError:
        pass
    if not _MONTH.search(cleaned):
        return None
    try:
        # What is not in the text is taken from the default.
        moment, again = (parse_date_text(cleaned, default=default) for default in _DEFAULTS)
    except (ParserError, OverflowError):
        return None
    return moment if moment == again else None


_DEFAULTS: Final = (datetime(2000, 1, 1), datetime(2001, 2, 2))


def _length_us(text: str) -> int:
    if len(text) > _LENGTH_CHARACTERS:
        raise _BadRow(NO_LENGTH)
    clock = _CLOCK_LENGTH.fullmatch(text)
    if clock:
        hours, minutes, seconds = map(int, clock.groups())
        return (hours * 3600 + minutes * 60 + seconds) * _US
    if _NUMBER.fullmatch(text):
        return round(float(text) * _US)
    parts = list(_LENGTH.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise _BadRow(NO_LENGTH)
    return round(sum(float(part[1]) * _UNIT_S[part[2].lower()] for part in parts) * _US)


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """The spans in order, those that overlap or touch as one."""
    merged: list[_Span] = []
    for span in sorted(spans):
        if merged and span.start_us <= merged[-1].end_us:
            merged[-1] = merged[-1]._replace(end_us=max(merged[-1].end_us, span.end_us))
        else:
            merged.append(span)
    return merged


def _without(spans: Iterable[_Span], others: list[_Span]) -> list[_Span]:
    """What is left of the spans outside of the others, which are merged."""
    ends_us = [other.end_us for other in others]
    left = []
    for span in spans:
        start_us = span.start_us
        for other in islice(others, bisect_right(ends_us, start_us), None):
            if other.start_us >= span.end_us:
                break
            if other.start_us > start_us:
                left.append(span._replace(start_us=start_us, end_us=other.start_us))
            start_us = other.end_us
        if start_us < span.end_us:
            left.append(span._replace(start_us=start_us))
    return left


def _instants(span: _Span) -> Iterator[int]:
    """The beginning of a span, every full 10 minutes in it, and a millisecond before its end."""
    last_us = max(span.end_us - _SIDE_US, span.start_us)
    yield span.start_us
    yield from range((span.start_us // SLOT_US + 1) * SLOT_US, last_us, SLOT_US)
    if last_us > span.start_us:
        yield last_us
