"""From polls to messages: load polls, evaluate, and read what a folder channel receives."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import load_folder, sql
from flask import Flask

from storemon_flask import create_app
from storemon_flask import settings as settings_
from storemon_flask.clock import utc_datetime
from storemon_flask.database import channels
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.delivery.courier import Couriers
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Secret
from storemon_flask.web.app import Storemon

STORES = {f"{1001 + number}": f"Street {number}" for number in range(12)}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    made = create_app(
        settings_.load(
            {
                "STOREMON_HOME": str(tmp_path / "home"),
                "STOREMON_ALERT_GROUP_SECONDS": "0",
                "STOREMON_ALERT_INTERVAL_SECONDS": "0",
                "STOREMON_PUBLIC_URL": "https://storemon.example.com/",
            }
        ),
        InlineExecutor(),
    )
    yield made
    made.extensions["storemon"].list_cache.stop()
    made.extensions["storemon"].database.close()


@pytest.fixture
def outbox(app: Flask, tmp_path: Path) -> Path:
    """The folder of a channel that receives everything."""
    folder = tmp_path / "outbox"
    folder.mkdir()
    channel = Channel(0, "folder", "folder", Secret(str(folder)), Secret(""), Filters(), None, None, 1)
    storemon: Storemon = app.extensions["storemon"]
    with storemon.database.write() as connection:
        channels.add(connection, channel)
    return folder


def load(app: Flask, folder: Path, polls: list[tuple[str, int, bool]]) -> None:
    """Load polls of (store, minutes ago, active), by the clock of this machine."""
    now = utc_datetime(time.time_ns() // 1000).replace(tzinfo=None)
    folder.mkdir(exist_ok=True)
    rows = [
        f"{store},{(now - timedelta(minutes=minutes)).isoformat()},{'active' if active else 'inactive'}"
        for store, minutes, active in polls
    ]
    (folder / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *rows]) + "\n")
    load_folder(app.extensions["storemon"].database, folder)


def messages(app: Flask, outbox: Path) -> list[str]:
    """Evaluate, deliver what is due, and return what is new in the folder."""
    before = set(outbox.iterdir())
    storemon: Storemon = app.extensions["storemon"]
    storemon.evaluator.evaluate()
    while storemon.couriers.deliver_next():
        pass
    return [path.read_text() for path in outbox.iterdir() if path not in before]


def test_a_store_that_goes_down_and_up_gives_two_messages(app: Flask, outbox: Path, tmp_path: Path) -> None:
    load(app, tmp_path / "first", [(store, 30 * ago + 5, True) for store in STORES for ago in range(1, 20)])
    assert messages(app, outbox) == []

    load(app, tmp_path / "down", [(store, 5, store != "1003") for store in STORES])
    (down,) = messages(app, outbox)
    title, text = down.split("\n", 1)
    assert title.startswith("storemon: 1003: down for ")
    assert " min of business time, since " in title
    assert text.startswith("\nLast seen up ")
    assert "https://storemon.example.com/stores/1003" in text
    # The same evaluation again says nothing again.
    assert messages(app, outbox) == []

    load(app, tmp_path / "up", [("1003", 0, True)])
    (up,) = messages(app, outbox)
    assert up.startswith("storemon: 1003: up again; was down for ")
    assert "corrected" not in up


def test_late_polls_correct_an_earlier_message(app: Flask, outbox: Path, tmp_path: Path) -> None:
    load(app, tmp_path / "first", [(store, 60 * ago + 5, True) for store in STORES for ago in range(1, 20)])
    load(app, tmp_path / "down", [(store, 5, store != "1003") for store in STORES])
    (down,) = messages(app, outbox)
    assert down.startswith("storemon: 1003: down for 35 min of business time, since ")

    # It was still up fifteen minutes ago, and is again.
    load(app, tmp_path / "late", [("1003", 15, True), ("1003", 0, True)])
    (up,) = messages(app, outbox)
    assert up.startswith("storemon: 1003: up again; was down for 7 min of business time, ")
    assert "(corrected: an earlier message said since " in up


def test_an_end_goes_where_the_beginning_went(app: Flask, outbox: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    storemon: Storemon = app.extensions["storemon"]
    of_one_store = Channel(
        0, "other", "folder", Secret(str(other)), Secret(""), Filters(stores=("1004",)), None, None, 1
    )  # fmt: skip
    with storemon.database.write() as connection:
        channels.add(connection, of_one_store)
    load(app, tmp_path / "first", [(store, 30 * ago + 5, True) for store in STORES for ago in range(1, 20)])
    load(app, tmp_path / "down", [("1003", 5, False)])
    assert len(messages(app, outbox)) == 1

    # Now each asks for what the other one asked for.
    sql(storemon.settings.database, """UPDATE channel SET filters = '{"stores": ["1004"]}' WHERE name = 'folder'""")
    sql(storemon.settings.database, "UPDATE channel SET filters = '{}' WHERE name = 'other'")
    load(app, tmp_path / "up", [("1003", 0, True)])
    (up,) = messages(app, outbox)
    assert up.startswith("storemon: 1003: up again")
    assert list(other.iterdir()) == []


def test_what_happens_while_a_receiver_is_away_is_one_message(app: Flask, outbox: Path, tmp_path: Path) -> None:
    storemon: Storemon = app.extensions["storemon"]
    later_s = 0.0
    couriers = Couriers(storemon.database, storemon.settings, lambda: time.time_ns() // 1000 + round(later_s * 1e6))
    load(app, tmp_path / "first", [(store, 30 * ago + 5, True) for store in STORES for ago in range(1, 20)])
    away = outbox.rename(tmp_path / "away")
    load(app, tmp_path / "down", [("1003", 5, False)])
    storemon.evaluator.evaluate()
    assert couriers.deliver_next()
    for number, polls in enumerate(
        ([("1004", 4, False)], [("1003", 3, True)], [("1005", 2, False)], [("1005", 0, True)])
    ):
        load(app, tmp_path / f"then-{number}", polls)
        storemon.evaluator.evaluate()
        later_s += 1801
        assert couriers.deliver_next(), "the first message is tried again, and no other is written"
    away.rename(outbox)
    later_s += 7201
    assert couriers.deliver_next()
    (first,) = outbox.iterdir()
    assert first.read_text().startswith("storemon: 1003: down for ")
    assert couriers.deliver_next()
    (second,) = set(outbox.iterdir()) - {first}
    title, text = second.read_text().split("\n", 1)
    assert title == "storemon: 1004 is down, 1005 was down and is up again, 1003 is up again"
    named = [line.partition(":")[0] for line in text.split("\n") if line.startswith("- ")]
    assert named == ["- 1004", "- 1005", "- 1003"]
    assert not couriers.deliver_next()


def test_many_that_go_down_are_one_message(app: Flask, outbox: Path, tmp_path: Path) -> None:
    load(app, tmp_path / "first", [(store, 30 * ago + 5, True) for store in STORES for ago in range(1, 20)])
    load(app, tmp_path / "down", [(store, 5, store < "1007") for store in STORES])
    (down,) = messages(app, outbox)
    assert down.startswith("storemon: 6 of 12 stores are down, since ")
    assert "https://storemon.example.com/?status=down" in down
