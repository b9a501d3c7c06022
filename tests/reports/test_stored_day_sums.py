"""Sums of days that are stored: never anything else than the polls, hours and zones of now give."""

import random
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import sql
from database.test_undo import load, options

from reports.test_day_sums import ZONE, ByDay, by_day, by_report, day_number, sums_of
from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import check, day_sums, polls, prune, readings
from storemon_flask.database import undo as undoing
from storemon_flask.database.connections import Database
from storemon_flask.errors import Conflict
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Rules
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.stores import undo as service

AS_OF = instant("2024-11-20T15:30:00Z")
BEGIN = instant("2024-09-20T00:00:00Z")
FIRST, LAST = "2024-09-28", "2024-11-20"
ZONES = ("America/Chicago", "Asia/Tokyo", "Pacific/Kiritimati", "Europe/Paris", "America/Los_Angeles")


def stamp(us: int) -> str:
    return str(np.datetime64(us, "us")).replace("T", " ") + " UTC"


def polls_from(chance: random.Random, stores: int, first_us: int, last_us: int, count: int) -> list[str]:
    return [
        f"s{chance.randrange(stores)},{stamp(chance.randrange(first_us, last_us))},"
        f"{'active' if chance.random() < 0.7 else 'inactive'}"
        for _ in range(count)
    ]


def rows_stored(database: Database) -> list[tuple[Any, ...]]:
    return sql(database.path, "SELECT block, store, days FROM day_sum ORDER BY 1, 2")


def days_stored(database: Database) -> int:
    return sum(days.bit_count() for _, _, days in rows_stored(database))


@pytest.fixture(autouse=True)
def folder(database: Database) -> None:
    """Make the folder in which rows to load are written, too."""
    database.prepare()


@pytest.fixture
def polled(database: Database) -> Database:
    """Three stores with polls each half hour, and their sums stored; s1 closes at night."""
    load(database, "timezones", "s0,UTC,", "s1,America/New_York,", "s2,Asia/Tokyo,")
    load(database, "hours", *(f"s1,{day},08:00,22:00," for day in range(7)))
    rows = [
        f"s{store},{stamp(us + store * MINUTE_US)},{'inactive' if us // HOUR_US % 17 == store else 'active'}"
        for us in range(BEGIN, AS_OF, HOUR_US // 2)
        for store in range(3)
    ]
    load(database, "polls", *rows)
    check_sums(database)
    assert days_stored(database) > 3 * 45
    return database


def check_sums(database: Database, as_of_us: int = AS_OF, rules: Rules = Rules(), zone: str = ZONE) -> ByDay:  # noqa: B008
    """The sums are those of the report that reads all polls, when they are stored and when they are read again."""
    expected = by_report(database, FIRST, LAST, as_of_us, rules, zone)
    for _ in range(2):
        assert by_day(sums_of(database, FIRST, LAST, as_of_us, rules, zone)) == expected
    return expected


def spoil(database: Database) -> None:
    """Make what is stored something that no computation gives."""
    sql(database.path, "UPDATE day_sum SET sums = zeroblob(length(sums))")


class Changes:
    """Changes of a database by chance, and the loads that they made."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self.database, self.chance = database, chance
        self.loads: list[int] = []

    def load(self, feed: str, *rows: str) -> None:
        """Load rows, and remember which load that was."""
        self.loads.append(load(self.database, feed, *rows).load)

    def all(self) -> list[Callable[[], Any]]:
        """The kinds of changes."""
        return [
            lambda: self.polls(BEGIN, AS_OF),
            lambda: self.polls(AS_OF - 3 * DAY_US, AS_OF + DAY_US),
            lambda: self.polls(BEGIN, BEGIN + 20 * DAY_US),
            self.undo,
            self.hours,
            lambda: self.load(
                "special_hours", f"{self.store()},{self.date()},{self.chance.choice([',', '10:00,02:00'])}"
            ),
            lambda: self.load("timezones", f"{self.store()},{self.chance.choice(ZONES)},{self.date_or_none()}"),
            lambda: prune.delete_before(self.database, BEGIN + self.chance.randrange(20) * DAY_US, AS_OF),
            self.remove,
        ]

    def store(self) -> str:
        return f"s{self.chance.randrange(6)}"

    def date(self) -> str:
        return f"2024-{self.chance.choice([10, 11])}-{self.chance.randrange(1, 29):02d}"

    def date_or_none(self) -> str:
        return self.chance.choice(["", self.date()])

    def polls(self, first_us: int, last_us: int) -> None:
        self.load("polls", *polls_from(self.chance, 6, first_us, last_us, self.chance.choice([1, 3, 60])))

    def hours(self) -> None:
        ends = [(day, self.chance.randrange(12, 24), self.date_or_none()) for day in range(7)]
        self.load("hours", *(f"{self.store()},{day},07:30,{end}:00,{begin}" for day, end, begin in ends))

    def undo(self) -> None:
        self.load("polls", *polls_from(self.chance, 6, BEGIN, AS_OF, 3))
        with suppress(Conflict):
            service.undo(self.database, self.chance.choice(self.loads[1:]), options())

    def remove(self) -> None:
        self.load("polls", f"s5,{stamp(BEGIN)},active")
        with self.database.write() as connection:
            undoing.remove_store(connection, "s5", time.time_ns() // 1000, undoing.DEFAULT_LIMITS)
        self.load("polls", *polls_from(self.chance, 6, BEGIN, AS_OF, 40), f"s5,{stamp(BEGIN)},active")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_changes_the_sums_are_those_of_the_report(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    changes = Changes(database, chance)
    everybody = [f"s{number},{stamp(BEGIN)},active" for number in range(6)]
    changes.load("polls", *polls_from(chance, 6, BEGIN, AS_OF, 2000), *everybody)
    stored = []
    for _ in range(9):
        as_of_us = chance.choice([AS_OF, AS_OF, AS_OF - 9 * DAY_US - 7, AS_OF + 3 * DAY_US])
        rules = chance.choice([Rules(), Rules(), Rules(2 * HOUR_US, HOUR_US), Rules(reach_us=60 * HOUR_US)])
        check_sums(database, as_of_us, rules, chance.choice([ZONE, ZONE, "Asia/Tokyo"]))
        stored.append(days_stored(database))
        chance.choice(changes.all())()
    assert min(stored) > 0
    check_sums(database)


def test_what_is_stored_is_what_is_read(polled: Database) -> None:
    before = check_sums(polled)
    spoil(polled)
    spoiled = by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules()))
    # The days that are not over yet are computed: a day, its reach and the grace have passed since those before.
    last = day_number(LAST)
    assert {day for _, day in spoiled} == {last - 1, last}
    assert all(before[at] == values for at, values in spoiled.items())


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        # A poll drops the block of 32 days that it is in, and the one beside it where it can matter to that.
        ("2024-11-01T12:00", {"s1": [20_000]}),
        ("2024-10-04T12:00", {"s1": []}),
        ("2024-11-20T16:00", {"s1": "all"}),
    ],
)
def test_a_late_poll_drops_the_sums_around_it(polled: Database, at: str, kept: dict[str, Any]) -> None:
    before = rows_stored(polled)
    load(polled, "polls", f"s1,{stamp(instant(at + 'Z'))},inactive")
    after = rows_stored(polled)
    (number,) = sql(polled.path, "SELECT number FROM store_record WHERE store_id = 's1'")[0]
    assert [row for row in after if row[1] != number] == [row for row in before if row[1] != number]
    moment = instant(at + "Z")
    margin = 2 * DAY_US + Rules().farthest_us
    touched = {(moment - margin) // DAY_US // 32, (moment + margin) // DAY_US // 32}
    late = moment < AS_OF - 12 * HOUR_US
    assert [row for row in after if row[1] == number] == [
        row for row in before if row[1] == number and not (late and row[0] in touched)
    ]
    assert (len(after) < len(before)) == late
    check_sums(polled)


def test_polls_that_change_nothing_drop_nothing(polled: Database) -> None:
    before, token = rows_stored(polled), sql(polled.path, "SELECT * FROM day_sum_state")
    load(
        polled,
        "polls",
        *(
            f"s0,{stamp(us)},{'inactive' if us // HOUR_US % 17 == 0 else 'active'}"
            for us in range(BEGIN, AS_OF, HOUR_US // 2)
        ),
    )
    assert (rows_stored(polled), sql(polled.path, "SELECT * FROM day_sum_state")) == (before, token)
    load(
        polled,
        "polls",
        f"s0,{stamp(BEGIN + 30 * DAY_US)},{'active' if (BEGIN + 30 * DAY_US) // HOUR_US % 17 == 0 else 'inactive'}",
    )
    assert len(rows_stored(polled)) < len(before)
    check_sums(polled)


def test_a_load_while_days_are_computed_keeps_them_from_being_stored(
    polled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with polled.write() as connection:
        connection.execute("DELETE FROM day_sum")
    read_range, late = readings.read_range, [f"s0,{stamp(BEGIN + 30 * DAY_US + 5)},inactive"]

    def read_and_load(*args: Any, **more: Any) -> Any:
        yield from read_range(*args, **more)
        if late:
            load(polled, "polls", late.pop())

    expected = by_report(polled, FIRST, LAST, AS_OF, Rules())
    monkeypatch.setattr(readings, "read_range", read_and_load)
    assert by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules())) == expected
    assert rows_stored(polled) == []
    assert check_sums(polled) != expected
    assert days_stored(polled) > 3 * 45


def test_days_that_were_not_settled_before_a_load_are_not_stored(polled: Database) -> None:
    """A load between the reading of polls and the first look at what loads are told to watch for."""
    with polled.write() as connection:
        day_sums.drop_all(connection)
    with polled.read() as connection:
        before = day_sums.read_state(connection)
        version = sql(polled.path, "SELECT version FROM data_version")[0][0]
        assert before.settled_us == 0
        load(polled, "polls", f"s0,{stamp(AS_OF)},active")
        assert day_sums.settle(polled, before, version, AS_OF, DAY_US) == before
        # From now on every load knows.
        assert sql(polled.path, "SELECT settled_us, margin_us FROM day_sum_state") == [(AS_OF, DAY_US)]
    with polled.read() as connection:
        now = day_sums.read_state(connection)
    assert (now.settled_us, now.margin_us) == (AS_OF, DAY_US)


def test_days_of_a_longer_reach_than_loads_heed_are_not_stored(
    polled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_stored(polled)
    longer = Rules(reach_us=72 * HOUR_US)
    with monkeypatch.context() as patch:
        # Another process has the database while loads are told of the longer reach, and no longer when sums are stored.
        patch.setattr(day_sums, "settle", lambda database, state, version, settled_us, margin_us: state)
        check_sums(polled, rules=longer)
    assert rows_stored(polled) == before
    check_sums(polled, rules=longer)
    load(polled, "polls", f"s0,{stamp(instant('2024-10-12T12:10:00Z'))},inactive")
    check_sums(polled, rules=longer)


def test_while_another_writes_a_report_does_without(polled: Database) -> None:
    expected = check_sums(polled)
    with polled.write() as connection:
        connection.execute("DELETE FROM day_sum")
    with closing(Database(polled.path)) as other, other.write() as connection:
        connection.execute("UPDATE data_version SET version = version")
        assert by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules())) == expected
    assert rows_stored(polled) == []


def test_hours_of_another_time_leave_sums_as_they_are(polled: Database) -> None:
    load(polled, "special_hours", "s1,2024-12-24,10:00,12:00")
    load(polled, "hours", *(f"s2,{day},08:00,22:00,2025-01-01" for day in range(7)))
    spoil(polled)
    days = {day for _, day in by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules()))}
    assert min(days) == day_number(LAST) - 1
    load(polled, "special_hours", "s1,2024-10-10,10:00,12:00")
    rows = by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules()))
    assert {store for store, day in rows if day == day_number("2024-10-12")} == {1}


def test_what_is_damaged_is_computed_again_and_named(polled: Database, settings: Settings) -> None:
    expected = check_sums(polled)
    sql(
        polled.path,
        "UPDATE day_sum SET sums = substr(sums, 2) WHERE store = 1 AND block = (SELECT min(block) FROM day_sum)",
    )
    (section,) = [part for part in check.check_database(settings).sections if part.problems]
    assert section.name == "sums of days"
    assert section.problems[0].endswith("`DELETE FROM day_sum` loses nothing")
    assert by_day(sums_of(polled, FIRST, LAST, AS_OF, Rules())) == expected
    assert not [part for part in check.check_database(settings).sections if part.problems]
    sql(polled.path, "UPDATE day_sum SET sums = CAST(zeroblob(length(sums) - 1) || x'ff' AS BLOB) WHERE store = 1")
    assert [part.name for part in check.check_database(settings).sections if part.problems] == ["sums of days"]


def test_sums_are_packed_exactly() -> None:
    values = np.array([[[0, 1, (1 << 40) - 1], *[[5, 90_000_000_000, 1 << 32]] * 5]], dtype=np.int64)
    (packed,) = day_sums.pack(values)
    assert len(packed) == 6 * 3 * 5
    unpacked = day_sums.unpack([packed, packed], ["uptime", "uptime_high"])
    assert {name: column.tolist() for name, column in unpacked.items()} == {
        "uptime": [[0, 1, (1 << 40) - 1]] * 2,
        "uptime_high": [[5, 90_000_000_000, 1 << 32]] * 2,
    }
    bits = np.zeros((1, 32), dtype=bool)
    bits[0, [0, 31]] = True
    (mask,) = day_sums.pack_days(bits).tolist()
    assert (mask, day_sums.unpack_days(mask).tolist()) == (2**31 + 1, [0, 31])


@pytest.mark.parametrize("columns", ["classic", "full"])
@pytest.mark.parametrize("by", [None, "day", "week", "month"])
@pytest.mark.parametrize(
    "window",
    [{"from": "2024-09-28", "to": "2024-11-20"}, {"from": "2024-10-03", "to": "2024-11-21"}, "last_30_days"],
    ids=["dates", "up to the as-of", "rolling"],
)
def test_a_report_is_the_same_with_sums_and_without(
    polled: Database, monkeypatch: pytest.MonkeyPatch, columns: str, by: str | None, window: Any
) -> None:
    def report() -> compute.ReportText:
        fields = {"windows": [window], "totals": True} | ({"by": by} if by else {})
        query = compute.make_query(polled, ReportRequest(AS_OF, columns, None, fields), ZONE, 10**6)
        return compute.compute(polled, query, Rules(), ZONE)

    with_sums = report()
    monkeypatch.setattr(compute, "_whole_days", lambda *args: None)
    # The method too: as many polls, of the same data.
    assert with_sums == report()
    assert with_sums.rows > 3


def test_a_report_by_month_reads_the_stored_sums(polled: Database) -> None:
    fields = {"windows": [{"from": "2024-10-01", "to": "2024-11-16"}], "by": "month"}
    query = compute.make_query(polled, ReportRequest(AS_OF, "classic", None, fields), ZONE, 10**6)
    before = compute.compute(polled, query, Rules(), ZONE)
    spoil(polled)
    lines = compute.compute(polled, query, Rules(), ZONE).csv.splitlines()
    assert len(lines) == len(before.csv.splitlines()) == 7
    assert all(line.endswith(",0.00,0.00,") or ",0.00," in line for line in lines[1:])
    assert not any(",0.00," in line for line in before.csv.splitlines()[1:])


def test_polls_between_two_times_are_counted_without_reading_them(polled: Database) -> None:
    chance = random.Random(5)
    load(polled, "polls", *polls_from(chance, 3, BEGIN, AS_OF, 50), "s9,2024-10-02 03:04:05 UTC,active")
    ends = [(BEGIN, AS_OF), (AS_OF, AS_OF), (AS_OF, BEGIN), (0, 2 * AS_OF)]
    ends += [tuple(sorted(chance.sample(range(BEGIN, AS_OF), 2))) for _ in range(20)]
    for pruned in (False, True):
        if pruned:
            prune.delete_before(polled, BEGIN + 9 * DAY_US + 12_345, AS_OF)
        with polled.read() as connection:
            # All stores, and some with a gap between their numbers.
            for number in (np.array([1, 2, 3, 4]), np.array([1, 3, 4]), np.array([2]), np.array([], dtype=np.int64)):
                for first_us, last_us in ends:
                    read = polls.read(connection, number, first_us, last_us)
                    assert polls.count_between(connection, number, first_us, last_us) == len(read)


def test_every_change_of_polls_goes_by_the_sums() -> None:
    """No statement changes `poll_week` but in the functions of `database.polls` that drop sums."""
    root = Path(day_sums.__file__).parents[1]
    changing = ("INTO poll_week", "UPDATE poll_week", "DELETE FROM poll_week")
    modules = [file.name for file in root.rglob("*.py") if any(sql in file.read_text() for sql in changing)]
    assert modules == ["polls.py"]
    text = (root / "database" / "polls.py").read_text()
    functions = {chunk.split("(")[0]: chunk for chunk in text.split("\ndef ")[1:]}
    writers = {name for name, chunk in functions.items() if any(sql in chunk for sql in changing)}
    assert writers == {"_write", "replace_keys", "delete_outside"}
    callers = {name for name, chunk in functions.items() if "_write(" in chunk.split("\n", 1)[1]}
    assert callers == {"apply", "replace_keys"}
    assert all(
        "late.drop(" in functions[name] or "drop_week(" in functions[name] for name in (callers | writers) - {"_write"}
    )
