"""What polls can and cannot prove: how wide the likely range is, and how often to poll to judge a target."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from storemon_flask.database import readings
from storemon_flask.database.connections import Connection, Database
from storemon_flask.model import MINUTE_US, WEEK_US, Rules
from storemon_flask.reports.likely import read_model, sample_of
from storemon_flask.uptime.likely import Distributions, expected_width

PERIODS: Final = {"day": 1 / 7, "week": 1.0, "month": 30 / 7}
TARGET: Final = 99.0
# Polling intervals that are compared, in minutes.
_INTERVALS: Final = (60, 30, 20, 15, 10, 5, 2, 1)
# A target can be judged where what it allows to be down is so many times as long as the likely range is wide.
_ENOUGH: Final = 1.5


@dataclass(frozen=True, slots=True)
class Interval:
    """Polls every so many minutes: how wide the likely range then is, and the highest target in percent that it can
    judge."""

    every_minutes: int
    width_minutes: float
    highest_target: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What polls every `present.every_minutes` say of a target of so many percent of a period's business minutes.

    `needed_minutes` is the longest of the intervals that can judge it, None where none can. `present` is None without
    neighbouring polls or business time, and where there is no model, for the reason `reason`.
    """

    target: float
    period: str
    business_minutes: float
    present: Interval | None = None
    intervals: tuple[Interval, ...] = ()
    needed_minutes: int | None = None
    reason: str = ""

    @property
    def allowed_minutes(self) -> float:
        """How long a store may be down in the period."""
        return self.business_minutes * (100 - self.target) / 100

    @property
    def can_judge(self) -> bool:
        """Whether the present polls can judge the target."""
        return self.present is not None and self.allowed_minutes >= _ENOUGH * self.present.width_minutes

    @property
    def sentences(self) -> list[str]:
        """What people are told; nothing without a model."""
        if self.present is None:
            return []
        width, every = self.present.width_minutes, self.present.every_minutes
        hours = f"{self.business_minutes / 60:.1f}".removesuffix(".0")
        share = 100 * width / self.business_minutes
        about = (
            f"Polled every {_minutes_text(every)}, a {self.period} of {hours} business hours is likely known to within "
            f"{width:,.0f} min ({share:.1f} %)"
        )
        up_to = f"targets up to {self.present.highest_target:.1f} % a {self.period} can be judged"
        allowed = f"a target of {self.target:g} % allows {self.allowed_minutes:,.0f} min down"
        if self.can_judge:
            return [f"{about}: {up_to}; {allowed}."]
        if self.needed_minutes is None:
            return [
                f"{about}: {up_to}. {allowed[:1].upper()}{allowed[1:]}, which polls every minute cannot judge either."
            ]
        needed = _minutes_text(self.needed_minutes)
        return [f"{about}: {up_to}. {allowed[:1].upper()}{allowed[1:]}: to judge it, poll every {needed}."]

    def record(self) -> dict[str, Any]:
        """Return it as programs read it."""
        return {
            "target": self.target,
            "period": self.period,
            "business_minutes": round(self.business_minutes, 2),
            "allowed_minutes": round(self.allowed_minutes, 2),
            "every_minutes": self.present.every_minutes if self.present else None,
            "can_judge": self.can_judge if self.present else None,
            "needed_minutes": self.needed_minutes,
            "reason": self.reason or None,
            "intervals": [
                {
                    "every_minutes": one.every_minutes,
                    "width_minutes": round(one.width_minutes, 2),
                    "highest_target": round(one.highest_target, 2),
                    "can_judge": self.allowed_minutes >= _ENOUGH * one.width_minutes,
                }
                for one in self.intervals
            ],
        }


def advise(
    distributions: Distributions,
    every_minutes: int,
    week_minutes: float,
    target: float = TARGET,
    period: str = "week",
) -> Advice:
    """Return the advice for polls so many minutes apart and so many business minutes a week."""
    business = week_minutes * PERIODS[period]
    if distributions.model.reason or not every_minutes or business <= 0:
        return Advice(target, period, business, reason=distributions.model.reason)

    def interval(every: int) -> Interval:
        """Return what polls so far apart can say."""
        width = expected_width(distributions, every, business)
        return Interval(every, width, max(100 - 100 * _ENOUGH * width / business, 0.0))

    intervals = tuple(interval(every) for every in sorted({*_INTERVALS, every_minutes}, reverse=True))
    allowed = business * (100 - target) / 100
    needed = [one.every_minutes for one in intervals if allowed >= _ENOUGH * one.width_minutes]
    return Advice(target, period, business, interval(every_minutes), intervals, max(needed, default=None))


def advise_fleet(
    database: Database,
    connection: Connection,
    default_zone: str,
    as_of_us: int,
    rules: Rules,
    target: float = TARGET,
    period: str = "week",
) -> Advice:
    """Return the advice for the fleet: its median gap between polls, and the mean business time of a store's week."""
    distributions = read_model(database, connection, default_zone, as_of_us, rules)
    schedule = readings.read_schedule(database, connection, default_zone, None, as_of_us)
    sample = sample_of(len(schedule.ids))
    if not len(sample):
        return advise(distributions, 0, 0.0, target, period)
    opened = schedule.openings(schedule.select(sample), as_of_us - WEEK_US, as_of_us).cut(as_of_us - WEEK_US, as_of_us)
    week_us = int(np.sum(opened.end_us - opened.start_us)) / len(sample)
    return advise(distributions, distributions.model.every_minutes, week_us / MINUTE_US, target, period)


def _minutes_text(minutes: int) -> str:
    return "minute" if minutes == 1 else f"{minutes} minutes"
