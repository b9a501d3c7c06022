"""Services that answer anything: every answer is read, or is a sentence without the password of the address."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import sql

from storemon_flask.errors import DataError
from storemon_flask.imports.fetching import Service

SPAN = ("--from", "2026-10-01", "--to", "2026-10-02")
WHICH = ("--query", "up", "--store-label", "shop")
NO_JSON = "answered with something else than JSON; is the address right?"
NO_GATUS = "is not a Gatus: it does not answer with a list of endpoints"
NO_SERIES = "answered with something else than series of samples"
NO_SAMPLES = "has no samples of up: --query must be a metric"


class Anything:
    """A service with one answer to everything."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.status, self.body = 200, b""


@pytest.fixture
def service() -> Iterator[Anything]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Content-Length"):
                self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(anything.status)
            self.end_headers()
            self.wfile.write(anything.body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    anything = Anything(f"http://me:hidden@127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield anything
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def series(*samples: list[Any], **labels: str) -> bytes:
    found = [{"metric": labels, "values": list(samples)}]
    return json.dumps({"data": {"resultType": "matrix", "result": found}}).encode()


@pytest.mark.parametrize(
    ("source", "status", "body", "sentence"),
    [
        ("gatus", 200, b"<html>", NO_JSON),
        ("gatus", 200, b"", NO_JSON),
        ("gatus", 200, b"[" * 100_000, NO_JSON),
        ("gatus", 200, b"{}", NO_GATUS),
        ("gatus", 200, b"[1]", NO_GATUS),
        ("gatus", 200, b'[{"name": "a"}]', NO_GATUS),
        ("gatus", 401, b"", "answered 401 Unauthorized; write the address with user and password"),
        ("prometheus", 200, b"<html>", NO_JSON),
        ("prometheus", 500, b"<html>", "answered 500 Internal Server Error"),
        (
            "prometheus",
            400,
            b'{"error": "parse\\u001b[1m \\ud800error"}',
            "answered 400 Bad Request: parse\\x1b[1m ?error",
        ),
        ("prometheus", 200, b'{"data": {"resultType": "vector", "result": []}}', NO_SAMPLES),
        ("prometheus", 200, b'{"data": {"resultType": "matrix", "result": 5}}', NO_SERIES),
        ("prometheus", 200, series([1, 2, 3], shop="a"), NO_SERIES),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(
    service: Anything,
    run: Run,  # noqa: F811
    source: str,
    status: int,
    body: bytes,
    sentence: str,
) -> None:
    service.status, service.body = status, body
    options = (*WHICH, *SPAN) if source == "prometheus" else ()
    for more in ((), ("--dry-run",)):
        done = run("import", source, service.address, *options, *more)
        assert done.code == 1
        assert sentence in done.err
        assert "hidden" not in done.out + done.err
        assert "Traceback" not in done.err


def test_half_a_character_in_a_name_or_value_is_stored_as_a_question_mark(
    service: Anything,
    run: Run,  # noqa: F811
    home: Path,  # noqa: F811
) -> None:
    service.body = series([1790812800, "1"], [1790816400, "\ud800"], shop="a\ud800")
    done = run("import", "prometheus", service.address, *WHICH, *SPAN, "--dry-run", "--map", "map.csv")
    assert (done.code, done.err) == (0, "")
    assert (home / "map.csv").read_text().splitlines()[1].startswith("a?,a?,new,2,")
    assert not (home / "instance").exists()
    done = run("import", "prometheus", service.address, *WHICH, *SPAN)
    assert (done.code, done.err) == (0, "")
    assert sql(home / "instance" / "storemon.db", "SELECT store_id, status FROM poll") == [("a?", "active")]
    assert run("rejects").out.splitlines()[1].endswith(',status is neither active nor inactive,"a?,1790816400,?"')
    service.body = json.dumps([{"key": "k", "name": "\ud800", "group": "g"}]).encode()
    done = run("import", "gatus", service.address, "--dry-run", "--map", "other.csv")
    assert (done.code, done.err) == (0, "")
    assert (home / "other.csv").read_text().splitlines()[1].startswith("g/?,g/?,new,0,")


def test_letters_beyond_ascii_in_an_address_are_to_be_written_otherwise() -> None:
    with pytest.raises(DataError, match="write them as browsers send them: xn--"):
        Service("http://bücher.example:9090")
