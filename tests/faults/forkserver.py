"""A process that has imported storemon once and forks a `storemon` command for each line it reads.

Starting Python with numpy takes half a second of a whole core; hundreds of kills would spend their time on that.
What runs in the fork is the command itself, from `main()` on, in a session of its own.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def _import() -> None:
    import numpy
    import sqlite_utils
    import waitress

    from storemon_flask import __main__, cli, server, web
    from storemon_flask.reports import compute

    assert all((numpy, sqlite_utils, waitress, __main__, cli, server, web, compute))


def _become(asked: dict[str, Any], parent: int) -> None:
    """The forked child as the command: nobody's child when the test goes, files of its own, the environment asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.argv = ["storemon", *asked["arguments"]]


def main() -> None:
    """Answer each line: `{"arguments": ...}` with a process id, `{"wait": pid}` with its exit code."""
    _import()
    from storemon_flask.__main__ import main as command

    lines, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    mine = os.getpid()
    for line in lines:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(asked, mine)
            command()
        print(pid, file=answers, flush=True)


if __name__ == "__main__":
    main()
