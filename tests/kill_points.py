"""A process that stops at a named point, so that a test can kill it just there."""

import signal
import subprocess
import sys
from pathlib import Path

from conftest import environment

_STOP = """
import sys, time
def stop(*args, **kwargs):
    print("here", flush=True)
    time.sleep(600)
"""


def killed_at(home: Path, code: str, *arguments: object, **variables: str) -> str:
    """Run Python code that calls `stop()` somewhere, and SIGKILL it there; what it wrote to standard error."""
    home.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", _STOP + code, *map(str, arguments)],
        env=environment(home, **variables),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        written = process.stderr.read()
        assert said == "here\n", written
        assert process.wait(30) == -signal.SIGKILL
    return written
