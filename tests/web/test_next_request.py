"""A client that has sent more than one request, or a little of the next, gets the answer to the first however long it
takes.
"""

import contextlib
import socket
import sqlite3
import time
from typing import Any

import pytest
from conftest import sql

from storemon_flask.settings import Settings


@pytest.mark.parametrize(
    "more",
    [
        b"\r\n",
        pytest.param(b"GET /hea", marks=pytest.mark.slow),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", marks=pytest.mark.slow),
    ],
)
def test_a_client_whose_next_bytes_are_there_waits_as_long_as_it_takes(
    serve: Any, small_fleet: object, settings: Settings, more: bytes
) -> None:
    server = serve(STOREMON_CONNECTION_TIMEOUT_SECONDS="1")
    host, port = server.url.removeprefix("http://").split(":")
    with (
        contextlib.closing(sqlite3.connect(settings.database, isolation_level=None)) as loading,
        socket.create_connection((host, int(port)), timeout=30) as client,
    ):
        loading.execute("BEGIN IMMEDIATE")
        client.sendall(b"POST /trigger_report HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}" + more)
        # Longer than a client may be silent, and some rounds of looking for those who are.
        time.sleep(4)
        loading.rollback()
        assert client.recv(65_536).startswith(b"HTTP/1.1 202 ")
    assert "too slow" not in server.log.read_text()
    assert len(sql(settings.database, "SELECT id FROM report")) == 1
