"""Texts of fields, for tests of their validators."""

import numpy as np
from ingest_helpers import us

from storemon_flask.feeds import values
from storemon_flask.feeds.csv_fast import Fields

NOON = us("2023-01-22T12:09:39")


EXACT = us("2023-01-22T12:09:39.388884")


GOOD_TIMESTAMPS = {
    "2023-01-22 12:09:39.388884 UTC": EXACT,
    "2023-01-22 12:09:39.388884": EXACT,
    "2023-01-22T12:09:39.388884Z": EXACT,
    "2023-01-22t12:09:39.388884z": EXACT,
    "2023-01-22 12:09:39.388884 utc": EXACT,
    "2023-01-22 12:09:39.388884UTC": EXACT,
    "2023-01-22 12:09:39.388884+00:00": EXACT,
    "2023-01-22 12:09:39.388884 +00:00": EXACT,
    "2023-01-22 12:09:39.388884-00:00": EXACT,
    "2023-01-22 12:09:39.388884+0000": EXACT,
    "2023-01-22 12:09:39.388884+00": EXACT,
    "2023-01-22 17:39:39.388884+05:30": EXACT,
    "2023-01-22 17:39:39.388884+0530": EXACT,
    "2023-01-22 06:09:39.388884-06": EXACT,
    "2023-01-21 23:09:39.388884-13:00": EXACT,
    "2023-01-23 02:09:39.388884+14:00": EXACT,
    "  2023-01-22 12:09:39.388884 UTC  ": EXACT,
    "2023-01-22 12:09:39.388884999 UTC": EXACT,
    "2023-01-22 12:09:39.3888849999999999999 UTC": EXACT,
    "2023-01-22 12:09:39 UTC": NOON,
    "2023-01-22 12:09:39": NOON,
    "2023-01-22 12:09:39.0 UTC": NOON,
    "2023-01-22 12:09:39.0000009 UTC": NOON,
    "2023-01-22 12:09:39.000001 UTC": NOON + 1,
    "2023-01-22 12:09:39.5 UTC": NOON + 500_000,
    "2023-01-22 12:09:39.05": NOON + 50_000,
    "2023-01-22 12:09": NOON - 39_000_000,
    "2023-01-22T12:09Z": NOON - 39_000_000,
    "2023-01-22 12:09 UTC": NOON - 39_000_000,
    "2023-01-22 06:09-06:00": NOON - 39_000_000,
    "1674389379": NOON,
    "1970-01-01 00:00:00 UTC": 0,
    "1969-12-31 23:00:00-01:00": 0,
    "2024-02-29 00:00:00": us("2024-02-29T00:00:00"),
    "2000-02-29 23:59:59.999999Z": us("2000-03-01T00:00:00") - 1,
}


BAD_TIMESTAMPS = {
    "": values.TIMESTAMP_FORM,
    "yesterday": values.TIMESTAMP_FORM,
    "2023-01-22": values.TIMESTAMP_FORM,
    "2023-01-22 12": values.TIMESTAMP_FORM,
    "22/01/2023 12:09": values.TIMESTAMP_FORM,
    "2023-1-22 12:09:39": values.TIMESTAMP_FORM,
    "2023-01-22  12:09:39": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39.": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39,388": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39 EST": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39  UTC": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39 UTC UTC": values.TIMESTAMP_FORM,
    "2023-01-22 12:09:39+5": values.TIMESTAMP_FORM,
    "+2023-01-22 12:09:39": values.TIMESTAMP_FORM,
    "２０２３-01-22 12:09:39": values.TIMESTAMP_FORM,
    "2023-02-29 12:09:39": values.TIMESTAMP_RANGE,
    "1900-02-29 12:09:39": values.TIMESTAMP_RANGE,
    "2023-13-01 12:09:39": values.TIMESTAMP_RANGE,
    "2023-00-01 12:09:39": values.TIMESTAMP_RANGE,
    "2023-01-00 12:09:39": values.TIMESTAMP_RANGE,
    "2023-01-32 12:09:39": values.TIMESTAMP_RANGE,
    "2023-01-22 24:00:00": values.TIMESTAMP_RANGE,
    "2023-01-22 12:60:00": values.TIMESTAMP_RANGE,
    "2023-01-22 12:09:60": values.TIMESTAMP_RANGE,
    "2023-01-22 12:09:39+24:00": values.TIMESTAMP_RANGE,
    "2023-01-22 12:09:39-99:00": values.TIMESTAMP_RANGE,
    "0000-01-01 00:00:00": values.TIMESTAMP_RANGE,
    "1969-12-31 23:59:59.999999 UTC": values.TIMESTAMP_EARLY,
    "0001-01-01 00:00:00+23:59": values.TIMESTAMP_EARLY,
    "1970-01-01 00:59:59+01:00": values.TIMESTAMP_EARLY,
}


def read_timestamps(texts: list[str]) -> list[int | None]:
    """What the fast reader makes of each text as a field; None where it leaves the field to others."""
    fields = [text.encode() for text in texts]
    end = np.cumsum([len(field) + 1 for field in fields], dtype=np.int64).reshape(-1, 1) - 1
    start = end - np.array([len(field) for field in fields], dtype=np.int64).reshape(-1, 1)
    block = Fields(b"".join(field + b"\n" for field in fields) + b"x" * 100, start, end)
    timestamp_us, read = block.timestamps(0)
    return [at if good else None for at, good in zip(timestamp_us.tolist(), read.tolist(), strict=True)]
