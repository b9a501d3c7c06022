"""Timestamps as numbers since 1970: seconds, milliseconds and microseconds, told apart by their digits."""

import json
from decimal import Decimal

import numpy as np
import pytest
from feed_helpers import POLLS, push
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from ingest_helpers import READERS, read_polls, us

from storemon_flask.feeds import timestamps, values
from storemon_flask.feeds.values import BadValue

AT = us("2024-10-15T13:46:40")
GOOD = {
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
BAD = {
    "0": values.INSTANT_NUMBER,
    "1": values.INSTANT_NUMBER,
    "45580.5": values.INSTANT_NUMBER,
    "20241015": values.INSTANT_NUMBER,
    "99999999": values.INSTANT_NUMBER,
    "0172900000": values.INSTANT_NUMBER,
    "17290000001": values.INSTANT_NUMBER,
    "20241015134640": values.INSTANT_NUMBER,
    "20241015134640123": values.INSTANT_NUMBER,
    "1729000000123456789": values.INSTANT_NUMBER,
    "1729000000.": values.INSTANT_NUMBER,
    "+1729000000": values.INSTANT_NUMBER,
    "1.729e9": values.INSTANT_NUMBER,
    "1.729E+09": values.INSTANT_NUMBER,
    "-1729000000": values.INSTANT_EARLY,
    "-0.5": values.INSTANT_EARLY,
    "1,729,000,000": values.INSTANT_FORM,
    "1729000000 UTC": values.INSTANT_FORM,
    "1729000000Z": values.INSTANT_FORM,
    "1729000000s": values.INSTANT_FORM,
    "１７２９000000": values.INSTANT_FORM,
}


def by_column(texts: list[str]) -> list[int | None]:
    found, read = timestamps.read_column(np.array([text.encode() for text in texts], dtype=f"S{timestamps.WIDTH}"))
    return [at if good else None for at, good in zip(found.tolist(), read.tolist(), strict=True)]


@pytest.mark.parametrize("text", GOOD)
def test_a_number_is_read_by_its_digits(text: str) -> None:
    assert values.instant(text) == GOOD[text]
    assert by_column([text]) == [GOOD[text] if text.strip() == text else None]


@pytest.mark.parametrize("text", BAD)
def test_any_other_number_is_rejected_with_what_is_accepted(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.instant(text)
    assert str(bad.value) == BAD[text]
    assert by_column([text]) == [None]


@given(st.lists(st.from_regex(r"[0-9]{8,17}(\.[0-9]{0,30})?", fullmatch=True), min_size=1, max_size=20))
def test_numbers_are_exact_to_the_microsecond(texts: list[str]) -> None:
    for text, read in zip(texts, by_column(texts), strict=True):
        digits = len(text.partition(".")[0])
        unit = {9: 10**6, 10: 10**6, 12: 1000, 13: 1000, 15: 1, 16: 1}.get(digits)
        if unit is None or text.startswith("0") or text.endswith("."):
            assert read is None
            with pytest.raises(BadValue):
                values.instant(text)
        else:
            assert values.instant(text) == int(Decimal(text) * unit)
            assert read in (None, int(Decimal(text) * unit))
            assert read is not None or len(text) >= timestamps.WIDTH


def test_every_reader_of_csv_takes_numbers_among_other_spellings() -> None:
    texts = [*GOOD, *BAD, "2024-10-15 13:46:40 UTC"] * 40
    data = "\n".join([POLLS.strip(), *(f'"s",{text if "," not in text else "x"},active' for text in texts)]).encode()
    expected = read_polls(data, exact=True, latest="2024-12-01T00:00:00")
    assert len(expected[0]) == 40 * (len(GOOD) - 1 + 1)
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
    assert answer["reasons"] == {values.INSTANT_NUMBER: 1, values.INSTANT_FUTURE: 1, values.INSTANT_EARLY: 1}
    again = "\n".join(
        json.dumps({"store_id": "a", "timestamp_utc": text, "status": status})
        for text, status in (
            ("2023-10-16 13:45:00.123456", "active"), ("2023-10-16T13:45:00.124Z", "inactive"), (1697463901000, "active"),
        )
    )  # fmt: skip
    assert push(client, "polls", again, "application/x-ndjson").json["unchanged"] == 3
