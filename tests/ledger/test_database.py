"""The engine: transactions, liveness marks, and a database that cannot be used."""

import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger.support import INTEGRITY, engine_at, only_sqlite

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.database import SqliteEngine, open_engine, shown, sqlite


@pytest.fixture
def engine(place):
    engine = engine_at(place)
    engine.migrate()
    return engine


@pytest.fixture
def tx(engine):
    with closing(engine.connect()) as connection:
        yield connection


def tokens(connection):
    return connection.value("SELECT tokens FROM plans WHERE name = 'basico'")


def change(connection, value):
    return connection.execute("UPDATE plans SET tokens = :value WHERE name = 'basico'", value=value)


def change_and_fail(connection, value):
    change(connection, value)
    raise RuntimeError("stop")


def test_a_sqlite_url_opens_the_file_it_names(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/named.db")
    engine.migrate()
    assert (tmp_path / "named.db").exists()
    assert engine.journal == tmp_path / "named.db-unsettled.jsonl"


def test_the_journal_lies_where_it_is_told(tmp_path):
    kept = tmp_path / "kept.jsonl"
    assert open_engine(f"sqlite:///{tmp_path}/named.db", journal=kept).journal == kept
    assert open_engine("postgresql://db/solaris", journal=kept).journal == kept
    assert open_engine("postgresql://db/solaris").journal == Path("solaris-unsettled.jsonl")


def test_a_relative_url_is_relative_to_the_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    open_engine("sqlite:///here.db").migrate()
    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("url", ["", "solaris.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql:///x"])
def test_what_is_no_database_is_refused_with_the_key_and_an_example(url):
    with pytest.raises(Unavailable, match=r"ledger\.database: .* write sqlite:///solaris\.db"):
        open_engine(url)


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("sqlite:///solaris.db", "sqlite:///solaris.db"),
        ("sqlite:////srv/a:b@c/solaris.db", "sqlite:////srv/a:b@c/solaris.db"),
        ("postgresql://db/solaris", "postgresql://db/solaris"),
        ("postgresql://ana@db:5432/solaris?sslmode=require", "postgresql://ana@db:5432/solaris?sslmode=require"),
        ("postgresql://ana:secret@db:5432/solaris", "postgresql://ana:***@db:5432/solaris"),
        ("postgres://ana:se:c@r/e?t@db/solaris", "postgres://ana:***@db/solaris"),
        ("postgresql://db/solaris?user=ana&password=secret&sslmode=require",
         "postgresql://db/solaris?user=ana&password=***&sslmode=require"),
        ("postgresql://ana:secret@db/x?sslpassword=secret", "postgresql://ana:***@db/x?sslpassword=***"),
        ("postgresql:ana:secret@db", "postgresql:ana:***@db"),
        ("mysql://ana:secret@db/x", "mysql://ana:***@db/x"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url, seen):
    assert shown(url) == seen


@pytest.mark.parametrize(
    "url", ["mysql://ana:secret@db/x", "postgresql://ana:secret@db/x?nosuch=1", "postgres:a:secret@d"]
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url):
    with pytest.raises(Unavailable, match=r"ledger\.database: .*; write .*postgresql://USER:PASSWORD@HOST") as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)


def test_a_ledger_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(Unavailable, match="db migrate"):
        open_engine(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_unavailable(tmp_path):
    engine = SqliteEngine(tmp_path / "missing" / "solaris.db")
    with pytest.raises(Unavailable, match="missing"):
        engine.migrate()


def test_a_file_that_is_no_database_is_unavailable_and_stays_as_it_is(path):
    path.write_text("not a database, " * 100)
    with pytest.raises(Unavailable, match=r"solaris\.db cannot be used"):
        SqliteEngine(path).migrate()
    assert path.read_text() == "not a database, " * 100


@only_sqlite
def test_a_commit_survives_a_power_cut_and_foreign_keys_hold(tx):
    assert tx.value("PRAGMA journal_mode") == "wal"
    assert tx.value("PRAGMA synchronous") == 2  # FULL
    assert tx.value("PRAGMA foreign_keys") == 1


def test_a_transaction_is_committed_at_its_end(engine, tx):
    with tx.transaction():
        change(tx, 7)
        assert tx.in_transaction
    assert not tx.in_transaction
    with closing(engine.connect()) as other:
        assert tokens(other) == 7


def test_an_exception_rolls_the_transaction_back(tx):
    with pytest.raises(RuntimeError, match="stop"), tx.transaction():
        change_and_fail(tx, 7)
    assert tokens(tx) == 1_000_000
    assert not tx.in_transaction


def test_a_savepoint_is_rolled_back_alone(tx):
    with tx.transaction():
        change(tx, 7)
        with pytest.raises(RuntimeError, match="stop"), tx.savepoint():
            change_and_fail(tx, 8)
        with tx.savepoint():
            tx.execute("UPDATE plans SET rollover_max = 5")
    assert tokens(tx) == 7
    assert tx.value("SELECT rollover_max FROM plans") == 5


def test_a_snapshot_is_of_one_moment(engine, tx):
    with closing(engine.connect()) as reader, reader.snapshot():
        before = tokens(reader)
        with tx.transaction():
            change(tx, 7)
        assert tokens(reader) == before


@only_sqlite
def test_a_transaction_waits_for_another_and_gives_up_in_the_end(path, engine, tx, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    with (
        closing(engine.connect()) as impatient,
        tx.transaction(),
        pytest.raises(Unavailable, match="locked"),
        impatient.transaction(),
    ):
        pass


def test_a_broken_constraint_is_a_defect_and_not_an_outage(tx):
    with pytest.raises(INTEGRITY), tx.transaction():
        change(tx, -1)


@only_sqlite
def test_an_error_in_sql_is_told_with_the_file(path, tx):
    with pytest.raises(Unavailable, match=r"solaris\.db"):
        tx.rows("SELECT * FROM nothing")


def test_the_number_of_changed_rows_is_returned(tx):
    assert change(tx, 7) == 1
    assert tx.execute("UPDATE plans SET tokens = 1 WHERE name = 'none'") == 0


def test_an_owner_is_alive_between_its_claim_and_its_release(place, engine):
    other = engine_at(place)
    assert not other.is_alive("a")
    engine.claim("a")
    assert engine.is_alive("a")
    assert other.is_alive("a")
    assert not other.is_alive("b")
    engine.release("a")
    assert not engine.is_alive("a")
    assert not other.is_alive("a")


def test_a_release_of_nothing_is_harmless(engine):
    engine.release("never claimed")


@only_sqlite
def test_no_mark_stays_behind(path, engine):
    engine.claim("a")
    engine.release("a")
    assert list(path.parent.glob("*-alive-*")) == []


@only_sqlite
def test_a_killed_process_is_dead_although_its_mark_stays(path, engine):
    program = (
        "import sys; from pathlib import Path; from solaris_meter.ledger.database import SqliteEngine\n"
        "SqliteEngine(Path(sys.argv[1])).claim('other'); print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        assert engine.is_alive("other")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.with_name("solaris.db-alive-other").exists()
    assert not engine.is_alive("other")
    assert not path.with_name("solaris.db-alive-other").exists()


def test_a_new_ledger_is_its_users_alone_and_making_it_takes_no_lock_away(path):
    engine = SqliteEngine(path)
    engine.migrate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(engine.connect()) as first, first.transaction():
        first.execute("UPDATE plans SET tokens = 1")
        engine.connect().close()
        # Another process must still see the lock.
        program = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "locked" in done.stderr
    assert [file.name for file in path.parent.iterdir() if "-new-" in file.name] == []
