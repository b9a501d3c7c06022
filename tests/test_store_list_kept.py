"""How the list of stores is kept between requests, and renewed."""

import logging
import threading
import time
from pathlib import Path

from conftest import STORE_IDS, load_folder, wait_until
from store_list_helpers import NOW, YEAR_LATER, ZONE

from storemon_flask.model import DAY_US, SECOND_US
from storemon_flask.services import snapshots, store_list


def current(database, settings, now_us=NOW):
    return snapshots.current(database, settings.rules, ZONE, now_us)


def add_poll(database, folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "polls.csv").write_text(f"store_id,timestamp_utc,status\n{text}\n")
    load_folder(database, folder)


def test_the_first_request_computes_and_later_ones_get_the_same(database, settings, small_fleet):
    first, updating = current(database, settings)
    assert (sorted(first.ids), updating) == (sorted(STORE_IDS), False)
    assert current(database, settings, NOW + 30 * SECOND_US) == (first, False)


def test_after_a_load_the_old_list_is_served_until_the_new_one_exists(database, settings, small_fleet, tmp_path):
    first, _ = current(database, settings)
    add_poll(database, tmp_path / "more", "new one,2024-10-14 11:59:00 UTC,inactive")
    again, updating = current(database, settings)
    assert (again is first, updating) == (True, True)
    snapshots.wait(database)
    new, updating = current(database, settings)
    assert ("new one" in new.ids, "new one" in first.ids, updating) == (True, False, False)


def test_a_live_list_is_renewed_with_the_clock_and_one_of_old_data_is_not(database, settings, small_fleet):
    first, _ = current(database, settings)
    assert current(database, settings, NOW + 30 * SECOND_US + 1) == (first, True)
    snapshots.wait(database)
    second, updating = current(database, settings, NOW + 31 * SECOND_US)
    assert (second.moment.as_of_us, updating) == (NOW + 30 * SECOND_US + 1, False)
    current(database, settings, YEAR_LATER)
    snapshots.wait(database)
    old, _ = current(database, settings, YEAR_LATER)
    assert old.moment.as_of_us == NOW
    assert current(database, settings, YEAR_LATER + DAY_US) == (old, False)


def test_one_thread_renews_however_many_ask_and_it_ends(database, settings, small_fleet, monkeypatch):
    current(database, settings)
    begun, go_on = [], threading.Event()
    real = store_list.snapshot

    def slow(*arguments):
        begun.append(threading.current_thread())
        assert go_on.wait(30)
        return real(*arguments)

    monkeypatch.setattr(store_list, "snapshot", slow)
    later = NOW + 60 * SECOND_US
    assert [current(database, settings, later)[1] for _ in range(20)] == [True] * 20
    wait_until(lambda: begun, "the thread")
    go_on.set()
    snapshots.stop(database)
    assert len(begun) == 1
    assert not begun[0].is_alive()
    assert current(database, settings, later)[1] is False
    # Nothing is begun any more, and what there is is served.
    assert current(database, settings, later + 60 * SECOND_US)[1] is True
    assert len(begun) == 1


def test_an_error_while_renewing_is_logged_and_does_not_stick(database, settings, small_fleet, monkeypatch, caplog):
    first, _ = current(database, settings)
    later = NOW + 60 * SECOND_US
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "storemon.stores"):
        patch.setattr(store_list, "snapshot", lambda *arguments: 1 // 0)
        assert current(database, settings, later) == (first, True)
        snapshots.wait(database)
    assert "ZeroDivisionError" in caplog.text
    assert current(database, settings, later) == (first, True)
    snapshots.wait(database)
    assert current(database, settings, later)[1] is False


def test_the_thread_rests_between_two_snapshots_and_a_stop_does_not_wait_for_that(
    database, settings, small_fleet, monkeypatch
):
    current(database, settings)
    real = store_list.snapshot

    def slow(*arguments):
        time.sleep(0.2)
        return real(*arguments)

    monkeypatch.setattr(store_list, "snapshot", slow)
    current(database, settings, NOW + 60 * SECOND_US)
    snapshots.wait(database)
    begin = time.monotonic()
    current(database, settings, NOW + 120 * SECOND_US)
    snapshots.wait(database)
    assert time.monotonic() - begin > 0.7
    monkeypatch.setattr(store_list, "snapshot", lambda *arguments: time.sleep(60))
    current(database, settings, NOW + 180 * SECOND_US)
    snapshots.stop(database)
    assert time.monotonic() - begin < 30
