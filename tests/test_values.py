"""What one field may be: every validator against a table, and the column reader against the one that defines it."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_helpers import us

from storemon_flask.ingest import instants, values
from storemon_flask.ingest.values import BadValue

GOOD_IDS = {
    "8419537941919820732": "8419537941919820732",
    "  8419537941919820732\t": "8419537941919820732",
    "NA": "NA",
    "nan": "nan",
    "None": "None",
    "null": "null",
    "007": "007",
    "-1": "-1",
    "1e5": "1e5",
    "1E5": "1E5",
    "12E-5": "12E-5",
    "E+5": "E+5",
    "8.1E+": "8.1E+",
    "a8.1E+18": "a8.1E+18",
    "0f8fad5b-d9cb-469f-a165-70867728950e": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "NYC/12": "NYC/12",
    "=SUM(A1)": "=SUM(A1)",
    "two words": "two words",
    "café": "café",
    "店舗": "店舗",
    "🍕": "🍕",
    "zero​width": "zero​width",
    "'": "'",
    'quo"te': 'quo"te',
    "x" * 200: "x" * 200,
    "🍕" * 200: "🍕" * 200,
    " " * 300 + "x": "x",
}
BAD_IDS = {
    "": values.ID_EMPTY,
    "   ": values.ID_EMPTY,
    " \t ": values.ID_EMPTY,
    "x" * 201: values.ID_LONG,
    "é" * 201: values.ID_LONG,
    "a\tb": values.ID_CONTROL,
    "a\nb": values.ID_CONTROL,
    "a\x00b": values.ID_CONTROL,
    "a\x7fb": values.ID_CONTROL,
    "a\x85b": values.ID_CONTROL,
    "a\x1bb": values.ID_CONTROL,
    "8.13992624246019E+018": values.ID_SPREADSHEET,
    " 8.13992624246019E+18 ": values.ID_SPREADSHEET,
    "8E+18": values.ID_SPREADSHEET,
    "8.E+18": values.ID_SPREADSHEET,
}


@pytest.mark.parametrize(("text", "expected"), GOOD_IDS.items())
def test_any_text_is_a_store_id_and_stays_as_it_is_but_for_blanks_at_its_ends(text: str, expected: str) -> None:
    assert values.store_id(text) == expected


@pytest.mark.parametrize(("text", "reason"), BAD_IDS.items())
def test_what_cannot_be_a_store_id_says_why(text: str, reason: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.store_id(text)
    assert str(bad.value) == reason


NOON = us("2023-01-22T12:09:39")
EXACT = us("2023-01-22T12:09:39.388884")
GOOD_INSTANTS = {
    "2023-01-22 12:09:39.388884 UTC": EXACT,
    "2023-01-22 12:09:39.388884": EXACT,
    "2023-01-22T12:09:39.388884Z": EXACT,
    "2023-01-22t12:09:39.388884z": EXACT,
    "2023-01-22 12:09:39.388884 utc": EXACT,
    "2023-01-22 12:09:39.388884UTC": EXACT,
    "2023-01-22 12:09:39.388884+00:00": EXACT,
    "2023-01-22 12:09:39.388884 +00:00": EXACT,
    "2023-01-22 12:09:39.388884-00:00": EXACT,
    "2023-01-22 12:09:39.388884+0000": EXACT,
    "2023-01-22 12:09:39.388884+00": EXACT,
    "2023-01-22 17:39:39.388884+05:30": EXACT,
    "2023-01-22 17:39:39.388884+0530": EXACT,
    "2023-01-22 06:09:39.388884-06": EXACT,
    "2023-01-21 23:09:39.388884-13:00": EXACT,
    "2023-01-23 02:09:39.388884+14:00": EXACT,
    "  2023-01-22 12:09:39.388884 UTC  ": EXACT,
    "2023-01-22 12:09:39.388884999 UTC": EXACT,
    "2023-01-22 12:09:39.3888849999999999999 UTC": EXACT,
    "2023-01-22 12:09:39 UTC": NOON,
    "2023-01-22 12:09:39": NOON,
    "2023-01-22 12:09:39.0 UTC": NOON,
    "2023-01-22 12:09:39.0000009 UTC": NOON,
    "2023-01-22 12:09:39.000001 UTC": NOON + 1,
    "2023-01-22 12:09:39.5 UTC": NOON + 500_000,
    "2023-01-22 12:09:39.05": NOON + 50_000,
    "2023-01-22 12:09": NOON - 39_000_000,
    "2023-01-22T12:09Z": NOON - 39_000_000,
    "2023-01-22 12:09 UTC": NOON - 39_000_000,
    "2023-01-22 06:09-06:00": NOON - 39_000_000,
    "1970-01-01 00:00:00 UTC": 0,
    "1969-12-31 23:00:00-01:00": 0,
    "2024-02-29 00:00:00": us("2024-02-29T00:00:00"),
    "2000-02-29 23:59:59.999999Z": us("2000-03-01T00:00:00") - 1,
}
BAD_INSTANTS = {
    "": values.INSTANT_FORM,
    "yesterday": values.INSTANT_FORM,
    "2023-01-22": values.INSTANT_FORM,
    "2023-01-22 12": values.INSTANT_FORM,
    "22/01/2023 12:09": values.INSTANT_FORM,
    "2023-1-22 12:09:39": values.INSTANT_FORM,
    "2023-01-22  12:09:39": values.INSTANT_FORM,
    "2023-01-22 12:09:39.": values.INSTANT_FORM,
    "2023-01-22 12:09:39,388": values.INSTANT_FORM,
    "2023-01-22 12:09:39 EST": values.INSTANT_FORM,
    "2023-01-22 12:09:39  UTC": values.INSTANT_FORM,
    "2023-01-22 12:09:39 UTC UTC": values.INSTANT_FORM,
    "2023-01-22 12:09:39+5": values.INSTANT_FORM,
    "1674389379": values.INSTANT_FORM,
    "+2023-01-22 12:09:39": values.INSTANT_FORM,
    "２０２３-01-22 12:09:39": values.INSTANT_FORM,
    "2023-02-29 12:09:39": values.INSTANT_RANGE,
    "1900-02-29 12:09:39": values.INSTANT_RANGE,
    "2023-13-01 12:09:39": values.INSTANT_RANGE,
    "2023-00-01 12:09:39": values.INSTANT_RANGE,
    "2023-01-00 12:09:39": values.INSTANT_RANGE,
    "2023-01-32 12:09:39": values.INSTANT_RANGE,
    "2023-01-22 24:00:00": values.INSTANT_RANGE,
    "2023-01-22 12:60:00": values.INSTANT_RANGE,
    "2023-01-22 12:09:60": values.INSTANT_RANGE,
    "2023-01-22 12:09:39+24:00": values.INSTANT_RANGE,
    "2023-01-22 12:09:39-99:00": values.INSTANT_RANGE,
    "0000-01-01 00:00:00": values.INSTANT_RANGE,
    "1969-12-31 23:59:59.999999 UTC": values.INSTANT_EARLY,
    "0001-01-01 00:00:00+23:59": values.INSTANT_EARLY,
    "1970-01-01 00:59:59+01:00": values.INSTANT_EARLY,
}


@pytest.mark.parametrize(("text", "expected"), GOOD_INSTANTS.items())
def test_every_accepted_spelling_of_a_timestamp_is_the_same_microsecond(text: str, expected: int) -> None:
    assert values.instant(text) == expected


@pytest.mark.parametrize(("text", "reason"), BAD_INSTANTS.items())
def test_what_is_no_timestamp_says_why(text: str, reason: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.instant(text)
    assert str(bad.value) == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [("active", True), ("inactive", False), ("ACTIVE", True), ("InActive", False), (" active\t", True)],
)
def test_a_status_is_read_in_any_case_and_without_its_blanks(text: str, expected: bool) -> None:
    assert values.status(text) is expected


@pytest.mark.parametrize("text", ["", "up", "1", "true", "activ", "actives", "in active", "active.", "actıve"])
def test_any_other_status_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.status(text)
    assert str(bad.value) == values.STATUS


@pytest.mark.parametrize(("text", "expected"), [*((str(day), day) for day in range(7)), (" 3 ", 3)])
def test_a_day_is_a_whole_number_from_monday_to_sunday(text: str, expected: int) -> None:
    assert values.day_of_week(text) == expected


@pytest.mark.parametrize("text", ["", "7", "-1", "1.0", "01", "12", "Monday", "²", "３"])
def test_any_other_day_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.day_of_week(text)
    assert str(bad.value) == values.DAY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:00", 0),
        ("00:00:00", 0),
        ("9:05", 32_700),
        ("09:05", 32_700),
        ("09:05:07", 32_707),
        ("09:05:07.999999", 32_707),
        (" 23:59:59 ", 86_399),
    ],
)
def test_a_time_of_day_is_seconds_after_midnight(text: str, expected: int) -> None:
    assert values.time_of_day(text) == expected
    assert values.time_of_day(text, end=True) == expected


@pytest.mark.parametrize("text", ["24:00", "24:00:00", "24:00:00.000"])
def test_twenty_four_hundred_is_an_end_and_never_a_start(text: str) -> None:
    assert values.time_of_day(text, end=True) == 86_400
    with pytest.raises(BadValue) as bad:
        values.time_of_day(text)
    assert str(bad.value) == values.TIME


@pytest.mark.parametrize(
    "text", ["", "9", "9:5", "009:00", "-1:00", "24:01", "24:00:01", "25:00", "10:60", "10:00:60", "9am", "9:00 PM"]
)
@pytest.mark.parametrize("end", [False, True])
def test_any_other_time_of_day_is_refused(text: str, end: bool) -> None:
    with pytest.raises(BadValue) as bad:
        values.time_of_day(text, end=end)
    assert str(bad.value) == values.TIME


@pytest.mark.parametrize("name", ["America/Chicago", "Asia/Kolkata", "UTC", "Etc/GMT+5", "America/Argentina/Ushuaia"])
def test_a_time_zone_is_an_iana_name_that_exists(name: str) -> None:
    assert values.time_zone(f" {name} ") == name


@pytest.mark.parametrize(
    "name", ["", "America/Gotham", "CST-6", "localtime", "Factory", "../etc/passwd", "America", "America/chicago"]
)
def test_any_other_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadValue) as bad:
        values.time_zone(name)
    assert str(bad.value) == values.ZONE


def test_no_reason_contains_the_value_so_that_rejects_can_be_counted_by_reason() -> None:
    with pytest.raises(BadValue) as one:
        values.instant("2023-02-30 10:00:00")
    with pytest.raises(BadValue) as other:
        values.instant("2023-02-31 10:00:00")
    assert str(one.value) == str(other.value)


def _read(texts: list[str]) -> list[int | None]:
    """What the column reader makes of the texts: an instant, or None for "not read here"."""
    column = np.array([text.encode() for text in texts], dtype=f"S{instants.WIDTH}")
    found, read = instants.read_column(column)
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
