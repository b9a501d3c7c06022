"""How the overview is kept between requests: new data are in it at once where that is cheap, and soon where it is not."""

from contextlib import nullcontext

import pytest
from conftest import load_folder
from store_helpers import NOW, ZONE

from storemon_flask.errors import Busy
from storemon_flask.stores import overview_cache
from storemon_flask.stores.list_cache import ListCache
from storemon_flask.stores.overview_cache import OverviewCache


@pytest.fixture
def cache(database, settings, small_fleet):
    listed = ListCache(database, settings.rules, ZONE)
    listed._now_us = lambda: NOW
    made = OverviewCache(database, listed, settings.rules, ZONE)
    yield made
    made.stop()
    listed.stop()


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the cache, which stands until it is set."""
    now = [1000.0]
    monkeypatch.setattr(overview_cache.time, "monotonic", lambda: now[0])
    return now


def add_poll(database, folder, minute):
    folder.mkdir(exist_ok=True)
    (folder / "polls.csv").write_text(
        f"store_id,timestamp_utc,status\nworked,2024-10-14 11:{minute:02d}:00 UTC,inactive\n"
    )
    load_folder(database, folder)


def current(cache):
    made = cache.current(30.0, nullcontext)
    assert made is not None
    return made


def test_unchanged_data_are_computed_once(cache):
    first = current(cache)
    second = current(cache)
    assert (second.data_version, second.windows is first.windows) == (first.data_version, True)


def test_a_cheap_overview_has_each_load_at_once(cache, database, tmp_path):
    first = current(cache)
    add_poll(database, tmp_path / "more", 20)
    assert current(cache).data_version > first.data_version


def test_a_costly_one_is_served_while_the_next_is_computed(cache, database, tmp_path, clock, monkeypatch):
    real = overview_cache.compute_overview

    def slow(*arguments):
        made = real(*arguments)
        clock[0] += 2.0
        return made

    monkeypatch.setattr(overview_cache, "compute_overview", slow)
    first = current(cache)
    add_poll(database, tmp_path / "more", 20)
    # Ten times as long as it took: nothing is computed.
    clock[0] += 20.0
    assert current(cache) is first
    assert cache._running.done()
    # Then the next one is, and the last one served meanwhile.
    clock[0] += 1.0
    assert current(cache) is first
    renewed = cache._running.result(30).overview
    assert renewed.data_version > first.data_version
    assert current(cache).windows is renewed.windows
    # Nobody asked for long: what is too old is not served.
    add_poll(database, tmp_path / "more", 21)
    clock[0] += 41.0
    assert current(cache).data_version > renewed.data_version


def test_after_a_stop_nothing_is_computed(cache):
    cache.stop()
    with pytest.raises(Busy):
        cache.current(1.0, nullcontext)


def test_a_fault_is_told_to_who_asks_and_the_next_may_succeed(cache, monkeypatch):
    real = overview_cache.compute_overview

    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(overview_cache, "compute_overview", broken)
    with pytest.raises(ZeroDivisionError):
        current(cache)
    monkeypatch.setattr(overview_cache, "compute_overview", real)
    assert len(current(cache).ids) == 4
