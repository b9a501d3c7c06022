"""Feeds as JSON and NDJSON: the same records as `json` reads, however the bytes are cut."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from json_helpers import read, refused

from storemon_flask.feeds import headers
from storemon_flask.feeds.csv_exact import Record
from storemon_flask.feeds.json_rows import NOT_AN_OBJECT, NOT_JSON


class Number(str):
    """The digits of a number, as they were written."""

    __slots__ = ()


class Real(Number):
    """The digits of one with a fraction or an exponent."""

    __slots__ = ()


def by_the_book(text: str, feed: str) -> list[tuple[list[str], str]]:
    """Fields and problem of every row by a plain `json.loads`; the rules as SPEC 2 says them, not as the reader does."""
    rows = json.loads(text, parse_int=Number, parse_float=Real, object_pairs_hook=tuple)
    found: list[tuple[list[str], str]] = []
    for row in rows:
        if not isinstance(row, tuple):
            found.append(([""] * len(headers.COLUMNS[feed]), NOT_AN_OBJECT))
            continue
        said: list[list[Any]] = [[] for _ in headers.COLUMNS[feed]]
        for key, value in row:
            for place, column in enumerate(headers.FEEDS[feed]):
                if key.strip().lower().replace(" ", "").replace("_", "") in column.spellings:
                    said[place].append(value)
        problems = [
            f"{headers.COLUMNS[feed][place]} is given twice" for place, given in enumerate(said) if len(given) > 1
        ]
        missing = []
        for column, found_here in zip(headers.FEEDS[feed], said, strict=True):
            problems += [problem for value in found_here if (problem := wrong(column.name, value))]
            if not found_here and not column.optional:
                missing.append(f"{column.name} is missing")
        fields = [as_text(one[-1]) if one else "" for one in said]
        if said[0] and isinstance(said[0][-1], (Real, bool)):
            fields[0] = ""
        found.append((fields, "; ".join(problems or missing[:1])))
    return found


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


def same(found: list[Record], book: list[tuple[list[str], str]]) -> None:
    """The records are those of the book; of a row's problems, the first that is met is named."""
    assert len(found) == len(book)
    for number, (record, (fields, problem)) in enumerate(zip(found, book, strict=True), start=1):
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
    st.lists(plain, max_size=3).map(lambda found: f"[{', '.join(found)}]"),
    st.lists(st.tuples(keys.map(json.dumps), plain), max_size=2).map(
        lambda found: "{" + ",".join(f"{key}:{value}" for key, value in found) + "}"
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


feed_names = st.sampled_from(sorted(headers.COLUMNS))


@given(rows_of_text, cuts, feed_names, st.sampled_from(["", " ", "\n", "\r\n\t "]))
@example(['{"store_id":1,"store_id":2,"timestamp_utc":"x","status":""}'], [1], "polls", "")
@example(['{"store_id":null,"storeid":"b","timestamp_utc":"x","status":""}'], [1], "polls", "")
@example(['{"store_id":"\\ud800","name":"\\u0000"}'], [1], "stores", "")
def test_json_reads_to_the_records_that_json_itself_sees(
    rows: list[str], sizes: list[int], feed: str, gap: str
) -> None:
    text = f"{gap}[{gap}" + f"{gap},{gap}".join(rows) + f"{gap}]{gap}"
    found = read(text.encode(), "json", feed, sizes)
    same(found, by_the_book(text, feed))
    assert [record.text for record in found] == [row[:1000] for row in rows]


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
    assert (record.fields, record.problem) == (["12345678901234567890123", "1.50", "1e3"], "")


def test_a_key_given_twice_is_never_guessed() -> None:
    for second in ('"store_id":"b"', '"Store ID":"b"', '"storeid":null'):
        (record,) = read(f'{{"store_id":"a",{second},"timestamp_utc":"","status":""}}'.encode())
        assert record.problem == "store_id is given twice"


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_none(name: str) -> None:
    refused(f'[{{"store_id":{name}}}]'.encode())
    (record,) = read(f'{{"store_id":{name}}}\n'.encode(), "ndjson")
    assert record.problem == NOT_JSON
