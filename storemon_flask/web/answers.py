"""Answers that are made whole before they are sent: slow readers hold no thread and no transaction."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from flask import Response, request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import wrap_file

from storemon_flask.database import files
from storemon_flask.errors import Busy
from storemon_flask.slots import Unsent
from storemon_flask.web.app import storemon

# What is not larger is made at once, in memory; about 12,000 stores of a default report as JSON.
SMALL_BYTES: Final = 1_000_000
_OUTCOME: Final = "this answer cannot be made"


def send_text(chunks: Iterator[str], content_type: str, likely_bytes: int = 0) -> Response:
    """Return the answer that consists of these chunks.

    A large one is written to a temporary file, and holds a slot for large answers while it is made; Waitress sends the
    file by itself. `Busy` when no slot gets free in time or too much waits for its readers, `NoTemporaryRoom` when the
    disk is full. One of `likely_bytes` that is large holds its slot before it is begun.
    """
    data, more = b"", True
    if likely_bytes <= SMALL_BYTES:
        data, more = _next_megabyte(chunks)
        if not more:
            return Response(data, content_type=content_type)
    slots = storemon().slots
    with slots.for_answer():
        file = UnsentFile(slots.unsent, tempfile.TemporaryFile(dir=files.temporary_folder()))  # noqa: SIM115
        try:
            file.write(data)
            while more:
                data, more = _next_megabyte(chunks)
                file.write(data)
        except BaseException:
            file.close()
            raise
    return send_unsent(file, content_type)


def send_unsent(file: "UnsentFile", content_type: str) -> Response:
    """Return the answer that consists of a file's bytes; the file is closed when they are sent."""
    file.seek(0)
    body = wrap_file(request.environ, file)  # type: ignore[arg-type]
    answer = Response(body, content_type=content_type, direct_passthrough=True)
    answer.content_length = file.size
    # Where no server takes the file over (HEAD, another server than Waitress).
    answer.call_on_close(file.close)
    return answer


def _next_megabyte(chunks: Iterator[str]) -> tuple[bytes, bool]:
    """Return the next chunks, and whether there may be more; `ClientDisconnected` when the client has left."""
    texts, characters = [], 0
    for chunk in chunks:
        texts.append(chunk)
        characters += len(chunk)
        if characters >= SMALL_BYTES:
            if request.environ.get("waitress.client_disconnected", lambda: False)():
                raise ClientDisconnected
            return "".join(texts).encode(), True
    return "".join(texts).encode(), False


class UnsentFile:
    """A temporary file whose bytes count as unsent until it is closed; has what Waitress and werkzeug use of a file."""

    def __init__(self, unsent: Unsent, file: IO[bytes]) -> None:
        """`file` may hold something already; `Busy`, and it is closed, when too much waits for its readers."""
        self._unsent = unsent
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        try:
            unsent.add(self.size)
        except Busy:
            file.close()
            raise

    def write(self, data: bytes) -> None:
        """Append bytes; `Busy` when too many wait for their readers, `NoTemporaryRoom` when the disk is full."""
        self._unsent.add(len(data))
        self.size += len(data)
        try:
            if shutil.disk_usage(files.temporary_folder()).free < storemon().settings.min_free_mb * 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._file.write(data)
        except OSError as error:
            raise files.no_temporary_room(error, _OUTCOME) from error

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as a file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position, as a file does."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return True: Waitress then knows its length."""
        return True

    def close(self) -> None:
        """Remove it; may be called twice."""
        if not self._file.closed:
            self._file.close()
            self._unsent.remove(self.size)
