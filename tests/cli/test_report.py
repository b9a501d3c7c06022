"""The command line: reports, and databases that cannot be used."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_helpers import NOON, REPORT, Done, Run, database
from cli_helpers import example as example
from cli_helpers import home as home
from cli_helpers import run as run
from load_helpers import POLLS, ZONES, csv, put, query


def test_a_report_goes_to_standard_output_and_its_instant_to_standard_error(run: Run, example: Path) -> None:
    run("load-data")
    assert run("report", "--as-of", NOON) == Done(0, REPORT, "as of 2024-10-14T12:00:00.000000Z: 1 store\n")


def test_a_report_goes_to_a_file_whole_and_replaces_what_was_there(run: Run, home: Path, example: Path) -> None:
    run("load-data")
    target = put(home / "out" / "report.csv", "something longer than the report\n" * 100)
    done = run("report", "--as-of", NOON, "-o", target)
    assert (done.code, done.out) == (0, "")
    assert done.err == f"as of 2024-10-14T12:00:00.000000Z: 1 store, {len(REPORT)} bytes in {target}\n"
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
    assert (done.code, done.err) == (0, f"as of {instant}: 1 store\n")


def test_without_an_as_of_a_report_speaks_at_the_newest_poll(run: Run, example: Path) -> None:
    run("load-data")
    assert run("report").err == "as of 2024-10-14T11:15:00.000000Z: 1 store\n"


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
    assert row.endswith(",2,2024-10-14T11:15:00.000000Z,closed,UTC,,,,,,,,")


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
    assert not database(home).exists()


@pytest.mark.parametrize("command", [["report"], ["rejects"], ["report", "-o", "x.csv"]])
def test_a_command_that_only_reads_never_makes_a_database(run: Run, home: Path, command: list[str]) -> None:
    done = run(*command)
    assert (done.code, done.out) == (1, "")
    assert f"there is no database at {database(home)}; run `storemon load-data` to make it" in done.err
    assert list(home.iterdir()) == []


def test_info_without_a_database_says_so_and_makes_none(run: Run, home: Path) -> None:
    done = run("info")
    assert done.code == 1
    assert f"{database(home)} (not there yet)" in done.out
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", ["report", "rejects", "load-data"])
def test_a_file_that_is_no_database_is_left_alone(run: Run, home: Path, example: Path, command: str) -> None:
    content = b"these are somebody's notes and no database\n" * 1000
    path = put(database(home), content)
    done = run(command)
    assert done.code == 1
    assert f"{path} is not an SQLite database; set STOREMON_DATABASE to another path or move the file away" in done.err
    assert path.read_bytes() == content


@pytest.mark.parametrize("command", ["report", "load-data"])
def test_another_programs_database_is_left_alone(run: Run, home: Path, example: Path, command: str) -> None:
    path = database(home)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    done = run(command)
    assert done.code == 1
    assert f"{path} is another program's database" in done.err
    assert query(path, "SELECT name FROM sqlite_master") == [("recipe",)]


def test_a_folder_in_the_databases_place_is_a_sentence(run: Run, home: Path, example: Path) -> None:
    database(home).mkdir(parents=True)
    for command in ("load-data", "report"):
        done = run(command)
        assert done.code == 1
        assert str(database(home)) in done.err
        assert "Traceback" not in done.err


def test_info_counts_the_reports_that_are_there_to_the_end(run: Run, home: Path, example: Path) -> None:
    run("load-data")
    folder = home / "reports"
    folder.mkdir(parents=True)
    (folder / "report_a.csv").write_bytes(b"x" * 300_000)
    # Listed, and gone when it is looked at.
    (folder / "report_b.csv").symlink_to(folder / "deleted")
    done = run("info")
    assert done.code == 0
    assert re.search(r"^reports +.*/reports \(1 file, 0\.3 MB\)$", done.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["report", "--window", "soon"], "--window is 'soon'; it must be last_hour, last_day, last_week"),
        (["report", "--window", "2024-10-14..x"], "--window is 'x'; it must be a date such as 2024-10-01"),
        (["report", "--by", "year"], "--by is 'year'; it must be hour, day"),
        (["outages", "--window", "soon"], "or [NAME=]FROM..TO"),
        (["outages", "--shortest", "999999"], "--shortest is 999999.0; it must be a number of minutes"),
    ],
)
def test_an_error_names_the_option_and_not_the_field_of_a_request(
    run: Run, example: Path, arguments: list[str], sentence: str
) -> None:
    run("load-data")
    done = run(*arguments)
    assert done.code == 1
    assert sentence in done.err
