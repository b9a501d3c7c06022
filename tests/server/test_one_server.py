"""One server a database, however it is reached and however the last one died; commands run beside it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL_CSV, Server, http, sql, storemon, wait_until
from job_helpers import files, row

from storemon_flask.database.lock import server_lock
from storemon_flask.errors import DatabaseError
from storemon_flask.settings import Settings

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
        found = server.get(f"/get_report?report_id={ids[0]}").json
        return bool(found.get("next_try")) and found["attempts"] >= 2

    wait_until(tried, "the second try")
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
