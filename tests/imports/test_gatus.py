"""Gatus: its file by its own schema, and its API as it answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cli_helpers import Run, home, line, run  # noqa: F401

from imports.made_sources import START_US, go_time, kuma_time, make, read
from storemon_flask.errors import DataError
from storemon_flask.imports.gatus import GatusReader

# Healthy from 0:30, unhealthy from 5:50 to 5:55; the results from 7:20 on are left.
EVENTS = [("START", 30), ("HEALTHY", 30), ("UNHEALTHY", 350), ("HEALTHY", 355)]
RESULTS = range(440, 460)
EXPECTED = [
    ("north/oak", f"{word.strip('-')}:00", "inactive" if word.endswith("-") else "active")
    for word in ("00:30", "05:49", "05:50-", "05:54-", "05:55", "07:20", "07:30", "07:39")
]


def test_the_file_gives_results_changes_and_hours_but_not_days(tmp_path: Path) -> None:
    hour = START_US // 1_000_000
    path = tmp_path / "data.db"
    with make(path, "gatus.sql") as gatus:
        gatus.execute("INSERT INTO endpoints VALUES (1, 'north_oak', 'oak', 'north')")
        gatus.executemany(
            "INSERT INTO endpoint_events (endpoint_id, event_type, event_timestamp) VALUES (1, ?, ?)",
            [(kind, go_time(minute)) for kind, minute in EVENTS],
        )
        gatus.executemany(
            "INSERT INTO endpoint_results (endpoint_id, success, errors, connected, status, dns_rcode, "
            "certificate_expiration, domain_expiration, hostname, ip, duration, timestamp) "
            "VALUES (1, 1, '', 1, 200, '', 0, 0, '', '', 5, ?)",
            [(go_time(minute),) for minute in RESULTS],
        )
        # Three days as one row each, as Gatus makes of hours after two days, and the hours of today.
        counts = [(hour - 3 * 86_400, 1440), (hour - 2 * 86_400, 1440), (hour - 86_400, 1440)]
        counts += [(hour + 3600 * index, 30 if index == 0 else 60) for index in range(8)]
        gatus.executemany(
            "INSERT INTO endpoint_uptimes (endpoint_id, hour_unix_timestamp, total_executions, successful_executions, "
            "total_response_time) VALUES (1, ?, ?, ?, 0)",
            [(second, total, total - 5 if second == hour + 5 * 3600 else total) for second, total in counts],
        )
        polls, said = read(GatusReader(str(path)))
    hours = [("north/oak", f"0{index}:30:00", "active") for index in (1, 2, 3, 4, 6)]
    plain = [(store, time[:8], status) for store, time, status in polls]
    assert plain == sorted(EXPECTED + hours, key=lambda poll: poll[1])
    assert said[1].startswith("5 polls are derived from hourly counts")


@contextmanager
def gatus_api() -> Iterator[str]:
    def answer(address: str) -> Any:
        parts = urlsplit(address)
        page = int(parse_qs(parts.query).get("page", ["1"])[0])
        times = [kuma_time(minute).replace(" ", "T") + "Z" for minute in RESULTS]
        one = {"name": "oak", "group": "north", "key": "north_oak"}
        if parts.path == "/api/v1/endpoints/statuses":
            return [{**one, "results": []}]
        if parts.path == "/api/v1/endpoints/north_oak/statuses":
            results = [{"success": True, "timestamp": time} for time in times] if page == 1 else []
            events = [{"type": kind, "timestamp": kuma_time(minute).replace(" ", "T") + "Z"} for kind, minute in EVENTS]
            return {**one, "results": results, "events": events}
        return None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path)
            body = json.dumps(found).encode() if found is not None else b"not found"
            self.send_response(200 if found is not None else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_api_gives_results_and_changes() -> None:
    with gatus_api() as address:
        reader = GatusReader(address)
        polls, _ = read(reader)
        assert [(store, time[:8], status) for store, time, status in polls] == EXPECTED
        assert "secret" not in reader.name
        with pytest.raises(DataError, match=r"answered 404 Not Found: not found$"):
            read(GatusReader(f"{address}/elsewhere"))
    with pytest.raises(DataError, match=r"cannot be asked: .*; is it running, and is that its address\?$"):
        read(GatusReader("http://127.0.0.1:1"))


def test_the_command_shows_no_password(run: Run, home: Path) -> None:  # noqa: F811
    with gatus_api() as address:
        done = run("import", "gatus", address)
        assert done.code == 0, done.err
        assert line(done, address.rpartition("@")[2])[:3] == ["polls", "8", "8"]
        failed = run("import", "gatus", f"{address}/elsewhere")
        assert (failed.code, "answered 404" in failed.err) == (1, True)
        assert "secret" not in done.out + done.err + failed.out + failed.err + run("loads").out
