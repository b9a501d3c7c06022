"""Which Pythons .ci/run tries besides the one it uses."""

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

SCRIPT = ROOT / ".ci" / "other_pythons.py"


def put_python(folder: Path, name: str, version: str, whole: bool = True) -> Path:
    """A program that answers as a Python of that version does; one that is not whole cannot make environments."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = f"echo {version.replace('.', ' ')}" if whole else "echo No module named ensurepip >&2; exit 1"
    python = folder / name
    python.write_text(f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    return python


def test_the_newest_patch_of_every_other_supported_version_is_tried(tmp_path: Path) -> None:
    used = sys.version_info[:2]
    others = [minor for minor in (11, 12, 13, 14) if (3, minor) != used]
    newest = []
    for minor in others:
        put_python(tmp_path / f"3.{minor}.2", f"python3.{minor}", f"3.{minor}.2")
        newest.append(put_python(tmp_path / f"3.{minor}.10", f"python3.{minor}", f"3.{minor}.10"))
    own = f"python{used[0]}.{used[1]}"
    put_python(tmp_path / "own", own, "3.11.9")
    put_python(tmp_path / "old", "python3.10", "3.10.1")
    put_python(tmp_path / "new", "python3.15", "3.15.0")
    put_python(tmp_path / "old", f"python3.{others[0]}-config", "3.12.9")
    folders = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([sys.executable, SCRIPT, *folders], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(map(str, newest))
    assert done.stderr == ""


def test_a_python_that_cannot_make_an_environment_is_passed_over_and_named(tmp_path: Path) -> None:
    minor = 13 if sys.version_info[:2] != (3, 13) else 12
    broken = put_python(tmp_path, f"python3.{minor}", f"3.{minor}.1", whole=False)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == f"{broken} is passed over: it cannot make a virtual environment\n"
