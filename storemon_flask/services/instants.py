"""Instants that people type: an as-of on the command line or in a request."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from dateutil.parser import isoparse

from storemon_flask.errors import Unprocessable

# A future as-of is allowed (it asks how it stands if nothing more comes), one that no calendar here covers is not.
EARLIEST_US: Final = 0
LATEST_US: Final = 7_258_118_400_000_000  # 2200-01-01
_BLANK_BEFORE_OFFSET = re.compile(r"(:[0-9.]+) +([+-])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(text: str) -> int:
    """Microseconds since 1970 UTC of any ISO 8601 spelling; without a zone it means UTC. `ValueError` says what is allowed.

    More lenient than the polls feed: a date alone, basic format, week dates. A report of the wrong instant is seen at once,
    a poll at the wrong instant never.
    """
    cleaned = text.strip()
    if cleaned.upper().endswith("UTC"):
        cleaned = cleaned[:-3].rstrip() + "Z"
    cleaned = _BLANK_BEFORE_OFFSET.sub(r"\1\2", cleaned)
    try:
        moment = isoparse(cleaned)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since: timedelta = moment - _EPOCH
        return since // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not an instant such as 2024-10-14T23:55:18Z") from None


def check_as_of(as_of_us: int) -> None:
    """`Unprocessable` for an as-of outside 1970 to 2200."""
    if not EARLIEST_US <= as_of_us <= LATEST_US:
        raise Unprocessable("as_of must lie between 1970-01-01 and 2200-01-01", errors={"as_of": ["out of range"]})
