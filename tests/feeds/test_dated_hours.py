"""Hours and zones from a date on, and special hours: loaded, replaced, rejected, told, removed."""

import csv
import io
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.model import FileSummary
from storemon_flask.reports import report
from storemon_flask.settings import Settings

# 2024-10-14 was a Monday.
POLLS = "store_id,timestamp_utc,status\n" + "".join(
    f"a,2024-10-{day:02d} {hour:02d}:30:00 UTC,active\n" for day in range(7, 15) for hour in range(24)
)
HOURS = "store_id,day,start_time_local,end_time_local,valid_from\n"
WEEK = "".join(f"a,{day},09:00,12:00,\n" for day in range(7))
SPECIAL = "store_id,date,start_time_local,end_time_local\n"
ZONES = "store_id,timezone_str,valid_from\n"
UTC = "store_id,timezone_str\na,Etc/UTC\n"
AS_OF = "2024-10-14T23:30:00Z"


class Home:
    """A database, loaded and asked as the commands do it."""

    def __init__(self, database: Database, settings: Settings, folder: Path) -> None:
        self.database = database
        self.settings = settings
        self.folder = folder

    def load(self, *texts: str) -> list[FileSummary]:
        """Load these texts as files, in one command."""
        paths = [self.folder / f"{place}.csv" for place in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return load.load_sources(
            self.database, sources.find_sources(paths), load.LoadOptions(instant("2025-01-01T00:00Z"), 0)
        ).files

    def counts(self, *texts: str) -> list[tuple[int, int, int, int, int]]:
        """New, changed, unchanged, repeated and rejected rows of each of these files."""
        found = [summary.counts for summary in self.load(*texts)]
        assert all(c.rows == c.new + c.changed + c.unchanged + c.repeated + c.rejected for c in found)
        return [(c.new, c.changed, c.unchanged, c.repeated, c.rejected) for c in found]

    def report(self, as_of: str = AS_OF, **shape: object) -> list[dict[str, str]]:
        """The rows of a full report."""
        asked = report.Asked(instant(as_of), "full", shape=shape)
        question = report.ask(self.database, asked, "America/Chicago", 10**6)
        text = report.compute(self.database, question, self.settings.rules, "America/Chicago")
        return list(csv.DictReader(io.StringIO(text.csv)))

    def business(self, first: str = "2024-10-07", last: str = "2024-10-15", as_of: str = AS_OF) -> list[float]:
        """Business hours of each local day of the store."""
        rows = self.report(as_of, by="day", windows=[{"from": first, "to": last}])
        return [float(row["business_hours"]) for row in rows]


@pytest.fixture
def home(database: Database, settings: Settings, tmp_path: Path) -> Home:
    made = Home(database, settings, tmp_path)
    made.load(POLLS, HOURS + WEEK, UTC)
    return made


def test_hours_hold_from_their_date_on(home: Home) -> None:
    assert home.business() == [3.0] * 8
    assert home.counts(HOURS + "".join(f"a,{day},08:00,16:00,2024-10-10\n" for day in range(5))) == [(5, 0, 0, 0, 0)]
    # Thursday and Friday are longer, the week-end of the new week is closed.
    assert home.business() == [3.0, 3.0, 3.0, 8.0, 8.0, 0.0, 0.0, 8.0]


def test_tomorrows_hours_do_not_change_yesterdays_report(home: Home) -> None:
    before = home.report("2024-10-10T12:00Z")
    home.load(HOURS + "a,0,01:00,02:00,2024-10-11\n", ZONES + "a,Asia/Tokyo,2024-10-11\n", SPECIAL + "a,2024-10-11,,\n")
    assert home.report("2024-10-10T12:00Z") == before
    assert home.report("2024-10-12T12:00Z")[0]["timezone"] == "Asia/Tokyo"


def test_a_date_loaded_again_replaces_that_version_alone(home: Home) -> None:
    home.load(HOURS + "a,4,10:00,11:00,2024-10-09\na,0,10:00,11:00,2024-10-14\n")
    assert home.business() == [3.0, 3.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert home.counts(HOURS + "a,4,10:00,12:00,2024-10-09\na,3,10:00,10:30,2024-10-09\n") == [(1, 1, 0, 0, 0)]
    assert home.business() == [3.0, 3.0, 0.0, 0.5, 2.0, 0.0, 0.0, 1.0]


def test_hours_without_a_date_replace_all_versions(home: Home) -> None:
    home.load(HOURS + "a,0,10:00,11:00,2024-10-10\n")
    (summary,) = home.load("store_id,day,start_time_local,end_time_local\n" + WEEK.replace(",\n", "\n"))
    assert summary.counts.unchanged == 7
    assert summary.notes == ["1 earlier rows of these stores were replaced"]
    assert home.business() == [3.0] * 8
    # In one load they may come with dated ones, in any order and in several files.
    home.load(HOURS + "a,0,10:00,11:00,2024-10-14\n", HOURS + "a,0,10:00,12:00,\n")
    assert home.business() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_before_its_first_version_a_store_is_open_all_the_time(home: Home) -> None:
    home.load(POLLS.replace("a,", "b,"), HOURS + "b,0,10:00,11:00,2024-10-12\n", "store_id,timezone_str\nb,Etc/UTC\n")
    assert home.business()[8:] == [24.0] * 5 + [0.0, 0.0, 1.0]


def test_a_zone_holds_from_its_date_on_and_names_the_zone_of_the_as_of(home: Home) -> None:
    assert home.counts(ZONES + "a,America/Denver,2024-10-10\na,America/New_York,2024-10-12\n") == [(2, 0, 0, 0, 0)]
    rows = home.report(by="day", windows=[{"from": "2024-10-09", "to": "2024-10-13"}])
    # Six hours to the west and two back: the days on which the clock is set are 30 and 22 hours long.
    assert [row["period_start"] for row in rows] == [
        "2024-10-09T00:00:00.000000Z", "2024-10-10T06:00:00.000000Z", "2024-10-11T06:00:00.000000Z", "2024-10-12T04:00:00.000000Z",
    ]  # fmt: skip
    assert [home.report(f"2024-10-{day}T12:00Z")[0]["timezone"] for day in ("08", 10, 11, 13)] == [
        "Etc/UTC", "America/Denver", "America/Denver", "America/New_York",
    ]  # fmt: skip
    (summary,) = home.load(UTC)
    assert summary.notes == ["2 zones that held from a date on were replaced"]
    assert {row["timezone"] for row in home.report()} == {"Etc/UTC"}


def test_special_hours_replace_the_openings_of_their_date(home: Home) -> None:
    text = SPECIAL + "a,2024-10-09,,\na,2024-10-10,10:00,10:15\na,2024-10-10,20:00,01:00\na,2024-10-12,00:00,24:00\n"
    assert home.counts(text) == [(4, 0, 0, 0, 0)]
    assert home.business() == [3.0, 3.0, 0.0, 4.25, 4.0, 24.0, 3.0, 3.0]
    assert home.counts(text) == [(0, 0, 4, 0, 0)]
    # A date loaded again is replaced; other dates keep theirs.
    assert home.counts(SPECIAL + "a,2024-10-10,10:00,10:30\n") == [(0, 1, 0, 0, 0)]
    assert home.business() == [3.0, 3.0, 0.0, 0.5, 3.0, 24.0, 3.0, 3.0]


def test_a_store_open_all_the_time_can_be_closed_for_a_day(home: Home) -> None:
    home.load(
        POLLS.replace("a,", "b,"),
        "store_id,timezone_str\nb,Etc/UTC\n",
        SPECIAL + "b,2024-10-09,,\nb,2024-10-10,9:00,17:00\n",
    )
    assert home.business()[8:] == [24.0, 24.0, 0.0, 8.0, 24.0, 24.0, 24.0, 23.5]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,2024-10-32,,", "date is not a date (YYYY-MM-DD, 1970 to 2199)"),
        ("a,,,", "date is not a date (YYYY-MM-DD, 1970 to 2199)"),
        ("a,2024-10-10,9:00,", "only one of start_time_local and end_time_local is empty; both are when a store is closed all day"),
        ("a,2024-10-10,24:00,9:00", "start_time_local or end_time_local is not a time of day (H:MM or HH:MM[:SS])"),
    ],
)  # fmt: skip
def test_a_special_row_that_cannot_be_is_rejected_and_the_store_keeps_what_it_had(
    home: Home, row: str, reason: str
) -> None:
    (summary,) = home.load(SPECIAL + f"a,2024-10-09,,\n{row}\n")
    assert summary.reasons == {reason: 1}
    assert summary.notes == ["a special hours row was rejected: store a has its other rows only"]
    assert home.business()[2] == 0.0
    (summary,) = home.load(SPECIAL + f"a,2024-10-08,,\n{row}\n")
    assert sorted(summary.reasons.values()) == [1, 1]
    assert summary.notes == ["a special hours row was rejected: store a keeps the special hours it had"]
    assert home.business()[:3] == [3.0, 3.0, 0.0]


def test_a_date_that_is_closed_and_open_is_neither(home: Home) -> None:
    (first, second) = home.load(SPECIAL + "a,2024-10-09,,\n", SPECIAL + "a,2024-10-09,9:00,10:00\na,2024-10-10,,\n")
    reason = "another row of this store and date says otherwise about whether it is closed all day"
    assert (first.reasons, second.reasons) == ({reason: 1}, {reason: 1})
    assert [(reject.line, reject.text) for reject in second.rejects] == [(2, "a,2024-10-09,9:00,10:00")]
    assert home.business()[2:4] == [3.0, 0.0]


@pytest.mark.parametrize("date", ["2024-13-01", "2023-02-29", "01/02/2024", "1969-12-31", "2200-01-01", "2024-1-1"])
def test_a_valid_from_that_is_no_date_is_rejected(home: Home, date: str) -> None:
    hours, zones = home.load(HOURS + f"a,0,01:00,02:00,{date}\n", ZONES + f"a,Asia/Tokyo,{date}\n")
    reason = "valid_from is not a date (YYYY-MM-DD, 1970 to 2199), nor empty"
    assert (hours.reasons, zones.reasons) == ({reason: 1}, {reason: 1})
    assert home.business() == [3.0] * 8


def test_over_http_they_are_pushed_told_and_removed(home: Home, client: FlaskClient) -> None:
    for feed, rows in {
        "hours": [{"store_id": "a", "day": 0, "start_time_local": "10:00", "end_time_local": "24:00", "valid_from": "2024-10-14"}],
        "timezones": [{"store_id": "a", "timezone": "America/Denver", "valid_from": "2024-10-14"}],
        "special_hours": [
            {"store_id": "a", "date": "2024-12-25", "start_time_local": None, "end_time_local": ""},
            {"store_id": "a", "date": "2024-12-24", "start_time_local": "9:00", "end_time_local": "12:30:15"},
        ],
    }.items():  # fmt: skip
        answer = client.post(f"/api/v1/feeds/{feed}", json=rows)
        assert (answer.status_code, answer.json["new"], answer.json["rejected"]) == (200, len(rows), 0), answer.text
    one = client.get("/api/v1/stores/a").json
    assert one["hours"][-1] == {
        "day": 0, "start_time_local": "10:00", "end_time_local": "24:00", "valid_from": "2024-10-14",
    }  # fmt: skip
    assert one["hours"][0]["valid_from"] is None
    assert one["special_hours"] == [
        {"date": "2024-12-24", "start_time_local": "09:00", "end_time_local": "12:30:15"},
        {"date": "2024-12-25", "start_time_local": None, "end_time_local": None},
    ]
    assert client.delete("/api/v1/stores/a/special-hours?date=2024-12-25").status_code == 204
    assert [row["date"] for row in client.get("/api/v1/stores/a").json["special_hours"]] == ["2024-12-24"]
    assert client.delete("/api/v1/stores/a/special-hours?date=Christmas").status_code == 422
    assert client.delete("/api/v1/stores/b/special-hours").status_code == 404
    assert client.delete("/api/v1/stores/a/special-hours").status_code == 204
    assert client.get("/api/v1/stores/a").json["special_hours"] == []
    body = {"hours": [{"day": 0, "start_time_local": "1:00", "end_time_local": "2:00"}], "valid_from": "2024-11-01"}
    assert client.put("/api/v1/stores/a/hours", json=body).status_code == 200
    assert [row["valid_from"] for row in client.get("/api/v1/stores/a").json["hours"]][-2:] == [
        "2024-10-14",
        "2024-11-01",
    ]
    assert client.put("/api/v1/stores/a/hours", json={**body, "valid_from": "soon"}).status_code == 422
    assert client.delete("/api/v1/stores/a/hours").status_code == 204
    assert client.get("/api/v1/stores/a").json["always_open"] is True


def test_a_store_removed_takes_its_special_hours_along(home: Home, client: FlaskClient) -> None:
    home.load(SPECIAL + "a,2024-10-09,,\n")
    assert client.delete("/api/v1/stores/a").status_code == 204
    home.load(POLLS, HOURS + WEEK, UTC)
    assert home.business() == [3.0] * 8
