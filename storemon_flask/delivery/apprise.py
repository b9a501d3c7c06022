"""Slack, Teams, Telegram, ntfy, PagerDuty, SMS and a hundred more, through apprise (the extra `notify`)."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from storemon_flask.delivery import apprise_process, content
from storemon_flask.delivery.answer import Answer, secrets_of
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Settings
from storemon_flask.version import single_file

_CHECK_S: Final = 30.0
_MISSING: Final = (
    "apprise, which sends to other services, is not installed; install it with pip install 'storemon[notify]'"
)
_EXAMPLES: Final = "see https://github.com/caronc/apprise for the addresses of each service, as ntfy://ntfy.sh/my-topic"


def check(address: str, settings: Settings) -> str:
    """Return the address; `Unprocessable` when apprise is not installed or knows no such address."""
    if not address.isprintable() or "://" not in address or not _is_url(address):
        raise Unprocessable(f"that is no address of apprise; {_EXAMPLES}")
    with Deadline(_CHECK_S) as deadline:
        answer = _ask({"url": address}, deadline)
    if answer["state"] == apprise_process.MISSING:
        raise Unprocessable(_MISSING)
    log_text = Answer(False, "; ".join(answer["lines"])).without(_secrets(address)).text
    if answer["state"] == "failed":
        raise Unprocessable(f"the address could not be checked: {log_text}")
    if answer["state"] != "known":
        raise Unprocessable(f"apprise does not know that address{': ' + log_text if log_text else ''}; {_EXAMPLES}")
    return address


def _is_url(address: str) -> bool:
    try:
        urlsplit(address)
    except ValueError:
        return False
    return True


def shown(address: str) -> str:
    """Return only the name of the service: everything else in an address may be secret."""
    return f"{address.partition('://')[0]}://..."


def send(parcel: Parcel, deadline: Deadline) -> Answer:
    """Send the message as a title and plain text."""
    title, body = content.plain(parcel.message.content)
    address = parcel.channel.address.value
    answer = _ask({"url": address, "title": title, "body": body}, deadline)
    if answer["state"] == apprise_process.MISSING:
        return Answer(False, _MISSING)
    log_text = "; ".join(answer["lines"])
    delivered = answer["state"] == "sent"
    text = log_text or ("sent" if delivered else "apprise says only that it failed")
    return Answer(delivered, text).without(_secrets(address))


def _secrets(address: str) -> list[str]:
    rest = address.partition("://")[2]
    return [address, rest, *secrets_of(address)]


def _ask(question: dict[str, str], deadline: Deadline) -> dict[str, Any]:
    """Return the answer of the process; one that says why there is none when the process did not answer."""
    try:
        process = _start()
    except OSError as error:
        return {"state": "failed", "lines": [f"apprise cannot be started: {error.strerror or error}"]}
    deadline.watch(lambda: _kill(process))
    try:
        written, _ = process.communicate(json.dumps(question).encode())
        answer: dict[str, Any] = json.loads(written)
        return answer
    except (ValueError, OSError):
        if deadline.is_over:
            return {"state": "failed", "lines": [f"no answer within {deadline.seconds:g} s"]}
        return {"state": "failed", "lines": [f"apprise ended without an answer (exit code {process.returncode})"]}
    finally:
        _kill(process)
        process.wait()


def _start() -> "subprocess.Popen[bytes]":
    # The settings of storemon are none of its business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
    if single_file() is not None:
        # It works in this process's folder instead of unpacking itself once more.
        environment.pop("PYINSTALLER_RESET_ENVIRONMENT", None)
        environment["LD_LIBRARY_PATH"] = vars(sys)["_MEIPASS"]
        command = [sys.executable, *apprise_process.ARGUMENTS]
    else:
        # Its folder has modules with names of modules of Python, and must not come first.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-P", apprise_process.__file__]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C is for this process, which ends that one.
        start_new_session=True,
    )


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    with suppress(OSError):
        if hasattr(os, "killpg"):
            # The single file may be two processes.
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
