"""What tests of the real server share."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from conftest import (
    Server,
)

Serve = Callable[..., Server]


def nothing_runs(group: int) -> bool:
    """Whether no process of that group lives: neither its leader nor anything the leader started."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def connections_held(server: Server) -> int:
    """The number of connections that clients have to the server; those that listen are not counted."""
    sockets = set()
    folder = Path(f"/proc/{server.process.pid}/fd")
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(str(file.readlink()))
    port = f":{int(server.url.rsplit(':', 1)[1]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 01 is established, 08 closed by the client alone.
    return sum(row[1].endswith(port) and row[3] in ("01", "08") and f"socket:[{row[9]}]" in sockets for row in rows)
