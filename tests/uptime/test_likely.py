"""The likely range: distributions against all paths, the fit against rates that are known, ranges against the truth."""

from itertools import pairwise, product

import numpy as np
import pytest
from fleets import fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import likely_coverage
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Polls, Rules
from storemon_flask.uptime import likely, openings
from storemon_flask.uptime.evidence import gather
from storemon_flask.uptime.likely import BOUNDS, SUMS, Distributions, LikelyModel, Neighbours
from storemon_flask.uptime.measures import Periods, measure
from storemon_flask.uptime.openings import Openings
from uptime.cases import cases

FALL, RECOVER = 1 / 2400, 1 / 45
MODEL = LikelyModel(FALL, RECOVER, ((0.02, 0.01), (0.0, 0.03)))
STRIDE = Distributions.STRIDE
UP_UP, DIFFERENT, DOWN_DOWN, UP_OPEN, DOWN_OPEN = range(5)


def step(model: LikelyModel) -> np.ndarray:
    """The chances of one minute, from and to up and down."""
    total = model.fall + model.recover
    gone = (1 - np.exp(-total)) / total
    return np.array([[1 - model.fall * gone, model.fall * gone], [model.recover * gone, 1 - model.recover * gone]])


def all_paths(model: LikelyModel, first: int, last: int | None, minutes: int) -> np.ndarray:
    """The chance of each number of half down minutes, by all paths; a minute with one edge down is half down."""
    chances, moves = np.zeros(2 * minutes + 1), step(model)
    for path in product((0, 1), repeat=minutes):
        states = (first, *path)
        if last is None or states[-1] == last:
            chance = np.prod([moves[a, b] for a, b in pairwise(states)])
            chances[sum(states) * 2 - states[0] - states[-1]] += chance
    return chances / chances.sum()


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [(UP_UP, 0, 0), (DIFFERENT, 0, 1), (DIFFERENT, 1, 0), (DOWN_DOWN, 1, 1), (UP_OPEN, 0, None), (DOWN_OPEN, 1, None)],
)
@pytest.mark.parametrize("minutes", [1, 2, 9])
def test_the_distribution_of_a_gap_is_that_of_all_paths(kind, first, last, minutes):
    model = LikelyModel(0.03, 0.11)
    halves = all_paths(model, first, last, minutes)
    # An odd number of half minutes is one of the two whole ones beside it, by half a chance each.
    whole = halves[0::2].copy()
    whole[:-1] += halves[1::2] / 2
    whole[1:] += halves[1::2] / 2

    chances = Distributions(model, Rules()).of(np.array([kind * STRIDE + minutes]))[0]

    assert chances == pytest.approx(whole, abs=1e-12)


def test_threads_may_share_a_model(monkeypatch):
    shared, alone = Distributions(MODEL, Rules()), Distributions(MODEL, Rules())
    build = Distributions._build

    def build_and_be_overtaken(self, longest):
        table = build(self, longest)
        # Another thread that needed less puts its table in place.
        self._chances = build(self, 90)
        return table

    classes = np.array([UP_UP * STRIDE + 300, DIFFERENT * STRIDE + 20])
    expected = alone.of(classes)
    monkeypatch.setattr(Distributions, "_build", build_and_be_overtaken)
    assert np.array_equal(shared.of(classes), expected)


def week(polls: list[tuple[int, bool]], first_hour: int = 9, hours: int = 8, rules: Rules | None = None):
    """Openings and evidence of one store on one day: polls are minutes after the opening, and whether active."""
    start = first_hour * HOUR_US
    opened = Openings(np.array([0]), np.array([start]), np.array([start + hours * HOUR_US]))
    instants = np.array([start + minute * MINUTE_US for minute, _ in polls], dtype=np.int64)
    made = Polls(np.zeros(len(polls), dtype=np.int64), instants, np.array([active for _, active in polls], dtype=bool))
    return opened, gather(made, opened, rules or Rules())


def measured(opened, gathered, spans, as_of_us=DAY_US, names=(*BOUNDS, *SUMS), rules=None, model=MODEL, tail=0.05):
    """Measures and likely measures of spans of store 0."""
    rules = rules or Rules()
    periods = Periods(np.zeros(len(spans), dtype=np.int64), *np.array(spans, dtype=np.int64).T)
    measures = measure(opened, gathered, periods, as_of_us)
    return measures | likely.measure_likely(
        Distributions(model, rules), gathered, periods, as_of_us, measures, names, tail
    )


@pytest.mark.parametrize("tail", [0.25, 0.1, 0.05, 0.005])
def test_the_range_of_a_day_is_that_of_the_convolution_of_its_gaps(tail):
    opened, gathered = week([(20, True), (80, True), (143, False), (200, False), (262, True), (320, True)], hours=6)
    distributions = Distributions(MODEL, Rules())
    classes = [
        UP_OPEN * STRIDE + 20, UP_UP * STRIDE + 60, DIFFERENT * STRIDE + 63, DOWN_DOWN * STRIDE + 57,
        DIFFERENT * STRIDE + 62, UP_UP * STRIDE + 58, UP_OPEN * STRIDE + 40,
    ]  # fmt: skip
    chances = np.ones(1)
    for one in classes:
        chances = np.convolve(chances, distributions.of(np.array([one]))[0])
    share = np.cumsum(chances)
    low, high = (int(np.searchsorted(share, level)) for level in (tail, 1 - tail))

    row = measured(opened, gathered, [(0, DAY_US)], tail=tail)

    assert row["likely_high"][0] == (360 - low) * MINUTE_US
    assert row["likely_low"][0] == (360 - high) * MINUTE_US
    mean = chances @ np.arange(len(chances))
    assert row["likely_down"][0] == pytest.approx(mean * MINUTE_US, rel=1e-9)
    assert row["likely_variance"][0] == pytest.approx((chances @ (np.arange(len(chances)) - mean) ** 2) * 3600, abs=1)
    assert row["likely_third"][0] == pytest.approx(chances @ (np.arange(len(chances)) - mean) ** 3, abs=1)
    assert row["likely_covered"][0] == 6 * HOUR_US


def test_a_gap_that_a_period_cuts_has_the_distribution_of_its_part():
    """All paths of ten minutes from up to down, of which the middle four count."""
    model, moves = LikelyModel(0.03, 0.11), step(LikelyModel(0.03, 0.11))
    opened, gathered = week([(100, True), (110, False)])
    weights: dict[int, float] = {}
    for path in product((0, 1), repeat=9):
        states = (0, *path, 1)
        down = 2 * sum(states[3:8]) - states[3] - states[7]
        chance = np.prod([moves[a, b] for a, b in pairwise(states)])
        weights[down] = weights.get(down, 0) + chance
    mean = sum(down * chance for down, chance in weights.items()) / sum(weights.values()) / 2

    start = 9 * HOUR_US + 103 * MINUTE_US
    row = measured(opened, gathered, [(start, start + 4 * MINUTE_US)], model=model)

    assert row["likely_down"][0] == pytest.approx(mean * MINUTE_US, abs=1)
    assert (row["likely_low"][0], row["likely_high"][0]) == (0, 4 * MINUTE_US)


def test_the_parts_of_a_day_have_together_the_mean_of_the_day():
    opened, gathered = week([(20, True), (80, True), (143, False), (200, False), (262, True), (320, True)], hours=6)
    cuts = [9 * HOUR_US + minute * MINUTE_US for minute in (0, 50, 100, 170, 250, 341, 360)]
    whole = measured(opened, gathered, [(0, DAY_US)])
    parts = measured(opened, gathered, list(pairwise(cuts)))

    assert parts["likely_covered"].sum() == whole["likely_covered"][0]
    assert parts["likely_down"].sum() == pytest.approx(whole["likely_down"][0], rel=1e-9)


def neighbours(model: LikelyModel, minutes: int, scale: float) -> Neighbours:
    """As many neighbours of each kind as the model expects."""
    made = Neighbours()
    total = model.fall + model.recover
    falls, recovers = likely._moves(model.fall, model.recover, minutes)
    for first, share in ((0, model.recover / total), (1, model.fall / total)):
        for second in (0, 1):
            chance = [[1 - falls, falls], [recovers, 1 - recovers]][first][second]
            made.count[2 * first + second, minutes] = round(scale * share * chance)
            made.total_us[2 * first + second, minutes] = made.count[2 * first + second, minutes] * minutes * MINUTE_US
    return made


def test_the_fit_finds_the_rates_that_made_the_neighbours():
    fitted = likely.fit(neighbours(MODEL, 60, 1e7) + neighbours(MODEL, 17, 1e7))

    assert fitted.reason == ""
    assert fitted.up_minutes == pytest.approx(2400, rel=2e-4)
    assert fitted.down_minutes == pytest.approx(45, rel=2e-4)
    # Four times the neighbours, half the uncertainty.
    more = likely.fit(neighbours(MODEL, 60, 4e7) + neighbours(MODEL, 17, 4e7))
    assert more.directions[0][0] == pytest.approx(fitted.directions[0][0] / 2, rel=1e-2)
    assert more.directions[1][1] == pytest.approx(fitted.directions[1][1] / 2, rel=1e-2)


def test_neighbours_that_are_both_down_by_chance_alone_give_no_model():
    """A poller that errs in 5 % of its polls: 420 neighbours are both inactive, as chance has it."""
    made = Neighbours()
    made.count[:, 60] = [151_620, 7_980, 7_980, 420]
    made.total_us[:, 60] = made.count[:, 60] * HOUR_US
    refused = likely.fit(made)
    assert refused.reason == (
        "the fleet's last 28 days have 420 pairs of neighbouring inactive polls, and chance alone gives 420; at least 30 "
        "more must there be to learn how long outages last"
    )
    # Not more than noise does: 40 more are two standard deviations.
    made.count[3, 60] = 460
    assert likely.fit(made).reason
    made.count[3, 60] = 600
    made.total_us[:, 60] = made.count[:, 60] * HOUR_US
    assert not likely.fit(made).reason


def test_without_polls_or_without_a_recovery_there_is_no_model():
    assert "0 pairs" in likely.fit(Neighbours()).reason
    never = Neighbours()
    never.count[:, 60] = [10_000, 40, 0, 400]
    assert likely.fit(never).reason.endswith("both began and ended between two neighbouring polls")


def test_no_range_where_more_than_a_tenth_is_outside_what_the_model_covers():
    """Of ten hours 59 or 61 minutes lie in the part of a gap above the max gap that is a gap of its own."""
    rules = Rules(max_gap_us=50 * MINUTE_US)
    for gap, ranged in ((59, True), (61, False)):
        minutes = [*range(0, 301, 50), 300 + gap, *range(300 + gap + 50, 600, 50)]
        opened, gathered = week([(minute, True) for minute in minutes], hours=10, rules=rules)
        row = measured(opened, gathered, [(0, DAY_US)], rules=rules)
        assert row["likely_covered"][0] == (600 - gap) * MINUTE_US
        assert (row["likely_low"][0] >= 0) == ranged
        assert (row["likely_high"][0] >= 0) == ranged


def test_time_outside_counts_as_its_nearest_poll_says():
    rules = Rules(max_gap_us=50 * MINUTE_US)
    minutes = [*range(0, 301, 50), *range(356, 600, 50)]
    opened, gathered = week([(minute, minute != 300) for minute in minutes], hours=10, rules=rules)
    row = measured(opened, gathered, [(0, DAY_US)], rules=rules, model=LikelyModel(1e-7, 1 / 45))
    # 28 minutes after the inactive poll; and of the gap before it nobody knows when the store fell.
    assert row["likely_high"][0] == pytest.approx((600 - 28) * MINUTE_US, abs=5 * MINUTE_US)
    assert row["likely_low"][0] == pytest.approx((600 - 28 - 50) * MINUTE_US, abs=5 * MINUTE_US)


@settings(max_examples=150)
@given(cases(), st.sampled_from(["nearest", "previous"]))
def test_no_likely_bound_is_outside_the_certain_ones(case, method):
    polls, hours, zones, as_of, reach, gap = case
    rules = Rules(reach, gap, method)
    ids, made = fleet(polls, hours, zones, as_of)
    opened = openings.build(made, as_of - WEEK_US - rules.farthest_us, as_of)
    gathered = gather(made.polls, opened, rules)
    starts = [as_of - length for length in (HOUR_US, DAY_US, WEEK_US)]
    store = np.repeat(np.arange(len(ids)), len(starts))
    periods = Periods(store, np.tile(starts, len(ids)), np.full(len(store), as_of))
    measures = measure(opened, gathered, periods, as_of)
    rows = likely.measure_likely(Distributions(MODEL, rules), gathered, periods, as_of, measures, (*BOUNDS, *SUMS))
    known = measures["uptime"] + measures["downtime"]
    low, high = rows["likely_low"], rows["likely_high"]
    ranged = (measures["business"] > 0) & (10 * (measures["business"] - rows["likely_covered"]) <= measures["business"])
    assert (rows["likely_covered"] <= known).all()
    assert (rows["likely_down"] <= known + 1).all()
    assert ((low >= 0) == ranged).all()
    assert ((high >= 0) == ranged).all()
    assert (measures["uptime_low"] <= low)[ranged].all()
    assert (low <= high)[ranged].all()
    assert (high <= np.minimum(measures["uptime_high"], known))[ranged].all()


@pytest.mark.parametrize(
    ("distribution", "mean", "every"), [("exponential", 90, 60), ("log-normal", 90, 30), ("exponential", 45, 15)]
)
def test_nine_of_ten_ranges_contain_the_truth(distribution, mean, every):
    simulation = likely_coverage.simulate(np.random.default_rng(11), 150, distribution, mean, every)
    coverage = likely_coverage.measure_coverage(simulation)
    assert 0.85 <= coverage.shares[0.9] <= 0.98
    assert coverage.shares[0.5] < coverage.shares[0.8] < coverage.shares[0.95]
    assert coverage.width <= 0.25 * coverage.certain_width


def test_outages_that_no_two_polls_see_have_no_range():
    simulation = likely_coverage.simulate(np.random.default_rng(11), 150, "fixed", 45, 60)
    coverage = likely_coverage.measure_coverage(simulation)
    assert coverage.model.reason
    assert coverage.shares == {}


def test_the_range_of_many_stores_is_that_of_the_sum_of_their_distributions():
    """200 days of one store, against the convolution of 200 distributions; without what is uncertain of the rates."""
    model = LikelyModel(FALL, RECOVER)
    opened, gathered = week([(20, True), (80, True), (143, False), (200, False), (262, True), (320, True)], hours=6)
    row = measured(opened, gathered, [(0, DAY_US)], model=model)
    distributions = Distributions(model, Rules())
    classes = [3 * STRIDE + 20, 60, STRIDE + 63, 2 * STRIDE + 57, STRIDE + 62, 58, 3 * STRIDE + 40]
    transform = np.prod([np.fft.rfft(distributions.of(np.array([one]))[0], 1 << 17) for one in classes], axis=0)
    for count in (1, 4, 200):
        share = np.cumsum(np.fft.irfft(transform**count, 1 << 17))
        exact = [360 * count - int(np.searchsorted(share, level)) for level in (0.95, 0.05)]
        bounds = likely.likely_of_sums({name: values * count for name, values in row.items()})
        minutes = [int(bounds[name][0]) / MINUTE_US for name in BOUNDS]
        # Within a twentieth of the width.
        assert minutes == pytest.approx(exact, abs=max(2, 0.05 * (exact[1] - exact[0])))


def test_uncertain_rates_widen_the_range_of_many_stores_but_not_by_much_that_of_one():
    opened, gathered = week([(minute, True) for minute in range(0, 480, 60)])
    row = measured(opened, gathered, [(0, DAY_US)])
    sure = measured(opened, gathered, [(0, DAY_US)], model=LikelyModel(FALL, RECOVER))
    assert abs(row["likely_first"][0]) > 0
    assert sure["likely_first"][0] == sure["likely_second"][0] == 0

    def width(rows, count):
        bounds = likely.likely_of_sums({name: values * count for name, values in rows.items()})
        return int(bounds["likely_high"][0] - bounds["likely_low"][0])

    assert width(row, 1) == pytest.approx(width(sure, 1), rel=0.01)
    assert width(row, 20_000) > 1.25 * width(sure, 20_000)


def test_a_set_of_which_too_little_is_covered_has_no_range():
    opened, gathered = week([(minute, True) for minute in range(0, 480, 60)])
    row = {name: int(values[0]) for name, values in measured(opened, gathered, [(0, DAY_US)]).items()}
    assert likely.likely_of_sums(row)["likely_low"] > 0
    silent = row | {"business": 2 * row["business"], "unknown": row["business"]}
    assert [int(bound) for bound in likely.likely_of_sums(silent).values()] == [-1, -1]
