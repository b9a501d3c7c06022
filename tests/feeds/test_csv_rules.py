"""Every reader of CSV against Python's csv module: the same records, whatever the quotes and wherever blocks end."""

import codecs
import csv
import io
import time
from collections.abc import Iterable
from typing import BinaryIO, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ingest_helpers import POLLS, READERS, Cut, read_polls, us

from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact, headers, tables, values
from storemon_flask.feeds.csv_exact import BlockReader
from storemon_flask.feeds.headers import Header
from storemon_flask.feeds.rejects import RejectLog
from storemon_flask.feeds.values import BadValue

Row = tuple[int, list[str], str, str]


def by_csv(data: bytes, width: int = 3) -> list[Row]:
    """Line, fields, text and problem of every row of a file: the csv module's records, checked by its strict mode."""
    text = data.decode("utf-8", "surrogateescape")
    lines = list(io.StringIO(text, newline=""))
    rows: list[Row] = []
    reader = csv.reader(lines)
    first = 0
    for fields in reader:
        raw, line, first = lines[first : reader.line_num], first + 1, reader.line_num
        whole = "".join(raw).encode("utf-8", "surrogateescape").rstrip(b"\r\n")
        if whole.strip():
            problem = _problem(raw, whole, len(fields), width)
            if problem == csv_exact.UNCLOSED:
                whole = "".join(raw).encode("utf-8", "surrogateescape")
            rows.append((line, [] if problem else fields, whole.decode("utf-8", "replace")[:1000], problem))
    return rows


def _problem(raw: list[str], whole: bytes, count: int, width: int) -> str:
    try:
        next(csv.reader(raw, strict=True))
        quoting = ""
    except csv.Error as error:
        quoting = csv_exact.UNCLOSED if "unexpected end" in str(error) else csv_exact.QUOTING
    if quoting == csv_exact.UNCLOSED or _open_at_the_end(raw):
        return csv_exact.UNCLOSED
    if b"\0" in whole:
        return csv_exact.NUL
    if b"\xef" not in whole and b"\xff" in whole:
        return csv_exact.NOT_UTF8
    if count > width and quoting:
        # Both are true; which is named depends on which comes first.
        return "either"
    return quoting or ("" if count == width else csv_exact.FIELDS_FEW if count < width else csv_exact.FIELDS_MANY)


def _open_at_the_end(raw: list[str]) -> bool:
    """Whether lenient reading would go on: it takes a further line into the same record."""
    reader = csv.reader([*raw, "more\n"] if raw[-1].endswith(("\r", "\n")) else [*raw, "\n", "more\n"])
    next(reader)
    return reader.line_num > len(raw) + (not raw[-1].endswith(("\r", "\n")))


def by_blocks(data: bytes, block_bytes: int, cuts: Iterable[int] = (), width: int = 3) -> list[Row]:
    header = Header("polls", width, tuple(range(width)))
    reader = BlockReader(Cut(data, cuts), lambda piece: None, block_bytes)
    return [
        (record.line, [] if record.problem else record.fields, record.text, record.problem)
        for block in reader
        for record in block.records(header)
    ]


def same(found: list[Row], expected: list[Row]) -> None:
    quoting = (csv_exact.QUOTING, csv_exact.FIELDS_MANY)
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for row, book in zip(found, expected, strict=True):
        assert row[3] == book[3] or (book[3] == "either" and row[3] in quoting)


_pieces = st.sampled_from(
    [b"a", b"b", b" ", b",", b",", b",", b'"', b'"', b'"', b'""', b'"""', b"\n", b"\n", b"\r", b"\r\n", b"\0", b"\xff"]
    + [
        "é".encode(),
        "🍕".encode(),
        b'",',
        b',"',
        b'"\n',
        b'\n"',
        b'"\r\n"',
        b"x" * 40,
        b'""' * 20,
        b"\n" * 9,
        b"a,b,c\n",
    ]
)
_files = st.lists(_pieces, max_size=40).map(b"".join)
_cuts = st.lists(st.integers(1, 40), max_size=6)


@settings(max_examples=500)
@given(_files, st.integers(1, 80), _cuts)
@example(b'a,b,"c', 1, [])
@example(b'a,b,"c"', 2, [])
@example(b'"""', 1, [])
@example(b'a"b""c,"d"e"f,"g\nh"\ri,j,k', 3, [])
@example(b'"a""\r\n""b",c,d\r\n', 4, [])
@example('"é'.encode() * 3 + b'"', 2, [])
def test_records_are_those_of_the_csv_module(data: bytes, block_bytes: int, cuts: list[int]) -> None:
    expected = by_csv(data)
    same(by_blocks(data, block_bytes, cuts), expected)
    same(by_blocks(data, 1 << 20), expected)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_cells = st.one_of(
    st.sampled_from(
        ["", "a", "b,c", 'd"e', "f\r\ng", "\n", "\r", '"', '""', '","', '"\n"', "é\n店", "x" * 50, "y\n" * 30]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)
_styles = st.sampled_from(["minimal", "all", "raw"])
_note_files = st.lists(st.tuples(st.sampled_from(["s1", "s2", "s,3", 's"4', " s5"]), _cells, _styles), max_size=12)


def _line(cells: list[str], style: str) -> str:
    if style == "raw":
        # Quotes within a field that does not begin with one are ordinary characters.
        return ",".join("x" + cell.translate(str.maketrans("", "", ",\r\n")) for cell in cells)
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL if style == "all" else csv.QUOTE_MINIMAL, lineterminator="\r\n").writerow(
        cells
    )
    return out.getvalue().removesuffix("\r\n")


@settings(max_examples=200)
@given(_note_files, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 200), _cuts)
def test_a_valid_file_loses_no_poll_and_gains_none(
    rows: list[tuple[str, str, str]], end: str, block_bytes: int, cuts: list[int]
) -> None:
    expected = []
    lines = [f"note,{POLLS},more"]
    for number, (store_id, note, style) in enumerate(rows):
        stamp = f"2023-01-22 12:00:00.{number:06d} UTC"
        text = _line([note, store_id, stamp, "active", note], "all" if style == "raw" else style)
        lines.append(text)
        expected.append((store_id.strip(), us("2023-01-22T12:00:00") + number, True))
    data = (end.join(lines) + end).encode()
    for exact in READERS:
        for size in (block_bytes, 1 << 20):
            assert read_polls(data, size, exact=exact, sizes=cuts) == (expected, [], len(rows))


@settings(max_examples=200)
@given(st.lists(st.tuples(_cells, _cells, _styles), max_size=12), st.sampled_from(["\n", "\r\n"]), st.integers(1, 200))
def test_names_with_quotes_are_those_of_the_csv_module(
    rows: list[tuple[str, str, str]], end: str, block_bytes: int
) -> None:
    data = end.join(["store_id,name", *(_line([first, name], style) for first, name, style in rows)]).encode()
    reader = BlockReader(Cut(data, ()), lambda piece: None, block_bytes)
    log = RejectLog()
    found = []
    for block in tables.read(reader, reader.header(), log, set(), values.DaysOfWeek()):
        codes = zip(block.line.tolist(), *(code.tolist() for code in block.codes), strict=True)
        found += [(line, block.values[0][store], block.values[1][name]) for line, store, name, _ in codes]
    good, bad = [], []
    for line, fields, text, problem in by_csv(data, 2)[1:]:
        try:
            if problem:
                raise BadValue(problem)
            good.append((line, values.parse_store_id(fields[0]), values.parse_name(fields[1])))
        except BadValue as error:
            bad.append((line, str(error), text))
    assert found == good
    assert [(reject.line, reject.reason, reject.text) for reject in log.rejects] == bad


def test_a_field_with_line_breaks_never_becomes_polls_of_stores_that_do_not_exist() -> None:
    inner = "ghost,2023-01-22 12:00:00 UTC,active\n" * 2000
    data = f'{POLLS},note\ns1,2023-01-22 12:00:00 UTC,active,{_quoted(inner)}\ns2,2023-01-22 12:00:00 UTC,maybe,""\n'.encode()
    noon = us("2023-01-22T12:00:00")
    for exact in READERS:
        for block_bytes in (1000, 1 << 16, 1 << 22):
            accepted, rejected, count = read_polls(data, block_bytes, exact=exact)
            assert accepted == [("s1", noon, True)]
            assert rejected == [(2003, values.STATUS, 's2,2023-01-22 12:00:00 UTC,maybe,""')]
            assert count == 2


def test_the_rest_of_a_file_behind_a_quote_that_is_never_closed_is_one_reject() -> None:
    rest = "s2,2023-01-22 12:00:00 UTC,active\n" * 5000
    data = f'{POLLS}\ns1,2023-01-22 12:00:00 UTC,active\n"s2,2023-01-22 12:00:00 UTC,active\n{rest}'.encode()
    for exact in READERS:
        for block_bytes in (100, 1 << 16, 1 << 22):
            accepted, rejected, count = read_polls(data, block_bytes, exact=exact)
            assert [row[0] for row in accepted] == ["s1"]
            assert [(line, reason, len(text)) for line, reason, text in rejected] == [(3, csv_exact.UNCLOSED, 1000)]
            assert count == 2


def test_a_few_quoted_rows_do_not_send_the_others_to_the_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"s{number % 7},2023-01-22 12:00:00.{number:06d} UTC,active,plain" for number in range(3000)]
    for number in range(0, 3000, 100):
        rows[number] = f's{number % 7},2023-01-22 12:00:00.{number:06d} UTC,active,"a, ""b""\nc"'
    rows[50] = 's1,2023-01-22 12:00:00 UTC,maybe,5"6'
    rows[150] = ' "s1",2023-01-22 12:00:00 UTC,maybe,x'
    data = "\n".join([f"{POLLS},note", *rows]).encode()
    expected = read_polls(data, exact=True)
    assert [row[:2] for row in expected[1]] == [(53, values.STATUS), (154, values.STATUS)]
    assert len(expected[0]) == 2998
    monkeypatch.setattr(csv_exact, "split", None)
    assert read_polls(data) == expected


def _header(data: bytes, block_bytes: int = 1 << 20) -> tuple[Header, list[Row]]:
    reader = BlockReader(Cut(data, ()), lambda piece: None, block_bytes)
    header = reader.header()
    return header, [
        (record.line, record.fields, record.text, record.problem)
        for block in reader
        for record in block.records(header)
    ]


@pytest.mark.parametrize("block_bytes", [1, 2, 5, 40, 1 << 20])
def test_a_header_may_be_quoted_and_have_line_breaks_in_it(block_bytes: int) -> None:
    data = (
        codecs.BOM_UTF8 + b'"store_id","a ""note"",\r\nin two lines",  status ,"timestamp_utc"\r\ns1,x,active,never\r\n'
    )
    header, rows = _header(data, block_bytes)
    assert header == Header("polls", 4, (0, 3, 2))
    assert rows == [(3, ["s1", "x", "active", "never"], "s1,x,active,never", "")]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\r", b"  \r\n", b"\t\n\n", b"\r\n\r", b"\n\r"])
def test_blank_lines_before_a_header_are_counted(blank: bytes, block_bytes: int) -> None:
    start = blank * 7
    lines = start.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")
    header, rows = _header(start + b"  store_id,timestamp_utc,status\ns,2023-01-22,active\n", block_bytes)
    assert header.feed == "polls"
    assert [row[0] for row in rows] == [lines + 2]


def test_millions_of_blank_lines_before_a_header_take_no_time() -> None:
    began = time.process_time()
    header, rows = _header(b"\r\n" * 2_000_000 + b"store_id,timestamp_utc,status\ns,2023-01-22,active\n")
    assert (header.feed, rows[0][0]) == ("polls", 2_000_002)
    assert time.process_time() - began < 2


def test_a_header_of_too_many_columns_is_a_sentence() -> None:
    headers.recognise("store_id,timestamp_utc,status" + ",x" * 997)
    with pytest.raises(DataError, match="the header has more than 1,000 columns, which no feed has"):
        headers.recognise("store_id,timestamp_utc,status" + ",x" * 998)


def test_a_header_with_an_open_quote_says_so() -> None:
    for data in (b'store_id,"timestamp_utc,status\ns1,x,active\n', b'"' + b"x\n" * 600_000):
        with pytest.raises(DataError, match=r"quote|no end within"):
            _header(data)
    with pytest.raises(DataError, match="fits no feed"):
        headers.recognise('"store_id"x,timestamp_utc,status')


def test_the_stream_is_read_once() -> None:
    class Once(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.left = io.BytesIO(data)
            self.total = 0

        def read(self, size: int = -1) -> bytes:
            piece = self.left.read(size)
            self.total += len(piece)
            return piece

    data = f'{POLLS}\n"{"x" * 300_000}",b,c\nd,e,f\n'.encode()
    stream = Once(data)
    reader = BlockReader(cast(BinaryIO, stream), lambda piece: None, 1 << 16)
    header = reader.header()
    assert [record.line for block in reader for record in block.records(header)] == [2, 3]
    assert stream.total == len(data)
