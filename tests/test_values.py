"""What one field may be: every validator against a table."""

import pytest
from value_helpers import BAD_INSTANTS, GOOD_INSTANTS

from storemon_flask.ingest import values
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
