"""`load-data -`: what a program writes, or somebody types, is read as a file is."""

import fcntl
import gzip
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import zipfile
from pathlib import Path
from typing import IO

import pytest
from cli_helpers import database
from cli_helpers import home as home
from conftest import STOREMON, environment, wait_until
from load_helpers import HOURS, POLLS, csv, put, query

ROWS = csv(POLLS, "a,2024-10-14 10:00:00 UTC,active", "b,2024-10-14 10:00:00 UTC,maybe")
OBJECTS = [
    {"store_id": "a", "timestamp_utc": "2024-10-14 10:00:00 UTC", "status": "active"},
    {"store_id": "b", "timestamp_utc": "2024-10-14 10:00:00 UTC", "status": "maybe"},
]


def load(home: Path, data: bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`storemon load-data ARGUMENTS` with those bytes as its standard input."""
    done = subprocess.run(
        [*STOREMON, "load-data", *arguments],
        input=data,
        env=environment(home),
        cwd=home,
        capture_output=True,
        timeout=60,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM, which Python alone has not."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def unread(pipe: IO[bytes] | None) -> int:
    """How many bytes wait in a pipe."""
    assert pipe is not None
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def zipped(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        (ROWS, ()),
        (gzip.compress(ROWS), ()),
        (ROWS.replace(b"\n", b"\r\n"), ("--feed", "polls")),
        (json.dumps(OBJECTS).encode(), ("--feed", "polls")),
        ("".join(json.dumps(one) + "\n" for one in OBJECTS).encode(), ("--feed", "polls")),
        (gzip.compress(json.dumps(OBJECTS).encode()), ("--feed", "polls")),
    ],
    ids=["csv", "csv.gz", "named", "json", "ndjson", "json.gz"],
)
def test_what_is_piped_in_is_loaded_like_a_file(home: Path, data: bytes, arguments: tuple[str, ...]) -> None:
    done = load(home, data, *arguments, "-")
    assert (done.returncode, done.stderr) == (0, "")
    cells = done.stdout.splitlines()[1].split()
    assert cells == ["standard", "input", "polls", "2", "1", "0", "0", "0", "1"]
    assert query(database(home), "SELECT count(*) FROM poll") == [(1,)]
    assert query(database(home), "SELECT file, rejected_count FROM load_file") == [("standard input", 1)]


@pytest.mark.parametrize("from_file", [False, True])
def test_a_zip_is_loaded_like_one_that_is_named(home: Path, tmp_path: Path, from_file: bool) -> None:
    hours = csv(HOURS, "a,0,09:00,12:00")
    data = zipped(("polls.csv", ROWS), ("in/hours.csv.gz", gzip.compress(hours)), ("notes.pdf", b"%PDF"))
    if from_file:
        with put(tmp_path / "feeds.zip", data).open("rb") as stream:
            done = subprocess.run(
                [*STOREMON, "load-data", "-"], stdin=stream, env=environment(home), cwd=home, capture_output=True
            )
        assert (done.returncode, done.stderr) == (0, b"")
    else:
        done = load(home, data, "-")
        assert (done.returncode, done.stderr) == (0, "")
    found = query(
        database(home), "SELECT file, feed, row_count, new_count, rejected_count FROM load_file ORDER BY feed"
    )
    assert found == [
        ("standard input/in/hours.csv.gz", "hours", 1, 1, 0), ("standard input/polls.csv", "polls", 2, 1, 1)
    ]  # fmt: skip
    assert b"standard input/notes.pdf" in (done.stdout if from_file else done.stdout.encode())
    assert query(database(home), "SELECT count(*) FROM poll") == [(1,)]


def test_files_go_in_beside_it(home: Path) -> None:
    done = load(home, ROWS, "-", str(put(home / "hours.csv", csv(HOURS, "a,0,09:00,12:00"))))
    assert (done.returncode, done.stderr) == (0, "")
    assert query(database(home), "SELECT feed, new_count FROM load_file ORDER BY id") == [("polls", 1), ("hours", 1)]


@pytest.mark.parametrize(
    ("data", "arguments", "code", "sentence"),
    [
        (b"", ("-",), 1, "Not loaded: standard input: the file is empty"),
        (b'[{"store_id": "a"}]', ("-",), 1, "does not say which feed it is; name that with --feed polls"),
        (ROWS, ("--feed", "hours", "-"), 1, "the header is that of polls, not of hours"),
        (b"PK\x03\x04 and more", ("-",), 1, "standard input is not a zip that can be read"),
        (zipped(("a.txt", b"hello")), ("-",), 1, "standard input holds no workbook and no file named"),
        (zipped(("a.csv", ROWS)), ("--feed", "hours", "-"), 1, "the header is that of polls, not of hours"),
        (ROWS, ("-", "-"), 2, "- is standard input, which can be read once."),
        (ROWS, ("--feed", "polls", "x.csv"), 2, "--feed is about standard input"),
        (gzip.compress(ROWS, mtime=0)[:-9], ("-",), 1, "standard input is damaged or cut short"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(
    home: Path, data: bytes, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = load(home, data, *arguments)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not database(home).exists()


def test_a_terminal_is_told_what_to_do_and_what_is_typed_is_loaded(home: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*STOREMON, "load-data", "-"], env=environment(home), cwd=home, stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"Reading CSV, JSON or NDJSON from this terminal")
    os.write(ours, ROWS + b"\x04")
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert out.decode().splitlines()[1].split()[:4] == ["standard", "input", "polls", "2"]


def test_ctrl_c_while_nothing_comes_stores_nothing(home: Path) -> None:
    with subprocess.Popen(
        [*STOREMON, "load-data", "-"], env=environment(home), cwd=home, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(ROWS)
        process.stdin.flush()
        wait_until(lambda: catches_sigterm(process.pid), "its signals to be set")
        process.stdin.write(b"c,2024-10-14 10:00:00 UTC,active\n")
        process.stdin.flush()
        wait_until(lambda: not unread(process.stdin), "all to be read")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert "interrupted; nothing changed" in said
    assert not database(home).exists() or query(database(home), "SELECT count(*) FROM store_record") == [(0,)]
