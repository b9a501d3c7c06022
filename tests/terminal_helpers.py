"""Commands on a terminal of a given width, and what they write to it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

from conftest import STOREMON, environment


def on_terminal(
    home: Path, *arguments: str, width: int = 80, code: int = 0, both: bool = False, **variables: str
) -> str:
    """What the command writes to standard output (`both`: and to standard error), which is a terminal of that many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    surroundings = environment(home, TERM="xterm", **variables)
    surroundings.pop("COLUMNS", None)
    try:
        process = subprocess.Popen(
            [*STOREMON, *arguments],
            env=surroundings,
            stdin=subprocess.DEVNULL,
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
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r\n", "\n")
