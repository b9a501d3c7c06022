"""How often the likely range contains the truth: outages of five distributions, four polling intervals.

    python benchmarks/likely_coverage.py [STORES]

Prints the table of docs/how-it-counts.md: stores of 84 open hours a week are simulated minute by minute, polled with
jitter and 4 % of polls missing, and measured as reports measure them.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Ints, Polls, Rules
from storemon_flask.uptime import likely
from storemon_flask.uptime.evidence import gather
from storemon_flask.uptime.measures import Periods, measure
from storemon_flask.uptime.openings import Openings

OPEN_MINUTES: Final = 12 * 60
DAYS: Final = 7
LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
DISTRIBUTIONS: Final = (
    ("exponential", 90),
    ("exponential", 45),
    ("log-normal", 90),
    ("exponential", 15),
    ("fixed", 45),
)
INTERVALS: Final = (60, 30, 15, 10)
MEAN_UP_HOURS: Final = 40
MISSING: Final = 0.04


@dataclass(frozen=True, slots=True)
class Simulation:
    """Polls of stores that are open for twelve hours of each of seven days, and the minutes that each was down."""

    polls: Polls
    openings: Openings
    down_minutes: Ints


@dataclass(frozen=True, slots=True)
class Coverage:
    """What came of a simulation: shares of stores whose truth is inside, mean widths in minutes and milliseconds of
    processor time for each store; and whether the range of all stores together contains the truth."""

    shares: dict[float, float]
    width: float
    certain_width: float
    milliseconds: float
    model: likely.LikelyModel
    fleet_errors: float


def outage_minutes(generator: np.random.Generator, distribution: str, mean: float) -> float:
    """Return the length of one outage in minutes."""
    if distribution == "exponential":
        return float(generator.exponential(mean))
    if distribution == "log-normal":
        return float(generator.lognormal(np.log(mean) - 0.5 * 1.2**2, 1.2))
    return mean


def simulate(generator: np.random.Generator, stores: int, distribution: str, mean: float, every: int) -> Simulation:
    """Return the polls and the truth of so many stores."""
    truth = np.zeros(stores, dtype=np.int64)
    store, instant, active = [], [], []
    for number in range(stores):
        for day in range(DAYS):
            down = np.zeros(OPEN_MINUTES, dtype=bool)
            at = generator.exponential(MEAN_UP_HOURS * 60)
            while at < OPEN_MINUTES:
                length = outage_minutes(generator, distribution, mean)
                down[round(at) : max(round(at), round(min(OPEN_MINUTES, at + length)))] = True
                at += length + generator.exponential(MEAN_UP_HOURS * 60)
            truth[number] += down.sum()
            at = generator.uniform(0, every)
            while at < OPEN_MINUTES:
                if generator.random() > MISSING:
                    store.append(number)
                    instant.append(day * DAY_US + 9 * HOUR_US + int(at) * MINUTE_US + MINUTE_US // 2)
                    active.append(not down[int(at)])
                at += every * (1 + generator.uniform(-0.13, 0.13))
    starts = np.tile(np.arange(DAYS) * DAY_US + 9 * HOUR_US, stores)
    openings = Openings(np.repeat(np.arange(stores), DAYS), starts, starts + OPEN_MINUTES * MINUTE_US)
    polls = Polls(np.array(store), np.array(instant, dtype=np.int64), np.array(active, dtype=bool))
    return Simulation(polls, openings, truth)


def measure_coverage(simulation: Simulation) -> Coverage:
    """Return how often ranges of each of `LEVELS` contain the truth, with a model fitted on the same polls."""
    rules, stores = Rules(), len(simulation.down_minutes)
    evidence = gather(simulation.polls, simulation.openings, rules)
    model = likely.fit(likely.count_neighbours(evidence, 0))
    periods = Periods(np.arange(stores), np.zeros(stores, dtype=np.int64), np.full(stores, WEEK_US))
    measures = measure(simulation.openings, evidence, periods, WEEK_US)
    certain = (measures["uptime_high"] - measures["uptime_low"]).mean() / MINUTE_US
    if model.reason:
        return Coverage({}, 0, certain, 0, model, 0)
    distributions = likely.Distributions(model, rules)
    up_us = measures["business"] - simulation.down_minutes * MINUTE_US
    shares, width, milliseconds = {}, 0.0, 0.0
    for level in LEVELS:
        names = (*likely.BOUNDS, *likely.SUMS) if level == 0.9 else likely.BOUNDS
        began = time.process_time()
        bounds = likely.measure_likely(distributions, evidence, periods, WEEK_US, measures, names, (1 - level) / 2)
        shares[level] = float(((bounds["likely_low"] <= up_us) & (up_us <= bounds["likely_high"])).mean())
        if level == 0.9:
            milliseconds = (time.process_time() - began) * 1e3 / stores
            width = float((bounds["likely_high"] - bounds["likely_low"]).mean()) / MINUTE_US
            fleet = {name: values.sum() for name, values in (measures | bounds).items()}
    fleet_range = likely.likely_of_sums(fleet)
    low, high = int(fleet_range["likely_low"]), int(fleet_range["likely_high"])
    # By how many half widths of its range the truth of the fleet is away from the middle of it.
    fleet_errors = (int(up_us.sum()) - (low + high) / 2) / max((high - low) / 2, 1)
    return Coverage(shares, width, certain, milliseconds, model, fleet_errors)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="?", type=int, default=400, help="stores of each simulation (400)")
    stores = parser.parse_args().stores
    print("| polls every | outages | fitted up, down | 50 % | 80 % | 90 % | 95 % | width | of low..high | ms | fleet |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for every in INTERVALS:
        for distribution, mean in DISTRIBUTIONS:
            generator = np.random.default_rng(7)
            coverage = measure_coverage(simulate(generator, stores, distribution, mean, every))
            row = f"| {every} min | {distribution}, {mean} min |"
            if coverage.model.reason:
                both, chance = coverage.model.both_down, coverage.model.by_chance
                print(f"{row} no range: {both} in a row, {chance:.0f} by chance | | | | | | | | |", flush=True)
                continue
            shares = " | ".join(f"{coverage.shares[level]:.3f}" for level in LEVELS)
            fitted = f"{coverage.model.up_minutes / 60:.0f} h, {coverage.model.down_minutes:.0f} min"
            print(
                f"{row} {fitted} | {shares} | {coverage.width:.0f} min | {coverage.width / coverage.certain_width:.2f} "
                f"| {coverage.milliseconds:.3f} | {coverage.fleet_errors:+.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
