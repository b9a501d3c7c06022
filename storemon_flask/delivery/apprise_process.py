"""The process that sends one message through apprise: a JSON object on standard input, one on standard output.

In a process of its own apprise can be ended at a deadline, and its 700 modules and the addresses it logs do not stay
in the server. It is started by its path, or as the single file with `ARGUMENTS`, and imports nothing of storemon.
"""

import io
import json
import logging
import os
import pkgutil
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, Final

ARGUMENTS: Final = ("--send-through-apprise", "stdin")
MISSING: Final = "missing"
WRONG: Final = "wrong"
_MOST_LINES: Final = 20
# It reads answers whole, however large they are.
_MOST_MEMORY_BYTES: Final = 1 << 30


class _Lines(logging.Handler):
    """Keeps what is logged; its level leaves out whole requests."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of a record, if it is one of the first."""
        if len(self.lines) < _MOST_LINES:
            self.lines.append(record.getMessage())


def main() -> None:
    """Answer the question on standard input: `{"state": "sent" | "failed" | "wrong" | "missing", "lines": [...]}`."""
    question = json.load(sys.stdin)
    _limit_memory()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        answer = _answer(question)
    json.dump(answer, sys.stdout)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    if getattr(sys, "frozen", False):
        _list_frozen_plugins()
    try:
        import apprise
    except ImportError as error:
        return {"state": MISSING, "lines": [str(error)]}
    log_lines = _Lines()
    logger = logging.getLogger("apprise")
    logger.addHandler(log_lines)
    logger.propagate = False
    service = apprise.Apprise.instantiate(question["url"])
    if service is None:
        return {"state": WRONG, "lines": log_lines.lines}
    if "body" not in question:
        return {"state": "known", "lines": [], "service": str(service.service_name)}
    sent = apprise.Apprise([service]).notify(
        body=question["body"],
        title=question["title"],
        body_format=apprise.NotifyFormat.TEXT,
        notify_type=apprise.NotifyType.INFO,
    )
    return {"state": "sent" if sent else "failed", "lines": log_lines.lines}


def _limit_memory() -> None:
    """Have what needs too much memory fail in this process, where the system can do that."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MOST_MEMORY_BYTES if most == resource.RLIM_INFINITY else min(most, _MOST_MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _list_frozen_plugins() -> None:
    """Have apprise, which lists the files of its folders, find those that are in the single file."""
    listdir = os.listdir

    def list_names(path: Any = ".") -> Any:
        """Return the names in a folder, of modules where the folder is inside the single file."""
        try:
            return listdir(path)
        except FileNotFoundError:
            names = [
                f"{module.name}/" if module.ispkg else f"{module.name}.py" for module in pkgutil.iter_modules([path])
            ]
            if not names:
                raise
            return [name.rstrip("/") for name in names]

    os.listdir = list_names


if __name__ == "__main__":
    main()
