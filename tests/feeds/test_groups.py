"""Small pushes that share a transaction: each is answered as if it had been alone, and the load rows add up."""

import io
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import sql, wait_until
from load_helpers import stored_polls

from storemon_flask.database import loads, polls, stores, undo
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, Stopped
from storemon_flask.feeds import groups
from storemon_flask.feeds.groups import PollGroups
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import Source
from storemon_flask.model import Counts
from storemon_flask.stores import undo as service

HEADER = "store_id,timestamp_utc,status\n"
BEFORE = "2024-10-14 09:00"
OPTIONS = LoadOptions(1_730_000_000_000_000, 300_000_000)


def body(*rows: str) -> Source:
    data = (HEADER + "".join(f"{row}\n" for row in rows)).encode()
    return Source("body", len(data), lambda: io.BytesIO(data), format="", feed="polls")


@pytest.fixture
def polled(database: Database) -> Database:
    """Eight stores, each polled once at nine."""
    load_sources(database, [body(*(f"s{number},{BEFORE},active" for number in range(8)))], OPTIONS)
    return database


@pytest.fixture
def shared(polled: Database, monkeypatch: pytest.MonkeyPatch) -> PollGroups:
    """Groups in which no push is a load of its own because it came in alone, and a load takes more for an hour."""
    monkeypatch.setattr(groups, "_OWN_LOADS", 0)
    monkeypatch.setattr(groups, "_SHARED_LOAD_S", 3_600.0)
    return PollGroups(polled)


def together(groups_: PollGroups, sources: list[Source]) -> list[LoadResult]:
    """What comes of pushes that come in at once, in one group and in this order."""
    database = groups_._database
    with ThreadPoolExecutor(len(sources)) as pool:
        with database.write():
            futures = []
            for number, source in enumerate(sources, 1):
                futures.append(pool.submit(groups_.load, source, OPTIONS))
                wait_until(lambda number=number: len(groups_._waiting) == number, "the push")
        return [future.result(30) for future in futures]


def counts(result: LoadResult) -> tuple[int, ...]:
    one = result.files[0].counts
    return (one.rows, one.new, one.changed, one.unchanged, one.repeated, one.rejected)


def file_rows(database: Database) -> list[tuple[object, ...]]:
    """The files of every load but the first."""
    return sql(
        database.path,
        "SELECT load, file, row_count, new_count, changed_count, unchanged_count, repeated_count, rejected_count "
        "FROM load_file WHERE load > 1 ORDER BY id",
    )


def test_a_group_is_one_load_and_each_push_has_its_own_counts_and_rejects(shared: PollGroups) -> None:
    results = together(
        shared,
        [
            body("s1,2024-10-14 10:00,active"),
            body("s2,2024-10-14 10:00,active", "s2,2024-10-14 10:00,inactive", "s2,yesterday,active"),
            body("s1,2024-10-14 10:00,active", "s3,2024-10-14 10:00,active"),
            body("s1,2024-10-14 10:00,inactive", f"s4,{BEFORE},active", ",2024-10-14 10:00,active"),
        ],
    )
    assert [counts(result) for result in results] == [
        (1, 1, 0, 0, 0, 0),
        (3, 1, 0, 0, 1, 1),
        (2, 1, 0, 1, 0, 0),
        (3, 0, 1, 1, 0, 1),
    ]
    assert [result.load for result in results] == [2, 2, 2, 2]
    assert [[reject.line for reject in result.files[0].rejects] for result in results] == [[], [4], [], [4]]
    assert [result.notes + result.files[0].notes for result in results] == [[], [], [], []]
    assert file_rows(shared._database) == [(2, "pushes", 9, 3, 1, 2, 1, 2)]
    with shared._database.read() as connection:
        load = loads.find(connection, 2)
        assert load is not None
        assert load.counts == Counts(9, 3, 1, 2, 1, 2)
        assert sum(load.files[0].reasons.values()) == 2
        assert [(line, text) for _, _, line, _, text in loads.rejects(connection, 2)] == [
            (4, "s2,yesterday,active"),
            (4, ",2024-10-14 10:00,active"),
        ]
    assert [row for row in stored_polls(shared._database) if row[1] >= "2024-10-14 10"] == [
        ("s1", "2024-10-14 10:00:00.000000Z", "inactive"),
        ("s2", "2024-10-14 10:00:00.000000Z", "inactive"),
        ("s3", "2024-10-14 10:00:00.000000Z", "active"),
    ]


def test_what_brings_news_is_a_load_of_its_own_and_harms_nobody(shared: PollGroups) -> None:
    header = b"store,when,what\n1,2,3\n"
    nothing = Source("body", len(header), lambda: io.BytesIO(header), format="", feed="polls")
    plain = [body(f"s{number},2024-10-14 10:00,active") for number in range(4)]
    fresh, jump = body("brand new,2024-10-14 10:00,active"), body("s5,2024-10-20 10:00,active")
    # What is no feed never waits with the others.
    unreadable = shared.load(nothing, OPTIONS)
    assert unreadable.error is not None
    assert unreadable.error.message.startswith("the header fits no feed") or "header" in unreadable.error.message
    results = together(shared, [plain[0], fresh, plain[1], jump, plain[2], plain[3]])
    assert [counts(result) for result in results] == [(1, 1, 0, 0, 0, 0)] * 6
    numbers = [result.load for result in results]
    assert len({numbers[0], numbers[2], numbers[4], numbers[5]}) == 1
    assert len(set(numbers)) == 3
    assert results[1].notes[0] == '1 store is new in this load: "brand new"'
    assert any("newest poll" in note for note in results[3].notes)
    assert not [result for at, result in enumerate(results) if at not in (1, 3) and result.notes]
    assert [row[1] for row in file_rows(shared._database)] == ["body", "pushes", "body", "body"]


def test_pushes_one_after_the_other_share_a_load_until_another_comes(shared: PollGroups) -> None:
    for minute in range(50):
        result = shared.load(body(f"s1,2024-10-14 10:{minute:02},active", "s2,x,active"), OPTIONS)
        assert (result.load, counts(result)) == (2, (2, 1, 0, 0, 0, 1))
    assert file_rows(shared._database) == [(2, "pushes", 100, 50, 0, 0, 0, 50)]
    with shared._database.read() as connection:
        assert len(loads.rejects(connection, 2)) == 50
    other = load_sources(shared._database, [body("s3,2024-10-14 11:00,active")], OPTIONS)
    assert other.load == 3
    assert shared.load(body("s1,2024-10-14 10:00,inactive"), OPTIONS).load == 4
    shared._shared.until_s = 0.0  # type: ignore[union-attr]
    assert shared.load(body("s1,2024-10-14 10:00,active"), OPTIONS).load == 5
    assert shared.load(body("s1,2024-10-14 10:00,active"), OPTIONS).load == 5
    assert [row[0] for row in file_rows(shared._database)] == [2, 3, 4, 5]


def test_a_shared_load_is_undone_as_a_whole_whatever_its_pushes_did_to_each_other(shared: PollGroups) -> None:
    database = shared._database
    before = stored_polls(database)
    first = [body(f"s1,{BEFORE},inactive", "s2,2024-10-14 10:00,active"), body("s2,2024-10-14 10:00,inactive")]
    assert [result.load for result in together(shared, first)] == [2, 2]
    for rows in ([f"s1,{BEFORE},active", "s3,2024-10-14 10:00,active"], ["s3,2024-10-14 10:00,inactive"]):
        assert shared.load(body(*rows), OPTIONS).load == 2
    assert [status for store, at, status in stored_polls(database) if at >= "2024-10-14 10"] == ["inactive"] * 2
    undone = service.undo(database, 2, OPTIONS)
    assert (undone.load, undone.files[0].counts.rows) == (3, 2)
    assert stored_polls(database) == before
    # The undo came after it, so nothing more is added to it.
    assert shared.load(body("s3,2024-10-14 10:00,active"), OPTIONS).load == 4
    with database.read() as connection:
        found: list[str] = []
        undo.check(connection, found.append)
    assert found == []


def test_the_rejects_of_a_shared_load_are_stored_up_to_the_limit(
    shared: PollGroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storemon_flask.feeds import csv_exact

    monkeypatch.setattr(csv_exact.Room.__init__, "__defaults__", (70,))
    rows = [f"s1,x{number},active" for number in range(30)]
    for _ in range(3):
        result = shared.load(body(f"s1,{BEFORE},active", *rows), OPTIONS)
        assert len(result.files[0].rejects) == 30
    assert file_rows(shared._database) == [(2, "pushes", 93, 0, 0, 3, 0, 90)]
    with shared._database.read() as connection:
        assert len(loads.rejects(connection, 2)) == 70


def test_the_first_pushes_that_come_in_alone_are_loads_of_their_own(
    polled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(groups, "time", SimpleNamespace(monotonic=lambda: now_s))
    alone = PollGroups(polled)
    numbers = [alone.load(body(f"s1,2024-10-14 10:{minute:02},active"), OPTIONS).load for minute in range(50)]
    assert numbers == [*range(2, 32), *[32] * 20]
    now_s += 31
    assert alone.load(body("s1,2024-10-14 10:00,active"), OPTIONS).load == 33


@pytest.mark.parametrize("seed", range(3))
def test_any_group_leaves_what_its_pushes_leave_one_by_one(shared: PollGroups, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def row() -> str:
        status = chance.choice(["active", "inactive", "broken"] + ["active"] * 5)
        return f"s{chance.randrange(8)},2024-10-14 {chance.randrange(9, 12):02}:0{chance.randrange(3)},{status}"

    # What has no good row is always a load of its own.
    sources = [body("s0,2024-10-14 09:00,active", *(row() for _ in range(chance.randrange(1, 6)))) for _ in range(24)]
    with closing(Database(tmp_path / "one by one" / "storemon.db")) as other:
        load_sources(other, [body(*(f"s{number},{BEFORE},active" for number in range(8)))], OPTIONS)
        one_by_one = [load_sources(other, [source], OPTIONS) for source in sources]
        grouped = [*together(shared, sources[:12]), *together(shared, sources[12:])]
        assert [counts(result) for result in grouped] == [counts(result) for result in one_by_one]
        for mine, theirs in zip(grouped, one_by_one, strict=True):
            assert (mine.files[0].rejects, mine.files[0].reasons) == (theirs.files[0].rejects, theirs.files[0].reasons)
            assert mine.notes == theirs.notes == []
        assert stored_polls(shared._database) == stored_polls(other)
        with shared._database.read() as ours, other.read() as theirs_:
            assert stores.poll_spans(ours, 1 << 60)[2].tolist() == stores.poll_spans(theirs_, 1 << 60)[2].tolist()
            sums = [
                connection.execute(
                    "SELECT sum(row_count), sum(new_count), sum(changed_count), sum(unchanged_count), "
                    "sum(repeated_count), sum(rejected_count) FROM load_file"
                ).fetchone()
                for connection in (ours, theirs_)
            ]
        assert sums[0] == sums[1]


def test_a_database_that_fails_fails_each_push_and_the_next_ones_are_stored(
    shared: PollGroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise DatabaseError("the disk is full")

    sources = [body(f"s{number},2024-10-14 10:00,active") for number in range(5)]
    with monkeypatch.context() as broken:
        broken.setattr(polls, "apply", fail)
        with ThreadPoolExecutor(5) as pool:
            futures = [pool.submit(shared.load, source, OPTIONS) for source in sources]
            for future in futures:
                with pytest.raises(DatabaseError, match="the disk is full"):
                    future.result(30)
    assert file_rows(shared._database) == []
    assert [counts(result) for result in together(shared, sources)] == [(1, 1, 0, 0, 0, 0)] * 5
    assert file_rows(shared._database) == [(2, "pushes", 5, 5, 0, 0, 0, 0)]


def test_a_fault_in_a_group_leaves_each_to_a_load_of_its_own(
    shared: PollGroups, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(polls, "statuses_at", fail)
    results = together(shared, [body(f"s{number},2024-10-14 10:00,active") for number in range(3)])
    assert sorted(result.load for result in results) == [2, 3, 4]
    assert "3 pushes could not be stored together; each is stored alone" in caplog.text


def test_nobody_waits_for_others_who_do_not_come(shared: PollGroups, monkeypatch: pytest.MonkeyPatch) -> None:
    waited_s: list[float | None] = []
    monkeypatch.setattr(shared._changed, "wait", waited_s.append)
    for minute in range(20):
        shared.load(body(f"s1,2024-10-14 10:{minute:02},active"), OPTIONS)
    assert waited_s == []


def test_what_waits_behind_a_long_load_is_one_group_and_others_are_told_to_come_again(shared: PollGroups) -> None:
    assert not shared.is_slow
    with ThreadPoolExecutor(10) as pool:
        with shared._database.write():
            futures = [
                pool.submit(shared.load, body(f"s{n % 8},2024-10-14 10:0{n},active"), OPTIONS) for n in range(10)
            ]
            wait_until(lambda: shared.is_slow, "the lock to be waited for")
        assert {future.result(30).load for future in futures} == {2}
    assert not shared.is_slow
    assert file_rows(shared._database) == [(2, "pushes", 10, 10, 0, 0, 0, 0)]


def test_many_threads_for_a_while_lose_nothing(shared: PollGroups) -> None:
    stop = time.monotonic() + 1.5
    said: list[tuple[str, str]] = []

    def push(number: int) -> int:
        done = 0
        while time.monotonic() < stop or not done:
            minute = f"2024-10-14 {10 + done // 3600:02}:{done // 60 % 60:02}:{done % 60:02}"
            result = shared.load(body(f"s{number},{minute},active"), OPTIONS)
            assert counts(result) == (1, 1, 0, 0, 0, 0)
            said.append((f"s{number}", f"{minute}.000000Z"))
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(push, range(8)))
    kept = {(store, when) for store, when, _ in stored_polls(shared._database) if "09:00" not in when}
    assert kept == set(said)
    assert sum(int(str(row[2])) for row in file_rows(shared._database)) == total == len(said)
    assert len(file_rows(shared._database)) == 1


def test_a_push_that_nobody_waits_for_is_not_stored_and_the_others_are(shared: PollGroups) -> None:
    def leave() -> None:
        raise Stopped("the client closed the connection before the answer")

    given_up = LoadOptions(OPTIONS.now_us, OPTIONS.max_skew_us, check=lambda: leave() if waiting else None)
    waiting: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        with shared._database.write():
            stays = pool.submit(shared.load, body("s1,2024-10-14 10:00,active"), OPTIONS)
            wait_until(lambda: len(shared._waiting) == 1, "the first push")
            leaves = pool.submit(shared.load, body("s2,2024-10-14 10:00,active"), given_up)
            wait_until(lambda: len(shared._waiting) == 2, "the second push")
            waiting.append(1)
        assert counts(stays.result(30)) == (1, 1, 0, 0, 0, 0)
        with pytest.raises(Stopped, match="before the answer; nothing of this was stored"):
            leaves.result(30)
    assert [row[0] for row in stored_polls(shared._database) if "10:00" in row[1]] == ["s1"]


def test_a_server_that_stops_tells_all_who_wait(shared: PollGroups) -> None:
    with ThreadPoolExecutor(5) as pool, shared._database.write():
        futures = [pool.submit(shared.load, body(f"s{n},2024-10-14 10:00,active"), OPTIONS) for n in range(5)]
        wait_until(lambda: len(shared._waiting) == 5, "five pushes")
        shared._database.stop_waiting()
        for future in futures:
            with pytest.raises((Stopped, DatabaseError), match="stop"):
                future.result(30)
    assert file_rows(shared._database) == []
