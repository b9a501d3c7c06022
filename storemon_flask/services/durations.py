"""Lengths of time in words, the same on pages, in terminals and in answers."""

from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US


def duration_text(length_us: int, at_least: bool = False) -> str:
    """A length of time, rounded down: `42 min`, `8 h 42 min`, `3 days 4 h`, `39 days`; with `at_least` `over 6 days`.

    Hours go up to two days, and from ten days on there are days alone.
    """
    if length_us < MINUTE_US:
        return "under 1 min" if length_us > 0 else "0 min"
    if length_us < HOUR_US:
        large, small = f"{length_us // MINUTE_US} min", ""
    elif length_us < 2 * DAY_US:
        minutes = length_us // MINUTE_US % 60
        large, small = f"{length_us // HOUR_US} h", f"{minutes} min" if minutes else ""
    else:
        days, hours = length_us // DAY_US, length_us // HOUR_US % 24
        large, small = f"{days:,} days", f"{hours} h" if hours and days < 10 else ""
    if at_least:
        return f"over {large}"
    return f"{large} {small}".rstrip()
