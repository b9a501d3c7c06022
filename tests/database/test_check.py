"""`storemon check`: finds what is wrong, names it, changes nothing, also beside a server."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server, http, sql, storemon

from storemon_flask.database import check, polls
from storemon_flask.database.connections import Database
from storemon_flask.model import WEEK_US
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

PARTS = [
    "pages and indexes",
    "references between tables",
    "polls and stores' spans",
    "counts of loads",
    "business hours",
    "special hours",
    "time zones",
    "texts and their forms",
    "reports and their files",
    "what loads replaced",
    "sums of days",
]


def found(settings: Settings) -> dict[str, list[str]]:
    """The parts that have problems, with those."""
    return {part.name: part.problems for part in check.check_database(settings).sections if part.count}


def test_a_whole_database_is_well_and_stays_as_it_is(small_fleet: Path, database: Database, settings: Settings) -> None:
    database.close()
    before = settings.database.read_bytes()
    done = storemon(settings.home, "check")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["checked", "amount", "problems"]
    assert [line[: len(name)] for line, name in zip(lines[1:], PARTS, strict=False)] == PARTS
    assert "4 polls in 2 weeks" in lines[3]
    assert lines[-1] == "all is well"
    assert settings.database.read_bytes() == before


def test_check_looks_beside_a_server_that_works(server: Server, settings: Settings) -> None:
    report_id = server.trigger()
    assert server.wait_for(report_id).status == 200
    assert storemon(settings.home, "check").returncode == 0
    (settings.reports_dir / f"report_{report_id}.csv").unlink()
    done = storemon(settings.home, "check")
    assert done.returncode == 1
    assert f"    report {report_id} is complete, and its file is not in {settings.reports_dir}\n" in done.stdout
    assert done.stderr == "1 problem(s)\n"
    assert http(server.url + "/healthz").status == 200


def packed(*polls: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">q", instant_us * 2 + active) for instant_us, active in polls)


def put_polls(blob: bytes) -> Callable[[Settings], Any]:
    """The week of the store `worked` holds those bytes."""
    return lambda settings: sql(
        settings.database,
        "UPDATE poll_week SET polls = ? WHERE store = (SELECT number FROM store_record WHERE store_id = 'worked')",
        blob,
    )


def say(statement: str) -> Callable[[Settings], Any]:
    return lambda settings: sql(settings.database, statement)


AT = 1_728_900_840_000_000  # 2024-10-14 10:14, as the store's first poll
LAST = 1_728_904_500_000_000  # 11:15


@pytest.mark.parametrize(
    ("spoil", "part", "words"),
    [
        (put_polls(b""), 2, "has 0 bytes; it must be a multiple of 8, and not 0"),
        (put_polls(packed((AT, 1), (LAST, 0))[:-1]), 2, "has 15 bytes"),
        (put_polls(packed((LAST, 0), (AT, 1))), 2, "is not in ascending order"),
        (put_polls(packed((AT, 1), (AT, 0), (LAST, 0))), 2, "is not in ascending order"),
        (put_polls(packed((AT, 1), (LAST + WEEK_US, 0))), 2, "has polls outside that week"),
        (put_polls(packed((-5, 1), (LAST, 0))), 2, "has polls outside that week"),
        (
            put_polls(packed((AT + 1, 1), (LAST, 0))),
            2,
            "store 'worked' says that its polls reach from 2024-10-14T10:14:00.000000 to 2024-10-14T11:15:00.000000; "
            "they reach from 2024-10-14T10:14:00.000001 to 2024-10-14T11:15:00.000000",
        ),
        (say("UPDATE store_record SET last_poll_us = "
            "last_poll_us + 1 WHERE store_id = 'worked'"), 2, "store 'worked' says"),
        (say("UPDATE store_record SET first_poll_us = 5,"
            " last_poll_us = 6 WHERE store_id = 'silent'"), 2, "from never to never"),
        (say("DELETE FROM poll_week WHERE store = (SELECT "
            "number FROM store_record WHERE store_id = 'worked')"), 2, "from never"),
        (say("UPDATE load_file SET rejected_count = 1,"
            " row_count = row_count + 1 WHERE id = 1"), 3, "1 row rejected, and 0"),
        (say("INSERT INTO reject VALUES (1, 1, 'why', 'text')"), 3, "1 rejected row is kept of 0"),
        (say("INSERT INTO load (started_us) VALUES (1)"), 3, "has no file"),
        (say("UPDATE timezone SET name = 'Mars/"
            "Base' WHERE name = 'Asia/Tokyo'"), 6, "'silent' has the time zone 'Mars/Base'"),
        (say("DELETE FROM store_record WHERE store_id = 'silent'"), 1, "names a store that is not there"),
        (say("DELETE FROM load"), 1, "load_file: row 1 names a load that is not there"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_and_named(
    small_fleet: Path,
    database: Database,
    settings: Settings,
    spoil: Callable[[Settings], Any],
    part: int,
    words: str,
) -> None:
    database.close()
    spoil(settings)
    problems = found(settings)
    assert PARTS[part] in problems
    assert any(words in problem for problem in problems[PARTS[part]]), problems
    assert storemon(settings.home, "check").returncode == 1


def test_rows_that_no_constraint_allows_are_found(small_fleet: Path, settings: Settings) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(settings.database)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE hours SET day = 9, start_s = -1 WHERE day = 0 AND end_s = 43200")
        connection.execute("UPDATE load_file SET row_count = row_count + 1 WHERE id = 1")
    problems = found(settings)
    # SQLite itself does not ask for these on a connection that only reads.
    assert any("day 9 from second -1 to second 43200" in problem for problem in problems[PARTS[4]])
    assert any("rows, and" in problem for problem in problems[PARTS[3]])


@pytest.mark.parametrize(
    "table", ["hours", "poll_week", "store_record", "load_file", "timezone", "report", "sqlite_schema"]
)
def test_a_zeroed_page_is_a_sentence_wherever_it_is(
    small_fleet: Path, database: Database, settings: Settings, table: str
) -> None:
    database.close()
    sql(settings.database, "PRAGMA wal_checkpoint(TRUNCATE)")
    root = sql(settings.database, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}' AND type = 'table'")
    place = (root[0][0] - 1) * 16_384 if table != "sqlite_schema" else 0
    data = bytearray(settings.database.read_bytes())
    # The first page begins with the file's header, which SQLite must find.
    data[place + (100 if place == 0 else 0) : place + 16_384] = bytes(16_384 - (100 if place == 0 else 0))
    settings.database.write_bytes(data)
    done = storemon(settings.home, "check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if place == 0:
        assert done.stderr == f"Error: {settings.database} is damaged; restore it from a backup\n"
    else:
        assert done.stdout.splitlines()[1].startswith(PARTS[0])
        assert not done.stdout.splitlines()[1].endswith(" 0")
    assert settings.database.read_bytes() == data


def test_many_problems_are_counted_and_not_all_printed(small_fleet: Path, settings: Settings) -> None:
    for number in range(50):
        sql(settings.database, "INSERT INTO load (started_us) VALUES (?)", number)
    done = storemon(settings.home, "check")
    assert "    and 30 more like these\n" in done.stdout
    assert done.stdout.count("has no file") == 20
    assert done.stderr == "50 problem(s)\n"


def test_reports_and_files_that_do_not_belong_together_are_told(small_fleet: Path, settings: Settings) -> None:
    settings.reports_dir.mkdir()
    a, b, c, d, e, x = (letter * 32 for letter in "abcdef")
    for state, report_id in (("complete", a), ("complete", b), ("running", c), ("deleted", d), ("failed", e)):
        sql(
            settings.database,
            "INSERT INTO report (id, state, as_of_us, columns, requested_us, started_us, finished_us, row_count, byte_count, "
            "sha256) VALUES (?, ?, 1, 'full', 1, 2, 3, 4, 5, ?)",
            report_id,
            state,
            "0" * 64,
        )
    for name in (*(f"report_{report_id}.csv" for report_id in (a, c, d, x)), "report_mine.csv", "mine.csv"):
        (settings.reports_dir / name).touch()
    folder = settings.reports_dir
    assert found(settings)["reports and their files"] == [
        f"report {b} is complete, and its file is not in {folder}",
        f"{folder}/report_{d}.csv belongs to no report of this database; a server removes it within the hour",
        f"{folder}/report_{x}.csv belongs to no report of this database; a server removes it within the hour",
    ]


def test_a_reports_folder_that_cannot_be_listed_is_a_problem_and_the_rest_is_looked_at(
    small_fleet: Path, settings: Settings
) -> None:
    settings.reports_dir.mkdir()
    with pytest.MonkeyPatch.context() as denied:

        def refuse(folder: Path) -> None:
            raise PermissionError(13, "Permission denied")

        denied.setattr(Path, "iterdir", refuse)
        problems = found(settings)
    assert problems == {
        "reports and their files": [f"{settings.reports_dir} cannot be looked through: Permission denied"]
    }


def test_equal_reports_have_a_file_each(runner: Worker, small_fleet: Path, settings: Settings) -> None:
    first, second = runner.submit(ReportRequest()), runner.submit(ReportRequest())
    assert found(settings) == {}
    runner.delete(first)
    assert found(settings) == {}
    runner.path(second).unlink()
    assert found(settings) == {
        "reports and their files": [f"report {second} is complete, and its file is not in {settings.reports_dir}"]
    }


def test_without_a_database_there_is_nothing_to_check(settings: Settings) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: there is no database at {settings.database}\n"
    assert list(settings.home.iterdir()) == []


def test_temporary_files_are_a_note_and_no_problem(small_fleet: Path, settings: Settings) -> None:
    settings.database.with_name(".storemon.db.12345678.tmp").touch()
    done = storemon(settings.home, "check")
    assert done.returncode == 0
    assert "- 1 temporary file(s) beside the database, such as .storemon.db.12345678.tmp" in done.stdout


def test_weeks_are_read_a_batch_at_a_time(small_fleet: Path, database: Database, settings: Settings) -> None:
    """Ten million polls in weeks of half a megabyte: never more than a few batches of them at once."""
    import tracemalloc

    with database.write() as connection:
        number = connection.execute("SELECT number FROM store_record WHERE store_id = 'silent'").fetchone()[0]
        for week in range(150):
            packed_polls = (np.arange(65_536, dtype=np.int64) + week * WEEK_US) * 2
            connection.execute(
                "INSERT INTO poll_week VALUES (?, ?, ?)", (week, number, packed_polls.astype(">i8").tobytes())
            )
        connection.execute(
            "UPDATE store_record SET first_poll_us = 0, last_poll_us = ? WHERE number = ?",
            (149 * WEEK_US + 65_535, number),
        )
    problems: list[str] = []
    seen: list[int] = []
    with database.read() as connection:
        tracemalloc.start()
        weeks, count = polls.check(connection, problems.append, seen.append)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (weeks, count, problems, sum(seen)) == (152, 150 * 65_536 + 4, [], 152)
    assert peak < 60e6
