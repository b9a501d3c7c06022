"""The likely range of uptime: what a two-state Markov model says of the time between polls (SPEC 3.8).

A store is up or down; each minute of business time it falls with one chance and recovers with another. The two rates
are fitted on neighbouring polls of the fleet. Given the polls at its two ends, the down time hidden in a gap then has a
distribution, on a grid of whole minutes; that of a period is the convolution of those of its gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storemon_flask.model import DAY_US, MINUTE_US, SECOND_US, Bools, Ints, Rules
from storemon_flask.uptime.evidence import Evidence
from storemon_flask.uptime.measures import Edges, Periods, RunningSums
from storemon_flask.uptime.zones import block_size

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

# Neighbouring polls of this long before the as-of are what the model is fitted on.
FITTED_US: Final = 28 * DAY_US
# So many neighbours that are both inactive must there be, more than chance gives; and more than the noise of that
# number, in standard deviations.
FEWEST_BOTH_DOWN: Final = 30
_NOISE: Final = 4.0
# The range leaves out this much at each end.
TAIL: Final = 0.05
# Quantile of the normal distribution at 1 - `TAIL`.
_DEVIATIONS: Final = 1.6448536269514722
# No range where more than this share (a tenth) of the business time is outside what the model covers.
_MOST_OUTSIDE: Final = 10
# Longer gaps are outside, whatever the max gap is.
_LONGEST: Final = 12 * 60
_OPEN: Final = 2
# What is computed at once: pairs of a period and a gap in it, and cells of distributions.
_PAIRS_AT_ONCE: Final = 400_000
_CELLS_AT_ONCE: Final = 1 << 20

# What is summed over stores to give the likely range of them all, beside `uptime.measures.MEASURES`: business time that
# the model covers and mean down time in microseconds, variance in square seconds, third cumulant in cubic minutes, and
# how the mean moves with the two fitted rates, in microseconds for each standard deviation.
SUMS: Final = ("likely_covered", "likely_down", "likely_variance", "likely_third", "likely_first", "likely_second")
# Bounds of uptime in microseconds; -1 where there is no range.
BOUNDS: Final = ("likely_low", "likely_high")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Neighbouring polls of one opening, no further apart than the max gap, by status and by gap in whole minutes.

    Rows are 2 x the first poll + the second (1: inactive), columns minutes; `total_us` is the sum of the exact gaps.
    """

    count: Ints = field(default_factory=lambda: np.zeros((4, _LONGEST + 1), dtype=np.int64))
    total_us: Ints = field(default_factory=lambda: np.zeros((4, _LONGEST + 1), dtype=np.int64))

    def __add__(self, other: "Neighbours") -> "Neighbours":
        return Neighbours(self.count + other.count, self.total_us + other.total_us)

    @property
    def median_minutes(self) -> int:
        """The median gap in whole minutes, at least 1; 0 without neighbours."""
        running = np.cumsum(self.count.sum(axis=0))
        return max(int(np.searchsorted(running, (running[-1] + 1) // 2)), 1) if running[-1] else 0


def count_neighbours(evidence: Evidence, from_us: int) -> Neighbours:
    """Return the neighbours in the evidence of which the first was polled at `from_us` or later."""
    instant, down = evidence.instant_us, (~evidence.active).astype(np.int64)
    gap_us = instant[1:] - instant[:-1]
    chosen = evidence.followed[:-1] & (instant[:-1] >= from_us)
    minutes = (gap_us + MINUTE_US // 2) // MINUTE_US
    chosen &= minutes <= _LONGEST
    cell = ((2 * down[:-1] + down[1:]) * (_LONGEST + 1) + minutes)[chosen]
    size = 4 * (_LONGEST + 1)
    count = np.bincount(cell, minlength=size).astype(np.int64)
    total_us = np.zeros(size, dtype=np.int64)
    np.add.at(total_us, cell, gap_us[chosen])
    return Neighbours(count.reshape(4, -1), total_us.reshape(4, -1))


@dataclass(frozen=True, slots=True)
class LikelyModel:
    """Rates per minute at which stores fall and recover, and of how many neighbours they were learned.

    `every_minutes` is the median gap between them (0: there are none). `directions` are the two independent directions
    in which the logarithms of the rates are uncertain, one standard deviation long. `reason`: why there is no range;
    empty where there is one.
    """

    fall: float = 0.0
    recover: float = 0.0
    directions: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    neighbours: int = 0
    both_down: int = 0
    by_chance: float = 0.0
    every_minutes: int = 0
    reason: str = ""

    @property
    def up_minutes(self) -> float:
        """How long a store is up on average before it falls, in minutes of business time."""
        return 1 / self.fall

    @property
    def down_minutes(self) -> float:
        """How long an outage lasts on average, in minutes of business time."""
        return 1 / self.recover


def fit(neighbours: Neighbours) -> LikelyModel:
    """Return the model by maximum likelihood; one with a reason where the neighbours cannot say how long outages last.

    Inactive polls that do not come in a row, such as errors of the poller, say nothing of lengths: those that are
    neighbours by chance do not count.
    """
    count = neighbours.count
    total, both_down = int(count.sum()), int(count[3].sum())
    by_chance = int(count[2:].sum()) * int(count[[1, 3]].sum()) / max(total, 1)
    excess = both_down - by_chance
    counted = LikelyModel(
        neighbours=total,
        both_down=both_down,
        by_chance=round(by_chance, 1),
        every_minutes=neighbours.median_minutes,
    )
    reason = ""
    if excess < FEWEST_BOTH_DOWN or excess < _NOISE * by_chance**0.5:
        reason = (
            f"the fleet's last 28 days have {both_down:,} pairs of neighbouring inactive polls, and chance alone gives "
            f"{by_chance:,.0f}; at least {FEWEST_BOTH_DOWN} more must there be to learn how long outages last"
        )
    elif not count[1].sum() or not count[2].sum():
        reason = "in the fleet's last 28 days no outage both began and ended between two neighbouring polls"
    if reason:
        return replace(counted, reason=reason)
    kind, minute = np.nonzero(count)
    weight = count[kind, minute].astype(np.float64)
    length = neighbours.total_us[kind, minute] / weight / MINUTE_US
    at = _most_likely(kind, weight, length)
    fall, recover = float(np.exp(at[0])), float(np.exp(at[1]))
    return replace(counted, fall=fall, recover=recover, directions=_uncertainty(at, kind, weight, length))


def _loss(log_fall: Any, log_recover: Any, kind: Ints, weight: Floats, length: Floats) -> Any:
    """Return minus the logarithm of the likelihood, for each of the rates."""
    fall, recover = np.exp(log_fall)[..., None], np.exp(log_recover)[..., None]
    gone = -np.expm1(-(fall + recover) * length) / (fall + recover)
    falls, recovers = fall * gone, recover * gone
    chance = np.choose(kind, [1 - falls, falls, recovers, 1 - recovers])
    return -(np.log(np.maximum(chance, 1e-300)) * weight).sum(axis=-1)


def _most_likely(kind: Ints, weight: Floats, length: Floats) -> tuple[float, float]:
    """Return the logarithms of the most likely rates, by ever finer grids."""
    # Up for an hour to three years, down for half a minute to two months.
    low, high = np.log([1 / (3 * 525_600), 1 / 86_400]), np.log([1 / 60, 2.0])
    center, half = (low + high) / 2, (high - low) / 2
    size = 25
    while half.max() > 1e-7:
        steps = np.linspace(-1, 1, size)
        fall, recover = np.meshgrid(center[0] + half[0] * steps, center[1] + half[1] * steps, indexing="ij")
        best = np.unravel_index(np.argmin(_loss(fall, recover, kind, weight, length)), fall.shape)
        center = np.clip([fall[best], recover[best]], low, high)
        half, size = half * 2.5 * 2 / (size - 1), 11
    return float(center[0]), float(center[1])


def _uncertainty(
    at: tuple[float, float], kind: Ints, weight: Floats, length: Floats
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the columns of a square root of the covariance of the logarithms of the rates."""
    step = 1e-3
    moves = np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [0, 0]]) * step
    loss = _loss(at[0] + moves[:, 0], at[1] + moves[:, 1], kind, weight, length)
    first = (loss[0] + loss[1] - 2 * loss[6]) / step**2
    second = (loss[2] + loss[3] - 2 * loss[6]) / step**2
    both = (loss[4] + loss[5] - loss[0] - loss[1] - loss[2] - loss[3] + 2 * loss[6]) / (2 * step**2)
    determinant = first * second - both**2
    if not (first > 0 and second > 0 and determinant > 0):
        return ((0.0, 0.0), (0.0, 0.0))
    of_fall, shared, of_recover = second / determinant, -both / determinant, first / determinant
    root = of_fall**0.5
    rest = max(of_recover - (shared / root) ** 2, 0.0) ** 0.5
    return ((float(root), float(shared / root)), (0.0, float(rest)))


def _moves(fall: float, recover: float, minutes: Any) -> tuple[Any, Any]:
    """Return the chances that a store that is up is down after so long, and that one that is down is up."""
    gone = -np.expm1(-(fall + recover) * np.asarray(minutes, dtype=np.float64)) / (fall + recover)
    return fall * gone, recover * gone


def _chance(fall: float, recover: float, start: Ints, end: Ints, minutes: Ints) -> Floats:
    """Return the chance that a store in one status is in the other after so long; statuses are 1 for down."""
    falls, recovers = _moves(fall, recover, minutes)
    chance: Floats = np.choose(2 * start + end, [1 - falls, falls, recovers, 1 - recovers])
    return chance


def _mean(fall: float, recover: float, gaps: "_Gaps") -> Floats:
    """Return the mean down minutes between two cells of gaps, given their ends, in continuous time."""
    total = fall + recover
    begin, stop, minutes = (column.astype(np.float64) for column in (gaps.begin, gaps.stop, gaps.minutes))
    down, up = fall / total, recover / total
    # The chance to be down after t is `down + tilt e^-t`; from down the end is met after t with `ahead + back e^-t`.
    tilt = np.where(gaps.first == 1, up, -down)
    is_open = gaps.second == _OPEN
    ahead = np.where(is_open, 1.0, np.where(gaps.second == 1, down, up))
    back = np.where(is_open, 0.0, np.where(gaps.second == 1, up, -up))
    forward = (np.exp(-total * begin) - np.exp(-total * stop)) / total
    backward = (np.exp(-total * (minutes - stop)) - np.exp(-total * (minutes - begin))) / total
    mass = down * ahead * (stop - begin) + tilt * ahead * forward + down * back * backward
    mass += tilt * back * np.exp(-total * minutes) * (stop - begin)
    second = np.where(is_open, 0, gaps.second)
    reached = np.where(is_open, 1.0, _chance(fall, recover, gaps.first, second, gaps.minutes))
    mean: Floats = mass / np.maximum(reached, 1e-300)
    return mean


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Cells `begin` up to `stop` of gaps of so many minutes: the status at the near end and at the far one (1: down,
    `_OPEN`: not known). The model looks the same forwards and backwards: a gap before an opening's first poll begins at
    that poll."""

    first: Ints
    second: Ints
    minutes: Ints
    begin: Ints
    stop: Ints

    def pick(self, rows: Bools | Ints) -> "_Gaps":
        """Return those."""
        return _Gaps(*(getattr(self, name)[rows] for name in _Gaps.__slots__))


@dataclass(frozen=True, slots=True)
class _Covered:
    """The time that the model covers, by store, then start: between neighbouring polls, and from an opening's first
    and last poll to its edges."""

    store: Ints
    start_us: Ints
    end_us: Ints
    first: Ints
    second: Ints
    backwards: Bools

    def __len__(self) -> int:
        return len(self.store)


class Distributions:
    """Distributions of the down minutes hidden in whole gaps, of each kind and length; made as long as is needed.

    Kinds: both ends up, ends that differ, both down, and from an up or a down poll to an end that is not known.
    """

    KINDS: Final = 5
    # Class numbers are `kind x _STRIDE + minutes`.
    STRIDE: Final = _LONGEST + 1

    def __init__(self, model: LikelyModel, rules: Rules) -> None:
        self.model, self.rules = model, rules
        self._chances: Floats = np.empty((self.KINDS, 0, 1))

    def of(self, classes: Ints) -> Floats:
        """Return the chance of each number of down minutes, from 0, a row for each class."""
        kind, minutes = np.divmod(classes, self.STRIDE)
        longest = int(minutes.max(initial=0))
        # Threads share a model: another one may put its own table in place at any time.
        table = self._chances
        if longest >= table.shape[1]:
            table = self._chances = self._build(max(longest, 90))
        chances: Floats = table[kind, minutes, : longest + 1]
        return chances

    def _build(self, longest: int) -> Floats:
        """Return the chances of gaps of up to `longest` minutes, by kind, minutes and down minutes.

        Paths are counted minute by minute: `path[x, y, k]` is the chance to come from x to y with k down in between.
        A minute of which one edge is down counts as down by half a chance.
        """
        fall, recover = self.model.fall, self.model.recover
        falls, recovers = _moves(fall, recover, 1)
        step = np.array([[1 - falls, falls], [recovers, 1 - recovers]])
        table = np.zeros((self.KINDS, longest + 1, longest + 2))
        table[:, 0, 0] = 1
        path = np.zeros((2, 2, longest + 2))
        path[:, :, 0] = step
        for minutes in range(1, longest + 1):
            # Both ends up, both down, and ends that differ: with half a minute more.
            up, mixed, down = path[0, 0], path[0, 1], path[1, 1]
            spread = mixed / 2
            spread[1:] += mixed[:-1] / 2
            table[0, minutes] = up / up.sum()
            table[1, minutes] = spread / spread.sum()
            table[2, minutes, 1:] = down[:-1] / down.sum()
            gone, came = _moves(fall, recover, minutes)
            table[3, minutes] = (1 - gone) * table[0, minutes] + gone * table[1, minutes]
            table[4, minutes] = came * table[1, minutes] + (1 - came) * table[2, minutes]
            after_down = np.zeros_like(path)
            after_down[:, 1, 1:] = path[:, 1, :-1]
            path = path[:, 0, None, :] * step[0][None, :, None] + after_down[:, 1, None, :] * step[1][None, :, None]
        return table

    def raw_moments(self, classes: Ints) -> Floats:
        """Return mean, mean square and mean cube of the down minutes, a column for each class."""
        chances = self.of(classes)
        minutes = np.arange(chances.shape[1], dtype=np.float64)
        return np.stack([chances @ minutes, chances @ minutes**2, chances @ minutes**3])


def measure_likely(
    distributions: Distributions,
    evidence: Evidence,
    periods: Periods,
    as_of_us: int,
    measures: dict[str, Ints],
    names: Sequence[str] = BOUNDS,
    tail: float = TAIL,
) -> dict[str, Ints]:
    """Return `BOUNDS` of the uptime of each period, its quantiles `tail` and 1 - `tail`, or `SUMS`, or both.

    `measures` are those of the periods. There are no bounds (-1) where more than a tenth of the business time is
    outside what the model covers; less than that counts as its nearest poll says. No bound is outside `uptime_low` and
    `uptime_high`.
    """
    with_bounds, with_sums = BOUNDS[0] in names, SUMS[0] in names
    covered = _find_covered(evidence, as_of_us, distributions.rules)
    edges = Edges(periods, as_of_us)
    covered_us = RunningSums(covered.store, covered.start_us, covered.end_us, edges).within(None)
    outside_us = measures["downtime"] - _down_inside(evidence, covered, edges)
    bounds = [np.full(len(periods), -1, dtype=np.int64) for _ in BOUNDS]
    sums = {name: np.zeros(len(periods), dtype=np.int64) for name in SUMS}
    first, stop = _ranges(covered, periods, as_of_us)
    for rows in _chunks(stop - first):
        chunk = _Chunk(distributions, covered, periods, first[rows], stop[rows], rows, as_of_us)
        scale_us = covered_us[rows] / np.maximum(chunk.cells, 1)
        down_us = (chunk.cumulants[0] * scale_us).astype(np.int64) + outside_us[rows]
        if with_sums:
            minutes = scale_us / MINUTE_US
            values = [covered_us[rows], down_us, chunk.cumulants[1] * (minutes * MINUTE_US / SECOND_US) ** 2]
            values += [chunk.cumulants[2] * minutes**3, *(scale_us * move for move in chunk.moves())]
            for name, value in zip(SUMS, values, strict=True):
                sums[name][rows] = np.rint(value)
        if with_bounds:
            known = measures["uptime"][rows] + measures["downtime"][rows]
            ranged = _is_covered(covered_us[rows], measures["business"][rows]) & (known > 0)
            for bound, minute in zip(reversed(bounds), chunk.quantiles(np.flatnonzero(ranged), tail), strict=True):
                up_us = known - outside_us[rows] - np.rint(minute * scale_us).astype(np.int64)
                bound[rows] = np.where(ranged, up_us, -1)
    if with_bounds:
        bounds = [_clip(bound, measures) for bound in bounds]
    return (dict(zip(BOUNDS, bounds, strict=True)) if with_bounds else {}) | (sums if with_sums else {})


def likely_of_sums(sums: dict[str, Any]) -> dict[str, Ints]:
    """Return `BOUNDS` of the uptime of sets of stores, of the sums of `MEASURES` and `SUMS` over each set's stores.

    Stores are independent but for what is uncertain of the fitted rates, which is the same for all of them. The
    quantiles are those of a gamma distribution with the sums' mean, variance and skewness.
    """
    values = {name: np.asarray(sums[name], dtype=np.float64) for name in SUMS}
    rates_us2 = values["likely_first"] ** 2 + values["likely_second"] ** 2
    variance_us2 = values["likely_variance"] * float(SECOND_US) ** 2 + rates_us2
    deviation_us = np.sqrt(np.maximum(variance_us2, 1.0))
    skew = np.clip(values["likely_third"] * float(MINUTE_US) ** 3 / deviation_us**3, 1e-6, 8.0)
    business, covered = (np.asarray(sums[name]) for name in ("business", "likely_covered"))
    known = np.asarray(sums["uptime"]) + np.asarray(sums["downtime"])
    ranged = _is_covered(covered, business) & (known > 0)
    bounds = []
    for side in (_DEVIATIONS, -_DEVIATIONS):
        # The cube of a normal variable is nearly gamma distributed (Wilson and Hilferty).
        cube = np.maximum(1 + skew * side / 6 - skew**2 / 36, 0.0) ** 3
        down_us = np.rint(values["likely_down"] + deviation_us * (2 / skew) * (cube - 1))
        up_us = np.maximum(np.asarray(known, dtype=np.float64) - np.maximum(down_us, 0.0), 0.0).astype(np.int64)
        bounds.append(_clip(np.where(ranged, up_us, -1), sums))
    return dict(zip(BOUNDS, bounds, strict=True))


def expected_width(distributions: Distributions, every_minutes: int, business_minutes: float) -> float:
    """Return how wide a likely range of so much business time is, in minutes, where polls are so many minutes apart."""
    model = distributions.model
    falls, recovers = (float(chance) for chance in _moves(model.fall, model.recover, every_minutes))
    down = model.fall / (model.fall + model.recover)
    shares = np.array([(1 - down) * (1 - falls), (1 - down) * falls + down * recovers, down * (1 - recovers)])
    raw = distributions.raw_moments(np.arange(3) * Distributions.STRIDE + every_minutes)
    variance = float(_central(raw)[1] @ shares) * business_minutes / every_minutes
    return float(min(2 * _DEVIATIONS * variance**0.5, business_minutes))


def _is_covered(covered_us: Any, business_us: Any) -> Any:
    """Return whether at least nine tenths of the business time are covered."""
    return (business_us > 0) & (_MOST_OUTSIDE * (business_us - covered_us) <= business_us)


def _clip(bound: Ints, measures: dict[str, Any]) -> Ints:
    """Return a bound between the certain ones, and not more than is known; -1 stays."""
    most = np.minimum(measures["uptime_high"], measures["uptime"] + measures["downtime"])
    clipped: Ints = np.where(bound < 0, bound, np.maximum(np.minimum(bound, most), measures["uptime_low"]))
    # Where there is a range, a bound below 0 is 0.
    return clipped.astype(np.int64) if clipped.dtype != object else clipped


def _find_covered(evidence: Evidence, as_of_us: int, rules: Rules) -> _Covered:
    """Return what the model covers up to the as-of."""
    has_head, has_gap, has_tail = _covered_sides(evidence, as_of_us, rules)
    instant, down = evidence.instant_us, (~evidence.active).astype(np.int64)
    size = len(evidence)
    # Beside each poll what is before it, for the first of an opening alone; then what is after it.
    chosen = np.empty(2 * size, dtype=bool)
    chosen[0::2], chosen[1::2] = has_head, has_gap | has_tail
    columns = [np.empty(2 * size, dtype=np.int64) for _ in range(5)]
    following = np.append(instant[1:], 0)
    following_down = np.append(down[1:], 0)
    before = (evidence.store, evidence.left_us, instant, down, np.full(size, _OPEN))
    after = (
        evidence.store,
        instant,
        np.where(has_gap, following, np.minimum(evidence.right_us, as_of_us)),
        down,
        np.where(has_gap, following_down, _OPEN),
    )
    for column, first, second in zip(columns, before, after, strict=True):
        column[0::2], column[1::2] = first, second
    backwards = np.zeros(2 * size, dtype=bool)
    backwards[0::2] = True
    store, start_us, end_us, first_status, second_status = (column[chosen] for column in columns)
    return _Covered(store, start_us, end_us, first_status, second_status, backwards[chosen])


def _covered_sides(evidence: Evidence, as_of_us: int, rules: Rules) -> tuple[Bools, Bools, Bools]:
    """Return for each poll whether the model covers the time before it, as its opening's first poll; to the next poll;
    and to the end of what it decides, as its opening's last."""
    most_us = min(rules.max_gap_us, _LONGEST * MINUTE_US)
    opening, instant = evidence.opening, evidence.instant_us
    differs = opening[1:] != opening[:-1]
    head_us = instant - evidence.left_us
    has_head = np.append(True, differs)[: len(evidence)] & (head_us > 0) & (head_us <= most_us)
    tail_us = np.minimum(evidence.right_us, as_of_us) - instant
    has_tail = np.append(differs, True)[-len(evidence) or 1 :][: len(evidence)] & (tail_us > 0) & (tail_us <= most_us)
    has_gap = evidence.followed.copy()
    # No time in between is unknown, and no gap is longer than the model goes.
    has_gap[:-1] &= (evidence.right_us[:-1] == evidence.left_us[1:]) & (instant[1:] - instant[:-1] <= most_us)
    return has_head, has_gap, has_tail


def _down_inside(evidence: Evidence, covered: _Covered, edges: Edges) -> Ints:
    """Return the down time of periods, by the nearest poll, that lies in what is covered."""
    size = len(evidence)
    start, end = np.empty(2 * size, dtype=np.int64), np.empty(2 * size, dtype=np.int64)
    start[0::2], end[0::2] = evidence.left_us, evidence.instant_us
    start[1::2], end[1::2] = evidence.instant_us, evidence.right_us
    # Each half of what a poll decides is in one covered stretch or in none.
    inside = _is_inside(covered, np.repeat(evidence.store, 2), start)
    return RunningSums(np.repeat(evidence.store, 2), start, end, edges).within(inside & np.repeat(~evidence.active, 2))


def _is_inside(covered: _Covered, store: Ints, instant_us: Ints) -> Bools:
    """Return which instants of stores lie in what is covered."""
    if not len(covered):
        return np.zeros(len(store), dtype=bool)
    at, block, base = _line(covered, store, instant_us)
    index = np.searchsorted(covered.store * block + (covered.start_us - base), at, side="right") - 1
    inside: Bools = (index >= 0) & (covered.store[index] == store)
    inside &= (covered.start_us[index] <= instant_us) & (instant_us < covered.end_us[index])
    return inside


def _line(covered: _Covered, store: Ints, instant_us: Ints) -> tuple[Ints, int, int]:
    """Return instants on one line on which stores come one after the other, how far apart, and where it begins."""
    base, top = int(covered.start_us.min()), int(covered.end_us.max())
    block = block_size(int(max(covered.store[-1], store.max(initial=0))) + 1, base, top)
    return store * block + (np.clip(instant_us, base, top) - base), block, base


def _ranges(covered: _Covered, periods: Periods, as_of_us: int) -> tuple[Ints, Ints]:
    """Return the first covered stretch that touches each period, and the one after the last."""
    if not len(covered):
        return np.zeros(len(periods), dtype=np.int64), np.zeros(len(periods), dtype=np.int64)
    end_us = np.minimum(periods.end_us, as_of_us)
    start_at, block, base = _line(covered, periods.store, np.minimum(periods.start_us, end_us))
    end_at, _, _ = _line(covered, periods.store, end_us)
    first = np.searchsorted(covered.store * block + (covered.end_us - base), start_at, side="right")
    stop = np.searchsorted(covered.store * block + (covered.start_us - base), end_at, side="left")
    return first, np.maximum(stop, first)


def _chunks(counts: Ints) -> list[slice]:
    """Return slices of rows with about `_PAIRS_AT_ONCE` in each."""
    number = np.cumsum(counts) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(number[1:] != number[:-1]) + 1).tolist(), len(counts)]
    return [slice(first, stop) for first, stop in pairwise(edges) if first < stop]


class _Chunk:
    """The gaps of some periods: how many of each class are whole in each period, and those that its edges cut."""

    def __init__(
        self,
        distributions: Distributions,
        covered: _Covered,
        periods: Periods,
        first: Ints,
        stop: Ints,
        rows: slice,
        as_of_us: int,
    ) -> None:
        self._distributions = distributions
        count = stop - first
        self._size = len(count)
        row = np.repeat(np.arange(self._size), count)
        index = np.arange(len(row)) + np.repeat(first - (np.cumsum(count) - count), count)
        start_us, end_us = covered.start_us[index], covered.end_us[index]
        from_us = np.minimum(periods.start_us[rows], as_of_us)[row]
        to_us = np.minimum(periods.end_us[rows], as_of_us)[row]
        is_cut = (start_us < from_us) | (end_us > to_us)
        minutes = _minutes(end_us - start_us)
        begin, end = _minutes(np.maximum(from_us - start_us, 0)), _minutes(np.minimum(to_us, end_us) - start_us)
        backwards = covered.backwards[index]
        begin, end = np.where(backwards, minutes - end, begin), np.where(backwards, minutes - begin, end)
        gaps = _Gaps(covered.first[index], covered.second[index], minutes, begin, end)
        # Neighbours less than half a minute apart are a minute apart: the sum of cells is scaled to the time covered.
        np.maximum(gaps.minutes, 1, out=gaps.minutes, where=gaps.second != _OPEN)
        whole = ~is_cut & (gaps.minutes > 0)
        cut = is_cut & (gaps.stop > gaps.begin)
        self._note_whole(gaps.pick(whole), row[whole])
        self._cut, self._cut_row = gaps.pick(cut), row[cut]
        self._note_cut()
        self.cells = self._counts @ self._minutes + self._sum(self._cut_row, self._cut.stop - self._cut.begin)
        self.cumulants = self._cumulants()

    def _sum(self, row: Ints, values: Any) -> Floats:
        sums: Floats = np.bincount(row, values, self._size).astype(np.float64)
        return sums

    def _note_whole(self, gaps: _Gaps, row: Ints) -> None:
        kind = np.where(gaps.second == _OPEN, 3 + gaps.first, gaps.first + gaps.second)
        classes = kind * Distributions.STRIDE + gaps.minutes
        present = np.flatnonzero(np.bincount(classes, minlength=1))
        number = np.zeros(Distributions.KINDS * Distributions.STRIDE, dtype=np.int64)
        number[present] = np.arange(len(present))
        cell = row * len(present) + number[classes]
        counts = np.bincount(cell, minlength=self._size * len(present)).astype(np.float64)
        self._counts = counts.reshape(self._size, len(present))
        self._classes, self._minutes = present, (present % Distributions.STRIDE).astype(np.float64)

    def _note_cut(self) -> None:
        """Find the chances of the statuses at the two edges of cut gaps: they are mixtures of whole ones."""
        gaps, model = self._cut, self._distributions.model
        length = gaps.stop - gaps.begin
        self._mixed: list[tuple[Ints, Floats]] = []
        is_open = gaps.second == _OPEN
        target = np.where(is_open, 0, gaps.second)
        weights, classes = [], []
        for near in (0, 1):
            came = _chance(model.fall, model.recover, gaps.first, np.full_like(gaps.first, near), gaps.begin)
            for far in (0, 1):
                one, other = np.full_like(gaps.first, near), np.full_like(gaps.first, far)
                inside = _chance(model.fall, model.recover, one, other, length)
                left = _chance(model.fall, model.recover, other, target, gaps.minutes - gaps.stop)
                weights.append(came * inside * np.where(is_open, 1.0, left))
                classes.append((near + far) * Distributions.STRIDE + length)
        total = np.maximum(np.sum(weights, axis=0), 1e-300)
        self._mixed = [(of, weight / total) for of, weight in zip(classes, weights, strict=True)]

    def _cumulants(self) -> Floats:
        """Return mean, variance and third cumulant of the down cells of each period."""
        raw = self._distributions.raw_moments(self._classes)
        cumulants = np.stack([self._counts @ column for column in _central(raw)])
        if len(self._cut_row):
            mixed = sum(
                (self._distributions.raw_moments(of) * weight for of, weight in self._mixed),
                np.zeros((3, len(self._cut_row))),
            )
            cumulants += np.stack([self._sum(self._cut_row, column) for column in _central(mixed)])
        return cumulants

    def moves(self) -> list[Floats]:
        """Return by how many cells the mean moves with each of the model's directions."""
        model = self._distributions.model
        kind, minutes = np.divmod(self._classes, Distributions.STRIDE)
        first, second = np.array([0, 0, 1, 0, 1])[kind], np.array([0, 1, 1, _OPEN, _OPEN])[kind]
        whole = _Gaps(first, second, minutes, np.zeros_like(minutes), minutes)
        moves = []
        for of_fall, of_recover in model.directions:
            means = []
            for side in (0.5, -0.5):
                fall, recover = model.fall * np.exp(side * of_fall), model.recover * np.exp(side * of_recover)
                cut = self._sum(self._cut_row, _mean(fall, recover, self._cut))
                means.append(self._counts @ _mean(fall, recover, whole) + cut)
            moves.append(means[0] - means[1])
        return moves

    def quantiles(self, rows: Ints, tail: float) -> tuple[Ints, Ints]:
        """Return the `tail` and 1 - `tail` quantiles of the down cells of those periods, 0 for the others."""
        low, high = np.zeros(self._size, dtype=np.int64), np.zeros(self._size, dtype=np.int64)
        mean, deviation = self.cumulants[0], np.sqrt(np.maximum(self.cumulants[1], 0))
        longest = int(max(self._minutes.max(initial=0), (self._cut.stop - self._cut.begin).max(initial=0)))
        # Long enough for nearly all of the distribution: what is outside comes in again at the other end.
        needed = np.minimum(self.cells + 1, np.maximum(12 * deviation + 64, longest + 1))
        power = np.ceil(np.log2(np.maximum(np.maximum(needed, longest + 1), 64))).astype(np.int64)
        for exponent in np.unique(power[rows]).tolist():
            length = 1 << exponent
            chosen = rows[power[rows] == exponent]
            transforms = _Transforms(self._distributions, self._classes, length)
            per_chunk = max(_CELLS_AT_ONCE // length, 1)
            for some in (chosen[at : at + per_chunk] for at in range(0, len(chosen), per_chunk)):
                transform = transforms.product(self._counts[some])
                self._multiply_cut(transform, some, length)
                low[some], high[some] = _quantiles(transform, mean[some], self.cells[some], tail)
        return low, high

    def _multiply_cut(self, transform: Complexes, rows: Ints, length: int) -> None:
        """Multiply transforms of the rows by those of their cut gaps."""
        inside = np.isin(self._cut_row, rows)
        if not inside.any():
            return
        owner = np.searchsorted(rows, self._cut_row[inside])
        used, numbers = np.unique(np.concatenate([of[inside] for of, _ in self._mixed]), return_inverse=True)
        known = np.fft.rfft(self._distributions.of(used), length)
        numbers = numbers.reshape(len(self._mixed), -1)
        mixed = sum(
            (known[number] * weight[inside, None] for number, (_, weight) in zip(numbers, self._mixed, strict=True)),
            np.zeros((len(owner), length // 2 + 1), dtype=np.complex128),
        )
        # A period cuts two gaps at most: the first of each row, then the second.
        is_first = np.append(True, owner[1:] != owner[:-1])
        transform[owner[is_first]] *= mixed[is_first]
        transform[owner[~is_first]] *= mixed[~is_first]


class _Transforms:
    """Logarithms of the Fourier transforms of classes of gaps."""

    def __init__(self, distributions: Distributions, classes: Ints, length: int) -> None:
        size = length // 2 + 1
        if not len(classes):
            self._logarithm = np.zeros((0, 2 * size))
            return
        transform = np.fft.rfft(distributions.of(classes), length)
        self._logarithm = np.concatenate([np.log(np.maximum(np.abs(transform), 1e-300)), np.angle(transform)], axis=1)

    def product(self, counts: Floats) -> Complexes:
        """Return the product of the classes' transforms, each as often as it is counted, for each row."""
        size, phase = np.split(counts @ self._logarithm, 2, axis=1)
        product: Complexes = np.exp(size) * (np.cos(phase) + 1j * np.sin(phase))
        return product


def _quantiles(transform: Complexes, mean: Floats, cells: Floats, tail: float) -> tuple[Ints, Ints]:
    """Return the quantiles of distributions by their transforms."""
    length = 2 * (transform.shape[1] - 1)
    chance = np.maximum(np.fft.irfft(transform, length), 0)
    # Where the distribution is longer than the transform, the part around the mean is what counts.
    begin = np.where(cells < length, 0, np.maximum(np.floor(mean) - length * 3 // 8, 0)).astype(np.int64)
    index = (begin[:, None] + np.arange(length)) % length
    chance = np.take_along_axis(chance, index, axis=1)
    running = np.cumsum(chance, axis=1)
    share = running / running[:, -1:]
    low, high = ((share < level - 1e-9).sum(axis=1) for level in (tail, 1 - tail))
    most = cells.astype(np.int64)
    return np.minimum(begin + low, most), np.minimum(begin + high, most)


def _central(raw: Floats) -> Floats:
    """Return mean, variance and third cumulant of the first three raw moments."""
    mean, square, cube = raw
    return np.stack([mean, square - mean**2, cube - 3 * mean * square + 2 * mean**3])


def _minutes(length_us: Ints) -> Ints:
    """Return whole minutes, rounded half up."""
    minutes: Ints = (length_us + MINUTE_US // 2) // MINUTE_US
    return minutes
