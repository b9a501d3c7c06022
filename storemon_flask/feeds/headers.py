"""Which feed a file is: decided by its header, never by its name."""

import csv
from dataclasses import dataclass
from typing import Final

from storemon_flask.characters import remove_invisible
from storemon_flask.errors import DataError


class Column:
    """A column of a feed: its name, in any case, with or without blanks and underscores, or another name."""

    def __init__(self, name: str, *others: str, optional: bool = False) -> None:
        self.name = name
        self.spellings = frozenset({spelled(name), *others})
        self.optional = optional


def spelled(name: str) -> str:
    """Return a column's name in lower case, without blanks, underscores and invisible characters."""
    return remove_invisible(name).strip().lower().replace(" ", "").replace("_", "")


# Per feed its columns in order.
FEEDS: Final[dict[str, tuple[Column, ...]]] = {
    "polls": (Column("store_id"), Column("timestamp_utc"), Column("status")),
    "hours": (
        Column("store_id"), Column("dayOfWeek", "day"), Column("start_time_local"), Column("end_time_local"),
        Column("valid_from", optional=True),
    ),
    "timezones": (Column("store_id"), Column("timezone_str", "timezone"), Column("valid_from", optional=True)),
    "special_hours": (Column("store_id"), Column("date"), Column("start_time_local"), Column("end_time_local")),
    "stores": (Column("store_id"), Column("name", "storename"), Column("group", "groupname", optional=True)),
}  # fmt: skip
_EXPECTED: Final = "; ".join(
    f"{feed}: {', '.join(f'[{column.name}]' if column.optional else column.name for column in columns)}"
    for feed, columns in FEEDS.items()
)
# The column of every accepted spelling.
_NAME_OF: Final = {
    spelling: column.name for columns in FEEDS.values() for column in columns for spelling in column.spellings
}
# To look at millions of columns takes seconds, and a zip can have a thousand such files.
MAX_COLUMNS: Final = 1_000
_DELIMITERS: Final = {";": "semicolon", "\t": "tab", "|": "vertical bar"}


@dataclass(frozen=True, slots=True)
class Header:
    """A recognised header: the feed, how many columns a row has, and where each column of the feed stands.

    -1 stands for an optional column that the file does not have.
    """

    feed: str
    width: int
    columns: tuple[int, ...]


def recognise(line: str) -> Header:
    """Return the feed whose columns the header line has; `DataError` when it fits none, or two.

    The message has no text of the line, which may be that of any file: messages are stored, shown and logged.
    """
    if line.count(",") >= MAX_COLUMNS:
        raise DataError(
            f"the header has more than {MAX_COLUMNS:,} columns, which no feed has; expected one of {_EXPECTED}"
        )
    spellings = [spelled(name) for name in _names(line)]
    known = [(index, spelling) for index, spelling in enumerate(spellings) if spelling in _NAME_OF]
    fits = []
    for feed, columns in FEEDS.items():
        indexes = [[index for index, spelling in known if spelling in column.spellings] for column in columns]
        if all(positions or column.optional for positions, column in zip(indexes, columns, strict=True)):
            twice = next((positions for positions in indexes if len(positions) > 1), None)
            if twice:
                which = ", ".join(dict.fromkeys(spellings[index] for index in twice))
                raise DataError(f"the header names one column of {feed} twice ({which}); remove one of them")
            fits.append(Header(feed, len(spellings), tuple(positions[0] if positions else -1 for positions in indexes)))
    if len(fits) == 2 and fits[-1].feed == "stores":
        # An export of polls may name its stores too.
        fits.pop()
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(
            f"the header fits {'two' if len(fits) == 2 else len(fits)} feeds, "
            f"{' and '.join(fit.feed for fit in fits)}; expected one of {_EXPECTED}"
        )
    names = ", ".join(dict.fromkeys(_NAME_OF[spelling] for _, spelling in known)) or "none"
    count = "1 column" if len(spellings) == 1 else f"{len(spellings):,} columns"
    raise DataError(
        f"the header fits no feed: it has {count}, of which storemon knows {names}{_delimiter_hint(line)}; "
        f"expected one of {_EXPECTED}"
    )


def _names(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [""])
    except csv.Error:
        return line.split(",")


def _delimiter_hint(line: str) -> str:
    for delimiter, name in _DELIMITERS.items():
        if line.count(delimiter) > line.count(","):
            return f" (it seems to be separated by {name}s; storemon reads commas)"
    return ""
