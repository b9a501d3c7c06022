"""The connections of every thread to one file: one per thread and kind, none of them closed while it is used."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Kind = Literal["reader", "writer"]
# Which file stands at a path: device and inode; None when there is none.
Identity = tuple[int, int] | None


@dataclass(eq=False)
class _Held:
    connection: sqlite3.Connection
    kind: Kind
    file: Identity
    users: int = 0
    retired: bool = False


class Connections:
    """Safe to share between threads.

    Closing a connection frees memory that another thread may be reading, and the process dies of it: so one that is in
    use is closed by its user, when the use ends.
    """

    def __init__(self, identity: Callable[[], Identity]) -> None:
        """`identity` tells which file stands at the path now."""
        self._identity = identity
        self._local = threading.local()
        self._guard = threading.Lock()
        self._all: set[_Held] = set()

    @contextmanager
    def used(self, kind: Kind, opened: Callable[[], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
        """This thread's connection of that kind; `opened` makes it when there is none, or the file is another one now."""
        held = self._taken(kind)
        if held is None:
            held = _Held(opened(), kind, self._identity(), users=1)
            setattr(self._local, kind, held)
            with self._guard:
                self._all.add(held)
        try:
            yield held.connection
        finally:
            with self._guard:
                held.users -= 1
                # A rollback that failed (there was no memory for it) leaves a transaction, which the next use would be
                # in.
                held.retired |= not held.users and held.connection.in_transaction
                self._close_unused()

    def close(self) -> None:
        """Close them all, those that are in use as soon as they are not; the next use opens new ones."""
        with self._guard:
            for held in self._all:
                held.retired = True
            self._close_unused()

    def _taken(self, kind: Kind) -> _Held | None:
        """This thread's connection, counted as used; None when it has none that sees the file of now."""
        held: _Held | None = getattr(self._local, kind, None)
        if held is None:
            return None
        file = self._identity()
        with self._guard:
            # Somebody removed the file or put another in its place: what this connection sees is nobody's any more.
            held.retired |= held.file != file
            if not held.retired:
                held.users += 1
                return held
            self._close_unused()
        return None

    def _close_unused(self) -> None:
        """Close what is retired and not in use, writers last: who goes last moves the log into the file; a reader
        cannot.
        """
        for kind in ("reader", "writer"):
            retired = [held for held in self._all if held.retired and held.kind == kind]
            for held in [one for one in retired if not one.users]:
                self._all.remove(held)
                held.connection.close()
            if any(held.users for held in retired):
                return
