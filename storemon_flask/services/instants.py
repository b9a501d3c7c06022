"""Instants that people type: an as-of on the command line or in a request."""

import re
from datetime import UTC, datetime, timedelta

from dateutil.parser import isoparse

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
