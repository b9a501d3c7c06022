"""Disks of a few megabytes, to be filled."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size at a new folder; the test is skipped where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "storemon-test", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")
    try:
        yield place
    finally:
        # Until whoever was killed has let go of it.
        for _ in range(300):
            if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)


def free(disk: Path) -> int:
    """Bytes that are free."""
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def fill(disk: Path, leave: int) -> Path:
    """Take all room but `leave` bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    room = free(disk)
    with suppress(OSError), ballast.open("wb") as stream:
        stream.write(bytes(max(0, room - leave)))
    return ballast
