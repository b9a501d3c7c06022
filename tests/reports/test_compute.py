"""Reports computed: what may be asked, the same everywhere, batches, and parts that add up to wholes."""

from decimal import Decimal
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import load_folder, storemon
from flask.testing import FlaskClient
from report_helpers import asked, rows_of
from report_helpers import fleet as fleet

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import polls, readings, stores
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US
from storemon_flask.reports import compute
from storemon_flask.reports.csv import ReportText
from storemon_flask.reports.request import ReportRequest, check
from storemon_flask.settings import Settings

WINDOWS = (
    "last_hour, last_day, last_week, today, yesterday, this_week, last_week_calendar, this_month, last_month, "
    "last_7_days, last_30_days, last_90_days, or an object with from and to"
)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"by": "year"}, "by is 'year'; it must be hour, daypart, day, week, month"),
        ({"method": "last"}, "method is 'last'; it must be nearest, previous"),
        ({"totals": "yes"}, "totals is 'yes'; it must be true or false"),
        ({"kind": "x"}, "kind is 'x'; it must be times, outages"),
        ({"windows": ["last_year"]}, f"windows[0] is 'last_year'; it must be {WINDOWS}"),
        ({"windows": [7]}, f"windows[0] is 7; it must be {WINDOWS}"),
        ({"windows": [{"from": "2024-10-02", "to": "2024-10-01"}]}, "windows[0] runs from '2024-10-02' to "
            "'2024-10-01'; it must be an end after its start"),
        ({"windows": [{"from": "2024-10-02"}]}, "windows[0].to is missing; it must be a date such as 2024-10-01 "
            "or an instant with an offset such as 2024-10-01T09:00:00-05:00"),
        ({"windows": [{"from": "2024-10-02", "to": "2024-10-03T00:00:00Z"}]}, "windows[0] mixes a date "
            "with an instant; it "
            "must be two dates, or two instants with an offset"),
        ({"windows": [{"from": "0001-01-01", "to": "0001-02-01"}]}, "windows[0].from is '0001-01-01'; it "
            "must be between 1970-01-01 and 2200-01-01"),
        ({"windows": [{"from": "2199-12-31T00:00:00Z", "to": "9999-12-31T00:00:00Z"}], "by": "day"}, "windows[0].to is "
            "'9999-12-31T00:00:00Z'; "
            "it must be between 1970-01-01 and 2200-01-01"),
        ({"windows": [{"from": "2022-10-02", "to": "2024-10-01"}]}, "windows[0] is 730 days long;"
            " it must be at most 400 days"),
        ({"windows": [{"from": "2024-10-01", "to": "2024-10-02", "zone": "x"}]}, "windows[0].zone is not a field of a "
            "window; it must be from, to and name"),
        ({"windows": [{"from": "2024-10-01T00:00:00", "to": "2024-10-02T00:00:00Z"}]}, "windows[0].from is "
            "'2024-10-01T00:00:00';"
            " it must be a date such as "
            "2024-10-01 or an instant with an offset such as 2024-10-01T09:00:00-05:00"),
        ({"windows": [{"from": "2024-10-01", "to": "2024-10-02", "name": "a\nb"}]}, "windows[0].name is "
            "'a\\nb'; it must "
            "be 1 to 100 printable characters"),
        ({"windows": ["last_day", "last_day"]}, "windows names 'last_day' twice; it must "
            "be a name of its own for each window"),
        ({"windows": ["last_day", "last_week"], "by": "day"}, "windows has 2 entries; it must be one "
            "window with `by`, which is cut into days"),
        ({"windows": [{"from": "2024-10-14", "to": "2024-10-20"}], "by": "day"}, None),
        ({"windows": [{"from": "2024-10-20T00:00:00Z", "to": "2024-10-21T00:00:00Z"}]}, "windows[0] "
            "'2024-10-20T00:00:00Z_2024-10-21T00:00:00Z' ends "
            "after the as-of; it must be a window that ends by the as-of"),
        ({"groups": ["West"]}, "groups: no store is in 'West'"),
        ({"zones": ["Mars/Base"]}, "zones: no store is in 'Mars/Base'"),
        ({"groups": []}, "groups is []; it must be a list of at least one text"),
        ({"kind": "outages", "by": "day"}, "by does not go with outages; it must be left out"),
        ({"kind": "outages", "shortest_minutes": -1}, "shortest_minutes is -1; it must be "
            "a number of minutes from 0 to 576000"),
        ({"compare": "next"}, "compare is 'next'; it must be previous"),
        ({"compare": "previous", "by": "day"}, "compare does not go with by day, whose rows follow each other; it must "
            "be left out"),
        ({"compare": "previous", "kind": "outages"}, "compare does not go with outages; it must be left out"),
        ({"compare": "previous", "windows": ["today", {"from": "2024-10-01", "to": "2024-10-02",
            "name": "previous_today"}]}, "windows[1] is called 'previous_today', as the period before another window is; "
            "it must be a window of another name, with compare"),
        ({"shortest_minutes": 5}, "shortest_minutes is of outages; it must be left out without kind outages"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_named_with_what_can(
    fleet: Database, client: FlaskClient, body: dict[str, object], sentence: str | None
) -> None:
    answer = client.post("/trigger_report", json=body)
    if sentence is None:
        assert answer.status_code == 202
        return
    assert (answer.status_code, answer.json["detail"]) == (422, sentence)
    assert list(answer.json["errors"]) == [sentence.split(" ")[0].rstrip(":")]


@pytest.mark.parametrize("body", [{}, {"method": "nearest"}, {"totals": False}, {"kind": "times"}])
def test_the_classic_report_is_none_of_these(body: dict[str, object]) -> None:
    assert check(ReportRequest(fields=body)).is_default


def test_a_report_too_long_says_how_long_it_would_be(fleet: Database, settings: Settings) -> None:
    fleet.close()
    done = storemon(settings.home, "report", "--by", "hour", STOREMON_MAX_REPORT_ROWS="100")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the report would have 1,000 rows, more than the "
        "100 of STOREMON_MAX_REPORT_ROWS; ask for fewer stores, a "
        "shorter window or longer periods\n"
    )


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"by": "day"}, ["--by", "day"]),
        ({"by": "daypart", "columns": "full", "totals": True}, ["--by", "daypart", "--columns", "full", "--totals"]),
        ({"by": "hour", "columns": "full"}, ["--by", "hour", "--columns", "full"]),
        (
            {"windows": [{"from": "2024-10-01", "to": "2024-10-08", "name": "first"}, "last_day"], "totals": True},
            ["--window", "first=2024-10-01..2024-10-08", "--window", "last_day", "--totals"],
        ),
        (
            {"windows": ["last_week_calendar", "last_hour"], "compare": "previous", "totals": True},
            ["--window", "last_week_calendar", "--window", "last_hour", "--compare", "previous", "--totals"],
        ),
        (
            {"method": "previous", "groups": ["North", "=East"]},
            ["--method", "previous", "--group", "North", "--group", "=East"],
        ),
    ],
)
def test_both_doors_give_the_same_bytes(
    fleet: Database, client: FlaskClient, settings: Settings, body: dict[str, object], options: list[str]
) -> None:
    text = asked(client, **body)
    fleet.close()
    done = storemon(settings.home, "report", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


def test_the_classic_windows_by_name_have_the_classic_numbers(fleet: Database, client: FlaskClient) -> None:
    windows = ["last_hour", "last_day", "last_week"]
    assert asked(client, windows=windows) == asked(client)
    full, shaped = (rows_of(asked(client, columns="full", **more)) for more in ({}, {"windows": windows}))
    for one, other in zip(full, shaped, strict=True):
        assert {name: one[name] for name in other} == other


def test_days_add_up_to_their_week_and_hours_to_their_day(fleet: Database, settings: Settings) -> None:
    from storemon_flask.reports import compute

    def sums(**body: object) -> dict[int, dict[str, int]]:
        with fleet.read() as connection:
            request = ReportRequest(columns="full", fields=body)
            query = compute.make_query(fleet, request, "America/Chicago", 10**9, connection)
            plan = readings.read_schedule(fleet, connection, "America/Chicago", None, query.as_of_us)
            rows, _ = compute.measure_rows(connection, plan, query, settings.rules, lambda share: None)
        found: dict[int, dict[str, int]] = {}
        for at, place in enumerate(rows["store"].tolist()):
            mine = found.setdefault(place, dict.fromkeys(("uptime", "downtime", "unknown", "business", "measured"), 0))
            for name in mine:
                mine[name] += int(rows[name][at])
        return found

    whole = sums(windows=["last_30_days"])
    assert len(whole) == 40
    assert sum(one["uptime"] for one in whole.values()) > 40 * DAY_US
    for by in ("hour", "day", "week", "month"):
        assert sums(windows=["last_30_days"], by=by) == whole
    for one in whole.values():
        assert one["uptime"] + one["downtime"] + one["unknown"] == one["business"]


def test_totals_are_the_sums_of_their_stores(fleet: Database, client: FlaskClient) -> None:
    rows = rows_of(asked(client, by="day", totals=True, columns="full"))
    kinds = [row["kind"] for row in rows]
    assert kinds == sorted(kinds, key=["store", "group", "fleet"].index)
    assert {row["group"] for row in rows if row["kind"] == "group"} == {"North", "South", "'=East"}
    stores = [row for row in rows if row["kind"] == "store"]
    for total in (row for row in rows if row["kind"] != "store"):
        mine = [
            row
            for row in stores
            if row["period"] == total["period"] and (total["kind"] == "fleet" or row["group"] == total["group"])
        ]
        assert mine
        for column in ("uptime_hours", "downtime_hours", "business_hours", "measured_hours"):
            exact = sum(Decimal(row[column]) for row in mine)
            # Each cell is rounded by itself.
            assert abs(Decimal(total[column]) - exact) <= Decimal("0.005") * (len(mine) + 1)


def test_a_poll_speaks_forward_only_by_the_method_previous(
    database: Database, client: FlaskClient, tmp_path: Path
) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    (folder / "polls.csv").write_text(
        "store_id,timestamp_utc,status\nworked,2024-10-14 10:14:00 "
        "UTC,active\nworked,2024-10-14 11:15:00 UTC,inactive\n"
    )
    (folder / "hours.csv").write_text("store_id,day,start_time_local,end_time_local\nworked,0,09:00,12:00\n")
    (folder / "zones.csv").write_text("store_id,timezone_str\nworked,UTC\n")
    load_folder(database, folder)
    window = {"from": "2024-10-14T09:00:00Z", "to": "2024-10-14T11:15:00Z", "name": "w"}
    (nearest,) = rows_of(asked(client, windows=[window], columns="full"))
    (previous,) = rows_of(asked(client, windows=[window], columns="full", method="previous"))
    # To 10:44:30 the first poll is the nearest; before 10:14 nobody has spoken yet.
    assert (nearest["uptime_w"], nearest["downtime_w"], nearest["unknown_w"]) == ("1.74", "0.51", "0.00")
    assert (previous["uptime_w"], previous["downtime_w"], previous["unknown_w"]) == ("1.02", "0.00", "1.23")
    assert (nearest["measured_w"], previous["measured_w"]) == ("1.02", "1.02")


AS_OF = instant("2024-10-14T12:00Z")


@pytest.fixture
def uneven_fleet(database: Database, tmp_path: Path) -> Database:
    """Stores with no poll at all, with one, and with hundreds, in turn; some with hours, special hours and a zone that
    changes.
    """
    chance = np.random.default_rng(1)
    lines = ["store_id,timestamp_utc,status"]
    for number in range(40):
        for us in chance.integers(AS_OF - 12 * DAY_US, AS_OF, [0, 1, 3, 300][number % 4]).tolist():
            at = str(np.datetime64(us, "us")).replace("T", " ")
            lines.append(f"s{number:02d},{at} UTC,{'active' if chance.random() < 0.8 else 'inactive'}")
    hours = [f"s{number:02d},{day},09:00,{17 + day % 5}:30" for number in range(0, 40, 3) for day in range(6)]
    folder = tmp_path / "feeds"
    folder.mkdir()
    for name, text in {
        "polls": "\n".join(lines),
        "hours": "store_id,day,start_time_local,end_time_local\n" + "\n".join(hours),
        "special": "store_id,date,start_time_local,end_time_local\ns03,2024-10-10,,\ns07,2024-10-11,10:00,12:00",
        "zones": "store_id,timezone_str,valid_from\ns09,Asia/Tokyo,2024-10-09\ns12,Europe/Paris,",
        "names": "store_id,name\n" + "\n".join(f"s{number:02d},Store {number}" for number in range(40)),
    }.items():
        (folder / f"{name}.csv").write_text(text + "\n")
    load_folder(database, folder)
    return database


@pytest.mark.parametrize("most", [1, 7, 301, 2000])
def test_the_report_is_the_same_however_many_polls_are_read_at_once(
    uneven_fleet: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    def text(columns: str) -> ReportText:
        question = compute.make_query(uneven_fleet, ReportRequest(AS_OF, columns), "America/Chicago", 10**6)
        return compute.compute(uneven_fleet, question, settings.rules, "America/Chicago")

    whole = {columns: text(columns) for columns in ("classic", "full")}
    monkeypatch.setattr(readings, "_POLLS_AT_ONCE", most)
    for columns, found in whole.items():
        assert found.rows == 40
        assert text(columns) == found


def test_a_range_of_polls_has_those_at_its_ends_and_no_others(uneven_fleet: Database) -> None:
    with uneven_fleet.read() as connection:
        number = stores.all_rows(connection).number
        ids = stores.all_rows(connection).ids
        stored = sorted(
            (ids.index(store_id), instant(f"{stamp[:10]}T{stamp[11:26]}Z"), status == "active")
            for store_id, stamp, status in connection.execute("SELECT store_id, timestamp_utc, status FROM poll")
        )
        # Both of an active and of an inactive poll, in one week and across two.
        ends = [
            next(us for _, us, active in stored[skipped:] if active == up)
            for skipped in (0, 900, 2000)
            for up in (0, 1)
        ]
        for first, last in product([end + off for end in ends for off in (-1, 0, 1)], repeat=2):
            found = polls.read(connection, number, first, last)
            expected = [poll for poll in stored if first <= poll[1] <= last]
            assert (
                list(zip(found.store.tolist(), found.instant_us.tolist(), found.active.tolist(), strict=True))
                == expected
            )
