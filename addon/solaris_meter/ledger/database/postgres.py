"""A ledger in PostgreSQL, by psycopg: any number of sidecars and command lines on one database."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from solaris_meter.errors import Contended, Unavailable
from solaris_meter.ledger import migrations_postgres as migrations
from solaris_meter.ledger.database import url as urls
from solaris_meter.ledger.database.engine import Connection, Engine, Row
from solaris_meter.ledger.database.heartbeat import Heartbeat

LOCK_TIMEOUT_MS = 5_000
"""How long a transaction that holds nothing waits for another one."""
HURRIED_LOCK_TIMEOUT_MS = 50
"""How long a transaction that holds locks waits for another one, which may wait for it: long before PostgreSQL looks
for deadlocks (1 s), longer than a commit takes."""
STATEMENT_TIMEOUT_MS = 30_000
READING_TIMEOUT_MS = 600_000
"""For the statements of a snapshot: a check reads the whole history."""
IDLE_TIMEOUT_MS = 15_000
"""After which the server takes its locks from a process that vanished, or was halted, in mid-transaction."""

_CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "solaris-meter",
    # A server that vanished without a word is noticed in about 10 s.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""What holds for a connection unless its URL says otherwise (libpq's parameters)."""

_JOURNAL = Path("solaris-unsettled.jsonl")
_TOKEN = re.compile(r"""(?P<kept>'(?:[^']|'')*'|"(?:[^"]|"")*"|::)|:(?P<name>[A-Za-z_]\w*)|(?P<percent>%)""", re.ASCII)

type Raw = psycopg.Connection[dict[str, Any]]


class PostgresEngine(Engine):
    """A PostgreSQL database. Liveness marks are heartbeats in it: see `Heartbeat`.

    The journal lies in the current folder, unless it is told another place: the database is on no disk of ours.
    """

    def __init__(self, url: str, *, create: bool = True, journal: Path | None = None) -> None:
        self.name = urls.shown(url)
        self.journal = journal or _JOURNAL
        self._create = create
        self._heartbeats: dict[str, Heartbeat] = {}
        try:
            # Of a database whose encoding is SQL_ASCII, psycopg would give bytes for text.
            self._parameters = _CONNECTING | conninfo_to_dict(url) | {"client_encoding": "UTF8"}
        except psycopg.Error:
            raise Unavailable(
                f"ledger.database: {self.name!r} cannot be read; write postgresql://USER:PASSWORD@HOST:5432/DATABASE,"
                " with %40 for an @ in the password and %2F for a /"
            ) from None  # the error may quote the password

    def connect(self) -> Connection:
        return PostgresConnection(self._open, self.name)

    def migrate(self) -> list[str]:
        with closing(self.connect()) as connection:
            applied = migrations.applied(connection)
            if applied is None and not self._create:
                raise Unavailable(
                    f"no ledger in {self.name}; start the sidecar, or make one with 'solaris-cli db migrate'"
                )
            newer = migrations.unknown(applied or [])
            if newer:
                raise Unavailable(
                    f"{self.name} is from a newer version (it has {', '.join(newer)}); upgrade Solaris Meter, or "
                    "restore the backup made before the upgrade"
                )
            if applied is not None and not migrations.pending(applied):
                return []
            # The lock first: two processes that start together must not both find the work undone.
            with connection.transaction():
                connection.execute("SET LOCAL statement_timeout = 0")  # a large table takes its time
                connection.execute("SET LOCAL lock_timeout = 0")
                connection.lock("migrations")
                return migrations.apply(connection)

    def claim(self, owner: str) -> None:
        if owner not in self._heartbeats:
            heartbeat = Heartbeat(self.connect, owner, lock_key(f"owner {owner}"))
            heartbeat.start()
            self._heartbeats[owner] = heartbeat

    def release(self, owner: str) -> None:
        heartbeat = self._heartbeats.pop(owner, None)
        if heartbeat is not None:
            heartbeat.stop()

    def sweep(self) -> None:
        with closing(self.connect()) as connection:
            Heartbeat.sweep(connection)

    def is_alive(self, owner: str) -> bool:
        if owner in self._heartbeats:
            return True
        with closing(self.connect()) as connection:
            return Heartbeat.is_heard(connection, owner, lock_key(f"owner {owner}"))

    def _open(self) -> Raw:
        remedy = "; is the server running, and are host, user, password and database in ledger.database right?"
        with _translated(self.name, remedy):
            raw = psycopg.connect(**self._parameters, autocommit=True, row_factory=dict_row)
            try:
                # Not in the start-up packet, which connection poolers do not take.
                _command(
                    raw,
                    f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = {STATEMENT_TIMEOUT_MS};"
                    f" SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS};"
                    " SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;"
                    " SET synchronous_commit = on; SET standard_conforming_strings = on",
                )
                raw.adapters.register_dumper(int, Int8Dumper)
                raw.adapters.register_dumper(str, _TextDumper)
                raw.adapters.register_loader("numeric", _WholeLoader)
            except BaseException:
                raw.close()
                raise
            return raw


class PostgresConnection(Connection):
    """A connection to PostgreSQL. One that was lost is replaced at the beginning of the next transaction."""

    def __init__(self, connect: Callable[[], Raw], name: str) -> None:
        self._connect = connect
        self._name = name
        self._raw = connect()
        self._hurried = False

    def rows(self, sql: str, **values: object) -> list[Row]:
        with self._translated():
            return list(self._raw.execute(translated(sql), values).fetchall())

    def execute(self, sql: str, **values: object) -> int:
        with self._translated():
            return self._raw.execute(translated(sql), values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._hurried = False
        with self._translated():
            self._begin("BEGIN")
            try:
                yield
                done = _command(self._raw, "COMMIT")
            except BaseException:
                self._roll_back()
                raise
            # A transaction in which an error was passed over is rolled back by its COMMIT, without an error.
            if done != "COMMIT":
                raise Unavailable(f"the ledger {self._name} took nothing: a part of the transaction had failed")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        with self._translated():
            _command(self._raw, "SAVEPOINT part")
            try:
                yield
                _command(self._raw, "RELEASE part")
            except BaseException:
                if self.in_transaction:
                    _command(self._raw, "ROLLBACK TO part; RELEASE part")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._translated():
            self._begin(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                f" SET LOCAL statement_timeout = {READING_TIMEOUT_MS};"
                " SET LOCAL idle_in_transaction_session_timeout = 0"  # what was read may be printed into a pager
            )
            try:
                yield
            finally:
                self._roll_back()

    def lock(self, name: str) -> None:
        self.rows("SELECT pg_advisory_xact_lock(:key)", key=lock_key(name))

    def hurry(self) -> None:
        if not self._hurried:
            with self._translated():
                _command(self._raw, f"SET LOCAL lock_timeout = {HURRIED_LOCK_TIMEOUT_MS}")
            self._hurried = True

    @property
    def in_transaction(self) -> bool:
        status = self._raw.info.transaction_status
        return status in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

    def close(self) -> None:
        self._raw.close()

    def _begin(self, statement: str) -> None:
        try:
            _command(self._raw, statement)
        except psycopg.Error:
            # Nothing was asked of it yet. A connection that a restart of the server ended is worth no refusal.
            if not self._raw.closed:
                raise
            self._raw = self._connect()
            _command(self._raw, statement)

    def _roll_back(self) -> None:
        """Never raises: what is not rolled back so, the server rolls back when the connection is gone."""
        if self.in_transaction:
            with suppress(psycopg.Error):
                _command(self._raw, "ROLLBACK")
        if self._raw.info.transaction_status != pq.TransactionStatus.IDLE:
            self._raw.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with _translated(self._name):
                yield
        except Unavailable as error:
            cause = error.__cause__
            if isinstance(cause, errors.LockNotAvailable) and self._hurried and not isinstance(error, Contended):
                raise Contended(str(error)) from cause
            if isinstance(cause, errors.FeatureNotSupported):
                # A newer version changed a table under statements that are prepared here: they never work again.
                self._raw.close()
            raise


class _TextDumper(StrDumper):
    """Text. A NUL, which JSON can carry and PostgreSQL cannot keep, becomes the character for what is none."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _WholeLoader(Loader):
    """The sum of BIGINTs is a NUMERIC; of whole numbers it is one."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


@lru_cache(maxsize=1024)
def translated(sql: str) -> bytes:
    """SQL with `:name` parameters as psycopg reads it. Literals, quoted names and casts stay what they are."""

    def replaced(found: re.Match[str]) -> str:
        if found["name"]:
            return f"%({found['name']})s"
        # psycopg looks for parameters in literals too.
        return found[0].replace("%", "%%")

    return _TOKEN.sub(replaced, sql).encode()


def lock_key(name: str) -> int:
    """The number of a named lock, which is signed and has 64 bits."""
    digest = hashlib.blake2b(f"solaris-meter {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _command(raw: Raw, statements: str) -> str | None:
    """Run statements without parameters; what the server says it did for the first of them, such as COMMIT."""
    return raw.execute(statements.encode(), prepare=False).statusmessage


@contextmanager
def _translated(name: str, remedy: str = "") -> Iterator[None]:
    """psycopg's errors as Unavailable. A broken constraint, or a value that cannot be one, stays what it is: a defect
    of ours, not of the database."""
    try:
        yield
    except (psycopg.IntegrityError, psycopg.DataError):
        raise
    except psycopg.Error as error:
        kind = Contended if isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure)) else Unavailable
        if isinstance(error, errors.InsufficientPrivilege):
            remedy = "; let the user of ledger.database own the database: ALTER DATABASE … OWNER TO …"
        said = " ".join((error.diag.message_primary or str(error)).split())
        raise kind(f"the ledger {name} cannot be used: {said}{remedy}") from error
