"""What each feed is (SPEC 2): what one field may be, the columns of the feed, and the header that tells which it is.

Each `parse_` function takes a field's text and returns a value, or raises `BadValue` with the reason. A reason never
contains the value: rejects are counted by reason, and the row's text is stored beside it. At the most it names one of
few things that the value stands for.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache, partial, wraps
from typing import Any, Final, TypeVar

from storemon_flask import zonedata
from storemon_flask.characters import INVISIBLE, count_text, remove_invisible
from storemon_flask.clock import EPOCH
from storemon_flask.errors import DataError
from storemon_flask.labels import MAX_TAG_CHARACTERS, MOST_TAGS, NAMED_LABELS, TAG_PREFIX, pack
from storemon_flask.model import CLOSED, UNDATED

MAX_ID_CHARACTERS = 200
_CACHED_CHARACTERS = 2 * MAX_ID_CHARACTERS
_MICROSECOND = timedelta(microseconds=1)


class BadValue(ValueError):
    """A field that cannot be used; the message is the reason."""


# Reasons.
ID_EMPTY = "store_id is empty"
ID_LONG = f"store_id is longer than {MAX_ID_CHARACTERS} characters"
ID_CONTROL = "store_id contains a control character"
ID_SPREADSHEET = (
    "store_id was destroyed by a spreadsheet (scientific notation); export the file again without opening it"
)
ID_ERROR = (
    "store_id was destroyed by a spreadsheet (an error value, or a number wider than its column); "
    "export the file again without opening it"
)
ID_INVISIBLE = "store_id contains an invisible character ({}); remove it"
TIMESTAMP_FORM = "timestamp_utc is not a date and time (YYYY-MM-DD HH:MM:SS[.ffffff] [UTC])"
TIMESTAMP_NUMBER = (
    "timestamp_utc is a number, but not of seconds, milliseconds or microseconds since 1970 "
    "(9 or 10 digits are seconds, 12 or 13 milliseconds, 15 or 16 microseconds; no exponent)"
)
TIMESTAMP_RANGE = "timestamp_utc is a date or time that does not exist"
TIMESTAMP_EARLY = "timestamp_utc is before 1970"
TIMESTAMP_FUTURE = "timestamp_utc is ahead of this machine's clock (STOREMON_MAX_CLOCK_SKEW_MINUTES)"
STATUS = "status is neither active nor inactive"
DAY = "day of week is not a whole number from 0 (Monday) to 6 (Sunday)"
DAY_ISO = "day of week is not a whole number from 1 (Monday) to 7 (Sunday), as days=iso has it"
DAYS_FROM_ONE = (
    "its days are numbered from 1: a row has day 7 and none has day 0, while 0 means Monday and 6 Sunday; if 1 means "
    "Monday and 7 Sunday in it, load it with `storemon load-data --days iso` (over HTTP with ?days=iso, on the page "
    "Data with that choice); if 1 means Sunday, number its days from 0 (Monday) to 6 (Sunday) first"
)
TIME = "start_time_local or end_time_local is not a time of day (H:MM or HH:MM[:SS])"
VALID_FROM = "valid_from is not a date (YYYY-MM-DD, 1970 to 2199), nor empty"
DATE = "date is not a date (YYYY-MM-DD, 1970 to 2199)"
ZONE = "time zone is not the name of an IANA zone"
ZONE_WINDOWS = "time zone is the Windows name of {0}; write {0}"
MAX_NAME_CHARACTERS = 200
NAME_LONG = f"name or group is longer than {MAX_NAME_CHARACTERS} characters"
NAME_CONTROL = "name or group contains a control character"
LABEL_LONG = f"a brand, region, platform or tag is longer than {MAX_NAME_CHARACTERS} characters"
LABEL_CONTROL = "a brand, region, platform or tag contains a control character"
TAGS_MANY = f"the store has more than {MOST_TAGS} tags"
TAG_NAME = f"tag:NAME has 1 to {MAX_TAG_CHARACTERS} characters as its NAME, none of them a control character or ="

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
# Blanks, but for control characters other than tab, and what is invisible, at the start of a text.
_END = re.compile(rf"(?:[^\S\x00-\x08\x0a-\x1f\x7f-\x9f]|[{INVISIBLE}])*")

# A decimal point or comma, a sign before it, or E+ tell a number from an id such as 1E5, 12E-5 or a hexadecimal 314e14.
_BLANK = r"\s*"
_SIGN = "[-+\u2212]"
_EXPONENT = rf"{_BLANK}E{_BLANK}"
_SCIENTIFIC = re.compile(
    rf"{_SIGN}?{_BLANK}(?:[0-9]+[.,][0-9]*|[.,][0-9]+){_EXPONENT}{_SIGN}?{_BLANK}[0-9]+"
    rf"|{_SIGN}{_BLANK}[0-9]+{_EXPONENT}{_SIGN}?{_BLANK}[0-9]+"
    rf"|[0-9]+{_EXPONENT}\+{_BLANK}[0-9]+",
    re.IGNORECASE,
)
# A number wider than its column, and the error values of spreadsheets: in English in any case, and the capitals of
# another language between # and ! or ? (#BEZUG!, #\u00a1VALOR!, #NOMBRE?).
_ERROR_VALUE = re.compile(
    r"#+|#(?:N/A|REF!|VALUE!|DIV/0!|NAME\?|NULL!|NUM!|ERROR!|SPILL!|CALC!|N/B|N/D|N/DISP|I/T|\u041d/\u0414|NV"
    r"|GETTING_DATA)"
    r"|ERR:[0-9]{3}",
    re.IGNORECASE,
)
_LOCAL_ERROR_VALUE = re.compile(r"#[\u00a1\u00bf]?[^\W\d_][^\W_]*(?:/[^\W_]+)?[!?]")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]+))?)?"
    r" ?(?:UTC|Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19[7-9]|2[01][0-9])[0-9]-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]*)?)?")


_Value = TypeVar("_Value")


def _cached(size: int) -> Callable[[Callable[..., _Value]], Callable[..., _Value]]:
    """Remember the values of short texts: a feed has the same ids and times over and over."""

    def decorate(parse: Callable[..., _Value]) -> Callable[..., _Value]:
        """Return the parser with a cache of its own."""
        remembered = lru_cache(size)(parse)

        @wraps(parse)
        def parse_cached(text: str, **options: Any) -> _Value:
            """Parse a text, from the cache if it is short."""
            return (remembered if len(text) <= _CACHED_CHARACTERS else parse)(text, **options)

        return parse_cached

    return decorate


def strip_ends(text: str) -> str:
    """Return the text without blanks and invisible characters at its ends."""
    if text.isascii():
        return text.strip(" \t")
    # Matched from the outside, the second time backwards: searching for the blanks before the end would take quadratic
    # time.
    for _ in range(2):
        text = _END.sub("", text, count=1)[::-1]
    return text


@_cached(1 << 16)
def parse_store_id(text: str) -> str:
    """Return the id without blanks and invisible characters at its ends: 1 to 200 characters, all of them visible."""
    cleaned = strip_ends(text) if text.strip() else ""
    if not cleaned:
        raise BadValue(ID_EMPTY)
    if len(cleaned) > MAX_ID_CHARACTERS:
        raise BadValue(ID_LONG)
    if not cleaned.isprintable() and any(unicodedata.category(c) == "Cc" for c in cleaned):
        raise BadValue(ID_CONTROL)
    invisible = None if cleaned.isascii() else _INVISIBLE.search(cleaned)
    if invisible:
        number = f"U+{ord(invisible[0]):04X}"
        raise BadValue(ID_INVISIBLE.format(", ".join(filter(None, (unicodedata.name(invisible[0], ""), number)))))
    if _SCIENTIFIC.fullmatch(cleaned):
        raise BadValue(ID_SPREADSHEET)
    if _ERROR_VALUE.fullmatch(cleaned) or (_LOCAL_ERROR_VALUE.fullmatch(cleaned) and cleaned.isupper()):
        raise BadValue(ID_ERROR)
    return cleaned


# How many microseconds the unit of a number since 1970 has, by the digits before its point: the ranges of the units do
# not meet. The fewest digits are those of 1973.
EPOCH_UNITS_US = {9: 1_000_000, 10: 1_000_000, 12: 1_000, 13: 1_000, 15: 1, 16: 1}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:E[+-]?[0-9]+)?", re.IGNORECASE)
_EPOCH_NUMBER = re.compile(r"([1-9][0-9]{8,15})(?:\.([0-9]+))?")


def parse_timestamp(text: str) -> int:
    """Return a timestamp in microseconds UTC; digits beyond the sixth are cut, a missing zone means UTC."""
    cleaned = text.strip()
    match = _TIMESTAMP.fullmatch(cleaned)
    if match is None:
        return _epoch_number(cleaned)
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    if int(off_minutes or 0) > 59:
        raise BadValue(TIMESTAMP_RANGE)
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    shift = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, timezone(shift)
        )
    except ValueError:
        raise BadValue(TIMESTAMP_RANGE) from None
    if moment < EPOCH:
        raise BadValue(TIMESTAMP_EARLY)
    return (moment - EPOCH) // _MICROSECOND


def _epoch_number(text: str) -> int:
    """Microseconds since 1970 of a number of seconds, milliseconds or microseconds since then."""
    if not _NUMBER.fullmatch(text):
        raise BadValue(TIMESTAMP_FORM)
    if text.startswith("-"):
        raise BadValue(TIMESTAMP_EARLY)
    match = _EPOCH_NUMBER.fullmatch(text)
    unit_us = EPOCH_UNITS_US.get(len(match[1])) if match else None
    if match is None or unit_us is None:
        raise BadValue(TIMESTAMP_NUMBER)
    fraction = (match[2] or "").ljust(6, "0")[: len(str(unit_us)) - 1]
    return int(match[1]) * unit_us + int(fraction or "0")


def parse_status(text: str) -> bool:
    """Return True for `active`, False for `inactive`, in any case."""
    word = text.strip().lower()
    if word not in ("active", "inactive"):
        raise BadValue(STATUS)
    return word == "active"


class DaysOfWeek:
    """Reads the days of one hours file, numbered 0 (Monday) to 6 or, with `iso`, 1 (Monday) to 7.

    None for `iso` is 0 to 6 beyond doubt: nothing is concluded from the days that there are.
    """

    def __init__(self, iso: bool | None = False) -> None:
        self._iso = iso
        self._seen: set[str] = set()
        self._any = False

    def read(self, text: str) -> int:
        """Return a day from 0 (Monday) to 6 (Sunday)."""
        self.see(text)
        cleaned = text.strip()
        if len(cleaned) != 1 or cleaned not in ("1234567" if self._iso else "0123456"):
            raise BadValue(DAY_ISO if self._iso else DAY)
        self._any = True
        return int(cleaned) - bool(self._iso)

    def see(self, text: str) -> None:
        """Remember a day of the file, also of a row that is rejected for another reason."""
        self._seen |= {text.strip()} & {"0", "7"}

    @property
    def from_one(self) -> bool:
        """Whether there is a 7 and no 0, so that the days are numbered in another way than was expected."""
        return self._iso is False and self._seen == {"7"}

    @property
    def without_first(self) -> bool:
        """Whether there are days, and none of them says that they are numbered from 0."""
        return self._iso is False and self._any and "0" not in self._seen


@_cached(1 << 13)
def parse_time_of_day(text: str, *, end: bool = False) -> int:
    """Return seconds after midnight; fractions are ignored. `24:00` is allowed for an end only."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise BadValue(TIME)
    hour, minute, second = (int(number or 0) for number in match.groups())
    if minute > 59 or second > 59 or hour > 24 or (hour == 24 and (minute or second or not end)):
        raise BadValue(TIME)
    return hour * 3600 + minute * 60 + second


def parse_special_time(text: str, *, end: bool = False) -> int:
    """Return seconds after midnight; `model.CLOSED` where there is no time."""
    return parse_time_of_day(text, end=end) if text.strip() else CLOSED


def parse_date(text: str, reason: str = DATE) -> int:
    """Return a local date in days since 1970-01-01."""
    cleaned = text.strip()
    if not _DATE.fullmatch(cleaned):
        raise BadValue(reason)
    try:
        return (date.fromisoformat(cleaned) - EPOCH.date()).days
    except ValueError:
        raise BadValue(reason) from None


def parse_valid_from(text: str) -> int:
    """Return a local date in days since 1970-01-01; `model.UNDATED` where there is none."""
    return parse_date(text, VALID_FROM) if text.strip() else UNDATED


def parse_time_zone(text: str) -> str:
    """Return the name of an IANA zone that exists, in the spelling that exists."""
    cleaned = strip_ends(text)
    zone = zonedata.find(cleaned)
    if zone is None:
        windows = zonedata.of_windows(cleaned)
        raise BadValue(ZONE if windows is None else ZONE_WINDOWS.format(windows))
    return zone


@_cached(1 << 16)
def parse_name(text: str) -> str:
    """Return a store's name or group without blanks at its ends; empty for none."""
    return _parse_short_text(text, NAME_LONG, NAME_CONTROL)


@_cached(1 << 16)
def parse_label(text: str) -> str:
    """Return a label of a store without blanks at its ends; empty for none."""
    return _parse_short_text(text, LABEL_LONG, LABEL_CONTROL)


def _parse_short_text(text: str, too_long: str, with_control: str) -> str:
    cleaned = text.strip()
    if len(cleaned) > MAX_NAME_CHARACTERS:
        raise BadValue(too_long)
    if not text.isprintable() and _has_control(text.strip(" \t")):
        raise BadValue(with_control)
    return cleaned


def _has_control(text: str) -> bool:
    return any(unicodedata.category(c) == "Cc" for c in text)


def parse_tags(text: str) -> str:
    """Return the packed labels of a JSON object of tags with their texts."""
    tags = {name: parse_label(value) for name, value in json.loads(text).items()} if text else {}
    if sum(map(bool, tags.values())) > MOST_TAGS:
        raise BadValue(TAGS_MANY)
    return pack(tags)


def tag_label(name: str) -> str:
    """Return the label of a column that is called `tag:NAME`, NAME as it is written; empty for another column.

    `BadValue` when no tag may have that name.
    """
    prefix, colon, rest = name.partition(":")
    if not colon or spelled(prefix[:MAX_NAME_CHARACTERS]) != TAG_PREFIX[:-1]:
        return ""
    cleaned = strip_ends(rest)
    if not 1 <= len(cleaned) <= MAX_TAG_CHARACTERS or "=" in cleaned or _has_control(cleaned):
        raise BadValue(TAG_NAME)
    return f"{TAG_PREFIX}{cleaned}"


class Column:
    """A column of a feed: its name, in any case, with or without blanks and underscores, or another name."""

    def __init__(self, name: str, parse: Callable[[str], Any], *others: str, optional: bool = False) -> None:
        self.name = name
        self.parse = parse
        self.spellings = frozenset({spelled(name), *others})
        self.optional = optional


def spelled(name: str) -> str:
    """Return a column's name in lower case, without blanks, underscores and invisible characters."""
    return remove_invisible(name).strip().lower().replace(" ", "").replace("_", "")


_STORE_ID: Final = Column("store_id", parse_store_id)
_VALID_FROM: Final = Column("valid_from", parse_valid_from, optional=True)
# Per feed its columns in order, the store's first.
FEEDS: Final[dict[str, tuple[Column, ...]]] = {
    "polls": (_STORE_ID, Column("timestamp_utc", parse_timestamp), Column("status", parse_status)),
    "hours": (
        _STORE_ID,
        # A file's own `DaysOfWeek` reads its days.
        Column("dayOfWeek", DaysOfWeek().read, "day"),
        Column("start_time_local", parse_time_of_day),
        Column("end_time_local", partial(parse_time_of_day, end=True)),
        _VALID_FROM,
    ),
    "timezones": (_STORE_ID, Column("timezone_str", parse_time_zone, "timezone"), _VALID_FROM),
    "special_hours": (
        _STORE_ID,
        Column("date", parse_date),
        Column("start_time_local", parse_special_time),
        Column("end_time_local", partial(parse_special_time, end=True)),
    ),
    "stores": (
        _STORE_ID,
        Column("name", parse_name, "storename"),
        Column("group", parse_name, "groupname", optional=True),
        *(Column(label, parse_label, optional=True) for label in NAMED_LABELS),
    ),
}
# The column of records that have any number of tags: a JSON object of them.
ANY_TAGS: Final = "tags"
_EXPECTED: Final = "; ".join(
    f"{feed}: {', '.join(f'[{column.name}]' if column.optional else column.name for column in columns)}"
    for feed, columns in FEEDS.items()
).replace("[platform]", "[platform], [tag:NAME] ...")
# The column of every accepted spelling.
_NAME_OF: Final = {
    spelling: column.name for columns in FEEDS.values() for column in columns for spelling in column.spellings
}
# To look at millions of columns takes seconds, and a zip can have a thousand such files.
MAX_COLUMNS: Final = 1_000
# In this order they are tried; a header that fits a feed in one of them fits none in another.
DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True, slots=True)
class Header:
    """A recognised header: the feed, how many columns a row has, and where each column of the feed stands.

    -1 stands for an optional column that the file does not have. A row may lack up to `optional_end` fields at its end:
    no column that must be there comes after them. `tags` are the labels of the last of `columns`, which the stores feed
    has besides its own.
    """

    feed: str
    width: int
    columns: tuple[int, ...]
    delimiter: str = ","
    optional_end: int = 0
    tags: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        """How many fields a row must have."""
        return self.width - self.optional_end


def record_header(feed: str, tags: tuple[str, ...] = ()) -> Header:
    """Return the header of records that have the feed's fields in order, and then those tags."""
    width = len(FEEDS[feed]) + len(tags)
    return Header(feed, width, tuple(range(width)), tags=tags)


def columns_of(header: Header) -> tuple[Column, ...]:
    """Return the columns that the header's `columns` say the place of."""
    parse = {ANY_TAGS: parse_tags}
    tags = (Column(tag, parse.get(tag, parse_label), optional=True) for tag in header.tags)
    return (*FEEDS[header.feed], *tags)


class _Misfit(DataError):
    """Why a line is no header when a delimiter divides it: the more of it is known, the better it tells why."""

    def __init__(self, sentence: str, known: int, count: int) -> None:
        super().__init__(sentence)
        self.rank = (known, count)


def recognise(line: str, delimiters: str = "".join(DELIMITERS)) -> Header:
    """Return the feed whose columns the header line has, divided by one of the delimiters; `DataError` when it fits
    none, or two.

    The message has no text of the line, which may be that of any file: messages are stored, shown and logged.
    """
    misfits: list[_Misfit] = []
    for delimiter in delimiters:
        if delimiter in line or not misfits:
            try:
                return _recognise(line, delimiter)
            except _Misfit as misfit:
                misfits.append(misfit)
    raise max(misfits, key=lambda misfit: misfit.rank)


def recognise_names(names: list[str]) -> Header:
    """Return the feed whose columns have these names; errors as `recognise`."""
    return _recognise_names(names, ",")


def _recognise(line: str, delimiter: str) -> Header:
    # To take millions of names apart takes long.
    names = [""] * (MAX_COLUMNS + 1) if line.count(delimiter) >= MAX_COLUMNS else names_of(line, delimiter)
    return _recognise_names(names, delimiter)


def _recognise_names(names: list[str], delimiter: str) -> Header:
    if len(names) > MAX_COLUMNS:
        sentence = f"the header has more than {MAX_COLUMNS:,} columns, which no feed has; expected one of {_EXPECTED}"
        raise _Misfit(sentence, 0, MAX_COLUMNS)
    spellings = [spelled(name) for name in names]
    known = [(index, spelling) for index, spelling in enumerate(spellings) if spelling in _NAME_OF]
    fits: list[tuple[str, tuple[int, ...]]] = []
    for feed, columns in FEEDS.items():
        if feed == "stores" and fits:
            # An export of polls may name its stores too.
            continue
        indexes = [[index for index, spelling in known if spelling in column.spellings] for column in columns]
        if all(positions or column.optional for positions, column in zip(indexes, columns, strict=True)):
            twice = next((positions for positions in indexes if len(positions) > 1), None)
            if twice:
                which = ", ".join(dict.fromkeys(spellings[index] for index in twice))
                sentence = f"the header names one column of {feed} twice ({which}); remove one of them"
                raise _Misfit(sentence, len(known), len(spellings))
            fits.append((feed, tuple(positions[0] if positions else -1 for positions in indexes)))
    if len(fits) == 1:
        feed, positions = fits[0]
        required = [at for at, column in zip(positions, FEEDS[feed], strict=True) if not column.optional]
        tags = _find_tags(names) if feed == "stores" else {}
        at_end = len(spellings) - max(required) - 1
        return Header(feed, len(spellings), (*positions, *tags.values()), delimiter, at_end, tuple(tags))
    if fits:
        sentence = (
            f"the header fits {'two' if len(fits) == 2 else len(fits)} feeds, "
            f"{' and '.join(feed for feed, _ in fits)}; expected one of {_EXPECTED}"
        )
        raise _Misfit(sentence, len(known), len(spellings))
    known_names = ", ".join(dict.fromkeys(_NAME_OF[spelling] for _, spelling in known)) or "none"
    count = count_text(len(spellings), "column")
    divided = f" separated by {DELIMITERS[delimiter]}" if delimiter != "," else ""
    sentence = f"the header fits no feed: it has {count}{divided}, of which storemon knows {known_names}"
    raise _Misfit(f"{sentence}; expected one of {_EXPECTED}", len(known), len(spellings))


def _find_tags(names: list[str]) -> dict[str, int]:
    """Return the labels of the columns that are tags, and where each stands."""
    tags: dict[str, int] = {}
    for index, name in enumerate(names):
        try:
            tag = tag_label(name)
        except BadValue as bad:
            raise _Misfit(f"column {index + 1} of the header cannot be used: {bad}", len(names), len(names)) from None
        if tag in tags:
            sentence = f"the header names one tag twice, in columns {tags[tag] + 1} and {index + 1}; remove one of them"
            raise _Misfit(sentence, len(names), len(names))
        if tag:
            tags[tag] = index
    return tags


def names_of(line: str, delimiter: str) -> list[str]:
    """Return the names of the columns in a header."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [""])
    except csv.Error:
        return line.split(delimiter)


def begins_with_column(name: str) -> list[str]:
    """Return the spellings of columns with which a name begins that is longer than they are."""
    text = spelled(name[:MAX_NAME_CHARACTERS])
    return [spelling for spelling in _NAME_OF if text.startswith(spelling) and text != spelling]
