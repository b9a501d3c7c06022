"""The reader of a column of timestamps against the validator that defines it."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_helpers import us
from value_helpers import BAD_INSTANTS, EXACT, GOOD_INSTANTS

from storemon_flask.feeds import timestamps, values


def _read(texts: list[str]) -> list[int | None]:
    """What the column reader makes of the texts: an instant, or None for "not read here"."""
    column = np.array([text.encode() for text in texts], dtype=f"S{timestamps.WIDTH}")
    found, read = timestamps.read_column(column)
    return [at if ok else None for at, ok in zip(found.tolist(), read.tolist(), strict=True)]


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
def test_the_column_reader_reads_the_usual_spellings_itself(text: str) -> None:
    assert _read([text]) == [values.instant(text)]


@pytest.mark.parametrize("text", [*BAD_INSTANTS, "2023-01-22 12:09:39.388884 UTC  with more behind it than fits"])
def test_the_column_reader_never_reads_what_is_no_timestamp(text: str) -> None:
    assert _read([text]) == [None]


def test_the_column_reader_keeps_the_rows_apart_when_lengths_and_spellings_are_mixed() -> None:
    texts = [*GOOD_INSTANTS, *BAD_INSTANTS] * 3
    found = _read(texts)
    for text, at in zip(texts, found, strict=True):
        assert at is None or at == GOOD_INSTANTS[text]
    assert found.count(EXACT) >= 3 * 3
    assert found.count(None) >= 3 * len(BAD_INSTANTS)


def test_the_column_reader_answers_an_empty_column() -> None:
    assert _read([]) == []


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
def test_what_the_column_reader_reads_is_what_the_validator_says(texts: list[str]) -> None:
    for text, found in zip(texts, _read(texts), strict=True):
        if found is not None:
            assert values.instant(text) == found


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
    assert values.instant(text) == expected
    assert _read([text]) == [expected]
