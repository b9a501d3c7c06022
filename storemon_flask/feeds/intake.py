"""What is pushed over HTTP: a body that is one feed, or uploaded files."""

from collections.abc import Iterable
from typing import IO, Any

from storemon_flask.database.connections import Database
from storemon_flask.errors import BadRequest
from storemon_flask.feeds import load, uploads
from storemon_flask.feeds.load import LoadResult, Terms


def body(
    database: Database, stream: Any, size: int, label: str, feed: str, packed: bool, terms: Terms, most_bytes: int
) -> LoadResult:
    """Load a request's body as `feed`. `label` is its media type, the content decides; `packed`: it is gzipped;
    `most_bytes`: what may come out of it.

    What the body is not, a feed or JSON or small enough, is raised as the `DataError` it is.
    """
    result = load.run(database, [uploads.body(stream, size, label, feed, packed, most_bytes)], terms)
    if result.error is not None:
        raise result.error
    return result


def files(database: Database, uploaded: Iterable[tuple[str, IO[bytes]]], terms: Terms, most_bytes: int) -> LoadResult:
    """Load uploaded files and zips, each file's feed recognised by its header.

    One bad file does not keep the others out.
    """
    found = uploads.files(uploaded, most_bytes)
    if not found:
        raise BadRequest("no file was sent; send one or more as multipart/form-data, as `curl -F file=@polls.csv` does")
    return load.run(database, found, terms)
