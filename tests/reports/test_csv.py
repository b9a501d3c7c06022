"""Reports as CSV: rounding, quoting, formulas, empty percentages, and totals of any size (SPEC 4)."""

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import load_folder, storemon
from fleets import PolledFleet, report_table
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from report_helpers import fleet as fleet

from storemon_flask.clock import timestamp_text
from storemon_flask.database import polls as staging
from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError
from storemon_flask.formatting import decimals, group_thousands, hundredths, percent_hundredths, safe_cell
from storemon_flask.labels import StoreLabels
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Hours, Polls, Rules
from storemon_flask.reports import compute
from storemon_flask.reports import csv as report_csv
from storemon_flask.reports.csv import FULL_COLUMNS, ReportText, Rows, StoreColumns, json_rows, render
from storemon_flask.reports.request import ReportQuery, ReportRequest, check
from storemon_flask.settings import Settings
from storemon_flask.uptime import openings
from storemon_flask.uptime.measures import MEASURES
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.zones import block_size


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
    return render(query, stores, StoreLabels(["a, b"] * size, [""] * size), {"store": np.repeat(order, 3), **rows})


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


_NONE = np.empty(0, dtype=np.int64)


def percent(part: int, whole: int) -> str:
    """100 x part / whole, rounded half up, by Python's integers."""
    return "" if whole == 0 else cell((20_000 * part + whole) // (2 * whole))


def amount(value_us: int, unit_us: int) -> str:
    return cell((2 * 100 * value_us + unit_us) // (2 * unit_us))


def cell(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def expected_total(rows: list[dict[str, int]], unit_us: int) -> list[str]:
    """The cells of a total row of all columns: percentages and amounts of the sums of the rows of stores."""
    sums = {name: sum(row[name] for row in rows) for name in MEASURES}
    assert sums["uptime"] + sums["downtime"] + sums["unknown"] == sums["business"]
    assert sums["uptime_low"] <= sums["uptime"] <= sums["uptime_high"]
    known = sums["uptime"] + sums["downtime"]
    return [
        percent(sums["uptime"], known) if name == "uptime_percent" else amount(sums[name], unit_us)
        for name in ("uptime", "downtime", "unknown", "business", "uptime_percent", "measured", "uptime_low", "uptime_high")
    ]  # fmt: skip


def check_totals(text: str, query: ReportQuery, rows: Rows, groups: list[str]) -> int:
    """Hold every total row of a report against the rows of its stores; how many there were."""
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    across = 1 if query.by else len(query.windows)
    begin = header.index("group") + 1 + (3 + bool(query.dayparts) if query.by else 0)
    stores = [line for line in lines if line[0] == "store"]
    columns = {name: rows[name].reshape(-1, across).tolist() for name in MEASURES}
    place = rows["store"].reshape(-1, across)[:, 0].tolist()
    at: dict[tuple[str, str, str], list[int]] = {}
    for number, line in enumerate(stores):
        group = groups[place[number]]
        period = line[header.index("period")] if query.by in ("day", "week", "month") else ""
        if query.dayparts:
            names = [daypart.name for daypart in query.dayparts]
            period = f"{line[header.index('period')]} {names.index(line[header.index('daypart')])}"
        if query.by == "hour":
            # An hour is one instant in every zone.
            period = timestamp_text(int(rows["local_us"][number] - rows["offset_s"][number] * 1_000_000))
        at.setdefault(("fleet", "", period), []).append(number)
        if group:
            at.setdefault(("group", group, period), []).append(number)
    totals = lines[len(stores) :]
    assert len(totals) == len(at)
    for line, (kind, group, period) in zip(
        totals, sorted(at, key=lambda key: (key[0] == "fleet", key[1], key[2])), strict=True
    ):
        assert line[:2] == [kind, ""]
        assert line[header.index("group")] == safe_cell(group)
        for window in range(across):
            mine = [{name: columns[name][number][window] for name in MEASURES} for number in at[kind, group, period]]
            minutes = query.by == "hour" or query.windows[window].name == "last_hour"
            cells = [line[begin + measure * across + window] for measure in range(8)]
            assert cells == expected_total(mine, MINUTE_US if minutes else HOUR_US), (kind, group, period, window)
    return len(totals)


SHAPES: list[dict[str, Any]] = [
    {"windows": ["last_hour", "last_day", "last_week"]},
    {"windows": [{"from": "2023-10-01", "to": "2024-10-14"}, "last_30_days"]},
    {"by": "hour", "windows": ["last_day"]},
    {"by": "daypart", "windows": [{"from": "2024-10-07", "to": "2024-10-13"}]},
    {"by": "day", "windows": [{"from": "2024-09-20", "to": "2024-10-13"}]},
    {"by": "week", "windows": ["last_30_days"]},
    {"by": "month", "windows": [{"from": "2024-01-01", "to": "2024-10-13"}], "method": "previous"},
]


@pytest.mark.parametrize("groups", [None, ["North", "=East"]])
@pytest.mark.parametrize("asked", SHAPES)
def test_every_total_is_that_of_its_stores_rows(
    fleet: Database, settings: Settings, asked: dict[str, Any], groups: list[str] | None
) -> None:
    with fleet.read() as connection:
        request = ReportRequest(columns="full", fields={**asked, "totals": True, "groups": groups})
        query = compute.make_query(fleet, request, "America/Chicago", 10**9, connection)
        everyone = readings.read_schedule(fleet, connection, "America/Chicago", None, query.as_of_us)
        ids = [i for i, group in zip(everyone.ids, everyone.groups, strict=True) if groups is None or group in groups]
        plan = readings.read_schedule(fleet, connection, "America/Chicago", ids, query.as_of_us)
        rules = replace(settings.rules, method=query.method)
        rows, _ = compute.measure_rows(connection, plan, query, rules, lambda share: None)
        text = render(query, report_csv.store_columns(plan), plan.labels, rows)
    assert check_totals(text.csv, query, rows, plan.groups) >= (len(groups) if groups else 4)


@pytest.mark.parametrize(
    ("zone", "by", "first", "last", "period"),
    [
        ("Asia/Beirut", "day", "2024-03-30", "2024-04-01", "2024-03-31"),
        ("Africa/Cairo", "day", "2024-04-25", "2024-04-27", "2024-04-26"),
        # A Monday and a first of a month without a midnight.
        ("Asia/Tehran", "week", "2021-03-14", "2021-04-02", "2021-03-22"),
        ("America/Asuncion", "month", "2023-09-20", "2023-10-10", "2023-10"),
    ],
)
def test_a_date_without_a_midnight_is_one_period_with_that_date_elsewhere(
    database: Database, settings: Settings, tmp_path: Path, zone: str, by: str, first: str, last: str, period: str
) -> None:
    (tmp_path / "polls.csv").write_text(f"store_id,timestamp_utc,status\na,{first}T12:00Z,active\n")
    (tmp_path / "zones.csv").write_text(f"store_id,timezone_str\na,{zone}\nb,Europe/London\n")
    (tmp_path / "stores.csv").write_text("store_id,name,group\na,A,North\nb,B,North\n")
    load_folder(database, tmp_path)
    shape = {"by": by, "windows": [{"from": first, "to": last}], "totals": True}
    asked = ReportRequest(int(np.datetime64(f"{last}T23:00", "us").astype(np.int64)), "full", None, shape)
    question = compute.make_query(database, asked, "America/Chicago", 10**6)
    text = compute.compute(database, question, settings.rules, "America/Chicago").csv
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["period"] == period]
    assert [row["kind"] for row in rows] == ["store", "store", "group", "fleet"]
    assert float(rows[2]["business_hours"]) == sum(float(row["business_hours"]) for row in rows[:2])
    assert rows[2]["business_hours"] == rows[3]["business_hours"]


def made_rows(seed: int, stores: int, days: int, windows: int) -> Rows:
    """Rows of stores that are open for nearly all of so many days: measures of the largest size, which add up."""
    chance = np.random.default_rng(seed)
    size = stores * windows
    business = days * DAY_US - chance.integers(0, HOUR_US, size)
    unknown = chance.integers(0, business // 10)
    downtime = chance.integers(0, (business - unknown) // chance.integers(1, 1000))
    uptime = business - unknown - downtime
    low = uptime - chance.integers(0, uptime)
    return {
        "store": np.repeat(np.arange(stores), windows),
        "start_us": np.zeros(size, dtype=np.int64),
        "local_us": np.zeros(size, dtype=np.int64),
        "offset_s": np.zeros(size, dtype=np.int64),
        "end_us": np.full(size, days * DAY_US),
        "uptime": uptime,
        "downtime": downtime,
        "unknown": unknown,
        "business": business,
        "measured": low,
        "uptime_low": low,
        "uptime_high": uptime + unknown,
    }


def made_columns(stores: int) -> StoreColumns:
    ids = [f"S{number:07d}" for number in range(stores)]
    nothing = [""] * stores
    return StoreColumns.of({"store_id": ids, "timezone": ["UTC"] * stores, "name": nothing, "group": nothing})


# Nothing is gained by a smaller seed.
@hypothesis_settings(max_examples=3, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32), groups=st.integers(1, 40))
def test_totals_of_14000_stores_over_400_days_are_exact(seed: int, groups: int) -> None:
    windows = [{"from": "2023-01-01", "to": "2024-02-05", "name": name} for name in ("one", "two")]
    query = check(ReportRequest(columns="full", fields={"windows": windows, "totals": True}))
    rows = made_rows(seed, 14_000, 400, 2)
    names = [f"G{number % groups}" for number in range(14_000)]
    text = render(query, made_columns(14_000), StoreLabels(names, [""] * 14_000), rows)
    assert check_totals(text.csv, query, rows, names) == groups + 1
    business = rows["business"][::2]
    assert sum(business.tolist()) > 13_990 * 400 * DAY_US


def test_totals_in_python_integers_are_those_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    query = check(ReportRequest(columns="full", fields={"windows": ["last_day", "last_week"], "totals": True}))
    rows, labels = made_rows(7, 200, 400, 2), StoreLabels(["G", ""] * 100, [""] * 200)
    narrow = render(query, made_columns(200), labels, rows)
    monkeypatch.setattr(report_csv, "TOO_LARGE", 1)
    assert render(query, made_columns(200), labels, rows) == narrow


@pytest.mark.slow
def test_totals_that_leave_64_bits_are_exact() -> None:
    stores = 280_000
    query = check(
        ReportRequest(
            columns="full",
            fields={"windows": [{"from": "2023-01-01", "to": "2024-02-05", "name": "w"}], "totals": True},
        )
    )
    rows = made_rows(7, stores, 400, 1)
    text = render(query, made_columns(stores), StoreLabels(["G"] * stores, [""] * stores), rows)
    assert sum(rows["business"].tolist()) > 1 << 63
    assert check_totals(text.csv, query, rows, ["G"] * stores) == 2


WHOLES = st.one_of(st.integers(0, 400 * DAY_US), st.integers(0, (1 << 62) - 1))


@given(rows=st.lists(st.tuples(WHOLES, st.integers(0, 10_000), st.integers(-2, 2)), min_size=1, max_size=8))
def test_a_percentage_is_exact_up_to_the_largest_integers(rows: list[tuple[int, int, int]]) -> None:
    pairs = [(min(max(whole * share // 10_000 + more, 0), whole), whole) for whole, share, more in rows]
    batch, whole = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    exact = [percent(*pair) for pair in pairs]
    assert decimals(percent_hundredths(batch, whole)) == exact
    # Where 64 bits do not do, sums come as Python integers.
    wide = percent_hundredths(batch.astype(object) << 20, whole.astype(object) << 20)
    assert decimals(wide) == exact


def test_the_percentage_of_800_stores_in_a_week(settings: Settings, tmp_path: Path) -> None:
    end = datetime(2024, 11, 27, tzinfo=UTC)
    stamps = [f"{end - timedelta(hours=12 * step):%Y-%m-%d %H:%M:%S} UTC" for step in range(15)]
    lines = [f"S{store:04d},{stamp},active" for store in range(800) for stamp in stamps]
    (tmp_path / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *lines]) + "\n")
    loaded = storemon(settings.home, "load-data", str(tmp_path / "polls.csv"))
    assert loaded.returncode == 0, loaded.stderr
    done = storemon(settings.home, "report", "--window", "last_week", "--columns", "full", "--totals")
    assert done.stdout.splitlines()[-1] == ("fleet,,,,,134400.00,0.00,0.00,134400.00,100.00,0.00,0.00,134400.00,,"), (
        done.stderr
    )
    without = storemon(settings.home, "report", "--window", "last_week", "--totals")
    assert without.stdout.splitlines()[-1] == "fleet,,,134400.00,0.00"


def fleet_of(stores: int, instants_us: list[int], zones: tuple[str, ...] = ("Etc/UTC",)) -> PolledFleet:
    """That many stores without hours, each polled active at those instants."""
    polls = Polls(
        np.repeat(np.arange(stores), len(instants_us)),
        np.tile(np.array(instants_us, dtype=np.int64), stores),
        np.ones(stores * len(instants_us), dtype=bool),
    )
    last = np.full(stores, instants_us[-1])
    return PolledFleet(
        size=stores,
        hours=Hours(*[_NONE] * 6),
        zone_of=np.arange(stores) % len(zones),
        zone_names=zones,
        polls=polls,
        last_poll_us=last,
    )


def test_polls_of_1970_and_of_2199_in_one_large_fleet() -> None:
    as_of = 7_258_118_400_000_000 - HOUR_US
    table = report_table(fleet_of(14_000, [5, as_of - 2 * DAY_US]), as_of, Rules())
    assert set(table["uptime_last_week"].tolist()) == {2 * DAY_US}
    assert set(table["unknown_last_week"].tolist()) == {5 * DAY_US}
    assert set(table["uptime_last_day"].tolist()) == {0}


def test_openings_use_the_zones_of_their_stores_only() -> None:
    """A fleet whose stores moved has as many zone histories as stores; those of 230 years would not fit on one line."""
    names = tuple(f"America/Chicago {1970 + n // 365}-01-{n % 28 + 1:02d} America/Denver" for n in range(3_000))
    one = fleet_of(1, [5], names)
    found = openings.build(one, 0, 7_258_118_400_000_000)
    assert len(found) == 1
    assert found.end_us[0] - found.start_us[0] > 229 * 365 * DAY_US


def test_what_does_not_fit_into_64_bits_is_an_error_and_no_number() -> None:
    assert block_size(1, 0, 7_258_118_400_000_000) == 7_258_118_400_000_001
    assert block_size(266_000, 0, 400 * DAY_US) == 400 * DAY_US + 1
    with pytest.raises(OverflowError, match="5,000 stores or zones over 84,006 days do not fit"):
        block_size(5_000, 0, 7_258_118_400_000_000)
    with pytest.raises(OverflowError):
        openings.build(fleet_of(5_000, [5]), 0, 7_258_118_400_000_000)


def test_a_file_of_too_many_stores_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ((staging.MOST_STORES - 1) << staging.STORE_SHIFT | staging.IN_WEEK) == (1 << 63) - 1
    assert 2 * WEEK_US <= staging.IN_WEEK
    monkeypatch.setattr(staging, "MOST_STORES", 3)
    staged = staging.StagedPolls(tmp_path)
    ids = ["a", "b", "c", "d"]
    staged.add(ids, np.array([0, 1, 2]), np.array([1, 2, 3]), np.ones(3, dtype=bool))
    with pytest.raises(DataError, match="names more than 3 stores"):
        staged.add(ids, np.array([3]), np.array([4]), np.ones(1, dtype=bool))
    staged.close()


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("", ""), ("999.99", "999.99"), ("1000.00", "1,000.00"), ("1234567.89", "1,234,567.89"), ("-1234", "-1,234"),
        ("-123.45", "-123.45"), ("2024-10-14", "2024-10-14"), ("=12345", "=12345"), ("0.12345", "0.12345"),
    ],
)  # fmt: skip
def test_thousands_are_told_apart_in_numbers_only(cell: str, shown: str) -> None:
    assert group_thousands(cell) == shown
