"""Feeds as JSON and NDJSON: the records that `json` reads, however the bytes are cut; broken text, and bounded memory."""

import io
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from load_helpers import Cut

from storemon_flask.errors import NotJson
from storemon_flask.feeds import json_rows, schema
from storemon_flask.feeds.csv_exact import Record
from storemon_flask.feeds.json_rows import MAX_ROW_CHARACTERS, NOT_AN_OBJECT, NOT_JSON, TOO_DEEP


def read(data: bytes, form: str = "json", feed: str = "polls", sizes: Iterable[int] = ()) -> list[Record]:
    """All records of a stream that is cut as `sizes` say; everything read must have been passed on."""
    received: list[bytes] = []
    stream: Any = Cut(data, sizes)
    actual = [record for batch in json_rows.read(stream, form, feed, received.append) for record in batch]
    assert b"".join(received) == data
    return actual


def refused(data: bytes, sizes: Iterable[int] = ()) -> str:
    """The sentence with which a JSON body is refused."""
    with pytest.raises(NotJson) as error:
        read(data, sizes=sizes)
    assert error.value.message.startswith("the body is not a JSON object or a list of them: ")
    assert error.value.message.endswith("; nothing of it was stored")
    assert error.value.status == 400
    return error.value.message


class Number(str):
    """The digits of a number, as they were written."""

    __slots__ = ()


class Real(Number):
    """The digits of one with a fraction or an exponent."""

    __slots__ = ()


def expected_records(text: str, feed: str) -> list[tuple[list[str], str]]:
    """Fields and problem of every row by a plain `json.loads`; the rules as SPEC 2 says them, not as the reader does."""
    rows = json.loads(text, parse_int=Number, parse_float=Real, object_pairs_hook=tuple)
    actual: list[tuple[list[str], str]] = []
    for row in rows:
        if not isinstance(row, tuple):
            actual.append(([""] * json_rows.header_of(feed).width, NOT_AN_OBJECT))
            continue
        values: list[list[Any]] = [[] for _ in schema.FEEDS[feed]]
        for key, value in row:
            for index, column in enumerate(schema.FEEDS[feed]):
                if key.strip().lower().replace(" ", "").replace("_", "") in column.spellings:
                    values[index].append(value)
        problems = [
            f"{schema.FEEDS[feed][index].name} is given twice" for index, sent in enumerate(values) if len(sent) > 1
        ]
        missing = []
        for column, sent in zip(schema.FEEDS[feed], values, strict=True):
            problems += [problem for value in sent if (problem := wrong(column.name, value))]
            if not sent and not column.optional:
                missing.append(f"{column.name} is missing")
        fields = [as_text(one[-1]) if one else "" for one in values]
        if values[0] and isinstance(values[0][-1], (Real, bool)):
            fields[0] = ""
        # A store's tags are one more field, and there are none here.
        fields += [""] * (json_rows.header_of(feed).width - len(fields))
        actual.append((fields, "; ".join(problems or missing[:1])))
    return actual


A_REAL = "a number with a fraction or an exponent, which may have lost digits: send ids as text"


def wrong(name: str, value: Any) -> str:
    """What is wrong about a column's value, or nothing."""
    if isinstance(value, (tuple, list)):
        return f"{name} is {'an object' if isinstance(value, tuple) else 'a list'}"
    if name == "store_id" and isinstance(value, Real):
        return f"store_id is {A_REAL}"
    if name == "store_id" and isinstance(value, bool):
        return "store_id is true or false"
    half = isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)
    return f"{name} is no text" if half else ""


def as_text(value: Any) -> str:
    if value is None or isinstance(value, (tuple, list)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return "" if any("\ud800" <= letter <= "\udfff" for letter in text) else text


def same(actual: list[Record], book: list[tuple[list[str], str]]) -> None:
    """The records are those of the book; of a row's problems, the first that is met is named."""
    assert len(actual) == len(book)
    for number, (record, (fields, problem)) in enumerate(zip(actual, book, strict=True), start=1):
        assert record.line == number
        assert record.fields == fields
        assert record.problem in problem.split("; ")


SPELLINGS = ["store_id", "Store ID", "STOREID", " storeId ", "timestamp_utc", "TimestampUTC", "status", "Status", "day"]


keys = st.one_of(st.sampled_from(SPELLINGS), st.text(max_size=8), st.just("\ud800"), st.just("x" * 300))


numbers = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,400})", fullmatch=True),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})\.[0-9]{1,40}([eE][-+]?[0-9]{1,6})?", fullmatch=True),
)


texts = st.one_of(
    st.text(max_size=30), st.text(st.characters(codec=None), max_size=5), st.sampled_from(["\0", "\ud83d", "é" * 50])
).map(json.dumps)


plain = st.one_of(texts, numbers, st.sampled_from(["true", "false", "null"]))


any_values = st.one_of(
    plain,
    st.lists(plain, max_size=3).map(lambda actual: f"[{', '.join(actual)}]"),
    st.lists(st.tuples(keys.map(json.dumps), plain), max_size=2).map(
        lambda actual: "{" + ",".join(f"{key}:{value}" for key, value in actual) + "}"
    ),
)


@st.composite
def objects(draw: st.DrawFn) -> str:
    """An object as text: what a feed's row should be, or nearly so."""
    pairs = draw(st.lists(st.tuples(keys, any_values), max_size=3))
    if draw(st.booleans()):
        pairs += [(name, draw(plain)) for name in ("status", "Timestamp_UTC", "store id")]
    order = draw(st.permutations(pairs))
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in order) + "}"


rows_of_text = st.lists(st.one_of(objects(), objects(), plain), max_size=6)


cuts = st.one_of(st.just([1]), st.just([7]), st.lists(st.integers(1, 300), min_size=1, max_size=5), st.just([]))


feed_names = st.sampled_from(sorted(schema.FEEDS))


@given(rows_of_text, cuts, feed_names, st.sampled_from(["", " ", "\n", "\r\n\t "]))
@example(['{"store_id":1,"store_id":2,"timestamp_utc":"x","status":""}'], [1], "polls", "")
@example(['{"store_id":null,"storeid":"b","timestamp_utc":"x","status":""}'], [1], "polls", "")
@example(['{"store_id":"\\ud800","name":"\\u0000"}'], [1], "stores", "")
def test_json_reads_to_the_records_that_json_itself_sees(
    rows: list[str], sizes: list[int], feed: str, gap: str
) -> None:
    text = f"{gap}[{gap}" + f"{gap},{gap}".join(rows) + f"{gap}]{gap}"
    actual = read(text.encode(), "json", feed, sizes)
    same(actual, expected_records(text, feed))
    assert [record.text for record in actual] == [row[:1000] for row in rows]


@given(rows_of_text, cuts, feed_names, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_ndjson_reads_to_the_same_records(rows: list[str], sizes: list[int], feed: str, end: str, closed: bool) -> None:
    listed = read(f"[{','.join(rows)}]".encode(), "json", feed)
    assert read((end.join(rows) + end * closed).encode(), "ndjson", feed, sizes) == listed


@given(objects(), cuts, feed_names)
def test_a_lone_object_is_one_row(row: str, sizes: list[int], feed: str) -> None:
    assert read(row.encode(), "json", feed, sizes) == read(f"[{row}]".encode(), "json", feed)


def test_a_row_of_numbers_keeps_their_digits() -> None:
    digits = "9" * 400
    text = (
        f'[{{"store_id":{digits},"timestamp_utc":1.50,"status":-0}},{{"store_id":-7,"timestamp_utc":1E5,"status":0}}]'
    )
    assert [record.fields for record in read(text.encode())] == [[digits, "1.50", "-0"], ["-7", "1E5", "0"]]


@pytest.mark.parametrize("form", ["json", "ndjson"])
@pytest.mark.parametrize("number", ["1.5", "1001.0", "8.139926242460185e18", "1e3", "-0.0", "1E400"])
def test_an_id_that_is_no_whole_number_is_refused(number: str, form: str) -> None:
    (record,) = read(f'{{"store_id":{number},"timestamp_utc":"x","status":"active"}}'.encode(), form)
    assert (record.fields[0], record.problem) == ("", f"store_id is {A_REAL}")


def test_an_id_that_is_true_or_false_is_refused() -> None:
    (record,) = read(b'{"store_id":true,"timestamp_utc":"x","status":true}')
    assert (record.fields, record.problem) == (["", "x", "true"], "store_id is true or false")


def test_other_fields_may_be_any_number() -> None:
    (record,) = read(b'{"store_id":12345678901234567890123,"name":1.50,"group":1e3}', feed="stores")
    assert (record.fields, record.problem) == (["12345678901234567890123", "1.50", "1e3", "", "", "", ""], "")


def test_a_key_given_twice_is_never_guessed() -> None:
    for second in ('"store_id":"b"', '"Store ID":"b"', '"storeid":null'):
        (record,) = read(f'{{"store_id":"a",{second},"timestamp_utc":"","status":""}}'.encode())
        assert record.problem == "store_id is given twice"


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_none(name: str) -> None:
    refused(f'[{{"store_id":{name}}}]'.encode())
    (record,) = read(f'{{"store_id":{name}}}\n'.encode(), "ndjson")
    assert record.problem == NOT_JSON


LONG = f"row is longer than {MAX_ROW_CHARACTERS:,} characters"


GOOD = '{"store_id":"a","timestamp_utc":"2024-10-14 10:00:00","status":"active"}'


GOOD_FIELDS = ["a", "2024-10-14 10:00:00", "active"]


DOCUMENT = '[{"store_id":"é","timestamp_utc":1,"status":[{}]},{"a":null}]'.encode()


def is_list_of_values(data: bytes) -> bool:
    """Whether it is JSON that the service takes: an object, or a list."""

    def no_number(name: str) -> None:
        raise ValueError(name)

    try:
        return isinstance(json.loads(data.decode("utf-8-sig"), parse_constant=no_number), (dict, list))
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("sizes", [(), (1,), (7,)])
def test_broken_anywhere_it_is_refused_and_nothing_worse(sizes: tuple[int, ...]) -> None:
    broken = [DOCUMENT[:at] for at in range(len(DOCUMENT))]
    for byte in (b"\0", b"]", b"}", b'"', b",", b"\xff", b"\\", b"[", b" x "):
        broken += [DOCUMENT[:at] + byte + DOCUMENT[at:] for at in range(len(DOCUMENT) + 1)]
        broken += [DOCUMENT[:at] + byte + DOCUMENT[at + 1 :] for at in range(len(DOCUMENT))]
    broken += [DOCUMENT[:at] + DOCUMENT[at + 1 :] for at in range(len(DOCUMENT))]
    refusals = 0
    for data in broken:
        if is_list_of_values(data):
            read(data, sizes=sizes)
        else:
            refused(data, sizes)
            refusals += 1
    assert refusals > 800


@pytest.mark.parametrize("sizes", [(), (1,), (7,)])
def test_a_broken_line_is_a_rejected_row_and_the_others_stay(sizes: tuple[int, ...]) -> None:
    row = GOOD.encode()
    for at in range(len(row)):
        for bad in (row[:at], row[:at] + b"\xff" + row[at:], row[:at] + b"\0" + row[at:]):
            actual = read(b"\n".join((row, bad, row)), "ndjson", sizes=sizes)
            assert [record.fields for record in actual if not record.problem] == [GOOD_FIELDS] * 2
            problems = [(record.line, record.problem) for record in actual if record.problem]
            expected = json_rows.NOT_UTF8 if b"\xff" in bad else NOT_JSON
            assert problems == ([(2, expected)] if bad else [])
            assert [record.line for record in actual if not record.problem] == [1, 3]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it is empty"),
        (b" \r\n\t", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        (b'"store_id"', "it begins with neither { nor ["),
        (b"store_id,timestamp_utc,status\n", "it begins with neither { nor ["),
        (b"12", "it begins with neither { nor ["),
        (b"[", "its list has no end"),
        (b"[{}", "its list has no end"),
        (b"[{},", "its list has no end"),
        (b"[{} {}]", "after row 1 comes '{', not , or ]"),
        (b"[{}}", "after row 1 comes '}', not , or ]"),
        (b"[{},]", "after row 1 comes a comma and no other row (line 1, column 5)"),
        (b"[{},\n\n  ]", "after row 1 comes a comma and no other row (line 3, column 3)"),
        (b"[,{}]", "row 1: Expecting value (line 1, column 2)"),
        (b"[{},\r\n{},,]", "row 3: Expecting value (line 2, column 4)"),
        (b"[{}\n\xc3\xa9]", "after row 1 comes '\u00e9', not , or ] (line 2, column 1)"),
        (b'\xef\xbb\xbf[{"\xc3\xa9":1, 2}]', "(line 1, column 10)"),
        (b"[NaN]", "row 1: NaN is no JSON (line 1, column 2)"),
        (b"{}{}", "another object follows its end"),
        (b"[] []", "something follows its end"),
        (b"[]\0", "something follows its end"),
        (b"{}\n\xff", "it is not UTF-8 text"),
        (b"[{}]\xc3", "it is not UTF-8 text"),
        (b"\xff\xfe[\0]\0", "it is not UTF-8 text"),
        (b'["\xed\xa0\x80"]', "it is not UTF-8 text"),
    ],
)
def test_the_sentence_says_what_is_wrong(text: bytes, why: str) -> None:
    for sizes in ((), (1,)):
        assert why in refused(text, sizes)


@pytest.mark.parametrize("between", [",", ",\n", ",\r\n\r\n"])
@pytest.mark.parametrize("sizes", [(), (1_000,)])
def test_a_place_is_that_in_the_whole_file(between: str, sizes: tuple[int, ...]) -> None:
    text = "[" + between.join([GOOD] * 10_000)
    for end, ahead, why in ((f"{between}]", 1, "comes a comma"), (f'{between}{{"a":}}]', 6, "Expecting value")):
        whole = text + end
        at = len(text) + len(between) + ahead
        line, column = whole.count("\n", 0, at) + 1, at - whole.rfind("\n", 0, at) - 1
        actual = refused(whole.encode(), sizes)
        assert why in actual
        assert f"(line {line}, column {column})" in actual


def test_an_empty_list_and_no_lines_are_no_rows() -> None:
    assert read(b"[]") == read(b" [ \n ] ") == []
    for text in (b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"):
        assert read(text, "ndjson") == []


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    expected = read(GOOD.encode(), "ndjson")
    for sizes in ((), (1,)):
        assert read(b"\xef\xbb\xbf" + GOOD.encode(), "ndjson", sizes=sizes) == expected
        assert read(b"\xef\xbb\xbf" + GOOD.encode(), "json", sizes=sizes) == expected


def test_blank_lines_count_as_lines_and_are_no_rows() -> None:
    actual = read(f"\r\n{GOOD}\r\n \t\r\n\n  {GOOD}  ".encode(), "ndjson", sizes=(3,))
    assert [(record.line, record.fields, record.problem) for record in actual] == [
        (2, GOOD_FIELDS, ""),
        (5, GOOD_FIELDS, ""),
    ]


def test_two_values_on_a_line_are_no_row() -> None:
    actual = read(f"{GOOD} {GOOD}\n{GOOD},\n[{GOOD}]\n7\n".encode(), "ndjson")
    assert [record.problem for record in actual] == [NOT_JSON, NOT_JSON, NOT_AN_OBJECT, NOT_AN_OBJECT]


@pytest.mark.parametrize("sizes", [(), (65_537,), (100_000, 3)])
def test_a_line_over_the_limit_between_good_ones_is_rejected_alone(sizes: tuple[int, ...]) -> None:
    for length in (MAX_ROW_CHARACTERS + 1, 4 * MAX_ROW_CHARACTERS + 1, 3_000_000):
        long = '{"x":"' + "y" * (length - 8) + '"}'
        actual = read("\n".join((GOOD, long, GOOD, "", long, long, GOOD)).encode(), "ndjson", sizes=sizes)
        assert [(record.line, record.problem) for record in actual] == [
            (1, ""), (2, LONG), (3, ""), (5, LONG), (6, LONG), (7, ""),
        ]  # fmt: skip
        assert [record.text for record in actual if record.problem] == [long[:1000]] * 3


def test_the_limit_counts_characters_in_both_forms() -> None:
    for length, fits in ((MAX_ROW_CHARACTERS, True), (MAX_ROW_CHARACTERS + 1, False)):
        row = GOOD[:-1] + ',"x":"' + "é" * (length - len(GOOD) - 7) + '"}'
        assert len(row) == length
        (record,) = read(row.encode(), "ndjson")
        assert record.problem == ("" if fits else LONG)
        if fits:
            assert read(f"[{row}]".encode()) == [record]
        else:
            assert "row 1 is no JSON, or longer than 65,536 characters" in refused(f"[{row}]".encode())


def test_depth_is_a_reason_and_no_crash() -> None:
    for deep in ("[" * 100_000, '{"a":' * 100_000, "[" * 20_000 + "]" * 20_000):
        assert "too deeply" in refused(f"[{deep}".encode())
    deep = "[" * 20_000 + "]" * 20_000
    actual = read(f"{GOOD}\n{deep}\n{GOOD}".encode(), "ndjson")
    assert [record.problem for record in actual] == ["", TOO_DEEP, ""]


def test_a_broken_line_still_says_whose_it_was() -> None:
    broken = [
        '{"store_id":"A","day":0,"start_time_local":"09:00"',
        '{"day":0,"Store ID" : "A", "x":}',
        '{"store_id":"\\u0041" "day":0}',
    ]
    for line in broken:
        (record,) = read(line.encode(), "ndjson", "hours")
        assert (record.problem, record.fields) == (NOT_JSON, ["A", "", "", "", ""])
    (record,) = read(b'{"store_id": 0012, "day":0}', "ndjson", "hours")
    assert (record.problem, record.fields[0]) == (NOT_JSON, "")
    (record,) = read(b'{"store_id": 12, "day":}', "ndjson", "hours")
    assert (record.problem, record.fields[0]) == (NOT_JSON, "12")
    (record,) = read(b'{"store_id": "A", "x": "\xff"}', "ndjson", "hours")
    assert (record.problem, record.fields[0]) == (json_rows.NOT_UTF8, "A")


READER = """
import io, sys, time
sys.path.insert(0, "tests")
from storemon_flask.errors import NotJson
from storemon_flask.feeds import json_rows, readers, schema
from storemon_flask.feeds.csv_exact import RejectLog

class Stream(io.RawIOBase):
    def __init__(self, head, chunk, size):
        self.left, self.chunk, self.head = size, chunk, head
    def read(self, size=-1):
        actual = self.head or (self.chunk * (size // len(self.chunk)))[: max(self.left, 0)]
        self.head = b""
        self.left -= len(actual)
        return actual

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

head, chunk, form = (eval(word) for word in sys.argv[1:4])
before, started, log, rows = peak(), time.process_time(), RejectLog(), 0
try:
    batches = json_rows.read(Stream(head, chunk, int(sys.argv[4])), form, "polls", lambda data: None)
    for block in readers.read_polls(batches, schema.record_header("polls"), 0, log):
        rows += block.rows
    message = "read"
except NotJson as error:
    message = error.message
print(f"{peak() - before:.0f} {time.process_time() - started:.2f} {rows} {log.count} {message}")
"""


@pytest.mark.parametrize(
    ("head", "chunk", "form", "rows", "message"),
    [
        (b"", b"[", "json", 0, "nested too deeply"),
        (b"", b'{"a":', "json", 0, "nested too deeply"),
        pytest.param(b"[{}", b",{}", "json", 400_000, "its list has no end", marks=pytest.mark.slow),
        (b"[", b" ", "json", 0, "its list has no end"),
        (b"", b" ", "json", 0, "it is empty"),
        (b'["', b"a", "json", 0, "longer than"),
        (b"[", b"1", "json", 0, "longer than"),
        (b"", b"[", "ndjson", 1, "read"),
        pytest.param(b"", b"{}\n", "ndjson", 400_000, "read", marks=pytest.mark.slow),
        (b"", b'{"x":"' + b"y" * 60_000 + b'"}\n', "ndjson", 700, "read"),
        (b"", b'{"x":"' + "\U0001f600".encode() * 5_000 + b'"}\n', "ndjson", 900, "read"),
    ],
    ids=lambda value: repr(value[:8]) if isinstance(value, bytes) else str(value),
)
def test_50_megabytes_of_anything_take_little_memory(
    head: bytes, chunk: bytes, form: str, rows: int, message: str
) -> None:
    # Small rows take some microseconds each; their number alone may not cost memory.
    size = 3 * rows if rows > 1000 else 50_000_000
    done = subprocess.run(
        [sys.executable, "-c", READER, repr(head), repr(chunk), repr(form), str(size)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown_mb, seconds, actual, rejected, sentence = done.stdout.strip().split(" ", 4)
    assert message in sentence
    assert int(actual) == int(rejected) >= rows
    assert float(grown_mb) < 100, done.stdout
    assert float(seconds) < 60, done.stdout


def test_keys_without_end_are_not_remembered() -> None:
    rows = ",".join(f'{{"key {number}":1}}' for number in range(3000))
    objects = json_rows.ObjectReader("polls")
    for number, record in enumerate(read(f"[{rows}]".encode()), start=1):
        assert (record.line, record.problem) == (number, "store_id is missing")
    for number in range(3000):
        objects.record(number, json_rows._DECODER.decode(f'{{"key {number}":1}}'), "")
    assert objects._index.cache_info().currsize == 1000


def test_long_spellings_of_short_values_are_not_kept() -> None:
    blanks = " " * 60_000
    tracemalloc.start()
    try:
        for number in range(50):
            assert schema.parse_store_id(f"{blanks}s{number}") == f"s{number}"
            assert schema.parse_name(f"n{number}{blanks}") == f"n{number}"
            assert schema.parse_time_of_day(f"09:00:00.{'0' * 60_000}{number}") == 32_400
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_batches_are_bounded_by_what_they_hold() -> None:
    data = "\n".join('{"x":"' + "y" * 50_000 + '"}' for _ in range(300)).encode()
    sizes = [len(batch) for batch in json_rows.read(io.BytesIO(data), "ndjson", "polls", lambda data: None)]
    assert sum(sizes) == 300
    assert max(sizes) < 100
