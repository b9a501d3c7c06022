"""Timestamps: the fast reading of a column against `values.timestamp_us`, which says what a timestamp is.

What the fast reader reads must be right, and it must read the usual spellings and numbers since 1970 itself.
"""

import json
import re
from datetime import datetime
from decimal import Decimal

import pytest
from feed_helpers import push
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest_helpers import POLLS, READERS, read_polls, us
from value_helpers import BAD_TIMESTAMPS, EXACT, GOOD_TIMESTAMPS, read_timestamps

from storemon_flask.feeds import values
from storemon_flask.feeds.values import BadValue

USUAL = re.compile(r"(19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})? UTC")


def slowly(text: str) -> int | None:
    try:
        return values.parse_timestamp(text)
    except BadValue:
        return None


@pytest.mark.parametrize("year", [1970, 2000, 2024, 2100, 2199])
def test_every_month_and_day_there_is_and_is_not(year):
    texts = [f"{year}-{month:02d}-{day:02d} 10:20:30.405060 UTC" for month in range(100) for day in range(100)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]


@pytest.mark.parametrize("place", ["{:02d}:10:10", "10:{:02d}:10", "10:10:{:02d}"])
def test_every_hour_minute_and_second_there_is_and_is_not(place):
    texts = [f"2024-02-29 {place.format(number)} UTC" for number in range(100)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]


def test_every_length_of_a_fraction():
    texts = [f"2024-02-29 10:20:30.{'9081726354'[:digits]} UTC" for digits in range(1, 7)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]
    assert read_timestamps(["2024-02-29 10:20:30 UTC", "2024-02-29 10:20:30. UTC"]) == [
        slowly("2024-02-29 10:20:30 UTC"),
        None,
    ]


TIMESTAMPS = st.builds(
    "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}{} UTC".format,
    st.sampled_from([1969, 1970, 2000, 2024, 2199, 2200]),
    st.integers(0, 20), st.integers(0, 40), st.integers(0, 30), st.integers(0, 70), st.integers(0, 70),
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{0,8}", fullmatch=True)),
)  # fmt: skip


@st.composite
def nearly_timestamps(draw):
    text = draw(TIMESTAMPS)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(text) - 1))
        letter = draw(st.characters(codec="utf-8", exclude_characters=',"\r\n\0'))
        text = text[:place] + letter + text[place + 1 :]
    return text


@settings(max_examples=300)
@given(st.lists(nearly_timestamps(), min_size=1, max_size=60))
def test_nothing_is_read_that_is_not_there_and_the_usual_spelling_always(texts):
    for text, read in zip(texts, read_timestamps(texts), strict=True):
        assert read is None or read == slowly(text)
        if USUAL.fullmatch(text) and text.isascii():
            assert read == slowly(text)


@pytest.mark.parametrize(
    "text",
    [
        "2023-01-22 12:09:39.388884 UTC",
        "2023-01-22 12:09:39 UTC",
        "2023-01-22T12:09:39Z",
        "2023-01-22 12:09:39.388884999999",
        "2023-01-22 12:09:39.1+00:00",
        "2000-02-29 00:00:00",
        "1970-01-01 00:00:00",
    ],
)
def test_the_fast_reader_reads_the_usual_spellings_itself(text: str) -> None:
    assert read_timestamps([text]) == [values.parse_timestamp(text)]


@pytest.mark.parametrize("text", [*BAD_TIMESTAMPS, "2023-01-22 12:09:39.388884 UTC  with more behind it than fits"])
def test_the_fast_reader_never_reads_what_is_no_timestamp(text: str) -> None:
    assert read_timestamps([text]) == [None]


def test_the_fast_reader_keeps_the_rows_apart_when_lengths_and_spellings_are_mixed() -> None:
    texts = [*GOOD_TIMESTAMPS, *BAD_TIMESTAMPS] * 3
    found = read_timestamps(texts)
    for text, at in zip(texts, found, strict=True):
        assert at is None or at == GOOD_TIMESTAMPS[text]
    assert found.count(EXACT) >= 3 * 3
    assert found.count(None) >= 3 * len(BAD_TIMESTAMPS)


def test_the_fast_reader_answers_an_empty_column() -> None:
    assert read_timestamps([]) == []


_days = st.builds(
    "{:04d}-{}-{}".format, st.integers(1960, 2110), st.integers(0, 13).map("{:02d}".format), st.sampled_from(
        ["01", "28", "29", "30", "31", "32", "00", "15"]
    )
)  # fmt: skip


_stamps = st.builds(
    "{}{}{}:{}:{}{}{}".format,
    _days,
    st.sampled_from([" ", "T", "t", "_"]),
    st.integers(0, 24).map("{:02d}".format),
    st.integers(0, 60).map("{:02d}".format),
    st.integers(0, 60).map("{:02d}".format),
    st.one_of(st.just(""), st.text("0123456789", min_size=0, max_size=14).map(".{}".format)),
    st.sampled_from(["", " UTC", "Z", "+00:00", "-00:00", "+01:00", "UTC", " Z", "z", "Z "]),
)


_noise = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30)


@given(st.lists(st.one_of(_stamps, _noise), max_size=12))
def test_what_the_fast_reader_reads_is_what_the_validator_says(texts: list[str]) -> None:
    for text, found in zip(texts, read_timestamps(texts), strict=True):
        if found is not None:
            assert values.parse_timestamp(text) == found


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31)),
    st.sampled_from(["", " UTC", "Z", "+00:00"]),
    st.sampled_from([" ", "T"]),
)
def test_any_moment_written_in_the_usual_way_is_read_to_the_microsecond(
    moment: datetime, suffix: str, between: str
) -> None:
    text = moment.isoformat(sep=between) + suffix
    expected = us(moment.isoformat())
    assert values.parse_timestamp(text) == expected
    assert read_timestamps([text]) == [expected]


AT = us("2024-10-15T13:46:40")
NUMBERS = {
    "1729000000": AT,
    " 1729000000 ": AT,
    "1729000000.0": AT,
    "1729000000.123": AT + 123_000,
    "1729000000.123456": AT + 123_456,
    "1729000000.1234569999": AT + 123_456,
    "1729000000.000001": AT + 1,
    "1729000000123": AT + 123_000,
    "1729000000123.4": AT + 123_400,
    "1729000000123.4567": AT + 123_456,
    "1729000000123456": AT + 123_456,
    "1729000000123456.9": AT + 123_456,
    "100000000": us("1973-03-03T09:46:40"),
    "999999999": us("2001-09-09T01:46:39"),
    "999999999.999999": us("2001-09-09T01:46:40") - 1,
    "999999999999": us("2001-09-09T01:46:39") + 999_000,
    "999999999999999": us("2001-09-09T01:46:39") + 999_999,
    "9999999999": us("2286-11-20T17:46:39"),
}
NO_NUMBERS = {
    "0": values.TIMESTAMP_NUMBER,
    "1": values.TIMESTAMP_NUMBER,
    "45580.5": values.TIMESTAMP_NUMBER,
    "20241015": values.TIMESTAMP_NUMBER,
    "99999999": values.TIMESTAMP_NUMBER,
    "0172900000": values.TIMESTAMP_NUMBER,
    "17290000001": values.TIMESTAMP_NUMBER,
    "20241015134640": values.TIMESTAMP_NUMBER,
    "20241015134640123": values.TIMESTAMP_NUMBER,
    "1729000000123456789": values.TIMESTAMP_NUMBER,
    "1729000000.": values.TIMESTAMP_NUMBER,
    "+1729000000": values.TIMESTAMP_NUMBER,
    "1.729e9": values.TIMESTAMP_NUMBER,
    "1.729E+09": values.TIMESTAMP_NUMBER,
    "-1729000000": values.TIMESTAMP_EARLY,
    "-0.5": values.TIMESTAMP_EARLY,
    "1,729,000,000": values.TIMESTAMP_FORM,
    "1729000000 UTC": values.TIMESTAMP_FORM,
    "1729000000Z": values.TIMESTAMP_FORM,
    "1729000000s": values.TIMESTAMP_FORM,
    "１７２９000000": values.TIMESTAMP_FORM,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_by_its_digits(text: str) -> None:
    assert values.parse_timestamp(text) == NUMBERS[text]
    assert read_timestamps([text]) == [NUMBERS[text] if text.strip() == text else None]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_any_other_number_is_rejected_with_what_is_accepted(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.parse_timestamp(text)
    assert str(bad.value) == NO_NUMBERS[text]
    assert read_timestamps([text]) == [None]


@given(st.lists(st.from_regex(r"[0-9]{8,17}(\.[0-9]{0,30})?", fullmatch=True), min_size=1, max_size=20))
def test_numbers_are_exact_to_the_microsecond(texts: list[str]) -> None:
    for text, read in zip(texts, read_timestamps(texts), strict=True):
        digits = len(text.partition(".")[0])
        unit = {9: 10**6, 10: 10**6, 12: 1000, 13: 1000, 15: 1, 16: 1}.get(digits)
        if unit is None or text.startswith("0") or text.endswith("."):
            assert read is None
            with pytest.raises(BadValue):
                values.parse_timestamp(text)
        else:
            assert values.parse_timestamp(text) == int(Decimal(text) * unit)
            assert read in (None, int(Decimal(text) * unit))
            assert read is not None or len(text) >= 40


def test_every_reader_of_csv_takes_numbers_among_other_spellings() -> None:
    texts = [*NUMBERS, *NO_NUMBERS, "2024-10-15 13:46:40 UTC"] * 40
    data = "\n".join([POLLS, *(f'"s",{text if "," not in text else "x"},active' for text in texts)]).encode()
    expected = read_polls(data, exact=True, latest="2024-12-01T00:00:00")
    assert len(expected[0]) == 40 * (len(NUMBERS) - 1 + 1)
    for exact in READERS:
        assert read_polls(data, exact=exact, latest="2024-12-01T00:00:00") == expected


def test_json_numbers_and_texts_are_timestamps_exactly(client: FlaskClient) -> None:
    rows = (
        '[{"store_id":"a","timestamp_utc":1697463900.123456,"status":"active"},'
        '{"store_id":"a","timestamp_utc":"1697463900124","status":"inactive"},'
        '{"store_id":"a","timestamp_utc":1697463901,"status":"active"},'
        '{"store_id":"a","timestamp_utc":1.697463901e9,"status":"active"},'
        '{"store_id":"a","timestamp_utc":9999999999,"status":"active"},'
        '{"store_id":"a","timestamp_utc":-5,"status":"active"}]'
    )
    answer = push(client, "polls", rows, "application/json").json
    assert answer["new"] == 3
    assert answer["reasons"] == {values.TIMESTAMP_NUMBER: 1, values.TIMESTAMP_FUTURE: 1, values.TIMESTAMP_EARLY: 1}
    again = "\n".join(
        json.dumps({"store_id": "a", "timestamp_utc": text, "status": status})
        for text, status in (
            ("2023-10-16 13:45:00.123456", "active"), ("2023-10-16T13:45:00.124Z", "inactive"), (1697463901000, "active"),
        )
    )  # fmt: skip
    assert push(client, "polls", again, "application/x-ndjson").json["unchanged"] == 3
