"""Commands started by the hundred: forked from a process that has imported everything."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from conftest import ANSWER_PATIENCE_S, PATIENCE_S, environment, wait_until


class ForkServer:
    """Starts `storemon` commands from a process that has imported everything already."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forkserver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A library that has started threads must not be forked.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def _ask(self, **what: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, home: Path, *arguments: str, **variables: str) -> "Forked":
        """The command, running; its output goes to `home`/out.log and err.log."""
        home.mkdir(parents=True, exist_ok=True)
        out, err = home / "out.log", home / "err.log"
        out.unlink(missing_ok=True)
        pid = self._ask(
            arguments=arguments, environment=environment(home, **variables), cwd=str(home), out=str(out), err=str(err)
        )
        return Forked(self, pid, out, err)

    def run(self, home: Path, *arguments: str, **variables: str) -> "Forked":
        """The command, ended."""
        done = self.start(home, *arguments, **variables)
        done.wait(600)
        return done

    def reap(self, pid: int) -> int:
        """The exit code of a process that ends or has ended."""
        return self._ask(wait=pid)

    def close(self) -> None:
        """End, and with it every command that still runs."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class Forked:
    """A command that the fork server started; its process id stays its own until it has been waited for."""

    def __init__(self, server: ForkServer, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self.out = out
        self.err = err
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            with suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    return None
            self.returncode = self._server.reap(self.pid)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        wait_until(lambda: self.poll() is not None, f"process {self.pid} to end", timeout or PATIENCE_S)
        assert self.returncode is not None
        return self.returncode

    def url(self) -> str:
        """Where a started server listens."""

        def said() -> str:
            words = self.out.read_text().split() if self.out.exists() else []
            assert words or self.poll() is None, self.err.read_text()
            return next((word for word in words if word.startswith("http://")), "")

        found: str = wait_until(said, "the server to start", ANSWER_PATIENCE_S)
        return found
