"""The real server beside loads, other triggers, full disks; the demo."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from conftest import (
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

from storemon_flask.settings import Settings


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
    assert process.communicate(timeout=30)[0] == "\n"
    assert process.returncode == 0

    assert wait_until(lambda: nothing_runs(process.pid), "the demo's server to end")


def test_the_database_of_the_settings_is_the_one_served(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    elsewhere = replace(settings, database=settings.home / "else.db").database
    server = serve(STOREMON_DATABASE="else.db")
    assert http(server.url + "/trigger_report", "POST", b"").status == 409
    assert elsewhere.is_file()
