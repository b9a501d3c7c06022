"""Connections and transactions: one connection per thread, readers read-only, every write `BEGIN IMMEDIATE`."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from storemon_flask.database import files, schema
from storemon_flask.database.connections import Connections, Identity, Kind
from storemon_flask.database.line import Line
from storemon_flask.errors import DatabaseError, out_of_memory

# A writer waits this long for another one before it gives up: applying a load of 100 million polls takes less.
BUSY_TIMEOUT_S = 300.0
# It waits in turns this short, so that a server that stops need not wait for it.
_TURN_S = 0.2
_LAST_WORD_S = 10.0
# A week of hourly polls is about 1 KB; larger pages waste less at their ends and are fewer to read.
PAGE_BYTES = 16_384
_READER_CACHE_KB = 500
# Some milliseconds of work.
_STEPS_PER_CHECK = 100_000
# What SQLite does unasked.
_AUTOCHECKPOINT_PAGES = 1000


class Database:
    """One SQLite file. Safe to share between threads: each gets connections of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections = Connections(self.identity)
        self._stopping = threading.Event()
        self._migrated = False
        self._known: Identity = None
        self._migrating = threading.Lock()
        self._line = Line()

    def exists(self) -> bool:
        """Whether the file is there; commands that only read ask first and never create it."""
        return self.path.is_file()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A read-only connection inside one transaction: everything read in it is of one moment.

        `DatabaseError` when there is no database, it is not one, or its schema is newer or older than this program's.
        """
        if not self.exists():
            self._refuse_a_folder()
            raise DatabaseError(f"there is no database at {self.path}; run `storemon load-data` to make it")
        changed = not self._migrated or self._known != self.identity()
        if changed:
            files.refuse_second_name(self.path)
        with self._sentences(), self._connection("reader", "ro") as connection:
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
        self, last_word: bool = False, aside: Executor | None = None, check: Callable[[], None] | None = None
    ) -> Iterator[sqlite3.Connection]:
        """A connection that holds the write lock; commits at the end, rolls back on any error. Creates the database.

        `last_word`: this must be said even while the server stops, and waits some seconds for the lock then too.
        `aside`: what is committed is safe in the log; this moves it into the file, while the caller goes on.
        `check` is called now and then, also in the middle of a statement; what it raises ends the transaction.
        """
        self.prepare()
        with self._sentences(), self._connection("writer", "rw") as connection:
            connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES if aside is None else 0}")
            # Threads of one process take turns here: SQLite would let them sleep and try again.
            turn = self._line.join()
            try:
                self._wait(lambda: turn.wait(_TURN_S), last_word, check)
                self._begin(connection, last_word, check)
                try:
                    with _checked(connection, check):
                        yield connection
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
            finally:
                self._line.leave(turn)
        if aside is not None:
            # It is committed: a thread that cannot be started must not make that a failure. The next commit moves the
            # log.
            with suppress(RuntimeError, MemoryError):
                aside.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        """Move the log into the file, as far as no reader is in the way; the next commit or checkpoint moves the rest."""
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        # A disk that is full now takes nothing away: the log stays as it is.
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def prepare(self) -> None:
        """Create the database, or bring its schema up to date, unless that is done."""
        with self._migrating:
            if self._migrated and self._known == self.identity():
                return
            with self._sentences():
                try:
                    files.make_folder(self.path.parent)
                except OSError as error:
                    raise DatabaseError(f"{self.path.parent} cannot be made: {error.strerror}") from None
                self._refuse_a_folder()
                if self.exists():
                    files.refuse_second_name(self.path)
                    self._refuse_others()
                else:
                    self._create()
                with self._connection("writer", "rwc") as connection:
                    schema.bring_up_to_date(connection, self._begin)
            self._known = self.identity()
            self._migrated = True

    def try_to_write(self) -> None:
        """Return when the database could be written now, or another is writing it; `DatabaseError` says why not.

        Takes the write lock for a moment, without waiting for it, and changes nothing.
        """
        with self.read():
            # Whether it is one, and of this program's schema.
            pass
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with self._sentences(), closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY":
                    raise
            else:
                connection.rollback()

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database file and of its write-ahead log; 0 for what is not there."""
        found = []
        for file in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                found.append(file.stat().st_size)
            except OSError:
                found.append(0)
        return found[0], found[1]

    def stop_waiting(self) -> None:
        """Writers that wait for the lock give up now: the server is going down."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether the server is going down."""
        return self._stopping.is_set()

    def _begin(
        self, connection: sqlite3.Connection, last_word: bool = False, check: Callable[[], None] | None = None
    ) -> None:
        """Take the write lock, waiting for whoever has it."""

        def begun() -> bool:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                    raise
                return False
            return True

        end = time.monotonic() + BUSY_TIMEOUT_S
        self._wait(begun, last_word, check)

    def _wait(self, had: Callable[[], bool], last_word: bool, check: Callable[[], None] | None) -> None:
        """Try until it is had; `DatabaseError` when the server stops before, and what `check` raises."""
        leave = time.monotonic() + _LAST_WORD_S if last_word else 0.0
        while not had():
            if check is not None:
                check()
            if self._stopping.is_set() and time.monotonic() > leave:
                raise DatabaseError("the server is stopping; send the request again when it is back")

    def _refuse_a_folder(self) -> None:
        if self.path.is_dir():
            raise DatabaseError(
                f"{self.path} is a folder; STOREMON_DATABASE names a file, such as {self.path / 'storemon.db'}"
            )

    def _create(self) -> None:
        """Create the empty file, for this user alone; SQLite gives the files beside it the same permissions."""
        # What is wrong with the folder, SQLite says when it opens the file.
        with suppress(OSError):
            files.create(self.path)

    def _refuse_others(self) -> None:
        """Look at the file before anything is written to it: another program's database must not change by a byte."""
        connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        try:
            schema.pending(connection)
            schema.refuse_dangerous(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections of every thread, those in use when their use ends; the next use opens new ones."""
        self._connections.close()

    def _connection(self, kind: Kind, mode: str) -> AbstractContextManager[sqlite3.Connection]:
        return self._connections.used(kind, lambda: self._opened(kind, mode))

    def _opened(self, kind: Kind, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
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
        """Which file stands at the path now (device and inode); None when there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        due = schema.pending(connection)
        schema.refuse_dangerous(connection)
        if due:
            self.prepare()
        self._known = self.identity()
        self._migrated = True

    def _sentences(self) -> AbstractContextManager[None]:
        return sentences(self.path)


@contextmanager
def _checked(connection: sqlite3.Connection, check: Callable[[], None] | None) -> Iterator[None]:
    """Call that now and then while statements run; what it raises interrupts the statement and is raised from here."""
    if check is None:
        yield
        return
    raised: list[BaseException] = []

    def interrupts() -> bool:
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
def sentences(path: Path, backup: bool = False) -> Iterator[None]:
    """What SQLite says of an unusable file, as a `DatabaseError` whose sentence names the file and what to do.

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
