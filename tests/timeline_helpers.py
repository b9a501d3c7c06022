"""Timelines of drawn fleets, for tests."""

from storemon_flask.model import DAY_US

MONDAY = 1_728_864_000_000_000  # 2024-10-14T00:00:00Z


UTC9 = [("a", day, "09:00", "17:00") for day in range(5)]


ZONES = {"a": "UTC"}


def at(hour: float, day: int = 0) -> int:
    return MONDAY + day * DAY_US + round(hour * 3600) * 1_000_000


def poll(hour: float, up: bool, day: int = 0) -> tuple[str, int, bool]:
    return ("a", at(hour, day), up)
