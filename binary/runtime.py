"""Runs first in the single file: makes its two processes (the unpacker and this one) behave as one."""

import atexit
import contextlib
import os
import shutil
import signal
import sys
import time
from types import FrameType

_PR_SET_PDEATHSIG = 1
# The terminal sends Ctrl-C to both processes, and the unpacker passes its own on: the same signal comes twice.
_ONE_PRESS_S = 1.0
# These processes are started by the program, which ends them, and work in the folder of the program.
_IS_HELPER = sys.argv[1:2] in (["--read-table"], ["--send-through-apprise"])


def _interrupt_once() -> None:
    last = -_ONE_PRESS_S

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        again, last = time.monotonic() - last < _ONE_PRESS_S, time.monotonic()
        if not again:
            raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _programs_see_their_own_libraries() -> None:
    """A browser that is started must not load the libraries unpacked for this program."""
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
    else:
        os.environ.pop("LD_LIBRARY_PATH", None)
    # Without that path this program, started by itself (`demo`), must unpack anew instead of sharing this folder.
    os.environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"


def _end_with_the_unpacker() -> None:
    """End in good order, and leave no folder, when `kill -9` reached the unpacker, which is the process started."""
    import ctypes

    unpacker = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def remove() -> None:
        if os.getppid() != unpacker:
            shutil.rmtree(sys._MEIPASS, ignore_errors=True)  # type: ignore[attr-defined]

    atexit.register(remove)


# The zones are one file instead of six hundred: unpacking those took longer than everything else.
sys.path.append(os.path.join(sys._MEIPASS, "tzdata.zip"))  # type: ignore[attr-defined]
# storemon multiplies no matrices: threads for that would only be waited for.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
_interrupt_once()
if sys.platform == "linux" and not _IS_HELPER:
    _programs_see_their_own_libraries()
    _end_with_the_unpacker()
