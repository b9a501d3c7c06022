"""The command line: loading and rejects, what is printed and with which exit code."""

import csv as csv_module
import gc
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Done, Run, database, line
from cli_helpers import example as example
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import storemon
from load_helpers import HOURS, POLLS, ZONES, csv, gz, put, put_zip, query

from storemon_flask.feeds import csv_exact, schema


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
    assert line(done, "hours.csv") == ["hours", "1", "1", "0", "0", "0", "0"]
    assert line(done, "polls.csv") == ["polls", "6", "2", "0", "0", "1", "3"]
    assert line(done, "zones.csv") == ["timezones", "1", "1", "0", "0", "0", "0"]
    assert f"    2 rejected: {schema.STATUS}\n    1 rejected: {schema.ID_EMPTY}\n" in done.out
    assert done.out.endswith("`storemon rejects --load 1` lists the 3 rejected rows.\n")
    assert query(database(home), "SELECT count(*) FROM poll") == [(2,)]


def test_the_summary_counts_one_rejected_row_in_the_singular(run: Run, home: Path) -> None:
    done = run("load-data", put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,maybe")))
    assert done.out.endswith("`storemon rejects --load 1` lists the 1 rejected row.\n")


def test_large_numbers_in_the_summary_have_separators(run: Run, home: Path) -> None:
    rows = [f"s{n},2023-01-22 10:00:00,active" for n in range(1234)]
    done = run("load-data", put(home / "a.csv", csv(POLLS, *rows)))
    assert line(done, str(home / "a.csv")) == ["polls", "1,234", "1,234", "0", "0", "0", "0"]


def test_any_mix_of_files_folders_and_archives_is_loaded(run: Run, home: Path, example: Path) -> None:
    packed = put(home / "b.csv.gz", gz(csv(POLLS, "b,2024-10-14 10:00:00,active")))
    archive = put_zip(home / "c.zip", {"x.csv": csv(POLLS, "c,2024-10-14 10:00:00,active")})
    done = run("load-data", packed, example, archive)
    assert done.code == 0
    assert line(done, str(packed)) == ["polls", "1", "1", "0", "0", "0", "0"]
    assert line(done, f"{archive}/x.csv") == ["polls", "1", "1", "0", "0", "0", "0"]
    assert query(database(home), "SELECT DISTINCT store_id FROM poll ORDER BY 1") == [("b",), ("c",), ("worked",)]


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
    assert line(done, "polls.csv") == ["polls", "2", "2", "0", "0", "0", "0"]
    assert (
        f"Not loaded: {bad}: the header fits no feed: it has 3 columns,"
        f" of which storemon knows none; expected one of polls: store_id" in done.err
    )
    assert f"Not loaded: {home / 'missing.csv'} does not exist" in done.err


def test_rejected_rows_fail_the_command_only_when_it_is_strict(run: Run, home: Path) -> None:
    path = put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active", "s,never,active"))
    assert run("load-data", path).code == 0
    strict = run("load-data", "--strict", path)
    assert strict.code == 1
    assert line(strict, str(path)) == ["polls", "2", "0", "0", "1", "0", "1"]
    clean = put(home / "b.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    assert run("load-data", "--strict", clean).code == 0


NO_FEED = {
    "semicolons": (b"store_id;timestamp_utc;state\ns;2023-01-22;active\n", "it has 3 columns separated by semicolons,"),
    "tabs": (
        b"store_id\ttimestamp_utc\tstate\n",
        "separated by tabs, of which storemon knows store_id, timestamp_utc;",
    ),
    "bars": (b"store_id|timestamp_utc|state\n", "separated by vertical bars"),
    "sep=": (b"sep=#\nstore_id#timestamp_utc#status\n", "line 1 (sep=) names a delimiter that is not read"),
    "two feeds": (b"store_id,timestamp_utc,status,timezone_str\n", "fits two feeds, polls and timezones"),
    "a missing column": (
        b"store_id,timestamp_utc\n",
        "fits no feed: it has 2 columns, of which storemon knows store_id, timestamp_utc;",
    ),
    "a column twice": (b"store_id,status,timestamp_utc,Status\n", "names one column of polls twice (status)"),
    "two spellings of a column": (
        b"store_id,day,dayOfWeek,start_time_local,end_time_local\n",
        "names one column of hours twice (day, dayofweek)",
    ),
    "no header": (
        b"s,2023-01-22 10:00:00 UTC,active\n",
        "it has 3 columns, of which storemon knows none; expected one of",
    ),
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
    assert not database(home).exists()


def test_a_header_alone_is_a_feed_without_rows(run: Run, home: Path) -> None:
    done = run("load-data", put(home / "a.csv", b"\xef\xbb\xbf" + POLLS.encode()))
    assert done.code == 0
    assert line(done, str(home / "a.csv")) == ["polls", "0", "0", "0", "0", "0", "0"]


def test_a_line_of_thirty_megabytes_is_one_rejected_row(run: Run, home: Path) -> None:
    path = home / "a.csv"
    with path.open("wb") as stream:
        stream.write(f"{POLLS}\ns,2023-01-22 10:00:00,active\n".encode())
        for _ in range(30):
            stream.write(b"x" * 1_000_000)
        stream.write(b"\ns,2023-01-22 11:00:00,active\n")
    done = run("load-data", path)
    assert done.code == 0
    assert line(done, str(path)) == ["polls", "3", "2", "0", "0", "0", "1"]
    assert f"    1 rejected: {csv_exact.TOO_LONG}\n" in done.out
    (_, row) = csv_module.reader(io.StringIO(run("rejects").out))
    assert row == ["1", str(path), "3", csv_exact.TOO_LONG, "x" * 1000]


def test_stores_with_rejected_hours_are_one_note(run: Run, home: Path) -> None:
    rows = [f"s{n:02d},9,09:00,17:00" for n in range(25)]
    done = run("load-data", put(home / "a.csv", csv(HOURS, *rows)))
    assert (
        "    hours rows were rejected: stores s00, s01, s02, s03,"
        " s04 and 20 more had none before and count as open 24x7\n" in done.out
    )


def test_rejects_are_listed_as_csv_for_one_load_or_for_all(run: Run, home: Path) -> None:
    a = put(home / "a.csv", csv(POLLS, 's,never,"a ""b"""', "s,2023-01-22 10:00:00,active", "s,é\tx,active"))
    b = put(home / "b.csv", csv(ZONES, "s,Mars"))
    run("load-data", a)
    run("load-data", b)
    header = "load,file,line,reason,text\n"
    rows = [
        f'1,{a},2,{schema.TIMESTAMP_FORM},"s,never,""a """"b"""""""\n',
        f'1,{a},4,{schema.TIMESTAMP_FORM},"s,é\tx,active"\n',
        f'2,{b},2,{schema.ZONE},"s,Mars"\n',
    ]
    rows = [row.replace(schema.TIMESTAMP_FORM, _cell(schema.TIMESTAMP_FORM)) for row in rows]
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


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Iterator[None]:
    """Connections that nobody closes stay open as long as the garbage collector does not come by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_databases(home: Path) -> list[str]:
    """The files of the database that this process has open."""
    found = []
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            found.append(str(descriptor.readlink()))
        except OSError:  # the one that listed them
            continue
    return [name for name in found if name.startswith(str(database(home)))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ["load-data"],
        ["rejects"],
        ["loads"],
        ["report"],
        ["report", "--store", "nobody"],
        ["outages"],
        ["stores"],
        ["store", "worked"],
        ["store", "nobody"],
        ["info"],
        ["keys", "add", "--scope", "read"],
        ["keys", "list"],
        ["keys", "revoke", "sm_nobody"],
        ["check"],
        ["backup", "copy.db"],
        ["prune", "--before", "2024-01-01", "--yes"],
        ["export", "out"],
    ],
    ids=" ".join,
)
def test_no_connection_is_open_when_a_command_has_ended(
    run: Run, example: Path, home: Path, arguments: list[str]
) -> None:
    assert run("load-data").code == 0
    assert database(home).is_file()
    done = run(*arguments)
    assert done.code == (1 if arguments[-1] in ("nobody", "sm_nobody") else 0), done
    assert open_databases(home) == []


@pytest.mark.parametrize("arguments", [[], ["keys"]])
def test_a_group_without_a_command_shows_its_help_in_lines(tmp_path: Path, arguments: list[str]) -> None:
    done = storemon(tmp_path, *arguments)
    assert done.returncode == 2
    assert "\\n" not in done.stderr + done.stdout
    lines = (done.stderr + done.stdout).splitlines()
    assert lines[0].startswith("Usage: ")
    assert "Commands:" in lines
