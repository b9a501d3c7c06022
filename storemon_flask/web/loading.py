"""What every door that takes data in shares: room for a load, and the terms it is done on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from storemon_flask.services.load import Terms
from storemon_flask.web.app import runner

# An answer lists so many rejected rows; the others are asked for by the load's number.
REJECTS_SHOWN: Final = 100


@contextmanager
def one_load() -> Iterator[Callable[[int, str], Terms]]:
    """Room for one more load, and the terms it is done on, by whether it is to be atomic and how hours files number days (0-6 or iso). `Busy` when there is none."""
    found = runner()
    settings = found.settings

    def terms(atomic: int, days: str) -> Terms:
        now_us = time.time_ns() // 1000
        return Terms(
            now_us,
            settings.max_clock_skew_us,
            settings.csv_road,
            bool(atomic),
            settings.default_timezone,
            days == "iso",
        )

    with found.places.for_a_load():
        yield terms
