"""The sentence about an as-of that only few stores have come to: when it is said, where, and what it counts."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import sql
from feed_helpers import POLLS, push
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from ingest_helpers import put, us

from storemon_flask.database import newest
from storemon_flask.database import polls as polls_table
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import Silence
from storemon_flask.model import DAY_US, HOUR_US, WEEK_US
from storemon_flask.settings import Settings

OLD = "2024-10-14 12:00:00"
STRAY = "2026-11-20 09:00:00"
TEN = "0 of the 10 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then, and 1 other store has; nothing is known of the others since then"


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
        "the newest poll moved by 766 days, from 2024-10-14 12:00 UTC to 2026-11-20 09:00 UTC, because of 1 row of 1 store (1); "
        "reports and lists without an as-of speak of that instant now. If it is a mistake, DELETE /api/v1/stores/1 removes that "
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
        assert f"<b>Few stores are heard.</b> {TEN}." in stray.get(f"/reports/{report_id}").text


def test_a_report_of_before_the_stray_poll_does_not_say_it(stray: FlaskClient) -> None:
    for as_of in ("2024-10-14T12:00:00Z", "2024-10-15T11:59:59Z", "2024-10-01T00:00:00Z"):
        report_id = stray.post("/trigger_report", json={"as_of": as_of}).json["report_id"]
        assert stray.get(f"/get_report?report_id={report_id}&format=json").json["method"]["note"] is None
        assert "X-Report-Note" not in stray.get(f"/get_report?report_id={report_id}").headers
        assert "Few stores are heard" not in stray.get(f"/reports/{report_id}").text


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
        assert f"<b>Few stores are heard.</b> {TEN}." in stray.get(path).text
    assert stray.delete("/api/v1/stores/1").status_code == 204
    assert stray.get("/api/v1/stores").json["note"] is None
    assert "Few stores are heard" not in stray.get("/").text


def test_commands_say_it_on_standard_error_and_check_says_it_too(run: Run, home: Path) -> None:  # noqa: F811
    run("load-data", put(home / "fleet.csv", polls(*FLEET).encode()))
    run("load-data", put(home / "stray.csv", polls("1", at=STRAY).encode()))
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
            "0 of the 100 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then, and 1 other store has",
        ),
        (4, 0, "4 of the 100 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then"),
        (
            1,
            3,
            "1 of the 100 stores polled in the week up to 2024-10-14 12:00 UTC has a poll since then, and 3 other stores have",
        ),
        (5, 0, None),
        (
            0,
            50,
            "0 of the 100 stores polled in the week up to 2024-10-14 12:00 UTC have a poll since then, and 50 other stores have",
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
        "the newest poll moved by 38 days, from 2024-10-14 12:00 UTC to 2024-11-21 12:00 UTC, because of 42 rows of 2 stores "
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

    from ingest_helpers import load as load_files

    store, days = st.integers(0, 25), st.integers(0, 30)
    rows = data.draw(st.lists(st.tuples(store, days), min_size=1, max_size=80))
    as_of = us("2024-09-01T00:00:00") + data.draw(days) * DAY_US
    with tempfile.TemporaryDirectory() as folder, closing(Database(Path(folder) / "a.db")) as database:
        lines = [
            f"s{one},{np.datetime64(us('2024-09-01T00:00:00') + day * DAY_US, 'us')},active\n" for one, day in rows
        ]
        load_files(database, put(Path(folder) / "polls.csv", (POLLS + "".join(lines)).encode()))
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
