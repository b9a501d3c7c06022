"""What happens to a file's bytes beside their being read: their sum, how far the reading is, and whether they are too
many.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

from storemon_flask.feeds.sources import Source
from storemon_flask.model import Progress


class Digest:
    """SHA-256 of what is read, computed beside the reading: OpenSSL lets go of the interpreter."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._last: Future[None] | None = None

    def update(self, data: bytes) -> None:
        """The next bytes; waits for the ones before, so that no more than two pieces are held."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._sum.update, data)

    def hexdigest(self) -> str:
        """The sum of everything, once it is read."""
        self.close()
        return self._sum.hexdigest()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


class ByteShare:
    """Tells progress in bytes on disk, also for a compressed file whose decoded bytes are more."""

    def __init__(self, source: Source, progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._told = 0
        self.stream: object = None

    def read(self, decoded: int) -> None:
        """So many more bytes have come out of the stream; `TooLarge` when that is more than there may be."""
        if self._source.allowance is not None:
            self._source.allowance.take(self._source.name, decoded)
        at = getattr(self.stream, "consumed", self._told + decoded)
        self._tell(min(at, self._source.size))

    def done(self) -> None:
        """The file is read to its end: tell what is missing of its size."""
        self._tell(self._source.size)

    def _tell(self, at: int) -> None:
        if at > self._told:
            self._progress(self._source.name, at - self._told)
            self._told = at
