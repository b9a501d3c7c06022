"""Which blocks a fast road may try: those on which every road must agree."""

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


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
