"""The real server over real HTTP: the whole flow, what stops its start, company, one server a database, orderly ends."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    NEWEST,
    NO_POLLS,
    PATIENCE_S,
    ROOT,
    SMALL_CSV,
    STOREMON,
    Server,
    environment,
    http,
    sql,
    storemon,
    wait_until,
)
from server_helpers import Serve, nothing_runs
from worker_helpers import files, row

from storemon_flask.clock import parse_timestamp
from storemon_flask.database.connections import Database
from storemon_flask.database.files import server_lock
from storemon_flask.errors import DatabaseError
from storemon_flask.server import GRACE_S
from storemon_flask.settings import Settings

# What is running gets its grace, and the rest takes seconds on a slow machine; what would keep it takes a minute or more.
QUICK_S = GRACE_S + 15


def test_the_whole_flow_over_http(server: Server) -> None:
    assert server.first_line == f"storemon serves {server.url}  (Ctrl-C stops)\n"
    assert server.url.startswith("http://127.0.0.1:")
    assert server.get("/healthz").json == {"status": "ok"}
    triggered = http(server.url + "/trigger_report", "POST", b"")
    assert triggered.status == 202
    report_id = triggered.json["report_id"]
    assert triggered.headers["Location"] == f"/get_report?report_id={report_id}"
    answer = server.wait_for(report_id)
    assert (answer.status, answer.body) == (200, SMALL_CSV.encode())
    assert answer.headers["X-Report-Status"] == "Complete"
    assert answer.headers["X-Report-As-Of"] == NEWEST
    assert answer.headers["Content-Disposition"] == f"attachment; filename=report_{report_id}.csv"
    assert server.get(f"/get_report?report_id={report_id}", If_None_Match=answer.headers["ETag"]).status == 304
    part = server.get(f"/get_report?report_id={report_id}", Range="bytes=0-7")
    assert (part.status, part.body) == (206, b"store_id")
    rows = server.get(f"/get_report?report_id={report_id}&format=json").json["rows"]
    assert [row["store_id"] for row in rows] == ["=cmd|x", 'NYC/12, "east"', "silent", "worked"]
    assert server.end() == 0


def test_the_command_line_gives_the_same_bytes_as_http(server: Server) -> None:
    body = json.dumps({"columns": "full", "as_of": "2024-10-14T11:20:00Z", "stores": ["worked", "=cmd|x"]}).encode()
    answer = server.wait_for(server.trigger(body))
    done = subprocess.run(
        [*STOREMON, "report", "--columns", "full", "--as-of", "2024-10-14T11:20:00Z", "--store", "worked"]
        + ["--store", "=cmd|x"],
        env=environment(server.home),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == answer.body
    assert done.stderr == b"as of 2024-10-14T11:20:00.000000Z: 2 stores\n"


def test_bare_curl_is_understood(server: Server) -> None:
    body = b'{"stores": ["silent"]}'
    answer = http(server.url + "/trigger_report", "POST", body, Content_Type="application/x-www-form-urlencoded")
    assert server.wait_for(answer.json["report_id"]).body.splitlines()[1:] == [b"silent" + b",0.00" * 6]
    wrong = http(
        server.url + "/trigger_report", "POST", b'{"store": 1}', Content_Type="application/x-www-form-urlencoded"
    )
    assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
    assert wrong.json["detail"].startswith("store: ")


def test_a_body_in_chunks_without_a_length_is_read(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(
            b"POST /trigger_report HTTP/1.1\r\nHost: "
            b"localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b'8\r\n{"bogus"\r\n4\r\n: 1}\r\n0\r\n\r\n'
        )
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"detail": "bogus: ' in answer


def test_without_polls_the_server_serves_and_says_what_to_run(serve: Serve) -> None:
    server = serve()
    answer = http(server.url + "/trigger_report", "POST", b"")
    assert (answer.status, answer.json["detail"]) == (409, NO_POLLS)


def test_a_terminal_that_is_closed_does_not_end_the_server(server: Server) -> None:
    for _ in range(3):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        assert server.get("/healthz").status == 200
    assert server.process.poll() is None
    assert server.end() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly_and_nothing_is_left_running(
    server: Server, settings: Settings, signum: signal.Signals
) -> None:
    ids = [server.trigger() for _ in range(3)]
    port = int(server.url.rpartition(":")[2])
    started = time.monotonic()
    assert server.end(signum) == 0
    assert time.monotonic() - started < QUICK_S
    assert nothing_runs(server.process.pid)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "stopping: the running report is finished or requeued" in log
    # The lock is free, nothing says "running", and the write-ahead log is folded into the database.
    assert not settings.database.with_name("storemon.db.server-pid").exists()
    states = dict(sql(settings.database, "SELECT id, state FROM report"))
    assert set(states) == set(ids)
    assert set(states.values()) <= {"complete", "pending"}


@pytest.mark.slow
def test_a_signal_at_the_very_first_moment_ends_the_server_cleanly_too(serve: Serve) -> None:
    codes = []
    for _ in range(3):
        codes.append(serve().end(signal.SIGTERM))
    assert codes == [0, 0, 0]


def test_a_connection_left_open_does_not_keep_the_server_from_ending(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port)), timeout=30) as idle,
        socket.create_connection((host, int(port)), timeout=30) as half,
    ):
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        half.sendall(b"POST /trigger_report HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < QUICK_S


def test_a_trigger_that_waits_for_a_load_does_not_keep_the_server_from_ending(
    server: Server, settings: Settings
) -> None:
    with (
        contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as loading,
        ThreadPoolExecutor(1) as pool,
    ):
        loading.execute("BEGIN IMMEDIATE")
        asked = pool.submit(http, server.url + "/trigger_report", "POST", b"")
        time.sleep(0.3)
        started = time.monotonic()
        try:
            assert server.end() == 0
            assert time.monotonic() - started < QUICK_S
        finally:
            loading.rollback()
            # Nothing was promised: the connection is cut, or answered with an error.
            with contextlib.suppress(OSError):
                assert asked.result().status >= 500


def test_what_was_unfinished_is_computed_by_the_next_server(serve: Serve, server: Server, settings: Settings) -> None:
    server.end(signal.SIGKILL)
    waiting, running, dying = "a" * 32, "b" * 32, "c" * 32
    columns = "(id, state, as_of_us, columns, requested_us, attempts, died)"
    for report_id, state, attempts in ((waiting, "pending", 0), (running, "running", 1), (dying, "running", 2)):
        values = (report_id, state, 1_728_907_200_000_000, "classic", 1, attempts, max(0, attempts - 1))
        sql(settings.database, f"INSERT INTO report {columns} VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
    again = serve()
    assert again.wait_for(waiting).body == again.wait_for(running).body == SMALL_CSV.encode()
    failed = again.wait_for(dying)
    assert (failed.status, failed.json["report_id"]) == (409, dying)
    assert failed.json["error"] == ("the server died twice while it computed this report; its log may say why")
    assert "2 unfinished report(s) of the last run are computed now" in again.log.read_text()


def test_what_a_killed_server_had_begun_to_write_is_thrown_away_by_the_next(
    serve: Serve, small_fleet: Path, settings: Settings
) -> None:
    settings.reports_dir.mkdir()
    kept = [settings.reports_dir / name for name in (".gitkeep", "notes.txt", "report_old.csv")]
    begun = settings.reports_dir / f".report_{'0' * 32}.csv.0123abcd.tmp"
    for file in [*kept, begun]:
        file.write_text("x")
    server = serve()
    report_id = server.trigger()
    server.wait_for(report_id)
    # The server answers before its first round of retention has ended.
    wait_until(lambda: not begun.exists(), "what was begun to be removed")
    assert {file.name for file in settings.reports_dir.iterdir()} == {
        f"report_{report_id}.csv",
        *(file.name for file in kept),
    }


def test_a_load_beside_the_server_is_in_the_next_report_and_not_in_the_last(server: Server, tmp_path: Path) -> None:
    before = server.trigger()
    assert server.wait_for(before).body == SMALL_CSV.encode()
    (tmp_path / "more.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:59:00 UTC,active\n")
    done = storemon(server.home, "load-data", str(tmp_path / "more.csv"))
    assert done.returncode == 0, done.stderr
    after = server.wait_for(server.trigger()).body.decode().splitlines()
    # Lines at 10:44:30 and 11:37: up 104.5 + 23 minutes of the day.
    assert after[4] == "worked,23.00,2.13,2.13,37.00,0.88,0.88"
    assert server.wait_for(before).body == SMALL_CSV.encode()


def test_a_trigger_during_a_big_load_waits_and_succeeds(server: Server, settings: Settings) -> None:
    with (
        contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as loading,
        ThreadPoolExecutor(3) as pool,
    ):
        loading.execute("BEGIN IMMEDIATE")
        loading.execute("UPDATE data_version SET version = version + 1")
        started = time.monotonic()
        asked = [pool.submit(server.trigger) for _ in range(3)]
        time.sleep(1.0)
        assert [future.done() for future in asked] == [False] * 3
        # Whoever only reads is not kept waiting.
        assert server.get("/healthz").status == 200
        assert server.get("/get_report?report_id=x").status == 404
        assert time.monotonic() - started < PATIENCE_S
        loading.commit()
        ids = [future.result() for future in asked]
    assert len(set(ids)) == 3
    assert [server.wait_for(report_id).body for report_id in ids] == [SMALL_CSV.encode()] * 3


def test_triggers_during_a_real_load_all_succeed(server: Server, tmp_path: Path) -> None:
    times = [
        f"2024-10-{day:02} {hour:02}:{minute:02}:00 UTC"
        for day in range(1, 13)
        for hour in range(24)
        for minute in (0, 30)
    ]
    with (tmp_path / "big.csv").open("w") as file:
        file.write("store_id,timestamp_utc,status\n")
        for store in range(400):
            file.writelines(f"s{store},{at},active\n" for at in times)
    load = subprocess.Popen(
        [*STOREMON, "load-data", str(tmp_path / "big.csv")], env=environment(server.home), stdout=subprocess.DEVNULL
    )
    ids = []
    while load.poll() is None:
        ids.append(server.trigger())
        time.sleep(0.05)
    assert load.returncode == 0
    ids.append(server.trigger())
    sizes = [server.wait_for(report_id).body.count(b"\n") for report_id in ids]
    # Each saw the fleet before the load or after it, never a part; and once seen it stays.
    assert set(sizes) <= {5, 405}
    assert sizes == sorted(sizes)
    assert sizes[-1] == 405


def test_two_triggers_at_once_get_two_reports_with_the_same_bytes(server: Server) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> str:
        barrier.wait()
        return server.trigger()

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ask, range(8)))
    assert len(set(ids)) == 8
    assert {server.wait_for(report_id).body for report_id in ids} == {SMALL_CSV.encode()}


def test_reports_that_cannot_be_written_fail_and_the_server_goes_on(
    serve: Serve, small_fleet: Path, settings: Settings
) -> None:
    blocked = settings.home / "file"
    blocked.write_text("a regular file, where a folder should be")
    server = serve(STOREMON_REPORTS_DIR=str(blocked / "reports"))
    answer = server.wait_for(server.trigger())
    assert (answer.status, answer.json["error"]) == (
        409,
        f"the reports folder {blocked / 'reports'} cannot be made: Not a directory",
    )
    blocked.unlink()
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()


def test_a_full_disk_fails_the_report_with_a_sentence(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    # A limit on the size of files, in force while the report is written, stands for the disk: write() is refused
    # half-way.
    limited = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "sys.argv = ['storemon', 'serve', '--port', '0'];"
    limited += "import storemon_flask.reports.compute as r, storemon_flask.database.connections;"
    limited += "w = r.write\n"
    limited += "def write(*a):\n resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))\n"
    limited += " try: return w(*a)\n"
    limited += " finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
    limited += "r.write = write\nrunpy.run_module('storemon_flask', run_name='__main__')"
    server = serve([sys.executable, "-c", limited])
    report_id = server.trigger()
    answer = server.wait_for(report_id)
    file = settings.reports_dir / f"report_{report_id}.csv"
    assert (answer.status, answer.json["error"]) == (409, f"{file} cannot be written: File too large")
    assert list(settings.reports_dir.iterdir()) == []


def test_the_demo_runs_to_its_end_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*STOREMON, "demo"],
        # A proxy is for other machines; this one leads nowhere.
        env=environment(tmp_path, STOREMON_PORT="1", http_proxy="http://127.0.0.1:9"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "1. Loading the sample data of " in output
    assert '"status": "Running"}' in output
    assert "The whole report: " in output
    assert "4. What alerts would have sent on its last day:" in output
    assert "a channel for everything: 24 messages" in output
    home = tmp_path / "instance" / "demo"
    (report,) = (home / "reports").iterdir()
    assert f"The whole report: {report}" in output
    command = output.splitlines()[-1].strip()
    assert output.splitlines()[-2] == "To look at its pages:"
    setting, program, *arguments = command.split()
    assert (setting, arguments) == (f"STOREMON_HOME={home}", ["serve", "--open"])
    assert Path.cwd() / program == Path(sys.executable).with_name("storemon")
    assert (
        len(report.read_text().splitlines())
        == sql(home / "instance" / "storemon.db", "SELECT count(*) FROM store_record")[0][0] + 1
    )
    # Its session is empty: the server is gone.
    assert nothing_runs(process.pid)
    # The user's own database was not touched.
    assert [path.name for path in (tmp_path / "instance").iterdir()] == ["demo"]


def test_the_demo_runs_again_over_its_last_home_and_keeps_serving_until_told(tmp_path: Path) -> None:
    (tmp_path / "instance" / "demo").mkdir(parents=True)
    (tmp_path / "instance" / "demo" / "old").touch()
    process = subprocess.Popen(
        [*STOREMON, "demo", "--keep-serving"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # What a shell starts in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("Still serving "))
    url = line.split()[2]
    assert http(url + "/healthz").json == {"status": "ok"}
    assert not (tmp_path / "instance" / "demo" / "old").exists()
    # Ctrl-C in a terminal goes to the demo and to its server.
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=120)[0] == "\n"
    assert process.returncode == 0

    assert wait_until(lambda: nothing_runs(process.pid), "the demo's server to end")


def test_the_database_of_the_settings_is_the_one_served(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    elsewhere = replace(settings, database=settings.home / "else.db").database
    server = serve(STOREMON_DATABASE="else.db")
    assert http(server.url + "/trigger_report", "POST", b"").status == 409
    assert elsewhere.is_file()


def test_a_second_server_on_the_same_database_is_refused_and_names_the_first(server: Server) -> None:
    report_id = server.trigger()
    second = storemon(server.home, "serve", "--port", "0")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"Error: another storemon server (process {server.process.pid}) serves "
        f"{server.home / 'instance' / 'storemon.db'}; stop it first, or set STOREMON_DATABASE\n"
    )
    # It took nothing from the first.
    assert server.wait_for(report_id).body == SMALL_CSV.encode()
    third = storemon(server.home, "serve", "--port", "0")
    assert f"(process {server.process.pid})" in third.stderr


def test_the_lock_is_free_after_the_server_was_killed(server: Server, serve: Serve) -> None:
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert serve().get("/healthz").status == 200


def test_a_port_in_use_is_a_sentence(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = storemon(settings.home, "serve", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port (0 takes a free one) or STOREMON_PORT\n"
    )


def test_a_host_that_does_not_exist_is_a_sentence(settings: Settings) -> None:
    done = storemon(settings.home, "serve", "--port", "0", "--host", "256.1.1.1")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on 256.1.1.1 port 0: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("STOREMON_PORT", "eighty", "a whole number from 0 (any free port) to 65535"),
        ("STOREMON_REPORT_WORKERS", "0", "a whole number from 1 to 64"),
        ("STOREMON_DEFAULT_TIMEZONE", "Mars/Olympus", "the name of an IANA time zone, such as America/Chicago"),
    ],
)
@pytest.mark.parametrize("program", ["storemon", "wsgi.py"])
def test_a_wrong_setting_stops_the_start_with_a_sentence(
    tmp_path: Path, program: str, name: str, value: str, allowed: str
) -> None:
    command = [*STOREMON, "serve"] if program == "storemon" else [sys.executable, str(ROOT / "wsgi.py")]
    done = subprocess.run(
        command, env=environment(tmp_path, **{name: value}), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {name} is {value!r}; it must be {allowed}\n"
    assert list(tmp_path.iterdir()) == []


def test_python_wsgi_py_serves(serve: Serve, small_fleet: Path) -> None:
    server = serve([sys.executable, str(ROOT / "wsgi.py")], STOREMON_PORT="0")
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()
    assert server.end() == 0


def test_flask_run_knows_the_same_commands(settings: Settings, small_fleet: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "storemon_flask", "report"],
        env=environment(settings.home),
        cwd=settings.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SMALL_CSV)


Serve = Callable[..., Server]


def test_a_second_server_that_reaches_the_database_by_a_link_is_refused(server: Server, settings: Settings) -> None:
    link = settings.home / "link.db"
    link.symlink_to(settings.database)
    second = storemon(server.home, "serve", "--port", "0", STOREMON_DATABASE="link.db")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == (
        f"Error: another storemon server (process {server.process.pid}) serves {link}; "
        "stop it first, or set STOREMON_DATABASE\n"
    )


def test_a_killed_servers_lock_does_not_count_and_its_number_is_never_named(
    serve: Serve, server: Server, settings: Settings
) -> None:
    holder = settings.database.with_name("storemon.db.server-pid")
    server.end(signal.SIGKILL)
    # What it left behind.
    assert holder.read_text() == f"{server.process.pid}\n"
    second = serve()
    assert second.get("/healthz").status == 200
    assert holder.read_text() == f"{second.process.pid}\n"
    third = storemon(settings.home, "serve", "--port", "0")
    assert f"(process {second.process.pid})" in third.stderr
    # Whoever starts just now has not said its number yet: better none than that of a dead one.
    holder.write_text(f"{server.process.pid}\n")
    assert storemon(settings.home, "serve", "--port", "0").stderr == (
        f"Error: another storemon server serves {settings.database}; stop it first, or set STOREMON_DATABASE\n"
    )


@pytest.mark.parametrize("text", ["", "rubbish", "0", "-1", "9" * 30])
def test_a_number_that_names_no_process_is_not_named(settings: Settings, text: str) -> None:
    with server_lock(settings.database):
        settings.database.with_name("storemon.db.server-pid").write_text(text)
        with pytest.raises(DatabaseError, match=r"^another storemon server serves "), server_lock(settings.database):
            raise AssertionError("two have the lock")


def test_the_lock_of_a_server_is_free_for_the_next_in_the_same_process(settings: Settings) -> None:
    for _ in range(2):
        with server_lock(settings.database):
            assert settings.database.with_name("storemon.db.server-pid").read_text() == f"{os.getpid()}\n"
        assert not settings.database.with_name("storemon.db.server-pid").exists()


def test_the_lock_tells_how_its_last_holder_ended(serve: Serve, settings: Settings) -> None:
    with server_lock(settings.database) as in_order:
        assert in_order
    serve().end()
    with server_lock(settings.database) as in_order:
        assert in_order
    serve().end(signal.SIGKILL)
    with server_lock(settings.database) as in_order:
        assert not in_order


def test_load_data_and_report_run_beside_a_server(server: Server, tmp_path: Path) -> None:
    done = storemon(server.home, "report")
    assert (done.returncode, done.stdout) == (0, SMALL_CSV)
    (tmp_path / "more.csv").write_text("store_id,timestamp_utc,status\nworked,2024-10-14 11:59:00 UTC,active\n")
    assert storemon(server.home, "load-data", str(tmp_path / "more.csv")).returncode == 0
    after = storemon(server.home, "report")
    assert after.stdout != SMALL_CSV
    assert server.wait_for(server.trigger()).body.decode() == after.stdout


def test_a_server_killed_while_a_report_waits_for_its_next_try_loses_nothing(
    serve: Serve, small_fleet: Path, settings: Settings
) -> None:
    # A disk that is full whenever a report is written; the first try lasts until both have been asked for.
    full = "import errno, os, pathlib, runpy, sys, time; sys.argv = ['storemon', 'serve', '--port', '0']\n"
    full += "def fsync(number):\n"
    full += "    while not pathlib.Path('asked').exists(): time.sleep(0.01)\n"
    full += "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
    full += "os.fsync = fsync\n"
    full += "runpy.run_module('storemon_flask', run_name='__main__')"
    server = serve([sys.executable, "-c", full])
    ids = [server.trigger(), server.trigger()]
    (settings.home / "asked").touch()

    def tried() -> bool:
        # Both wait, and for seconds: none is running when the server is killed. Where this is seen too late, the next
        # wait is four times as long.
        answers = [server.get(f"/get_report?report_id={report_id}").json for report_id in ids]
        return all(
            answer.get("next_try") and answer["attempts"] >= 2 and parse_timestamp(answer["next_try"]) > soon_us()
            for answer in answers
        )

    def soon_us() -> int:
        return time.time_ns() // 1000 + 2_500_000

    wait_until(tried, "the second try of both")
    server.end(signal.SIGKILL)
    assert {row(settings, report_id, "state", "died") for report_id in ids} == {("pending", 0)}
    assert files(settings) == []
    again = serve()
    assert {again.wait_for(report_id).body for report_id in ids} == {SMALL_CSV.encode()}
    assert files(settings) == sorted(f"report_{report_id}.csv" for report_id in ids)


@pytest.mark.slow
def test_a_server_killed_again_and_again_while_reports_are_asked_for_and_deleted_keeps_its_word(
    serve: Serve, small_fleet: Path, settings: Settings
) -> None:
    promised: set[str] = set()
    deleted: set[str] = set()
    for number in range(5):
        server = serve()
        for place in range(12):
            body = f'{{"as_of": "2024-10-14T{(number + place) % 24:02}:00:00Z"}}' if place % 3 else "{}"
            report_id = server.trigger(body.encode())
            promised.add(report_id)
            if place % 4 == 3 and http(f"{server.url}/api/v1/reports/{report_id}", "DELETE").status == 204:
                deleted.add(report_id)
        server.end(signal.SIGKILL)
    last = serve()
    for report_id in promised - deleted:
        assert (
            last.wait_for(report_id).body.startswith(b"store_id,")
            or "died twice" in last.wait_for(report_id).json["error"]
        )
    for report_id in deleted:
        assert last.get(f"/get_report?report_id={report_id}").status == 410
    assert last.end() == 0
    complete = sql(settings.database, "SELECT id FROM report WHERE state = 'complete'")
    assert files(settings) == sorted(f"report_{report_id}.csv" for (report_id,) in complete)
    assert len(sql(settings.database, "SELECT id FROM report")) == len(promised)


@pytest.mark.skipif(sys.platform != "linux", reason="asks another process")
def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(serve: Serve) -> None:
    import resource

    server = serve(["bash", "-c", 'ulimit -S -n 100; exec "$@"', "bash", *STOREMON, "serve", "--port", "0"])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize(
    "more",
    [
        b"\r\n",
        pytest.param(b"GET /hea", marks=pytest.mark.slow),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", marks=pytest.mark.slow),
    ],
)
def test_a_client_whose_next_bytes_are_there_waits_as_long_as_it_takes(
    serve: Any, small_fleet: object, settings: Settings, more: bytes
) -> None:
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="1")
    host, port = server.url.removeprefix("http://").split(":")
    with (
        contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as loading,
        socket.create_connection((host, int(port)), timeout=30) as client,
    ):
        loading.execute("BEGIN IMMEDIATE")
        client.sendall(b"POST /trigger_report HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}" + more)
        # Longer than a client may be silent, and some rounds of looking for those who are.
        time.sleep(4)
        loading.rollback()
        assert client.recv(65_536).startswith(b"HTTP/1.1 202 ")
    assert "too slow" not in server.log.read_text()
    assert len(sql(settings.database, "SELECT id FROM report")) == 1


def test_a_report_is_computed_below_another_server(small_fleet: object, settings: Settings, database: Database) -> None:
    database.close()
    command = [sys.executable, "-m", "waitress", "--call", "--listen=127.0.0.1:0", "storemon_flask:create_app"]
    log = settings.home / "waitress.log"
    with (
        log.open("wb") as written,
        subprocess.Popen(command, env=environment(settings.home), cwd=settings.home, stderr=written) as server,
    ):
        try:
            url = wait_until(lambda: re.search(r"Serving on (http://\S+)\n", log.read_text()), "the server")[1]
            assert http(url + "/healthz").status == 200
            report_id = http(url + "/trigger_report", "POST", b"").json["report_id"]
            address = f"{url}/get_report?report_id={report_id}"
            done = wait_until(lambda: (answer := http(address)).status == 200 and answer, "the report")
            assert done.headers["X-Report-Status"] == "Complete"
            assert done.body.count(b"\n") == 5
        finally:
            server.terminate()


def test_a_request_forges_no_line_in_the_log_of_another_server(settings: Settings) -> None:
    settings.home.mkdir()
    code = """
from storemon_flask import create_app
from storemon_flask.web.contract import ScopedView
app = create_app()
def broken(path):
    raise ValueError(path)
app.add_url_rule("/broken/<path>", "broken", ScopedView(view=broken, scope="read"))
client = app.test_client()
client.get("/broken/x%0AERROR forged%1B%5D0;t%07%E2%80%AE")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(settings.home),
        cwd=settings.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, *others = done.stderr.splitlines()
    assert r"ERROR storemon.web: GET /broken/x\nERROR forged\x1b]0;t\x07\u202e failed" in first
    assert all(line.startswith("    ") for line in others)
    assert others[-1].endswith(r"\x1b]0;t\x07\u202e")


MASTER = "correct-horse:battery"
HEAD = b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def raw(server: Server, *pieces: bytes) -> bytes:
    """What the server says to those bytes until it closes the connection."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
        for piece in pieces:
            peer.sendall(piece)
        return b"".join(iter(lambda: peer.recv(65536), b""))


GARBAGE = {
    "no request line": (b"HELLO\r\n\r\n", 400),
    "no version and more": (b"GET / HTTP/9.x y z\r\n\r\n", 400),
    "small letters": (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no header": (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\r\nHost: local\nhost\r\n\r\n", 400),
    "a length that is none": (b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
    "another coding": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a bad chunk": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20) + b"\r\n\r\n", 400),
    "headers of 300 KB": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431),
    "a path of 300 KB": (b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
}


def test_what_is_no_http_is_refused_and_hurts_nobody(server: Server) -> None:
    for name, (request, status) in GARBAGE.items():
        assert raw(server, request).split(b" ")[1] == str(status).encode(), name
    assert server.get("/healthz").status == 200
    assert "Traceback" not in server.log.read_text()


def test_a_header_of_100_kb_is_a_401_like_any_other(serve: Serve) -> None:
    server = serve(STOREMON_API_KEY=MASTER)
    for header in ("Bearer " + "x" * 100_000, "Basic " + "QUFB" * 25_000):
        answer = server.get("/get_report", Authorization=header)
        assert answer.status == 401
        assert answer.headers.get_all("WWW-Authenticate") == [
            'Bearer realm="storemon"',
            'Basic realm="storemon", charset="UTF-8"',
        ]
    assert MASTER not in server.log.read_text()


def test_host_and_origin_over_http(server: Server) -> None:
    foreign = server.get("/healthz", Host="evil.example")
    assert (foreign.status, foreign.headers["Content-Type"]) == (400, "application/problem+json")
    assert "'evil.example'" in foreign.json["detail"]
    there = server.url.removeprefix("http://")
    trigger = server.url + "/trigger_report"
    assert http(trigger, "POST", b"", Origin="http://evil.example").status == 403
    assert http(trigger, "POST", b"", Sec_Fetch_Site="cross-site").status == 403
    assert http(trigger, "POST", b"", Origin=f"http://{there}", Sec_Fetch_Site="same-origin").status == 202
    bare = raw(server, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert bare.startswith(b"HTTP/1.1 400 ")
    assert b"the request does not say which host it is for" in bare
    twice = raw(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
    assert twice.startswith(b"HTTP/1.1 400 ")


@pytest.fixture
def small(serve: Serve) -> Server:
    """A server that takes bodies of one megabyte."""
    return serve(STOREMON_MAX_BODY_MB="1")


TOO_LARGE = "the body is larger than the 1,000,000 bytes that this call takes; send it in parts"


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not(small: Server) -> None:
    trigger = small.url + "/trigger_report"
    assert http(trigger, "POST", b" " * 1_000_000).status == 409
    over = http(trigger, "POST", b" " * 1_000_001)
    assert (over.status, over.headers["Content-Type"]) == (413, "application/problem+json")
    assert over.json["detail"] == TOO_LARGE


def test_a_client_that_is_still_sending_hears_that_it_is_too_much(small: Server) -> None:
    for _ in range(10):
        answer = http(small.url + "/trigger_report", "POST", b" " * 20_000_000)
        assert (answer.status, answer.json["detail"]) == (413, TOO_LARGE)
    chunk = b"186A0\r\n" + b" " * 100_000 + b"\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert TOO_LARGE.encode() in raw(small, chunked, *[chunk] * 40, b"0\r\n\r\n")


def test_a_client_that_asks_first_is_told_to_send(small: Server) -> None:
    host, port = small.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
        peer.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        told = b""
        while not told.endswith(b"\r\n\r\n"):
            told += peer.recv(65536) or b"closed\r\n\r\n"
        assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(b"{}")
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 409 ")


def test_far_too_much_is_refused_before_it_is_sent(small: Server) -> None:
    assert raw(small, HEAD + b"Content-Length: 5000000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
def test_a_refused_client_that_never_ends_is_cut_off_and_holds_nobody_up(small: Server) -> None:
    host, port = small.url.removeprefix("http://").rsplit(":", 1)
    started = time.monotonic()

    def stubborn() -> float:
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
            peer.sendall(HEAD + b"Content-Length: 5000000000\r\n\r\n")
            try:
                while time.monotonic() - started < 4 * PATIENCE_S:
                    peer.sendall(b" " * 1000)
                    time.sleep(0.05)
            except OSError:
                pass
        return time.monotonic() - started

    with ThreadPoolExecutor(20) as pool:
        ended = [pool.submit(stubborn) for _ in range(20)]
        for _ in range(20):
            asked = time.monotonic()
            assert small.get("/healthz").status == 200
            assert time.monotonic() - asked < PATIENCE_S / 2
        assert max(future.result() for future in ended) < 3 * PATIENCE_S


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])
def test_listening_to_others_without_a_key_stops_the_start(tmp_path: Path, host: str) -> None:
    tmp_path.mkdir(exist_ok=True)
    done = storemon(tmp_path, "serve", "--host", host, "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: on 0.0.0.0 ")
    assert done.stderr.endswith(
        "everybody who can reach this machine could read and change everything; set STOREMON_API_KEY, or "
        "run `storemon keys add --scope admin`, then start again (or start with --insecure, if that is meant)\n"
    )
    assert not (tmp_path / "instance" / "storemon.db").exists()
    by_setting = storemon(tmp_path, "serve", "--port", "0", STOREMON_HOST=host)
    assert (by_setting.returncode, by_setting.stderr) == (1, done.stderr)


def listening(serve: Serve, *arguments: str, **variables: str) -> Server:
    from conftest import STOREMON

    return serve([*STOREMON, "serve", "--port", "0", *arguments], **variables)


def test_with_a_key_it_may_and_answers_to_any_name(serve: Serve, settings: Settings) -> None:
    assert storemon(settings.home, "keys", "add", "--scope", "read").returncode == 0
    server = listening(serve, "--host", "0.0.0.0")
    assert server.get("/healthz", Host="shop.example").status == 200
    assert server.get("/nothing", Host="shop.example").status == 401
    assert "no key" not in server.log.read_text()


def test_with_the_key_of_the_settings_it_may_too(serve: Serve) -> None:
    server = listening(serve, "--host", "0.0.0.0", STOREMON_API_KEY=MASTER)
    assert server.get("/nothing").status == 401
    assert server.get("/nothing", Authorization=f"Bearer {MASTER}").status == 404


def test_insecure_is_said_aloud_and_answers_to_its_own_names_only(serve: Serve) -> None:
    server = listening(serve, "--host", "0.0.0.0", "--insecure")
    assert server.get("/nothing").status == 404
    assert server.get("/healthz", Host="rebound.example").status == 400
    assert server.get("/healthz", Host=socket.gethostname()).status == 200
    assert "warning: no key is set: everybody who can reach 0.0.0.0 can read and change everything" in (
        server.log.read_text()
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost"])
def test_this_machine_alone_needs_no_key(serve: Serve, host: str) -> None:
    server = listening(serve, "--host", host)
    assert server.url.startswith(f"http://{host}:")
    assert server.get("/nothing").status == 404
    assert "warning" not in server.log.read_text()


def test_a_name_is_judged_by_the_addresses_it_stands_for(serve: Serve, settings: Settings) -> None:
    own = socket.gethostname()
    addresses = {info[4][0] for info in socket.getaddrinfo(own, None, type=socket.SOCK_STREAM)}
    if all(str(address).startswith("127.") or address == "::1" for address in addresses):
        assert listening(serve, "--host", own).get("/nothing").status == 404
    else:
        done = storemon(settings.home, "serve", "--host", own, "--port", "0")
        assert done.returncode == 1
        assert "could read and change everything" in done.stderr
