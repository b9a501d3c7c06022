"""What a load says of other data: feeds that do not meet, files in conflict, files passed over, a newest poll that
jumps.
"""

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import sql
from feed_helpers import HOURS, POLLS, STORES, ZONES, push, upload
from flask.testing import FlaskClient
from load_helpers import put, put_zip

from storemon_flask import clock
from storemon_flask.database import stores
from storemon_flask.database import stores as stores_table
from storemon_flask.database.connections import Database
from storemon_flask.feeds import csv_exact, load, load_notes, schema, sources
from storemon_flask.settings import Settings

CASES = Path(__file__).parent.parent / "cases"
NEW, NO_HOURS, NO_ZONE = "new in this load", "no hours", "no time zone"


def polls(*ids: str, at: str = "2024-10-14 10:00:00") -> str:
    return POLLS + "".join(f"{store_id},{at} UTC,active\n" for store_id in ids)


def hours(*ids: str) -> str:
    return HOURS + "".join(f"{store_id},0,09:00,17:00\n" for store_id in ids)


def ahead(*days: int) -> str:
    """Polls so many days from now."""
    now = datetime.now(UTC)
    return POLLS + "".join(f"s{day},{now + timedelta(days=day):%Y-%m-%d %H:%M:%S} UTC,active\n" for day in days)


def zones(*ids: str) -> str:
    return ZONES + "".join(f"{store_id},America/Denver\n" for store_id in ids)


def notes(answer: Any) -> list[str]:
    """What an answer to a load says."""
    assert answer.status_code == 200, answer.text
    found: list[str] = answer.json["notes"]
    return found


def printed(text: str) -> list[str]:
    """The notes below the heading, unwrapped; no line is wider than 80 columns."""
    _, heading, below = text.partition("\nNotes\n")
    assert heading
    found: list[str] = []
    for line in below.splitlines():
        if line.startswith("  - "):
            found.append(line[4:])
        elif line.startswith("    "):
            found[-1] += " " + line[4:]
        else:
            break
        assert len(line) <= 80
    return found


# The cases that people met


def test_a_second_download_beside_the_first_is_the_later_one_and_is_named(run: Run, home: Path) -> None:  # noqa: F811
    shutil.copytree(CASES / "second-download", home / "data")
    done = run("load-data")
    assert [line.split()[:2] for line in done.out.splitlines()[1:7]] == [
        ["menu_hours.csv", "hours"],
        ["menu_hours", "(1).csv"],
        ["store_status.csv", "polls"],
        ["store_status", "(1).csv"],
        ["timezones.csv", "timezones"],
        ["timezones", "(1).csv"],
    ]
    assert printed(done.out) == [
        "1 store is new in this load: s",
        "time zones of 1 store come from two files: timezones.csv, "
        "timezones (1).csv; timezones (1).csv, the last one, counts",
        "hours of 1 store come from two files: menu_hours.csv, menu_hours "
        "(1).csv; their rows are put together, so leave the older "
        "file out if the newer one is to replace it",
    ]
    database = home / "instance" / "storemon.db"
    old, new = ((CASES / "second-download" / name).read_text() for name in ("timezones.csv", "timezones (1).csv"))
    assert old != new
    assert sql(database, "SELECT name FROM timezone") == [(new.splitlines()[1].split(",")[1],)]


def test_an_id_that_excel_rounded_is_named_with_those_it_may_stand_for(client: FlaskClient, run: Run) -> None:  # noqa: F811
    folder = CASES / "excel-15-digits"
    answer = upload(client, *((file.name, file.read_bytes()) for file in sorted(folder.iterdir())))
    expected = [
        "3 stores are new in this load: 8139926242460180000, 8139926242460185114 and 8139926242460185115",
        "1 polled store has no hours, so it counts as open 24x7: 8139926242460180000",
        "1 polled store has no time zone, so it counts in America/Chicago: 8139926242460180000",
        "2 stores with hours have no polls: 8139926242460185114 and 8139926242460185115",
        "8139926242460180000 looks like a number rounded by a spreadsheet "
        "(15 significant digits, then zeros); 8139926242460185114 "
        "and 8139926242460185115 begin as it does",
    ]
    assert sorted(notes(answer)) == sorted(expected)
    shown = client.get("/api/v1/loads/1").json
    assert shown["notes"] == notes(answer)
    assert [file["notes"] for file in shown["files"]] == [[], [], []]
    (listed,) = client.get("/api/v1/loads").json["loads"]
    assert {**listed, "files": shown["files"]} == shown
    assert (listed["file_count"], listed["failed_count"]) == (3, 0)
    page = client.get("/data/loads/1").text
    for sentence in expected:
        assert f"<li><bdi>{sentence}</bdi></li>" in page
    # The same again changes nothing, and there is nothing new to say.
    again = upload(client, *((file.name, file.read_bytes()) for file in sorted(folder.iterdir())))
    assert notes(again) == []
    assert 'id="notes"' not in client.get("/data/loads/2").text


# Feeds that do not meet


def test_three_feeds_in_three_loads_each_say_what_is_missing_then_and_no_more(client: FlaskClient) -> None:
    ids = [f"s{number:03d}" for number in range(200)]
    some = "s000, s001, s002 and 197 more"
    assert notes(push(client, "polls", polls(*ids))) == [
        f"200 stores are new in this load: {some}",
        f"200 polled stores have no hours, so they count as open 24x7: {some}",
        f"200 polled stores have no time zone, so they count in America/Chicago: {some}",
    ]
    assert notes(push(client, "hours", hours(*ids[:199], "x"))) == [
        "1 store is new in this load: x",
        "1 polled store has no hours, so it counts as open 24x7: s199",
        "1 store with hours has no polls: x",
    ]
    assert notes(push(client, "timezones", zones(*ids[2:]))) == [
        "2 polled stores have no time zone, so they count in America/Chicago: s000 and s001"
    ]
    assert notes(push(client, "timezones", zones(*ids[:2]))) == []
    assert notes(push(client, "polls", polls(*ids, at="2024-10-14 11:00:00"))) == []
    assert notes(push(client, "stores", STORES + "s000,Corner,\n")) == []


def test_hours_before_polls_are_no_surprise(client: FlaskClient) -> None:
    assert notes(push(client, "hours", hours("a", "b"))) == ["2 stores are new in this load: a and b"]
    assert notes(push(client, "timezones", zones("a", "b"))) == []
    # Stores that have all there is are polled for the first time: nothing to say.
    assert notes(push(client, "polls", polls("a"))) == []
    assert notes(push(client, "polls", polls("b", at="2024-10-14 11:00:00"))) == []


def test_stores_known_by_name_alone_are_missed_when_they_are_polled(client: FlaskClient) -> None:
    assert notes(push(client, "stores", STORES + "a,Alpha,\n")) == ["1 store is new in this load: a"]
    assert notes(push(client, "polls", polls("a"))) == [
        "1 polled store has no hours, so it counts as open 24x7: a",
        "1 polled store has no time zone, so it counts in America/Chicago: a",
    ]


def test_the_default_zone_of_the_settings_is_the_one_named(run: Run, home: Path, monkeypatch: Any) -> None:  # noqa: F811
    monkeypatch.setenv("STOREMON_DEFAULT_TIMEZONE", "Europe/Berlin")
    done = run("load-data", put(home / "polls.csv", polls("a").encode()))
    assert "1 polled store has no time zone, so it counts in Europe/Berlin: a" in printed(done.out)
    assert "1 polled store has no time zone, so it counts in Europe/Berlin: a" in printed("\n" + run("check").out)


def test_a_store_set_over_http_has_its_notes_too(client: FlaskClient) -> None:
    push(client, "polls", polls("a", "b"))
    body = {"hours": [{"day": 0, "start_time_local": "09:00", "end_time_local": "17:00"}]}
    assert notes(client.put("/api/v1/stores/a/hours", json=body)) == [
        "1 polled store has no hours, so it counts as open 24x7: b"
    ]
    assert notes(client.put("/api/v1/stores/a/timezone", json={"timezone": "UTC"})) == [
        "1 polled store has no time zone, so it counts in America/Chicago: b"
    ]


# Stores that look alike


@pytest.mark.parametrize(
    ("there", "comes", "sentence"),
    [
        ("nyc-1", "NYC-1", "nyc-1 and NYC-1 look alike: they differ only in case"),
        ("0042", "42", "0042 and 42 look alike: they differ only in leading zeros"),
        ("1001", "1001.0", "1001 and 1001.0 look alike: they differ only in a trailing .0"),
        ("a b", "a  b", '"a b" and a<U+0020><U+0020>b look alike: they differ only in blanks'),
        ("a b", "a\u00a0b", '"a b" and a<U+00A0>b look alike: they differ only in blanks'),
        ("café", "cafe\u0301", "café and cafe\u0301 look alike: they differ only in the Unicode form of characters"),
        ("12", "\uff11\uff12", "12 and \uff11\uff12 look alike: they differ only in the Unicode form of characters"),
        ("Ab1", "00aB1", None),
        ("007A", "7a", "007A and 7a look alike: they differ only in case and leading zeros"),
    ],
)
def test_ids_that_look_alike_are_named_when_the_second_one_comes(
    client: FlaskClient, there: str, comes: str, sentence: str | None
) -> None:
    push(client, "polls", polls(there))
    found = [note for note in notes(push(client, "hours", hours(comes))) if "look alike" in note]
    assert found == ([sentence] if sentence else [])
    # It was said; a third store has nothing to do with them.
    assert not [note for note in notes(push(client, "polls", polls("other"))) if "look alike" in note]


def test_ids_that_look_alike_are_found_among_those_stored_by_a_check(run: Run, home: Path) -> None:  # noqa: F811
    path = put(home / "polls.csv", polls("1001", "2002").encode())
    run("load-data", path)
    # As an older version, which took invisible characters for part of an id, has left it.
    database = home / "instance" / "storemon.db"
    sql(database, "INSERT INTO store_record (store_id, number) VALUES (?, 3)", "10\u00ad01")
    done = run("check")
    assert done.code == 0
    assert printed("\n" + done.out) == [
        "2 polled stores have no hours, so they count as open 24x7: 1001 and 2002",
        "2 polled stores have no time zone, so they count in America/Chicago: 1001 and 2002",
        "1001 and 10<U+00AD>01 look alike: they differ only in invisible characters",
    ]


def test_many_groups_that_look_alike_are_counted(client: FlaskClient) -> None:
    push(client, "polls", polls(*(f"s{number:02d}" for number in range(30))))
    found = [
        note
        for note in notes(push(client, "hours", hours(*(f"S{number:02d}" for number in range(30)))))
        if "alike" in note
    ]
    assert len(found) == 6
    assert found[0] == "s00 and S00 look alike: they differ only in case"
    assert found[-1] == "25 more groups of stores look alike"


def test_long_numbers_that_end_in_zeros_are_not_suspected_when_their_feeds_meet(client: FlaskClient) -> None:
    ids = [f"10000000000000{number:02d}" for number in range(8, 22)]
    push(client, "timezones", zones(*ids))
    push(client, "hours", hours(*ids[:-1]))
    assert not [note for note in notes(push(client, "polls", polls(*ids))) if "rounded" in note]


# Files


def test_what_is_passed_over_is_listed_and_changes_no_exit_code(run: Run, home: Path) -> None:  # noqa: F811
    put(home / "data" / "polls.csv", polls("a").encode())
    for name in ("hours.numbers", "zones.tsv", "timezones.csv.download", "README.md", ".gitkeep", "sub/hours.csv"):
        put(home / "data" / name, b"x")
    done = run("load-data")
    assert done.code == 0
    unnamed = "no workbook, and not named *.csv, *.csv.gz, *.csv.zst or *.zip"
    assert printed(done.out)[3:] == [
        "passed over: hours.numbers (a workbook of Numbers; save it as CSV)",
        "passed over: sub (a folder; folders inside a folder are not searched)",
        f"passed over: timezones.csv.download ({unnamed})",
        "passed over: zones.tsv (it does not begin with the header of a feed)",
    ]
    listed = run("loads").out
    assert "    - passed over: hours.numbers (a workbook of Numbers; save it as CSV)\n" in listed
    assert max(map(len, listed.splitlines()[2:])) <= 80


def test_many_files_passed_over_are_counted(run: Run, home: Path) -> None:  # noqa: F811
    put(home / "data" / "polls.csv", polls("a").encode())
    for number in range(20):
        put(home / "data" / f"{number:02d}.txt", b"x")
    found = printed(run("load-data").out)[3:]
    assert len(found) == 9
    assert found[-1] == "passed over: 12 more files"


def test_a_folder_of_files_that_are_not_read_says_what_it_holds(run: Run, home: Path) -> None:  # noqa: F811
    put(home / "data" / "hours.numbers", b"x")
    done = run("load-data")
    assert done.code == 1
    assert "holds no workbook and no file named *.csv, *.csv.gz, *.csv.zst or *.zip" in done.err
    assert printed("\n" + done.out) == ["passed over: hours.numbers (a workbook of Numbers; save it as CSV)"]
    assert not (home / "instance" / "storemon.db").exists()


def test_what_is_passed_over_in_a_zip_is_listed_also_when_the_load_is_refused(
    client: FlaskClient, tmp_path: Path
) -> None:
    path = put_zip(
        tmp_path / "all.zip", {"polls.csv": polls("a").encode(), "hours.numbers": b"x", "__MACOSX/._x": b"x"}
    )
    said = "passed over: all.zip/hours.numbers (a workbook of Numbers; save it as CSV)"
    assert notes(upload(client, ("all.zip", path.read_bytes())))[3:] == [said]
    bad = put_zip(tmp_path / "bad.zip", {"polls.csv": b"store_id,timestamp_utc,status\n,x,y\n", "hours.numbers": b"x"})
    assert upload(client, ("bad.zip", bad.read_bytes()), query="?atomic=1").status_code == 422
    assert client.get("/api/v1/loads/2").json["notes"] == [
        "passed over: bad.zip/hours.numbers (a workbook of Numbers; save it as CSV)"
    ]


def test_files_of_one_load_that_give_hours_names_or_zones_to_one_store_are_named(client: FlaskClient) -> None:
    dated = "store_id,date,start_time_local,end_time_local\n"
    files = [
        ("h1.csv", hours("a", "b")), ("h2.csv", hours("b", "c")), ("h3.csv", hours("d")), ("h4.csv", hours("a")),
        ("d1.csv", dated + "a,2024-12-24,09:00,12:00\n"), ("d2.csv", dated + "a,2024-12-25,,\n"),
        ("z1.csv", zones("a", "b", "c")), ("z2.csv", zones("a", "b")),
        ("n1.csv", STORES + "a,Alpha,\n"), ("n2.csv", STORES + "a,Beta,\n"),
    ]  # fmt: skip
    found = notes(upload(client, *files, query="?atomic=1"))
    together = "their rows are put together, so leave the older file out if the newer one is to replace it"
    assert sorted(note for note in found if "come from" in note) == [
        f"hours of 2 stores come from three files: h1.csv, h2.csv, h4.csv; {together}",
        "names of 1 store come from two files: n1.csv, n2.csv; n2.csv, the last one, counts",
        f"special hours of 1 store come from two files: d1.csv, d2.csv; {together}",
        "time zones of 2 stores come from two files: z1.csv, z2.csv; z2.csv, the last one, counts",
    ]


# What it costs


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the notes ask of the database meanwhile."""
    asked: list[str] = []

    def counting(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (asked.append(name), real(*given))[1])

    for name in (
        "count_without",
        "examples_without",
        "any_without",
        "any_polls",
        "any_hours",
        "ids",
        "ids_above",
        "feeds_of",
    ):
        counting(stores, name)
    counting(stores_table, "poll_spans")
    yield asked


def test_a_push_of_polls_of_known_stores_looks_at_no_other_store(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, "polls", polls("a", "b", "c"))
    with statements(monkeypatch) as asked:
        for minute in range(3):
            assert notes(push(client, "polls", polls("a", "b", at=f"2024-10-14 11:0{minute}:00"))) == []
        assert notes(push(client, "polls", polls("a", "b", at="2024-10-14 11:00:00"))) == []
        assert asked == []
        push(client, "polls", polls("d"))
        assert asked.count("ids") == 1


def test_notes_are_committed_with_the_last_rows_of_the_load(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, "polls", polls("a"))

    def fail(*given: object) -> list[str]:
        raise sqlite3.OperationalError("no notes")

    monkeypatch.setattr(load_notes.LoadNotes, "build", fail)
    assert push(client, "polls", polls("b")).status_code == 500
    assert sql(settings.database, "SELECT store_id FROM store_record") == [("a",)]


# Rejected rows of time zones and hours


def test_a_rejected_zone_names_the_store_and_the_zone_it_counts_in(client: FlaskClient) -> None:
    rows = "ny1,Eastern Standard Time\nla,Mars/Base\nto,asia/tokyo\nto,Tokyo\nrome\n"
    answer = push(client, "timezones", ZONES + rows)
    assert answer.json["reasons"] == {
        "time zone is the Windows name of America/New_York; write America/New_York": 1,
        schema.ZONE: 2,
        csv_exact.FIELDS_FEW: 1,
    }
    assert notes(answer) == [
        "1 store is new in this load: to",
        "time zone rows were rejected: stores la, ny1 and rome count in America/Chicago, the default",
        "a time zone row was rejected: store to counts in the zone of its other row, Asia/Tokyo",
    ]
    assert notes(push(client, "timezones", ZONES + "ny1,EDT\n")) == [
        "a time zone row was rejected: store ny1 counts in America/Chicago, the default"
    ]
    assert notes(push(client, "timezones", ZONES + "to,Tokyo\n")) == [
        "a time zone row was rejected: store to keeps the zone it had, Asia/Tokyo"
    ]
    assert notes(client.get("/api/v1/loads/3")) == [
        "a time zone row was rejected: store to keeps the zone it had, Asia/Tokyo"
    ]
    assert "store to keeps the zone it had, Asia/Tokyo" in client.get("/data/loads/3").text


def test_many_rejected_zones_are_counted_and_a_later_file_of_the_load_counts(client: FlaskClient) -> None:
    bad = "".join(f"s{number:02d},Nowhere\n" for number in range(17))
    good = "".join(f"s{number:02d},UTC\n" for number in range(5))
    assert notes(upload(client, ("a.csv", ZONES + bad), ("b.csv", ZONES + good)))[1:] == [
        "time zone rows were rejected: stores s05, s06, s07, s08, s09 and 7 more count in America/Chicago, the default",
        "time zone rows were rejected: stores s00, s01, s02, s03 and s04 count in the zones of their other rows, UTC",
    ]


def test_abbreviations_without_daylight_saving_time_are_named(client: FlaskClient) -> None:
    rows = "ny,EST\nphx,mst\nbos,est\nden,MST7MDT\nhi,HST\nx,America/New_York\n"
    assert notes(push(client, "timezones", ZONES + rows))[1:] == [
        "stores bos and ny have the time zone EST, which knows no daylight saving time; America/New_York does",
        "store phx has the time zone MST, which knows no daylight saving time; America/Denver does",
    ]


def test_rejected_hours_of_many_stores_are_one_note(client: FlaskClient) -> None:
    good = "".join(f"s{number},0,09:00,17:00\n" for number in range(9))
    push(client, "hours", HOURS + good)
    bad = "".join(f"{name}{number},1,nine,17:00\n" for name in "st" for number in range(9))
    assert push(client, "hours", HOURS + bad).json["notes"][:2] == [
        "hours rows were rejected: stores s0, s1, s2, s3, s4 and 4 more keep the hours they had",
        "hours rows were rejected: stores t0, t1, t2, t3, t4 and 4 more had none before and count as open 24x7",
    ]


CLOCK = (
    r"this machine's clock says 20\d\d-\d\d-\d\d \d\d:\d\d UTC; {} later than "
    r"that and rejected\. If the clock is wrong, set it and load them again"
)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ((1,), "the poll is"),
        ((1, -1), "1 of 2 polls is"),
        ((1, 2, -1), "2 of 3 polls are"),
        ((1, -1, -2), None),
        ((-1, -2), None),
    ],
)
def test_where_most_polls_are_later_than_the_clock_the_load_says_what_the_clock_says(
    client: FlaskClient, days: tuple[int, ...], words: str | None
) -> None:
    said = [note for note in notes(push(client, "polls", ahead(*days))) if "clock" in note]
    assert len(said) == (words is not None)
    assert words is None or re.fullmatch(CLOCK.format(words), said[0])


def test_the_clock_is_named_of_a_load_that_is_refused_as_a_whole_and_of_several_files(client: FlaskClient) -> None:
    refused = upload(client, ("polls.csv", ahead(1, 2, 3, -1)), query="?atomic=1")
    assert refused.status_code == 422
    upload(client, ("a.csv", ahead(1, 2)), ("b.csv", ahead(-1, -2, -3)))
    upload(client, ("a.csv", ahead(1, 2)), ("b.csv", ahead(3, -3)), ("zones.csv", zones("s1")))
    loads = client.get("/api/v1/loads").json["loads"][::-1]
    found = [[note for note in load["notes"] if "clock" in note] for load in loads]
    assert [len(said) for said in found] == [1, 0, 1]
    assert re.fullmatch(CLOCK.format("3 of 4 polls are"), found[0][0])
    assert re.fullmatch(CLOCK.format("3 of 4 polls are"), found[2][0])


def test_polls_rejected_by_a_clock_that_was_behind_can_be_loaded_when_it_is_right(
    tmp_path: Path, settings: Settings, database: Database
) -> None:
    put(tmp_path / "feeds" / "polls.csv", polls("a", "b", "c"))
    found = sources.find_sources([tmp_path / "feeds"])
    behind = load.load_sources(database, found, load.LoadOptions(93_000_000, 300_000_000))
    assert (behind.rejected, behind.notes) == (
        3,
        [
            "this machine's clock says 1970-01-01 00:01 UTC; 3 of 3 polls "
            "are later than that and rejected. If the clock is wrong, "
            "set it and load them again"
        ],
    )
    right = load.load_sources(database, found, load.LoadOptions(clock.parse_timestamp("2024-10-15"), 300_000_000))
    assert (right.rejected, right.files[0].counts.new) == (0, 3)
    assert not any("clock" in note for note in right.notes)


def test_a_load_for_a_store_that_has_polls_in_the_future_says_so(
    tmp_path: Path, settings: Settings, database: Database
) -> None:
    noon = clock.parse_timestamp("2024-10-14T12:00")

    def loaded(now_us: int, text: str) -> list[str]:
        put(tmp_path / "feeds" / "polls.csv", text)
        result = load.load_sources(
            database, sources.find_sources([tmp_path / "feeds"]), load.LoadOptions(now_us, 300_000_000)
        )
        assert result.rejected == 0
        return [note for note in result.notes if "future" in note or "moved" in note]

    assert loaded(noon, polls("a", "b", "c", "d")) == []
    # The clock is two years ahead for a moment.
    moved = loaded(noon + 731 * 86_400_000_000, polls("a", at="2026-10-14 11:00:00"))
    assert len(moved) == 1
    assert "the newest poll moved by 730 days" in moved[0]
    assert loaded(noon, polls("a", "b", at="2024-10-14 11:00:00")) == [
        "1 store has polls in the future (a), the last of them of "
        "2026-10-14 11:00 UTC; they count for nothing before their time. If "
        "this machine's clock is right, `storemon prune --future` takes them out"
    ]
    # What moves the newest poll is seen beside it.
    later = loaded(noon + 9 * 86_400_000_000, polls("b", at="2024-10-23 11:00:00"))
    assert len(later) == 1
    assert "the newest poll moved by 9 days, from 2024-10-14 11:00 UTC to 2024-10-23 11:00 UTC" in later[0]
