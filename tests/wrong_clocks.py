"""Clocks of processes that a test sets, by the library of faketime; the steady clock goes on as ever."""

import shutil
from pathlib import Path

import pytest

DAY_S = 86_400
needs_faketime = pytest.mark.skipif(not shutil.which("faketime"), reason="needs faketime (package faketime)")


def _library() -> str:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")) + sorted(
        Path("/usr/lib").glob("faketime/libfaketimeMT.so.1")
    )
    if not found:
        pytest.skip("faketime is there and its library libfaketimeMT.so.1 is not")
    return str(found[0])


class WrongClock:
    """The clock of every process with these `variables`: so many seconds from the real one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.variables = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Set it, also under processes that run."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.0f}\n")
        fresh.replace(self._file)
