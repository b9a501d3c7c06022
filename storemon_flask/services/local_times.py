"""Local dates and times of day as text, as the feeds spell them."""

from datetime import date, timedelta
from typing import Final

_EPOCH: Final = date(1970, 1, 1)


def date_text(day: int) -> str:
    """A local date, given in days since 1970-01-01, as `YYYY-MM-DD`."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def time_text(second: int) -> str:
    """A time of day as `HH:MM`, with seconds only where there are any; 86,400 is `24:00`."""
    text = f"{second // 3600:02d}:{second // 60 % 60:02d}"
    return f"{text}:{second % 60:02d}" if second % 60 else text
