"""Commands on a terminal of a given width, and what they write to it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import STOREMON, environment


def terminal_bytes(
    home: Path,
    *arguments: str,
    width: int = 80,
    code: int = 0,
    both: bool = False,
    typed: bytes = b"",
    program: Sequence[str] = STOREMON,
    **variables: str,
) -> bytes:
    """What the command writes to standard output (`both`: and to standard error), which is a terminal of that many
    columns.

    Where something is `typed`, standard input is that terminal too.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    surroundings = environment(home, TERM="xterm") | variables
    surroundings.pop("COLUMNS", None)
    try:
        os.write(ours, typed)
        process = subprocess.Popen(
            [*program, *arguments],
            env=surroundings,
            stdin=theirs if typed else subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs if both else subprocess.DEVNULL,
            cwd=home,
        )
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                break
            if not part:
                break
            written += part
        assert process.wait(120) == code, written.decode("utf-8", "replace")
    finally:
        os.close(ours)
    return written


def coloured_text(written: bytes) -> str:
    """The same as text."""
    return written.decode().replace("\r\n", "\n")


def on_terminal(home: Path, *arguments: str, **options: Any) -> str:
    """What `terminal_bytes` has, without colours and what moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", coloured_text(terminal_bytes(home, *arguments, **options)))
