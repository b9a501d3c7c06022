"""The machine's clock is set back under a running server: nothing is lost, nothing goes away too early, the order stays sane."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from checking import check
from conftest import STOREMON, Server, http, sql, storemon
from serving import serve_at as serve_at

from storemon_flask.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("faketime"), reason="needs faketime (package faketime)"),
]

DAY_S = 86_400
HEADER = "store_id,timestamp_utc,status\n"


def library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")) + sorted(
        Path("/usr/lib").glob("faketime/libfaketimeMT.so.1")
    )
    if not found:
        pytest.skip("faketime is there and its library libfaketimeMT.so.1 is not")
    return str(found[0])


def set_clock(file: Path, days: int) -> None:
    """Let the clock of whoever reads that file run so many days from the real one."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{days * DAY_S:+d}\n")
    fresh.replace(file)


def push(server: Server, at_s: float) -> int:
    """How many of one poll, made at that instant, were stored."""
    instant = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", f"{HEADER}s,{instant},active\n".encode())
    assert answer.status == 200, answer.body
    assert answer.json["new"] + answer.json["rejected"] == 1, answer.json
    return int(answer.json["new"])


def test_a_clock_that_is_set_back_breaks_nothing(serve_at: Callable[..., Server], settings: Settings) -> None:
    clock = settings.home.parent / "clock"
    set_clock(clock, 0)
    variables = {
        "LD_PRELOAD": library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    server = serve_at(settings.home, [*STOREMON, "serve", "--port", "0"], **variables)
    now = time.time()
    assert push(server, now - 10 * DAY_S) == 1
    assert push(server, now - 60) == 1
    first = server.trigger()
    known = server.wait_for(first)
    assert known.headers["X-Report-Status"] == "Complete"

    set_clock(clock, -5)
    # What was said stays said; its as-of is the newest poll, which is now in the future.
    assert server.get(f"/get_report?report_id={first}").body == known.body
    assert push(server, now - 10) == 0
    assert push(server, now - 6 * DAY_S) == 1
    second = server.trigger()
    answer = server.wait_for(second)
    assert answer.headers["X-Report-Status"] == "Complete"
    assert answer.headers["X-Report-As-Of"] == known.headers["X-Report-As-Of"]
    assert server.get("/api/v1/stores").status == 200
    loads = [load["load_id"] for load in server.get("/api/v1/loads").json["loads"]]
    assert loads == sorted(loads, reverse=True)
    assert len(loads) == 4
    listed = {report["report_id"] for report in server.get("/api/v1/reports").json["reports"]}
    assert listed == {first, second}
    assert server.end() == 0

    # A start at the earlier time: the retention that runs then takes away nothing that is not old.
    server = serve_at(settings.home, [*STOREMON, "serve", "--port", "0"], **variables)
    for report_id in (first, second):
        assert server.wait_for(report_id).headers["X-Report-Status"] == "Complete"
    # A clock that is far back and then right again.
    set_clock(clock, -2000)
    third = server.trigger()
    assert server.wait_for(third).headers["X-Report-Status"] == "Complete"
    set_clock(clock, 0)
    assert push(server, now - 30) == 1
    assert server.wait_for(server.trigger()).headers["X-Report-Status"] == "Complete"
    assert server.get(f"/get_report?report_id={first}").body == known.body
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    assert sql(settings.database, "SELECT sum(length(polls)) / 8 FROM poll_week") == [(4,)]
    assert storemon(settings.home, "loads").returncode == 0
    check(settings.home)
