"""The file of a report that goes with a message: kept by its report, opened when the message is sent."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from storemon_flask.database.connections import Database
from storemon_flask.errors import Gone, NotFound
from storemon_flask.reports import stored, xlsx


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send: its name, media type and bytes."""

    name: str
    media_type: str
    stream: IO[bytes]


@contextmanager
def opened(database: Database, reports_dir: Path, described: Mapping[str, Any] | None) -> Iterator[Attachment | None]:
    """Open what the member `attachment` of a message's content names (`report`, `format`, `name`).

    None when there is nothing to attach, or the report was deleted meanwhile. The same report gives the same bytes.
    """
    try:
        record = stored.get(database, described["report"]) if described else None
        file = stored.file_of(record, reports_dir) if record else None
    except (Gone, NotFound):
        record = file = None
    if not described or record is None or file is None:
        yield None
    elif described["format"] == "xlsx":
        with xlsx.write(file, record.row_count or 0, record.altered, record.method or {}) as stream:
            yield Attachment(described["name"], xlsx.MIME, stream)
    else:
        with file.open("rb") as stream:
            yield Attachment(described["name"], "text/csv", stream)
