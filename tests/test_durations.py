"""Lengths of time in words."""

import pytest

from storemon_flask.clock import duration_text
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
