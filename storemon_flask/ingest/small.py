"""The two small feeds, hours and time zones: row by row, whole in memory (a few rows a store)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from storemon_flask.ingest import records, values
from storemon_flask.ingest.blocks import BlockReader
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.values import BadValue

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class HoursRow:
    """One row of weekly hours, with where it stood in case it cannot be applied after all."""

    store_id: str
    day: int
    start_s: int
    end_s: int
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class ZoneRow:
    """One store's time zone."""

    store_id: str
    name: str


def read_hours(reader: BlockReader, header: Header, log: RejectLog, spoiled: set[str]) -> Iterator[HoursRow]:
    """The good hours rows in file order. A store of which a row was rejected is added to `spoiled`."""

    def read(fields: list[str], line: int, text: str) -> HoursRow:
        store_at, day_at, start_at, end_at = header.columns
        store_id = values.store_id(fields[store_at])
        try:
            day = values.day_of_week(fields[day_at])
            start, end = values.time_of_day(fields[start_at]), values.time_of_day(fields[end_at], end=True)
        except BadValue:
            spoiled.add(store_id)
            raise
        return HoursRow(store_id, day, start, end, line, text)

    return _rows(reader, header, log, read)


def read_zones(reader: BlockReader, header: Header, log: RejectLog) -> Iterator[ZoneRow]:
    """The good time zone rows in file order."""

    def read(fields: list[str], line: int, text: str) -> ZoneRow:
        store_at, zone_at = header.columns
        return ZoneRow(values.store_id(fields[store_at]), values.time_zone(fields[zone_at]))

    return _rows(reader, header, log, read)


def _rows(
    reader: BlockReader, header: Header, log: RejectLog, read: Callable[[list[str], int, str], Row]
) -> Iterator[Row]:
    for block in reader:
        if block.overlong:
            log.add(block.line, records.LINE_LONG, block.overlong.decode("utf-8", "replace"))
            continue
        for record in records.split(block.data, block.line, header.width, block.last):
            if isinstance(record, bytes):
                reader.give_back(record)
                break
            try:
                if record.problem:
                    raise BadValue(record.problem)
                yield read(record.fields, record.line, record.text)
            except BadValue as bad:
                log.add(record.line, str(bad), record.text)
