"""What an unlucky or hostile day brings: each of these once lost something, lied, or ended in a traceback."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import PATIENCE_S, STOREMON, Server, environment, http, storemon, wait_until
from load_helpers import HOURS, POLLS, csv, load, put, put_zip, query
from worker_helpers import Queue, take_step

from storemon_flask.database import reports
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import schema
from storemon_flask.reports import stored
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

HOURS_SQL = "SELECT day FROM hours JOIN store_record ON number = store WHERE store_id = ? ORDER BY day"


@pytest.mark.parametrize(
    "row", [b"a,1,09:00,17:00,caf\xe9", b'a,"1,09:00,17:00,x', b"a,1,09:00,17:00,\0", b"a,1,09:00," + b"9" * 1_100_000]
)
def test_a_store_keeps_its_hours_when_a_row_of_it_cannot_even_be_read(
    database: Database, tmp_path: Path, row: bytes
) -> None:
    first = put(tmp_path / "first.csv", csv(HOURS + ",note", "a,0,09:00,17:00,", "a,1,09:00,17:00,"))
    load(database, first)
    (summary,) = load(
        database, put(tmp_path / "again.csv", csv(HOURS + ",note", "a,0,10:00,17:00,x") + row + b"\n")
    ).files
    assert query(database.path, HOURS_SQL, "a") == [(0,), (1,)]
    assert summary.notes == ["an hours row was rejected: store a keeps the hours it had"]


def test_a_hours_file_missing_from_its_set_is_said_with_the_stores_that_lost_days(
    database: Database, tmp_path: Path
) -> None:
    monday = put(tmp_path / "1.csv", csv(HOURS, "a,0,09:00,17:00"))
    tuesday = put(tmp_path / "2.csv", csv(HOURS, "a,1,09:00,17:00"))
    load(database, monday, tuesday)
    put(tuesday, csv("no,header", "a,1"))
    summary = load(database, monday, tuesday).files[0]
    assert summary.notes == [
        "1 earlier row of these stores was replaced",
        f"store a lost earlier hours, and {tuesday} could not be read; was its week in there?",
    ]


def test_a_load_that_runs_out_of_disk_says_what_was_loaded_and_what_was_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = put(tmp_path / "small.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    rows = [f"store-{n},2023-01-22 10:00:00,active" for n in range(40_000)]
    big = put(tmp_path / "big.csv", csv(POLLS, *rows))
    limited = 'ulimit -f 1500; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *STOREMON, "load-data", str(small), str(big)],
        env=environment(home), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(small) in done.stdout
    assert f"Not loaded: {big}" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(home / "instance" / "storemon.db", "SELECT store_id FROM store_record") == [("s",)]


def test_a_file_whose_name_is_no_text_is_loaded_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.csv")).write_bytes(csv(POLLS, "s,2023-01-22 10:00:00,active,x"))
    put(folder / "good.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    done = storemon(tmp_path / "home", "load-data", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    listed = storemon(tmp_path / "home", "rejects", PYTHONIOENCODING="latin-1")
    assert "bad\ufffd.csv,2,row has more fields than the header" in listed.stdout


def test_a_zip_with_a_member_name_that_is_no_text_is_a_sentence_and_the_others_load(
    database: Database, tmp_path: Path
) -> None:
    path = put_zip(tmp_path / "a.zip", {"é.csv": csv(POLLS, "s,2023-01-22 10:00:00,active")})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    other = put(tmp_path / "b.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    files = load(database, path, other).files
    assert [bool(summary.error) for summary in files] == [True, False]
    assert zipfile.is_zipfile(path)


def test_two_files_of_one_name_are_told_apart(database: Database, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        put(tmp_path / folder / "same.csv", csv(POLLS, f"{folder},2023-01-22 10:00:00,active"))
    files = load(database, tmp_path / "x", tmp_path / "y").files
    assert [summary.file for summary in files] == [str(tmp_path / "x" / "same.csv"), str(tmp_path / "y" / "same.csv")]


def test_a_server_whose_database_was_removed_answers_from_the_new_one(server: Server, tmp_path: Path) -> None:
    assert server.wait_for(server.trigger()).body.count(b"\n") == 5
    for file in (server.home / "instance").glob("storemon.db*"):
        if "server" not in file.name:
            file.unlink()
    fresh = put(tmp_path / "fresh.csv", csv(POLLS, "fresh,2023-01-22 10:00:00,active"))
    assert storemon(server.home, "load-data", str(fresh)).returncode == 0
    answer = server.wait_for(server.trigger())
    assert answer.body.splitlines()[1].startswith(b"fresh,")
    assert answer.body.count(b"\n") == 2


def test_triggers_that_wait_for_a_load_leave_room_for_everybody_else(
    serve, small_fleet: Path, database: Database
) -> None:
    database.close()
    server = serve(STOREMON_HTTP_THREADS="4")
    with (
        contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as loading,
        ThreadPoolExecutor(8) as pool,
    ):
        loading.execute("BEGIN IMMEDIATE")
        asked = [pool.submit(http, server.url + "/trigger_report", "POST", b"") for _ in range(8)]
        try:
            wait_until(lambda: sum(one.done() for one in asked) == 6, "six refusals")
            assert server.get("/healthz").json == {"status": "ok"}
        finally:
            loading.rollback()
        answers = [one.result() for one in asked]
    assert sorted(answer.status for answer in answers) == [202] * 2 + [503] * 6
    assert {answer.headers["Retry-After"] for answer in answers if answer.status == 503} == {"2"}


def test_pushes_and_triggers_together_leave_room_for_everybody_else(
    serve, small_fleet: Path, database: Database
) -> None:
    database.close()
    server = serve(STOREMON_HTTP_THREADS="10")
    body = csv(POLLS, "worked,2024-10-14 11:59:00,active")
    with (
        contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as loading,
        ThreadPoolExecutor(20) as pool,
    ):
        loading.execute("BEGIN IMMEDIATE")
        pushed = [pool.submit(http, server.url + "/api/v1/feeds/polls", "POST", body) for _ in range(8)]
        wait_until(lambda: sum(one.done() for one in pushed) == 4, "four pushes without a place")
        asked = [pool.submit(http, server.url + "/trigger_report", "POST", b"") for _ in range(8)]
        try:
            # Of ten threads four wait with a load and four with a trigger.
            wait_until(lambda: sum(one.done() for one in asked) == 4, "four triggers without a place")
            assert server.get("/healthz").json == {"status": "ok"}
        finally:
            loading.rollback()
        pushes, triggers = (sorted(one.result().status for one in some) for some in (pushed, asked))
    assert (pushes, triggers) == ([200] * 4 + [503] * 4, [202] * 4 + [503] * 4)


def test_an_outcome_that_cannot_be_written_is_written_when_it_can(
    runner: Worker, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, refused = reports.complete, threading.Event()

    def full_disk_once(*arguments: object) -> None:
        if not refused.is_set():
            refused.set()
            raise DatabaseError("the disk is full")
        complete(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reports, "complete", full_disk_once)
    report_id = runner.submit(ReportRequest())
    assert refused.is_set()
    assert stored.get(runner.database, report_id).state == "complete"


def test_a_report_that_is_requeued_waits_for_the_lock_even_while_the_server_stops(
    runner: Worker, small_fleet: Path, settings: Settings
) -> None:
    database = runner.database
    worker = Worker(database, settings, Queue())
    report_id = worker.submit(ReportRequest())
    assert take_step(database, reports.start, report_id, 2) is not None
    database.stop_waiting()
    with contextlib.closing(sqlite3.connect(settings.database, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(1.0, other.rollback)
        timer.start()
        worker._record(lambda connection: reports.requeue(connection, report_id))
        timer.join()
    row = stored.get(database, report_id)
    assert (row.state, row.attempts) == ("pending", 0)


@pytest.mark.parametrize("text", ["2024-10-14 15:14:00+05:75", "2024-10-14 15:14:00+24:00", "2024-10-14 15:14:00-99"])
def test_an_offset_that_cannot_be_is_not_guessed(text: str) -> None:
    with pytest.raises(schema.BadValue, match="does not exist"):
        schema.parse_timestamp(text)


@pytest.mark.parametrize("text", ["\x1fa\x1f", "a\x85", "\na", "a\tb"])
def test_a_control_character_at_the_end_of_an_id_is_not_cut_away(text: str) -> None:
    with pytest.raises(schema.BadValue, match="control character"):
        schema.parse_store_id(text)


def test_rejects_are_safe_to_open_in_a_spreadsheet(tmp_path: Path) -> None:
    put(tmp_path / "home" / "data" / "a.csv", csv(POLLS, "=cmd|x!A1,bogus,active"))
    assert storemon(tmp_path / "home", "load-data").returncode == 0
    assert storemon(tmp_path / "home", "rejects").stdout.splitlines()[1].endswith(',"\'=cmd|x!A1,bogus,active"')


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["report", "rejects", "info"])
def test_a_full_standard_output_is_a_sentence(small_fleet: Path, settings: Settings, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*STOREMON, command], env=environment(settings.home), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_what_is_asked_in_the_address_of_a_trigger_is_refused_and_not_ignored(client) -> None:
    answer = client.post("/trigger_report?columns=full&as_of=1")
    assert answer.status_code == 422
    assert answer.json["detail"] == "columns, as_of: put it into a JSON body; the address takes nothing"


def test_a_report_goes_where_a_link_leads_and_keeps_the_modes_of_the_file(
    small_fleet: Path, settings: Settings
) -> None:
    target = put(settings.home / "kept.csv", b"old")
    target.chmod(0o600)
    link = settings.home / "link.csv"
    link.symlink_to(target)
    assert storemon(settings.home, "report", "-o", str(link)).returncode == 0
    assert link.is_symlink()
    assert target.read_text().startswith("store_id,")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_file_name_as_long_as_a_name_may_be_can_be_written(small_fleet: Path, settings: Settings) -> None:
    file = settings.home / ("n" * 251 + ".csv")
    assert storemon(settings.home, "report", "-o", str(file)).returncode == 0
    assert file.read_text().startswith("store_id,")


def test_a_port_in_use_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    done = storemon(home, "serve", "--port", server.url.rsplit(":", 1)[1])
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert not list(home.rglob("*.db"))


def test_a_demo_that_is_terminated_takes_its_server_along(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    demo = subprocess.Popen(
        [sys.executable, "-m", "storemon_flask", "demo", "--keep-serving"],
        env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert demo.stdout is not None
    with demo.stdout:
        line = next(line for line in demo.stdout if line.startswith("Still serving"))
        url = next(word for word in line.split() if word.startswith("http"))
        assert http(url + "/healthz").status == 200
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(PATIENCE_S) == 0
    with pytest.raises(OSError, match="refused"):
        http(url + "/healthz")
