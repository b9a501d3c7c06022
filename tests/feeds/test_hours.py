"""Loading hours and time zones: every spelling, and whole replacement sets."""

import csv as csv_module
import io
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from load_helpers import HOURS, ZONES, counts, csv, feeds, gz, load, put, put_zip, query, version_of
from load_helpers import file as file
from load_helpers import small_blocks as small_blocks

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database.connections import Database
from storemon_flask.feeds import hours, schema, sources
from storemon_flask.feeds.csv_exact import BlockReader
from storemon_flask.feeds.load import LoadOptions, load_sources
from storemon_flask.model import FileSummary
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings

HOURS_SQL = (
    "SELECT day, start_s, end_s FROM hours JOIN store_record ON "
    "store_record.number = hours.store WHERE store_id = ? ORDER BY 1, 2, 3"
)


def _hours(database: Database, store_id: str) -> list[tuple[int, int, int]]:
    return query(database.path, HOURS_SQL, store_id)


def test_hours_are_read_with_every_spelling_of_the_header_and_of_a_time(
    database: Database, file: Callable[..., Path]
) -> None:
    result = load(
        database,
        file("a.csv", HOURS, "a,0,9:00,17:00:30.5", "b,6,18:00,02:00"),
        file("b.csv", "End Time Local,Day,note,STORE_ID,start_time_local", "24:00,3,x,c,00:00"),
        file("c.csv", "store_id,day_of_week,start_time_local,end_time_local", "d,1,10:00,10:00"),
    )
    assert [counts(summary) for summary in result.files] == [(2, 2, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0)]
    assert feeds(database.path)["hours"] == [
        ("a", 0, 32_400, 61_230),
        ("b", 6, 64_800, 7_200),
        ("c", 3, 0, 86_400),
        ("d", 1, 36_000, 36_000),
    ]
    assert result.files[2].notes == ["1 row with equal start and end was read as 24 hours"]


def test_a_stores_hours_are_replaced_whole_and_other_stores_keep_theirs(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "a,0,09:00,17:00", "a,1,09:00,17:00", "a,2,09:00,17:00", "b,0,09:00,17:00"))
    version = version_of(database)
    (summary,) = load(
        database, file("b.csv", HOURS, "a,0,09:00,17:00", "a,1,09:00,18:00", "a,5,10:00,12:00", "a,5,10:00,12:00")
    ).files
    assert counts(summary) == (4, 1, 1, 1, 1, 0)
    assert summary.notes == ["2 earlier rows of these stores were replaced"]
    assert _hours(database, "a") == [(0, 32_400, 61_200), (1, 32_400, 64_800), (5, 36_000, 43_200)]
    assert _hours(database, "b") == [(0, 32_400, 61_200)]
    assert version_of(database) == version + 1


def test_loading_hours_a_then_b_then_a_leaves_a(database: Database, file: Callable[..., Path]) -> None:
    a = file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00")
    b = file("b.csv", HOURS, "s,3,00:00,01:00")
    for path in (a, b, a):
        load(database, path)
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    version = version_of(database)
    (summary,) = load(database, a).files
    assert counts(summary) == (2, 0, 0, 2, 0, 0)
    assert version_of(database) == version


def test_the_hours_files_of_one_command_are_one_set_and_those_of_two_are_two(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    one, two = file("a.csv", HOURS, "s,0,09:00,17:00"), file("b.csv", HOURS, "s,1,09:00,17:00")
    load(database, one, two)
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    load(database, one)
    load(database, two)
    assert _hours(database, "s") == [(1, 32_400, 61_200)]
    load(database, put_zip(tmp_path / "both.zip", {"a.csv": one.read_bytes(), "b.csv": two.read_bytes()}))
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]


BAD_HOURS = {
    "a bad day": ("s,8,09:00,17:00", schema.DAY),
    "a bad start": ("s,1,9am,17:00", schema.TIME),
    "a bad end": ("s,1,09:00,25:00", schema.TIME),
    "a start of 24:00": ("s,1,24:00,01:00", schema.TIME),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_HOURS.values(), ids=BAD_HOURS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_store_with_a_rejected_row_keeps_the_hours_it_had(
    database: Database, file: Callable[..., Path], bad: str, reason: str, index: int
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    rows = ["s,2,10:00,11:00", "other,2,10:00,11:00"]
    rows.insert(index, bad)
    (summary,) = load(database, file("b.csv", HOURS, *rows)).files
    assert _hours(database, "s") == [(0, 32_400, 61_200)]
    assert _hours(database, "other") == [(2, 36_000, 39_600)]
    assert counts(summary) == (3, 1, 0, 0, 0, 2)
    assert summary.reasons == {reason: 1, hours.STORE_KEEPS_HOURS: 1}
    assert summary.notes == ["an hours row was rejected: store s keeps the hours it had"]
    stored = query(
        database.path,
        "SELECT line, reason, text FROM reject JOIN load_file ON load_file.id = load_file WHERE load = 2 ORDER BY line",
    )
    assert stored == sorted([(index + 2, reason, bad), (2 if index else 3, hours.STORE_KEEPS_HOURS, "s,2,10:00,11:00")])


def test_a_rejected_row_in_one_file_keeps_the_stores_rows_of_the_other_files_out(
    database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    result = load(database, file("b.csv", HOURS, "s,2,10:00,11:00"), file("c.csv", HOURS, "s,3,10:00,late"))
    assert [counts(summary) for summary in result.files] == [(1, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 1)]
    assert _hours(database, "s") == [(0, 32_400, 61_200)]


def test_without_earlier_hours_the_valid_rows_apply_and_the_summary_names_the_store(
    database: Database, file: Callable[..., Path]
) -> None:
    (summary,) = load(database, file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,nine,17:00", "t,9,nine,17:00")).files
    assert _hours(database, "s") == [(0, 32_400, 61_200)]
    assert counts(summary) == (3, 1, 0, 0, 0, 2)
    assert summary.notes == [
        "an hours row was rejected: store s has its other rows only",
        "an hours row was rejected: store t had none before and counts as open 24x7",
    ]
    assert query(database.path, "SELECT store_id FROM store_record") == [("s",)]


@pytest.mark.parametrize("bad", ["s,1,09:00", "s,1,09:00,17:00,late"], ids=["too short", "too long"])
def test_a_store_named_by_a_row_of_the_wrong_length_keeps_its_hours_too_and_is_named(
    database: Database, file: Callable[..., Path], bad: str
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00", "s,1,09:00,17:00"))
    (summary,) = load(database, file("b.csv", HOURS, "s,0,09:00,18:00", bad)).files
    assert summary.counts.rejected >= 1
    assert _hours(database, "s") == [(0, 32_400, 61_200), (1, 32_400, 61_200)]
    assert summary.notes == ["an hours row was rejected: store s keeps the hours it had"]


@pytest.mark.usefixtures("small_blocks")
def test_an_hours_file_cut_short_spoils_no_store_of_the_other_files(
    tmp_path: Path, database: Database, file: Callable[..., Path]
) -> None:
    load(database, file("a.csv", HOURS, "s,0,09:00,17:00"))
    rows = "".join(f"x{n},0,{n % 24:02d}:00,{n * 7 % 24:02d}:30\n" for n in range(20_000))
    whole = gz(f"{HOURS}\ns,1,nine,17:00\n{rows}".encode())
    cut = put(tmp_path / "data" / "b.csv.gz", whole[: len(whole) // 2])
    result = load(database, cut, file("c.csv", HOURS, "s,4,09:00,17:00"))
    assert "damaged or cut short" in result.files[0].error
    assert counts(result.files[0]) == (0, 0, 0, 0, 0, 0)
    assert counts(result.files[1]) == (1, 1, 0, 0, 0, 0)
    assert _hours(database, "s") == [(4, 32_400, 61_200)]


def test_time_zones_are_replaced_per_store(database: Database, file: Callable[..., Path]) -> None:
    (first,) = load(database, file("a.csv", ZONES, "a,America/Denver", "b,Asia/Tokyo", "c,Mars/Base")).files
    assert counts(first) == (3, 2, 0, 0, 0, 1)
    assert first.reasons == {schema.ZONE: 1}
    (second,) = load(
        database, file("b.csv", "timezone,Store ID", "UTC,a", "America/Chicago,a", "Asia/Tokyo,b", "Mars/Base,b")
    ).files
    assert counts(second) == (4, 0, 1, 1, 1, 1)
    assert feeds(database.path)["timezone"] == [("a", "America/Chicago"), ("b", "Asia/Tokyo")]


def _dirty(chance: random.Random, *columns: tuple[str, ...]) -> list[str]:
    """One row: of each column mostly the first texts, now and then another."""
    return [chance.choice(texts) if chance.random() < 0.1 else texts[chance.randrange(2)] for texts in columns]


@pytest.mark.parametrize("feed", ["hours", "timezones"])
@pytest.mark.parametrize("seed", range(3))
def test_the_small_feeds_read_plain_and_quoted_rows_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feed: str, seed: int
) -> None:
    chance = random.Random(seed)
    times = ("09:00", "17:30", "9:00", " 23:59:59 ", "24:00", "25:00", "09:00:30.75", "", "9am")
    columns = {
        "hours": (("0", "6", " 3 ", "7", "", "x"), times, times),
        "timezones": (("UTC", "Asia/Tokyo", " America/Denver ", "Mars", ""),),
    }[feed]
    ids = ("a", "b", "", " a ", "007", "8.1E+18", "é" * 150, "x" * 41, "x" * 201)
    rows = []
    for number in range(2_000):
        (store_id,) = _dirty(chance, ids)
        rows.append([store_id if chance.random() < 0.1 else f"store {number % 300}", *_dirty(chance, *columns)])
    header = {"hours": HOURS, "timezones": ZONES}[feed]
    plain = put(tmp_path / "plain.csv", csv(header, *(",".join(row) for row in rows)))
    quoted = put(tmp_path / "quoted.csv", csv(header, *(",".join(f'"{field}"' for field in row) for row in rows)))
    found = []
    for path, block_bytes in ((quoted, 1 << 22), (plain, 1 << 22), (plain, 4096), (quoted, 100)):
        monkeypatch.setattr(BlockReader.__init__, "__defaults__", (block_bytes,))
        with closing(Database(tmp_path / f"{path.stem}-{block_bytes}.db")) as database:
            (summary,) = load(database, path).files
            reported = query(
                database.path, "SELECT line, reason, replace(text, char(34), '') FROM reject ORDER BY line"
            )
            found.append((counts(summary), summary.reasons, summary.notes, reported, feeds(database.path)))
    assert found[0][0][0] == 2_000
    assert 50 < found[0][0][5] < 1_500
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert found[3] == found[0]


# Hours and zones from a date on, and special hours: loaded, replaced, rejected, shown, removed


# 2024-10-14 was a Monday.
DATED_POLLS = "store_id,timestamp_utc,status\n" + "".join(
    f"a,2024-10-{day:02d} {hour:02d}:30:00 UTC,active\n" for day in range(7, 15) for hour in range(24)
)
DATED_HOURS = "store_id,day,start_time_local,end_time_local,valid_from\n"
WEEK = "".join(f"a,{day},09:00,12:00,\n" for day in range(7))
SPECIAL = "store_id,date,start_time_local,end_time_local\n"
DATED_ZONES = "store_id,timezone_str,valid_from\n"
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
        paths = [self.folder / f"{index}.csv" for index in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return load_sources(
            self.database, sources.find_sources(paths), LoadOptions(instant("2025-01-01T00:00Z"), 0)
        ).files

    def counts(self, *texts: str) -> list[tuple[int, int, int, int, int]]:
        """New, changed, unchanged, repeated and rejected rows of each of these files."""
        found = [summary.counts for summary in self.load(*texts)]
        assert all(c.rows == c.new + c.changed + c.unchanged + c.repeated + c.rejected for c in found)
        return [(c.new, c.changed, c.unchanged, c.repeated, c.rejected) for c in found]

    def report(self, as_of: str = AS_OF, **shape: object) -> list[dict[str, str]]:
        """The rows of a full report."""
        asked = ReportRequest(instant(as_of), "full", fields=shape)
        question = compute.make_query(self.database, asked, "America/Chicago", 10**6)
        text = compute.compute(self.database, question, self.settings.rules, "America/Chicago")
        return list(csv_module.DictReader(io.StringIO(text.csv)))

    def business(self, first: str = "2024-10-07", last: str = "2024-10-15", as_of: str = AS_OF) -> list[float]:
        """Business hours of each local day of the store."""
        rows = self.report(as_of, by="day", windows=[{"from": first, "to": last}])
        return [float(row["business_hours"]) for row in rows]


@pytest.fixture
def home(database: Database, settings: Settings, tmp_path: Path) -> Home:
    made = Home(database, settings, tmp_path)
    made.load(DATED_POLLS, DATED_HOURS + WEEK, UTC)
    return made


def test_hours_hold_from_their_date_on(home: Home) -> None:
    assert home.business() == [3.0] * 8
    assert home.counts(DATED_HOURS + "".join(f"a,{day},08:00,16:00,2024-10-10\n" for day in range(5))) == [
        (5, 0, 0, 0, 0)
    ]
    # Thursday and Friday are longer, the week-end of the new week is closed.
    assert home.business() == [3.0, 3.0, 3.0, 8.0, 8.0, 0.0, 0.0, 8.0]


def test_tomorrows_hours_do_not_change_yesterdays_report(home: Home) -> None:
    before = home.report("2024-10-10T12:00Z")
    home.load(
        DATED_HOURS + "a,0,01:00,02:00,2024-10-11\n",
        DATED_ZONES + "a,Asia/Tokyo,2024-10-11\n",
        SPECIAL + "a,2024-10-11,,\n",
    )
    assert home.report("2024-10-10T12:00Z") == before
    assert home.report("2024-10-12T12:00Z")[0]["timezone"] == "Asia/Tokyo"


def test_a_date_loaded_again_replaces_that_version_alone(home: Home) -> None:
    home.load(DATED_HOURS + "a,4,10:00,11:00,2024-10-09\na,0,10:00,11:00,2024-10-14\n")
    assert home.business() == [3.0, 3.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert home.counts(DATED_HOURS + "a,4,10:00,12:00,2024-10-09\na,3,10:00,10:30,2024-10-09\n") == [(1, 1, 0, 0, 0)]
    assert home.business() == [3.0, 3.0, 0.0, 0.5, 2.0, 0.0, 0.0, 1.0]


def test_hours_without_a_date_replace_all_versions(home: Home) -> None:
    home.load(DATED_HOURS + "a,0,10:00,11:00,2024-10-10\n")
    (summary,) = home.load("store_id,day,start_time_local,end_time_local\n" + WEEK.replace(",\n", "\n"))
    assert summary.counts.unchanged == 7
    assert summary.notes == ["1 earlier row of these stores was replaced"]
    assert home.business() == [3.0] * 8
    # In one load they may come with dated ones, in any order and in several files.
    home.load(DATED_HOURS + "a,0,10:00,11:00,2024-10-14\n", DATED_HOURS + "a,0,10:00,12:00,\n")
    assert home.business() == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_before_its_first_version_a_store_is_open_all_the_time(home: Home) -> None:
    home.load(
        DATED_POLLS.replace("a,", "b,"),
        DATED_HOURS + "b,0,10:00,11:00,2024-10-12\n",
        "store_id,timezone_str\nb,Etc/UTC\n",
    )
    assert home.business()[8:] == [24.0] * 5 + [0.0, 0.0, 1.0]


def test_a_zone_holds_from_its_date_on_and_names_the_zone_of_the_as_of(home: Home) -> None:
    assert home.counts(DATED_ZONES + "a,America/Denver,2024-10-10\na,America/New_York,2024-10-12\n") == [
        (2, 0, 0, 0, 0)
    ]
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
        DATED_POLLS.replace("a,", "b,"),
        "store_id,timezone_str\nb,Etc/UTC\n",
        SPECIAL + "b,2024-10-09,,\nb,2024-10-10,9:00,17:00\n",
    )
    assert home.business()[8:] == [24.0, 24.0, 0.0, 8.0, 24.0, 24.0, 24.0, 23.5]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,2024-10-32,,", "date is not a date (YYYY-MM-DD, 1970 to 2199)"),
        ("a,,,", "date is not a date (YYYY-MM-DD, 1970 to 2199)"),
        ("a,2024-10-10,9:00,", "only one of start_time_local and end_time_local "
            "is empty; both are when a store is closed all day"),
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
    hours, zones = home.load(DATED_HOURS + f"a,0,01:00,02:00,{date}\n", DATED_ZONES + f"a,Asia/Tokyo,{date}\n")
    reason = "valid_from is not a date (YYYY-MM-DD, 1970 to 2199), nor empty"
    assert (hours.reasons, zones.reasons) == ({reason: 1}, {reason: 1})
    assert home.business() == [3.0] * 8


def test_over_http_they_are_pushed_shown_and_removed(home: Home, client: FlaskClient) -> None:
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
    home.load(DATED_POLLS, DATED_HOURS + WEEK, UTC)
    assert home.business() == [3.0] * 8
