"""What tests of the real server share."""

import os
from collections.abc import Callable

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
