"""The fast reading of timestamps against `values.instant`: what it reads must be right, and it must read the usual
spelling.
"""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.feeds import byte_road, timestamps, values
from storemon_flask.feeds.values import BadValue

USUAL = re.compile(r"(19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})? UTC")


def slowly(text: str) -> int | None:
    try:
        return values.instant(text)
    except BadValue:
        return None


def by_words(texts: list[str]) -> list[int | None]:
    """What the byte road makes of each text, as the last field of a row; None where it leaves the row to others."""
    rows = "".join(f"s1,active,{text}\n" for text in texts) + "s1,active," + "x" * 100 + "\n"
    block = byte_road.rectangle(rows.encode(), 3)
    assert block is not None
    instant, good = block.instants(2)
    return [value if read else None for value, read in zip(instant.tolist(), good.tolist(), strict=True)][:-1]


def by_column(texts: list[str]) -> list[int | None]:
    instant, good = timestamps.read_column(np.array([text.encode() for text in texts], dtype=f"S{timestamps.WIDTH}"))
    return [value if read else None for value, read in zip(instant.tolist(), good.tolist(), strict=True)]


@pytest.mark.parametrize("read", [by_words, by_column])
@pytest.mark.parametrize("year", [1970, 2000, 2024, 2100, 2199])
def test_every_month_and_day_there_is_and_is_not(read, year):
    texts = [f"{year}-{month:02d}-{day:02d} 10:20:30.405060 UTC" for month in range(100) for day in range(100)]

    assert read(texts) == [slowly(text) for text in texts]


@pytest.mark.parametrize("read", [by_words, by_column])
@pytest.mark.parametrize("place", ["{:02d}:10:10", "10:{:02d}:10", "10:10:{:02d}"])
def test_every_hour_minute_and_second_there_is_and_is_not(read, place):
    texts = [f"2024-02-29 {place.format(number)} UTC" for number in range(100)]

    assert read(texts) == [slowly(text) for text in texts]


@pytest.mark.parametrize("read", [by_words, by_column])
def test_every_length_of_a_fraction(read):
    texts = [f"2024-02-29 10:20:30.{'9081726354'[:digits]} UTC" for digits in range(1, 7)]

    assert read(texts) == [slowly(text) for text in texts]
    assert read(["2024-02-29 10:20:30 UTC", "2024-02-29 10:20:30. UTC"]) == [slowly("2024-02-29 10:20:30 UTC"), None]


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
    for text, read in zip(texts, by_words(texts), strict=True):
        assert read is None or read == slowly(text)
        if USUAL.fullmatch(text) and text.isascii():
            assert read == slowly(text)
