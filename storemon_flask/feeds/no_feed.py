"""What a file is that does not begin with the header of a feed, as far as that can be told: the cause, and what to do.

No sentence has any text of the file, which may be any file of the machine.
"""

import re
from collections.abc import Iterable
from typing import Final

from storemon_flask.errors import DataError
from storemon_flask.feeds.archives import is_packed
from storemon_flask.feeds.schema import DELIMITERS, Header, begins_with_column, names_of, recognise

# Titles have been seen in up to a dozen lines. A longer line is no header with a title above it.
LINES_BELOW: Final = 30
BYTES_BELOW: Final = 1 << 16
_JOINED_CHARACTERS: Final = 10_000

_LFS: Final = b"version https://git-lfs.github.com/spec/"
_PAGE: Final = re.compile(rb"<!doctype\s+html|<html|<head|<body", re.IGNORECASE)
_JSON: Final = re.compile(rb'\[\s*[\[{"]|\{\s*"')
JSON: Final = (
    "it is JSON, and files are CSV; load it as `storemon load-data --feed polls - < FILE` (or the feed it is), or send "
    "it over HTTP"
)
LFS_POINTER: Final = "it is a Git LFS pointer and not the file itself; fetch that with `git lfs pull`"
WEB_PAGE: Final = (
    "it is a web page (HTML) and not a CSV, perhaps one that asks to sign in or to confirm a download; download the "
    "file itself"
)
JOINED: Final = (
    "its lines are joined into one, as `curl -d @FILE` does; send it with `curl --data-binary @FILE`, which keeps its "
    "line breaks"
)
PACKED: Final = "it is compressed more than once, or a workbook that is compressed again; unpack it first"
WRAPPED: Final = (
    "line {} is in quotes as a whole, so that it is one field; export it again with quotes around fields only"
)


def cause_by_start(start: bytes) -> str:
    """Return what begins so and is no CSV; nothing when that cannot be told."""
    if is_packed(start):
        return PACKED
    start = start.lstrip()[:1000]
    if start.startswith(_LFS):
        return LFS_POINTER
    return WEB_PAGE if _PAGE.match(start) else JSON if _JSON.match(start) else ""


def explain(error: DataError, text: str, line: int, below: Iterable[bytes]) -> DataError:
    """Return why the header was not recognised in a text that stands on `line`, more exactly than `error` if possible.

    `below` are the lines after it.
    """
    names = names_of(text, ",")
    if len(names) == 1 and text.startswith('"') and _header(names[0]) is not None:
        return DataError(WRAPPED.format(line))
    last = line
    for last, raw in enumerate(below, start=line + 1):
        header = _header(raw.decode("utf-8", "replace"))
        if header is not None:
            above = f"line {line}" if last == line + 1 else f"lines {line} to {last - 1}"
            return DataError(f"the header (of {header.feed}) is on line {last}; remove what stands above it, {above}")
    return DataError(JOINED) if last == line and is_joined(text) else error


def is_joined(text: str) -> bool:
    """Return whether a line is a header that the first row follows at once."""
    start = text[:_JOINED_CHARACTERS]
    for delimiter in DELIMITERS:
        names = start.split(delimiter)
        for index, name in enumerate(names[:-1]):
            for column in begins_with_column(name):
                if _header(delimiter.join([*names[:index], column])) is not None:
                    return True
    return False


def _header(line: str) -> Header | None:
    try:
        return recognise(line)
    except DataError:
        return None
