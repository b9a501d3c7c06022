"""What alerts send in a simulated year whose truth is known, beside a message for each change that a poll shows.

    python -m benchmarks.alerts_year OUT [--stores 300] [--days 365] [--seed 7]

Stores have the sample's hours and zones, fail at random times for random lengths, and are polled about once an hour,
whether they are open or not; 1 poll in 20 is missing and 1 in 1,000 wrongly says inactive. On one day the poller is
dead, on another it finds every store inactive. Each hour's polls are loaded, and judged, at 35 minutes past. Prints
the table of docs/alerts.md. OUT gets the files and the database.
"""

import argparse
import csv
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import fleet
from storemon_flask import settings as settings_
from storemon_flask.alerts import preview
from storemon_flask.alerts.evaluation import AlertRules
from storemon_flask.alerts.facts import Facts, PastFacts
from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, IncidentKind
from storemon_flask.uptime.openings import Openings

START_US = 1_672_531_200_000_000  # 2023-01-01
# How stores are usually polled is learnt first.
JUDGED_US = START_US + 7 * DAY_US
LONG_US = 2 * HOUR_US
ZONE = "America/Chicago"
_MONTH_US = 30 * DAY_US
_STORE_KINDS = (IncidentKind.DOWN, IncidentKind.NOT_OPENED)


@dataclass
class Spans:
    """Spans of stores, sorted and disjoint, as one line: the time of a store is `store * BLOCK + time - START_US`."""

    start: np.ndarray
    end: np.ndarray
    BLOCK = 1000 * DAY_US

    @classmethod
    def joined(cls, store: np.ndarray, start: np.ndarray, end: np.ndarray) -> "Spans":
        """Return them with those that overlap joined."""
        order = np.lexsort((start, store))
        first, last = (line_of(store[order], at[order]) for at in (start, end))
        reach = np.maximum.accumulate(last)
        begins = np.flatnonzero(np.r_[True, first[1:] > reach[:-1]])
        return cls(first[begins], reach[np.r_[begins[1:] - 1, len(reach) - 1]])

    def hold(self, at: np.ndarray) -> np.ndarray:
        """Return which points of the line lie in one."""
        index = np.searchsorted(self.start, at, "right") - 1
        return (index >= 0) & (at < self.end[np.maximum(index, 0)])

    def meet(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return which of other spans meet one of these."""
        return np.searchsorted(self.start, end, "right") > np.searchsorted(self.end, start, "left")

    def cut(self, other: "Spans") -> "Spans":
        """Return the parts that lie in the other ones, each within one of them."""
        first, stop = np.searchsorted(other.end, self.start, "right"), np.searchsorted(other.start, self.end, "left")
        count = np.maximum(stop - first, 0)
        mine = np.repeat(np.arange(len(count)), count)
        theirs = np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        return Spans(np.maximum(self.start[mine], other.start[theirs]), np.minimum(self.end[mine], other.end[theirs]))


def line_of(store: np.ndarray, at_us: np.ndarray) -> np.ndarray:
    """Return instants of stores as points of the line; a margin keeps what is before the start off the store before."""
    return store * Spans.BLOCK + at_us - START_US + 100 * DAY_US


@dataclass
class Year:
    """The truth: when stores were open, down, and how each was polled."""

    days: int
    ids: list[str]
    opened: Spans
    down: Spans
    poll_store: np.ndarray
    poll_us: np.ndarray
    poll_active: np.ndarray

    @property
    def dead_days(self) -> tuple[int, int]:
        """The start of the day without polls, and of the one with every store inactive."""
        return tuple(START_US + self.days * part // 3 * DAY_US for part in (1, 2))

    def on_dead_day(self, at_us: np.ndarray) -> np.ndarray:
        """Return which instants are of one of the two."""
        return np.isin((at_us - START_US) // DAY_US, [(start - START_US) // DAY_US for start in self.dead_days])


def make(out: Path, database: Database, stores: int, days: int, seed: int) -> Year:
    """Invent the year, load its polls and return the truth."""
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    made = np.array(sorted(str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(stores)))
    fleet._write_hours_and_zones(out, made, rng)
    with (out / "stores.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("store_id", "name", "group"), *((one, f"Store {n}", f"Region {n % 10}") for n, one in enumerate(made))]
        )
    _load(database, out)
    until_us = START_US + days * DAY_US
    ids, openings = _openings(database, until_us)
    down = _outages(len(ids), until_us, rng)
    opened = Spans.joined(openings.store, openings.start_us, openings.end_us)
    year = Year(days, ids, opened, down, *(np.empty(0, dtype=np.int64) for _ in range(3)))
    year.poll_store, year.poll_us, year.poll_active = _polls(year, until_us, rng)
    text = pd.Series(np.datetime_as_string(year.poll_us.astype("datetime64[us]"), "us")).str.replace("T", " ") + " UTC"
    pd.DataFrame(
        {
            "store_id": np.array(ids)[year.poll_store],
            "status": np.where(year.poll_active, "active", "inactive"),
            "timestamp_utc": text,
        }
    ).to_csv(out / "store_status.csv", index=False)
    _load(database, out / "store_status.csv")
    return year


def _load(database: Database, path: Path) -> None:
    result = load.load_sources(database, sources.find_sources([path]), load.LoadOptions(2 * START_US, 300_000_000))
    assert not result.failed


def _openings(database: Database, until_us: int) -> tuple[list[str], Openings]:
    with database.read() as connection:
        plan = readings.read_schedule(database, connection, ZONE, None, until_us)
    (batch,) = plan.batches
    return plan.ids, plan.openings(batch, START_US, until_us)


def _outages(stores: int, until_us: int, rng: np.random.Generator) -> Spans:
    """Return outages at any time of day: most under two hours, a few for most of a day."""
    count = rng.poisson(rng.gamma(0.6, 0.5, stores) * (until_us - START_US) / DAY_US)
    store = np.repeat(np.arange(stores), count)
    start = START_US + (rng.random(len(store)) * (until_us - START_US)).astype(np.int64)
    short = rng.random(len(store)) < 0.9
    hours = np.where(short, rng.lognormal(-0.4, 0.8, len(store)), rng.lognormal(2.0, 0.7, len(store)))
    return Spans.joined(store, start, start + (hours * HOUR_US).astype(np.int64))


def _polls(year: Year, until_us: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    slots = np.arange(START_US, until_us, HOUR_US)
    store = np.repeat(np.arange(len(year.ids)), len(slots))
    at_us = np.tile(slots, len(year.ids)) + (rng.random(len(store)) * 30 * MINUTE_US).astype(np.int64)
    silent, lying = ((at_us >= day) & (at_us < day + DAY_US) for day in year.dead_days)
    is_open = year.opened.hold(line_of(store, at_us))
    # Few are polled outside their hours, where most are inactive.
    keep = (rng.random(len(store)) >= 0.05) & ~silent & (is_open | (rng.random(len(store)) < 0.2))
    inactive_when_closed = (rng.random(len(year.ids)) < 0.7)[store]
    active = ~year.down.hold(line_of(store, at_us)) & (is_open | ~inactive_when_closed)
    active &= ~lying & (rng.random(len(store)) >= 0.001)
    return store[keep], at_us[keep], active[keep]


@dataclass
class Score:
    """What was sent. `alerts` are (store, from when it is said to have been down, when that was found, when it was
    over) of single stores."""

    name: str
    messages: int = 0
    stale: int = 0
    dead_day_alerts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    alerts: list[tuple[int, int, int, int]] = field(default_factory=list)

    def row(self, year: Year) -> list[str]:
        """Return its row of the table."""
        store, since, found, over = np.array(self.alerts, dtype=np.int64).reshape(-1, 4).T
        truth = year.down.cut(year.opened)
        long = truth.end - truth.start >= LONG_US
        start, end = truth.start[long], truth.end[long]
        told = Spans.joined(store, found, np.maximum(over, found + 1))
        # Nobody could see on the two days.
        start_us = start % Spans.BLOCK + START_US - 100 * DAY_US
        seen = ~year.on_dead_day(start_us) & (start_us >= JUDGED_US)
        announced = told.meet(start[seen], end[seen])
        usual = ~year.on_dead_day(found)
        false = ~truth.meet(line_of(store, since), line_of(store, found))[usual]
        days = year.days - (JUDGED_US - START_US) // DAY_US
        months = len(year.ids) * days / 30
        return [
            self.name,
            f"{self.messages / days:,.1f}",
            f"{self.messages / months:.2f}",
            f"{len(self.alerts) / months:.2f}",
            f"{100 * announced.mean():.1f} % of {len(announced):,}",
            f"{int(false.sum()):,} ({100 * false.mean():.1f} %)",
            f"{self.stale / months:.2f}",
            f"{self.dead_day_alerts:,}",
        ]


HEAD = [
    "rules", "messages a day", "messages for a store and month", "alerts of a store for a store and month",
    "outages of 2 h or more told", "false alarms", "no polls, for a store and month", "alerts of stores on the two days",
]  # fmt: skip


class Walked:
    """A walk over the year with one set of rules, and its score."""

    def __init__(self, name: str, year: Year, settings: settings_.Settings) -> None:
        self.score = Score(name)
        self._year = year
        self._number = {store_id: number for number, store_id in enumerate(year.ids)}
        self._outbox = preview.Outbox([preview.everything_at_once()], settings)
        self._began: dict[int, Incident] = {}

    def take(self, step: preview.Step, following_us: int) -> None:
        """Count what an evaluation found, and what was sent after it."""
        self._outbox.take(step)
        self.score.messages += sum(1 for _ in self._outbox.send_until(step.at_us, following_us))
        self._outbox.forget_what_is_over()
        of_stores = [one for one in step.opened if one.scope == "store" and one.kind != IncidentKind.UNSTABLE]
        self.score.kinds.update(one.kind.value for one in step.opened)
        self.score.stale += sum(one.kind == IncidentKind.STALE for one in of_stores)
        if self._year.on_dead_day(np.array([step.at_us]))[0]:
            self.score.dead_day_alerts += len(of_stores)
        self._began |= {one.id: one for one in of_stores if one.kind in _STORE_KINDS}
        for one in step.changes.resolved:
            began = self._began.pop(one.id, None)
            if began is not None:
                over_us = one.ended_us or step.at_us
                self.score.alerts.append((self._number[one.subject], began.since_us, began.opened_us, over_us))


def walk(year: Year, database: Database, settings: settings_.Settings) -> list[Score]:
    """Return the scores of the rules."""
    until_us = START_US + year.days * DAY_US
    instants = list(range(JUDGED_US + 35 * MINUTE_US, until_us, HOUR_US))
    facts_at = _facts_at(database, until_us)
    rules = {
        "storemon": AlertRules(),
        "storemon, `--min-polls 2`": AlertRules(min_polls=2),
    }
    walked = [Walked(name, year, settings) for name in rules]
    walks = [preview.walk(facts_at, instants, rule, preview._look(database, settings)) for rule in rules.values()]
    for steps, following_us in zip(zip(*walks, strict=True), [*instants[1:], until_us], strict=True):
        for one, step in zip(walked, steps, strict=True):
            one.take(step, following_us)
    return [one.score for one in walked]


def _facts_at(database: Database, until_us: int):
    """Return a function that gives the facts of an instant, of which each month is read once."""
    months: dict[int, PastFacts] = {}
    newest: dict[int, Facts] = {}

    def facts_at(at_us: int) -> Facts:
        if at_us not in newest:
            first_us = START_US + (at_us - START_US) // _MONTH_US * _MONTH_US
            if first_us not in months:
                months.clear()
                last_us = min(first_us + _MONTH_US, until_us)
                with database.read() as connection:
                    rules = settings_.load({}).rules
                    months[first_us] = PastFacts(database, connection, ZONE, first_us, last_us, rules)
            newest.clear()
            newest[at_us] = months[first_us].at(at_us)
        return newest[at_us]

    return facts_at


def on_each_poll(year: Year, in_hours: bool) -> Score:
    """Return what a message for each change of a store's status would have been."""
    some = year.opened.hold(line_of(year.poll_store, year.poll_us)) if in_hours else np.ones(len(year.poll_us), bool)
    some &= year.poll_us >= JUDGED_US
    store, at_us, active = year.poll_store[some], year.poll_us[some], year.poll_active[some]
    changed = np.flatnonzero((active[1:] != active[:-1]) & (store[1:] == store[:-1])) + 1
    score = Score("each poll, only in business hours" if in_hours else "each poll", len(changed))
    down = changed[~active[changed]]
    score.dead_day_alerts = int(year.on_dead_day(at_us[down]).sum())
    following = np.append(changed[1:], len(store) - 1)[~active[changed]]
    same = store[following] == store[down]
    over = np.where(same, at_us[following], at_us[down] + 1)
    score.alerts = list(
        zip(*(column.tolist() for column in (store[down], at_us[down - 1], at_us[down], over)), strict=True)
    )
    return score


def table(rows: list[list[str]]) -> Iterator[str]:
    """Yield the rows as Markdown."""
    yield f"| {' | '.join(rows[0])} |"
    yield f"|---|{'---:|' * (len(rows[0]) - 1)}"
    for row in rows[1:]:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """The command line of the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stores", type=int, default=300)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    settings = settings_.load({"STOREMON_HOME": str(options.out / "home")})
    database = Database(options.out / "year.db")
    year = make(options.out / "feeds", database, options.stores, options.days, options.seed)
    scores = [*walk(year, database, settings), on_each_poll(year, True), on_each_poll(year, False)]
    database.close()
    print("\n".join(table([HEAD, *(score.row(year) for score in scores)])))
    for score in scores:
        print(score.name, dict(score.kinds))


if __name__ == "__main__":
    main()
