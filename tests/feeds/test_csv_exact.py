"""The exact reader: blocks and records as Python's csv module divides them, in bounded memory; and every reader against
that module.
"""

import codecs
import csv
import io
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from load_helpers import POLLS, READERS, Cut, read_polls, records_of, us

from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact, readers, schema
from storemon_flask.feeds.csv_exact import Block, BlockReader, Record, RejectLog, parse
from storemon_flask.feeds.schema import BadValue, Header

HEADER = Header("polls", 3, (0, 1, 2))


def _split(data: bytes, *, first_line: int = 1) -> list[Record]:
    return list(records_of(Block(first_line, data, True, edges=csv_exact.quote_edges(data)), HEADER))


GOOD = {
    "a line": (b"a,b,c\n", [(1, ["a", "b", "c"])]),
    "a line without its break": (b"a,b,c", [(1, ["a", "b", "c"])]),
    "three kinds of line break": (
        b"a,b,c\r\nd,e,f\rg,h,i\nj,k,l",
        [(1, ["a", "b", "c"]), (2, ["d", "e", "f"]), (3, ["g", "h", "i"]), (4, ["j", "k", "l"])],
    ),
    "blank lines count as lines and are no rows": (
        b"\na,b,c\n\n  \t\r\n\r\rd,e,f\n\n",
        [(2, ["a", "b", "c"]), (7, ["d", "e", "f"])],
    ),
    "empty fields": (b"a,,\n,,c\n", [(1, ["a", "", ""]), (2, ["", "", "c"])]),
    "rows without a value are no rows": (
        b'a,b,c\n,,\n,\n , \t,,,,,\r\n"",,""\n"\n"," ",\n\n,,"""",\nd,e,f\n,,',
        [(1, ["a", "b", "c"]), (9, ["", "", '"', ""]), (10, ["d", "e", "f"])],
    ),
    "blanks stay": (b" a , b , c \n", [(1, [" a ", " b ", " c "])]),
    "quotes": (b'"a","b","c"\n', [(1, ["a", "b", "c"])]),
    "a comma in quotes": (b'"a,1",b,c\n', [(1, ["a,1", "b", "c"])]),
    "a doubled quote": (b'"a""1",b,c\n', [(1, ['a"1', "b", "c"])]),
    "a quote in the middle of a field": (b'a"1,b,c\n', [(1, ['a"1', "b", "c"])]),
    "a quoted line break": (b'"a\n1",b,c\nd,e,f\n', [(1, ["a\n1", "b", "c"]), (3, ["d", "e", "f"])]),
    "a quoted CRLF": (b'"a\r\n1",b,c\r\nd,e,f\r\n', [(1, ["a\r\n1", "b", "c"]), (3, ["d", "e", "f"])]),
    "quoted blank lines": (b'a,"\n\n\n",c\nd,e,f\n', [(1, ["a", "\n\n\n", "c"]), (5, ["d", "e", "f"])]),
    "unicode": ("é,店,🍕\n".encode(), [(1, ["é", "店", "🍕"])]),
    "line breaks of unicode are none": ("a\u2028\x85\x0b\x0c,b,c\n".encode(), [(1, ["a\u2028\x85\x0b\x0c", "b", "c"])]),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), GOOD.values(), ids=GOOD)
def test_rows_come_out_with_their_line_and_fields(data: bytes, expected: list[tuple[int, list[str]]]) -> None:
    assert [(record.line, record.fields) for record in _split(data)] == expected


BAD = {
    "too few fields": (b"a,b\nd,e,f\n", 1, "a,b", csv_exact.FIELDS_FEW),
    "too many fields": (b"a,b,c,d\nd,e,f\n", 1, "a,b,c,d", csv_exact.FIELDS_MANY),
    "too few fields in quotes": (b'"a,b"\nd,e,f\n', 1, '"a,b"', csv_exact.FIELDS_FEW),
    "a whole row in quotes": (b'"a,b,""c"""\nd,e,f\n', 1, '"a,b,""c"""', csv_exact.WRAPPED),
    "a NUL": (b"a\0,b,c\r\nd,e,f\n", 1, "a\0,b,c", csv_exact.NUL),
    "invalid UTF-8": (b"a\xff,b,c\nd,e,f\n", 1, "a\ufffd,b,c", csv_exact.NOT_UTF8),
    "half a character": (b"a\xc3,b,c\nd,e,f\n", 1, "a\ufffd,b,c", csv_exact.NOT_UTF8),
    "a surrogate": (b"\xed\xa0\x80,b,c\nd,e,f\n", 1, "\ufffd\ufffd\ufffd,b,c", csv_exact.NOT_UTF8),
    "a NUL inside a quoted line break": (b'"a\n\0",b,c\nd,e,f\n', 1, '"a\n\0",b,c', csv_exact.NUL),
    "invalid UTF-8 inside a quoted line break": (b'"a\n\xff",b,c\nd,e,f\n', 1, '"a\n\ufffd",b,c', csv_exact.NOT_UTF8),
    "text behind a closing quote": (b'"a"x,b,c\nd,e,f\n', 1, '"a"x,b,c', csv_exact.QUOTING),
}


@pytest.mark.parametrize(("data", "line", "text", "problem"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_read_says_why_and_the_next_one_is_read(
    data: bytes, line: int, text: str, problem: str
) -> None:
    bad, good = _split(data)
    assert (bad.line, bad.text, bad.problem) == (line, text, problem)
    assert (good.fields, good.problem) == (["d", "e", "f"], "")


def test_a_row_may_be_as_long_as_the_limit_says_and_not_one_byte_more() -> None:
    for quote in (b"", b'"'):
        longest = b"a,b," + quote + b"c" * (csv_exact.MAX_RECORD_BYTES - 4 - 2 * len(quote)) + quote
        (record,) = _split(longest + b"\r\n")
        assert (record.problem, record.fields[2], len(record.text)) == ("", longest[4:].strip(b'"').decode(), 1000)
        (record,) = _split(longest.replace(b"a", b"ab") + b"\n")
        assert (record.problem, record.text) == (
            csv_exact.TOO_LONG,
            longest[:1000].replace(b"a", b"ab")[:1000].decode(),
        )


def test_of_a_large_record_only_the_columns_of_the_feed_are_decoded() -> None:
    raw = b'a,"' + b"\n" * 70_000 + b'","""b"""'
    assert csv_exact.parse(raw, 1, Header("special", 3, (0, 2))).fields == ["a", "", '"b"']
    assert csv_exact.parse(raw, 1, Header("special", 3, (0, 1))).fields == ["a", "\n" * 70_000, ""]


def test_more_fields_than_the_header_has_are_not_all_taken_apart() -> None:
    for raw in (b"," * 100_000, b'"",' * 100_000):
        record = csv_exact.parse(raw, 1, HEADER)
        assert (record.fields, record.problem) == ([""] * 4, csv_exact.FIELDS_MANY)


def test_line_numbers_go_on_from_the_first_line_of_the_block() -> None:
    assert [record.line for record in _split(b'a,b,c\n"x\ny",b,c\nz\n', first_line=500)] == [500, 501, 503]


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", 0), (b"a", 0), (b"a\n", 1), (b"a\r\n", 1), (b"a\r", 1), (b"\n\r\n\r", 3), (b"\r\r\n\n", 3), (b"\n\r", 2)],
)
def test_every_kind_of_line_break_is_counted_once(data: bytes, lines: int) -> None:
    assert csv_exact.count_lines(data) == lines


HEAD = f"{POLLS}\n".encode()
Row = tuple[int, list[str], str, str]


def _reader(data: bytes, block_bytes: int = 16, sizes: Iterable[int] = ()) -> BlockReader:
    return BlockReader(Cut(data, sizes), lambda chunk: None, block_bytes)


def _rows(reader: BlockReader) -> Iterator[Row]:
    """Every record behind the header, as the feeds read them."""
    header = reader.header
    for block in reader:
        for record in records_of(block, header):
            yield record.line, [] if record.problem else record.fields, record.text, record.problem


def _whole(data: bytes) -> list[Row]:
    return list(_rows(_reader(data, 1 << 22)))


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 29, 30, 31, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_header_is_found_whatever_the_size_of_a_block(block_bytes: int, end: str) -> None:
    data = b"\xef\xbb\xbf" + f"{end}  {end}{POLLS}{end}a,b,c{end}d,e,f".encode()
    reader = _reader(data, block_bytes)
    assert list(_rows(reader)) == [(4, ["a", "b", "c"], "a,b,c", ""), (5, ["d", "e", "f"], "d,e,f", "")]


def test_the_header_says_where_the_columns_are() -> None:
    assert _reader(b'x,"Status",Timestamp UTC,y,STORE_ID\r\n').header == Header("polls", 5, (4, 2, 1))


def test_blocks_are_whole_lines_numbered_from_their_first() -> None:
    reader = _reader(HEAD + b"a,b,c\nd,e,f\r\ng,h,i\nj", 12)
    actual = list(reader)
    assert b"".join(block.data for block in actual) == b"a,b,c\nd,e,f\r\ng,h,i\nj"
    assert len(actual) > 1
    line = 2
    for block in actual:
        assert block.line == line
        assert block.last or block.data.endswith(b"\n")
        line += block.data.count(b"\n")
    assert [block.last for block in actual] == [False] * (len(actual) - 1) + [True]


def test_everything_read_is_reported_in_order() -> None:
    received: list[bytes] = []
    data = b"\xef\xbb\xbf" + HEAD + b"a,b,c\n" * 50 + b"x" * 3000 + b"\nend"
    reader = BlockReader(Cut(data, [7, 1, 50]), received.append, 64)
    assert len(list(_rows(reader))) == 52
    assert b"".join(received) == data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\n\r\n  \n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        ("store_id,timestamp\n".encode("utf-16"), "fits no feed"),
        (b"\xfe\xff\0s\0t", "fits no feed"),
        (b"\xff\xfe\0\0s\0\0\0", "NUL bytes"),
        (b"\xff\xfe\xff\xfe\n\0", "the file is empty"),
        (b",,;\n\n\t,\n", "the file is empty"),
        (b"sep=;\n\n", "the file is empty"),
        ("store_id,timestamp_utc,status\n".encode("utf-16-le"), "NUL bytes"),
        (b"store_id,timestamp_utc,stat\xff\n", "not UTF-8"),
        (b"PK\3\4\0\0\0\n", "compressed more than once, or a workbook"),
        (b"x" * (csv_exact.MAX_HEADER_BYTES + 5), "no end within 1,048,576 bytes"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 22])
def test_a_file_without_a_header_says_what_is_wrong_with_it(data: bytes, sentence: str, block_bytes: int) -> None:
    with pytest.raises(DataError) as bad:
        _reader(data, block_bytes)
    assert sentence in bad.value.message


@pytest.mark.parametrize("block_bytes", range(1, 40))
def test_a_quoted_line_break_survives_every_place_a_block_can_end(block_bytes: int) -> None:
    data = HEAD + b'a,"one\r\n\r\ntwo",c\r\nd,"e ""1""",f\rg,h,i'
    assert list(_rows(_reader(data, block_bytes))) == [
        (2, ["a", "one\r\n\r\ntwo", "c"], 'a,"one\r\n\r\ntwo",c', ""),
        (5, ["d", 'e "1"', "f"], 'd,"e ""1""",f', ""),
        (6, ["g", "h", "i"], "g,h,i", ""),
    ]


LIMIT = 3_000_000


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit of a record that is quickly passed."""
    monkeypatch.setattr(csv_exact, "MAX_RECORD_BYTES", LIMIT)
    return LIMIT


@pytest.mark.parametrize("block_bytes", [1 << 16, 1_000_003, 1 << 20, 1 << 22])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("filler", [b"y", b'"y\n,"",\r\n\r"'])
def test_a_record_too_long_is_rejected_alone(limit: int, block_bytes: int, end: bytes, filler: bytes) -> None:
    long = filler * (limit // len(filler) + 1)
    data = HEAD + b"a,b,c" + end + long + end + b"d,e,f" + end + b"g,h,i" + end
    lines = 1 + csv_exact.count_lines(long)
    assert list(_rows(_reader(data, block_bytes))) == [
        (2, ["a", "b", "c"], "a,b,c", ""),
        (3, [], long[:1000].decode(), csv_exact.TOO_LONG),
        (3 + lines, ["d", "e", "f"], "d,e,f", ""),
        (4 + lines, ["g", "h", "i"], "g,h,i", ""),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("quote", [b"", b'"'])
def test_the_limit_of_a_record_is_the_same_wherever_a_read_ends(
    limit: int, end: bytes, spare: int, quote: bytes
) -> None:
    longest = b"a,b," + quote + b"c" * (limit - 4 - 2 * len(quote) + spare) + quote
    data = HEAD + longest + end + b"d,e,f" + end
    problem = csv_exact.TOO_LONG if spare else ""
    for more in (0, 1, 2):
        actual = list(_rows(_reader(data, 1 << 20, [len(HEAD), len(longest) - 1, 1 + more, 1 << 20])))
        assert [(line, bad) for line, _, _, bad in actual] == [(2, problem), (3, "")]
        actual = list(_rows(_reader(data, 1 << 18, [len(HEAD), len(longest) - 1, 1 + more, 1 << 20])))
        assert [(line, bad) for line, _, _, bad in actual] == [(2, problem), (3, "")]


class _Generated(Cut):
    """A head, then `count` times the filler, then a tail: a long file that takes no memory itself."""

    def __init__(self, head: bytes, filler: bytes, count: int, tail: bytes) -> None:
        super().__init__(head, [len(head)])
        self._filler, self._count, self._tail = filler, count, tail

    def read(self, size: int = -1) -> bytes:
        chunk = super().read(size)
        if chunk:
            return chunk
        if self._count:
            self._count -= 1
            return self._filler
        chunk, self._tail = self._tail, b""
        return chunk


@pytest.mark.parametrize("filler", [b"z", b'""', b"\xf0\x9f\x8d\x95", b",", b'"",', b"a,b\n"], ids=repr)
@pytest.mark.parametrize(("opening", "closing"), [(b"", b""), (b'"', b'"'), (b'"', b"")])
def test_24_megabytes_of_anything_are_read_once_and_never_held(filler: bytes, opening: bytes, closing: bytes) -> None:
    if not opening and filler == b"a,b\n":
        pytest.skip("these are rows")
    block_bytes = 1 << 20
    chunk = filler * (block_bytes // len(filler))
    stream = _Generated(HEAD + b"a,b,c\n" + opening, chunk, 24, closing + b"\nd,e,f\n")
    reader = BlockReader(stream, lambda chunk: None, block_bytes)
    header = reader.header
    problems: Counter[str] = Counter()
    last = []
    tracemalloc.start()
    started = time.process_time()
    try:
        for block in reader:
            for record in records_of(block, header):
                problems[record.problem] += 1
                last = record.fields
        seconds = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 96 << 20
    assert seconds < 60
    if opening and not closing:
        assert problems == {"": 1, csv_exact.UNCLOSED: 1}
    else:
        assert sum(problems.values()) == 3
        assert last == ["d", "e", "f"]


_pieces = st.sampled_from(
    [b"a", b"b", b",", b",", b'"', b'"', b'""', b"\n", b"\n", b"\r", b"\r\n", b"\0", b"\xff", "é".encode(), b" "]
    + [b"a,b,c\n", b'd,"e",f\r\n', b'"g\n', b'h",i,j\n', b"k,l,m\r", b"\n\n"]
)
_texts = st.lists(_pieces, max_size=40).map(b"".join)
_cuts = st.lists(st.integers(1, 40), max_size=6)


@settings(max_examples=300)
@given(_texts, st.integers(1, 80), _cuts)
def test_the_records_do_not_depend_on_where_blocks_end(text: bytes, block_bytes: int, cuts: list[int]) -> None:
    assert list(_rows(_reader(HEAD + text, block_bytes, cuts))) == _whole(HEAD + text)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@example([b"y" * 50, b"\r", b"a,b,c\n"], 51 + len(HEAD), [])
@given(
    st.lists(st.one_of(_pieces, st.integers(30, 60).map(lambda n: b"y" * n)), max_size=40), st.integers(1, 80), _cuts
)
def test_the_records_do_not_depend_on_where_blocks_end_when_the_limit_is_met_often(
    monkeypatch: pytest.MonkeyPatch, chunks: list[bytes], block_bytes: int, cuts: list[int]
) -> None:
    monkeypatch.setattr(csv_exact, "MAX_RECORD_BYTES", 40)
    data = HEAD + b"".join(chunks)
    assert list(_rows(_reader(data, block_bytes, cuts))) == _whole(data)


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
        problem = _problem(raw, whole, len(fields), width) if whole.strip() else ""
        misquoted = problem in (csv_exact.QUOTING, csv_exact.UNCLOSED, "either")
        if misquoted or any(cell.strip(" \t\n\r\v\f") for cell in fields):
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
    if count == 1 and whole.startswith(b'"') and whole.count(b",") >= width - 1 and not quoting:
        return csv_exact.WRAPPED
    return quoting or ("" if count == width else csv_exact.FIELDS_FEW if count < width else csv_exact.FIELDS_MANY)


def _open_at_the_end(raw: list[str]) -> bool:
    """Whether lenient reading would go on: it takes a further line into the same record."""
    reader = csv.reader([*raw, "more\n"] if raw[-1].endswith(("\r", "\n")) else [*raw, "\n", "more\n"])
    next(reader)
    return reader.line_num > len(raw) + (not raw[-1].endswith(("\r", "\n")))


def by_blocks(data: bytes, block_bytes: int, cuts: Iterable[int] = ()) -> list[Row]:
    rows = _rows(_reader(HEAD + data, block_bytes, cuts))
    return [(line - 1, fields, text, problem) for line, fields, text, problem in rows]


def same(actual: list[Row], expected: list[Row]) -> None:
    quoting = (csv_exact.QUOTING, csv_exact.FIELDS_MANY)
    assert [row[:3] for row in actual] == [row[:3] for row in expected]
    for row, book in zip(actual, expected, strict=True):
        assert row[3] == book[3] or (book[3] == "either" and row[3] in quoting)


_csv_pieces = st.sampled_from(
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
_files = st.lists(_csv_pieces, max_size=40).map(b"".join)


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
    reader = BlockReader(Cut(data, ()), lambda chunk: None, block_bytes)
    log = RejectLog()
    actual = []
    for block in readers.read_small_feed(reader, reader.header, log, set(), schema.DaysOfWeek()):
        codes = zip(block.line.tolist(), *(code.tolist() for code in block.codes), strict=True)
        actual += [(line, block.values[0][store], block.values[1][name]) for line, store, name, *_ in codes]
    good, bad = [], []
    for line, fields, text, problem in by_csv(data, 2)[1:]:
        try:
            if problem:
                raise BadValue(problem)
            good.append((line, schema.parse_store_id(fields[0]), schema.parse_name(fields[1])))
        except BadValue as error:
            bad.append((line, str(error), text))
    assert actual == good
    assert [(reject.line, reject.reason, reject.text) for reject in log.rejects] == bad


def test_a_field_with_line_breaks_never_becomes_polls_of_stores_that_do_not_exist() -> None:
    inner = "ghost,2023-01-22 12:00:00 UTC,active\n" * 2000
    data = (
        f'{POLLS},note\ns1,2023-01-22 12:00:00 UTC,active,{_quoted(inner)}\ns2,2023-01-22 12:00:00 UTC,maybe,""\n'
    ).encode()
    noon = us("2023-01-22T12:00:00")
    for exact in READERS:
        for block_bytes in (1000, 1 << 16, 1 << 22):
            accepted, rejected, count = read_polls(data, block_bytes, exact=exact)
            assert accepted == [("s1", noon, True)]
            assert rejected == [(2003, schema.STATUS, 's2,2023-01-22 12:00:00 UTC,maybe,""')]
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
    assert [row[:2] for row in expected[1]] == [(53, schema.STATUS), (154, schema.STATUS)]
    assert len(expected[0]) == 2998
    read_exactly: list[bytes] = []
    monkeypatch.setattr(csv_exact, "parse", lambda raw, *rest: read_exactly.append(raw) or parse(raw, *rest))
    assert read_polls(data) == expected
    assert len(read_exactly) < 70


def _header(data: bytes, block_bytes: int = 1 << 20) -> tuple[Header, list[Row]]:
    reader = BlockReader(Cut(data, ()), lambda chunk: None, block_bytes)
    header = reader.header
    return header, [
        (record.line, record.fields, record.text, record.problem)
        for block in reader
        for record in records_of(block, header)
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


def test_a_header_with_an_open_quote_says_so() -> None:
    for data in (b'store_id,"timestamp_utc,status\ns1,x,active\n', b'"' + b"x\n" * 600_000):
        with pytest.raises(DataError, match=r"quote|no end within"):
            _header(data)
    with pytest.raises(DataError, match="fits no feed"):
        schema.recognise('"store_id"x,timestamp_utc,status')


def test_the_stream_is_read_once() -> None:
    class Once(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.left = io.BytesIO(data)
            self.total = 0

        def read(self, size: int = -1) -> bytes:
            chunk = self.left.read(size)
            self.total += len(chunk)
            return chunk

    data = f'{POLLS}\n"{"x" * 300_000}",b,c\nd,e,f\n'.encode()
    stream = Once(data)
    reader = BlockReader(cast(BinaryIO, stream), lambda chunk: None, 1 << 16)
    header = reader.header
    assert [record.line for block in reader for record in records_of(block, header)] == [2, 3]
    assert stream.total == len(data)
