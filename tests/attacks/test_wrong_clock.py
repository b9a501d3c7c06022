"""The machine's clock is ahead, behind, or set under a running server: no poll of tomorrow rules, nothing waits for
ever or is cut off.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, Server, http, sql, storemon, wait_until
from wrong_clocks import DAY_S, WrongClock, needs_faketime

from storemon_flask.settings import Settings

pytestmark = [pytest.mark.slow, needs_faketime]

HEADER = "store_id,timestamp_utc,status\n"
TIMEOUT_S = 2


@pytest.fixture
def clock(tmp_path: Path) -> WrongClock:
    return WrongClock(tmp_path / "clock")


@pytest.fixture
def server(serve: Callable[..., Server], clock: WrongClock) -> Iterator[Server]:
    """A server with that clock, which lets go of connections soon."""
    made = serve(**clock.variables, STOREMON_CONNECTION_TIMEOUT_SECONDS=str(TIMEOUT_S))
    yield made
    assert made.end() == 0
    assert "Traceback" not in made.log.read_text()


def stamp(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(at_s))


def polls(*rows: tuple[str, float]) -> bytes:
    return (HEADER + "".join(f"{store},{stamp(at_s)},active\n" for store, at_s in rows)).encode()


def push(server: Server, *rows: tuple[str, float]) -> Any:
    """What the server answers to those polls."""
    answer = http(f"{server.url}/api/v1/feeds/polls", "POST", polls(*rows))
    assert answer.status == 200, answer.body
    return answer.json


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", server.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def as_ofs(server: Server) -> set[str]:
    """The as-of of everything that is asked for without one."""
    report = server.wait_for(server.trigger()).headers["X-Report-As-Of"]
    latest = server.get("/api/v1/reports/latest.csv").headers["X-Report-As-Of"]
    return {report, latest}


def test_one_poll_from_tomorrow_moves_nothing_and_can_be_taken_out(
    settings: Settings, server: Server, clock: WrongClock
) -> None:
    now = int(time.time())
    feeds = [(f"s{store}", now - 3600 * hour) for store in range(20) for hour in range(1, 24 * 60)]
    push(server, *feeds)
    newest = now - 3600
    assert as_ofs(server) == {stamp(newest)}
    listed = server.get("/api/v1/stores?limit=1000").json
    clock.set(DAY_S)
    assert push(server, ("s3", now + DAY_S - 60))["new"] == 1
    assert stamp(now + DAY_S - 60) in as_ofs(server)
    # The clock is right again.
    clock.set(0)
    assert as_ofs(server) == {stamp(newest)}
    after = server.get("/api/v1/stores?limit=1000").json
    for store, before in zip(after["stores"], listed["stores"], strict=True):
        assert (store["store_id"], store["last_poll"], store["status"]) == (
            before["store_id"], before["last_poll"], before["status"],
        )  # fmt: skip
        assert store["for_seconds"] is None or store["for_seconds"] >= 0
    assert not after["data_are_old"]
    assert abs(metric(server, "storemon_newest_poll_age_seconds") - (time.time() - newest)) < 30
    assert metric(server, "storemon_stores_with_future_polls") == 1
    told = "1 store has polls in the future (s3)"
    assert told in after["note"]
    assert told in push(server, ("s3", now - 30))["notes"][0]
    for path in ("/", "/stores/s3", "/stores/s4", "/data"):
        said = told.replace("1 store has", "This store has").replace(" (s3)", "") if path == "/stores/s3" else told
        assert said in server.get(path, Accept="text/html").body.decode(), path
    for command in ("check", "info"):
        done = storemon(settings.home, command)
        assert (done.returncode, told in " ".join(done.stdout.split())) == (0, True), done.stdout
    dry = storemon(settings.home, "prune", "--future", "--dry-run")
    assert dry.stdout.startswith("would take out 1 poll (0.0 MB) of 1 store later than ")
    assert storemon(settings.home, "prune", "--future", "--yes").returncode == 0
    # At once, in the server beside which it ran.
    assert (server.get("/api/v1/stores").json["note"], metric(server, "storemon_stores_with_future_polls")) == (None, 0)
    assert as_ofs(server) == {stamp(now - 30)}
    assert sql(settings.database, "SELECT count(*) FROM poll") == [(len(feeds) + 1,)]
    assert storemon(settings.home, "check").returncode == 0


def test_the_daily_job_keeps_a_year_of_polls_beside_one_of_next_year(
    settings: Settings, serve: Callable[..., Server], clock: WrongClock
) -> None:
    now = int(time.time())
    clock.set(400 * DAY_S)
    first = serve(**clock.variables)
    # The feed stopped a year ago.
    good = [("s", now - (400 + day) * DAY_S) for day in range(300)]
    push(first, *good, ("s", now + 399 * DAY_S))
    assert first.end() == 0
    # With the machine's own clock.
    second = serve(STOREMON_KEEP_POLLS_DAYS="100")
    wait_until(lambda: b"older than 100 days" in second.log.read_bytes(), "the log to say what was taken out")
    assert second.end() == 0
    kept = sorted(stamp(at_s).replace("T", " ") for _, at_s in good)[-101:]
    found = [at for (at,) in sql(settings.database, "SELECT timestamp_utc FROM poll ORDER BY 1")]
    assert found[:-1] == kept
    assert found[-1] > stamp(now).replace("T", " ")
    assert storemon(settings.home, "check").returncode == 0


def test_a_machine_that_starts_in_1970_says_so_and_loads_the_same_later(
    settings: Settings, server: Server, clock: WrongClock, tmp_path: Path
) -> None:
    now = int(time.time())
    rows = [(f"s{store}", now - 3600 * hour) for store in range(5) for hour in range(10)]
    clock.set(100 - now)
    behind = push(server, *rows)
    assert (behind["new"], behind["rejected"]) == (0, 50)
    assert len(behind["notes"]) == 1
    assert re.fullmatch(
        r"this machine's clock says 1970-01-01 00:0\d UTC; 50 of 50 "
        r"polls are later than that and rejected\. If the clock is "
        r"wrong, set it and load them again",
        behind["notes"][0],
    )
    (tmp_path / "polls.csv").write_bytes(polls(*rows))
    loaded = storemon(settings.home, "load-data", str(tmp_path / "polls.csv"), **clock.variables)
    assert loaded.returncode == 0
    assert " ".join(loaded.stdout.split()).count("this machine's clock says 1970-01-01 00:0") == 1
    clock.set(0)
    right = push(server, *rows)
    assert (right["new"], right["rejected"]) == (50, 0)
    clock.set(100 - now)
    for answer in (http(f"{server.url}/trigger_report", "POST"), server.get("/api/v1/reports/latest.csv")):
        assert answer.status == 409
        assert re.search(r"every poll is later than 1970-01-01 00:0\d UTC", answer.json["detail"])
    for path in ("/", "/data", "/reports", "/api/v1/stores", "/api/v1/stores/s1", "/metrics", "/readyz"):
        assert server.get(path).status == 200, path
    refused = storemon(settings.home, "prune", "--future", "--yes", **clock.variables)
    assert (refused.returncode, "set this machine's clock first" in refused.stderr) == (1, True)
    report = storemon(settings.home, "report", **clock.variables)
    assert (report.returncode, "set the clock, or give an as_of" in report.stderr) == (1, True)
    assert sql(settings.database, "SELECT count(*) FROM poll") == [(50,)]


@pytest.mark.parametrize("step_s", [-DAY_S, DAY_S])
def test_waits_and_the_stop_take_as_long_as_ever(server: Server, clock: WrongClock, step_s: float) -> None:
    push(server, ("s", time.time() - 60))
    clock.set(step_s)
    began = time.monotonic()
    report = server.trigger(b'{"as_of": "2024-10-14T12:00Z"}')
    assert server.get(f"/get_report?report_id={report}&wait=20").status == 200
    assert time.monotonic() - began < 15
    began = time.monotonic()
    assert server.end() == 0
    # Not as long as the clock was moved by.
    assert time.monotonic() - began < PATIENCE_S
