"""Servers in any home, ended whatever happens to the test."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Server
from forks import ForkServer


@pytest.fixture
def serve_at() -> Iterator[Callable[..., Server]]:
    """Starts servers in a home that is named; all are ended after the test."""
    started: list[Server] = []

    def start(home: Path, command: list[str] | None = None, **variables: str) -> Server:
        started.append(Server(home, command, **variables))
        return started[-1]

    yield start
    for server in started:
        server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    """Starts commands without the half second that Python and numpy take; all are ended after the module."""
    server = ForkServer()
    yield server
    server.close()
