"""Undoing loads: what they added goes, what they replaced returns, and nothing else changes."""

import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from storemon_flask.database import prune, tokens, undo
from storemon_flask.database.connections import Database
from storemon_flask.database.undo import UndoLimits
from storemon_flask.errors import Conflict, NotFound
from storemon_flask.feeds.load import LoadOptions, LoadResult, load_sources
from storemon_flask.feeds.sources import Source, find_sources
from storemon_flask.model import Rules
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.stores import edit
from storemon_flask.stores import undo as service

HEADERS: Final = {
    "polls": "store_id,timestamp_utc,status",
    "hours": "store_id,day,start_time_local,end_time_local,valid_from",
    "special_hours": "store_id,date,start_time_local,end_time_local",
    "timezones": "store_id,timezone_str,valid_from",
    "stores": "store_id,name,group,region,tag:city",
}
_VIEWS: Final = (
    "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2",
    "SELECT * FROM store ORDER BY store_id",
    "SELECT * FROM opening_hours ORDER BY 1, 5, 2, 3, 4",
    "SELECT * FROM special_opening_hours ORDER BY 1, 2, 3",
    "SELECT * FROM store_zone ORDER BY 1, 3",
)


def options(limits: UndoLimits = undo.DEFAULT_LIMITS, now_us: int | None = None) -> LoadOptions:
    return LoadOptions(time.time_ns() // 1000 if now_us is None else now_us, 0, undo=limits)


def load(database: Database, feed: str, *rows: str, limits: UndoLimits = undo.DEFAULT_LIMITS) -> LoadResult:
    file = database.path.parent / "rows.csv"
    file.write_text("\n".join([HEADERS[feed], *rows, ""]))
    items: list[Any] = find_sources([file], 1 << 30)
    assert all(isinstance(item, Source) for item in items)
    return load_sources(database, items, options(limits))


def stored(database: Database) -> list[list[tuple[Any, ...]]]:
    """Everything that reports are made of, by store."""
    with database.read() as connection:
        return [connection.execute(view).fetchall() for view in _VIEWS]


def problems(database: Database) -> list[str]:
    found: list[str] = []
    with database.read() as connection:
        undo.check(connection, found.append)
    return found


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with closing(Database(tmp_path / "some.db")) as made:
        yield made


def test_what_a_load_added_goes_and_what_it_replaced_returns(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active", "b,2024-01-01 10:00:00,active")
    before = stored(database)
    wrong = load(
        database,
        "polls",
        "a,2024-01-01 10:00:00,inactive",
        "a,2024-02-01 10:00:00,active",
        "c,2024-01-01 11:00:00,active",
    )
    after = stored(database)

    assert service.plan(database, wrong.load) == [
        "taken out: 2 polls",
        "1 poll with the earlier status again",
        "1 store gone: c",
    ]
    assert stored(database) == after
    undone = service.undo(database, wrong.load, options())

    assert stored(database) == before
    assert (undone.files[0].file, undone.files[0].feed, undone.files[0].counts.rows) == ("load 2", "undo", 3)
    service.undo(database, undone.load, options())
    assert stored(database) == after
    assert problems(database) == []


def test_a_later_load_of_the_same_rows_is_in_the_way_also_when_it_changes_nothing(database: Database) -> None:
    first = load(database, "polls", "a,2024-01-01 10:00:00,active", "a,2024-01-01 11:00:00,active")
    again = load(database, "polls", "a,2024-01-01 10:00:00,active")
    other = load(database, "polls", "a,2024-01-01 10:30:00,active")
    before = stored(database)

    with pytest.raises(Conflict, match=r"\(load 2: 1 poll\); undo that one first") as raised:
        service.undo(database, first.load, options())

    assert raised.value.members["conflicts"] == [{"load_id": again.load, "by_feed": {"polls": 1}}]
    assert stored(database) == before
    service.undo(database, again.load, options())
    service.undo(database, first.load, options())
    assert stored(database)[0] == [("a", "2024-01-01 10:30:00.000000Z", "active")]
    with pytest.raises(Conflict, match="load 1 was undone by load 5"):
        service.undo(database, first.load, options())
    service.undo(database, other.load, options())
    assert stored(database) == [[], [], [], [], []]


def test_what_is_in_the_way_is_counted_in_polls_and_in_stores(database: Database) -> None:
    load(database, "hours", *(f"{store},{day},08:00,17:00," for store in "ab" for day in range(7)))
    load(database, "hours", *(f"{store},{day},09:00,17:00," for store in "abc" for day in range(5)))

    with pytest.raises(Conflict, match=r"\(load 2: hours of 2 stores\)") as raised:
        service.undo(database, 1, options())

    assert raised.value.members["conflicts"] == [{"load_id": 2, "by_feed": {"hours": 2}}]


def test_a_removed_store_comes_back_with_all_it_had(database: Database) -> None:
    load(
        database,
        "polls",
        "a,2024-01-01 10:00:00,active",
        "a,2024-03-01 10:00:00,inactive",
        "b,2024-01-01 10:00:00,active",
    )
    load(database, "hours", "a,0,08:00,17:00,")
    load(database, "timezones", "a,America/New_York,")
    load(database, "stores", "a,Corner,North")
    before = stored(database)

    removed = edit.remove(database, "a", options())

    assert [row[0] for row in stored(database)[1]] == ["b"]
    # Meanwhile the id is given to a store again.
    load(database, "polls", "c,2024-01-01 10:00:00,active")
    service.undo(database, removed.load, options())
    assert [row for row in stored(database)[1] if row[0] != "c"] == before[1]
    assert stored(database)[2:] == before[2:]
    assert problems(database) == []


def test_who_removes_a_store_hears_of_push_addresses_that_would_make_it_again(database: Database) -> None:
    load(database, "polls", "a,2024-10-14 10:00,active", "b,2024-10-14 10:00,active", "c,2024-10-14 10:00,active")
    for store_id in ("a", "b", "b", "b"):
        token = tokens.add(database, store_id, "", 1)
    tokens.revoke(database, token, 2)
    notes = [edit.remove(database, store_id, options()).files[0].notes[-1] for store_id in "abc"]
    assert notes == [
        "1 push address still works: the next push makes the store again; `storemon tokens revoke` ends it",
        "2 push addresses still work: the next push makes the store again; `storemon tokens revoke` ends them",
        "1 store gone: c",
    ]


def test_what_is_too_old_or_takes_too_much_room_cannot_be_undone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active")
    load(database, "polls", "a,2024-01-01 10:00:00,inactive", limits=UndoLimits(days=0))
    with pytest.raises(Conflict, match=r"load 1 cannot be undone any more: .* STOREMON_UNDO_DAYS"):
        service.undo(database, 1, options())

    monkeypatch.setattr(undo, "ALWAYS_BYTES", 100)
    rows = [f"s{at},2024-01-01 10:00:00,active" for at in range(5)]
    load(database, "polls", *rows, limits=UndoLimits(percent=0))
    with pytest.raises(Conflict, match="STOREMON_UNDO_PERCENT"):
        service.undo(database, 3, options())
    assert problems(database) == []
    with pytest.raises(NotFound, match="there is no load 9"):
        service.undo(database, 9, options())


def test_polls_that_were_pruned_stay_out(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active", "a,2024-06-01 10:00:00,active")
    load(database, "polls", "a,2024-01-01 10:00:00,inactive", "a,2024-06-01 10:00:00,inactive")
    prune.delete_before(database, 1_709_251_200_000_000, time.time_ns() // 1000)

    service.undo(database, 2, options())

    assert stored(database)[0] == [("a", "2024-06-01 10:00:00.000000Z", "active")]


def test_a_store_is_there_while_a_load_names_it_after_its_last_removal(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active")
    removed = edit.remove(database, "a", options())
    again = load(database, "hours", "a,0,08:00,17:00,2024-01-01")
    service.undo(database, again.load, options())
    assert stored(database) == [[], [], [], [], []]

    back = service.undo(database, removed.load, options())
    assert back.files[0].notes == ["returned: 1 poll", "1 store back: a"]
    assert service.plan(database, back.load) == ["taken out: 1 poll", "1 store gone: a"]
    service.undo(database, back.load, options())
    assert stored(database) == [[], [], [], [], []]
    with pytest.raises(Conflict, match=r"\(load 2: 1 poll, the removal of 1 store\)"):
        service.undo(database, 1, options())
    assert problems(database) == []


def test_a_store_with_nothing_that_came_back_is_removed_and_comes_back(database: Database) -> None:
    load(database, "stores", "a,,")
    before = stored(database)
    removed = edit.remove(database, "a", options())
    load(database, "stores", "a,Corner,")
    service.undo(database, 3, options())
    assert stored(database)[1] == []
    back = service.undo(database, removed.load, options())
    assert stored(database) == before
    service.undo(database, back.load, options())
    assert stored(database)[1] == []


def test_polls_of_loads_that_were_pruned_keep_a_store_that_was_removed_and_came_back(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active")
    before = stored(database)
    removed = edit.remove(database, "a", options())
    load(database, "polls", "a,2024-01-02 10:00:00,active")
    service.undo(database, removed.load, options())
    with database.write() as connection:
        undo.drop_pruned(connection, 1, 5)

    service.undo(database, 3, options())

    assert stored(database) == before
    assert problems(database) == []


def test_a_load_does_not_come_back_without_what_it_brought_unchanged(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active")
    load(database, "polls", "a,2024-01-01 10:00:00,active", "a,2024-02-01 10:00:00,active")
    load(database, "timezones", "b,Europe/Paris,")
    load(database, "timezones", "b,Europe/Paris,", "c,Europe/Paris,")
    for number in (2, 1, 4, 3):
        service.undo(database, number, options())
    assert stored(database) == [[], [], [], [], []]

    # With the loads before them undone, they would bring what they did not when they were loaded.
    with pytest.raises(Conflict, match=r"load 5 cannot be undone: .*\(load 6: 1 poll\); undo that one first"):
        service.undo(database, 5, options())
    with pytest.raises(
        Conflict, match=r"load 7 cannot be undone: .*\(load 8: a zone of 1 store\); undo that one first"
    ):
        service.undo(database, 7, options())

    for number in (8, 7, 6, 5):
        service.undo(database, number, options())
    assert [row[:2] for row in stored(database)[0]] == [
        ("a", "2024-01-01 10:00:00.000000Z"),
        ("a", "2024-02-01 10:00:00.000000Z"),
    ]
    assert [row[0] for row in stored(database)[4]] == ["b", "c"]


def test_many_stores_that_go_do_not_each_take_a_look_at_all_weeks(database: Database) -> None:
    load(database, "polls", *(f"s{at},2024-0{month}-01 10:00:00,active" for at in range(500) for month in range(1, 9)))
    before = stored(database)
    load(database, "polls", *(f"new{at},2024-01-01 10:00:00,active" for at in range(300)))
    thousands = 0

    def count() -> int:
        nonlocal thousands
        thousands += 1
        return 0

    with database.write() as connection:
        connection.set_progress_handler(count, 1000)
        undo.undo(connection, 2, time.time_ns() // 1000, undo.DEFAULT_LIMITS)
        connection.set_progress_handler(None, 0)

    # To read all 4,000 weeks for each of 300 stores takes several million instructions.
    assert 0 < thousands < 600
    assert stored(database) == before
    with database.read() as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'poll_week_store'").fetchone() is None


_KILLED: Final = """
import sys, time
from pathlib import Path
from storemon_flask.database.connections import Database
from storemon_flask.feeds.load import LoadOptions
from storemon_flask.stores import undo

def progress(done, total):
    if done == 2:
        print("half done", flush=True)
        time.sleep(60)

undo.undo(Database(Path(sys.argv[1])), 2, LoadOptions(time.time_ns() // 1000, 0), progress)
"""


def test_an_undo_that_is_killed_in_the_middle_has_done_nothing(database: Database) -> None:
    load(database, "polls", "a,2024-01-01 10:00:00,active")
    before = stored(database)
    load(
        database,
        "polls",
        *(f"{store},2024-{month:02}-01 10:00:00,inactive" for store in "abc" for month in range(1, 7)),
    )
    after = stored(database)
    command = [sys.executable, "-c", _KILLED, str(database.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half done\n"
        process.send_signal(signal.SIGKILL)

    assert stored(database) == after
    service.undo(database, 2, options())
    assert stored(database) == before
    assert problems(database) == []


@pytest.mark.parametrize("seed", range(12))
def test_after_undoing_loads_the_data_are_those_of_the_loads_that_stand(tmp_path: Path, seed: int) -> None:
    """Random loads of all feeds and undos of them, against a database that got only the loads that stand."""
    rng = random.Random(seed)
    (tmp_path / "one").mkdir()
    database = Database(tmp_path / "one" / "some.db")
    rows_of: dict[int, tuple[str, list[str]]] = {}
    undoes: dict[int, int] = {}
    stands: set[int] = set()
    refused = 0
    for _ in range(40):
        if rng.random() < 0.6 or not rows_of:
            feed = rng.choice(("polls", "polls", "polls", *HEADERS))
            rows = _random_rows(rng, feed)
            number = load(database, feed, *rows).load
            rows_of[number] = feed, rows
            stands.add(number)
        else:
            target = rng.choice([*rows_of, *undoes])
            before = stored(database)
            try:
                number = service.undo(database, target, options()).load
            except Conflict:
                refused += 1
                assert stored(database) == before
            else:
                undoes[number] = target
                stands.add(number)
                load_number: int | None = target
                standing = False
                while load_number is not None:
                    (stands.add if standing else stands.discard)(load_number)
                    load_number, standing = undoes.get(load_number), not standing
        if rng.random() < 0.2:
            # A server that is started again.
            database.close()
            database = Database(database.path)
    (tmp_path / "two").mkdir()
    with closing(Database(tmp_path / "two" / "other.db")) as other:
        other.prepare()
        for number, (feed, rows) in sorted(rows_of.items()):
            if number in stands:
                load(other, feed, *rows)
        assert stored(database) == stored(other)
    assert problems(database) == []
    assert undoes
    assert refused
    database.close()


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 55])
def test_the_report_is_that_of_a_database_in_which_undone_loads_never_happened(
    tmp_path: Path, settings: Settings, seed: int
) -> None:
    """Few stores, few times, removals: nearly each load meets another one."""
    rng = random.Random(seed)
    databases = [Database(tmp_path / name / "some.db") for name in ("one", "other")]
    for made in databases:
        made.path.parent.mkdir()
        made.prepare()
    database, other = databases
    done: dict[int, tuple[str, list[str]]] = {}
    undoes: dict[int, int] = {}
    for _ in range(14):
        chance = rng.random()
        if chance < 0.45 or not done:
            feed = rng.choice(("polls", "polls", *HEADERS))
            rows = _few_rows(rng, feed)
            done[load(database, feed, *rows).load] = feed, rows
        elif chance < 0.6:
            store_id = rng.choice("ab")
            with suppress(NotFound):
                done[edit.remove(database, store_id, options()).load] = "", [store_id]
        else:
            target = rng.choice([*done, *undoes])
            with suppress(Conflict):
                undoes[service.undo(database, target, options()).load] = target
        assert problems(database) == []
    with database.read() as connection:
        stands = {row[0] for row in connection.execute("SELECT id FROM load WHERE undone_by IS NULL")}
    for number, (feed, rows) in done.items():
        if number not in stands:
            continue
        if feed:
            load(other, feed, *rows)
        else:
            # Without the loads that were undone there may be nothing to remove.
            with suppress(NotFound):
                edit.remove(other, rows[0], options())
    assert undoes
    assert stored(database) == stored(other)
    assert _report(database, settings.rules) == _report(other, settings.rules)
    for made in databases:
        made.close()


def _report(database: Database, rules: Rules) -> str:
    as_of_us = 1_705_744_800_000_000  # 2024-01-20 10:00
    query = compute.make_query(database, ReportRequest(as_of_us, "full"), "America/Chicago", 10**6)
    return compute.compute(database, query, rules, "America/Chicago").csv


def _few_rows(rng: random.Random, feed: str) -> list[str]:
    stores = rng.sample("ab", rng.randint(1, 2))
    if feed == "polls":
        times = ("2024-01-01 08:00:00", "2024-01-19 08:00:00", "2024-01-20 08:00:00")
        return [
            f"{store},{at},{rng.choice(('active', 'inactive'))}"
            for store in stores
            for at in rng.sample(times, rng.randint(1, 3))
        ]
    dates = ("", "2024-01-19")
    rows = {
        "hours": lambda store: f"{store},4,0{rng.randint(1, 2)}:00,18:00,{rng.choice(dates)}",
        "special_hours": lambda store: f"{store},2024-01-19,0{rng.randint(1, 2)}:00,18:00",
        "timezones": lambda store: f"{store},{rng.choice(('America/New_York', 'Europe/Paris'))},{rng.choice(dates)}",
        "stores": lambda store: f"{store},{rng.choice(('Corner', ''))},North",
    }[feed]
    return [rows(store) for store in stores]


def _random_rows(rng: random.Random, feed: str) -> list[str]:
    stores = rng.sample("abcdefgh", rng.randint(1, 3))
    if feed == "polls":
        times = [f"2024-01-{day:02} {hour:02}:00:00" for day in (1, 2, 20) for hour in (8, 9, 10)]
        return [
            f"{store},{at},{rng.choice(('active', 'inactive'))}"
            for store in stores
            for at in rng.sample(times, rng.randint(1, 4))
        ]
    dates = ("", "2024-01-05", "2024-02-05")
    rows = {
        "hours": lambda store: f"{store},{rng.randint(0, 6)},{rng.randint(6, 11):02}:00,18:00,{rng.choice(dates[:2])}",
        "special_hours": lambda store: f"{store},{rng.choice(dates[1:])},{rng.randint(6, 11):02}:00,18:00",
        "timezones": lambda store: (
            f"{store},{rng.choice(('America/New_York', 'Europe/Paris'))},{rng.choice(dates[:2])}"
        ),
        "stores": lambda store: f"{store},{rng.choice(('Corner', 'Main', ''))},{rng.choice(('North', ''))}",
    }[feed]
    return [rows(store) for store in stores]
