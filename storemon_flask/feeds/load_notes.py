"""What a load changes for other data, in sentences: feeds that do not meet, a newest poll that moves, files in
conflict.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

import numpy as np

from storemon_flask.database import few_heard, matching, opening_hours, polls, store_facts, stores
from storemon_flask.database.newest import future_polls
from storemon_flask.feeds import lookalikes
from storemon_flask.feeds.hours_set import HoursSet
from storemon_flask.feeds.load_feeds import Facts, Polls, Staged
from storemon_flask.feeds.lookalikes import named_stores, shown, some
from storemon_flask.feeds.sources import PassedOver
from storemon_flask.feeds.values import TIMESTAMP_FUTURE
from storemon_flask.model import DAY_US, WEEK_US, Ints

_EXAMPLES: Final = 3
_MOST_GROUPS: Final = 5
_MOST_LISTED: Final = 50
_MOST_PASSED_OVER: Final = 8
# Of more stores than these nobody counts the rows that moved the newest poll.
_FEW_STORES: Final = 20
# Of more stores than these that were polled for the first time it is not asked first whether one lacks anything.
_FEW_FIRST: Final = 500
_MANY: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
# Names of zones that stay on standard time all year, and the zones of the places that most who write them mean.
_WITHOUT_DAYLIGHT_SAVING: Final = {"EST": "America/New_York", "MST": "America/Denver"}
_NAMES: Final = {"hours": "hours", "special_hours": "special hours", "timezones": "time zones", "stores": "names"}


class LoadNotes:
    """Watches a load and builds its notes in the last of its transactions.

    What costs more than a look at what the load itself brought is done only when stores are new or polled for the first
    time, or hours or zones changed: a live shipper pushes a poll each second, and must neither wait nor hear the same
    again.
    """

    def __init__(
        self, default_zone: str, passed_over: Sequence[PassedOver], files: int, now_us: int, latest_us: int
    ) -> None:
        """`files` is how many the load has: only several can say something of one store. The machine's clock said
        `now_us`, and polls after `latest_us` are in the future."""
        self._default_zone = default_zone
        self._now_us, self._latest_us = now_us, latest_us
        # Rows of polls, and how many of them were rejected because they are in the future.
        self._poll_rows = self._poll_rows_ahead = 0
        self._passed_over = passed_over
        self._several = files > 1
        self._files: dict[str, list[tuple[str, set[str]]]] = {}
        self._changed: set[str] = set()
        self._highest_before = -1
        self._new: list[tuple[int, int]] = []
        self._applied: list[polls.Applied] = []
        self._zone_rejected: set[str] = set()
        self._zone_given: set[str] = set()
        self._abbreviated: dict[str, set[str]] = {abbreviation: set() for abbreviation in _WITHOUT_DAYLIGHT_SAVING}
        # Hours files, as they are read, in which nothing is on day 0.
        self.without_monday: list[str] = []

    @contextmanager
    def watching(self, connection: sqlite3.Connection, feed: str) -> Iterator[None]:
        """Around what applies a file, or the files of one feed, to find out what it changes."""
        highest, version = stores.highest_number(connection), stores.data_version(connection)
        if self._highest_before < 0:
            self._highest_before = highest
        yield
        now = stores.highest_number(connection)
        if now > highest:
            self._new.append((highest, now))
        if stores.data_version(connection) != version:
            self._changed.add(feed)

    def add(self, staged: Staged) -> None:
        """What a file that was applied says of which stores."""
        if isinstance(staged, Polls) and staged.applied is not None:
            self._applied.append(staged.applied)
        elif isinstance(staged, Facts):
            if staged.summary.feed == "timezones":
                self._zone_rejected |= staged.spoiled
                self._zone_given |= staged.store_ids
                for abbreviation, store_ids in self._abbreviated.items():
                    store_ids |= staged.stores_with(abbreviation)
            if self._several:
                self._files.setdefault(staged.summary.feed, []).append((staged.summary.file, staged.store_ids))

    def add_poll_rows(self, rows: int, reasons: Mapping[str, int]) -> None:
        """A file of polls was read: how many rows it has, and why how many of them were rejected."""
        self._poll_rows += rows
        self._poll_rows_ahead += reasons.get(TIMESTAMP_FUTURE, 0)

    def add_hours(self, feed: str, hours: HoursSet) -> None:
        """The same of the files of one replacement set."""
        if len(hours.files) > 1:
            self._files[feed] = hours.stores_by_file()

    def build(self, connection: sqlite3.Connection) -> list[str]:
        """All sentences, in the transaction that ends the load."""
        return [
            *self._newest_moved(connection),
            *self._future_polls(connection),
            *self._new_stores(connection),
            *self._rejected_zones(connection),
            *self._abbreviated_zones(),
            *self._without_monday(),
            *self._unmatched(connection),
            *self._alike(connection),
            *self.of_files(),
        ]

    def of_files(self) -> list[str]:
        """What there is to say of the files alone."""
        return [*self._clock_behind(), *self._shared(), *_passed_over(self._passed_over)]

    def _clock_behind(self) -> Iterator[str]:
        """Half of the polls or more were rejected because they are later than the clock: perhaps that is wrong."""
        ahead, rows = self._poll_rows_ahead, self._poll_rows
        if ahead and 2 * ahead >= rows:
            which = "the poll is" if rows == 1 else f"{ahead:,} of {rows:,} polls {'is' if ahead == 1 else 'are'}"
            yield (
                f"this machine's clock says {few_heard.minute_text(self._now_us)}; {which} later than that and rejected. "
                "If the clock is wrong, set it and load them again"
            )

    def _future_polls(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Polls that were stored while the clock was ahead, if one of the load's stores has such."""
        if any(int(one.before_us.max(initial=-1)) > self._latest_us for one in self._applied):
            sentence = future_polls(stores.polled_after(connection, self._latest_us))
            if sentence:
                yield sentence

    def _newest_moved(self, connection: sqlite3.Connection) -> Iterator[str]:
        """The newest poll of all moved by more than a day, because of few stores."""
        if not self._applied:
            return
        number, before, newest = self._touched()
        # Polls in the future are not the newest one.
        before = np.where(before > self._latest_us, -1, before)
        after_us = int(newest.max(initial=-1))
        # These stores' own newest poll is no newer than that of all: most loads end here.
        if after_us - int(before.max(initial=-1)) <= DAY_US:
            return
        all_numbers, _, last = stores.poll_spans(connection, after_us)
        others = last[~np.isin(all_numbers, number) & (last <= self._latest_us)]
        before_us = max(int(before.max(initial=-1)), int(others.max(initial=-1)))
        if before_us < 0 or after_us - before_us <= DAY_US:
            return
        movers = np.sort(number[newest > before_us])
        silent = int(((last > before_us - WEEK_US) & (last <= before_us)).sum())
        if 2 * len(movers) > silent:
            return
        yield _moved(connection, movers, before_us, after_us)

    def _touched(self) -> tuple[Ints, Ints, Ints]:
        """Each polled store of the load: number, newest poll before the load (-1: none), newest poll in it."""
        number, first, place = np.unique(
            np.concatenate([one.number for one in self._applied]), return_index=True, return_inverse=True
        )
        newest = np.full(len(number), -1)
        np.maximum.at(newest, place, np.concatenate([one.newest_us for one in self._applied]))
        return number, np.concatenate([one.before_us for one in self._applied])[first], newest

    def _new_stores(self, connection: sqlite3.Connection) -> Iterator[str]:
        total = sum(last - before for before, last in self._new)
        if total:
            ids = [
                store_id
                for before, last in self._new[:_EXAMPLES]
                for store_id in matching.ids_above(connection, before, min(_EXAMPLES, last - before))
            ]
            names = some(ids[:_EXAMPLES], total)
            yield f"{'1 store is' if total == 1 else f'{total:,} stores are'} new in this load: {names}"

    def _unmatched(self, connection: sqlite3.Connection) -> Iterator[str]:
        lacking = self._lacking(connection)
        without_hours = "hours" in self._changed or "hours" in lacking
        without_zone = "timezones" in self._changed or "timezones" in lacking
        without_polls = without_hours and matching.any_polls(connection) and matching.any_hours(connection)
        asked = {"hours": without_hours, "timezones": without_zone, "polls": without_polls}
        yield from unmatched(
            connection, self._default_zone, self._highest_before, [feed for feed, ask in asked.items() if ask]
        )

    def _lacking(self, connection: sqlite3.Connection) -> set[str]:
        """Which of hours and zones a store lacks that was polled for the first time in this load."""
        if not self._applied:
            return set()
        number, before, _ = self._touched()
        fresh = number[before < 0].tolist()
        if len(fresh) > _FEW_FIRST:
            return {"hours", "timezones"}
        return {feed for feed in ("hours", "timezones") if fresh and matching.any_without(connection, feed, fresh)}

    def _abbreviated_zones(self) -> Iterator[str]:
        """Zones that exist, and are seldom those that are meant."""
        for abbreviation, store_ids in self._abbreviated.items():
            if store_ids:
                have = "has" if len(store_ids) == 1 else "have"
                yield (
                    f"{named_stores(sorted(store_ids))} {have} the time zone {abbreviation}, which knows no daylight saving time; "
                    f"{_WITHOUT_DAYLIGHT_SAVING[abbreviation]} does"
                )

    def _without_monday(self) -> Iterator[str]:
        """Hours files whose days may be numbered from 1 and not, as they were read, from 0."""
        files = self.without_monday
        if files:
            which = ", ".join(files[:5]) + (f" and {len(files) - 5:,} more" if len(files) > 5 else "")
            yield (
                f"no store has hours on day 0 (Monday) in {which}; if 1 means Monday and 7 Sunday there, load it again with --days iso "
                "(over HTTP with ?days=iso)"
            )

    def _rejected_zones(self, connection: sqlite3.Connection) -> Iterator[str]:
        """In which zone the stores count whose time zone row was rejected."""
        zones: dict[str, list[str]] = {store_id: [] for store_id in sorted(self._zone_rejected)}
        for (store_id, _), (name,) in sorted(opening_hours.zones_of(connection, zones).items()):
            zones[store_id].append(name)
        default = [store_id for store_id, names in zones.items() if not names]
        given = [store_id for store_id, names in zones.items() if names and store_id in self._zone_given]
        earlier = [store_id for store_id, names in zones.items() if names and store_id not in self._zone_given]
        if default:
            count = "counts" if len(default) == 1 else "count"
            yield f"{_zone_rows(default)}: {named_stores(default)} {count} in {self._default_zone}, the default"
        for store_ids, one, several in (
            (earlier, "keeps the zone it had", "keep the zones they had"),
            (given, "counts in the zone of its other row", "count in the zones of their other rows"),
        ):
            if store_ids:
                names = list(dict.fromkeys(", then ".join(zones[store_id]) for store_id in store_ids))
                which = names[0] if len(names) == 1 else some(names[:_EXAMPLES], len(names))
                what = one if len(store_ids) == 1 else several
                yield f"{_zone_rows(store_ids)}: {named_stores(store_ids)} {what}, {which}"

    def _alike(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Stores that look alike, of which one at least is new."""
        if not self._new:
            return
        ids = matching.ids(connection)
        new = {
            store_id for before, last in self._new for store_id in matching.ids_above(connection, before, last - before)
        }
        yield from alike(connection, ids, lambda group: not new.isdisjoint(group), _MOST_GROUPS)

    def _shared(self) -> Iterator[str]:
        """Files of this load that say something of the same stores."""
        for feed, files in self._files.items():
            count = Counter(store_id for _, store_ids in files for store_id in store_ids)
            shared = {store_id for store_id, times in count.items() if times > 1}
            if not shared:
                continue
            names = [name for name, store_ids in files if not shared.isdisjoint(store_ids)]
            which = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
            whose = "1 store" if len(shared) == 1 else f"{len(shared):,} stores"
            yield (
                f"{_NAMES[feed]} of {whose} come from {_MANY.get(len(names), f'{len(names):,}')} files: {which}; "
                + (
                    "their rows are put together, so leave the older file out if the newer one is to replace it"
                    if "hours" in feed
                    else f"{names[-1]}, the last one, counts"
                )
            )


def present(connection: sqlite3.Connection, default_zone: str, latest_us: int) -> list[str]:
    """What there is to say of the feeds as they are now, whichever load brought them; polls after `latest_us` are in
    the future. Any schema has what this reads."""
    feeds = ["hours", "timezones"] if matching.any_polls(connection) else []
    if feeds and matching.any_hours(connection):
        feeds.append("polls")
    newest = polls.newest(connection, latest_us)
    few = None if newest.poll_us is None else few_heard.sentence(connection, newest.poll_us)
    return [
        *filter(None, (few, future_polls(newest.ahead))),
        *unmatched(connection, default_zone, 0, feeds),
        *alike(connection, matching.ids(connection), lambda group: True, _MOST_LISTED),
    ]


def unmatched(
    connection: sqlite3.Connection, default_zone: str, newer_than: int, feeds: Sequence[str]
) -> Iterator[str]:
    """How many polled stores have no hours or no zone, and how many stores with hours have no polls, with examples.

    Of stores with a number above `newer_than` the examples are taken first.
    """
    for feed in feeds:
        count = matching.without(connection, feed)
        if not count:
            continue
        one = count == 1
        names = some(matching.examples_without(connection, feed, min(_EXAMPLES, count), newer_than), count)
        if feed == "polls":
            yield f"{'1 store' if one else f'{count:,} stores'} with hours {'has' if one else 'have'} no polls: {names}"
            continue
        polled = "1 polled store has" if one else f"{count:,} polled stores have"
        counts = "it counts" if one else "they count"
        what = (
            f"no hours, so {counts} as open 24x7" if feed == "hours" else f"no time zone, so {counts} in {default_zone}"
        )
        yield f"{polled} {what}: {names}"


def alike(
    connection: sqlite3.Connection, ids: Sequence[str], chosen: Callable[[Sequence[str]], bool], most: int
) -> Iterator[str]:
    """Sentences about stores that look alike, of the chosen groups; at most so many, and how many more there are."""
    keys = lookalikes.keys_of(ids)
    said = [
        f"{some(group.ids[:_EXAMPLES], len(group.ids))} look alike: they differ only in {_joined(group.differences)}"
        for group in lookalikes.alike(ids, keys)
        if chosen(group.ids)
    ]
    doubtful = [found for found in lookalikes.rounded(ids, keys) if chosen((found.store_id, *found.originals))]
    feeds = matching.feeds_of(connection, [one for found in doubtful for one in (found.store_id, *found.originals)])
    for found in doubtful:
        own = feeds[found.store_id]
        # Real ids may end in zeros: of one store, two feeds have two ids.
        originals = [one for one in found.originals if _complement(own, feeds[one])]
        if originals:
            begin = "begins" if len(originals) == 1 else "begin"
            said.append(
                f"{shown(found.store_id)} looks like a number rounded by a spreadsheet (15 significant digits, then zeros); "
                f"{some(originals[:_EXAMPLES], len(originals))} {begin} as it does"
            )
    yield from said[:most]
    if len(said) > most:
        left = len(said) - most
        yield f"{'1 more group of stores looks' if left == 1 else f'{left:,} more groups of stores look'} alike"


def _complement(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether each of two stores has a feed that the other lacks."""
    pairs = list(zip(one, other, strict=True))
    return (1, 0) in pairs and (0, 1) in pairs


def _moved(connection: sqlite3.Connection, movers: Ints, before_us: int, after_us: int) -> str:
    days = (after_us - before_us) // DAY_US
    found = movers.tolist()
    names = stores.ids_of(connection, found[:_EXAMPLES])
    whose = f"{'1 store' if len(found) == 1 else f'{len(found):,} stores'} ({some(names, len(found))})"
    if len(found) <= _FEW_STORES:
        week_end = (before_us // WEEK_US + 1) * WEEK_US
        rows = len(polls.read(connection, movers, before_us + 1, min(week_end - 1, after_us)))
        if after_us >= week_end:
            rows += sum(store_facts.poll_count(connection, number, week_end, after_us) for number in found)
        whose = f"{'1 row' if rows == 1 else f'{rows:,} rows'} of {whose}"
    which, what = (quote(names[0], safe=""), "that store") if len(found) == 1 else ("ID", "such a store")
    return (
        f"the newest poll moved by {days:,} {'day' if days == 1 else 'days'}, from {few_heard.minute_text(before_us)} to "
        f"{few_heard.minute_text(after_us)}, because of {whose}; reports and lists without an as-of speak of that "
        f"instant now. If it is a mistake, DELETE /api/v1/stores/{which} removes {what} with all its data"
    )


def _passed_over(items: Sequence[PassedOver]) -> Iterator[str]:
    for item in items[:_MOST_PASSED_OVER]:
        yield f"passed over: {item.name} ({item.reason})"
    left = len(items) - _MOST_PASSED_OVER
    if left > 0:
        yield f"passed over: {'1 more file' if left == 1 else f'{left:,} more files'}"


def _zone_rows(store_ids: Sequence[str]) -> str:
    return "a time zone row was rejected" if len(store_ids) == 1 else "time zone rows were rejected"


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
