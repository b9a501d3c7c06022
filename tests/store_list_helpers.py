"""A list of stores, for the tests of it."""

from conftest import NEWEST

from storemon_flask.model import DAY_US
from storemon_flask.services import instants

NOW = instants.read(NEWEST)


YEAR_LATER = NOW + 365 * DAY_US


ZONE = "America/Chicago"
