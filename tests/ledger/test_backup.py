"""Backup and restore: one moment, every sum right, nothing taken the place of that was not meant to go."""

import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections import namedtuple
from contextlib import closing
from typing import Any

import pytest
from sqlite_utils import Database
from tests.ledger.support import NOON, ZONE, Books, ask, outcome

from solaris_meter.errors import LedgerError, Unavailable
from solaris_meter.ledger import backup, check, migrations
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.ledger.journal import Journal, Unsettled
from solaris_meter.ledger.ledger import Ledger

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def books(path):
    """A ledger that the tests may close, damage and replace."""
    opened = Books(path)
    yield opened
    opened.close()


@pytest.fixture
def made(books, tmp_path):
    """A backup of a ledger in which ana was given 1,000 and used 300."""
    books.open_with(1000)
    books.spend(300)
    return take(books.engine, tmp_path / "copy.db")


def take(engine, target, progress=None) -> Any:
    return backup.backup(engine, target, progress)


def contents(path):
    with closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


def checked(path):
    with closing(SqliteEngine(path).connect()) as tx, tx.snapshot():
        return check.run(tx)


def restore(path, source, **options) -> Any:
    return backup.restore(SqliteEngine(path), source, NOON, **options)


def older(path, stop_before):
    """A ledger as an older version left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = Database(raw)
        migrations.steps.apply(database, stop_before=stop_before)
        raw.execute(
            "INSERT INTO accounts VALUES (1, 'ana', NULL, 'basico', 'active', 'America/Sao_Paulo', 0, 0, 1, 0, 0, 0)"
        )
        database.close()


# backup


def test_a_backup_holds_all_that_the_ledger_holds_in_one_private_file(books, made):
    assert contents(made.path) == contents(books.path)
    assert (made.report.accounts, made.report.entries, made.journal, made.unsettled) == (1, 2, None, 0)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert made.size_bytes == made.path.stat().st_size
    assert [file.name for file in made.path.parent.glob("copy.db*")] == ["copy.db"]


def test_a_backup_is_of_one_moment_while_writers_go_on(books, tmp_path, monkeypatch):
    """A copy in steps that took what came meanwhile would not add up, or would never end."""
    monkeypatch.setattr("solaris_meter.ledger.copies._PAGES_AT_A_TIME", 1)
    books.open_with(1_000_000)
    for _ in range(50):
        books.spend(7)
    steps = []

    def spend_meanwhile(done, total):
        steps.append(done)
        if len(steps) <= 30:
            books.spend(7)

    made = take(books.engine, tmp_path / "copy.db", spend_meanwhile)
    assert len(steps) > 30
    assert made.report.entries == 51
    assert checked(made.path).ok
    assert books.count("entries") == 81


def test_threads_that_settle_meanwhile_are_not_disturbed(path, tmp_path):
    ledger = Ledger(SqliteEngine(path), "here", NewAccount("basico", ZONE), ())
    ledger.open()
    stop = threading.Event()
    failed: list[LedgerError] = []

    def call(number):
        while not stop.is_set():
            try:
                name = f"{number}-{threading.get_ident()}-{len(failed)}-{id(object())}-{stop.is_set()}-{next(ids)}"
                ledger.reserve(ask(name, f"u{number}", prompt=10), NOON).result(20)
                ledger.settle(name, outcome(10), NOON + 1).result(20)
            except LedgerError as error:
                failed.append(error)

    ids = iter(range(1_000_000))
    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    made = [take(SqliteEngine(path), tmp_path / f"copy-{number}.db") for number in range(5)]
    stop.set()
    for thread in threads:
        thread.join()
    ledger.close()
    assert failed == []
    assert all(one.report.ok for one in made)
    entries = [one.report.entries for one in made]
    assert entries == sorted(entries)
    assert checked(path).ok


def test_calls_that_the_ledger_could_not_take_are_part_of_the_backup(books, tmp_path):
    books.open_with(1000)
    Journal(books.engine.journal).append(Unsettled(ask("late"), outcome(40), NOON))
    made = take(books.engine, tmp_path / "copy.db")
    assert (made.unsettled, made.journal) == (1, tmp_path / "copy.db-unsettled.jsonl")
    assert made.journal.read_bytes() == books.engine.journal.read_bytes()
    assert stat.S_IMODE(made.journal.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_not_overwritten(books, made):
    made.path.write_text("mine")
    with pytest.raises(Unavailable, match=r"copy\.db is there already, and is not overwritten"):
        backup.backup(books.engine, made.path)
    assert made.path.read_text() == "mine"


def test_a_full_disk_leaves_nothing_behind(books, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(100, 100, 5))
    with pytest.raises(Unavailable, match=r"a copy needs 1 MiB in .*, which has 0 MiB left; make room there"):
        backup.backup(books.engine, tmp_path / "copies" / "copy.db")
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_ledger_whose_sums_are_wrong_makes_no_backup(books, tmp_path):
    books.open_with(1000)
    books.run(lambda tx: tx.execute("UPDATE accounts SET balance = balance + 1"))
    Journal(books.engine.journal).append(Unsettled(ask("late"), outcome(40), NOON))
    with pytest.raises(LedgerError, match=r"2 sums are wrong, such as ana's balance \(1001, not 1000\)"):
        backup.backup(books.engine, tmp_path / "copy.db")
    assert list(tmp_path.glob("copy*")) == []


def test_a_damaged_ledger_makes_no_backup(books, tmp_path):
    books.open_with(1000)
    for number in range(300):
        books.give(1, note=f"note {number} " * 20)
    books.close()
    damage(books.path)
    with pytest.raises(Unavailable, match=r"malformed|is damaged"):
        backup.backup(SqliteEngine(books.path), tmp_path / "copy.db")
    assert list(tmp_path.glob("copy*")) == []


def damage(path):
    """Pages in the middle overwritten, as a bad disk does it."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 8192)


# restore


def test_a_backup_restored_where_there_is_no_ledger_is_the_ledger(books, made, tmp_path):
    (tmp_path / "new").mkdir()
    done = restore(tmp_path / "new" / "solaris.db", made.path)
    assert (done.previous, done.lost_entries, done.migrations, done.unsettled) == (None, 0, [], 0)
    assert contents(done.path) == contents(books.path)
    assert [file.name for file in done.path.parent.iterdir()] == ["solaris.db"]
    assert made.path.exists()


def test_what_a_restore_replaces_is_kept_aside(books, made):
    books.spend(100)
    before = contents(books.path)
    books.close()
    with pytest.raises(LedgerError, match=r"1 entries of .* are not in the backup: .*--force restores it"):
        restore(books.path, made.path)
    assert contents(books.path) == before
    done = restore(books.path, made.path, force=True)
    assert done.lost_entries == 1
    assert done.previous.name == "solaris.db-before-restore-20260310T150000Z"
    assert contents(done.previous) == before
    assert contents(books.path) == contents(made.path)
    assert checked(books.path).ok
    assert not list(books.path.parent.glob("*-restoring-*"))


def test_a_ledger_without_anything_new_is_replaced_without_force(books, made):
    books.close()
    done = restore(books.path, made.path)
    assert (done.lost_entries, done.previous.exists()) == (0, True)


def test_a_restored_ledger_does_not_read_the_wal_of_the_one_that_is_gone(books, made):
    books.spend(100)  # stands in the WAL: the connection is open still
    wal = books.path.with_name("solaris.db-wal").read_bytes()
    assert wal
    books.close()
    books.path.unlink()
    books.path.with_name("solaris.db-wal").write_bytes(wal)
    restore(books.path, made.path)
    assert contents(books.path) == contents(made.path)


def test_nothing_is_restored_under_a_running_sidecar(books, made):
    books.close()
    engine = SqliteEngine(books.path)
    engine.claim("host-1-ab")
    with pytest.raises(LedgerError, match=r"a sidecar is running on .* \(host-1-ab\): stop it first"):
        backup.restore(SqliteEngine(books.path), made.path, NOON, force=True)
    engine.release("host-1-ab")
    backup.restore(SqliteEngine(books.path), made.path, NOON, force=True)


def test_nothing_is_restored_under_a_program_that_has_the_ledger_open(books, made, monkeypatch):
    monkeypatch.setattr(backup, "BUSY_TIMEOUT_MS", 100)
    before = contents(books.path)
    with pytest.raises(LedgerError, match=r"another program has .* open"):
        restore(books.path, made.path, force=True)
    assert contents(books.path) == before


def test_unsettled_calls_of_a_backup_are_charged_once_after_the_restore(books, tmp_path):
    books.open_with(1000)
    journal = Journal(books.engine.journal)
    journal.append(Unsettled(ask("early"), outcome(40), NOON))
    made = take(books.engine, tmp_path / "copy.db")
    journal.append(Unsettled(ask("late"), outcome(2), NOON))
    books.close()
    done = restore(books.path, made.path)
    assert done.unsettled == 1
    ledger = Ledger(SqliteEngine(books.path), "here", NewAccount("livre", ZONE), ())
    ledger.open()
    assert ledger.drain(NOON + 5) == 3
    ledger.close()
    again = Books(books.path)
    assert again.balance() == 1000 - 42
    assert again.check().ok
    again.close()


def test_a_ledger_that_is_damaged_is_set_aside_as_it_is(books, made):
    for number in range(300):
        books.give(1, note=f"note {number} " * 20)
    books.close()
    damage(books.path)
    broken = books.path.read_bytes()
    done = restore(books.path, made.path)
    assert done.previous.read_bytes() == broken
    assert contents(books.path) == contents(made.path)


def test_a_file_that_never_was_a_database_is_set_aside(books, made):
    books.close()
    books.path.write_text("my novel\n" * 1000)
    done = restore(books.path, made.path)
    assert done.previous.read_text() == "my novel\n" * 1000
    assert checked(books.path).ok


def test_a_database_that_is_no_ledger_is_set_aside_only_when_told(made, tmp_path):
    other = tmp_path / "wordpress.db"
    with closing(sqlite3.connect(other)) as raw:
        raw.execute("CREATE TABLE posts (id)")
    with pytest.raises(LedgerError, match=r"is a database, but no ledger .*--force"):
        restore(other, made.path)
    assert "posts" in "".join(contents(restore(other, made.path, force=True).previous))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.write_text("my novel\n" * 1000), "file is not a database"),
        (lambda file: file.write_bytes(file.read_bytes()[:20_000]), r"malformed|damaged"),
        (lambda file: file.unlink(), "is not a file; name a backup"),
        (lambda file: sql(file, "DROP TABLE reservations"), "no table|damaged"),
        (lambda file: sql(file, "UPDATE accounts SET balance = 7"), "2 sums are wrong, such as ana's balance"),
        (
            lambda file: sql(
                file, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('solaris', 'm999', '')"
            ),
            "copy.db is from a newer version",
        ),
    ],
)
def test_what_cannot_be_relied_on_is_not_restored(books, made, change, said):
    books.close()
    before = contents(books.path)
    change(made.path)
    with pytest.raises(LedgerError, match=said):
        restore(books.path, made.path, force=True)
    assert contents(books.path) == before
    assert not list(books.path.parent.glob("*restor*"))


def sql(path, statement):
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(statement)


def test_the_ledger_is_not_restored_from_itself(books):
    with pytest.raises(LedgerError, match="is the ledger itself"):
        restore(books.path, books.path)


def test_a_restore_killed_at_any_moment_leaves_one_ledger_or_the_other(books, made, tmp_path):
    """The program is killed while it copies into the ledger's file, which is the only moment that could hurt."""
    for number in range(2000):
        books.give(1, note=f"note {number} " * 20)
    before = contents(books.path)
    books.close()
    program = (
        "import os, signal, sys; from pathlib import Path; import sqlite3; from solaris_meter.ledger import backup\n"
        "from solaris_meter.ledger.database import SqliteEngine\n"
        "real = backup._open\n"
        "class Dying(sqlite3.Connection):\n"
        "    def backup(self, target, **rest):\n"
        "        if rest: return super().backup(target, **rest)\n"
        "        super().backup(target, pages=1, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        "backup._open = lambda path: sqlite3.connect(path, isolation_level=None, factory=Dying)\n"
        "backup.restore(SqliteEngine(Path(sys.argv[1])), Path(sys.argv[2]), 0, force=True)"
    )
    for path, source in ((books.path, made.path),):
        done = subprocess.run([sys.executable, "-c", program, str(path), str(source)], timeout=60, check=False)
        assert done.returncode == -9
    assert contents(books.path) == before
    assert checked(books.path).ok


# before a migration


@pytest.mark.parametrize("first", ["m002_rates", "m003_outbox", "m004_notices"])
def test_a_ledger_of_an_older_version_is_copied_before_it_is_changed(path, first):
    older(path, first)
    before = contents(path)
    engine: Any = SqliteEngine(path)
    assert engine.migrate()[0] == first
    assert engine.copied_to.name.startswith(f"solaris.db-before-{first}-")
    assert engine.copied_to.parent == path.parent
    assert contents(engine.copied_to) == before
    assert stat.S_IMODE(engine.copied_to.stat().st_mode) == 0o600
    again = SqliteEngine(path)
    assert (again.migrate(), again.copied_to) == ([], None)
    assert len(list(path.parent.glob("*-before-*"))) == 1


def test_a_new_ledger_has_nothing_to_copy(path):
    engine = SqliteEngine(path)
    engine.migrate()
    assert engine.copied_to is None
    assert not list(path.parent.glob("*-before-*"))


def test_without_a_copy_nothing_is_changed(path, monkeypatch):
    older(path, "m004_notices")
    before = contents(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(100, 100, 5))
    with pytest.raises(Unavailable, match=r"is not upgraded to m004_notices, because no copy .* make room there"):
        SqliteEngine(path).migrate()
    assert contents(path) == before
    monkeypatch.undo()
    assert SqliteEngine(path).migrate() == ["m004_notices"]


def test_two_that_upgrade_at_once_make_one_copy(path):
    older(path, "m003_outbox")
    engines = [SqliteEngine(path) for _ in range(4)]
    threads = [threading.Thread(target=engine.migrate) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(engine.copied_to is not None for engine in engines) == 1


def test_the_copy_made_before_an_upgrade_can_be_restored(path, tmp_path):
    older(path, "m003_outbox")
    engine = SqliteEngine(path)
    engine.migrate()
    (tmp_path / "new").mkdir()
    done = restore(tmp_path / "new" / "solaris.db", engine.copied_to)
    assert done.migrations == ["m003_outbox", "m004_notices"]
    assert (done.report.accounts, done.report.ok) == (1, True)
    assert not list(done.path.parent.glob("*-before-*"))


def test_a_backup_of_an_older_version_is_left_as_it_is(path, tmp_path):
    older(path, "m003_outbox")
    before = contents(path)
    made = take(SqliteEngine(path), tmp_path / "copy.db")
    assert made.report is None
    assert contents(made.path) == contents(path) == before


def test_a_journal_that_a_crash_tore_gives_its_whole_lines(books, tmp_path):
    journal = Journal(books.engine.journal)
    journal.append(Unsettled(ask("whole"), outcome(40), NOON))
    with journal.path.open("ab") as file:
        file.write(b'{"ask": {"id": "to')
    made = take(books.engine, tmp_path / "copy.db")
    assert made.unsettled == 1
    assert json.loads(made.journal.read_text())["ask"]["id"] == "whole"
