"""JSON read into records in tests."""

from collections.abc import Iterable
from typing import Any

import pytest
from ingest_helpers import Cut

from storemon_flask.errors import NotJson
from storemon_flask.feeds import json_rows
from storemon_flask.feeds.csv_exact import Record


def read(data: bytes, form: str = "json", feed: str = "polls", sizes: Iterable[int] = ()) -> list[Record]:
    """All records of a stream that is cut as `sizes` say; everything read must have been told."""
    told: list[bytes] = []
    stream: Any = Cut(data, sizes)
    found = [record for batch in json_rows.read(stream, form, feed, told.append) for record in batch]
    assert b"".join(told) == data
    return found


def refused(data: bytes, sizes: Iterable[int] = ()) -> str:
    """The sentence with which a JSON body is refused."""
    with pytest.raises(NotJson) as error:
        read(data, sizes=sizes)
    assert error.value.message.startswith("the body is not a JSON object or a list of them: ")
    assert error.value.message.endswith("; nothing of it was stored")
    assert error.value.status == 400
    return error.value.message
