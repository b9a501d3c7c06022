"""Timestamps and lengths of time as text, and timestamps that people type."""

import pytest

from storemon_flask.clock import duration_text, minute_text, parse_timestamp, timestamp_text
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US


@pytest.mark.parametrize(
    ("length_us", "text"),
    [
        (-5 * MINUTE_US, "0 min"),
        (0, "0 min"),
        (1, "under 1 min"),
        (MINUTE_US, "1 min"),
        (HOUR_US - 1, "59 min"),
        (HOUR_US, "1 h"),
        (8 * HOUR_US + 42 * MINUTE_US, "8 h 42 min"),
        (2 * DAY_US - 1, "47 h 59 min"),
        (2 * DAY_US, "2 days"),
        (3 * DAY_US + 4 * HOUR_US, "3 days 4 h"),
        (10 * DAY_US - 1, "9 days 23 h"),
        (39 * DAY_US + 5 * HOUR_US, "39 days"),
        (1234 * DAY_US, "1,234 days"),
    ],
)
def test_a_length_of_time_is_rounded_down_to_its_two_largest_units(length_us: int, text: str) -> None:
    assert duration_text(length_us) == text


@pytest.mark.parametrize(
    ("length_us", "text"), [(6 * DAY_US + 14 * HOUR_US, "over 6 days"), (30 * HOUR_US + MINUTE_US, "over 30 h")]
)
def test_a_length_of_time_that_may_be_longer_says_so(length_us: int, text: str) -> None:
    assert duration_text(length_us, at_least=True) == text


def test_timestamps_are_written_for_programs_and_for_people() -> None:
    timestamp_us = 1_728_949_718_123_456
    assert timestamp_text(timestamp_us) == "2024-10-14T23:48:38.123456Z"
    assert timestamp_text(0) == "1970-01-01T00:00:00.000000Z"
    assert minute_text(timestamp_us) == "2024-10-14 23:48 UTC"
    assert parse_timestamp(timestamp_text(timestamp_us)) == timestamp_us
