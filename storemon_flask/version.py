"""The version, where the package, `--version` and every report find it; and which build this is."""

import sys
from pathlib import Path

VERSION = "0.2.0"


def build() -> str:
    """The commit, the time and the glibc a single file was built with, in words; empty for an installed package."""
    # Made by `make binary`, inside the file only.
    stamp = Path(__file__).with_name("build.txt")
    return stamp.read_text("utf-8").strip() if stamp.is_file() else ""


def single_file() -> Path | None:
    """The single file this program is; None when it is an installed package."""
    return Path(sys.executable) if getattr(sys, "frozen", False) else None
