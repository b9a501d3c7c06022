"""The machine's clock is set back under a running server: nothing is lost, nothing goes away too early, the order stays
sane.
"""

import time
from collections.abc import Callable

import pytest
from checking import check
from conftest import STOREMON, Server, http, sql, storemon
from serving import serve_at as serve_at
from wrong_clocks import DAY_S, WrongClock, needs_faketime

from storemon_flask.settings import Settings

pytestmark = [pytest.mark.slow, needs_faketime]

HEADER = "store_id,timestamp_utc,status\n"


def push(server: Server, at_s: float) -> int:
    """How many of one poll, made at that instant, were stored."""
    instant = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", f"{HEADER}s,{instant},active\n".encode())
    assert answer.status == 200, answer.body
    assert answer.json["new"] + answer.json["rejected"] == 1, answer.json
    return int(answer.json["new"])


def test_a_clock_that_is_set_back_breaks_nothing(serve_at: Callable[..., Server], settings: Settings) -> None:
    clock = WrongClock(settings.home.parent / "clock")
    server = serve_at(settings.home, [*STOREMON, "serve", "--port", "0"], **clock.variables)
    now = time.time()
    assert push(server, now - 10 * DAY_S) == 1
    assert push(server, now - 60) == 1
    first = server.trigger()
    known = server.wait_for(first)
    assert known.headers["X-Report-Status"] == "Complete"

    clock.set(-5 * DAY_S)
    # What was said stays said, though its as-of is now in the future.
    assert server.get(f"/get_report?report_id={first}").body == known.body
    assert push(server, now - 10) == 0
    before = round(now - 6 * DAY_S)
    assert push(server, before) == 1
    second = server.trigger()
    answer = server.wait_for(second)
    assert answer.headers["X-Report-Status"] == "Complete"
    # A new report is of the newest poll that is not in the future.
    assert answer.headers["X-Report-As-Of"] == time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(before))
    assert server.get("/api/v1/stores").status == 200
    loads = [load["load_id"] for load in server.get("/api/v1/loads").json["loads"]]
    assert loads == sorted(loads, reverse=True)
    assert len(loads) == 4
    listed = {report["report_id"] for report in server.get("/api/v1/reports").json["reports"]}
    assert listed == {first, second}
    assert server.end() == 0

    # A start at the earlier time: the retention that runs then takes away nothing that is not old.
    server = serve_at(settings.home, [*STOREMON, "serve", "--port", "0"], **clock.variables)
    for report_id in (first, second):
        assert server.wait_for(report_id).headers["X-Report-Status"] == "Complete"
    # A clock that is far back and then right again.
    clock.set(-2000 * DAY_S)
    refused = http(f"{server.url}/trigger_report", "POST")
    assert (refused.status, refused.json["title"]) == (409, "Every poll is in the future")
    assert server.get("/api/v1/stores").status == 200
    clock.set(0)
    third = server.trigger()
    assert server.wait_for(third).headers["X-Report-As-Of"] == known.headers["X-Report-As-Of"]
    assert push(server, now - 30) == 1
    assert server.wait_for(server.trigger()).headers["X-Report-Status"] == "Complete"
    assert server.get(f"/get_report?report_id={first}").body == known.body
    assert server.end() == 0
    assert "Traceback" not in server.log.read_text()
    assert sql(settings.database, "SELECT sum(length(polls)) / 8 FROM poll_week") == [(4,)]
    assert storemon(settings.home, "loads").returncode == 0
    check(settings.home)
