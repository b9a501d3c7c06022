"""Connections are tended by the steady clock: the machine's may be set."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import waitress.channel
import waitress.server
from waitress.adjustments import Adjustments

from storemon_flask.services.meters import Meters
from storemon_flask.web import channel
from storemon_flask.web.channel import Channel

TIMEOUT_S = 10


class Clocks:
    """A machine's clock and a steady one."""

    def __init__(self) -> None:
        self.machine_s = 1_728_907_200.0
        self.steady_s = 5_000.0

    def time(self) -> float:
        return self.machine_s

    def monotonic(self) -> float:
        return self.steady_s

    def turn(self, seconds: float) -> None:
        self.machine_s += seconds
        self.steady_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    for module in (waitress.channel, waitress.server, channel):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize("step_s", [-31_536_000, -86_400, -5, 0, 5, 86_400])
def test_an_idle_connection_is_closed_after_its_time_and_no_other_whatever_the_clock_is_set_to(
    clocks: Clocks, step_s: float
) -> None:
    limits: Any = Adjustments(channel_timeout=TIMEOUT_S, cleanup_interval=1)
    asked: list[float] = []
    server: Any = SimpleNamespace(
        adj=limits, active_channels={}, meters=Meters(), readable=lambda: asked.append(clocks.steady_s) or True
    )
    channel.tend_steadily(server)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(1)
        made = Channel(server, ours, ("127.0.0.1", 1), limits, map={})
        server.active_channels[1] = made
        clocks.turn(6)
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        made.handle_read()
        made.request = None
        clocks.machine_s += step_s
        for _ in range(10):
            clocks.turn(1)
            assert server.readable() is True
        assert not made.will_close
        clocks.turn(1)
        server.readable()
        assert made.will_close
        assert theirs.recv(1) == b""
    assert len(asked) == 11


def test_waitress_itself_tends_nothing_by_the_machine_s_clock() -> None:
    server: Any = SimpleNamespace(adj=SimpleNamespace(cleanup_interval=1), active_channels={}, readable=lambda: True)
    channel.tend_steadily(server)
    assert server.next_channel_cleanup == float("inf")
