"""Memory that is free, given back to the system."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Ask the C library for it: glibc keeps what threads have freed, and a long load would grow with every file.

    Other C libraries have no such call and need none.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
