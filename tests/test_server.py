"""The real server over real HTTP: the whole flow, orderly ends, refusals, other processes beside it."""

import contextlib
import json
import os
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

import pytest
from conftest import (
    NEWEST,
    NO_POLLS,
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

from storemon_flask.server import GRACE_S
from storemon_flask.settings import Settings

Serve = Callable[..., Server]
# "Within seconds": what is running gets its grace, and the rest is quick.
QUICK_S = GRACE_S + 5


def nothing_runs(group: int) -> bool:
    """Whether no process of that group lives: neither its leader nor anything the leader started."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


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
            b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b'8\r\n{"bogus"\r\n4\r\n: 1}\r\n0\r\n\r\n'
        )
        answer = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b'"detail": "bogus: ' in answer


def test_without_polls_the_server_serves_and_says_what_to_run(serve: Serve) -> None:
    server = serve()
    answer = http(server.url + "/trigger_report", "POST", b"")
    assert (answer.status, answer.json["detail"]) == (409, NO_POLLS)


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
    assert "stopping: the running report is finished or put back" in log
    # The lock is free, nothing says "running", and the write-ahead log is folded into the database.
    assert not settings.database.with_name("storemon.db.server-pid").exists()
    states = dict(sql(settings.database, "SELECT id, state FROM report"))
    assert set(states) == set(ids)
    assert set(states.values()) <= {"complete", "pending"}


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
                assert asked.result(30).status >= 500


def test_what_was_unfinished_is_computed_by_the_next_server(serve: Serve, server: Server, settings: Settings) -> None:
    server.end()
    columns = "(id, state, as_of_us, columns, requested_us, attempts, died)"
    for report_id, state, attempts in (("aa", "pending", 0), ("bb", "running", 1), ("cc", "running", 2)):
        values = (report_id, state, 1_728_907_200_000_000, "classic", 1, attempts, max(0, attempts - 1))
        sql(settings.database, f"INSERT INTO report {columns} VALUES (?, ?, ?, ?, ?, ?, ?)", *values)
    again = serve()
    assert again.wait_for("aa").body == again.wait_for("bb").body == SMALL_CSV.encode()
    assert again.wait_for("cc").json == {
        "report_id": "cc",
        "status": "Failed",
        "error": "the server died twice while it computed this report; see its log, then trigger the report again",
    }
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
    assert not begun.exists()
    assert {file.name for file in settings.reports_dir.iterdir()} == {
        f"report_{report_id}.csv",
        *(file.name for file in kept),
    }


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
        assert time.monotonic() - started < 5
        loading.commit()
        ids = [future.result(30) for future in asked]
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
    answer = server.wait_for(server.trigger()).json
    assert (answer["status"], answer["error"]) == (
        "Failed",
        f"the reports folder {blocked / 'reports'} cannot be made: Not a directory",
    )
    blocked.unlink()
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()


def test_a_full_disk_fails_the_report_with_a_sentence(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    # A limit on the size of files, in force while the report is written, stands for the disk: write() is refused half-way.
    limited = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "sys.argv = ['storemon', 'serve', '--port', '0'];"
    limited += "import storemon_flask.services.report as r, storemon_flask.storage.db;"
    limited += "w = r.write\n"
    limited += "def write(*a):\n resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))\n"
    limited += " try: return w(*a)\n"
    limited += " finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
    limited += "r.write = write\nrunpy.run_module('storemon_flask', run_name='__main__')"
    server = serve([sys.executable, "-c", limited])
    report_id = server.trigger()
    answer = server.wait_for(report_id).json
    file = settings.reports_dir / f"report_{report_id}.csv"
    assert (answer["status"], answer["error"]) == ("Failed", f"{file} cannot be written: File too large")
    assert list(settings.reports_dir.iterdir()) == []


def test_the_demo_runs_to_its_end_and_leaves_nothing_running(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*STOREMON, "demo"],
        env=environment(tmp_path, STOREMON_PORT="1"),
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
    home = tmp_path / "instance" / "demo"
    (report,) = (home / "reports").iterdir()
    assert f"The whole report: {report}" in output
    assert (
        len(report.read_text().splitlines())
        == sql(home / "instance" / "storemon.db", "SELECT count(*) FROM store")[0][0] + 1
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
    assert process.communicate(timeout=30)[0] == "\n"
    assert process.returncode == 0

    assert wait_until(lambda: nothing_runs(process.pid), "the demo's server to end")


def test_the_database_of_the_settings_is_the_one_served(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    elsewhere = replace(settings, database=settings.home / "else.db").database
    server = serve(STOREMON_DATABASE="else.db")
    assert http(server.url + "/trigger_report", "POST", b"").status == 409
    assert elsewhere.is_file()
