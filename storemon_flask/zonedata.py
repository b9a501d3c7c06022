"""The IANA zones this program knows: those of the pinned `tzdata` package and no others.

`zoneinfo` prefers the machine's zone files to the package's; here the package decides, so that two machines with the same
storemon give the same bytes.
"""

import zoneinfo
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# For whoever asks `zoneinfo` itself in this process.
zoneinfo.reset_tzpath(())


@cache
def names() -> frozenset[str]:
    """Every zone name that exists, in the spelling that exists (`America/Chicago`, `Etc/UTC`, ...)."""
    return frozenset(_package().joinpath("zones").read_text("utf-8").split()) - {"Factory", "localtime"}


@cache
def zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone of that name; `KeyError` (`ZoneInfoNotFoundError`) when there is none."""
    if name not in names():
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {name}")
    with _package().joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


@cache
def _package() -> "Traversable":
    """The files of `tzdata`. `zoneinfo` looks for them anew for each zone: 11 ms where they are a zip, in the single file."""
    from importlib.resources import files

    return files("tzdata")


@cache
def version() -> str:
    """The version of the zone data, for `info` and for whoever must reproduce a report."""
    from importlib.metadata import version as version_of

    return version_of("tzdata")
