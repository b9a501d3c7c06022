"""The outbox: what is claimed, what waits, and what a restored backup does with it."""

import time
from pathlib import Path

from conftest import sql
from delivery_helpers import NOW_US, add_channel, add_message, add_news, message
from delivery_helpers import prepared as prepared

from storemon_flask.database import backup, channels, messages
from storemon_flask.database.connections import Database

HOUR = 3_600_000_000


def test_one_of_two_claims_succeeds(prepared: Database) -> None:
    channel = add_channel(prepared, "webhook", "http://127.0.0.1:9/")
    first, second = add_message(prepared, channel), add_message(prepared, channel)
    with prepared.write() as connection:
        assert messages.next_wait_us(connection, NOW_US, []) == 0
        claimed = messages.claim(connection, NOW_US, [])
        assert claimed is not None
        assert (claimed.id, claimed.state, claimed.attempts) == (first, "sending", 1)
        # The second waits for the first, whoever sends that.
        assert messages.claim(connection, NOW_US, []) is None
        assert messages.next_wait_us(connection, NOW_US, []) is None
        messages.retry_later(connection, first, NOW_US + HOUR, "no", 1)
        assert messages.claim(connection, NOW_US, []) is None
        assert messages.next_wait_us(connection, NOW_US, []) == HOUR
        assert messages.next_wait_us(connection, NOW_US, [channel.id]) is None
        # No wait is that long: the clock was set back.
        assert messages.next_wait_us(connection, NOW_US - 100 * HOUR, []) == 0
        again = messages.claim(connection, NOW_US + HOUR, [])
        assert again is not None
        assert again.attempts == 2
        messages.finish(connection, first, None, NOW_US)
        other = messages.claim(connection, NOW_US, [])
        assert other is not None
        assert other.id == second


def test_what_a_killed_server_was_sending_is_no_try(prepared: Database) -> None:
    one = add_message(prepared, add_channel(prepared, "webhook", "http://127.0.0.1:9/"))
    for _ in range(20):
        with prepared.write() as connection:
            assert messages.claim(connection, NOW_US, []) is not None
            assert messages.requeue_sending(connection) == 1
    assert (message(prepared, one).state, message(prepared, one).attempts) == ("pending", 0)


def test_what_waits_in_a_backup_is_not_sent_after_it_is_restored(prepared: Database, tmp_path: Path) -> None:
    channel = add_channel(prepared, "webhook", "http://127.0.0.1:9/")
    one = add_message(prepared, channel)
    add_news(prepared, 2, [channel])
    backup.backup(prepared.path, tmp_path / "b.db")
    prepared.close()
    backup.restore(prepared.path, tmp_path / "b.db", time.time_ns() // 1000)
    assert (message(prepared, one).state, message(prepared, one).error) == (
        "failed",
        "it waited in a backup that was restored",
    )
    assert sql(prepared.path, "SELECT count(*) FROM notice") == [(0,)]
    assert sql(prepared.path, "SELECT count(*) FROM incident") == [(2,)]
    with prepared.read() as connection:
        assert [found.id for found in channels.live(connection)] == [channel.id]
        assert messages.next_wait_us(connection, NOW_US, []) is None
