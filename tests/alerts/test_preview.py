"""What rules would have sent in the past, from stored polls: every message, with its time."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Run
from cli_helpers import home as home
from cli_helpers import run as run
from load_helpers import load, put

from storemon_flask import clock
from storemon_flask.alerts import preview
from storemon_flask.alerts.evaluation import AlertRules
from storemon_flask.database import channels
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.database.connections import Database
from storemon_flask.errors import NoPolls, NotFound
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind
from storemon_flask.settings import Secret, Settings

NOW = clock.parse_timestamp("2024-03-05T18:00:00Z")
# They open at 09:00 UTC. Polls of these hours of 2024-03-04 found them down.
CLOSES = {"corner": "17:00", "market": "16:30"}
DOWN = {"corner": (11, 12, 13), "market": (16,)}


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    """Two stores, polled at ten past each hour for six days."""
    hours = [f"{store},{day},09:00:00,{end}:00" for store, end in CLOSES.items() for day in range(7)]
    polls = [
        f"{store},{'inactive' if day == 4 and hour in down else 'active'},2024-03-{day:02d} {hour:02d}:10:00 UTC"
        for store, down in DOWN.items()
        for day in range(1, 6)
        for hour in range(24)
        if day < 5 or hour < 18
    ]
    files = {
        "menu_hours.csv": ["store_id,dayOfWeek,start_time_local,end_time_local", *hours],
        "store_status.csv": ["store_id,status,timestamp_utc", *polls],
        "timezones.csv": ["store_id,timezone_str", *(f"{store},Etc/UTC" for store in DOWN)],
        "stores.csv": ["store_id,name,group", "corner,Corner Shop,North", "market,Market,South"],
    }
    for name, rows in files.items():
        put(tmp_path / "feeds" / name, "\n".join(rows) + "\n")
    load(database, tmp_path / "feeds", now="2024-03-05T18:00:00Z")
    return database


def channel(number: int, name: str, filters: Filters = Filters(), **more: str) -> Channel:  # noqa: B008 - frozen
    return Channel(
        number, name, "folder", Secret("x"), Secret(""), filters, more.get("digest"), more.get("quiet"), created_us=0
    )


def sent(made: preview.Preview) -> Iterator[tuple[str, str, str]]:
    return ((one.channel, clock.minute_text(one.at_us), one.summary) for one in made.messages)


def made_with(fleet: Database, settings: Settings, *some: Channel, days: int = 2, **rules: int) -> preview.Preview:
    return preview.make(fleet, settings, days, NOW, AlertRules(**rules), some)


def test_each_message_is_as_it_would_have_been(fleet: Database, settings: Settings) -> None:
    made = made_with(fleet, settings)
    assert list(sent(made)) == [
        (
            "a channel for everything",
            "2024-03-04 11:16 UTC",
            "Corner Shop (corner): down for 36 min of business time, since 10:40 UTC",
        ),
        (
            "a channel for everything",
            "2024-03-04 14:16 UTC",
            "Corner Shop (corner): up again; was down for 3 h of business time, 10:40 to 13:40 UTC",
        ),
    ]
    first, second = made.messages
    assert (first.began, first.over) == ({IncidentKind.DOWN: 1}, {})
    assert (second.began, second.over) == ({}, {IncidentKind.DOWN: 1})
    assert (made.first_us, made.last_us, made.stores, made.note) == (NOW - 48 * HOUR_US, NOW, 2, None)
    assert made.per_store_month("a channel for everything") == 2 * 30 / (2 * 2)


def test_other_rules_send_other_messages(fleet: Database, settings: Settings) -> None:
    def times(**rules: int) -> list[str]:
        return [at[11:16] for _, at, _ in sent(made_with(fleet, settings, **rules))]

    assert times(min_polls=2) == ["12:16", "14:16"]
    assert times(min_polls=4) == []
    assert times(min_us=100 * MINUTE_US) == ["12:31", "14:16"]
    # Market was found down at 16:10, and closed at 16:30.
    assert times(closing_us=0) == ["11:16", "14:16", "16:16", "16:31"]


def test_each_channel_has_its_filters_and_times(fleet: Database, settings: Settings) -> None:
    made = made_with(
        fleet,
        settings,
        channel(1, "south", Filters(groups=("South",))),
        channel(2, "no polls", Filters(kinds=("stale",))),
        channel(3, "morning", digest="08:00 Etc/UTC"),
        channel(4, "late", quiet="10:00-13:30 Etc/UTC"),
    )
    assert list(sent(made)) == [
        ("late", "2024-03-04 13:30 UTC", "Corner Shop (corner): down for 2 h 50 min of business time, since 10:40 UTC"),
        (
            "late",
            "2024-03-04 14:16 UTC",
            "Corner Shop (corner): up again; was down for 3 h of business time, 10:40 to 13:40 UTC",
        ),
        (
            "morning",
            "2024-03-05 08:00 UTC",
            "Corner Shop (corner): up again; was down for 3 h of business time, Mon 2024-03-04 10:40 to 13:40 UTC",
        ),
    ]
    assert {name: len(made.of_channel(name)) for name in made.channels} == {
        "south": 0,
        "no polls": 0,
        "morning": 1,
        "late": 2,
    }


def test_an_incident_that_began_before_the_span_counts_only_its_end(fleet: Database, settings: Settings) -> None:
    # From 12:00 of the outage on: only its end is told.
    now_us = clock.parse_timestamp("2024-03-05T12:00:00Z")
    made = preview.make(fleet, settings, 1, now_us, AlertRules())
    assert [(at, bool(one.began)) for one, (_, at, _) in zip(made.messages, sent(made), strict=True)] == [
        ("2024-03-04 14:16 UTC", False)
    ]


def test_old_data_are_judged_up_to_their_newest_poll(fleet: Database, settings: Settings) -> None:
    made = preview.make(fleet, settings, 3, NOW + 400 * 24 * HOUR_US, AlertRules())
    assert clock.minute_text(made.last_us) == "2024-03-05 17:10 UTC"
    assert len(made.messages) == 2
    assert made.note is not None
    assert made.note.startswith("the newest poll is 400 days old")


def test_without_polls_there_is_no_preview(database: Database, settings: Settings, tmp_path: Path) -> None:
    load(database, put(tmp_path / "timezones.csv", "store_id,timezone_str\na,Etc/UTC\n"))
    with pytest.raises(NoPolls):
        preview.make(database, settings, 14, NOW, AlertRules())


def test_channels_by_name(fleet: Database) -> None:
    with fleet.write() as connection:
        for one in (channel(0, "ops"), channel(0, "off")):
            number = channels.add(connection, one)
        channels.disable(connection, number, "answered 410", NOW)
    assert [one.name for one in preview.find_channels(fleet, [])] == ["ops"]
    assert [one.name for one in preview.find_channels(fleet, ["off", "off"])] == ["off"]
    with pytest.raises(NotFound, match="'nobody'"):
        preview.find_channels(fleet, ["nobody"])


def test_the_command(run: Run, fleet: Database) -> None:
    done = run("alerts", "preview", "--days", "2", "--closing-minutes", "0")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "2 days up to 2024-03-05 17:10 UTC: 2 stores, looked at every 15 min",
            "Rules: down after 1 poll and 0 min, not in the last 0 min before closing",
            "",
            "a channel for everything: 4 messages, 30.000 for each store and month",
            "day    sent  down  over",
            "03-03     0     0     0",
            "03-04     4     2     2",
            "03-05     0     0     0",
            "all       4     2     2",
            "Largest:",
            "  - 2024-03-04 11:11 UTC: Corner Shop (corner): down for 31 min of business",
            "    time, since 10:40 UTC",
            "  - 2024-03-04 14:11 UTC: Corner Shop (corner): up again; was down for 3 h of",
            "    business time, 10:40 to 13:40 UTC",
            "  - 2024-03-04 16:11 UTC: Market (market): down for 31 min of business time,",
            "    since 15:40 UTC",
        ],
    )
    assert done.err.startswith("Note: the newest poll is")


def test_the_command_for_programs(run: Run, fleet: Database) -> None:
    done = run("alerts", "preview", "--days", "2", "--min-polls", "2", "--every", "60", "--json")
    document = json.loads(done.out)
    assert document["rules"] == {"min_polls": 2, "min_minutes": 0, "closing_minutes": 30}
    assert (document["stores"], document["days"], document["every_minutes"]) == (2, 2, 60)
    assert document["incidents"]["down"] == 1
    assert [(one["at"], one["began"], one["over"]) for one in document["messages"]] == [
        ("2024-03-04T12:11:00.000000Z", {"down": 1}, {}),
        ("2024-03-04T14:11:00.000000Z", {}, {"down": 1}),
    ]
    assert document["channels"][0]["per_day"] == {"2024-03-03": 0, "2024-03-04": 2, "2024-03-05": 0}


def test_the_command_knows_no_such_channel(run: Run, fleet: Database) -> None:
    done = run("alerts", "preview", "--channel", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "'nobody'" in done.err
