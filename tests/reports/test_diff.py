"""What is said of reports: how they were made, lists, differences, workbooks, outages."""

import csv
import io
import random
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from conftest import sql, storemon
from flask.testing import FlaskClient
from likely_helpers import AS_OF_US
from likely_helpers import outages_fleet as outages_fleet
from report_helpers import asked, rows_of
from report_helpers import fleet as fleet

from storemon_flask.clock import timestamp_text
from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.database.reports import LISTED_STORES, NewReport
from storemon_flask.errors import DataError, Unprocessable
from storemon_flask.model import WEEK_US, ReportOutcome
from storemon_flask.reports import diff as report_diff
from storemon_flask.reports import request as requests
from storemon_flask.reports import stored, xlsx
from storemon_flask.reports.diff import Diff, ReportFile
from storemon_flask.settings import Settings

AS_OF = "2024-10-14T23:24:54.433110Z"


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


def test_a_list_has_the_first_stores_of_each_report_and_how_many_there_are(
    fleet: Database, client: FlaskClient, settings: Settings
) -> None:
    listed, many = LISTED_STORES, 14_000
    asked = [None, ["a", "b", "c"], [f"{number:036d}" for number in range(listed)], [f"{n:036d}" for n in range(many)]]
    outcome = ReportOutcome(4, 100, "f" * 64, {"store_id": dict.fromkeys(range(many), "=x")}, {})
    for number, stores in enumerate(asked):
        with fleet.write() as connection:
            new = NewReport(f"{number:032x}", 0, False, "classic", stores, {}, "", 0)
            reports.add(connection, new, number)
            reports.start(connection, new.id, number)
            assert reports.complete(connection, new.id, number, outcome)
    answer = client.get("/api/v1/reports")
    rows = answer.json["reports"][::-1]
    assert [row["stores"] for row in rows] == [stores and stores[:listed] for stores in asked]
    assert [row["stores_asked"] for row in rows] == [None, 3, listed, many]
    assert len(answer.data) < 10_000
    one = client.get(f"/api/v1/reports/{rows[-1]['report_id']}").json
    assert one == {**rows[-1], "stores": asked[-1]}
    assert [row.altered for row in stored.newest(fleet, None, 10)] == [{}] * 4
    assert [requests.describe(row) for row in stored.newest(fleet, None, 10)][::-1] == [
        f"The last hour, day and week, {stores}"
        for stores in ("every store", "a, b and c", f"{listed} named stores", "14,000 named stores")
    ]


def test_a_report_differs_from_itself_in_nothing_and_after_one_poll_in_one_store(
    fleet: Database, client: FlaskClient, settings: Settings
) -> None:
    first, again = (client.post("/trigger_report").json["report_id"] for _ in range(2))
    same = client.get(f"/api/v1/reports/{again}/diff?against={first}").json
    assert (same["total"], same["changes"]) == (0, [])
    (store_id, at, status), *_ = sql(
        settings.database,
        "SELECT store_id, timestamp_utc, status FROM poll WHERE timestamp_utc > '2024-10-14 15' ORDER BY 2 LIMIT 1",
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
    files = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    other = storemon(settings.home, "diff", *files, "--limit", "3")
    assert other.stdout.splitlines()[0].split() == [
        "store",
        "period",
        "verdict",
        "before",
        "%",
        "after",
        "%",
        "points",
        "note",
    ]
    assert len(other.stdout.splitlines()) == 4
    assert "more; --limit shows them" in other.stderr
    assert "by uptime last week: " in other.stderr
    cells = storemon(settings.home, "diff", *files, "--limit", "3", "--cells", "--window", "last_day")
    assert cells.stdout.splitlines()[0].split() == ["store", "period", "column", "before", "after", "change"]
    assert "by uptime last day: " in cells.stderr
    wrong = storemon(settings.home, "diff", *files, "--window", "last_year")
    assert wrong.returncode == 1
    assert "it must be last_hour, last_day, last_week" in " ".join(wrong.stderr.split())
    absent = storemon(settings.home, "diff", str(tmp_path / "a.csv"), "today.csv")
    assert absent.returncode == 1
    assert " ".join(absent.stderr.split()) == (
        "Error: 'today.csv' is neither a file nor the id of a report; name a file that `storemon report -o FILE` wrote, "
        "or an id that the page Reports lists"
    )


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


def compared(before: str, after: str, limit: int = 1000) -> Diff:
    return report_diff.compare(ReportFile(io.StringIO(before), {}), ReportFile(io.StringIO(after), {}), limit)


@pytest.mark.parametrize("at_once", [400_000, 18, 6])
def test_reports_in_any_order_are_compared_by_their_rows(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Of two orders, sorted at once or in pieces; the last of two rows of one store counts."""
    monkeypatch.setattr(report_diff, "_SORTED_CELLS", at_once)
    head = "kind,store_id,group,uptime_hours\n"
    before = [f"store,s{number},g,{number}.00\n" for number in range(40)] + ["group,,g,5.00\n", "total,,,7.00\n"]
    after = [f"store,s{number},g,{2 * number}.00\n" for number in range(3, 43)] + ["total,,,7.0\n", "store,s9,g,9.00\n"]
    random.Random(1).shuffle(before)
    found = compared(head + "".join(before), head + "".join(after), 4)
    # 3 stores gone, 3 new, 36 others twice as long up, and a group is gone.
    assert (found.total, found.stores) == (3 + 3 + 36 + 1, 42)
    assert [(change.row, change.before, change.after) for change in found.changes] == [
        ({"kind": "store", "store_id": "s42", "group": "g"}, None, Decimal(84)),
        ({"kind": "store", "store_id": "s41", "group": "g"}, None, Decimal(82)),
        ({"kind": "store", "store_id": "s40", "group": "g"}, None, Decimal(80)),
        ({"kind": "store", "store_id": "s39", "group": "g"}, Decimal(39), Decimal(78)),
    ]


FULL = "kind,store_id,group,uptime_w,downtime_w,unknown_w,business_w,uptime_percent_w\n"
BEFORE = FULL + (
    "store,better,g,50.00,50.00,0.00,100.00,50.00\n"
    "store,closed,g,0.00,0.00,0.00,0.00,\n"
    "store,gone,g,99.00,1.00,0.00,100.00,99.00\n"
    "store,little,g,10.00,0.00,90.00,100.00,100.00\n"
    "store,same,g,90.00,10.00,0.00,100.00,90.00\n"
    "store,still,g,90.00,10.00,0.00,100.00,90.00\n"
    "store,worse,g,90.00,10.00,0.00,100.00,90.00\n"
    "group,,g,339.00,81.00,90.00,1000.00,80.71\n"
    "fleet,,,339.00,81.00,90.00,1000.00,80.71\n"
)
AFTER = FULL + (
    "store,better,g,55.50,44.50,0.00,100.00,55.50\n"
    "store,closed,g,1.00,1.00,0.00,2.00,50.00\n"
    "store,little,g,0.00,10.00,90.00,100.00,0.00\n"
    "store,new,g,1.00,0.00,0.00,1.00,100.00\n"
    "store,same,g,45.00,5.00,0.00,50.00,90.00\n"
    "store,still,g,90.00,10.00,0.00,100.00,90.00\n"
    "store,worse,g,80.00,20.00,0.00,100.00,80.00\n"
    "group,,g,272.50,90.50,90.00,953.00,75.07\n"
    "fleet,,,272.50,90.50,90.00,953.00,75.07\n"
)


def test_rows_are_ranked_by_the_change_of_their_percentage_and_those_without_one_come_last() -> None:
    diff = compared(BEFORE, AFTER)
    assert [
        (one.row.get("store_id") or one.row["kind"], one.verdict, one.points and str(one.points), one.reason)
        for one in diff.rows
    ] == [
        ("worse", "worse", "-10.00", ""),
        ("group", "worse", "-5.64", ""),
        ("fleet", "worse", "-5.64", ""),
        ("better", "better", "5.50", ""),
        ("same", "same", Decimal(0), ""),
        # More than a tenth of its time is unknown.
        ("little", "worse", "-100.00", ""),
        ("gone", "unknown", None, "not in the later report"),
        ("closed", "unknown", None, "no known time in the earlier report"),
        ("new", "unknown", None, "not in the earlier report"),
    ]
    assert diff.verdicts == {"worse": 4, "better": 1, "same": 1, "unknown": 3}
    assert (diff.window, diff.windows, diff.row_total) == ("w", ("w",), 9)
    little = next(one for one in diff.rows if one.row.get("store_id") == "little")
    assert [side and side.known for side in (little.before, little.after)] == ["of 10 h known"] * 2
    assert little.largest_hours == 10
    # Cells come when they are asked for.
    assert {one.cells for one in diff.rows} == {()}
    (first,) = report_diff.compare(
        ReportFile(io.StringIO(BEFORE), {}), ReportFile(io.StringIO(AFTER), {}), 1, detailed=True
    ).rows
    assert [(cell.column, cell.change) for cell in first.cells] == [("uptime_w", -10), ("downtime_w", 10)]


def test_of_a_report_without_percentages_they_are_made_from_its_cells() -> None:
    head = "store_id,uptime_last_day,uptime_last_week,downtime_last_day,downtime_last_week\n"
    before, after = (
        head + "a,1.00,2.00,0.00,1.00\nb,0.00,3.00,0.00,1.00\n",
        head + "a,1.00,1.00,2.00,2.00\nb,0.00,1.00,0.00,0.00\n",
    )
    week = compared(before, after)
    assert week.windows == ("last_day", "last_week")
    assert [(one.row["store_id"], one.before.value, one.after.value) for one in week.rows if one.before and one.after] == [
        ("a", Decimal("66.67"), Decimal("33.33")), ("b", Decimal("75.00"), Decimal("100.00")),
    ]  # fmt: skip
    day = report_diff.compare(ReportFile(io.StringIO(before), {}), ReportFile(io.StringIO(after), {}), 9, "last_day")
    assert [(one.row["store_id"], one.points, one.reason) for one in day.rows] == [
        ("a", Decimal("-66.67"), ""), ("b", None, "no known time in either report"),
    ]  # fmt: skip
    with pytest.raises(Unprocessable, match="window is 'last_year'; it must be last_day, last_week"):
        report_diff.compare(ReportFile(io.StringIO(before), {}), ReportFile(io.StringIO(after), {}), 9, "last_year")


LIKELY_HEAD = (
    "store_id,uptime_last_day,uptime_last_week,downtime_last_day,downtime_last_week,uptime_percent_last_day,"
    "uptime_percent_last_week,uptime_percent_likely_low_last_day,uptime_percent_likely_low_last_week,"
    "uptime_percent_likely_high_last_day,uptime_percent_likely_high_last_week\n"
)
LIKELY_BEFORE = LIKELY_HEAD + (
    "apart,20.00,100.00,0.00,0.00,100.00,100.00,99.00,97.00,100.00,100.00\n"
    "touches,20.00,90.00,0.00,10.00,100.00,90.00,99.00,88.00,100.00,92.00\n"
    "same,10.00,50.00,10.00,50.00,50.00,50.00,45.00,48.00,55.00,52.00\n"
    "none,20.00,80.00,0.00,20.00,100.00,80.00,,,,\n"
    "gone,20.00,80.00,0.00,20.00,100.00,80.00,99.00,78.00,100.00,82.00\n"
)
LIKELY_AFTER = LIKELY_HEAD + (
    "apart,19.00,94.00,1.00,6.00,95.00,94.00,91.00,92.00,99.50,96.99\n"
    "touches,20.00,94.00,0.00,6.00,100.00,94.00,99.00,92.00,100.00,96.00\n"
    "same,11.00,55.00,11.00,55.00,50.00,50.00,45.00,48.00,55.00,52.00\n"
    "none,20.00,81.00,0.00,19.00,100.00,81.00,99.00,79.00,100.00,83.00\n"
)


def test_a_change_is_within_what_polls_can_tell_where_likely_ranges_overlap() -> None:
    rows = {one.row["store_id"]: one for one in compared(LIKELY_BEFORE, LIKELY_AFTER).rows}
    assert {store: (one.within_likely, one.likely_note) for store, one in rows.items()} == {
        "apart": (False, ""),
        "touches": (True, "within what polls can tell"),
        "same": (True, ""),
        "none": (None, ""),
        "gone": (None, ""),
    }
    touches, none = rows["touches"], rows["none"]
    assert [side and side.likely for side in (touches.before, touches.after, none.before, none.after)] == [
        (Decimal("88.00"), Decimal("92.00")),
        (Decimal("92.00"), Decimal("96.00")),
        None,
        (Decimal("79.00"), Decimal("83.00")),
    ]
    # In the other direction the ranges overlap as much; of the last day all do.
    back = {one.row["store_id"]: one.within_likely for one in compared(LIKELY_AFTER, LIKELY_BEFORE).rows}
    assert back == {store: one.within_likely for store, one in rows.items()}
    before, after = (ReportFile(io.StringIO(text), {}) for text in (LIKELY_BEFORE, LIKELY_AFTER))
    day = {one.row["store_id"]: one for one in report_diff.compare(before, after, 9, "last_day").rows}
    assert (day["apart"].within_likely, day["apart"].likely_note) == (True, "within what polls can tell")
    # The order is that of reports without these columns.
    bare = [
        "".join(",".join(line.split(",")[:7]) + "\n" for line in text.splitlines())
        for text in (LIKELY_BEFORE, LIKELY_AFTER)
    ]
    without = compared(*bare).rows
    assert [one.row for one in without] == [one.row for one in rows.values()]
    assert {one.within_likely for one in without} == {None}


def test_likely_ranges_of_rows_by_day_and_of_one_report_alone() -> None:
    head = "store_id,period,uptime_hours,downtime_hours,uptime_percent"
    likely = ",uptime_percent_likely_low,uptime_percent_likely_high\n"
    before = head + likely + "s,2024-10-14,9.00,1.00,90.00,88.00,91.00\n"
    (row,) = compared(before, head + likely + "s,2024-10-14,8.00,2.00,80.00,78.00,83.00\n").rows
    assert (row.within_likely, row.before and row.before.likely) == (False, (Decimal("88.00"), Decimal("91.00")))
    (row,) = compared(before, head + "\ns,2024-10-14,8.00,2.00,80.00\n").rows
    assert (row.within_likely, row.before and row.before.likely) == (None, None)


def test_likely_ranges_in_the_terminal(fleet: Database, settings: Settings, tmp_path: Path) -> None:
    fleet.close()
    (tmp_path / "a.csv").write_text(LIKELY_BEFORE)
    (tmp_path / "b.csv").write_text(LIKELY_AFTER)
    done = storemon(settings.home, "diff", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "store period verdict before % likely after % likely points note"
    assert lines[1] == "apart worse 100.00 97.00-100.00 94.00 92.00-96.99 -6.00"
    assert lines[2] == "touches better 90.00 88.00-92.00 94.00 92.00-96.00 +4.00 within what polls can tell"


def test_likely_ranges_in_json_and_on_the_page(outages_fleet: Database, client: FlaskClient) -> None:
    ids, reported = [], []
    for as_of_us in (AS_OF_US - WEEK_US, AS_OF_US):
        asked_report = {"columns": "full", "windows": ["last_week"], "as_of": timestamp_text(as_of_us)}
        ids.append(client.post("/trigger_report", json=asked_report).json["report_id"])
        text = client.get(f"/get_report?report_id={ids[-1]}&wait=60").text
        reported.append({row["store_id"]: row for row in csv.DictReader(io.StringIO(text))})
    rows = client.get(f"/api/v1/reports/{ids[1]}/diff?against={ids[0]}").json["rows"]
    page = client.get(f"/reports/{ids[1]}/changes?against={ids[0]}").text
    assert len(rows) > 10
    for row in rows:
        ends = []
        for when, cells in zip(("before", "after"), reported, strict=True):
            for bound in ("low", "high"):
                cell = cells[row["store_id"]][f"uptime_percent_likely_{bound}_last_week"]
                ends.append(float(cell) if cell else None)
                assert row[f"uptime_percent_likely_{bound}_{when}"] == ends[-1]
        known = [end for end in ends if end is not None]
        if len(known) < 4:
            assert row["within_likely"] is None
            continue
        assert row["within_likely"] == (known[0] <= known[3] and known[2] <= known[1])
        shown = next(line for line in page.split("<tr>") if f"<bdi>{row['store_id']}</bdi>" in line)
        assert f"likely {known[0]:.2f} to {known[1]:.2f}" in shown
        assert f"likely {known[2]:.2f} to {known[3]:.2f}" in shown
        changed = row["within_likely"] and row["change_points"] != 0
        assert ("within what polls can tell" in shown) == bool(changed)
    assert {row["within_likely"] for row in rows} >= {True, False}


def test_a_longer_outage_is_worse_and_one_that_is_over_in_no_report_better() -> None:
    head = "store_id,start,down_minutes\n"
    diff = compared(head + "s,1,10.00\ns,2,20.00\n", head + "s,1,30.00\ns,3,5.00\n")
    assert [(one.row["start"], one.verdict, one.points) for one in diff.rows] == [
        ("1", "worse", None), ("2", "better", None), ("3", "worse", None),
    ]  # fmt: skip
    assert (diff.window, diff.windows) == (None, ())


def test_dayparts_are_told_apart_in_json_and_in_the_terminal(
    fleet: Database, client: FlaskClient, settings: Settings
) -> None:
    ids = [
        client.post("/trigger_report", json={"by": "daypart", "as_of": as_of}).json["report_id"]
        for as_of in ("2024-10-14T12:00:00Z", AS_OF)
    ]
    answer = client.get(f"/api/v1/reports/{ids[1]}/diff?against={ids[0]}").json
    assert answer["windows"] == ["hours"]
    assert {row["daypart"] for row in answer["rows"]} <= {"breakfast", "lunch", "dinner", "late", "other"}
    assert all(row["daypart"] and row["period"] for row in [*answer["rows"], *answer["changes"]])
    fleet.close()
    first = answer["rows"][0]
    done = storemon(settings.home, "diff", *ids, "--limit", "1")
    assert f"{first['period']} {first['daypart']}" in done.stdout.splitlines()[1]


@pytest.mark.parametrize("limit", [1, 3, 2000])
def test_the_rows_and_cells_of_any_limit_are_the_first_of_all(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(report_diff, "_BATCH", 2)
    draw = random.Random(3)
    head = "store_id,uptime_w,downtime_w\n"

    def text() -> str:
        return head + "".join(f"s{number},{draw.randrange(5)}.00,{draw.randrange(5)}.00\n" for number in range(60))

    before, after = text(), text()
    everything, cut = compared(before, after, 10_000), compared(before, after, limit)
    assert cut.rows == everything.rows[:limit]
    assert cut.changes == everything.changes[:limit]
    assert (cut.total, cut.verdicts) == (everything.total, everything.verdicts)
    assert [one.rank for one in everything.rows] == sorted(one.rank for one in everything.rows)
    assert everything.row_total == len(everything.rows) > 40


def test_a_line_that_is_no_csv_and_a_number_that_is_none_make_no_report() -> None:
    head = "store_id,uptime_last_day\n"
    with pytest.raises(DataError, match="line 2 has a cell that is no number"):
        compared(head + "a,NaN\n", head)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        compared(head + "a" * 200_000 + ",1\n", head)


def test_two_outages_of_one_store_are_told_apart() -> None:
    head = "store_id,start,down_minutes\n"
    before = head + "s,2024-10-01T00:00:00Z,10.00\ns,2024-10-02T00:00:00Z,20.00\n"
    (change,) = compared(before, before.replace("10.00", "15.00")).changes
    assert (change.row["start"], change.before, change.after) == (
        "2024-10-01T00:00:00Z",
        Decimal("10.00"),
        Decimal("15.00"),
    )


def test_a_report_longer_than_a_sheet_is_refused_and_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    file.write_text("store_id\ns\n")
    with pytest.raises(Unprocessable, match="at most 1,048,576 rows"):
        xlsx.write(file, 1 << 20, {}, {})
    with xlsx.write(file, 1, {}, {}) as book:
        assert book.read(2) == b"PK"
