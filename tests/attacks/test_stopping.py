"""Loads that are given up: the server stops, the client goes, the command is interrupted.

Whatever is read, that takes 2 s at most.
"""

import gzip
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import PATIENCE_S, Answer, Server, environment, http, sql, wait_until

from storemon_flask.settings import Settings

Serve = Callable[..., Server]
# Of processor time: what else the machine does is not counted.
SOON_S = 2.0
AT_WORK_S = 0.8
# Whatever the machine, this is not read in the time that passes before the signal.
BYTES = 60_000_000
# Waitress keeps a body in a file that is longer than this.
IN_MEMORY_BYTES = 1_000_000
CSV = "text/csv"
MULTIPART = "multipart/form-data; boundary=x"
POLLS = b"store_id,timestamp_utc,status\n"
HOURS = b"store_id,day,start_time_local,end_time_local\n"
ZONES = b"store_id,timezone_str\n"
STOPPING = "the server is stopping; send the request again when it is back; nothing of this was stored"


def _repeated(piece: bytes, size: int = BYTES) -> bytes:
    return piece * (size // len(piece))


def _numbered(text: str, size: int = BYTES) -> bytes:
    """Lines of which no two are equal."""
    return b"".join(f"{text}\n".replace("#", f"{number:x}").encode() for number in range(size // (len(text) + 6)))


# (feed, media type, body): each takes longer than the test has.
HOSTILE: dict[str, Callable[[], tuple[str, str, bytes]]] = {
    "rows of commas": lambda: ("polls", CSV, POLLS + _repeated(b",,x\n")),
    "text behind a quote": lambda: ("polls", CSV, POLLS + _repeated(b'"a"b,c,d\n')),
    "quoted rows": lambda: ("polls", CSV, POLLS + _numbered('"s#","2024-10-14 11:15:00",act#')),
    "odd timestamps": lambda: ("polls", CSV, POLLS + _numbered("s#,14 October 2024 11h#,active")),
    "other stores in each row": lambda: ("polls", CSV, POLLS + _numbered("s#,1728904500,active")),
    "hours": lambda: ("hours", CSV, HOURS + _numbered("s#,8,9:#,9")),
    "other zones in each row": lambda: ("timezones", CSV, ZONES + _numbered("s#,America/#")),
    "empty lists": lambda: ("polls", "application/json", b"[" + _repeated(b"[],") + b"[]]"),
    "empty objects": lambda: ("hours", "application/x-ndjson", _repeated(b"{}\n")),
    "gzipped": lambda: ("polls", "application/gzip", gzip.compress(POLLS + _repeated(b'"\n,'), 1)),
}
FILES = (
    "rows of commas",
    "quoted rows",
    "odd timestamps",
    "other stores in each row",
    "hours",
    "other zones in each row",
)


def _processor_s(process: "subprocess.Popen[str]") -> float:
    """The processor time that a running process has taken."""
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _processor_s_of_the_ended() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _works(process: "subprocess.Popen[str]") -> None:
    """Wait until it has worked for a while."""
    before = _processor_s(process)
    wait_until(lambda: _processor_s(process) > before + AT_WORK_S, "a load", 4 * PATIENCE_S)


def _reads(server: Server, body: bytes) -> None:
    """Wait until it has received the whole body, and read it for a while."""
    if len(body) > IN_MEMORY_BYTES:
        wait_until(lambda: _holds_file_of(server.process, len(body)), "the whole body", 4 * PATIENCE_S)
    _works(server.process)


def _holds_file_of(process: "subprocess.Popen[str]", size: int) -> bool:
    """Whether a file that it has open is as long as that."""
    for file in Path(f"/proc/{process.pid}/fd").iterdir():
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            if file.stat().st_size >= size:
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_push_that_is_being_read_ends_with_the_server(serve: Serve, settings: Settings, attack: str) -> None:
    server = serve(STOREMON_MAX_BODY_MB="500")
    feed, kind, body = HOSTILE[attack]()
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(http, f"{server.url}/api/v1/feeds/{feed}", "POST", body, **{"Content-Type": kind})
        _reads(server, body)
        assert not pushed.done()
        used_s, ended_s = _processor_s(server.process), _processor_s_of_the_ended()
        assert server.end() == 0
        used_s = _processor_s_of_the_ended() - ended_s - used_s
        answer: Answer = pushed.result(PATIENCE_S)
    assert (answer.status, answer.json["detail"]) == (503, STOPPING)
    assert used_s < SOON_S
    assert "Traceback" not in server.log.read_text()
    _nothing_is_stored(settings.database)


@pytest.mark.slow
def test_an_upload_that_is_being_read_ends_with_the_server(serve: Serve, settings: Settings) -> None:
    server = serve(STOREMON_MAX_BODY_MB="500")
    first = _part("zones.csv", ZONES + b"s,Europe/Paris\n")
    body = first + _part("polls.csv", HOSTILE["quoted rows"]()[2]) + b"--x--\r\n"
    with ThreadPoolExecutor(1) as pool:
        pushed = pool.submit(http, f"{server.url}/api/v1/feeds", "POST", body, **{"Content-Type": MULTIPART})
        wait_until(
            lambda: settings.database.exists() and sql(settings.database, "SELECT count(*) FROM load") == [(1,)],
            "the first file",
            4 * PATIENCE_S,
        )
        _works(server.process)
        assert server.end() == 0
        answer: Answer = pushed.result(PATIENCE_S)
    assert (answer.status, answer.json["detail"]) == (
        503,
        "the server is stopping; send the request again when it is "
        "back; stored before: zones.csv; nothing of the other files was",
    )
    assert sql(settings.database, "SELECT file FROM load_file") == [("zones.csv",)]
    assert sql(settings.database, "SELECT count(*) FROM poll_week") == [(0,)]


@pytest.mark.slow
def test_a_push_whose_client_is_gone_is_given_up(serve: Serve, settings: Settings) -> None:
    server = serve(STOREMON_MAX_BODY_MB="500")
    body = HOSTILE["quoted rows"]()[2]
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(
            f"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        _reads(server, body)
    gone = "the client closed the connection before the answer; nothing of this was stored"
    wait_until(lambda: gone in server.log.read_text(), "the end of the load")
    used_s = _processor_s(server.process)
    time.sleep(1)
    assert _processor_s(server.process) < used_s + 0.5
    _nothing_is_stored(settings.database)
    assert server.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("attack", FILES)
def test_a_load_that_is_interrupted_ends_soon_with_a_sentence(
    settings: Settings, attack: str, signum: signal.Signals
) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "big.csv").write_bytes(HOSTILE[attack]()[2])
    with subprocess.Popen(
        [sys.executable, "-m", "storemon_flask", "load-data", "big.csv"],
        env=environment(settings.home),
        cwd=settings.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them, and so this process, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        wait_until(lambda: _holds_file_of(process, (settings.home / "big.csv").stat().st_size), "the load")
        _works(process)
        used_s, ended_s = _processor_s(process), _processor_s_of_the_ended()
        process.send_signal(signum)
        out, err = process.communicate(timeout=4 * PATIENCE_S)
    assert (process.returncode, out, err.strip()) == (130, "", "interrupted; nothing changed")
    assert _processor_s_of_the_ended() - ended_s - used_s < SOON_S
    _nothing_is_stored(settings.database)


def _part(name: str, data: bytes) -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"


def _nothing_is_stored(file: Path) -> None:
    if file.exists():
        for table in ("load", "store_record", "poll_week", "reject"):
            assert sql(file, f"SELECT count(*) FROM {table}") == [(0,)]
