"""Feeds as JSON and NDJSON: the same records as `json` reads, however the bytes are cut."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from json_helpers import read, refused

from storemon_flask.ingest import feeds
from storemon_flask.ingest.json_rows import NOT_AN_OBJECT, NOT_JSON
from storemon_flask.ingest.records import Record


class Number(str):
    """The digits of a number, as they were written."""

    __slots__ = ()


def by_the_book(text: str, feed: str) -> list[tuple[list[str], str]]:
    """Fields and problem of every row by a plain `json.loads`; the rules as SPEC 2 says them, not as the reader does."""
    rows = json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=tuple)
    found: list[tuple[list[str], str]] = []
    for row in rows:
        if not isinstance(row, tuple):
            found.append(([""] * len(feeds.COLUMNS[feed]), NOT_AN_OBJECT))
            continue
        said: list[list[Any]] = [[] for _ in feeds.COLUMNS[feed]]
        for key, value in row:
            for place, spellings in enumerate(feeds.FEEDS[feed]):
                if key.strip().lower().replace(" ", "").replace("_", "") in spellings:
                    said[place].append(value)
        problems = [
            f"{feeds.COLUMNS[feed][place]} is given twice" for place, given in enumerate(said) if len(given) > 1
        ]
        missing = []
        for name, found_here in zip(feeds.COLUMNS[feed], said, strict=True):
            for value in found_here:
                if isinstance(value, tuple):
                    problems.append(f"{name} is an object")
                elif isinstance(value, list):
                    problems.append(f"{name} is a list")
                elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
                    problems.append(f"{name} is no text")
            if not found_here and name not in feeds.OPTIONAL.get(feed, ()):
                missing.append(f"{name} is missing")
        found.append(([as_text(one[-1]) if one else "" for one in said], "; ".join(problems or missing[:1])))
    return found


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


feed_names = st.sampled_from(sorted(feeds.COLUMNS))


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
    text = f'[{{"store_id":{digits},"timestamp_utc":1.50,"status":-0}},{{"store_id":1e400,"timestamp_utc":1E5,"status":0}}]'
    assert [record.fields for record in read(text.encode())] == [[digits, "1.50", "-0"], ["1e400", "1E5", "0"]]


def test_a_key_given_twice_is_never_guessed() -> None:
    for second in ('"store_id":"b"', '"Store ID":"b"', '"storeid":null'):
        (record,) = read(f'{{"store_id":"a",{second},"timestamp_utc":"","status":""}}'.encode())
        assert record.problem == "store_id is given twice"


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_number_is_none(name: str) -> None:
    refused(f'[{{"store_id":{name}}}]'.encode())
    (record,) = read(f'{{"store_id":{name}}}\n'.encode(), "ndjson")
    assert record.problem == NOT_JSON
