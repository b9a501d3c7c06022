"""The row-exact road: bytes to records, whatever the bytes are."""

import pytest

from storemon_flask.feeds import csv_exact
from storemon_flask.feeds.csv_exact import Record


def _split(data: bytes, *, first_line: int = 1) -> list[Record]:
    return list(csv_exact.split(data, first_line, 3, (0, 1, 2)))


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
    "too few fields": (b"a,b\nd,e,f\n", 1, "a,b", csv_exact.FIELDS_FEW),
    "too many fields": (b"a,b,c,d\nd,e,f\n", 1, "a,b,c,d", csv_exact.FIELDS_MANY),
    "too few fields in quotes": (b'"a,b,c"\nd,e,f\n', 1, '"a,b,c"', csv_exact.FIELDS_FEW),
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
    assert csv_exact.parse(raw, 1, 3, (0, 2)).fields == ["a", "", '"b"']
    assert csv_exact.parse(raw, 1, 3, (0, 1)).fields == ["a", "\n" * 70_000, ""]


def test_more_fields_than_the_header_has_are_not_all_taken_apart() -> None:
    for raw in (b"," * 100_000, b'"",' * 100_000):
        record = csv_exact.parse(raw, 1, 3, (0, 1, 2))
        assert (record.fields, record.problem) == ([""] * 4, csv_exact.FIELDS_MANY)


def test_line_numbers_go_on_from_the_first_line_of_the_block() -> None:
    assert [record.line for record in _split(b'a,b,c\n"x\ny",b,c\nz\n', first_line=500)] == [500, 501, 503]


@pytest.mark.parametrize(
    ("data", "lines"),
    [(b"", 0), (b"a", 0), (b"a\n", 1), (b"a\r\n", 1), (b"a\r", 1), (b"\n\r\n\r", 3), (b"\r\r\n\n", 3), (b"\n\r", 2)],
)
def test_every_kind_of_line_break_is_counted_once(data: bytes, lines: int) -> None:
    assert csv_exact.count_lines(data) == lines
