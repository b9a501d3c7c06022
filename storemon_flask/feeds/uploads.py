"""What comes over HTTP as sources: a body, and uploaded files, plain, gzipped or zips, told apart by their first bytes."""

import io
import re
from collections.abc import Iterable
from functools import partial
from typing import IO, Any, BinaryIO, Final, cast

from storemon_flask.errors import DataError
from storemon_flask.feeds import headers, json_rows, sources
from storemon_flask.feeds.archives import Allowance
from storemon_flask.feeds.sources import Finding, Found, Source, gunzipped

_GZIP: Final = b"\x1f\x8b"
# A file that is gzipped may be sent gzipped once more.
_MOST_LAYERS: Final = 2
# How much of a body is looked at before it is known what it is.
_AHEAD_BYTES: Final = 1 << 20
_BUFFER_BYTES: Final = 1 << 18
# Blanks, and the bytes of a byte order mark.
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_JSON_LIST: Final = re.compile(rb"[\xef\xbb\xbf \t\r\n]*\[\s*[\[{\]]")
_LABELS: Final = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/json": "json",
    "text/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/jsonlines": "ndjson",
    "application/x-jsonlines": "ndjson",
}
_NAMES: Final = {"csv": "CSV", "json": "JSON", "ndjson": "NDJSON"}
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")


class _Body(io.RawIOBase):
    """A request's stream; `ahead` was read of it before."""

    def __init__(self, stream: Any, ahead: bytes = b"") -> None:
        self._stream = stream
        self._ahead = ahead

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is something; 0 at the end."""
        data = self._ahead[: len(buffer)] or self._stream.read(len(buffer))
        self._ahead = self._ahead[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def body(stream: Any, size: int, label: str, feed: str, packed: bool, most_bytes: int) -> Source:
    """A request's body. `label` is its media type; its form is recognised when it is read, by `recognise_form`.

    At most `most_bytes` may come out of it.
    """
    whole: BinaryIO = io.BufferedReader(_Body(stream), _BUFFER_BYTES)
    opener = partial(gunzipped if packed else _same, whole)
    return Source("body", size, opener, form="", feed=feed, label=label, allowance=_allowance(most_bytes))


def _allowance(most_bytes: int) -> Allowance:
    return Allowance(most_bytes, "for all of a request; send it in parts, or have that setting raised")


def recognise_form(
    stream: BinaryIO, label: str, allowance: Allowance | None = None, layers: int = _MOST_LAYERS
) -> tuple[BinaryIO, str, str]:
    """The bytes of a body, unpacked; its form: csv, json or ndjson; and a sentence where its media type says something
    else.

    The content decides: `[` begins a JSON list and `{` an object, or NDJSON when one of the first two lines is an
    object by itself. Anything else is CSV, unless it is labelled as JSON and its first line is no header. What is
    gzipped is unpacked, at most `layers` times; `allowance` is what may come out of it.
    """
    ahead = b""
    while (
        len(ahead) < _AHEAD_BYTES
        and (not ahead.strip(_BLANK) or len(ahead) < len(_GZIP))
        and (piece := stream.read(1024))
    ):
        ahead += piece
    if ahead.startswith(_GZIP):
        if not layers:
            # There are files that hold themselves.
            raise DataError("it is gzipped again and again; unpack it first")
        whole = io.BufferedReader(_Body(stream, ahead), _BUFFER_BYTES)
        counted = allowance and allowance.another()
        return recognise_form(gunzipped(whole, allowance=counted, name="body"), label, allowance, layers - 1)
    said = _LABELS.get(label, "json" if label.endswith("+json") else "")
    start = ahead.lstrip(_BLANK)[:1]
    form = said or "csv"
    if start == b"[" and (said != "csv" or _JSON_LIST.match(ahead)):
        form = "json"
    elif start == b"{" and said != "ndjson":
        ahead, lines = _first_lines(stream, ahead, 2)
        form = "ndjson" if any(json_rows.is_object(line) for line in lines) else "json"
    elif start and start != b"{" and said in ("json", "ndjson"):
        ahead, lines = _first_lines(stream, ahead, 1)
        form = "csv" if _is_header(lines[0]) else said
    note = ""
    if said and (said == "csv") != (form == "csv"):
        note = f"its Content-Type is {label}, but it is {_NAMES[form]}, and was read so"
    return io.BufferedReader(_Body(stream, ahead), _BUFFER_BYTES), form, note


def _first_lines(stream: BinaryIO, ahead: bytes, count: int) -> tuple[bytes, list[bytes]]:
    """What was read of the stream, now with its first lines that are not blank; and those lines, as far as they are not
    too long.
    """
    at = len(ahead) - len(ahead.lstrip(_BLANK))
    while len(ahead) < _AHEAD_BYTES:
        lines = [line for line in ahead[at:].split(b"\n", 2 * count)[:-1] if line.strip()]
        if len(lines) >= count or not (piece := stream.read(_BUFFER_BYTES)):
            break
        ahead += piece
    lines = [line for line in ahead[at:].split(b"\n", 2 * count) if line.strip()]
    return ahead, lines[:count]


def _is_header(line: bytes) -> bool:
    try:
        headers.recognise(line.decode("utf-8").rstrip("\r"))
    except (DataError, UnicodeDecodeError):
        return False
    return True


def files(uploads: Iterable[tuple[str, IO[bytes]]], most_bytes: int) -> list[Found]:
    """The CSVs of uploaded files; each is (the name it came with, a stream that can go back to its start).

    The second of one name is shown as `name (2)`. At most `most_bytes` may come out of all of them.
    """
    allowance = _allowance(most_bytes)
    finding = Finding(lambda: allowance)
    sent = list(uploads)
    shown = sources.numbered(_shown(name) or f"file {number}" for number, (name, _) in enumerate(sent, start=1))
    for name, (_, stream) in zip(shown, sent, strict=True):
        start = stream.read(4)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if start in _ZIP:
            finding.add(sources.members(name, name, partial(_same, stream), finding, closes=False))
        elif start.startswith(_GZIP):
            finding.add([Source(name, size, partial(gunzipped, cast(BinaryIO, stream)), allowance=allowance)])
        else:
            finding.add([Source(name, size, partial(_same, stream), allowance=allowance)])
    return finding.found


def _same(stream: IO[bytes]) -> BinaryIO:
    return stream  # type: ignore[return-value]


def _shown(name: str) -> str:
    """The name without folders and without what no name needs, at most 200 characters."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return sources.printable(base)
