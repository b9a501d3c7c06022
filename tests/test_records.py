"""The row-exact road: bytes to records, whatever the bytes are."""

import pytest

from storemon_flask.ingest import records
from storemon_flask.ingest.records import Record


def _split(data: bytes, *, first_line: int = 1, last: bool = True) -> list[Record | bytes]:
    return list(records.split(data, first_line, 3, last))


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
    "empty fields": (b",,\n", [(1, ["", "", ""])]),
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
    "too few fields": (b"a,b\nd,e,f\n", 1, "a,b", records.FIELDS_FEW),
    "too many fields": (b"a,b,c,d\nd,e,f\n", 1, "a,b,c,d", records.FIELDS_MANY),
    "too few fields in quotes": (b'"a,b,c"\nd,e,f\n', 1, '"a,b,c"', records.FIELDS_FEW),
    "a NUL": (b"a\0,b,c\r\nd,e,f\n", 1, "a\0,b,c", records.NUL),
    "invalid UTF-8": (b"a\xff,b,c\nd,e,f\n", 1, "a\ufffd,b,c", records.NOT_UTF8),
    "half a character": (b"a\xc3,b,c\nd,e,f\n", 1, "a\ufffd,b,c", records.NOT_UTF8),
    "a surrogate": (b"\xed\xa0\x80,b,c\nd,e,f\n", 1, "\ufffd\ufffd\ufffd,b,c", records.NOT_UTF8),
    "a NUL inside a quoted line break": (b'"a\n\0",b,c\nd,e,f\n', 1, '"a\n\0",b,c', records.NUL),
    "invalid UTF-8 inside a quoted line break": (b'"a\n\xff",b,c\nd,e,f\n', 1, '"a\n\ufffd",b,c', records.NOT_UTF8),
    "text behind a closing quote": (b'"a"x,b,c\nd,e,f\n', 1, '"a"x,b,c', records.QUOTING),
}


@pytest.mark.parametrize(("data", "line", "text", "problem"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_read_says_why_and_the_next_one_is_read(
    data: bytes, line: int, text: str, problem: str
) -> None:
    bad, good = _split(data)
    assert isinstance(bad, Record)
    assert isinstance(good, Record)
    assert (bad.line, bad.text, bad.problem) == (line, text, problem)
    assert (good.fields, good.problem) == (["d", "e", "f"], "")


def test_a_forgotten_quote_costs_its_own_line_and_no_other() -> None:
    rest = b"".join(b"%d,b,c\n" % number for number in range(records.MAX_RECORD_LINES + 5))
    found = _split(b'"a,b,c\n' + rest)
    assert (found[0].line, found[0].text, found[0].problem) == (1, '"a,b,c', records.QUOTING)
    assert [record.fields[0] for record in found[1:]] == [str(number) for number in range(records.MAX_RECORD_LINES + 5)]
    assert found[-1].line == records.MAX_RECORD_LINES + 6


def test_a_quoted_field_may_have_as_many_lines_as_the_limit_says_and_not_one_more() -> None:
    breaks = b"\n" * (records.MAX_RECORD_LINES - 1)
    (record,) = _split(b'"a' + breaks + b'",b,c\n')
    assert record.fields == ["a" + breaks.decode(), "b", "c"]
    first, second = _split(b'"a' + breaks + b'\n",b,c\n')
    assert (first.line, first.text, first.problem) == (1, '"a', records.QUOTING)
    assert (second.line, second.text) == (records.MAX_RECORD_LINES + 1, '",b,c')


def test_a_quoted_field_across_lines_may_not_be_larger_than_the_limit() -> None:
    long = b"x" * (records.MAX_RECORD_BYTES - 20)
    (record,) = _split(b'"a\n' + long + b'",b,c\n')
    assert record.fields == ["a\n" + long.decode(), "b", "c"]
    first, second = _split(b'"a\n' + long + b"x" * 40 + b'",b,c\n')
    assert (first.line, first.problem) == (1, records.QUOTING)
    assert (second.line, second.fields[1:]) == (2, ["b", "c"])


def test_a_quoted_field_on_one_line_may_be_as_long_as_a_line() -> None:
    long = "x" * (records.MAX_LINE_BYTES - 7)
    (record,) = _split(f'"{long}",b,c\n'.encode())
    assert record.fields == [long, "b", "c"] or record.problem == records.LINE_LONG
    assert len(f'"{long}",b,c') == records.MAX_LINE_BYTES - 1
    assert record.problem == ""


@pytest.mark.parametrize(
    ("length", "problem"), [(records.MAX_LINE_BYTES, ""), (records.MAX_LINE_BYTES + 1, records.LINE_LONG)]
)
def test_a_line_may_be_as_long_as_the_limit_says_and_not_one_byte_more(length: int, problem: str) -> None:
    (record,) = _split(b"a,b," + b"c" * (length - 4) + b"\r\n")
    assert record.problem == problem


def test_an_unfinished_record_at_the_end_of_a_block_is_handed_back_whole() -> None:
    assert _split(b'a,b,c\nd,"e\n\nf\n', last=False)[1:] == [b'd,"e\n\nf\n']


def test_an_unfinished_record_at_the_end_of_the_file_is_rejected_line_by_line() -> None:
    found = _split(b'd,"e\nf\n')
    assert [(record.line, record.text, record.problem) for record in found] == [
        (1, 'd,"e', records.QUOTING),
        (2, "f", records.FIELDS_FEW),
    ]


def test_line_numbers_go_on_from_the_first_line_of_the_block() -> None:
    assert [record.line for record in _split(b'a,b,c\n"x\ny",b,c\nz\n', first_line=500)] == [500, 501, 503]


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", 0), (b"a", 0), (b"a\n", 1), (b"a\r\n", 1), (b"a\r", 1), (b"\n\r\n\r", 3), (b"\r\r\n\n", 3), (b"\n\r", 2)],
)
def test_every_kind_of_line_break_is_counted_once(data: bytes, lines: int) -> None:
    assert records.count_lines(data) == lines
