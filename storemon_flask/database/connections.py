"""Connections and transactions: one connection per thread, readers read-only, every write `BEGIN IMMEDIATE`."""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from storemon_flask.database import files, schema
from storemon_flask.errors import SERVER_STOPPING, DatabaseError, out_of_memory

# For other packages, which pass connections on: `sqlite3` is imported in `database` only.
Connection = sqlite3.Connection
SqliteError = sqlite3.DatabaseError
SQLITE_VERSION: Final = sqlite3.sqlite_version
Kind = Literal["reader", "writer"]
# Which file stands at a path: device and inode; None when there is none.
Identity = tuple[int, int] | None
# A writer waits this long for another one before it gives up: applying a load of 100 million polls takes less.
BUSY_TIMEOUT_S = 300.0
# It waits in turns this short, so that a server that stops need not wait for it.
_TURN_S = 0.2
_STOPPING_WAIT_S = 10.0
# A week of hourly polls is about 1 KB; larger pages waste less at their ends and are fewer to read.
PAGE_BYTES = 16_384
_READER_CACHE_KB = 500
# Some milliseconds of work.
_STEPS_PER_CHECK = 100_000
# What SQLite does unasked.
_AUTOCHECKPOINT_PAGES = 1000
_REASONS = {
    "SQLITE_NOTADB": "is not an SQLite database; set STOREMON_DATABASE to another path or move the file away",
    "SQLITE_CORRUPT": "is damaged; restore it from a backup",
    "SQLITE_CANTOPEN": "cannot be opened; check that the folder exists and that you may read and write it",
    "SQLITE_READONLY": "cannot be written; check the permissions of the file and of its folder",
    "SQLITE_PERM": "cannot be opened; check the permissions of the file and of its folder",
    "SQLITE_FULL": "cannot grow: the disk is full; nothing of this was stored",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error, or is full; nothing of this was stored",
    "SQLITE_INTERRUPT": "takes much longer to read than a file of its size should; restore it from a backup",
    "SQLITE_BUSY": f"was locked by another program for more than {BUSY_TIMEOUT_S:.0f} s",
}


@dataclass(eq=False)
class _Held:
    connection: sqlite3.Connection
    kind: Kind
    file: Identity
    users: int = 0
    retired: bool = False


class Connections:
    """One connection per thread and kind. Safe to share between threads.

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
        """Yield this thread's connection of that kind; `opened` makes one when there is none to the file of now."""
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
                # A rollback that failed for want of memory leaves a transaction, which the next use would be in.
                held.retired |= not held.users and held.connection.in_transaction
                self._close_unused()

    def close(self) -> None:
        """Close them all, those that are in use as soon as they are not; the next use opens new ones."""
        with self._guard:
            for held in self._all:
                held.retired = True
            self._close_unused()

    def _taken(self, kind: Kind) -> _Held | None:
        """Return this thread's connection, counted as used; None when it has none to the file of now."""
        held: _Held | None = getattr(self._local, kind, None)
        if held is None:
            return None
        if kind == "writer" and held.users:
            raise RuntimeError("a write inside a write of the same thread would wait for itself")
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
        """Close what is retired and not in use, writers last: the last one moves the log into the file."""
        for kind in ("reader", "writer"):
            retired = [held for held in self._all if held.retired and held.kind == kind]
            for held in [one for one in retired if not one.users]:
                self._all.remove(held)
                held.connection.close()
            if any(held.users for held in retired):
                return


class _Line:
    """Threads that wait for their turn, first come, first served: a lock would let one of many wait for seconds."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def join(self) -> threading.Event:
        """Return a turn at the end of the line; the event is set once it is the first. Whoever joins must leave."""
        turn = threading.Event()
        with self._guard:
            self._waiting.append(turn)
            self._waiting[0].set()
        return turn

    def leave(self, turn: threading.Event) -> None:
        """Give the turn up, after it came or before."""
        with self._guard:
            self._waiting.remove(turn)
            if self._waiting:
                self._waiting[0].set()


class Database:
    """One SQLite file. Safe to share between threads: each gets connections of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections = Connections(self.identity)
        self._stopping = threading.Event()
        self._migrated = False
        self._known: Identity = None
        self._migrating = threading.Lock()
        self._line = _Line()
        # What other modules keep of this file, each under its name: what it is valid for, and the value.
        self.cache: dict[str, tuple[object, Any]] = {}
        self.cache_lock = threading.Lock()

    def exists(self) -> bool:
        """Return whether the file is there; commands that only read ask first and never create it."""
        return self.path.is_file()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a read-only connection inside one transaction: everything read in it is of one moment.

        `DatabaseError` when there is no database, it is not one, or its schema is newer or older than this program's.
        """
        if not self.exists():
            self._refuse_a_folder()
            raise DatabaseError(f"there is no database at {self.path}; run `storemon load-data` to make it")
        changed = not self._migrated or self._known != self.identity()
        if changed:
            files.refuse_second_name(self.path)
        with explained_errors(self.path), self._connection("reader", "ro") as connection:
            if changed:
                self._check_schema(connection)
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(
        self,
        even_stopping: bool = False,
        checkpoint_in: Executor | None = None,
        check: Callable[[], None] | None = None,
    ) -> Iterator[sqlite3.Connection]:
        """Yield a connection that holds the write lock; commit at the end or roll back. Creates the database.

        `even_stopping`: wait some seconds for the lock also while the server stops.
        `checkpoint_in`: what is committed is safe in the log; this moves it into the file while the caller goes on.
        `check` is called now and then, also in the middle of a statement; what it raises ends the transaction.
        A write inside a write of the same thread is a `RuntimeError`.
        """
        self.prepare()
        with explained_errors(self.path), self._connection("writer", "rw") as connection:
            connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES if checkpoint_in is None else 0}")
            # Threads of one process take turns here: SQLite would let them sleep and try again.
            turn = self._line.join()
            try:
                self._wait(lambda: turn.wait(_TURN_S), even_stopping, check)
                self._begin(connection, even_stopping, check)
                try:
                    with _checked(connection, check):
                        yield connection
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
            finally:
                self._line.leave(turn)
        if checkpoint_in is not None:
            # It is committed: a thread that cannot be started must not make that a failure.
            with suppress(RuntimeError, MemoryError):
                checkpoint_in.submit(self._checkpoint)

    @contextmanager
    def write_if_free(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection that holds the write lock, as `write` does, or None while another has it or waits for it.

        For what need not be written now; the file must be there.
        """
        with explained_errors(self.path), self._connection("writer", "rw") as connection:
            turn = self._line.join()
            try:
                if not turn.is_set() or not _begin_at_once(connection):
                    yield None
                    return
                try:
                    yield connection
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
            finally:
                self._line.leave(turn)

    def _checkpoint(self) -> None:
        """Move the log into the file, as far as no reader is in the way; a later commit moves the rest."""
        # A disk that is full now takes nothing away: the log stays as it is.
        with suppress(sqlite3.OperationalError), closing(connect(self.path, "rw")) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def prepare(self) -> None:
        """Create the database, or bring its schema up to date, unless that is done."""
        with self._migrating:
            if self._migrated and self._known == self.identity():
                return
            with explained_errors(self.path):
                try:
                    files.make_folder(self.path.parent)
                except OSError as error:
                    raise DatabaseError(f"{self.path.parent} cannot be made: {error.strerror}") from None
                self._refuse_a_folder()
                if self.exists():
                    files.refuse_second_name(self.path)
                    # Before anything is written: another program's database must not change by a byte.
                    with closing(connect(self.path, "ro")) as connection:
                        schema.check(connection)
                else:
                    # For this user alone; SQLite gives the files beside it the same permissions. What is wrong with
                    # the folder, SQLite says when it opens the file.
                    with suppress(OSError):
                        files.create(self.path)
                with self._connection("writer", "rwc") as connection:
                    schema.bring_up_to_date(connection, self._begin)
            self._known = self.identity()
            self._migrated = True

    def try_to_write(self) -> None:
        """Raise `DatabaseError` when the database cannot be written now; that another writes it is no reason.

        Takes the write lock for a moment, without waiting for it, and changes nothing.
        """
        with self.read():
            # Whether it is one, and of this program's schema.
            pass
        with explained_errors(self.path), closing(connect(self.path, "rw", wait_s=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY":
                    raise
            else:
                connection.rollback()

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of the database file and of its write-ahead log; 0 for what is not there."""

        def size(file: Path) -> int:
            """Return the size of a file in bytes; 0 when it is not there."""
            try:
                return file.stat().st_size
            except OSError:
                return 0

        return size(self.path), size(files.beside(self.path, "-wal"))

    def stop_waiting(self) -> None:
        """Let writers that wait for the lock give up: the server is going down."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Return whether the server is going down."""
        return self._stopping.is_set()

    def _begin(
        self, connection: sqlite3.Connection, even_stopping: bool = False, check: Callable[[], None] | None = None
    ) -> None:
        """Take the write lock, waiting for whoever has it."""

        def begun() -> bool:
            """Take the write lock; return False while another has it, and raise when that takes too long."""
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                    raise
                return False
            return True

        end = time.monotonic() + BUSY_TIMEOUT_S
        self._wait(begun, even_stopping, check)

    def _wait(self, succeeds: Callable[[], bool], even_stopping: bool, check: Callable[[], None] | None) -> None:
        """Try until that succeeds; `DatabaseError` when the server stops before, and what `check` raises."""
        give_up = time.monotonic() + _STOPPING_WAIT_S if even_stopping else 0.0
        while not succeeds():
            if check is not None:
                check()
            if self._stopping.is_set() and time.monotonic() > give_up:
                raise DatabaseError(SERVER_STOPPING)

    def _refuse_a_folder(self) -> None:
        if self.path.is_dir():
            raise DatabaseError(
                f"{self.path} is a folder; STOREMON_DATABASE names a file, such as {self.path / 'storemon.db'}"
            )

    def close(self) -> None:
        """Close the connections of every thread, those in use when their use ends; the next use opens new ones."""
        self._connections.close()

    def _connection(self, kind: Kind, mode: str) -> AbstractContextManager[sqlite3.Connection]:
        return self._connections.used(kind, lambda: self._opened(kind, mode))

    def _opened(self, kind: Kind, mode: str) -> sqlite3.Connection:
        connection = connect(self.path, mode)
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            if kind == "writer":
                _use_wal(connection)
            else:
                # Each thread has one, and 2 MB for each of them is more than the rest of the server; what is read is
                # read once, from a file that the system has in memory.
                connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KB}")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_size_limit = 67108864")
            patience_s = _TURN_S if kind == "writer" else BUSY_TIMEOUT_S
            connection.execute(f"PRAGMA busy_timeout = {patience_s * 1000:.0f}")
        except BaseException:
            connection.close()
            raise
        return connection

    def identity(self) -> Identity:
        """Return which file stands at the path now (device and inode); None when there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        if schema.check(connection):
            self.prepare()
        self._known = self.identity()
        self._migrated = True


def connect(path: Path, mode: str, wait_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a file that is there (`mode` "ro" or "rw"; "rwc" creates it), without Python's implicit transactions."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=wait_s, check_same_thread=False)


def _begin_at_once(connection: sqlite3.Connection) -> bool:
    """Take the write lock; return whether no other process has it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_BUSY":
            raise
        return False
    return True


@contextmanager
def _checked(connection: sqlite3.Connection, check: Callable[[], None] | None) -> Iterator[None]:
    """Call `check` now and then while statements run; what it raises interrupts the statement and is raised here."""
    if check is None:
        yield
        return
    raised: list[BaseException] = []

    def interrupts() -> bool:
        """Return whether the statement is to be interrupted, as `check` raised. A SQLite progress handler."""
        try:
            check()
        except BaseException as error:
            # From here SQLite would only learn that something was raised. A Ctrl-C may arrive here, too.
            raised.append(error)
        return bool(raised)

    connection.set_progress_handler(interrupts, _STEPS_PER_CHECK)
    try:
        yield
    except sqlite3.OperationalError as error:
        if raised:
            raise raised[0] from error
        raise
    finally:
        connection.set_progress_handler(None, 0)


@contextmanager
def explained_errors(path: Path, backup: bool = False) -> Iterator[None]:
    """Raise what SQLite says of an unusable file as a `DatabaseError` that names the file and what to do.

    `backup`: the file is a backup that somebody named, and not the database of the settings.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        # What SQLite says of a schema that is not text, Python cannot even read.
        raise DatabaseError(f"{path} holds text that is not UTF-8; restore it from a backup") from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        no_memory = out_of_memory(error)
        if no_memory is not None:
            raise no_memory from error
        if str(error).startswith("Could not decode to UTF-8"):
            # Said by Python, without a code.
            raise DatabaseError(f"{path} holds text that is not UTF-8; restore it from a backup") from error
        sentence = next((text for start, text in _REASONS.items() if code.startswith(start)), None)
        if sentence is None:
            raise
        if backup and code == "SQLITE_NOTADB":
            sentence = "is no backup: it is not an SQLite database"
        raise DatabaseError(f"{path} {sentence}", sqlite=code) from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, for good.

    Two who switch a new file at once: SQLite tells one of them "busy" without waiting.
    """
    end = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
            time.sleep(0.01)


def named_rows(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> sqlite3.Cursor:
    """Execute a query whose rows are read by the names of their columns (`sqlite3.Row`), not by position."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(sql, parameters)
