"""Cells of a report: rounding, quoting, formulas, empty percents, instants (SPEC 4)."""

import csv
import io
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storemon_flask.clock import timestamp_text
from storemon_flask.formatting import hundredths, percent_hundredths
from storemon_flask.model import HOUR_US, MINUTE_US, WEEK_US
from storemon_flask.reports.csv import FULL_COLUMNS, ReportText, StoreColumns, json_rows, render
from storemon_flask.reports.request import ReportRequest, check
from storemon_flask.uptime.measures import MEASURES
from storemon_flask.uptime.status import STATUSES


def rendered(ids: list[str], columns: str = "classic", **tally: int) -> ReportText:
    """A report in which every store has that tally in every window."""

    def same(value: int) -> np.ndarray:
        return np.full(3 * len(ids), value, dtype=np.int64)

    size = len(ids)
    rows = {name: same(tally.get(name, 0)) for name in MEASURES}
    rows |= {"polls_last_week": same(3), "last_poll_us": same(1), "status_now": same(STATUSES.index("closed"))}
    query = check(ReportRequest(columns=columns))
    stores = StoreColumns.of(
        {"store_id": ids, "timezone": ["Asia/Tokyo"] * size, "name": ["=name"] * size, "group": ["a, b"] * size}
    )
    order = np.argsort(stores.rank)
    return render(query, stores, ["a, b"] * size, {"store": np.repeat(order, 3), **rows})


def cells(text: ReportText) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.csv, newline="")))[1:]


@pytest.mark.parametrize(
    ("microseconds", "unit", "text"),
    [
        (0, MINUTE_US, 0),
        (299_999, MINUTE_US, 0),
        (300_000, MINUTE_US, 1),
        (899_999, MINUTE_US, 1),
        (900_000, MINUTE_US, 2),
        (HOUR_US, MINUTE_US, 6000),
        (17_999_999, HOUR_US, 0),
        (18_000_000, HOUR_US, 1),
        # 104.5 and 75.5 minutes: 1.741666... and 1.258333... hours.
        (104 * MINUTE_US + 30_000_000, HOUR_US, 174),
        (75 * MINUTE_US + 30_000_000, HOUR_US, 126),
        (WEEK_US, HOUR_US, 16_800),
    ],
)
def test_a_cell_is_rounded_half_up_from_the_integers(microseconds: int, unit: int, text: int) -> None:
    assert hundredths(np.array([microseconds]), unit).tolist() == [text]


@given(st.integers(0, WEEK_US), st.sampled_from([MINUTE_US, HOUR_US]))
def test_rounding_is_that_of_decimal_arithmetic(microseconds: int, unit: int) -> None:
    exact = (Decimal(microseconds) / unit).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert Decimal(int(hundredths(np.array([microseconds]), unit)[0])) / 100 == exact


@given(st.integers(0, WEEK_US), st.integers(0, WEEK_US))
def test_a_percent_is_rounded_half_up_once(up: int, down: int) -> None:
    found = int(percent_hundredths(np.array([up]), np.array([up + down]))[0])
    if up + down == 0:
        assert found == -1
    else:
        # floor(x + 1/2) in integers alone.
        assert found == (2 * 10_000 * up + up + down) // (2 * (up + down))
        assert 0 <= found <= 10_000


@pytest.mark.parametrize(
    ("up", "down", "text"),
    [
        (0, 0, ""),
        (1, 0, "100.00"),
        (0, 1, "0.00"),
        (1, 2, "33.33"),
        (2, 1, "66.67"),
        (1, 19_999, "0.01"),
        (1, 20_001, "0.00"),
    ],
)
def test_a_percent_is_empty_only_when_nothing_is_known(up: int, down: int, text: str) -> None:
    row = cells(rendered(["s"], "full", uptime=up, downtime=down))[0]
    place = FULL_COLUMNS.index("uptime_percent_last_hour")
    assert row[place : place + 3] == [text] * 3


def test_the_hour_is_in_minutes_and_day_and_week_in_hours() -> None:
    row = cells(rendered(["s"], uptime=HOUR_US // 2, downtime=HOUR_US // 4))[0]
    assert row == ["s", "30.00", "0.50", "0.50", "15.00", "0.25", "0.25"]


@pytest.mark.parametrize(
    ("store_id", "cell"),
    [
        ("plain", "plain"),
        ("with, comma", '"with, comma"'),
        ('with "quotes"', '"with ""quotes"""'),
        ("é店\U0001f35c", "é店\U0001f35c"),
        ("007", "007"),
        ("NA", "NA"),
        ("9007199254740993", "9007199254740993"),
        ("-5", "-5"),
        ("+1.50", "+1.50"),
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-", "'-"),
        ("+5x", "'+5x"),
        ("-1e5", "'-1e5"),
        ("\tx", "'\tx"),
        ("-1\n", '"\'-1\n"'),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\uff0b5", "'\uff0b5"),
        ("\uff0d5", "'\uff0d5"),
        ("\uff20SUM(A1)", "'\uff20SUM(A1)"),
        ("a\uff1d1", "a\uff1d1"),
        ('=HYPERLINK("x","y")', '"\'=HYPERLINK(""x"",""y"")"'),
        ("a=1", "a=1"),
        ("'x", "'x"),
    ],
)
def test_an_id_is_quoted_only_where_it_must_be_and_never_runs_as_a_formula(store_id: str, cell: str) -> None:
    text = rendered([store_id])
    assert text.csv.partition("\n")[2] == cell + ",0.00" * 6 + "\n"
    assert text.altered == ({"store_id": {0: store_id}} if "'" + store_id == cells(text)[0][0] else {})


def test_rows_are_in_code_point_order_of_the_ids() -> None:
    ids = ["b", "a", "B", "é", "10", "9", "\U0001f35c", "\uff21", "=z"]
    text = rendered(ids)
    assert [row[0] for row in cells(text)] == ["10", "9", "'=z", "B", "a", "b", "é", "\uff21", "\U0001f35c"]
    assert text.altered == {"store_id": {2: "=z"}}
    assert text.rows == 9


def test_a_report_of_no_store_is_its_header() -> None:
    assert rendered([]).csv == (
        "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,"
        "downtime_last_hour,downtime_last_day,downtime_last_week\n"
    )


def test_json_rows_give_back_ids_as_they_are_and_null_for_empty_cells() -> None:
    ids = ["'=a", "=a", 'q"1', "00", "1e5", "with, comma"]
    text = rendered(ids, "full")
    rows = list(json_rows(io.StringIO(text.csv, newline=""), text.altered))
    assert [row["store_id"] for row in rows] == sorted(ids)
    assert {row["uptime_percent_last_day"] for row in rows} == {None}
    assert rows[0]["polls_last_week"] == 3
    assert rows[0]["last_poll_utc"] == "1970-01-01T00:00:00.000001Z"
    assert rows[0]["status_now"] == "closed"
    assert {(row["name"], row["group"]) for row in rows} == {("=name", "a, b")}
    assert {row[-2] for row in cells(text)} == {"'=name"}


@pytest.mark.parametrize(
    ("instant_us", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_674_389_379_388_884, "2023-01-22T12:09:39.388884Z"),
        (7_258_118_400_000_000, "2200-01-01T00:00:00.000000Z"),
    ],
)
def test_an_instant_has_six_digits_and_a_z(instant_us: int, text: str) -> None:
    assert timestamp_text(instant_us) == text
