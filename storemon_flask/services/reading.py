"""What happens to a file's bytes beside their being read: their sum, how far the reading is, and how many there may be."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

from storemon_flask.errors import TooLarge
from storemon_flask.ingest.sources import Source
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


class Allowance:
    """How many bytes may still come out of the sources of a load, unpacked; None: as many as there are."""

    def __init__(self, most_bytes: int | None) -> None:
        self._left = most_bytes

    def take(self, name: str, size: int) -> None:
        """So many more; `TooLarge` when that is more than there may be."""
        if self._left is None:
            return
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"{name} is larger, unpacked, than STOREMON_MAX_BODY_MB allows; send it in parts")


class ByteShare:
    """Tells progress in bytes on disk, also for a compressed file whose decoded bytes are more."""

    def __init__(self, source: Source, progress: Progress, allowed: Allowance) -> None:
        self._source = source
        self._progress = progress
        self._allowed = allowed
        self._told = 0
        self.stream: object = None

    def read(self, decoded: int) -> None:
        """So many more bytes have come out of the stream; `TooLarge` when that is more than there may be."""
        self._allowed.take(self._source.name, decoded)
        raw = getattr(self.stream, "fileobj", None)
        at = raw.tell() if raw is not None else self._told + decoded
        self._tell(min(at, self._source.size))

    def done(self) -> None:
        """The file is read to its end: tell what is missing of its size."""
        self._tell(self._source.size)

    def _tell(self, at: int) -> None:
        if at > self._told:
            self._progress(self._source.name, at - self._told)
            self._told = at
