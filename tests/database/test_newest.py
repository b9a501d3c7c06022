"""The newest poll that is not in the future: found cheaply, kept until the clock reaches the next, and the default
as-of of everything.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import load_folder, sql
from flask.testing import FlaskClient
from store_list_helpers import opened, timeline_of

from storemon_flask import clock, create_app
from storemon_flask.clock import timestamp_text
from storemon_flask.database import newest, prune
from storemon_flask.database import polls as polls_storage
from storemon_flask.database.connections import Database
from storemon_flask.errors import NoPolls, OnlyFuturePolls
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings
from storemon_flask.stores import live_list

NOON_US = clock.parse_timestamp("2024-10-14T12:00Z")
ZONE = "UTC"
NEVER_US = 1 << 61


def put_polls(database: Database, folder: Path, rows: list[tuple[str, int]]) -> None:
    """Store polls at those instants, as a server did whose clock was ahead of all of them."""
    folder.mkdir(exist_ok=True)
    lines = "".join(f"{store_id},{timestamp_text(at)},active\n" for store_id, at in rows)
    (folder / "polls.csv").write_text(f"store_id,timestamp_utc,status\n{lines}")
    result = load.load_sources(
        database, sources.find_sources([folder / "polls.csv"]), load.LoadOptions(clock.LATEST_US, 0)
    )
    assert result.rejected == 0


@pytest.fixture
def put(database: Database, tmp_path: Path) -> Callable[[list[tuple[str, int]]], None]:
    return lambda rows: put_polls(database, tmp_path / "polls", rows)


@contextmanager
def statements(connection: Connection) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    yield asked
    connection.set_trace_callback(None)


def test_it_is_the_newest_of_those_that_are_not_later(database: Database, put: Callable[..., None]) -> None:
    chance = random.Random(8)
    rows: list[tuple[str, int]] = []
    for store in range(150):
        # Some have a week now and then, some only polls of long ago, some only of the years to come.
        begin = NOON_US + chance.randrange(-60, 30) * DAY_US
        weeks = chance.sample(range(12), chance.randrange(1, 5))
        rows += [(f"s{store}", begin + week * WEEK_US + chance.randrange(WEEK_US)) for week in weeks for _ in range(3)]
    put(rows)
    instants_us = sorted({at for _, at in rows})
    looked_at = [
        *chance.sample(instants_us, 60),
        instants_us[0],
        instants_us[-1],
        NOON_US,
        instants_us[0] - 1,
        0,
        NEVER_US,
    ]
    with database.read() as connection:
        for latest_us in [shifted for at in looked_at for shifted in (at - 1, at, at + 1)]:
            found = polls_storage.newest(connection, latest_us)
            later = {store_id for store_id, at in rows if at > latest_us}
            past = [at for at in instants_us if at <= latest_us]
            assert (found.poll_us, found.ahead.count) == (past[-1] if past else None, len(later))
            assert found.holds_at(latest_us)
            # It says no more than is so: the next poll is another answer.
            following = [at for at in instants_us if at > latest_us]
            assert not following or found.holds_until_us <= following[0]
            if later:
                assert (found.ahead.last_us, set(found.ahead.ids) <= later) == (instants_us[-1], True)


def test_where_no_poll_is_later_one_look_at_the_stores_tells(database: Database, put: Callable[..., None]) -> None:
    put([(f"s{store}", NOON_US - store * HOUR_US) for store in range(50)])
    with database.read() as connection:
        with statements(connection) as asked:
            assert polls_storage.newest(connection, NOON_US) == polls_storage.Newest(NOON_US)
        assert len(asked) == 1
        assert newest.newest_poll(database, connection, NOON_US).poll_us == NOON_US
        with statements(connection) as asked:
            assert newest.newest_poll(database, connection, NOON_US + DAY_US).poll_us == NOON_US
        assert [statement for statement in asked if "data_version" not in statement] == []


def test_of_one_store_that_is_ahead_its_own_week_is_read_and_no_others(
    database: Database, put: Callable[..., None]
) -> None:
    past = [(f"s{store}", NOON_US - week * WEEK_US) for store in range(300) for week in range(5)]
    put([*past, ("s7", NOON_US + 400 * DAY_US)])
    with database.read() as connection, statements(connection) as asked:
        found = newest.newest_poll(database, connection, NOON_US)
        assert (found.poll_us, found.ahead.count, found.ahead.ids) == (NOON_US, 1, ("s7",))
        assert len([statement for statement in asked if "SELECT store, polls" in statement]) == 1
        del asked[:]
        # As long as the data are the same and the clock has reached none of those polls, nothing is looked up again.
        assert newest.newest_poll(database, connection, NOON_US + HOUR_US) == found
        assert [statement for statement in asked if "data_version" not in statement] == []


def test_what_is_kept_follows_the_clock_and_the_data(database: Database, put: Callable[..., None]) -> None:
    put([("a", NOON_US), ("b", NOON_US + DAY_US), ("b", NOON_US + 2 * DAY_US)])

    def at(latest_us: int) -> int | None:
        with database.read() as connection:
            return newest.newest_poll(database, connection, latest_us).poll_us

    assert at(NOON_US) == at(NOON_US + DAY_US - 1) == NOON_US
    assert at(NOON_US + DAY_US) == at(NOON_US + 2 * DAY_US - 1) == NOON_US + DAY_US
    assert at(NEVER_US) == NOON_US + 2 * DAY_US
    # The clock is set back.
    assert at(NOON_US) == NOON_US
    assert at(NOON_US - 1) is None
    put([("c", NOON_US - HOUR_US)])
    assert at(NOON_US - 1) == NOON_US - HOUR_US
    assert at(NOON_US) == NOON_US


def test_the_default_as_of_of_a_report_is_no_poll_of_the_future(database: Database, put: Callable[..., None]) -> None:
    def as_of(latest_us: int, asked_us: int | None = None) -> int:
        return compute.make_query(database, ReportRequest(asked_us), ZONE, 10**6, latest_us=latest_us).as_of_us

    put([("a", NOON_US), ("b", NOON_US + 365 * DAY_US)])
    assert as_of(NOON_US + DAY_US) == NOON_US
    assert as_of(NOON_US + 365 * DAY_US) == NOON_US + 365 * DAY_US
    # An as-of that is asked for may lie anywhere, and data of long ago are reported at their end.
    assert as_of(NOON_US, NOON_US + 400 * DAY_US) == NOON_US + 400 * DAY_US
    with pytest.raises(OnlyFuturePolls, match="every poll is later than 1970-01-01 00:05 UTC"):
        as_of(5 * MINUTE_US)


def test_without_a_poll_it_is_still_said_that_there_is_none(database: Database, tmp_path: Path) -> None:
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "zones.csv").write_text("store_id,timezone_str\na,UTC\n")
    load_folder(database, tmp_path / "zones")
    with pytest.raises(NoPolls):
        compute.make_query(database, ReportRequest(), ZONE, 10**6, latest_us=NOON_US)


@pytest.mark.parametrize("ahead_us", [6 * MINUTE_US, DAY_US, 365 * DAY_US])
def test_a_poll_of_the_future_changes_no_number_of_a_report_before_it(
    database: Database, put: Callable[..., None], settings: Settings, ahead_us: int
) -> None:
    def text() -> str:
        latest_us = settings.rules.latest_us(NOON_US)
        question = compute.make_query(database, ReportRequest(columns="full"), ZONE, 10**6, latest_us=latest_us)
        return compute.compute(database, question, settings.rules, ZONE).csv

    put([("a", NOON_US - hour * HOUR_US) for hour in range(200)] + [("b", NOON_US - DAY_US)])
    before = text()
    put([("a", NOON_US + ahead_us), ("b", NOON_US + ahead_us + 1)])
    assert text() == before


def test_live_views_are_as_if_there_were_no_polls_in_the_future_and_say_that_there_are(
    database: Database, put: Callable[..., None], settings: Settings
) -> None:
    rules = settings.rules

    def moment(now_us: int) -> live_list.AsOf:
        with database.read() as connection:
            return live_list.find_as_of(database, connection, now_us, rules)

    put([("a", NOON_US - HOUR_US), ("a", NOON_US), ("b", NOON_US - HOUR_US)])
    before = live_list.compute_snapshot(database, rules, ZONE, NOON_US)
    put([("b", NOON_US + 30 * DAY_US), ("only", NOON_US + 3 * DAY_US)])
    after = live_list.compute_snapshot(database, rules, ZONE, NOON_US)
    assert [after.record(place) for place in range(2)] == [before.record(place) for place in range(2)]
    assert (after.record(2)["status"], after.record(2)["last_poll"]) == ("no_data", None)
    said = (
        "2 stores have polls in the future (b and only), the last of them of 2024-11-13 12:00 UTC; they count for nothing before "
        "their time. If this machine's clock is right, `storemon prune --future` takes them out"
    )
    assert (before.as_of.future, after.as_of.future, after.as_of.notes) == (None, said, said)
    # A feed that fell silent is old, though there is a poll of next month.
    old = moment(NOON_US + 2 * DAY_US)
    assert (old.as_of_us, old.data_are_old) == (NOON_US, True)
    # When its time has come, a poll is as any other.
    assert moment(NOON_US + 3 * DAY_US).future.startswith("1 store has polls in the future (b)")  # type: ignore[union-attr]
    assert moment(NOON_US + 30 * DAY_US) == live_list.AsOf(
        NOON_US + 30 * DAY_US, None, note=moment(NOON_US + 30 * DAY_US).note
    )


def test_the_page_of_a_store_counts_polls_up_to_its_as_of(
    database: Database, put: Callable[..., None], settings: Settings
) -> None:
    put([("a", NOON_US), ("a", NOON_US + DAY_US), ("b", NOON_US + DAY_US)])
    with opened(database, "a", NOON_US) as found:
        assert (found.poll_count(), found.first_poll_us) == (1, NOON_US)
        assert found.snapshot().record(0)["last_poll"] == timestamp_text(NOON_US)
    said = "this store has polls in the future, the last of them of 2024-10-15 12:00 UTC; they count for nothing before their time."
    assert str(found.as_of.future).startswith(said)
    with opened(database, "b", NOON_US) as only:
        assert (only.poll_count(), only.first_poll_us) == (0, -1)
        assert only.snapshot().record(0)["for_seconds"] is None
    assert str(only.as_of.future).startswith(said)
    put([("c", NOON_US)])
    with opened(database, "c", NOON_US) as other:
        pass
    assert str(other.as_of.future).startswith("2 stores have polls in the future (a and b)")
    shown = timeline_of(database, "a", now_us=NOON_US)
    assert (shown.to_us, len(shown.polls)) == (NOON_US, 0)


@pytest.mark.parametrize("now_us", [0, 30 * MINUTE_US, NOON_US - 40 * DAY_US])
def test_a_clock_that_is_far_back_fails_nothing(
    database: Database, put: Callable[..., None], settings: Settings, now_us: int
) -> None:
    put([("a", NOON_US), ("b", NOON_US + DAY_US)])
    found = live_list.compute_snapshot(database, settings.rules, ZONE, now_us)
    assert [found.record(place)["status"] for place in range(2)] == ["no_data", "no_data"]
    assert (found.as_of.as_of_us, found.as_of.data_are_old) == (now_us, False)
    assert "2 stores have polls in the future" in str(found.as_of.future)
    keeping = replace(settings, keep_polls_days=1)
    assert prune.apply_retention(database, keeping, now_us).polls == 0


def test_every_way_to_ask_has_the_same_as_of(
    database: Database,
    put: Callable[..., None],
    settings: Settings,
    run: Run,  # noqa: F811
) -> None:
    put([("a", NOON_US), ("b", clock.parse_timestamp("2150-01-01"))])
    database.close()
    app = create_app(settings, InlineExecutor())
    client: FlaskClient = app.test_client()
    noon = timestamp_text(NOON_US)
    for path in ("/api/v1/stores", "/api/v1/stores/a", "/api/v1/stores/b/timeline"):
        answer = client.get(path).json
        assert (answer["as_of"], answer["data_are_old"]) == (noon, True), path
        who = "this store has polls in the future" if "/b/" in path else "1 store has polls in the future (b)"
        assert f"{who}, the last of them of 2150-01-01 00:00 UTC" in answer["note"], path
    triggered = client.post("/trigger_report").json["report_id"]
    assert client.get(f"/get_report?report_id={triggered}", buffered=True).headers["X-Report-As-Of"] == noon
    latest = [client.get("/api/v1/reports/latest.csv", buffered=True) for _ in range(3)]
    assert {answer.headers["X-Report-As-Of"] for answer in latest} == {noon}
    assert sql(settings.database, "SELECT count(*) FROM report") == [(1,)]
    for path in ("/", "/stores/a", "/data"):
        assert "Polls in the future." in client.get(path).text, path
    assert "As of the newest poll" in client.get("/").text
    app.extensions["storemon"].database.close()
    said: Any = run("report")
    assert f"as of {noon}" in said.err
    assert f"as of {noon}" in run("outages").err
    assert "1 store has polls in the future" in " ".join(run("stores").err.split())
    told = " ".join(run("info").out.split())
    assert f"newest poll {noon}" in told
    assert "future polls 1 store has polls in the future" in told
    assert "1 store has polls in the future" in " ".join(run("check").out.split())
    exported = run("export", "feeds").out.splitlines()[-1]
    assert exported.startswith("1 store has polls in the future (b)")
    assert exported.endswith("where these files are loaded before their time, they are rejected")
