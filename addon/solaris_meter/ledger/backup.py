"""Backup and restore of a ledger in a SQLite file, while it is served, and with a check of every sum.

Calls that the database could not take yet are money too: the journal of unsettled calls belongs to a backup, as a file
beside it, and both are of the same moment.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from solaris_meter.errors import LedgerError, Unavailable
from solaris_meter.ledger import check, copies
from solaris_meter.ledger.check import Report
from solaris_meter.ledger.copies import Progress
from solaris_meter.ledger.database import Engine, SqliteEngine
from solaris_meter.ledger.database.sqlite import BUSY_TIMEOUT_MS
from solaris_meter.ledger.journal import Journal

FOLDER = "backups"
"""Where backups go that are given no name, beside the ledger."""
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made. `report` is what the check of it found; None where its schema is older than this program.

    `journal` is the file with its unsettled calls, None where there are none.
    """

    path: Path
    size_bytes: int
    report: Report | None
    journal: Path | None
    unsettled: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that became the ledger. `previous` is where the ledger before it is kept, None where there was none.

    `lost_entries`: entries that the previous ledger had and this one has not. `migrations`: what brought it up to date.
    """

    path: Path
    previous: Path | None
    lost_entries: int
    report: Report
    migrations: list[str]
    unsettled: int


def sqlite_engine(engine: Engine, doing: str) -> SqliteEngine:
    """The engine, where it is a file. Raises LedgerError for one that has tools of its own."""
    if isinstance(engine, SqliteEngine):
        return engine
    raise LedgerError(f"the ledger is not a SQLite file: its database has tools of its own to {doing} it")


def default_target(engine: SqliteEngine, now_ms: int, folder: Path | None = None) -> Path:
    """The name of a backup that is given none, in `folder`, or in the one beside the ledger."""
    return (folder or engine.path.parent / FOLDER) / f"{engine.path.stem}-{_stamp(now_ms)}.db"


def backup(engine: SqliteEngine, target: Path, progress: Progress | None = None) -> Backup:
    """Copy the ledger, and the journal as it is at that moment, while it is served.

    The copy gets its name when SQLite and `ledger check` have found nothing wrong with it. Raises Unavailable.
    """
    reports: list[Report | None] = []
    beside = SqliteEngine(target).journal
    with copies.refusing(f"{target} cannot be written"):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if beside.exists() and not target.exists():
            raise Unavailable(f"{beside} is there already, and is not overwritten; name another file")
        with closing(_open(engine.path)) as source:
            with Journal(engine.journal).held() as lines:
                # Nobody settles by way of the journal meanwhile: both are of one moment.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_schema").fetchone()

            def prove(copy: Path) -> None:
                reports.append(_prove(copy))
                if lines:
                    _write_new(beside, lines)

            try:
                copies.write(source, target, progress=progress, prove=prove)
            except BaseException:
                if reports and lines and not target.exists():
                    beside.unlink(missing_ok=True)
                raise
    unsettled = _count(lines)
    return Backup(target, target.stat().st_size, reports[0], beside if unsettled else None, unsettled)


def restore(engine: SqliteEngine, source: Path, now_ms: int, *, force: bool = False) -> Restored:
    """Make a backup the ledger: checked and brought up to date first, and the ledger there is now kept aside.

    Raises LedgerError, and changes nothing, for a file that is no ledger, is damaged, has a wrong sum or is from a
    newer version; while a sidecar or another program has the ledger open; and, unless `force`, where the ledger there
    is now has entries that would not be in it any more.
    """
    alive = engine.alive()
    if alive:
        raise LedgerError(f"a sidecar is running on {engine.path} ({', '.join(alive)}): stop it first")
    if not source.is_file():
        raise Unavailable(f"{source} is not a file; name a backup, such as 'solaris-cli db backup' makes")
    with suppress(FileNotFoundError):
        if source.samefile(engine.path):
            raise LedgerError(f"{source} is the ledger itself; name a backup of it")
    stamp = _stamp(now_ms)
    fresh = engine.path.with_name(f"{engine.path.name}-restoring-{stamp}")
    aside = engine.path.with_name(f"{engine.path.name}-before-restore-{stamp}")
    with copies.refusing(f"{source} cannot be restored to {engine.path}"):
        try:
            with closing(_open(source)) as raw:
                copies.check(raw, source)
                _must_be_ledger(raw, source)
                copies.write(raw, fresh)
            ran, report = _bring_up_to_date(fresh, source)
            lines = _lines(SqliteEngine(source).journal)

            def keep_lines() -> None:
                # Before the ledger is another one: what is in the journal twice is charged once, what is lost never.
                if lines:
                    Journal(engine.journal).add(lines)

            lost = _replace(engine.path, fresh, aside, force, keep_lines)
        finally:
            for file in (fresh, *copies.companions(fresh)):
                file.unlink(missing_ok=True)
    return Restored(engine.path, aside if aside.exists() else None, lost, report, ran, _count(lines))


def _replace(path: Path, fresh: Path, aside: Path, force: bool, keep_lines: Callable[[], None]) -> int:
    """Put `fresh` in the place of the ledger at `path`, which goes aside; the number of entries that only that has.

    `keep_lines` is called when nothing can be refused any more, and before anything is changed.
    """
    if not path.exists():
        for file in copies.companions(path):
            file.unlink(missing_ok=True)  # SQLite would read the WAL of a ledger that is gone into this one
        keep_lines()
        copies.give_name(fresh, path)
        return 0
    try:
        with closing(_open_alone(path)) as current:
            copies.check(current, path)
            lost = _lost(current, path, fresh, force)
            copies.write(current, aside)
            keep_lines()
            with closing(_open(fresh)) as new:
                # One transaction of the ledger's own file: it is the old one or the new one, whatever happens.
                new.backup(current)
            return lost
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
            raise
    except Unavailable:
        if _is_sound(path):
            raise
    # Not a ledger any more: nothing in it can be counted or copied, so that its files are kept as they are.
    path.rename(aside)
    for file, kept in zip(copies.companions(path), copies.companions(aside), strict=True):
        if file.exists():
            file.rename(kept)
    keep_lines()
    copies.give_name(fresh, path)
    return 0


def _lost(current: sqlite3.Connection, path: Path, fresh: Path, force: bool) -> int:
    """How many entries of the ledger are not in what takes its place. Raises LedgerError, unless `force`, for any."""
    try:
        now = current.execute("SELECT id, account_id, at_ms, amount FROM entries").fetchall()
    except sqlite3.OperationalError as error:
        if not force:
            raise LedgerError(f"{path} is a database, but no ledger ({error}); --force sets it aside") from error
        return 0
    with closing(_open(fresh)) as new:
        then = set(new.execute("SELECT id, account_id, at_ms, amount FROM entries"))
    lost = sum(entry not in then for entry in now)
    if lost and not force:
        raise LedgerError(
            f"{lost:,} entries of {path} are not in the backup: calls and credits since then would be forgotten; "
            "--force restores it all the same, and keeps the ledger of now aside"
        )
    return lost


def _prove(copy: Path) -> Report | None:
    """What `ledger check` says of a copy; None where its schema lacks what the check reads. Raises Unavailable."""
    with closing(_open(copy)) as raw:
        _must_be_ledger(raw, copy)
    engine = SqliteEngine(copy, keeps_copies=False)
    if engine.pending():
        return None
    report = _check(engine, copy)
    with closing(_open(copy)) as raw:
        raw.execute("PRAGMA journal_mode=DELETE")
    return report


def _bring_up_to_date(fresh: Path, source: Path) -> tuple[list[str], Report]:
    engine = SqliteEngine(fresh, keeps_copies=False)
    try:
        ran = engine.migrate()
    except Unavailable as error:
        raise Unavailable(str(error).replace(str(fresh), str(source))) from error
    report = _check(engine, source)
    with closing(_open(fresh)) as raw:
        raw.execute("PRAGMA journal_mode=DELETE")
    return ran, report


def _check(engine: SqliteEngine, name: Path) -> Report:
    with closing(engine.connect()) as tx, tx.snapshot():
        report = check.run(tx)
    if not report.ok:
        first = report.problems[0]
        raise LedgerError(
            f"{name}: {len(report.problems)} sums are wrong, such as {first['user']}'s {first['what']} "
            f"({first['found']}, not {first['expected']}): it cannot be relied on; see 'solaris-cli ledger check'"
        )
    return report


def _must_be_ledger(raw: sqlite3.Connection, name: Path) -> None:
    tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    missing = {"accounts", "entries", "reservations", "_sqlite_migrations"} - tables
    if missing:
        raise Unavailable(f"{name} is not a ledger: it has no table {min(missing)}")


def _is_sound(path: Path) -> bool:
    try:
        with closing(_open(path)) as raw:
            copies.check(raw, path)
    except (Unavailable, sqlite3.DatabaseError) as error:
        # A database that is only busy is not damaged.
        return isinstance(error, sqlite3.OperationalError)
    return True


def _open(path: Path) -> sqlite3.Connection:
    # Not made by opening it: a name that is wrong is told so.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)


def _open_alone(path: Path) -> sqlite3.Connection:
    """A connection beside which nobody can open the database. Raises LedgerError where somebody has it open."""
    raw = _open(path)
    try:
        raw.execute("PRAGMA locking_mode=EXCLUSIVE")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raw.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        raise LedgerError(
            f"another program has {path} open: end it first (a replication such as Litestream, too)"
        ) from (error)
    except BaseException:
        raw.close()
        raise
    return raw


def _write_new(path: Path, content: bytes) -> None:
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _lines(path: Path) -> bytes:
    with Journal(path).held() as lines:
        return lines


def _count(lines: bytes) -> int:
    return sum(bool(line.strip()) for line in lines.splitlines())


def _stamp(now_ms: int) -> str:
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}"
