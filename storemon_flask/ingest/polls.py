"""The polls feed: blocks of text to columns, by pandas where the block is plain and row by row where it is not.

A block is plain when every road must agree on it: UTF-8, no quote, no NUL, no lone return, no blank line, no line too long,
and as many commas as its lines should have. Both roads end in the same validators; a test holds one against the other.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storemon_flask.ingest import instants, records, values
from storemon_flask.ingest.blocks import Block, BlockReader
from storemon_flask.ingest.feeds import Header
from storemon_flask.ingest.records import MAX_LINE_BYTES
from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.values import BadValue
from storemon_flask.model import Bools, Ints


@dataclass(frozen=True, slots=True)
class PollBlock:
    """The good rows of a block in file order: `store` indexes `ids`. `rows` counts the bad ones too."""

    ids: list[str]
    store: Ints
    instant_us: Ints
    active: Bools
    rows: int


def read(reader: BlockReader, header: Header, latest_us: int, log: RejectLog, fast: bool = True) -> Iterator[PollBlock]:
    """The polls of a file, a block at a time; what cannot be used goes to `log`.

    `latest_us` is the newest instant a poll may have. `fast=False` takes the row-exact road for every block.
    """
    for block in reader:
        if block.overlong:
            log.add(block.line, records.LINE_LONG, block.overlong.decode("utf-8", "replace"))
            yield PollBlock([], *_nothing(), rows=1)
        elif not (fast and is_plain(block, header)):
            yield _exact(reader, block, header, latest_us, log)
        else:
            quick = _plain(block, header, latest_us, log)
            yield quick if quick is not None else _exact(reader, block, header, latest_us, log)


def is_plain(block: Block, header: Header) -> bool:
    """Whether every road must read the block alike (see the module's text)."""
    data = block.data
    if b'"' in data or b"\0" in data:
        return False
    if b"\r" in data and (
        records.count(data, b"\r") != data.count(b"\r\n") or b"\n\r\n" in data or data.startswith(b"\r\n")
    ):
        return False
    if b"\n\n" in data or data.startswith(b"\n"):
        return False
    lines = records.count(data, b"\n") + (not data.endswith(b"\n"))
    first = data.find(b"\n") + 1 or len(data)
    if records.count(data, b",") != lines * (header.width - 1) or data.count(b",", 0, first) != header.width - 1:
        return False
    half = MAX_LINE_BYTES // 2
    if any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half, half)):
        return False
    return data.isascii() or _is_utf8(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _plain(block: Block, header: Header, latest_us: int, log: RejectLog) -> PollBlock | None:
    """The block by pandas and numpy; None when pandas finds rows of unequal length after all."""
    import pandas as pd

    id_at, instant_at, status_at = header.columns
    # Columns that nobody asked for are read as one byte each and dropped.
    kinds: dict[int, Any] = dict.fromkeys(range(header.width), "S1")
    kinds |= {id_at: "category", status_at: "category", instant_at: f"S{instants.WIDTH}"}
    try:
        frame = pd.read_csv(
            io.BytesIO(block.data),
            header=None,
            names=list(range(header.width)),
            dtype=kinds,
            index_col=False,
            na_filter=False,
            quoting=3,
            skip_blank_lines=False,
            engine="c",
            low_memory=False,
        )
    except pd.errors.ParserError:
        return None
    ids, store, id_reasons = _categories(frame[id_at], values.store_id)
    words, status, status_reasons = _categories(frame[status_at], values.status)
    stamps = frame[instant_at].to_numpy()
    instant, read_ok = instants.read_column(stamps)
    active = np.array([word is True for word in words], dtype=bool)[status]

    good = read_ok & (instant <= latest_us)
    if id_reasons:
        good &= ~np.isin(store, list(id_reasons))
    if status_reasons:
        good &= ~np.isin(status, list(status_reasons))
    doubtful = np.flatnonzero(~good)
    if len(doubtful):
        _look_again(block, header, doubtful, latest_us, log, instant, good)
    return PollBlock([i or "" for i in ids], store[good], instant[good], active[good], len(frame))


def _categories(column: Any, read: Callable[[str], Any]) -> tuple[list[Any], Ints, dict[int, str]]:
    """The column's distinct texts read once each: values (None for a bad one), a code per row, and the bad codes' reasons."""
    reasons: dict[int, str] = {}
    found: list[Any] = []
    for code, text in enumerate(column.cat.categories.tolist()):
        try:
            found.append(read(text))
        except BadValue as bad:
            found.append(None)
            reasons[code] = str(bad)
    return found, column.cat.codes.to_numpy().astype(np.int64), reasons


def _look_again(
    block: Block, header: Header, rows: Ints, latest_us: int, log: RejectLog, instant: Ints, good: Bools
) -> None:
    """Read the rows the columns could not, one by one: good ones are filled in, the others rejected."""
    ends = np.flatnonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends + 1])
    ends = np.concatenate([ends, [len(block.data)]])
    for row in rows.tolist():
        text = block.data[starts[row] : ends[row]].removesuffix(b"\r").decode("utf-8")
        try:
            _, instant[row], _ = _fields(text.split(","), header, latest_us)
            good[row] = True
        except BadValue as bad:
            log.add(block.line + row, str(bad), text)


def _exact(reader: BlockReader, block: Block, header: Header, latest_us: int, log: RejectLog) -> PollBlock:
    """The block row by row; an unfinished record at its end is given back to the reader."""
    codes: dict[str, int] = {}
    store: list[int] = []
    instant: list[int] = []
    active: list[bool] = []
    rows = 0
    for record in records.split(block.data, block.line, header.width, block.last):
        if isinstance(record, bytes):
            reader.give_back(record)
            break
        rows += 1
        try:
            if record.problem:
                raise BadValue(record.problem)
            store_id, instant_us, is_active = _fields(record.fields, header, latest_us)
        except BadValue as bad:
            log.add(record.line, str(bad), record.text)
            continue
        store.append(codes.setdefault(store_id, len(codes)))
        instant.append(instant_us)
        active.append(is_active)
    return PollBlock(
        list(codes), np.array(store, np.int64), np.array(instant, np.int64), np.array(active, np.bool_), rows
    )


def _fields(fields: list[str], header: Header, latest_us: int) -> tuple[str, int, bool]:
    """Store id, instant and status of a row; `BadValue` with the first reason why not."""
    id_at, instant_at, status_at = header.columns
    store_id = values.store_id(fields[id_at])
    instant = values.instant(fields[instant_at])
    if instant > latest_us:
        raise BadValue(values.INSTANT_FUTURE)
    return store_id, instant, values.status(fields[status_at])


def _nothing() -> tuple[Ints, Ints, NDArray[np.bool_]]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_)
