"""The newest poll that is not in the future: found cheaply, kept until the clock reaches the next, and the default
as-of of everything.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import numpy as np
import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import load_folder, sql
from feed_helpers import POLLS, push
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from load_helpers import put as put_file
from load_helpers import us
from store_helpers import opened, timeline_of

from storemon_flask import clock, create_app
from storemon_flask.clock import timestamp_text
from storemon_flask.database import newest, prune
from storemon_flask.database import polls as polls_storage
from storemon_flask.database import polls as polls_table
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import Silence
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
        "2 stores have polls in the future (b and only), the last of "
        "them of 2024-11-13 12:00 UTC; they count for nothing before "
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
    said = (
        "this store has polls in the future, the last of them of "
        "2024-10-15 12:00 UTC; they count for nothing before their time."
    )
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


OLD = "2024-10-14 12:00:00"
STRAY = "2026-11-20 09:00:00"
TEN = (
    "0 of the 10 stores polled in the week up to 2024-10-14 12:00 UTC have a poll "
    "since then, and 1 other store has; nothing is known of the others since then"
)


def polls(*ids: str, at: str = OLD) -> str:
    return POLLS + "".join(f"{store_id},{at} UTC,active\n" for store_id in ids)


FLEET = tuple(f"s{number}" for number in range(10))


@pytest.fixture
def stray(client: FlaskClient) -> FlaskClient:
    """Ten stores of 2024, and one poll of a store of 2026."""
    assert push(client, "polls", polls(*FLEET)).status_code == 200
    assert push(client, "polls", polls("1", at=STRAY)).status_code == 200
    return client


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def test_the_load_says_by_how_much_the_newest_poll_moved_and_why(stray: FlaskClient) -> None:
    assert stray.get("/api/v1/loads/2").json["notes"] == [
        "the newest poll moved by 766 days, from 2024-10-14 12:00 UTC "
        "to 2026-11-20 09:00 UTC, because of 1 row of 1 store (1); "
        "reports and lists without an as-of speak of that instant "
        "now. If it is a mistake, DELETE /api/v1/stores/1 removes that "
        "store with all its data",
        "1 store is new in this load: 1",
        "11 polled stores have no hours, so they count as open 24x7: 1, s0, s1 and 8 more",
        "11 polled stores have no time zone, so they count in America/Chicago: 1, s0, s1 and 8 more",
    ]
    assert "the newest poll moved by 766 days" in stray.get("/data/loads/2").text


def test_reports_say_it_in_their_method_their_header_and_on_their_page(stray: FlaskClient) -> None:
    for body in (
        {},
        {"columns": "full"},
        {"stores": ["s1"]},
        {"windows": ["last_week"], "by": "day"},
        {"kind": "outages"},
    ):
        report_id = stray.post("/trigger_report", json=body).json["report_id"]
        assert stray.get(f"/get_report?report_id={report_id}&format=json").json["method"]["note"] == TEN
        assert stray.get(f"/get_report?report_id={report_id}").headers["X-Report-Note"] == TEN
        assert f"<b>Most stores are silent.</b> {TEN}." in stray.get(f"/reports/{report_id}").text


def test_a_report_of_before_the_stray_poll_does_not_say_it(stray: FlaskClient) -> None:
    for as_of in ("2024-10-14T12:00:00Z", "2024-10-15T11:59:59Z", "2024-10-01T00:00:00Z"):
        report_id = stray.post("/trigger_report", json={"as_of": as_of}).json["report_id"]
        assert stray.get(f"/get_report?report_id={report_id}&format=json").json["method"]["note"] is None
        assert "X-Report-Note" not in stray.get(f"/get_report?report_id={report_id}").headers
        assert "Most stores are silent" not in stray.get(f"/reports/{report_id}").text


def test_a_report_of_the_time_between_says_that_nobody_is_heard(stray: FlaskClient) -> None:
    report_id = stray.post("/trigger_report", json={"as_of": "2025-06-01T00:00:00Z"}).json["report_id"]
    assert stray.get(f"/get_report?report_id={report_id}&format=json").json["method"]["note"] == (
        "0 of the 10 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then; "
        "nothing is known of the others since then"
    )


def test_lists_and_pages_say_it(stray: FlaskClient) -> None:
    for path in ("/api/v1/stores", "/api/v1/stores/s1", "/api/v1/stores/s1/timeline", "/api/v1/stores/1"):
        assert stray.get(path).json["note"] == TEN
    for path in ("/", "/stores/s1", "/stores/1"):
        assert f"<b>Most stores are silent.</b> {TEN}." in stray.get(path).text
    assert stray.delete("/api/v1/stores/1").status_code == 204
    assert stray.get("/api/v1/stores").json["note"] is None
    assert "Most stores are silent" not in stray.get("/").text


def test_commands_say_it_on_standard_error_and_check_says_it_too(run: Run, home: Path) -> None:  # noqa: F811
    run("load-data", put_file(home / "fleet.csv", polls(*FLEET).encode()))
    run("load-data", put_file(home / "stray.csv", polls("1", at=STRAY).encode()))
    for command in (("report",), ("report", "-o", "out.csv"), ("stores",), ("store", "s1"), ("outages",)):
        done = run(*command)
        assert f"Note: {TEN}" in unwrapped(done.err), command
        assert TEN not in unwrapped(done.out)
    assert f"- {TEN}" in unwrapped(run("check").out)
    assert "have a poll since" not in run("report", "--as-of", "2024-10-14T12:00:00Z").err


@pytest.mark.parametrize(
    ("known", "new", "said"),
    [
        (
            0,
            1,
            "0 of the 100 stores polled in the week up to 2024-10-14 "
            "12:00 UTC have a poll since then, and 1 other store has",
        ),
        (4, 0, "4 of the 100 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then"),
        (
            1,
            3,
            "1 of the 100 stores polled in the week up to 2024-10-14 "
            "12:00 UTC has a poll since then, and 3 other stores have",
        ),
        (5, 0, None),
        (
            0,
            50,
            "0 of the 100 stores polled in the week up to 2024-10-14 "
            "12:00 UTC have a poll since then, and 50 other stores have",
        ),
        (0, 51, None),
    ],
)
def test_it_is_said_below_five_percent_and_while_those_heard_are_few(
    client: FlaskClient, known: int, new: int, said: str | None
) -> None:
    fleet = [f"s{number}" for number in range(100)]
    push(client, "polls", polls(*fleet))
    push(client, "polls", polls(*fleet[:known], *(f"n{number}" for number in range(new)), at="2024-10-16 12:00:01"))
    note = client.get("/api/v1/stores").json["note"]
    assert note == (said and f"{said}; nothing is known of the others since then")


def test_an_only_store_that_fell_silent_is_named_so(client: FlaskClient) -> None:
    push(client, "polls", polls("a"))
    report_id = client.post("/trigger_report", json={"as_of": "2024-11-14T12:00:00Z"}).json["report_id"]
    assert client.get(f"/get_report?report_id={report_id}&format=json").json["method"]["note"] == (
        "the only store polled in the week up to 2024-10-14 12:00 UTC has no poll since then; "
        "nothing is known of it since then"
    )


def test_a_fleet_that_goes_on_a_day_after_it_fell_silent_says_it_until_a_twentieth_is_back(
    app: Flask, client: FlaskClient
) -> None:
    fleet = [f"s{number}" for number in range(40)]
    now = time.time_ns() // 1000

    def at(instant_us: int) -> str:
        return str(np.datetime64(instant_us, "us")).replace("T", " ")

    push(client, "polls", polls(*fleet, at=at(now - 30 * HOUR_US)))
    assert client.get("/api/v1/stores").json["note"] is None
    back = push(client, "polls", polls("s0", at=at(now - HOUR_US))).json
    assert [note.split(", from")[0] for note in back["notes"]] == ["the newest poll moved by 1 day"]
    note = client.get("/api/v1/stores").json["note"]
    assert note.startswith("1 of the 40 stores polled in the week up to")
    # It was said once.
    assert push(client, "polls", polls("s1", at=at(now - HOUR_US))).json["notes"] == []
    assert client.get("/api/v1/stores").json["note"] is None


def test_the_newest_poll_may_move_by_a_day_or_with_many_stores_without_a_word(client: FlaskClient) -> None:
    push(client, "polls", polls(*FLEET))
    assert push(client, "polls", polls("s0", at="2024-10-15 12:00:00")).json["notes"] == []
    assert push(client, "polls", polls(*FLEET[:6], at="2024-10-20 12:00:00")).json["notes"] == []


def test_rows_of_few_stores_are_counted_and_many_stores_are_not_asked_for_theirs(client: FlaskClient) -> None:
    push(client, "polls", polls(*(f"s{number}" for number in range(100))))
    days = "".join(polls("s1", "s2", at=f"2024-11-{day:02d} 12:00:00").removeprefix(POLLS) for day in range(1, 22))
    (note,) = push(client, "polls", POLLS + days + f"s3,{OLD} UTC,inactive\n").json["notes"]
    assert note.startswith(
        "the newest poll moved by 38 days, from 2024-10-14 12:00 "
        "UTC to 2024-11-21 12:00 UTC, because of 42 rows of 2 stores "
        "(s1 and s2); "
    )
    assert note.endswith("DELETE /api/v1/stores/ID removes such a store with all its data")


def test_the_rows_of_many_stores_are_not_counted(client: FlaskClient) -> None:
    push(client, "polls", polls(*(f"s{number}" for number in range(100))))
    (note,) = push(client, "polls", polls(*(f"s{number}" for number in range(30)), at="2025-01-01 12:00:00")).json[
        "notes"
    ]
    assert "because of 30 stores (s0, s1, s2 and 27 more); " in note


def test_several_files_of_a_load_count_as_one(client: FlaskClient) -> None:
    from feed_helpers import upload

    push(client, "polls", polls(*FLEET))
    answer = upload(
        client, ("a.csv", polls("s1", at="2025-01-01 12:00:00")), ("b.csv", polls("s1", at="2025-01-01 13:00:00"))
    )
    (note,) = answer.json["notes"]
    assert "because of 2 rows of 1 store (s1)" in note


# The function itself


def by_hand(spans: list[tuple[int, int]], as_of_us: int) -> Silence | None:
    """The definition, store by store."""
    for since in sorted({last for _, last in spans if last < as_of_us - DAY_US}, reverse=True):
        silent = [last for _, last in spans if since - WEEK_US < last <= since]
        heard = [first for first, last in spans if last > since]
        known = [first for first in heard if first <= since]
        if 20 * len(known) < len(known) + len(silent) and 2 * len(heard) <= len(silent):
            return Silence(since, len(known) + len(silent), len(known), len(heard) - len(known))
    return None


SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda days: (min(days) * DAY_US, max(days) * DAY_US)),
    max_size=60,
)


@given(SPANS)
def test_it_is_what_its_definition_says(spans: list[tuple[int, int]]) -> None:
    first, last = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    assert newest.latest_silence(first, last, 40 * DAY_US) == by_hand(spans, 40 * DAY_US)


@given(st.data())
def test_it_is_a_function_of_the_polls_up_to_the_as_of(data: Any) -> None:
    import tempfile
    from contextlib import closing

    from load_helpers import load as load_files

    store, days = st.integers(0, 25), st.integers(0, 30)
    rows = data.draw(st.lists(st.tuples(store, days), min_size=1, max_size=80))
    as_of = us("2024-09-01T00:00:00") + data.draw(days) * DAY_US
    with tempfile.TemporaryDirectory() as folder, closing(Database(Path(folder) / "a.db")) as database:
        lines = [
            f"s{one},{np.datetime64(us('2024-09-01T00:00:00') + day * DAY_US, 'us')},active\n" for one, day in rows
        ]
        load_files(database, put_file(Path(folder) / "polls.csv", (POLLS + "".join(lines)).encode()))
        with database.read() as connection:
            said = newest.silence_note(connection, as_of)
    spans: dict[int, list[int]] = {}
    for one, day in rows:
        if us("2024-09-01T00:00:00") + day * DAY_US <= as_of:
            spans.setdefault(one, []).append(us("2024-09-01T00:00:00") + day * DAY_US)
    expected = by_hand([(min(found), max(found)) for found in spans.values()], as_of)
    assert (said is None) == (expected is None)
    if said and expected and expected.polled > 1:
        assert said.startswith(f"{expected.known} of the {expected.polled} stores polled in the week up to ")


def test_it_costs_one_count_while_a_third_of_the_stores_is_heard(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(client, "polls", polls(*FLEET) + polls(*FLEET, at="2024-10-12 12:00:00").removeprefix(POLLS))
    read: list[int] = []
    real = polls_table._rows
    monkeypatch.setattr(
        polls_table,
        "_rows",
        lambda connection, week, number: (read.append(len(number)), real(connection, week, number))[1],
    )
    database = Database(settings.database)
    with database.read() as connection:
        assert newest.silence_note(connection, us("2024-10-14T12:00:00")) is None
        assert read == []
        # Of an as-of before their newest polls a third of the stores is looked at, and one more.
        assert newest.silence_note(connection, us("2024-10-12T18:00:00")) is None
        assert read == [4]
    database.close()
    assert sql(settings.database, "SELECT count(*) FROM poll") == [(20,)]
