"""The overview: the fleet's week against the week before, its days, groups, hours of the week, and stores that stand
out. Every number is a sum of the measures that reports have, over windows that a report can be asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, TypeVar, cast

import numpy as np

from storemon_flask.clock import EPOCH
from storemon_flask.database import readings, stores
from storemon_flask.database.connections import Connection, Database
from storemon_flask.database.readings import Schedule
from storemon_flask.errors import Unprocessable
from storemon_flask.formatting import hundredths, knows_little, percent_hundredths
from storemon_flask.labels import GROUP, StoreLabels, codes_of
from storemon_flask.model import DAY_US, HOUR_US, SECOND_US, Bools, Ints, Rules
from storemon_flask.reports.day_sums import Progress, read_day_sums
from storemon_flask.reports.heatmap import read_heat_map
from storemon_flask.reports.likely import read_model, read_sums_in_zones
from storemon_flask.reports.windows import Window, named_window, range_in_zone, window_dates
from storemon_flask.stores.live_list import STATUS_ORDER, AsOf, Snapshot, find_lacking
from storemon_flask.uptime import zones
from storemon_flask.uptime.likely import likely_of_sums
from storemon_flask.uptime.measures import Periods, measure
from storemon_flask.uptime.status import STATUSES
from storemon_flask.uptime.zones import LocalClock

# The windows of the overview, in each store's own zone up to the as-of; the last is the same part of the week before.
WINDOWS: Final = ("today", "this_week", "this_month", "previous_this_week")
# Those with a likely range: that of a month would cost more than all else.
LIKELY_WINDOWS: Final = WINDOWS[:2]
TREND_DAYS: Final = (30, 90)
# Days of the small chart beside a group, and of the heat map.
RECENT_DAYS: Final = 7
HEAT_DAYS: Final = 28
MOST_LISTED: Final = 10
# What groups are made by, beside labels.
TIMEZONE: Final = "timezone"
GROUP_SORTS: Final = (
    "name", "stores", "down", *WINDOWS[:3], "change", "worst_store", "without_hours", "without_timezone",
)  # fmt: skip
_MEASURES: Final = ("uptime", "downtime", "unknown", "uptime_low", "uptime_high")
_EPOCH_DATE: Final = EPOCH.date()
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Sums:
    """Business time of some stores in a window, in microseconds; percentages in hundredths, -1 where there is none."""

    uptime: int = 0
    downtime: int = 0
    unknown: int = 0
    uptime_low: int = 0
    uptime_high: int = 0
    # The likely range of uptime (SPEC 3.8); -1 where there is none, or it is not computed.
    likely_low: int = -1
    likely_high: int = -1

    @property
    def business(self) -> int:
        """All business time."""
        return self.uptime + self.downtime + self.unknown

    @property
    def percent(self) -> int:
        """Uptime of the time that is known."""
        return _percent(self.uptime, self.uptime + self.downtime)

    @property
    def percent_low(self) -> int:
        """The least that uptime can have been of all business time."""
        return _percent(self.uptime_low, self.business)

    @property
    def percent_high(self) -> int:
        """The most that it can have been."""
        return _percent(self.uptime_high, self.business)

    @property
    def percent_likely(self) -> tuple[int, int]:
        """The likely range of the percentage; -1 for both where there is none."""
        known = self.uptime + self.downtime
        low, high = (_percent(bound, known) if bound >= 0 else -1 for bound in (self.likely_low, self.likely_high))
        return low, high

    @property
    def little_known(self) -> bool:
        """Whether the percentage knows little (SPEC 4)."""
        return bool(knows_little(self.hundredths("unknown"), self.hundredths("business")))

    def hundredths(self, name: str) -> int:
        """Return an amount in hundredths of an hour, as reports print it."""
        return int(hundredths(np.array(getattr(self, name)), HOUR_US))


def _percent(part: int, whole: int) -> int:
    return int(percent_hundredths(np.array([part]), np.array([whole]))[0])


def change_between(before: Sums, after: Sums) -> int | None:
    """Return the change of the percentage in hundredths of a percentage point; None where one of both is missing."""
    return None if before.percent < 0 or after.percent < 0 else after.percent - before.percent


@dataclass(frozen=True, slots=True)
class DayRow:
    """A local date (days since 1970-01-01) of all stores."""

    day: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A store that stands out: its week, and the same part of the week before."""

    store_id: str
    name: str
    group: str
    timezone: str
    status: str
    week: Sums
    previous_week: Sums

    @property
    def change(self) -> int | None:
        """The change of its percentage, in hundredths of a percentage point."""
        return change_between(self.previous_week, self.week)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group of stores (`name` empty: the stores without one): its windows by name, its last days, and its store with
    the lowest uptime of the week, if there is one."""

    name: str
    stores: int
    down: int
    windows: dict[str, Sums]
    days: list[DayRow]
    worst: StoreRow | None
    without_hours: int
    without_timezone: int

    @property
    def change(self) -> int | None:
        """The change of the week's percentage, in hundredths of a percentage point."""
        return change_between(self.windows["previous_this_week"], self.windows["this_week"])


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """Everything that the overview says of all stores, by index of the store where it has an entry for each.

    `windows` has for each of `WINDOWS` the `_MEASURES` of each store; `days` the sums of all stores on the dates from
    `first_day` on, `recent` those of each store on the last `RECENT_DAYS` of them; `status` an index into `STATUSES`;
    `hours` what `uptime.heatmap` has of all stores, by weekday and hour.
    """

    as_of: AsOf
    made_us: int
    data_version: int
    ids: list[str]
    names: list[str]
    groups: list[str]
    timezones: list[str]
    status: Ints
    without_hours: Bools
    without_timezone: Bools
    windows: dict[str, dict[str, Ints]]
    first_day: int
    days: dict[str, Ints]
    recent: dict[str, Ints]
    labels: StoreLabels
    hours: dict[str, Ints]
    # From when to when, as local dates, the second outside it.
    heat_days: tuple[int, int]
    # For each of `LIKELY_WINDOWS` what the likely range of any stores is computed from (`reports.likely.read_sums`).
    likely: dict[str, dict[str, Ints]]
    # Orders and groups, made when they are first asked for.
    derived: dict[object, object] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many stores have each status."""
        numbers = np.bincount(self.status, minlength=len(STATUSES)).tolist()
        return {word: numbers[STATUSES.index(word)] for word in STATUS_ORDER}

    def fleet(self, window: str) -> Sums:
        """Return the sums of all stores in one of `WINDOWS`."""
        sums = Sums(*(int(self.windows[window][name].sum()) for name in _MEASURES))
        if window not in self.likely:
            return sums
        bounds = likely_of_sums({name: values.sum() for name, values in self.likely[window].items()})
        return replace(sums, **{name: int(bound) for name, bound in bounds.items()})

    @property
    def change(self) -> int | None:
        """The change of the fleet's week, in hundredths of a percentage point."""
        return change_between(self.fleet("previous_this_week"), self.fleet("this_week"))


def compute_overview(
    database: Database, snapshot: Snapshot, rules: Rules, default_zone: str, progress: Progress = lambda share: None
) -> Overview:
    """Return the overview at the snapshot's as-of, computed from the data of one transaction."""
    as_of_us = snapshot.as_of.as_of_us
    with database.read() as connection:
        version = stores.data_version(connection)
        schedule = readings.read_schedule(database, connection, default_zone, None, as_of_us)
        dates = _Dates.of(schedule, as_of_us)
        sums = read_day_sums(
            database, connection, schedule, dates.first, dates.last, as_of_us, rules,
            lambda share: progress(0.5 * share),
        )  # fmt: skip
        before = _measure_part(connection, schedule, dates, as_of_us, rules)
        progress(0.6)
        heat_map = read_heat_map(
            connection, schedule, dates.heat_window, as_of_us, rules, progress=lambda share: progress(0.6 + 0.3 * share)
        )
        lacking = find_lacking(connection, schedule)
        likely = _read_likely(database, connection, schedule, as_of_us, rules, default_zone)
    by_day = {name: sums.sums[name].reshape(len(schedule.ids), dates.count) for name in _MEASURES}
    return Overview(
        snapshot.as_of,
        snapshot.made_us,
        version,
        schedule.ids,
        schedule.names,
        schedule.groups,
        schedule.zone_of_store,
        _statuses(snapshot, schedule.ids),
        lacking["hours"],
        lacking["zone"],
        _windows(by_day, dates, before),
        dates.first,
        {name: values.sum(axis=0) for name, values in by_day.items()},
        {name: values[:, -RECENT_DAYS:].copy() for name, values in by_day.items()},
        schedule.labels,
        heat_map.fleet,
        (dates.last + 1 - HEAT_DAYS, dates.last + 1),
        likely,
    )


def _read_likely(
    database: Database,
    connection: Connection,
    schedule: Schedule,
    as_of_us: int,
    rules: Rules,
    default_zone: str,
) -> dict[str, dict[str, Ints]]:
    """Return for each of `LIKELY_WINDOWS` what the likely range of any stores is computed from."""
    if not schedule.ids:
        return {}
    model = read_model(database, connection, default_zone, as_of_us, rules)
    begins = [
        np.array([range_in_zone(named_window(name), zone, as_of_us)[0] for zone in schedule.zone_names], dtype=np.int64)
        for name in LIKELY_WINDOWS
    ]
    sums = read_sums_in_zones(model, connection, schedule, begins, as_of_us, as_of_us, rules)
    return dict(zip(LIKELY_WINDOWS, sums, strict=True))


@dataclass(frozen=True, slots=True)
class _Dates:
    """The local dates that are read, `first` to `last`; and of each store the date and the wall clock at the as-of."""

    first: int
    last: int
    today: Ints
    wall_us: Ints

    @classmethod
    def of(cls, schedule: Schedule, as_of_us: int) -> "_Dates":
        """Return the dates of a schedule: as many as the trend has, up to the latest date of all."""
        wall_us = np.array([_wall_clock_us(zone, as_of_us) for zone in schedule.zone_names], dtype=np.int64)
        zone_of = np.concatenate([batch.zone_of for batch in schedule.batches])
        last = int(wall_us[zone_of].max(initial=as_of_us)) // DAY_US if len(zone_of) else as_of_us // DAY_US
        return cls(last + 1 - max(TREND_DAYS), last, wall_us[zone_of] // DAY_US, wall_us)

    @property
    def count(self) -> int:
        """How many dates are read."""
        return self.last + 1 - self.first

    @property
    def heat_window(self) -> Window:
        """The window of the heat map."""
        return Window(
            "heat map", from_us=(self.last + 1 - HEAT_DAYS) * DAY_US, to_us=(self.last + 1) * DAY_US, local=True
        )

    def first_of(self, window: str) -> Ints:
        """Return for each store the first date of one of the calendar windows of reports."""
        dates, index = np.unique(self.today, return_inverse=True)
        firsts = [window_dates(window, _EPOCH_DATE + timedelta(days=day))[0] for day in dates.tolist()]
        days: Ints = np.array([(first - _EPOCH_DATE).days for first in firsts], dtype=np.int64)[index]
        return days


def _wall_clock_us(zone: str, instant_us: int) -> int:
    """Return what the zone's wall clock shows at an instant, in microseconds as if it were UTC."""
    offset = zones.wall_clock(instant_us, zone).utcoffset()
    assert offset is not None
    return instant_us + (offset.days * 86_400 + offset.seconds) * SECOND_US


def _windows(by_day: dict[str, Ints], dates: _Dates, before: dict[str, Ints]) -> dict[str, dict[str, Ints]]:
    """Return the `_MEASURES` of each store in each of `WINDOWS`; `before` are those of the day a week ago, up to now on
    the wall clock."""
    day = np.arange(dates.first, dates.last + 1)
    today, monday = dates.today[:, None], dates.first_of("this_week")[:, None]
    chosen = {
        "today": day == today,
        "this_week": (day >= monday) & (day <= today),
        "this_month": (day >= dates.first_of("this_month")[:, None]) & (day <= today),
        "previous_this_week": (day >= monday - 7) & (day < today - 7),
    }
    windows = {
        window: {name: (values * mask).sum(axis=1) for name, values in by_day.items()}
        for window, mask in chosen.items()
    }
    windows["previous_this_week"] = {
        name: values + before[name] for name, values in windows["previous_this_week"].items()
    }
    return windows


def _measure_part(
    connection: Connection, schedule: Schedule, dates: _Dates, as_of_us: int, rules: Rules
) -> dict[str, Ints]:
    """Return the `_MEASURES` of each store on the last day of the period before this week, up to its end."""
    sums = {name: np.zeros(len(schedule.ids), dtype=np.int64) for name in _MEASURES}
    if not schedule.ids:
        return sums
    midnight = dates.wall_us // DAY_US * DAY_US - 7 * DAY_US
    clock = LocalClock(schedule.zone_names, int(midnight.min()), int(midnight.max()))
    begin = clock.to_utc(midnight, np.arange(len(schedule.zone_names)))
    before = replace(named_window("this_week"), previous=True)
    end = np.array([range_in_zone(before, zone, as_of_us)[1] for zone in schedule.zone_names], dtype=np.int64)
    for reading in readings.read_batches(connection, schedule, int(begin.min()), int(end.max()), as_of_us, rules):
        of_store = reading.batch.zone_of
        periods = Periods(np.arange(len(reading)), begin[of_store], np.maximum(end, begin)[of_store])
        measures = measure(reading.openings, reading.evidence, periods, as_of_us)
        for name in _MEASURES:
            sums[name][reading.first : reading.first + len(reading)] = measures[name]
    return sums


def _statuses(snapshot: Snapshot, ids: list[str]) -> Ints:
    """Return the status of each store; a store that came after the snapshot has no data yet."""
    if snapshot.ids == ids:
        return snapshot.columns["status"]
    status_of = dict(zip(snapshot.ids, snapshot.columns["status"].tolist(), strict=True))
    return np.array([status_of.get(store_id, STATUSES.index("no_data")) for store_id in ids], dtype=np.int64)


def trend(overview: Overview, days: int) -> list[DayRow]:
    """Return the last so many local dates of all stores (at most 90), oldest first."""
    return _day_rows(overview.first_day + len(overview.days["uptime"]) - days, overview.days, days)


def _day_rows(first_day: int, sums: dict[str, Ints], days: int) -> list[DayRow]:
    columns = [sums[name][-days:].tolist() for name in _MEASURES]
    return [DayRow(first_day + index, Sums(*values)) for index, values in enumerate(zip(*columns, strict=True))]


def worst_stores(overview: Overview) -> list[StoreRow]:
    """Return the stores with the lowest uptime of this week, those that know little only after all that know enough."""
    order = _cached(overview, "worst", lambda: _order_of_worst(overview))
    return [store_row(overview, index) for index in order[:MOST_LISTED].tolist()]


def most_changed_stores(overview: Overview) -> list[StoreRow]:
    """Return the stores whose week differs most from the same part of the week before; of those that know enough of
    both."""
    order = _cached(overview, "changed", lambda: _order_of_changed(overview))
    return [store_row(overview, index) for index in order[:MOST_LISTED].tolist()]


def store_row(overview: Overview, index: int) -> StoreRow:
    """Return the store at that index."""
    week, previous = (
        Sums(*(int(overview.windows[window][name][index]) for name in _MEASURES))
        for window in ("this_week", "previous_this_week")
    )
    return StoreRow(
        overview.ids[index],
        overview.names[index],
        overview.groups[index],
        overview.timezones[index],
        STATUSES[int(overview.status[index])],
        week,
        previous,
    )


def _cached(overview: Overview, key: object, make: Callable[[], _Made]) -> _Made:
    if key not in overview.derived:
        overview.derived[key] = make()
    return cast("_Made", overview.derived[key])


def _percentages(overview: Overview, window: str) -> tuple[Ints, Bools]:
    """Return the percentage of each store in hundredths, and whether it knows little."""
    sums = overview.windows[window]
    unknown, business = (hundredths(values, HOUR_US) for values in (sums["unknown"], _business(sums)))
    percent = percent_hundredths(sums["uptime"], sums["uptime"] + sums["downtime"])
    return percent, knows_little(unknown, business)


def _business(sums: dict[str, Ints]) -> Ints:
    business: Ints = sums["uptime"] + sums["downtime"] + sums["unknown"]
    return business


def _order_of_worst(overview: Overview) -> Ints:
    percent, little = _percentages(overview, "this_week")
    order = np.lexsort((_ranks(overview.ids), -overview.windows["this_week"]["downtime"], percent, little))
    # A store that was up all the time is none of the worst.
    below: Ints = order[(percent[order] >= 0) & (overview.windows["this_week"]["downtime"][order] > 0)]
    return below


def _order_of_changed(overview: Overview) -> Ints:
    (after, little), (before, little_before) = (
        _percentages(overview, window) for window in ("this_week", "previous_this_week")
    )
    size = np.where((after < 0) | (before < 0) | little | little_before, 0, np.abs(after - before))
    order = np.lexsort((_ranks(overview.ids), -size))
    changed: Ints = order[size[order] > 0]
    return changed


def _ranks(texts: Sequence[str]) -> Ints:
    """Return each text's place in code point order."""
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    return ranks


def groupings(overview: Overview) -> tuple[str, ...]:
    """Return what groups of its stores can be made by."""
    names = [name for name in overview.labels.names if name != GROUP]
    return (GROUP, *names, TIMEZONE)


def check_grouping(overview: Overview, by: str) -> None:
    """`Unprocessable` when groups cannot be made by that."""
    allowed = groupings(overview)
    if by not in allowed:
        sentence = f"is {by[:100]!r}; it must be one of {', '.join(allowed)}; other labels come with the stores feed"
        raise Unprocessable(f"by {sentence}", errors={"by": [sentence]})


def group_rows(overview: Overview, by: str, sort: str = "this_week", descending: bool = False) -> list[GroupRow]:
    """Return the groups of stores in an order of `GROUP_SORTS`: percentages that know little come after the others, and
    groups without a value last, either way."""
    rows = _cached(overview, ("groups", by), lambda: _make_groups(overview, by))
    sign = -1 if descending else 1

    def key(row: GroupRow) -> tuple[int, int]:
        """Return whether a row has no value, or one that knows little; and the value."""
        if sort in WINDOWS or sort == "worst_store":
            sums = row.windows[sort] if sort in WINDOWS else row.worst.week if row.worst else Sums()
            return (2 if sums.percent < 0 else 1 if sums.little_known else 0), sign * sums.percent
        value = getattr(row, sort)
        return (2 if value is None else 0), sign * (value or 0)

    rows = sorted(rows, key=lambda row: row.name, reverse=descending and sort == "name")
    # What has no name is no group, and stands below the others.
    rows = rows if sort == "name" else sorted(rows, key=key)
    return [row for row in rows if row.name] + [row for row in rows if not row.name]


def _make_groups(overview: Overview, by: str) -> list[GroupRow]:
    names, code = codes_of(overview.timezones) if by == TIMEZONE else overview.labels.codes(by)

    def add(values: Ints | Bools) -> Ints:
        """Return the sums of each group."""
        sums = np.zeros((len(names), *values.shape[1:]), dtype=np.int64)
        np.add.at(sums, code, values.astype(np.int64))
        return sums

    windows = {
        window: {name: add(values).tolist() for name, values in measures.items()}
        for window, measures in overview.windows.items()
    }
    likely = {
        window: likely_of_sums({name: add(values) for name, values in sums.items()})
        for window, sums in overview.likely.items()
    }
    for window, bounds in likely.items():
        windows[window] |= {name: values.tolist() for name, values in bounds.items()}
    recent = {name: add(values) for name, values in overview.recent.items()}
    first_day = overview.first_day + len(overview.days["uptime"]) - RECENT_DAYS
    counts = [
        add(values).tolist()
        for values in (
            np.ones(len(code), dtype=np.int64),
            overview.status == STATUSES.index("down"),
            overview.without_hours,
            overview.without_timezone,
        )
    ]
    worst: dict[int, int] = {}
    for index in reversed(_cached(overview, "worst", lambda: _order_of_worst(overview)).tolist()):
        worst[int(code[index])] = index
    return [
        GroupRow(
            name,
            counts[0][group],
            counts[1][group],
            {window: Sums(**{one: values[group] for one, values in sums.items()}) for window, sums in windows.items()},
            _day_rows(first_day, {one: values[group] for one, values in recent.items()}, RECENT_DAYS),
            store_row(overview, worst[group]) if group in worst else None,
            counts[2][group],
            counts[3][group],
        )
        for group, name in enumerate(names)
    ]


def hour_sums(overview: Overview) -> list[list[Sums]]:
    """Return the sums of each hour of each weekday, Monday first; nothing is said of the least and the most."""
    hours = overview.hours
    return [
        [Sums(*values) for values in zip(up.tolist(), down.tolist(), unknown.tolist(), strict=True)]
        for up, down, unknown in zip(hours["uptime"], hours["downtime"], hours["unknown"], strict=True)
    ]
