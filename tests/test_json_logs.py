"""Logs as JSON, from the first line to the last: every line is an object, every request has its id."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from conftest import PATIENCE_S, Server, wait_until

STOPPING = "stopping: the running report is finished or put back"
REFUSED = {
    413: b"POST /trigger_report HTTP/1.1\r\nHost: x\r\n%sContent-Length: 99999999\r\n\r\n",
    400: b"POST /trigger_report HTTP/1.1\r\nHost: x\r\n%sContent-Length: many\r\n\r\n",
    431: b"GET /healthz HTTP/1.1\r\nHost: x\r\n%sX-Long: " + b"x" * 300_000 + b"\r\n\r\n",
}


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def request_id(server: Server, request: bytes, status: int) -> str:
    """The id that the refusal bears."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
        peer.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = peer.recv(65_536)
            assert piece, answer
            answer += piece
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0].split()[1] == str(status)
    (found,) = [line.partition(": ")[2] for line in head if line.lower().startswith("x-request-id: ")]
    return found


def test_every_line_is_json_to_the_last_one(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_LOG_FORMAT="json")
    assert server.get("/healthz").status == 200
    assert server.end() == 0
    found = lines(server)
    assert [one["message"] for one in found if one["logger"] == "storemon.server"] == [STOPPING]
    assert (found[-1]["message"], found[-1]["level"]) == (STOPPING, "info")


def test_people_read_that_it_stops(serve: Callable[..., Server]) -> None:
    server = serve()
    assert server.end() == 0
    assert server.log.read_text().endswith(f"Z INFO storemon.server: {STOPPING}\n")


@pytest.mark.parametrize("status", REFUSED)
def test_what_is_refused_by_itself_has_its_id_in_the_log(serve: Callable[..., Server], status: int) -> None:
    server = serve(STOREMON_LOG_FORMAT="json", STOREMON_MAX_BODY_MB="1")
    made = request_id(server, REFUSED[status] % b"", status)
    given = request_id(server, REFUSED[status] % b"X-Request-Id: mine-7\r\n", status)
    insane = request_id(server, REFUSED[status] % b"X-Request-Id: <mine>\r\n", status)
    # Of headers that are too long nothing is read.
    assert (given == "mine-7") == (status != 431)
    assert len(made) == len(insane) == 16

    def logged() -> list[tuple[str, int]]:
        return [(one["request_id"], one["status"]) for one in lines(server) if one.get("event") == "request"]

    wait_until(lambda: len(logged()) == 3, "three lines")
    assert logged() == [(made, status), (given, status), (insane, status)]
