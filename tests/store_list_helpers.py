"""A list of stores, for the tests of it."""

from conftest import NEWEST

from storemon_flask import clock
from storemon_flask.model import DAY_US

NOW = clock.parse_timestamp(NEWEST)


YEAR_LATER = NOW + 365 * DAY_US


ZONE = "America/Chicago"
