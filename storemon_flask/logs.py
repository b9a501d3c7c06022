"""What the server logs, as text for people or one JSON object a line for programs, with the request or report."""

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote

import click

from storemon_flask.characters import escaped

# Fields that a log call may hand over in `extra=`; nothing else of a record's own is written.
FIELDS: Final = (
    "event",
    "request_id",
    "report_id",
    "method",
    "route",
    "path",
    "status",
    "outcome",
    "ms",
    "bytes",
    "remote",
)
# What stands after `/push/` but its first characters, which name a token; and tokens wherever else they stand.
_TOKEN: Final = re.compile(r"(?<!/data)(/push/[^/?#]{0,11})[^/?#]*|(st_[0-9a-f]{8})[0-9a-f]+")
_marks: ContextVar[dict[str, str]] = ContextVar("storemon_marks", default={})  # noqa: B039


@contextmanager
def marked(**marks: str) -> Iterator[None]:
    """Let whatever this thread logs inside carry these marks (`request_id`, `report_id`)."""
    token = _marks.set({**_marks.get(), **marks})
    try:
        yield
    finally:
        _marks.reset(token)


def without_tokens(path: str) -> str:
    """Return a path as logs and answers have it: of a push address only the prefix of its token.

    A path with a token comes back decoded, for any of its letters may have been encoded.
    """
    decoded = unquote(path)
    masked = _TOKEN.sub(lambda match: f"{match[1] or match[2]}...", decoded)
    return path if masked == decoded else masked


class TextLines(logging.Formatter):
    """`2024-10-14T11:15:00.123Z INFO storemon.reports: what happened`; lines that follow are indented, so none can be
    forged.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = f"{_timestamp(record)} {record.levelname} {record.name}: {escaped(record.getMessage())}"
        report_or_request = {name: mark for name, mark in _marks.get().items() if mark not in line}
        if report_or_request and record.levelno > logging.INFO:
            line += "".join(f" {name}={escaped(mark)}" for name, mark in report_or_request.items())
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {escaped(one)}" for one in trace.split("\n"))
        return line


class JsonLines(logging.Formatter):
    """One JSON object, in ASCII, on one line: `time`, `level`, `logger`, `message`, the marks, and the fields of the
    event.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        fields: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_marks.get(),
        }
        fields |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def to_stderr(form: str) -> None:
    """Log to standard error from now on, as `text` or `json`. For the one process that serves, never for an import.

    As `json` whatever else would be written there is a line of the log too: warnings of Python and of other packages,
    and what ends a thread.
    """
    handler = _handler(form)
    for name in ("storemon", "waitress"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    if form == "json":
        logging.getLogger().handlers = [handler]
        logging.captureWarnings(True)
        sys.excepthook = _log_end
        threading.excepthook = _log_thread_end
        sys.unraisablehook = _log_unraisable
    # Text is for people: of the requests they see those that changed something, failed or were slow.
    logging.getLogger("storemon").setLevel(logging.DEBUG if form == "json" else logging.INFO)
    logging.getLogger("waitress").setLevel(logging.WARNING)
    # One line for each request that waits for a thread says least when most is to be read; /metrics has their number.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def to_stderr_where_nobody_listens(form: str) -> None:
    """Log warnings and worse in the same lines below another server that has set up no logging of its own.

    Python would write the bare message then, with whatever a request has in its path.
    """
    logger = logging.getLogger("storemon")
    if not logger.hasHandlers():
        logger.addHandler(_handler(form))


def _handler(form: str) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    return handler


def announce(form: str, logger: logging.Logger, sentence: str) -> None:
    """Print what somebody who starts the server waits for: a line to read, or an object as in the log."""
    if form == "json":
        record = logger.makeRecord(logger.name, logging.INFO, "", 0, sentence, (), None)
        sentence = JsonLines().format(record)
    click.echo(sentence)


def fail(sentence: str) -> None:
    """Print why a server does not start, as the last line of a log of objects on standard error."""
    record = logging.getLogger("storemon.server").makeRecord(
        "storemon.server", logging.ERROR, "", 0, sentence, (), None
    )
    click.echo(JsonLines().format(record), err=True)


_log: Final = logging.getLogger("storemon.server")


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("the server ends: %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread_end(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        _log.error("the thread %s ends", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        what = args.err_msg or "an error that nobody can handle"
        _log.error("%s", what, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
