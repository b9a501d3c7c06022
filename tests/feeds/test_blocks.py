"""Blocks of whole lines: the same records whatever the size of a block and however the stream is cut, in bounded
memory.
"""

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ingest_helpers import POLLS, Cut

from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact
from storemon_flask.feeds.csv_exact import BlockReader
from storemon_flask.feeds.headers import Header

HEAD = f"{POLLS}\n".encode()
Row = tuple[int, list[str], str, str]


def _reader(data: bytes, block_bytes: int = 16, sizes: Iterable[int] = ()) -> BlockReader:
    return BlockReader(Cut(data, sizes), lambda piece: None, block_bytes)


def _rows(reader: BlockReader) -> Iterator[Row]:
    """Every record behind the header, as the feeds read them."""
    header = reader.header()
    for block in reader:
        for record in block.records(header):
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
    assert _reader(b'x,"Status",Timestamp UTC,y,STORE_ID\r\n').header() == Header("polls", 5, (4, 2, 1))


def test_blocks_are_whole_lines_numbered_from_their_first() -> None:
    reader = _reader(HEAD + b"a,b,c\nd,e,f\r\ng,h,i\nj", 12)
    reader.header()
    found = list(reader)
    assert b"".join(block.data for block in found) == b"a,b,c\nd,e,f\r\ng,h,i\nj"
    assert len(found) > 1
    line = 2
    for block in found:
        assert (block.line, block.problem) == (line, "")
        assert block.last or block.data.endswith(b"\n")
        line += block.data.count(b"\n")
    assert [block.last for block in found] == [False] * (len(found) - 1) + [True]


def test_everything_read_is_told_in_order() -> None:
    told: list[bytes] = []
    data = b"\xef\xbb\xbf" + HEAD + b"a,b,c\n" * 50 + b"x" * 3000 + b"\nend"
    reader = BlockReader(Cut(data, [7, 1, 50]), told.append, 64)
    assert len(list(_rows(reader))) == 52
    assert b"".join(told) == data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\n\r\n  \n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        ("store_id,timestamp_utc,status\n".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\0s\0t", "UTF-16"),
        ("store_id,timestamp_utc,status\n".encode("utf-16-le"), "NUL bytes"),
        (b"store_id,timestamp_utc,stat\xff\n", "not UTF-8"),
        (b"PK\3\4\0\0\0\n", "NUL bytes"),
        (b"x" * (csv_exact.MAX_HEADER_BYTES + 5), "no end within 1,048,576 bytes"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 22])
def test_a_file_without_a_header_says_what_is_wrong_with_it(data: bytes, sentence: str, block_bytes: int) -> None:
    with pytest.raises(DataError) as bad:
        _reader(data, block_bytes).header()
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
        found = list(_rows(_reader(data, 1 << 20, [len(HEAD), len(longest) - 1, 1 + more, 1 << 20])))
        assert [(line, bad) for line, _, _, bad in found] == [(2, problem), (3, "")]
        found = list(_rows(_reader(data, 1 << 18, [len(HEAD), len(longest) - 1, 1 + more, 1 << 20])))
        assert [(line, bad) for line, _, _, bad in found] == [(2, problem), (3, "")]


class _Generated(Cut):
    """A head, then `count` times the filler, then a tail: a long file that takes no memory itself."""

    def __init__(self, head: bytes, filler: bytes, count: int, tail: bytes) -> None:
        super().__init__(head, [len(head)])
        self._filler, self._count, self._tail = filler, count, tail

    def read(self, size: int = -1) -> bytes:
        piece = super().read(size)
        if piece:
            return piece
        if self._count:
            self._count -= 1
            return self._filler
        piece, self._tail = self._tail, b""
        return piece


@pytest.mark.parametrize("filler", [b"z", b'""', b"\xf0\x9f\x8d\x95", b",", b'"",', b"a,b\n"], ids=repr)
@pytest.mark.parametrize(("opening", "closing"), [(b"", b""), (b'"', b'"'), (b'"', b"")])
def test_24_megabytes_of_anything_are_read_once_and_never_held(filler: bytes, opening: bytes, closing: bytes) -> None:
    if not opening and filler == b"a,b\n":
        pytest.skip("these are rows")
    block_bytes = 1 << 20
    piece = filler * (block_bytes // len(filler))
    stream = _Generated(HEAD + b"a,b,c\n" + opening, piece, 24, closing + b"\nd,e,f\n")
    reader = BlockReader(stream, lambda piece: None, block_bytes)
    header = reader.header()
    problems: Counter[str] = Counter()
    last = []
    tracemalloc.start()
    started = time.process_time()
    try:
        for block in reader:
            for record in block.records(header):
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
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], block_bytes: int, cuts: list[int]
) -> None:
    monkeypatch.setattr(csv_exact, "MAX_RECORD_BYTES", 40)
    data = HEAD + b"".join(pieces)
    assert list(_rows(_reader(data, block_bytes, cuts))) == _whole(data)
