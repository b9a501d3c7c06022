"""Processes to measure: run one to its end, keep one to ask again, or a server to talk to."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One measured run: seconds of the work (or of the whole process) and the process's peak memory."""

    seconds: float
    peak_mb: float


def module(name: str, *words: object) -> Run:
    """`python -m benchmarks.NAME WORDS`: what it says of itself."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, words)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return _read(done.stdout)


def whole(command: list[str], **environ: str) -> Run:
    """A whole process, from its start to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    process.wait()
    seconds = time.perf_counter() - started
    errors = process.stderr.read().decode() if process.stderr else ""
    if process.stderr:
        process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors}")
    return Run(seconds, 0)


@contextlib.contextmanager
def asked(name: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """`python -m benchmarks.NAME answer WORDS`, kept running; `ask` sends it a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", "answer", *map(str, words)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.communicate()


def ask(process: subprocess.Popen[str], line: str = "") -> Run:
    """One answer of a process kept by `asked`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return _read(process.stdout.readline())


@contextlib.contextmanager
def server(home: Path) -> Iterator[tuple[str, int]]:
    """The real server on a free port: (address, process id)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "storemon_flask", "serve", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "STOREMON_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield next(word for word in process.stdout.readline().split() if word.startswith("http")), process.pid
    finally:
        process.terminate()
        process.communicate()


def trigger_to_complete(url: str) -> tuple[float, str]:
    """Seconds from the trigger to Complete as a client sees it, and the report's CSV."""
    started = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/trigger_report", data=b"")) as answer:
        report_id = json.load(answer)["report_id"]
    while True:
        with urllib.request.urlopen(f"{url}/get_report?report_id={report_id}") as answer:
            if answer.headers.get("X-Report-Status") == "Complete":
                seconds = time.perf_counter() - started
                return seconds, answer.read().decode()
        time.sleep(0.002)


def peak_mb(pid: int | str) -> float:
    """The peak memory of a running process; `getrusage` would start with that of the process it was forked from."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def _read(line: str) -> Run:
    said = json.loads(line)
    return Run(said["seconds"], said["peak_mb"])
