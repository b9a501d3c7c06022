"""Notes about what a load changes for other data: feeds that do not meet, a newest poll that moves, files in conflict.

Below them, ids that look alike and are perhaps one store each: pure functions over whole lists of ids.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final
from urllib.parse import quote

import numpy as np

from storemon_flask.characters import count_text, join_words, list_ids, list_stores, quote_id, remove_invisible
from storemon_flask.clock import minute_text
from storemon_flask.database import polls, stores
from storemon_flask.database.connections import Connection
from storemon_flask.database.newest import future_polls, silence_note
from storemon_flask.feeds.hours import HoursSet
from storemon_flask.feeds.schema import TIMESTAMP_FUTURE
from storemon_flask.feeds.sources import Skipped
from storemon_flask.model import DAY_US, WEEK_US, Ints

_EXAMPLES: Final = 3
_FILES_NAMED: Final = 5
_MOST_GROUPS: Final = 5
_MOST_LISTED: Final = 50
_MOST_SKIPPED: Final = 8
# The rows that moved the newest poll are counted for at most so many stores.
_FEW_STORES: Final = 20
# With more stores polled for the first time than these, it is taken for granted that one of them lacks hours or a zone.
_FEW_FIRST: Final = 500
_NUMBERS: Final = {2: "two", 3: "three", 4: "four", 5: "five"}
# Names of zones that stay on standard time all year, and the zones that most who write them mean.
_WITHOUT_DAYLIGHT_SAVING: Final = {"EST": "America/New_York", "MST": "America/Denver"}
_FEED_NAMES: Final = {
    "hours": "hours",
    "special_hours": "special hours",
    "timezones": "time zones",
    "stores": "names",
}


class LoadNotes:
    """Watches a load and builds its notes in the last of its transactions.

    What costs more than a look at what the load itself brought is done only when stores are new or polled for the
    first time, or hours or zones changed: a live shipper pushes a poll each second, and must neither wait nor get the
    same notes again.
    """

    def __init__(self, default_zone: str, skipped: Sequence[Skipped], files: int, now_us: int, latest_us: int) -> None:
        """`files` is how many the load has; only several can disagree about one store. Polls after `latest_us` are in
        the future.
        """
        self._default_zone = default_zone
        self._now_us, self._latest_us = now_us, latest_us
        self._skipped = skipped
        self._several = files > 1
        # Rows of polls, and how many of them were rejected because they are in the future.
        self._poll_rows = self._future_rows = 0
        self._files: dict[str, list[tuple[str, set[str]]]] = {}
        self._changed_feeds: set[str] = set()
        self._highest_before = -1
        # Ranges of numbers of new stores: above the first, up to the second.
        self._new: list[tuple[int, int]] = []
        self._applied: list[polls.Applied] = []
        self._zone_rejected: set[str] = set()
        self._zone_given: set[str] = set()
        self._abbreviated: dict[str, set[str]] = {abbreviation: set() for abbreviation in _WITHOUT_DAYLIGHT_SAVING}
        # Hours files, as they are read, in which nothing is on day 0.
        self.without_monday: list[str] = []
        # What the sources themselves have to say.
        self.of_sources: list[str] = []

    @contextmanager
    def watching(self, connection: Connection, feed: str) -> Iterator[None]:
        """Find out what is changed by the block, which applies a file, or the files of one feed."""
        highest, version = stores.highest_number(connection), stores.data_version(connection)
        if self._highest_before < 0:
            self._highest_before = highest
        yield
        now = stores.highest_number(connection)
        if now > highest:
            self._new.append((highest, now))
        if stores.data_version(connection) != version:
            self._changed_feeds.add(feed)

    def add_polls(self, applied: polls.Applied) -> None:
        """Take note of a file of polls that was applied."""
        self._applied.append(applied)

    def add_poll_rows(self, rows: int, reasons: Mapping[str, int]) -> None:
        """Take note of how many rows a file of polls has, and why how many of them were rejected."""
        self._poll_rows += rows
        self._future_rows += reasons.get(TIMESTAMP_FUTURE, 0)

    def add_zones(self, zones: Mapping[tuple[str, int], tuple[str, ...]], rejected_stores: set[str]) -> None:
        """Take note of the zones that a file gives, by store and date, and of the stores with a rejected row."""
        self._zone_rejected |= rejected_stores
        for (store_id, _), (zone,) in zones.items():
            self._zone_given.add(store_id)
            if zone in self._abbreviated:
                self._abbreviated[zone].add(store_id)

    def add_stores(self, feed: str, file: str, store_ids: set[str]) -> None:
        """Take note of which stores a file of zones or names is about."""
        if self._several:
            self._files.setdefault(feed, []).append((file, store_ids))

    def add_hours(self, feed: str, hours: HoursSet) -> None:
        """Take note of which stores the files of one replacement set are about."""
        if len(hours.files) > 1:
            self._files[feed] = hours.stores_by_file()

    def build(self, connection: Connection) -> list[str]:
        """Return all notes, in the transaction that ends the load."""
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
        """Return the notes about the files alone."""
        return [*self.of_sources, *self._clock_behind(), *self._shared(), *_skipped(self._skipped)]

    def _clock_behind(self) -> Iterator[str]:
        """Half of the polls or more were rejected because they are later than the clock: perhaps that is wrong."""
        future, rows = self._future_rows, self._poll_rows
        if future and 2 * future >= rows:
            which = "the poll is" if rows == 1 else f"{future:,} of {rows:,} polls {'is' if future == 1 else 'are'}"
            yield (
                f"this machine's clock says {minute_text(self._now_us)}; {which} later than that and rejected. "
                "If the clock is wrong, set it and load them again"
            )

    def _future_polls(self, connection: Connection) -> Iterator[str]:
        """One of the load's stores has polls that were stored while the clock was ahead."""
        if any(int(one.before_us.max(initial=-1)) > self._latest_us for one in self._applied):
            sentence = future_polls(stores.polled_after(connection, self._latest_us))
            if sentence:
                yield sentence

    def _newest_moved(self, connection: Connection) -> Iterator[str]:
        """The newest poll of all moved by more than a day, because of few stores."""
        if not self._applied:
            return
        number, before, newest = self._polled()
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
        if 2 * len(movers) <= silent:
            yield _movers(connection, movers, before_us, after_us)

    def _polled(self) -> tuple[Ints, Ints, Ints]:
        """Each polled store of the load: number, newest poll before the load (-1: none), newest poll in it."""
        number, first, index = np.unique(
            np.concatenate([one.number for one in self._applied]), return_index=True, return_inverse=True
        )
        newest = np.full(len(number), -1)
        np.maximum.at(newest, index, np.concatenate([one.newest_us for one in self._applied]))
        return number, np.concatenate([one.before_us for one in self._applied])[first], newest

    def _new_stores(self, connection: Connection) -> Iterator[str]:
        total = sum(last - before for before, last in self._new)
        if total:
            ids = [
                store_id
                for before, last in self._new[:_EXAMPLES]
                for store_id in stores.ids_above(connection, before, min(_EXAMPLES, last - before))
            ]
            names = list_ids(ids[:_EXAMPLES], total)
            yield f"{count_text(total, 'store is', 'stores are')} new in this load: {names}"

    def _unmatched(self, connection: Connection) -> Iterator[str]:
        lacking = self._lacking(connection)
        hours = "hours" in self._changed_feeds or "hours" in lacking
        feeds = [
            *(["hours"] if hours else []),
            *(["timezones"] if "timezones" in self._changed_feeds or "timezones" in lacking else []),
            *(["polls"] if hours and stores.any_polls(connection) and stores.any_hours(connection) else []),
        ]
        yield from _unmatched_notes(connection, self._default_zone, self._highest_before, feeds)

    def _lacking(self, connection: Connection) -> set[str]:
        """Which of hours and zones a store lacks that was polled for the first time in this load."""
        if not self._applied:
            return set()
        number, before, _ = self._polled()
        first_polled = number[before < 0].tolist()
        if len(first_polled) > _FEW_FIRST:
            return {"hours", "timezones"}
        return {
            feed
            for feed in ("hours", "timezones")
            if first_polled and stores.any_without(connection, feed, first_polled)
        }

    def _abbreviated_zones(self) -> Iterator[str]:
        """Zones that exist, and are seldom those that are meant."""
        for abbreviation, store_ids in self._abbreviated.items():
            if store_ids:
                have = "has" if len(store_ids) == 1 else "have"
                yield (
                    f"{list_stores(sorted(store_ids))} {have} the time zone {abbreviation}, which knows no daylight "
                    "saving time; "
                    f"{_WITHOUT_DAYLIGHT_SAVING[abbreviation]} does"
                )

    def _without_monday(self) -> Iterator[str]:
        """Hours files whose days may be numbered from 1 and not, as they were read, from 0."""
        if self.without_monday:
            yield (
                f"no store has hours on day 0 (Monday) in {list_files(self.without_monday)}; if 1 means Monday and 7 "
                "Sunday there, "
                "load it again with --days iso (over HTTP with ?days=iso)"
            )

    def _rejected_zones(self, connection: Connection) -> Iterator[str]:
        """In which zone the stores count whose time zone row was rejected."""
        zones: dict[str, list[str]] = {store_id: [] for store_id in sorted(self._zone_rejected)}
        for (store_id, _), (name,) in sorted(stores.zones_of(connection, zones).items()):
            zones[store_id].append(name)
        default = [store_id for store_id, names in zones.items() if not names]
        given = [store_id for store_id, names in zones.items() if names and store_id in self._zone_given]
        earlier = [store_id for store_id, names in zones.items() if names and store_id not in self._zone_given]
        if default:
            count = "counts" if len(default) == 1 else "count"
            yield f"{_zone_rows(default)}: {list_stores(default)} {count} in {self._default_zone}, the default"
        for store_ids, one, several in (
            (earlier, "keeps the zone it had", "keep the zones they had"),
            (given, "counts in the zone of its other row", "count in the zones of their other rows"),
        ):
            if store_ids:
                names = list(dict.fromkeys(", then ".join(zones[store_id]) for store_id in store_ids))
                which = names[0] if len(names) == 1 else list_ids(names[:_EXAMPLES], len(names))
                what = one if len(store_ids) == 1 else several
                yield f"{_zone_rows(store_ids)}: {list_stores(store_ids)} {what}, {which}"

    def _alike(self, connection: Connection) -> Iterator[str]:
        """Stores that look alike, of which one at least is new."""
        if not self._new:
            return
        new = {
            store_id for before, last in self._new for store_id in stores.ids_above(connection, before, last - before)
        }
        yield from _alike_notes(connection, lambda group: not new.isdisjoint(group), _MOST_GROUPS)

    def _shared(self) -> Iterator[str]:
        """Files of this load that are about the same stores."""
        for feed, files in self._files.items():
            count = Counter(store_id for _, store_ids in files for store_id in store_ids)
            shared = {store_id for store_id, times in count.items() if times > 1}
            if not shared:
                continue
            names = [name for name, store_ids in files if not shared.isdisjoint(store_ids)]
            whose = f"{_FEED_NAMES[feed]} of {count_text(len(shared), 'store')}"
            yield (
                f"{whose} come from {_NUMBERS.get(len(names), f'{len(names):,}')} files: "
                f"{list_files(names)}; "
                + (
                    "their rows are put together, so leave the older file out if the newer one is to replace it"
                    if "hours" in feed
                    else f"{names[-1]}, the last one, counts"
                )
            )


def data_notes(connection: Connection, default_zone: str, latest_us: int) -> list[str]:
    """Return the notes about the data as they are now, whichever load brought them; polls after `latest_us` are in
    the future.
    """
    feeds = ["hours", "timezones"] if stores.any_polls(connection) else []
    if feeds and stores.any_hours(connection):
        feeds.append("polls")
    newest = polls.newest(connection, latest_us)
    few = None if newest.poll_us is None else silence_note(connection, newest.poll_us)
    return [
        *filter(None, (few, future_polls(newest.ahead))),
        *_unmatched_notes(connection, default_zone, 0, feeds),
        *_alike_notes(connection, lambda group: True, _MOST_LISTED),
    ]


def _unmatched_notes(connection: Connection, default_zone: str, newer_than: int, feeds: Sequence[str]) -> Iterator[str]:
    """How many polled stores have no hours or no zone, and how many stores with hours have no polls, with examples.

    Stores with a number above `newer_than` are the first examples.
    """
    for feed in feeds:
        count = stores.count_without(connection, feed)
        if not count:
            continue
        names = list_ids(stores.examples_without(connection, feed, min(_EXAMPLES, count), newer_than), count)
        if feed == "polls":
            yield f"{count_text(count, 'store with hours has', 'stores with hours have')} no polls: {names}"
            continue
        counts = "it counts" if count == 1 else "they count"
        what = (
            f"no hours, so {counts} as open 24x7" if feed == "hours" else f"no time zone, so {counts} in {default_zone}"
        )
        yield f"{count_text(count, 'polled store has', 'polled stores have')} {what}: {names}"


def _alike_notes(connection: Connection, chosen: Callable[[Sequence[str]], bool], most: int) -> Iterator[str]:
    """Sentences about the chosen groups of stores that look alike; at most so many, and how many more there are."""
    ids = stores.ids(connection)
    keys = _keys(ids)
    sentences = [
        f"{list_ids(group[:_EXAMPLES], len(group))} look alike: they differ only in {join_words(_differences(group))}"
        for group in _alike_ids(ids, keys)
        if chosen(group)
    ]
    rounded = [(store_id, others) for store_id, others in _rounded_ids(ids, keys) if chosen([store_id, *others])]
    feeds = stores.feeds_of(connection, [one for store_id, others in rounded for one in (store_id, *others)])
    for store_id, others in rounded:
        # Real ids may end in zeros: of one store, two feeds have two ids.
        originals = [other for other in others if _complement(feeds[store_id], feeds[other])]
        if originals:
            begin = "begins" if len(originals) == 1 else "begin"
            sentences.append(
                f"{quote_id(store_id)} looks like a number rounded by a spreadsheet (15 significant digits, then "
                "zeros); "
                f"{list_ids(originals[:_EXAMPLES], len(originals))} {begin} as it does"
            )
    yield from sentences[:most]
    left = len(sentences) - most
    if left > 0:
        yield f"{count_text(left, 'more group of stores looks', 'more groups of stores look')} alike"


def _complement(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether each of two stores has a feed that the other lacks."""
    pairs = list(zip(one, other, strict=True))
    return (1, 0) in pairs and (0, 1) in pairs


def _movers(connection: Connection, movers: Ints, before_us: int, after_us: int) -> str:
    days = (after_us - before_us) // DAY_US
    numbers = movers.tolist()
    names = stores.ids_of(connection, numbers[:_EXAMPLES])
    whose = f"{count_text(len(numbers), 'store')} ({list_ids(names, len(numbers))})"
    if len(numbers) <= _FEW_STORES:
        week_end = (before_us // WEEK_US + 1) * WEEK_US
        rows = len(polls.read(connection, movers, before_us + 1, min(week_end - 1, after_us)))
        if after_us >= week_end:
            rows += sum(polls.count_of_store(connection, number, week_end, after_us) for number in numbers)
        whose = f"{count_text(rows, 'row')} of {whose}"
    which, what = (quote(names[0], safe=""), "that store") if len(numbers) == 1 else ("ID", "such a store")
    return (
        f"the newest poll moved by {count_text(days, 'day')}, from {minute_text(before_us)} to "
        f"{minute_text(after_us)}, because of {whose}; reports and lists without an as-of speak of that "
        f"instant now. If it is a mistake, DELETE /api/v1/stores/{which} removes {what} with all its data"
    )


def _skipped(items: Sequence[Skipped]) -> Iterator[str]:
    for item in items[:_MOST_SKIPPED]:
        yield f"passed over: {item.name} ({item.reason})"
    left = len(items) - _MOST_SKIPPED
    if left > 0:
        yield f"passed over: {count_text(left, 'more file')}"


def list_files(names: Sequence[str]) -> str:
    """Return the names of files, five of them where there are more."""
    more = f" and {len(names) - _FILES_NAMED:,} more" if len(names) > _FILES_NAMED else ""
    return ", ".join(names[:_FILES_NAMED]) + more


def _zone_rows(store_ids: Sequence[str]) -> str:
    return "a time zone row was rejected" if len(store_ids) == 1 else "time zone rows were rejected"


_BLANKS: Final = re.compile(r"[^\S\n]+")
_ZEROS: Final = re.compile(r"^0+(?=[0-9])", re.MULTILINE)
_POINT_ZERO: Final = re.compile(r"^([0-9]+)\.0+$", re.MULTILINE)
# So many significant digits does a spreadsheet keep of a number; what comes from JavaScript has up to two more.
_DIGITS: Final = 15
_ROUNDED: Final = re.compile(rf"[1-9][0-9]{{{_DIGITS - 1}}}[0-9]{{0,2}}0+")


def _unicode_form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


# What is taken away before ids are compared, and how that is called. Each step works on one id a line.
_STEPS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("the Unicode form of characters", _unicode_form),
    ("invisible characters", remove_invisible),
    ("case", str.casefold),
    ("blanks", lambda text: _BLANKS.sub("", text)),
    ("leading zeros", lambda text: _ZEROS.sub("", text)),
    ("a trailing .0", lambda text: _POINT_ZERO.sub(r"\1", text)),
)


def _keys(ids: Sequence[str], leave_out: str = "") -> list[str]:
    """What is left of each id when everything is taken away in which ids that look alike may differ (but
    `leave_out`).
    """
    text = "\n".join(ids)
    for name, step in _STEPS:
        if name != leave_out:
            text = step(text)
    return text.split("\n")


def _alike_ids(ids: Sequence[str], keys: Sequence[str]) -> list[list[str]]:
    """The groups of distinct ids that have one key, in the order of their first ids."""
    groups: dict[str, list[str]] = defaultdict(list)
    if len(set(keys)) < len(keys):
        for key, store_id in zip(keys, ids, strict=True):
            groups[key].append(store_id)
    return [group for group in groups.values() if len(group) > 1]


def _rounded_ids(ids: Sequence[str], keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The ids of 16 digits or more that are zeros from the 16th (or the 18th) on, each with the ids that begin as it
    does and become it when they are read as numbers.
    """
    candidates = {key for key in keys if key[-1:] == "0" and len(key) > _DIGITS and _ROUNDED.fullmatch(key)}
    if not candidates:
        return []
    # Rounding changes the digits before it by one at most.
    beginnings = {str(int(key[:_DIGITS]) - step) for key in candidates for step in (0, 1)}
    originals: dict[str, list[str]] = defaultdict(list)
    id_of: dict[str, str] = {}
    for key, store_id in zip(keys, ids, strict=True):
        if key[:_DIGITS] not in beginnings:
            continue
        if key in candidates:
            id_of[key] = store_id
        if len(key) > _DIGITS and key.isdecimal():
            for rounded in (_roundings(key) - {key}) & candidates:
                originals[rounded].append(store_id)
    return [(store_id, originals[key]) for key, store_id in id_of.items() if key in originals]


def _differences(group: list[str]) -> list[str]:
    """What tells the ids apart: every step without which they differ; of steps that each would do, the last."""
    needed = [name for name, _ in _STEPS if len(set(_keys(group, leave_out=name))) > 1]
    enough = [name for name, step in _STEPS if len({step(store_id) for store_id in group}) == 1]
    return needed or enough[-1:] or ["how they are written"]


def _roundings(digits: str) -> set[str]:
    """What software that reads a number makes of those digits: cut to 15 significant ones, rounded to 15, or a
    double.
    """
    zeros = "0" * (len(digits) - _DIGITS)
    cut = int(digits[:_DIGITS])
    up = cut + (digits[_DIGITS] >= "5")
    return {f"{cut}{zeros}", f"{up}{zeros}", f"{Decimal(repr(float(digits))):f}"}
