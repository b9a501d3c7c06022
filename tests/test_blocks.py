"""Blocks of whole lines: the same records whatever the size of a block and however the stream is cut, in bounded memory."""

import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ingest_helpers import POLLS, Cut

from storemon_flask.errors import DataError
from storemon_flask.ingest import blocks, records
from storemon_flask.ingest.blocks import Block, BlockReader
from storemon_flask.ingest.feeds import Header

HEAD = f"{POLLS}\n".encode()
Row = tuple[int, list[str], str, str]


def _reader(data: bytes, block_bytes: int = 16, sizes: Iterable[int] = ()) -> BlockReader:
    return BlockReader(Cut(data, sizes), lambda piece: None, block_bytes)


def _rows(reader: BlockReader) -> Iterator[Row]:
    """Every record behind the header, as the feeds read them."""
    header = reader.header()
    for block in reader:
        if block.overlong:
            yield block.line, [], block.overlong.decode("utf-8", "replace")[:1000], records.LINE_LONG
            continue
        for record in records.split(block.data, block.line, header.width, block.last):
            if isinstance(record, bytes):
                reader.give_back(record)
                break
            yield record.line, [] if record.problem else record.fields, record.text[:1000], record.problem


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
        assert (block.line, block.overlong) == (line, b"")
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
        (b"x" * (records.MAX_LINE_BYTES + 5), "no end within 1,048,576 bytes"),
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


@pytest.mark.parametrize("block_bytes", [1 << 16, 1_000_003, 1 << 20, 1 << 22])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_overlong_line_is_rejected_and_the_line_behind_it_is_read(block_bytes: int, end: bytes) -> None:
    data = HEAD + b"a,b,c" + end + b"y" * 3_000_000 + end + b"d,e,f" + end + b"g,h,i" + end
    assert list(_rows(_reader(data, block_bytes))) == [
        (2, ["a", "b", "c"], "a,b,c", ""),
        (3, [], "y" * 1000, records.LINE_LONG),
        (4, ["d", "e", "f"], "d,e,f", ""),
        (5, ["g", "h", "i"], "g,h,i", ""),
    ]


def test_an_overlong_line_that_ends_in_a_lone_return_at_the_end_of_a_read_does_not_swallow_the_next_line() -> None:
    long = b"y" * (records.MAX_LINE_BYTES + 100)
    data = HEAD + long + b"\rd,e,f\ng,h,i\n"
    expected = [
        (2, [], "y" * 1000, records.LINE_LONG),
        (3, ["d", "e", "f"], "d,e,f", ""),
        (4, ["g", "h", "i"], "g,h,i", ""),
    ]
    assert _whole(data) == expected
    # The return is the last byte held when the line is found too long; then: the last of a piece that is read over.
    assert list(_rows(_reader(data, 1 << 20, [len(HEAD), 1 << 20, 101, 1 << 20]))) == expected
    assert list(_rows(_reader(data, 1 << 20, [len(HEAD), 1 << 20, 50, 51, 1 << 20]))) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("spare", [0, 1])
def test_the_limit_of_a_line_is_the_same_wherever_a_read_ends(end: bytes, spare: int) -> None:
    longest = b"a,b," + b"c" * (records.MAX_LINE_BYTES - 4 + spare)
    data = HEAD + longest + end + b"d,e,f" + end
    problem = records.LINE_LONG if spare else ""
    for more in (0, 1, 2):
        found = list(_rows(_reader(data, 1 << 20, [len(HEAD), len(longest) - 1, 1 + more, 1 << 20])))
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


@pytest.mark.parametrize(
    ("head", "first"),
    [
        pytest.param(b"", [], id="alone"),
        pytest.param(b"a,b,c\n", [(2, ["a", "b", "c"], "a,b,c", "")], id="behind a good line"),
        pytest.param(b'"open\n', [(2, [], '"open', records.QUOTING)], id="behind an open quote"),
    ],
)
def test_a_line_of_forty_megabytes_is_never_held_whole(head: bytes, first: list[Row]) -> None:
    stream = _Generated(HEAD + head, b"z" * (1 << 20), 40, b"\nd,e,f\n")
    reader = BlockReader(stream, lambda piece: None, 1 << 20)
    tracemalloc.start()
    try:
        found = list(_rows(reader))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    line = 2 + len(first)
    assert found == [
        *first,
        (line, [], "z" * 1000, records.LINE_LONG),
        (line + 1, ["d", "e", "f"], "d,e,f", ""),
    ]
    assert peak < 16 << 20


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
def test_the_records_do_not_depend_on_where_blocks_end_when_limits_are_met_often(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], block_bytes: int, cuts: list[int]
) -> None:
    limit = 40
    for module in (blocks, records):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", limit)
    monkeypatch.setattr(records, "MAX_RECORD_LINES", 4)
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 30)

    def comparable(rows: Iterable[Row]) -> list[Row]:
        # With a limit this small an overlong line is dropped before a thousand characters of it are known.
        return [
            (line, fields, text[: limit // 4].split("\r")[0] if bad == records.LINE_LONG else text, bad)
            for line, fields, text, bad in rows
        ]

    data = HEAD + b"".join(pieces)
    assert comparable(_rows(_reader(data, block_bytes, cuts))) == comparable(_whole(data))


def test_a_block_given_back_comes_again_with_more_and_with_its_own_line_number() -> None:
    reader = _reader(HEAD + b'a,b,c\n"x\ny\n",b,c\n', 12)
    reader.header()
    blocks_ = iter(reader)
    first = next(blocks_)
    assert (first.line, first.data[:6]) == (2, b"a,b,c\n")
    reader.give_back(first.data[6:])
    assert next(blocks_) == Block(3, b'"x\ny\n",b,c\n', True)
