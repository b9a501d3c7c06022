"""The IANA zones this program knows: those of the pinned `tzdata` package and no others.

`zoneinfo` prefers the machine's zone files to the package's; here the package decides, so that two machines with the
same storemon give the same bytes.
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
def _by_folded_name() -> dict[str, str]:
    return {name.casefold(): name for name in names()}


def find(text: str) -> str | None:
    """Return the zone's name in the spelling that exists; neither case nor blanks for underscores matter."""
    return _by_folded_name().get(text.casefold().replace(" ", "_"))


@cache
def _by_windows_name() -> dict[str, str]:
    # Not at the top: only a zone that does not exist is looked up here.
    from tzlocal.windows_tz import win_tz

    return {windows.casefold(): name for windows, name in win_tz.items()}


def of_windows(text: str) -> str | None:
    """The IANA zone that a Windows name such as `Eastern Standard Time` stands for, as Unicode's CLDR (windowsZones)
    has it.
    """
    return _by_windows_name().get(text.casefold())


@cache
def zone(name: str) -> zoneinfo.ZoneInfo:
    """The zone of that name; `KeyError` (`ZoneInfoNotFoundError`) when there is none."""
    if name not in names():
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {name}")
    with _package().joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return zoneinfo.ZoneInfo.from_file(file, key=name)


@cache
def _package() -> "Traversable":
    """The files of `tzdata`.

    `zoneinfo` looks for them anew for each zone: 11 ms where they are a zip, in the single file.
    """
    from importlib.resources import files

    return files("tzdata")


@cache
def version() -> str:
    """The version of the zone data, for `info` and for whoever must reproduce a report."""
    from importlib.metadata import version as version_of

    return version_of("tzdata")


def old_sentence(now_year: int) -> str | None:
    """What to say of zone data that are more than a year old in any case; None for newer ones.

    A version such as 2026.6 tells only the year: those of a year count as old once the next year is over.
    """
    year = version().partition(".")[0]
    if not year.isdecimal() or int(year) >= now_year - 1:
        return None
    return (
        f"the time zone data (tzdata {version()}) are more than a "
        f"year old: later changes of clocks are counted wrongly; "
        "run `pip install --upgrade tzdata`, or install a newer storemon"
    )
