"""How the list of stores is kept between requests: whoever asks after a load was committed sees that load."""

import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import PATIENCE_S, STORE_IDS, http, load_folder, storemon, wait_until
from store_helpers import NOW, YEAR_LATER, ZONE

from storemon_flask import clock
from storemon_flask.errors import Busy, DatabaseError
from storemon_flask.model import DAY_US, SECOND_US
from storemon_flask.slots import Slots
from storemon_flask.stores import list_cache, live_list
from storemon_flask.stores.list_cache import ListCache

NOW_NEWEST = clock.parse_timestamp("2024-10-14T12:00Z")


@pytest.fixture
def cache(database, settings):
    made = ListCache(database, settings.rules, ZONE)
    made._now_us = lambda: NOW
    yield made
    made.stop()


def current(cache, now_us=NOW, slot=nullcontext):
    cache._now_us = lambda: now_us
    return cache.current(slot)


def add_poll(database, folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "polls.csv").write_text(f"store_id,timestamp_utc,status\n{text}\n")
    load_folder(database, folder)


@pytest.fixture
def counted(monkeypatch):
    """The snapshots that are begun, and what holds them up until it is set."""
    begun, go_on = [], threading.Event()
    real = live_list.compute_snapshot

    def slow(*arguments):
        begun.append(threading.current_thread())
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(live_list, "compute_snapshot", slow)
    return begun, go_on


def test_the_first_request_computes_and_later_ones_get_the_same(cache, small_fleet):
    first = current(cache)
    assert sorted(first.ids) == sorted(STORE_IDS)
    assert current(cache, NOW + 30 * SECOND_US) is first


def test_when_the_clock_reaches_a_poll_of_the_future_the_list_is_of_it(database, cache, small_fleet, tmp_path):
    # The newest poll of all is of 2024-10-14; the data are two months old when somebody's clock is wrong.
    later = NOW + 60 * DAY_US
    add_poll(database, tmp_path / "more", "worked,2025-01-10 10:00:00 UTC,active")
    first = current(cache, later)
    assert (first.as_of.as_of_us, first.as_of.data_are_old) == (NOW_NEWEST, True)
    assert "1 store has polls in the future (worked)" in first.as_of.future
    again = current(cache, later + DAY_US)
    assert (again.columns, again.as_of.as_of_us, again.as_of.age) == (first.columns, NOW_NEWEST, "61 days")
    come = clock.parse_timestamp("2025-01-10T09:56Z")
    reached = current(cache, come)
    assert (reached.as_of.as_of_us, reached.as_of.data_are_old, reached.as_of.future) == (come, False, None)
    # And back, when the clock is set right again.
    assert current(cache, later).as_of == first.as_of


def test_a_request_after_a_load_gets_the_load(database, cache, small_fleet, tmp_path):
    first = current(cache)
    for number in range(5):
        add_poll(database, tmp_path / "more", f"new {number},2024-10-14 11:59:00 UTC,inactive")
        assert f"new {number}" in current(cache).ids
    assert "new 0" not in first.ids


def test_a_live_list_is_renewed_aside_with_the_clock_until_it_is_a_minute_old(cache, small_fleet):
    first = current(cache)
    later = NOW + 30 * SECOND_US + 1
    assert current(cache, later) is first
    cache.wait()
    assert current(cache, NOW + 31 * SECOND_US).as_of.as_of_us == later
    # Nobody has asked for an hour: what was then is no answer now.
    assert current(cache, NOW + 3600 * SECOND_US).as_of.as_of_us == NOW + 3600 * SECOND_US


def test_a_list_of_old_data_is_not_computed_again_and_says_how_old_they_are(cache, small_fleet, counted):
    begun, go_on = counted
    go_on.set()
    assert current(cache, NOW + DAY_US).as_of.age == "24 h"
    assert current(cache, YEAR_LATER).as_of.age == "365 days"
    assert current(cache, YEAR_LATER).as_of.as_of_us == NOW
    assert len(begun) == 1
    # A clock that is set back makes them young again.
    assert current(cache, NOW + DAY_US - 1).as_of.as_of_us == NOW + DAY_US - 1


def test_requests_that_wait_share_a_computation_and_wait_for_two_at_the_most(
    database, cache, small_fleet, tmp_path, counted
):
    begun, go_on = counted
    joined = []
    join = cache._join_or_start

    def watched(*arguments):
        future = join(*arguments)
        joined.append(future)
        return future

    # What each of them waits for is settled when this returns.
    cache._join_or_start = watched
    with ThreadPoolExecutor(20) as clients:
        first = [clients.submit(current, cache) for _ in range(10)]
        wait_until(lambda: begun and len(joined) == 10, "the computation, and all who ask before the load")
        # Begun before this load, it is no answer to those who ask now; they wait for the next, all for the same.
        add_poll(database, tmp_path / "more", "new one,2024-10-14 11:59:00 UTC,inactive")
        second = [clients.submit(current, cache) for _ in range(10)]
        wait_until(lambda: len(joined) == 20, "those who ask after the load")
        go_on.set()
        assert len({id(one.result()) for one in first}) == 1
        found = [one.result() for one in second]
    assert len({id(one) for one in found}) == 1
    assert "new one" in found[0].ids
    assert len(begun) == 2
    assert len(set(begun)) == 1


def test_waiting_takes_a_slot_and_an_answer_that_is_there_takes_none(cache, small_fleet, counted):
    begun, go_on = counted
    places = Slots(6)
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(current, cache, NOW, places.for_list) for _ in range(2)]
        wait_until(lambda: places._lists._value == 0, "both slots to be taken")
        with pytest.raises(Busy, match="too many requests wait for the list of stores"):
            current(cache, NOW, places.for_list)
        go_on.set()
        assert waiting[0].result() is waiting[1].result()
    with places.for_list(), places.for_list():
        assert sorted(current(cache, NOW, places.for_list).ids) == sorted(STORE_IDS)
    assert len(begun) == 1


def test_when_the_server_stops_what_is_there_is_served_and_nothing_is_begun(
    database, cache, small_fleet, tmp_path, counted
):
    begun, go_on = counted
    go_on.set()
    first = current(cache)
    cache.stop()
    assert not begun[0].is_alive()
    assert current(cache, NOW + 3600 * SECOND_US) is first
    assert cache.latest() is first
    add_poll(database, tmp_path / "more", "new one,2024-10-14 11:59:00 UTC,inactive")
    with pytest.raises(Busy, match="the server is stopping"):
        current(cache)
    assert cache.latest() is first
    assert len(begun) == 1


def test_an_error_is_answered_logged_and_does_not_stick(cache, small_fleet, monkeypatch, caplog):
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "storemon.stores"):
        patch.setattr(live_list, "compute_snapshot", lambda *arguments: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            current(cache)
        assert cache.latest() is None
    assert "ZeroDivisionError" in caplog.text
    assert sorted(current(cache).ids) == sorted(STORE_IDS)


def test_whoever_counts_stores_waits_for_some_seconds_at_the_most(
    database, cache, small_fleet, tmp_path, counted, monkeypatch
):
    begun, go_on = counted
    monkeypatch.setattr(list_cache, "_METRICS_WAIT_S", 0.1)
    assert cache.latest() is None
    go_on.set()
    first = current(cache)
    go_on.clear()
    add_poll(database, tmp_path / "more", "new one,2024-10-14 11:59:00 UTC,inactive")
    assert cache.latest() is first
    go_on.set()
    monkeypatch.setattr(list_cache, "_METRICS_WAIT_S", 30)
    found = cache.latest()
    assert found is not None
    assert "new one" in found.ids
    assert len(begun) == 2


def poll(store_id: str, seconds_ago: float, status: str) -> str:
    return f"{store_id},{datetime.now(UTC) - timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S.%f} UTC,{status}\n"


def load_by_command(home: Path, *rows: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    file = home / "polls.csv"
    file.write_text("store_id,timestamp_utc,status\n" + "".join(rows))
    done = storemon(home, "load-data", str(file))
    assert done.returncode == 0, done.stderr


def test_a_load_by_another_process_is_seen_by_the_next_request(serve, settings):
    server = serve()
    assert b"Nothing loaded yet" in server.get("/").body
    load_by_command(settings.home, poll("A", 180, "active"))
    assert b"Nothing loaded yet" not in server.get("/").body
    for seconds_ago, status in ((60, "inactive"), (50, "active"), (40, "inactive")):
        word = {"active": "up", "inactive": "down"}[status]
        load_by_command(settings.home, poll("A", seconds_ago, status))
        assert server.get("/api/v1/stores").json["stores"][0]["status"] == word
        assert ("1 down –" in server.get("/").body.decode()) is (word == "down")
        assert f'storemon_stores{{status="{word}"}} 1.0' in server.get("/metrics").body.decode()
        assert server.get("/api/v1/stores/A").json["status"] == word


def test_every_list_has_the_pushes_that_were_answered_before(serve, settings):
    load_by_command(settings.home, *(poll(f"s{number}", 300, "active") for number in range(300)))
    server = serve()
    stop, faults = threading.Event(), []
    pushed = itertools.count(1)
    newest = 0

    def push() -> None:
        nonlocal newest
        while not stop.is_set():
            number = next(pushed)
            body = "store_id,timestamp_utc,status\n" + poll(f"new {number}", 0, "inactive")
            answer = http(server.url + "/api/v1/feeds/polls", "POST", body.encode(), Content_Type="text/csv")
            if answer.status != 200:
                faults.append((answer.status, answer.body))
            newest = number
            time.sleep(0.05)

    def look() -> None:
        looks = itertools.count(1)
        # On a busy machine twelve looks can end before the second push.
        while next(looks) <= 12 or (newest < 2 and pushing.is_alive()):
            before = newest
            answer = server.get("/api/v1/stores?status=down&limit=1").json
            if not before <= answer["total"]:
                faults.append((before, answer["total"]))

    pushing = threading.Thread(target=push)
    pushing.start()
    try:
        with ThreadPoolExecutor(6) as clients:
            for looked in [clients.submit(look) for _ in range(6)]:
                looked.result()
    finally:
        stop.set()
        pushing.join(PATIENCE_S)
    assert not pushing.is_alive()
    assert faults == []
    assert newest > 1


def test_a_database_that_cannot_be_used_is_a_line_of_the_log_without_a_traceback(
    cache, small_fleet, monkeypatch, caplog
):
    def refuse(*arguments):
        raise DatabaseError("instance/storemon.db cannot be opened; check its permissions")

    monkeypatch.setattr(live_list, "compute_snapshot", refuse)
    with pytest.raises(DatabaseError):
        current(cache)
    (record,) = [one for one in caplog.records if one.name == "storemon.stores"]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "check its permissions" in record.message
