"""A ledger in a SQLite file, in WAL with `synchronous=FULL`."""

import fcntl
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlite_utils import Database

from solaris_meter.errors import Unavailable
from solaris_meter.ledger import copies, migrations
from solaris_meter.ledger.database.engine import Connection, Engine, Row

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5_000
"""How long a writer waits for another process's transaction."""


class SqliteEngine(Engine):
    """A SQLite file. Liveness marks are files beside it, locked by the kernel for as long as their process lives.

    `keeps_copies` False: a migration makes no copy first, because the file is one.
    """

    def __init__(
        self, path: Path, *, create: bool = True, journal: Path | None = None, keeps_copies: bool = True
    ) -> None:
        self.path = path
        self._keeps_copies = keeps_copies
        self.journal = journal or path.with_name(f"{path.name}-unsettled.jsonl")
        self._marks: dict[str, int] = {}
        if not create and not path.exists():
            raise Unavailable(
                f"no ledger at {path.absolute()}; start the sidecar, or make one with 'solaris-cli db migrate'"
            )

    def connect(self) -> Connection:
        return SqliteConnection(self._open(), self.path)

    def migrate(self) -> list[str]:
        database = self._open()
        try:
            with _translated(self.path):
                newer = migrations.unknown(database)
                if newer:
                    raise Unavailable(
                        f"{self.path} is from a newer version (it has {', '.join(newer)}); upgrade Solaris Meter, or "
                        "restore the backup made before the upgrade"
                    )
                if not migrations.pending(database):
                    return []
                # BEGIN IMMEDIATE first: two processes that start together must not both find the work undone.
                with _immediate(database.conn):
                    missing = migrations.pending(database)
                    if missing and self._keeps_copies and _holds_tables(database.conn):
                        self._keep_copy(missing[0])
                    return migrations.apply(database)
        finally:
            database.close()

    def pending(self) -> list[str]:
        """The migrations that this file lacks. Raises Unavailable."""
        with closing(self._open()) as database, _translated(self.path):
            return migrations.pending(database)

    def _keep_copy(self, step: str) -> None:
        """Copy the ledger as it is before `step`, under a name that says so. Raises Unavailable: nothing is changed."""
        now = datetime.now(UTC)
        target = self.path.with_name(f"{self.path.name}-before-{step}-{now:%Y%m%dT%H%M%SZ}.db")
        try:
            with closing(self._open()) as database:  # the moment before: the other connection has written nothing yet
                copies.write(database.conn, target)
        except Unavailable as error:
            raise Unavailable(
                f"the ledger {self.path.absolute()} is not upgraded to {step}, because no copy could be made of it "
                f"first: {error}; then start again"
            ) from error
        self.copied_to = target
        log.info("the ledger is upgraded; as it was before, it is kept in %s", target)

    def claim(self, owner: str) -> None:
        path = self._mark(owner)
        while owner not in self._marks:
            try:
                mark = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            except OSError as error:
                raise Unavailable(f"{path} cannot be written: {error.strerror}; it marks a running sidecar") from error
            fcntl.flock(mark, fcntl.LOCK_EX)
            # Somebody may have taken it for a dead process's mark and removed it before it was locked.
            if path.exists() and os.fstat(mark).st_ino == path.stat().st_ino:
                self._marks[owner] = mark
            else:
                os.close(mark)

    def sweep(self) -> None:
        self.alive()

    def release(self, owner: str) -> None:
        mark = self._marks.pop(owner, None)
        if mark is not None:
            self._mark(owner).unlink(missing_ok=True)
            os.close(mark)

    def is_alive(self, owner: str) -> bool:
        if owner in self._marks:
            return True
        try:
            mark = os.open(self._mark(owner), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._mark(owner).unlink(missing_ok=True)
            return False
        finally:
            os.close(mark)

    def alive(self) -> list[str]:
        """The owners that a process holds the mark of, in order of their names."""
        prefix = f"{self.path.name}-alive-"
        owners = (path.name.removeprefix(prefix) for path in sorted(self.path.parent.glob(f"{prefix}*")))
        return [owner for owner in owners if self.is_alive(owner)]

    def _mark(self, owner: str) -> Path:
        return self.path.with_name(f"{self.path.name}-alive-{owner}")

    def _open(self) -> Database:
        if not self.path.exists():
            _make_private(self.path)
        with _translated(self.path):
            # isolation_level None: transactions begin and end where this module says so, nowhere else.
            raw = sqlite3.connect(
                self.path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, cached_statements=256
            )
            raw.row_factory = sqlite3.Row
            try:
                _use_wal(raw)
                raw.execute("PRAGMA synchronous=FULL")
                raw.execute("PRAGMA foreign_keys=ON")
                return Database(raw, execute_plugins=False)
            except BaseException:
                raw.close()
                raise


class SqliteConnection(Connection):
    """A connection to a SQLite file."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._raw = database.conn
        self._path = path

    def rows(self, sql: str, **values: object) -> list[Row]:
        with _translated(self._path):
            return self._raw.execute(sql, values).fetchall()

    def execute(self, sql: str, **values: object) -> int:
        with _translated(self._path):
            return self._raw.execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with _translated(self._path), _immediate(self._raw):
            yield

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        with _translated(self._path), self._database.atomic():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with _translated(self._path):
            self._raw.execute("BEGIN")
            try:
                yield
            finally:
                self._raw.execute("ROLLBACK")

    def lock(self, name: str) -> None:
        """Nothing to do: a write transaction is alone anyway."""

    def hurry(self) -> None:
        """Nothing to do: who holds the one lock waits for nobody."""

    @property
    def in_transaction(self) -> bool:
        return self._raw.in_transaction

    def close(self) -> None:
        self._raw.close()


def _holds_tables(raw: sqlite3.Connection) -> bool:
    """Whether there is anything to lose: the list of migrations alone is nothing."""
    found = raw.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%sqlite%'")
    return bool(found.fetchone()[0])


def _make_private(path: Path) -> None:
    """An empty file that its user alone may read, for a ledger that is not there yet: e-mails will be in it.

    It comes into its place by its name. A file of SQLite's must never be opened by anybody else in the process: closing
    it would take away the locks of every connection (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    fresh = path.with_name(f"{path.name}-new-{uuid.uuid4().hex}")
    with suppress(OSError):  # what is wrong, SQLite says better; or another process was faster
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            os.link(fresh, path)
        finally:
            fresh.unlink()


def _use_wal(raw: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite's busy timeout does not cover this, and processes that start together meet here."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def _immediate(raw: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE: a deferred transaction that reads first fails at once when another process wrote meanwhile."""
    raw.execute("BEGIN IMMEDIATE")
    try:
        yield
        raw.execute("COMMIT")
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as Unavailable. A broken constraint stays what it is: a defect of ours, not of the database."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise Unavailable(f"the ledger {path.absolute()} cannot be used: {error}{_remedy(path)}") from error


def _remedy(path: Path) -> str:
    """What to do about a database that does not open, where that can be seen from outside."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist: make it, or change ledger.database"
    if path.is_dir():
        return "; it is a folder: name a file in ledger.database"
    if not os.access(folder, os.W_OK):
        return f"; the folder {folder} cannot be written by this user"
    return ""
