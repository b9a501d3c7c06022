"""Which blocks a fast road may try: those on which every road must agree."""

import numpy as np

from storemon_flask.ingest import records
from storemon_flask.ingest.records import MAX_LINE_BYTES


def is_plain(data: bytes) -> bool:
    """UTF-8, no quote, no NUL, a return only before a newline, no line too long.

    That its rows have one width is for the road to check.
    """
    if b'"' in data or b"\0" in data:
        return False
    if b"\r" in data and records.count(data, b"\r") != data.count(b"\r\n"):
        return False
    # A line that is too long covers one of these whole.
    half = MAX_LINE_BYTES // 2
    if any(data.find(b"\n", at, at + half) < 0 for at in range(0, len(data) - half, half)):
        return False
    return data.isascii() or _is_utf8(data)


def without_quotes(data: bytes) -> bytes | None:
    """The block with its quotes left out, when that is the same table: they stand around whole fields that need none.

    None when a quoted field holds a comma, a line break or a quote, or a quote stands anywhere else.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(array == ord('"'))
    if len(quotes) % 2:
        return None
    opens, closes = quotes[::2], quotes[1::2]
    before = array[np.maximum(opens - 1, 0)]
    after = array[np.minimum(closes + 1, len(array) - 1)]
    if not (((opens == 0) | _breaks(before)).all() and ((closes == len(array) - 1) | _breaks(after)).all()):
        return None
    separators = np.flatnonzero(_breaks(array))
    if (np.searchsorted(separators, opens) != np.searchsorted(separators, closes)).any():
        return None
    return data.replace(b'"', b"")


def _breaks(array: np.ndarray) -> np.ndarray:
    found: np.ndarray = (array == ord(",")) | (array == ord("\n")) | (array == ord("\r"))
    return found


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
