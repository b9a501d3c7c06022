"""What one field may be, and what a header: every function against a table."""

import re
import sys
import time
import unicodedata

import pytest
from load_helpers import us
from tzlocal.windows_tz import win_tz

from storemon_flask import zonedata
from storemon_flask.errors import DataError
from storemon_flask.feeds import schema
from storemon_flask.feeds.schema import BadValue

NOON = us("2023-01-22T12:09:39")


EXACT = us("2023-01-22T12:09:39.388884")


GOOD_TIMESTAMPS = {
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
    "1674389379": NOON,
    "1970-01-01 00:00:00 UTC": 0,
    "1969-12-31 23:00:00-01:00": 0,
    "2024-02-29 00:00:00": us("2024-02-29T00:00:00"),
    "2000-02-29 23:59:59.999999Z": us("2000-03-01T00:00:00") - 1,
}


BAD_TIMESTAMPS = {
    "": schema.TIMESTAMP_FORM,
    "yesterday": schema.TIMESTAMP_FORM,
    "2023-01-22": schema.TIMESTAMP_FORM,
    "2023-01-22 12": schema.TIMESTAMP_FORM,
    "22/01/2023 12:09": schema.TIMESTAMP_FORM,
    "2023-1-22 12:09:39": schema.TIMESTAMP_FORM,
    "2023-01-22  12:09:39": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39.": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39,388": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39 EST": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39  UTC": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39 UTC UTC": schema.TIMESTAMP_FORM,
    "2023-01-22 12:09:39+5": schema.TIMESTAMP_FORM,
    "+2023-01-22 12:09:39": schema.TIMESTAMP_FORM,
    "２０２３-01-22 12:09:39": schema.TIMESTAMP_FORM,
    "2023-02-29 12:09:39": schema.TIMESTAMP_RANGE,
    "1900-02-29 12:09:39": schema.TIMESTAMP_RANGE,
    "2023-13-01 12:09:39": schema.TIMESTAMP_RANGE,
    "2023-00-01 12:09:39": schema.TIMESTAMP_RANGE,
    "2023-01-00 12:09:39": schema.TIMESTAMP_RANGE,
    "2023-01-32 12:09:39": schema.TIMESTAMP_RANGE,
    "2023-01-22 24:00:00": schema.TIMESTAMP_RANGE,
    "2023-01-22 12:60:00": schema.TIMESTAMP_RANGE,
    "2023-01-22 12:09:60": schema.TIMESTAMP_RANGE,
    "2023-01-22 12:09:39+24:00": schema.TIMESTAMP_RANGE,
    "2023-01-22 12:09:39-99:00": schema.TIMESTAMP_RANGE,
    "0000-01-01 00:00:00": schema.TIMESTAMP_RANGE,
    "1969-12-31 23:59:59.999999 UTC": schema.TIMESTAMP_EARLY,
    "0001-01-01 00:00:00+23:59": schema.TIMESTAMP_EARLY,
    "1970-01-01 00:59:59+01:00": schema.TIMESTAMP_EARLY,
}


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
    "12E5": "12E5",
    "314e1459": "314e1459",
    "1001.0": "1001.0",
    "8139926242460185114": "8139926242460185114",
    "#12": "#12",
    "#A-1": "#A-1",
    "#wow!": "#wow!",
    "# 12": "# 12",
    "two\u00a0words": "two\u00a0words",
    "\ufeff1001": "1001",
    "1001\u200b": "1001",
    "\u200e1001\u200f": "1001",
    "1001\u00a0": "1001",
    "\u3000\u00ad 1001 \u2060\t\u00a0\ufe0f": "1001",
    "\u2067NYC 12\u2069": "NYC 12",
    "'": "'",
    'quo"te': 'quo"te',
    "x" * 200: "x" * 200,
    "🍕" * 200: "🍕" * 200,
    " " * 300 + "x": "x",
}


BAD_IDS = {
    "": schema.ID_EMPTY,
    "   ": schema.ID_EMPTY,
    " \t ": schema.ID_EMPTY,
    "x" * 201: schema.ID_LONG,
    "é" * 201: schema.ID_LONG,
    "a\tb": schema.ID_CONTROL,
    "a\nb": schema.ID_CONTROL,
    "a\x00b": schema.ID_CONTROL,
    "a\x7fb": schema.ID_CONTROL,
    "a\x85b": schema.ID_CONTROL,
    "a\x1bb": schema.ID_CONTROL,
    "8.13992624246019E+018": schema.ID_SPREADSHEET,
    " 8.13992624246019E+18 ": schema.ID_SPREADSHEET,
    "8E+18": schema.ID_SPREADSHEET,
    "8.E+18": schema.ID_SPREADSHEET,
    "\u200b \ufeff": schema.ID_EMPTY,
    "\u00a01001\u0085": schema.ID_CONTROL,
    **dict.fromkeys(
        (
            "3,14E+14", "8,13992624246019E+18", "3.14E14", "3.14e14", "3.14E+14", "3.14e+014", "-3.14E+14", "+3.14E+14",
            "-3.14E-5", "3.14E-05", "3.14 E+14", "3.14E +14", " 3,14\u00a0E+14 ", "\u22123.14E\u22125", ".5E+10", "-3E5",
            "8E+18", "8e+18", "\ufeff3.14E+14\u200b",
        ),
        schema.ID_SPREADSHEET,
    ),
    **dict.fromkeys(
        (
            "#", "########", " #### ", "#N/A", "#n/a", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#SPILL!",
            "#CALC!", "#ERROR!", "#NV", "#BEZUG!", "#WERT!", "#ZAHL!", "#VALEUR!", "#\u00a1REF!", "#\u00bfNOMBRE?", "#N/D",
            "#\u0414\u0415\u041b/0!", "Err:502", "\u200b#N/A",
        ),
        schema.ID_ERROR,
    ),
    "zero\u200bwidth": schema.ID_INVISIBLE.format("ZERO WIDTH SPACE, U+200B"),
    "10\u00ad01": "store_id contains an invisible character (SOFT HYPHEN, U+00AD); remove it",
    "\u200b10\ufeff01\u200b": schema.ID_INVISIBLE.format("ZERO WIDTH NO-BREAK SPACE, U+FEFF"),
    "a\u202eb": schema.ID_INVISIBLE.format("RIGHT-TO-LEFT OVERRIDE, U+202E"),
    "a\u2066b": schema.ID_INVISIBLE.format("LEFT-TO-RIGHT ISOLATE, U+2066"),
    "\U0001f469\u200d\U0001f373": schema.ID_INVISIBLE.format("ZERO WIDTH JOINER, U+200D"),
    "a\u2028b": schema.ID_INVISIBLE.format("LINE SEPARATOR, U+2028"),
    "a\u3164b": schema.ID_INVISIBLE.format("HANGUL FILLER, U+3164"),
    "a\U000e0002b": schema.ID_INVISIBLE.format("U+E0002"),
}  # fmt: skip


@pytest.mark.parametrize(
    "character", [chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)) == "Cf"]
)
def test_every_format_character_is_cut_off_the_ends_and_refused_inside_unless_it_is_drawn(character: str) -> None:
    # The signs that Arabic, Syriac, Kaithi and Egyptian put before or around numbers and glyphs are seen.
    drawn = re.fullmatch(
        "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f]", character
    )
    if drawn:
        assert schema.parse_store_id(f"1{character}2") == f"1{character}2"
        return
    assert schema.parse_store_id(f"{character} 12{character}") == "12"
    with pytest.raises(BadValue, match=f"U\\+{ord(character):04X}"):
        schema.parse_store_id(f"1{character}2")


def test_cutting_the_ends_of_a_long_text_takes_linear_time() -> None:
    text = "a" + "\u200b " * 2_000_000 + "b"
    began = time.process_time()
    assert schema.strip_ends(text) == text
    assert schema.strip_ends(text[:-1]) == "a"
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("text", "expected"), GOOD_IDS.items())
def test_any_text_is_a_store_id_and_stays_as_it_is_but_for_blanks_at_its_ends(text: str, expected: str) -> None:
    assert schema.parse_store_id(text) == expected


@pytest.mark.parametrize(("text", "reason"), BAD_IDS.items())
def test_what_cannot_be_a_store_id_says_why(text: str, reason: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_store_id(text)
    assert str(bad.value) == reason


@pytest.mark.parametrize(("text", "expected"), GOOD_TIMESTAMPS.items())
def test_every_accepted_spelling_of_a_timestamp_is_the_same_microsecond(text: str, expected: int) -> None:
    assert schema.parse_timestamp(text) == expected


@pytest.mark.parametrize(("text", "reason"), BAD_TIMESTAMPS.items())
def test_what_is_no_timestamp_says_why(text: str, reason: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_timestamp(text)
    assert str(bad.value) == reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [("active", True), ("inactive", False), ("ACTIVE", True), ("InActive", False), (" active\t", True)],
)
def test_a_status_is_read_in_any_case_and_without_its_blanks(text: str, expected: bool) -> None:
    assert schema.parse_status(text) is expected


@pytest.mark.parametrize("text", ["", "up", "1", "true", "activ", "actives", "in active", "active.", "actıve"])
def test_any_other_status_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_status(text)
    assert str(bad.value) == schema.STATUS


@pytest.mark.parametrize(("text", "expected"), [*((str(day), day) for day in range(7)), (" 3 ", 3)])
def test_a_day_is_a_whole_number_from_monday_to_sunday(text: str, expected: int) -> None:
    assert schema.DaysOfWeek().read(text) == expected


@pytest.mark.parametrize("text", ["", "7", "-1", "1.0", "01", "12", "Monday", "²", "３"])
def test_any_other_day_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.DaysOfWeek().read(text)
    assert str(bad.value) == schema.DAY


@pytest.mark.parametrize(("text", "expected"), [*((str(day), day - 1) for day in range(1, 8)), (" 7 ", 6)])
def test_an_iso_day_is_a_whole_number_from_one_to_seven(text: str, expected: int) -> None:
    assert schema.DaysOfWeek(iso=True).read(text) == expected


@pytest.mark.parametrize("text", ["", "0", "8", "-1", "1.0", "07", "Sunday"])
def test_any_other_iso_day_is_refused(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.DaysOfWeek(iso=True).read(text)
    assert str(bad.value) == schema.DAY_ISO


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
    assert schema.parse_time_of_day(text) == expected
    assert schema.parse_time_of_day(text, end=True) == expected


@pytest.mark.parametrize("text", ["24:00", "24:00:00", "24:00:00.000"])
def test_twenty_four_hundred_is_an_end_and_never_a_start(text: str) -> None:
    assert schema.parse_time_of_day(text, end=True) == 86_400
    with pytest.raises(BadValue) as bad:
        schema.parse_time_of_day(text)
    assert str(bad.value) == schema.TIME


@pytest.mark.parametrize(
    "text", ["", "9", "9:5", "009:00", "-1:00", "24:01", "24:00:01", "25:00", "10:60", "10:00:60", "9am", "9:00 PM"]
)
@pytest.mark.parametrize("end", [False, True])
def test_any_other_time_of_day_is_refused(text: str, end: bool) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_time_of_day(text, end=end)
    assert str(bad.value) == schema.TIME


@pytest.mark.parametrize("name", ["America/Chicago", "Asia/Kolkata", "UTC", "Etc/GMT+5", "America/Argentina/Ushuaia"])
def test_a_time_zone_is_an_iana_name_that_exists(name: str) -> None:
    assert schema.parse_time_zone(f" {name} ") == name


@pytest.mark.parametrize(
    "name", ["", "America/Gotham", "CST-6", "localtime", "Factory", "../etc/passwd", "America", "America\\Chicago"]
)
def test_any_other_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_time_zone(name)
    assert str(bad.value) == schema.ZONE


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("america/new_york", "America/New_York"),
        ("AMERICA/NEW_YORK", "America/New_York"),
        ("America/New York", "America/New_York"),
        (" us/eastern\u00a0", "US/Eastern"),
        ("\ufeffEurope/Paris\u200b", "Europe/Paris"),
        ("utc", "UTC"),
        ("etc/gmt+5", "Etc/GMT+5"),
        ("america/port-au-prince", "America/Port-au-Prince"),
    ],
)
def test_a_time_zone_is_known_in_any_case_and_has_the_spelling_that_exists(text: str, name: str) -> None:
    assert schema.parse_time_zone(text) == name


@pytest.mark.parametrize(
    ("windows", "name"),
    [
        ("Eastern Standard Time", "America/New_York"),
        ("eastern standard time ", "America/New_York"),
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("India Standard Time", "Asia/Calcutta"),
        ("US Mountain Standard Time", "America/Phoenix"),
    ],
)
def test_a_windows_zone_is_refused_with_the_iana_zone_it_stands_for(windows: str, name: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_time_zone(windows)
    assert str(bad.value) == f"time zone is the Windows name of {name}; write {name}"


def test_every_windows_zone_stands_for_a_zone_that_exists() -> None:
    assert len(win_tz) > 130
    for windows, name in win_tz.items():
        assert zonedata.find(name) == name
        assert zonedata.find(windows) or zonedata.of_windows(windows) == name


def test_no_two_zones_differ_only_in_case() -> None:
    assert {zonedata.find(name.upper()) for name in zonedata.names()} == zonedata.names()


def test_no_reason_contains_the_value_so_that_rejects_can_be_counted_by_reason() -> None:
    with pytest.raises(BadValue) as one:
        schema.parse_timestamp("2023-02-30 10:00:00")
    with pytest.raises(BadValue) as other:
        schema.parse_timestamp("2023-02-31 10:00:00")
    assert str(one.value) == str(other.value)


def test_a_header_of_too_many_columns_is_a_sentence() -> None:
    schema.recognise("store_id,timestamp_utc,status" + ",x" * 997)
    with pytest.raises(DataError, match="the header has more than 1,000 columns, which no feed has"):
        schema.recognise("store_id,timestamp_utc,status" + ",x" * 998)
