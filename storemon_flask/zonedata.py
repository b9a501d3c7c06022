"""The IANA zones this program knows: those of the pinned `tzdata` package and no others.

`zoneinfo` prefers the machine's zone files to the package's; emptying its search path makes the package decide, so that
two machines with the same storemon give the same bytes.
"""

import zoneinfo
from functools import lru_cache

zoneinfo.reset_tzpath(())


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """Every zone name that exists, in the spelling that exists (`America/Chicago`, `Etc/UTC`, ...)."""
    return frozenset(zoneinfo.available_timezones() - {"Factory", "localtime"})


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone of that name; `KeyError` (`ZoneInfoNotFoundError`) when there is none."""
    return zoneinfo.ZoneInfo(name)


@lru_cache(maxsize=1)
def version() -> str:
    """The version of the zone data, for `info` and for whoever must reproduce a report."""
    from importlib.metadata import version as version_of

    return version_of("tzdata")
