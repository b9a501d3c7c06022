"""Reports of other shapes: what may be asked, the same from every door, and that parts add up to wholes."""

import csv
import gzip
import io
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from conftest import load_folder, sql, storemon
from flask.testing import FlaskClient
from ingest_helpers import us

from storemon_flask.errors import Unprocessable
from storemon_flask.model import DAY_US
from storemon_flask.services import load, report_diff, shapes, workbook
from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database

ROOT = Path(__file__).resolve().parent.parent
AS_OF = "2024-10-14T23:24:54.433110Z"
NAMES = "store_id,name,group\n"


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    """Forty stores of the sample, in three groups and one without, one of them with a name that a spreadsheet would run."""
    folder = tmp_path / "feeds"
    folder.mkdir()
    text = gzip.decompress((ROOT / "data/sample/store_status.csv.gz").read_bytes()).decode()
    header, *rows = text.splitlines()
    store, stamp = (header.split(",").index(name) for name in ("store_id", "timestamp_utc"))
    ids = sorted(
        {
            row.split(",")[store]
            for row in rows
            if len(row.split(",")[store]) == len("031782b3-fdfd-44c6-b0f4-c59b2cad6fcb")
        }
    )[:40]
    wanted = set(ids)
    good = [
        row for row in rows if row.split(",")[store] in wanted and row.split(",")[stamp][:7] in ("2024-09", "2024-10")
    ]
    (folder / "polls.csv").write_text("\n".join([header, *good]) + "\n")
    for name in ("menu_hours.csv", "timezones.csv"):
        first, *lines = (ROOT / "data/sample" / name).read_text().splitlines()
        place = first.split(",").index("store_id")
        (folder / name).write_text(
            "\n".join([first, *(line for line in lines if line.split(",")[place] in wanted)]) + "\n"
        )
    groups = ["North", "South", "=East", ""]
    (folder / "names.csv").write_text(
        NAMES + "".join(f"{store_id},Store {n},{groups[n % 4]}\n" for n, store_id in enumerate(ids))
    )
    # The sample has bad rows on purpose.
    load.run(database, load.find([folder])[0], load.Terms(us("2024-10-15T00:00:00"), 0))
    return database


def asked(client: FlaskClient, **body: object) -> str:
    """The CSV of a report that is asked for over HTTP."""
    answer = client.post("/trigger_report", json=body)
    assert answer.status_code == 202, answer.text
    found = client.get(answer.json["report_id"] and f"/get_report?report_id={answer.json['report_id']}")
    assert found.headers["X-Report-Status"] == "Complete", found.text
    return found.text


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"by": "year"}, "by is 'year'; it must be hour, day, week, month"),
        ({"method": "last"}, "method is 'last'; it must be nearest, previous"),
        ({"totals": "yes"}, "totals is 'yes'; it must be true or false"),
        ({"kind": "x"}, "kind is 'x'; it must be times, outages"),
        ({"windows": ["last_year"]}, "windows[0] is 'last_year'; it must be last_hour, last_day, last_week, last_30_days, or an object with from and to"),
        ({"windows": [7]}, "windows[0] is 7; it must be last_hour, last_day, last_week, last_30_days, or an object with from and to"),
        ({"windows": [{"from": "2024-10-02", "to": "2024-10-01"}]}, "windows[0] runs from '2024-10-02' to '2024-10-01'; it must be an end after its start"),
        ({"windows": [{"from": "2024-10-02"}]}, "windows[0].to is missing; it must be a date such as 2024-10-01 or an instant with an offset such as 2024-10-01T09:00:00-05:00"),
        ({"windows": [{"from": "2024-10-02", "to": "2024-10-03T00:00:00Z"}]}, "windows[0] mixes a date with an instant; it must be two dates, or two instants with an offset"),
        ({"windows": [{"from": "2022-10-02", "to": "2024-10-01"}]}, "windows[0] is 730 days long; it must be at most 400 days"),
        ({"windows": [{"from": "2024-10-01", "to": "2024-10-02", "zone": "x"}]}, "windows[0].zone is not a field of a window; it must be from, to and name"),
        ({"windows": [{"from": "2024-10-01T00:00:00", "to": "2024-10-02T00:00:00Z"}]}, "windows[0].from is '2024-10-01T00:00:00'; it must be a date such as 2024-10-01 or an instant with an offset such as 2024-10-01T09:00:00-05:00"),
        ({"windows": [{"from": "2024-10-01", "to": "2024-10-02", "name": "a\nb"}]}, "windows[0].name is 'a\\nb'; it must be 1 to 100 printable characters"),
        ({"windows": ["last_day", "last_day"]}, "windows names 'last_day' twice; it must be a name of its own for each window"),
        ({"windows": ["last_day", "last_week"], "by": "day"}, "windows has 2 entries; it must be one window with `by`, which is cut into days"),
        ({"windows": [{"from": "2024-10-14", "to": "2024-10-20"}], "by": "day"}, None),
        ({"windows": [{"from": "2024-10-20T00:00:00Z", "to": "2024-10-21T00:00:00Z"}]}, "windows[0] '2024-10-20T00:00:00Z_2024-10-21T00:00:00Z' ends after the as-of; it must be a window that ends by the as-of"),
        ({"groups": ["West"]}, "groups: no store is in 'West'"),
        ({"zones": ["Mars/Base"]}, "zones: no store is in 'Mars/Base'"),
        ({"groups": []}, "groups is []; it must be a list of at least one text"),
        ({"kind": "outages", "by": "day"}, "by does not go with outages; it must be left out"),
        ({"kind": "outages", "shortest_minutes": -1}, "shortest_minutes is -1; it must be a number of minutes from 0 to 576000"),
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
    assert shapes.read(body) is None


def test_a_report_too_long_says_how_long_it_would_be(fleet: Database, settings: Settings) -> None:
    fleet.close()
    done = storemon(settings.home, "report", "--by", "hour", STOREMON_MAX_REPORT_ROWS="100")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the report would have 1,000 rows, more than the 100 of STOREMON_MAX_REPORT_ROWS; ask for fewer stores, a "
        "shorter window or longer periods\n"
    )


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"by": "day"}, ["--by", "day"]),
        ({"by": "hour", "columns": "full"}, ["--by", "hour", "--columns", "full"]),
        (
            {"windows": [{"from": "2024-10-01", "to": "2024-10-08", "name": "first"}, "last_day"], "totals": True},
            ["--window", "first=2024-10-01..2024-10-08", "--window", "last_day", "--totals"],
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
    from storemon_flask.services import report, schedule, shaped

    def sums(**body: object) -> dict[int, dict[str, int]]:
        with fleet.read() as connection:
            shape = shapes.read(body)
            assert shape is not None
            as_of_us = report.ask(fleet, report.Asked(), "America/Chicago", 10**9, connection).as_of_us
            plan = schedule.of(fleet, connection, "America/Chicago", None, as_of_us)
            rows, _ = shaped.compute(connection, plan, shape, as_of_us, settings.rules, lambda part: None)
        found: dict[int, dict[str, int]] = {}
        for at, place in enumerate(rows["place"].tolist()):
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
        "store_id,timestamp_utc,status\nworked,2024-10-14 10:14:00 UTC,active\nworked,2024-10-14 11:15:00 UTC,inactive\n"
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


def test_a_report_says_how_it_was_made(fleet: Database, client: FlaskClient) -> None:
    report_id = client.post("/trigger_report", json={"by": "week", "totals": True, "groups": ["North"]}).json[
        "report_id"
    ]
    found = client.get(f"/api/v1/reports/{report_id}").json
    assert found["status"] == "Complete"
    assert found["shape"] == {"by": "week", "totals": True, "groups": ["North"]}
    method = found["method"]
    assert {name: method[name] for name in ("as_of", "method", "windows", "by", "groups", "stores", "reach_hours")} == {
        "as_of": AS_OF, "method": "nearest", "windows": ["last_30_days"], "by": "week", "groups": ["North"], "stores": 10,
        "reach_hours": 24.0,
    }  # fmt: skip
    assert method["polls"] > 1000
    assert client.get("/api/v1/reports").json["reports"][0] == found
    assert client.get(f"/get_report?report_id={report_id}&format=json").json["method"] == method


def test_reports_are_listed_a_page_at_a_time(fleet: Database, client: FlaskClient) -> None:
    ids = [client.post("/trigger_report").json["report_id"] for _ in range(5)]
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = client.get(f"/api/v1/reports{query}").json
        seen += [row["report_id"] for row in page["reports"]]
        if page["next"] is None:
            break
        query = f"?limit=2&cursor={page['next']}"
    assert sorted(seen) == sorted(ids)
    assert len(seen) == 5


def test_a_report_differs_from_itself_in_nothing_and_after_one_poll_in_one_store(
    fleet: Database, client: FlaskClient, settings: Settings
) -> None:
    first, again = (client.post("/trigger_report").json["report_id"] for _ in range(2))
    same = client.get(f"/api/v1/reports/{again}/diff?against={first}").json
    assert (same["total"], same["changes"]) == (0, [])
    (store_id, at, status), *_ = sql(
        settings.database, "SELECT * FROM poll WHERE timestamp_utc > '2024-10-14 15' ORDER BY timestamp_utc LIMIT 1"
    )
    other = "inactive" if status == "active" else "active"
    pushed = client.post("/api/v1/feeds/polls", json={"store_id": store_id, "timestamp_utc": at, "status": other})
    assert pushed.json["changed"] == 1
    after = client.post("/trigger_report").json["report_id"]
    found = client.get(f"/api/v1/reports/{after}/diff?against={first}").json
    assert {change["store_id"] for change in found["changes"]} == {store_id}
    hours = [abs(change["change"]) / (60 if change["column"].endswith("hour") else 1) for change in found["changes"]]
    assert hours == sorted(hours, reverse=True)
    assert sum(change["change"] for change in found["changes"] if change["column"].endswith("week")) == pytest.approx(0)


def test_a_workbook_has_ids_as_text_and_the_sums_of_the_csv(fleet: Database, client: FlaskClient) -> None:
    fleet.close()
    client.post(
        "/api/v1/feeds/polls",
        json={"store_id": "9007199254740993123", "timestamp_utc": "2024-10-14 12:00:00", "status": "active"},
    )
    report_id = client.post("/trigger_report", json={"columns": "full", "totals": True}).json["report_id"]
    text = client.get(f"/get_report?report_id={report_id}").text
    answer = client.get(f"/get_report?report_id={report_id}&format=xlsx")
    assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.xlsx"
    book = openpyxl.load_workbook(io.BytesIO(answer.data))
    header, *rows = book["report"].iter_rows(values_only=True)
    assert list(header) == text.splitlines()[0].split(",")
    ids = [row[1] for row in rows if row[0] == "store"]
    assert "9007199254740993123" in ids
    assert all(isinstance(store_id, str) for store_id in ids)
    assert "=East" in {row[header.index("group")] for row in rows}
    for column in ("uptime_last_week", "downtime_last_day", "business_last_hour"):
        place = header.index(column)
        expected = sum(Decimal(row[column]) for row in rows_of(text))
        assert sum(Decimal(str(row[place])) for row in rows) == expected
    method = dict(row[:2] for row in book["method"].iter_rows(values_only=True))
    assert method["as_of"] == AS_OF
    assert method["stores"] == "41"


def test_outages_are_those_of_each_stores_timeline(fleet: Database, client: FlaskClient) -> None:
    rows = rows_of(asked(client, kind="outages"))
    assert len(rows) > 20
    by_store: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_store.setdefault(row["store_id"], []).append(row)
    for store_id in sorted(by_store)[:10]:
        timeline = client.get(f"/api/v1/stores/{store_id}/timeline").json
        assert [row["start"] for row in by_store[store_id]] == [outage["start"] for outage in timeline["outages"]]
        assert [row["end"] for row in by_store[store_id]] == [outage["end"] for outage in timeline["outages"]]
    long = rows_of(asked(client, kind="outages", shortest_minutes=90))
    assert long == [row for row in rows if Decimal(row["down_minutes"]) >= 90]
    assert 0 < len(long) < len(rows)


def test_outages_and_differences_in_the_terminal(fleet: Database, settings: Settings, tmp_path: Path) -> None:
    fleet.close()
    done = storemon(settings.home, "outages", "--shortest", "90")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["store", "start", "(UTC)", "end", "(UTC)", "down", "polls"]
    assert done.stderr == f"as of {AS_OF}: {len(lines) - 1} outages\n"
    for name, as_of in (("a", "2024-10-14T12:00:00Z"), ("b", AS_OF)):
        assert storemon(settings.home, "report", "--as-of", as_of, "-o", str(tmp_path / f"{name}.csv")).returncode == 0
    same = storemon(settings.home, "diff", str(tmp_path / "a.csv"), str(tmp_path / "a.csv"))
    assert (same.stdout, same.stderr) == ("", "0 cells of 0 stores differ\n")
    other = storemon(settings.home, "diff", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--limit", "3")
    assert len(other.stdout.splitlines()) == 4
    assert "more; --limit shows them" in other.stderr
    assert storemon(settings.home, "diff", "nothing", "b").stderr.startswith("Error: there is no report of that id")


def test_a_poll_long_after_the_window_still_speaks_for_it(settings: Settings, tmp_path: Path) -> None:
    polls = tmp_path / "polls.csv"
    stamps = {"2024-09-30 00:00:00": "active", "2024-10-14 00:00:00": "inactive", "2024-10-20 00:00:00": "active"}
    polls.write_text(
        "store_id,timestamp_utc,status\n" + "".join(f"s,{stamp},{status}\n" for stamp, status in stamps.items())
    )
    assert storemon(settings.home, "load-data", str(polls)).returncode == 0
    window = "w=2024-10-07T00:00:00Z..2024-10-08T00:00:00Z"
    done = storemon(settings.home, "report", "--window", window, STOREMON_REACH_HOURS="168")
    # The poll of the 14th is nearer from the 7th on, and a week away.
    assert done.stdout == "store_id,uptime_w,downtime_w\ns,0.00,24.00\n"


def test_files_that_are_no_reports_are_told_in_a_sentence(settings: Settings, tmp_path: Path) -> None:
    head = "store_id,uptime_last_day\n"
    for name, text in {
        "a": head + "s,1.00\n",
        "junk": head + "s,one\n",
        "other": "x,y\n1,2\n",
        "wide": head + "s,1.00,9\n",
    }.items():
        (tmp_path / f"{name}.csv").write_text(text)

    def diff(one: str, other: str) -> tuple[int, str]:
        done = storemon(settings.home, "diff", str(tmp_path / f"{one}.csv"), str(tmp_path / f"{other}.csv"))
        return done.returncode, done.stderr

    assert diff("a", "junk") == (1, "Error: line 2 has a cell that is no number; this is no report\n")
    assert diff("a", "other")[1].startswith("Error: the two reports have no column of numbers in common")
    assert diff("a", "wide") == (0, "0 cells of 0 stores differ\n")


def test_two_outages_of_one_store_are_told_apart() -> None:
    head = "store_id,start,down_minutes\n"
    before = head + "s,2024-10-01T00:00:00Z,10.00\ns,2024-10-02T00:00:00Z,20.00\n"
    (change,) = report_diff.changes((before, {}), (before.replace("10.00", "15.00"), {}))
    assert (change.row["start"], change.before, change.after) == (
        "2024-10-01T00:00:00Z",
        Decimal("10.00"),
        Decimal("15.00"),
    )


def test_a_report_longer_than_a_sheet_is_refused_and_not_cut() -> None:
    with pytest.raises(Unprocessable, match="at most 1,048,576 rows"):
        workbook.write(iter(["store_id\n", "s\n"]), 1 << 20, {}, {})
    with workbook.write(iter(["store_id\n", "s\n"]), 1, {}, {}) as book:
        assert book.read(2) == b"PK"
