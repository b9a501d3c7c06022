"""The command line: exit codes, what is printed, and what is said about files, settings and databases that cannot be used."""

import contextlib
import csv as csv_module
import io
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from ingest_helpers import HOURS, POLLS, ZONES, csv, environment, gz, put, put_zip, query, storemon

from storemon_flask import __main__, settings
from storemon_flask.errors import SettingsError
from storemon_flask.ingest import records, values
from storemon_flask.version import VERSION

REPORT = (
    "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,downtime_last_hour,downtime_last_day,"
    "downtime_last_week\nworked,0.00,1.74,1.74,60.00,1.26,1.26\n"
)


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, which is the working directory too."""
    for name in list(os.environ):
        if name.startswith(("STOREMON_", "FLASK_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("STOREMON_HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `storemon ARGUMENTS` in this process, as the entry point does."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["storemon", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            __main__.main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)

    return call


@pytest.fixture
def example(home: Path) -> Path:
    """The worked example of SPEC 3 in a folder: Monday 09:00-12:00 UTC, 10:14 active, 11:15 inactive."""
    put(
        home / "data" / "polls.csv",
        csv(POLLS, "worked,2024-10-14 10:14:00 UTC,active", "worked,2024-10-14 11:15:00 UTC,inactive"),
    )
    put(home / "data" / "hours.csv", csv(HOURS, "worked,0,09:00,12:00"))
    put(home / "data" / "zones.csv", csv(ZONES, "worked,UTC"))
    return home / "data"


NOON = "2024-10-14T12:00:00Z"


def _database(home: Path) -> Path:
    return home / "instance" / "storemon.db"


def _line(done: Done, start: str) -> list[str]:
    """The cells of the summary's line for a file."""
    (line,) = [line for line in done.out.splitlines() if line.startswith(start)]
    return line.removeprefix(start).split()


# load-data


def test_load_data_without_a_path_loads_the_data_folder_and_says_what_became_of_every_row(
    run: Run, example: Path, home: Path
) -> None:
    put(
        example / "polls.csv",
        csv(
            POLLS,
            "worked,2024-10-14 10:14:00 UTC,active",
            "worked,2024-10-14 10:14:00 UTC,active",
            "worked,2024-10-14 11:15:00 UTC,inactive",
            "worked,2024-10-14 11:15:01 UTC,maybe",
            "worked,2024-10-14 11:15:02 UTC,perhaps",
            ",2024-10-14 11:15:02 UTC,active",
        ),
    )
    done = run("load-data")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == [
        "file", "feed", "rows", "new", "changed", "unchanged", "repeated", "rejected"
    ]  # fmt: skip
    assert _line(done, "hours.csv") == ["hours", "1", "1", "0", "0", "0", "0"]
    assert _line(done, "polls.csv") == ["polls", "6", "2", "0", "0", "1", "3"]
    assert _line(done, "zones.csv") == ["timezones", "1", "1", "0", "0", "0", "0"]
    assert f"    2 rejected: {values.STATUS}\n    1 rejected: {values.ID_EMPTY}\n" in done.out
    assert done.out.endswith("`storemon rejects --load 1` lists the 3 rejected rows.\n")
    assert query(_database(home), "SELECT count(*) FROM poll") == [(2,)]


def test_large_numbers_in_the_summary_have_separators(run: Run, home: Path) -> None:
    rows = [f"s{n},2023-01-22 10:00:00,active" for n in range(1234)]
    done = run("load-data", put(home / "a.csv", csv(POLLS, *rows)))
    assert _line(done, str(home / "a.csv")) == ["polls", "1,234", "1,234", "0", "0", "0", "0"]


def test_any_mix_of_files_folders_and_archives_is_loaded(run: Run, home: Path, example: Path) -> None:
    packed = put(home / "b.csv.gz", gz(csv(POLLS, "b,2024-10-14 10:00:00,active")))
    archive = put_zip(home / "c.zip", {"x.csv": csv(POLLS, "c,2024-10-14 10:00:00,active")})
    done = run("load-data", packed, example, archive)
    assert done.code == 0
    assert _line(done, str(packed)) == ["polls", "1", "1", "0", "0", "0", "0"]
    assert _line(done, f"{archive}/x.csv") == ["polls", "1", "1", "0", "0", "0", "0"]
    assert query(_database(home), "SELECT DISTINCT store_id FROM poll ORDER BY 1") == [("b",), ("c",), ("worked",)]


def test_without_a_data_folder_load_data_says_where_to_put_the_files(run: Run, home: Path) -> None:
    done = run("load-data")
    assert done.code == 1
    assert done.out == ""
    assert f"{home / 'data'} does not exist" in done.err
    assert f"Put your CSVs into {home / 'data'}, or name files or folders" in done.err


def test_a_file_that_is_no_feed_fails_the_command_and_the_others_are_loaded(
    run: Run, home: Path, example: Path
) -> None:
    bad = put(home / "bad.csv", "a,b,c\n1,2,3\n")
    done = run("load-data", bad, example, home / "missing.csv")
    assert done.code == 1
    assert _line(done, "polls.csv") == ["polls", "2", "2", "0", "0", "0", "0"]
    assert f"Not loaded: {bad}: the header fits no feed: found a, b, c; expected one of polls: store_id" in done.err
    assert f"Not loaded: {home / 'missing.csv'} does not exist" in done.err


def test_rejected_rows_fail_the_command_only_when_it_is_strict(run: Run, home: Path) -> None:
    path = put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active", "s,never,active"))
    assert run("load-data", path).code == 0
    strict = run("load-data", "--strict", path)
    assert strict.code == 1
    assert _line(strict, str(path)) == ["polls", "2", "0", "0", "1", "0", "1"]
    clean = put(home / "b.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    assert run("load-data", "--strict", clean).code == 0


NO_FEED = {
    "semicolons": (b"store_id;timestamp_utc;status\ns;2023-01-22;active\n", "separated by semicolons"),
    "tabs": (b"store_id\ttimestamp_utc\tstatus\n", "separated by tabs"),
    "bars": (b"store_id|timestamp_utc|status\n", "separated by vertical bars"),
    "two feeds": (b"store_id,timestamp_utc,status,timezone_str\n", "fits two feeds, polls and timezones"),
    "a missing column": (b"store_id,timestamp_utc\n", "fits no feed: found store_id, timestamp_utc;"),
    "a column twice": (b"store_id,status,timestamp_utc,Status\n", "names one column of polls twice (status, Status)"),
    "two spellings of a column": (
        b"store_id,day,dayOfWeek,start_time_local,end_time_local\n",
        "names one column of hours twice (day, dayOfWeek)",
    ),
    "no header": (b"s,2023-01-22 10:00:00 UTC,active\n", "found s, 2023-01-22 10:00:00 UTC, active; expected one of"),
    "UTF-16": ("store_id,timestamp_utc,status\n".encode("utf-16"), "is UTF-16, not UTF-8"),
    "UTF-16 without a mark": ("store_id,timestamp_utc,status\n".encode("utf-16-be"), "NUL bytes"),
    "Latin-1": ("store_id,timestamp_utc,status,größe\n".encode("latin-1"), "the header is not UTF-8 text"),
    "NUL bytes": (b"\0\0\0\0", "NUL bytes"),
    "nothing": (b"", "the file is empty"),
    "a blank line": (b"\n", "the file is empty"),
    "one long line": (b"x" * 3_000_000, "first line has no end within 1,048,576 bytes"),
}


@pytest.mark.parametrize(("data", "sentence"), NO_FEED.values(), ids=NO_FEED)
def test_what_is_no_feed_says_why_and_stores_nothing(run: Run, home: Path, data: bytes, sentence: str) -> None:
    path = put(home / "a.csv", data)
    done = run("load-data", path)
    assert done.code == 1
    assert done.out == ""
    # Before the last line a large file's progress has been announced.
    last = done.err.splitlines()[-1]
    assert last.startswith(f"Not loaded: {path}: ")
    assert sentence in last
    assert len(done.err) < 1000
    assert not _database(home).exists()


def test_a_header_alone_is_a_feed_without_rows(run: Run, home: Path) -> None:
    done = run("load-data", put(home / "a.csv", b"\xef\xbb\xbf" + POLLS.encode()))
    assert done.code == 0
    assert _line(done, str(home / "a.csv")) == ["polls", "0", "0", "0", "0", "0", "0"]


def test_a_line_of_thirty_megabytes_is_one_rejected_row(run: Run, home: Path) -> None:
    path = home / "a.csv"
    with path.open("wb") as stream:
        stream.write(f"{POLLS}\ns,2023-01-22 10:00:00,active\n".encode())
        for _ in range(30):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\ns,2023-01-22 11:00:00,active\n")
    done = run("load-data", path)
    assert done.code == 0
    assert _line(done, str(path)) == ["polls", "3", "2", "0", "0", "0", "1"]
    assert f"    1 rejected: {records.LINE_LONG}\n" in done.out
    (_, row) = csv_module.reader(io.StringIO(run("rejects").out))
    assert row == ["1", str(path), "3", records.LINE_LONG, "x" * 1000]


def test_more_than_twenty_notes_of_a_file_are_counted_and_not_printed(run: Run, home: Path) -> None:
    rows = [f"s{n:02d},9,09:00,17:00" for n in range(25)]
    done = run("load-data", put(home / "a.csv", csv(HOURS, *rows)))
    assert [line.split(":")[0].strip() for line in done.out.splitlines() if "a row" in line or "no row" in line] == [
        f"s{n:02d}" for n in range(20)
    ]
    assert "    and 5 more notes like these\n" in done.out


# rejects


def test_rejects_are_listed_as_csv_for_one_load_or_for_all(run: Run, home: Path) -> None:
    a = put(home / "a.csv", csv(POLLS, 's,never,"a ""b"""', "s,2023-01-22 10:00:00,active", "s,é\tx,active"))
    b = put(home / "b.csv", csv(ZONES, "s,Mars"))
    run("load-data", a)
    run("load-data", b)
    header = "load,file,line,reason,text\n"
    rows = [
        f'1,{a},2,{values.INSTANT_FORM},"s,never,""a """"b"""""""\n',
        f'1,{a},4,{values.INSTANT_FORM},"s,é\tx,active"\n',
        f'2,{b},2,{values.ZONE},"s,Mars"\n',
    ]
    rows = [row.replace(values.INSTANT_FORM, _cell(values.INSTANT_FORM)) for row in rows]
    assert run("rejects") == Done(0, header + "".join(rows), "")
    assert run("rejects", "--load", 1).out == header + rows[0] + rows[1]
    assert run("rejects", "--load", 2).out == header + rows[2]
    unknown = run("rejects", "--load", 3)
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no load 3" in unknown.err


def _cell(text: str) -> str:
    return f'"{text}"' if "," in text or '"' in text else text


def test_the_list_of_rejects_has_a_header_also_when_it_is_empty(run: Run, example: Path) -> None:
    run("load-data")
    assert run("rejects") == Done(0, "load,file,line,reason,text\n", "")


# report


def test_a_report_goes_to_standard_output_and_its_instant_to_standard_error(run: Run, example: Path) -> None:
    run("load-data")
    assert run("report", "--as-of", NOON) == Done(0, REPORT, "as of 2024-10-14T12:00:00.000000Z: 1 stores\n")


def test_a_report_goes_to_a_file_whole_and_replaces_what_was_there(run: Run, home: Path, example: Path) -> None:
    run("load-data")
    target = put(home / "out" / "report.csv", "something longer than the report\n" * 100)
    done = run("report", "--as-of", NOON, "-o", target)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"as of 2024-10-14T12:00:00.000000Z: 1 stores, {len(REPORT)} bytes in {target}\n"
    assert target.read_bytes() == REPORT.encode()
    assert [path.name for path in target.parent.iterdir()] == ["report.csv"]


def test_a_report_that_cannot_be_written_says_so(run: Run, home: Path, example: Path) -> None:
    run("load-data")
    done = run("report", "-o", home / "nowhere" / "report.csv")
    assert (done.code, done.out) == (1, "")
    assert f"{home / 'nowhere' / 'report.csv'} cannot be written: No such file or directory" in done.err
    folder = run("report", "-o", home)
    assert folder.code == 1
    assert f"{home} is not a file" in folder.err


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2024-10-14T12:00:00Z", "2024-10-14T12:00:00.000000Z"),
        ("2024-10-14T12:00:00.5", "2024-10-14T12:00:00.500000Z"),
        ("2024-10-14 12:00:00 UTC", "2024-10-14T12:00:00.000000Z"),
        ("2024-10-14 12:00:00.388884 UTC", "2024-10-14T12:00:00.388884Z"),
        ("2024-10-14T17:30+05:30", "2024-10-14T12:00:00.000000Z"),
        ("2024-10-14", "2024-10-14T00:00:00.000000Z"),
        ("20241014T120000Z", "2024-10-14T12:00:00.000000Z"),
    ],
)
def test_an_as_of_may_be_written_in_many_ways(run: Run, example: Path, text: str, instant: str) -> None:
    run("load-data")
    done = run("report", "--as-of", text)
    assert (done.code, done.err) == (0, f"as of {instant}: 1 stores\n")


def test_without_an_as_of_a_report_speaks_at_the_newest_poll(run: Run, example: Path) -> None:
    run("load-data")
    assert run("report").err == "as of 2024-10-14T11:15:00.000000Z: 1 stores\n"


@pytest.mark.parametrize("text", ["yesterday", "", "14/10/2024", "2024-13-01", "now"])
def test_an_as_of_that_is_no_instant_is_wrong_usage(run: Run, example: Path, text: str) -> None:
    run("load-data")
    done = run("report", "--as-of", text)
    assert (done.code, done.out) == (2, "")
    assert f"{text!r} is not an instant such as 2024-10-14T23:55:18Z" in done.err


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59Z", "2200-01-01T00:00:01Z"])
def test_an_as_of_outside_the_calendar_is_refused(run: Run, example: Path, text: str) -> None:
    run("load-data")
    done = run("report", "--as-of", text)
    assert (done.code, done.out) == (1, "")
    assert "as_of must lie between 1970-01-01 and 2200-01-01" in done.err


def test_a_report_may_be_of_some_stores_only_and_names_those_it_does_not_know(run: Run, home: Path) -> None:
    rows = [f"{store},2024-10-14 10:00:00,active" for store in ("a", "b", "NYC/12")]
    run("load-data", put(home / "a.csv", csv(POLLS, *rows)))
    done = run("report", "--store", "NYC/12", "--store", "b", "--store", "b")
    assert done.code == 0
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["store_id", "NYC/12", "b"]
    unknown = run("report", "--store", "b", "--store", "zz top")
    assert (unknown.code, unknown.out) == (1, "")
    assert "unknown stores: 'zz top'" in unknown.err


def test_the_full_columns_begin_with_the_classic_ones(run: Run, example: Path) -> None:
    run("load-data")
    header, row = run("report", "--as-of", NOON, "--columns", "full").out.splitlines()
    classic_header, classic_row = REPORT.splitlines()
    assert header.startswith(f"{classic_header},unknown_last_hour,")
    assert row.startswith(f"{classic_row},0.00,")
    assert row.endswith(",2,2024-10-14T11:15:00.000000Z,closed,UTC,,")


def test_without_a_poll_there_is_no_report(run: Run, home: Path) -> None:
    run("load-data", put(home / "a.csv", csv(ZONES, "s,UTC")))
    assert run("report") == Done(1, "", "Error: no polls loaded; run `storemon load-data`\n")
    assert run("report", "--as-of", NOON).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--columns", "wide"],
        ["report", "extra"],
        ["rejects", "--load", "x"],
        ["load"],
        ["load-data", "--fast"],
    ],
)
def test_wrong_usage_exits_with_two(run: Run, home: Path, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert not _database(home).exists()


# Databases that cannot be used.


@pytest.mark.parametrize("command", [["report"], ["rejects"], ["report", "-o", "x.csv"]])
def test_a_command_that_only_reads_never_makes_a_database(run: Run, home: Path, command: list[str]) -> None:
    done = run(*command)
    assert (done.code, done.out) == (1, "")
    assert f"there is no database at {_database(home)}; run `storemon load-data` to make it" in done.err
    assert list(home.iterdir()) == []


def test_info_without_a_database_says_so_and_makes_none(run: Run, home: Path) -> None:
    done = run("info")
    assert done.code == 1
    assert f"{_database(home)} (not there yet)" in done.out
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "rejects", "load-data"])
def test_a_file_that_is_no_database_is_left_alone(run: Run, home: Path, example: Path, command: str) -> None:
    content = b"these are somebody's notes and no database\n" * 1000
    path = put(_database(home), content)
    done = run(command)
    assert done.code == 1
    assert f"{path} is not an SQLite database; set STOREMON_DATABASE to another path or move the file away" in done.err
    assert path.read_bytes() == content


@pytest.mark.parametrize("command", ["report", "load-data"])
def test_another_programs_database_is_left_alone(run: Run, home: Path, example: Path, command: str) -> None:
    path = _database(home)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    done = run(command)
    assert done.code == 1
    assert f"{path} is another program's database" in done.err
    assert query(path, "SELECT name FROM sqlite_master") == [("recipe",)]


def test_a_folder_in_the_databases_place_is_a_sentence(run: Run, home: Path, example: Path) -> None:
    _database(home).mkdir(parents=True)
    for command in ("load-data", "report"):
        done = run(command)
        assert done.code == 1
        assert str(_database(home)) in done.err
        assert "Traceback" not in done.err


# Settings.

BAD_SETTINGS = {
    "STOREMON_DATABASE": [" ", "a\0b"],
    "STOREMON_REPORTS_DIR": [" ", "a\0b"],
    "STOREMON_HOST": [" ", "local host"],
    "STOREMON_PORT": ["-1", "65536", "http", "80.5"],
    "STOREMON_REPORT_WORKERS": ["0", "65", "two", "1.5"],
    "STOREMON_HTTP_THREADS": ["0", "257", "many"],
    "STOREMON_MAX_BODY_MB": ["0", "1000001", "1.5", "1 GB"],
    "STOREMON_TRUSTED_HOSTS": [" ", "a,,b", "a b", "http://a", "a:8000", "::g", "*.a", "-a", ".", "a,*"],
    "STOREMON_REACH_HOURS": ["0", "169", "nan", "inf", "-24", "a day"],
    "STOREMON_MAX_GAP_MINUTES": ["0", "10081", "nan", "2h"],
    "STOREMON_MAX_CLOCK_SKEW_MINUTES": ["-1", "1441", "nan", "5m"],
    "STOREMON_MAX_REPORT_ROWS": ["0", "1e6", "1000000001"],
    "STOREMON_KEEP_POLLS_DAYS": ["-1", "1.5", "100001", "a year"],
    "STOREMON_KEEP_REPORTS_DAYS": ["-1", "1.5", "36501", "a year"],
    "STOREMON_MAX_PENDING_REPORTS": ["0", "1.5", "1000001", "many"],
    "STOREMON_MAX_CONNECTIONS": ["9", "1.5", "100001", "many"],
    "STOREMON_CONNECTION_TIMEOUT_SECONDS": ["0", "1.5", "3601", "a minute"],
    "STOREMON_MIN_FREE_MB": ["-1", "1.5", "1000000001", "1 GB"],
    "STOREMON_LOG_FORMAT": ["xml", "JSON", " "],
    "STOREMON_CSV_ROAD": ["duckdb", "BYTES"],
    "STOREMON_DEFAULT_TIMEZONE": ["CST", "America/Gotham", "../UTC"],
}


def test_every_setting_has_wrong_values_to_be_tried() -> None:
    # A secret is not repeated in the sentence; tests/test_keys.py has its wrong values.
    assert set(BAD_SETTINGS) == {knob.name for knob in settings.KNOBS if not knob.secret}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD_SETTINGS.items() for text in texts])
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(home: Path, name: str, text: str) -> None:
    allowed = next(knob.allowed for knob in settings.KNOBS if knob.name == name)
    with pytest.raises(SettingsError) as bad:
        settings.load({"STOREMON_HOME": str(home), name: text})
    assert bad.value.message == f"{name} is {text!r}; it must be {allowed}"


@pytest.mark.parametrize("command", ["load-data", "report", "rejects", "info", "serve"])
def test_a_wrong_setting_stops_every_command_before_it_does_anything(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("STOREMON_PORT", "eighty")
    done = run(command)
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: STOREMON_PORT is 'eighty'; it must be a whole number from 0 (any free port) to 65535\n"
    assert list(home.iterdir()) == []


def test_help_and_version_work_whatever_the_settings(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREMON_PORT", "eighty")
    assert run("--version") == Done(0, f"storemon {VERSION}\n", "")
    assert "load-data" in run("--help").out
    assert "--as-of" in run("report", "--help").out


def test_a_gap_longer_than_twice_the_reach_is_refused(home: Path) -> None:
    values_ = {"STOREMON_HOME": str(home), "STOREMON_REACH_HOURS": "1", "STOREMON_MAX_GAP_MINUTES": "120"}
    assert settings.load(values_).max_gap_us == 120 * 60_000_000
    with pytest.raises(SettingsError) as bad:
        settings.load(values_ | {"STOREMON_MAX_GAP_MINUTES": "121"})
    assert bad.value.message == (
        "STOREMON_MAX_GAP_MINUTES is 121; it must be at most twice STOREMON_REACH_HOURS, that is 120 minutes"
    )


def test_the_environment_goes_before_the_dotenv_file_and_that_before_the_default(home: Path) -> None:
    put(home / ".env", "STOREMON_PORT=1234\nSTOREMON_REACH_HOURS='12'\n")
    found = settings.load({"STOREMON_HOME": str(home), "STOREMON_PORT": "4321", "STOREMON_HOST": ""})
    assert (found.port, found.reach_us, found.host) == (4321, 12 * 3_600_000_000, "127.0.0.1")
    assert found.database == home / "instance" / "storemon.db"
    assert found.with_options(port=99, host=None).port == 99
    absolute = settings.load({"STOREMON_HOME": str(home), "STOREMON_DATABASE": "/elsewhere/x.db"})
    assert absolute.database == Path("/elsewhere/x.db")


def test_a_wrong_value_in_the_dotenv_file_is_named_too(run: Run, home: Path) -> None:
    put(home / ".env", "STOREMON_REACH_HOURS=forever\n")
    done = run("report")
    assert done.code == 1
    assert "STOREMON_REACH_HOURS is 'forever'; it must be a number of hours from 0.01 to 168" in done.err
    put(home / ".env", b"STOREMON_REACH_HOURS=\xff\xfe\n")
    undecodable = run("report")
    assert undecodable.code == 1
    assert f"{home / '.env'} cannot be read" in undecodable.err


def test_the_allowed_clock_skew_decides_about_polls_of_the_future(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home / "a.csv", csv(POLLS, "s,2999-01-01 00:00:00,active", "s,2023-01-22 10:00:00,active"))
    monkeypatch.setenv("STOREMON_MAX_CLOCK_SKEW_MINUTES", "1440")
    done = run("load-data", path)
    assert _line(done, str(path)) == ["polls", "2", "1", "0", "0", "0", "1"]
    assert f"    1 rejected: {values.INSTANT_FUTURE}\n" in done.out


# In processes of their own.


def test_the_commands_work_as_a_module_from_load_to_report(home: Path, example: Path) -> None:
    loaded = storemon(home, "load-data")
    assert (loaded.returncode, loaded.stderr) == (0, "")
    done = storemon(home, "report", "--as-of", NOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, REPORT, "as of 2024-10-14T12:00:00.000000Z: 1 stores\n")


def test_flask_has_the_same_commands(home: Path, example: Path) -> None:
    def flask(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "storemon_flask", *arguments],
            env=environment(home, **more),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    loaded = flask("load-data")
    assert loaded.returncode == 0
    assert "polls.csv  polls         2    2        0          0         0         0" in loaded.stdout
    reported = flask("report", "--as-of", NOON)
    assert (reported.returncode, reported.stdout) == (0, REPORT)
    failed = flask("load-data", "missing.csv")
    assert failed.returncode == 1
    assert "missing.csv does not exist" in failed.stderr
    wrong = flask("report", STOREMON_PORT="eighty")
    assert wrong.returncode != 0
    assert "STOREMON_PORT is 'eighty'; it must be a whole number" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("stores", [3, 5_000])
@pytest.mark.parametrize("command", ["report", "rejects"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(run: Run, home: Path, command: str, stores: int) -> None:
    rows = [f"store-{n},2023-01-22 10:00:00,active" for n in range(stores)]
    run("load-data", put(home / "a.csv", csv(POLLS, *rows, *(f"{row}ish" for row in rows))))
    reading, writing = os.pipe()
    # Nobody will ever read: the first write of the command fails, as after `| head` has left.
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "storemon_flask", command],
            env=environment(home),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    for word in ("Traceback", "Exception", "BrokenPipe", "Broken pipe"):
        assert word not in done.stderr
    assert done.returncode in (0, 1)


# Quotes make every block go row by row: seconds of work for the interrupt to fall into.
_SLOW = b"".join(b'"s%d","2023-01-22 11:00:00.%06d UTC",active\n' % (n % 5, n) for n in range(100_000)) * 8


def _interrupted(home: Path, *paths: Path) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the lines on the terminal of a load that gets Ctrl-C while it reads `big.csv`."""
    terminal, screen = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "storemon_flask", "load-data", *map(str, paths)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=screen,
        # A shell that runs the tests in the background has them, and so this process, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(screen)
        try:
            while b"big.csv" not in shown:
                shown += os.read(terminal, 4096)
            process.send_signal(signal.SIGINT)
            # Linux ends a terminal nobody writes to any more with an error, not with an end of file.
            with contextlib.suppress(OSError):
                while more := os.read(terminal, 4096):
                    shown += more
        finally:
            os.close(terminal)
        out, _ = process.communicate(timeout=60)
    return process.returncode, out.decode(), shown.decode().replace("\r", "\n").split("\n")


def test_an_interrupted_load_says_that_nothing_changed_and_nothing_has(run: Run, home: Path) -> None:
    run("load-data", put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active")))
    before = query(_database(home), "SELECT * FROM poll")
    path = put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW)
    code, out, lines = _interrupted(home, path)
    assert (code, out) == (130, "")
    assert "interrupted; nothing changed" in lines
    assert query(_database(home), "SELECT * FROM poll") == before
    assert query(_database(home), "SELECT count(*) FROM load") == [(1,)]


def test_an_interrupted_load_names_the_files_that_were_in_before(home: Path) -> None:
    first = put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    path = put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW)
    code, _, lines = _interrupted(home, first, path)
    assert code == 130
    assert f"interrupted; loaded before: {first}; nothing of the other files was" in lines
    assert query(_database(home), "SELECT store_id FROM poll") == [("s",)]


def test_the_progress_bar_is_for_terminals_only(run: Run, home: Path) -> None:
    done = run("load-data", put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW[: len(_SLOW) // 8]))
    assert (done.code, done.err) == (0, "")
