"""The schema: what it is, that it is made once, and that history cannot be rewritten in it."""

import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database
from tests.ledger.support import INTEGRITY, NOON, Books, by_hand, engine_at

from solaris_meter.errors import Unavailable
from solaris_meter.ledger import migrations, reports
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.ledger.reservations import Reserved

SCHEMA = {
    "plans": [
        "name TEXT",
        "tokens INTEGER",
        "period TEXT",
        "anchor TEXT",
        "rollover_max INTEGER",
        "price_minor INTEGER",
        "price_currency TEXT",
        "created_at_ms INTEGER",
        "retired_at_ms INTEGER",
    ],
    "accounts": [
        "id INTEGER",
        "user_id TEXT",
        "email TEXT",
        "plan TEXT",
        "status TEXT",
        "timezone TEXT",
        "created_at_ms INTEGER",
        "period_start_ms INTEGER",
        "period_end_ms INTEGER",
        "balance INTEGER",
        "reserved INTEGER",
        "used INTEGER",
    ],
    "grants": [
        "id INTEGER",
        "account_id INTEGER",
        "kind TEXT",
        "priority INTEGER",
        "remaining INTEGER",
        "created_at_ms INTEGER",
        "expires_at_ms INTEGER",
        "period_start_ms INTEGER",
        "paid_minor INTEGER",
        "paid_currency TEXT",
    ],
    "reservations": [
        "id TEXT",
        "account_id INTEGER",
        "state TEXT",
        "reserved INTEGER",
        "input_floor INTEGER",
        "owner TEXT",
        "provider TEXT",
        "model TEXT",
        "dialect TEXT",
        "endpoint TEXT",
        "stream INTEGER",
        "conversation TEXT",
        "created_at_ms INTEGER",
        "expires_at_ms INTEGER",
        "closed_at_ms INTEGER",
        "rates TEXT",
    ],
    "usage_events": [
        "id TEXT",
        "account_id INTEGER",
        "at_ms INTEGER",
        "status INTEGER",
        "interrupted INTEGER",
        "recovered INTEGER",
        "input_tokens INTEGER",
        "cached_input_tokens INTEGER",
        "cache_write_tokens INTEGER",
        "output_tokens INTEGER",
        "reasoning_tokens INTEGER",
        "billed_tokens INTEGER",
        "basis TEXT",
        "duration_ms INTEGER",
        "images INTEGER",
        "audio_ms INTEGER",
        "cost_nano_usd INTEGER",
    ],
    "entries": [
        "id INTEGER",
        "account_id INTEGER",
        "at_ms INTEGER",
        "period_start_ms INTEGER",
        "kind TEXT",
        "amount INTEGER",
        "balance_after INTEGER",
        "grant_id INTEGER",
        "usage_event_id TEXT",
        "reference TEXT",
        "note TEXT",
    ],
    "postings": ["entry_id INTEGER", "grant_id INTEGER", "amount INTEGER"],
    "alerts": [
        "id INTEGER",
        "account_id INTEGER",
        "period_start_ms INTEGER",
        "threshold INTEGER",
        "at_ms INTEGER",
        "usage_event_id TEXT",
    ],
    "rates": [
        "id INTEGER",
        "at_ms INTEGER",
        "pattern TEXT",
        "kind TEXT",
        "micro INTEGER",
        "note TEXT",
    ],
    "audits": ["usage_event_id TEXT", "counted_input INTEGER", "counted_output INTEGER"],
    "outbox": [
        "id INTEGER",
        "key TEXT",
        "account_id INTEGER",
        "event TEXT",
        "channel_id TEXT",
        "channel TEXT",
        "recipient TEXT",
        "state TEXT",
        "tries INTEGER",
        "next_try_at_ms INTEGER",
        "last_error TEXT",
        "lease_owner TEXT",
        "lease_expires_at_ms INTEGER",
        "sent_at_ms INTEGER",
    ],
    "notices": [
        "account_id INTEGER",
        "period_start_ms INTEGER",
        "threshold INTEGER",
        "at_ms INTEGER",
        "reservation_id TEXT",
    ],
}

INDEXES = {
    "accounts_by_email",
    "live_grants",
    "pending_reservations",
    "usage_by_period",
    "usage_events_by_account",
    "usage_events_by_time",
    "entries_by_account",
    "entries_by_time",
    "postings_by_entry",
    "postings_by_grant",
    "rates_by_pattern",
    "pending_outbox",
    "outbox_by_account",
}

TRIGGERS = {"entries_keep", "entries_stay", "postings_keep", "postings_stay", "rates_keep", "rates_stay"}

STEPS = ["m001_ledger", "m002_rates", "m003_outbox", "m004_notices"]

FIRST_VERSION = f"""\
INSERT INTO plans (name, tokens, period, anchor, rollover_max, created_at_ms)
VALUES ('livre', 0, 'none', 'calendar', 0, 0);
INSERT INTO accounts VALUES (1, 'ana', NULL, 'livre', 'active', 'America/Sao_Paulo', {NOON}, {NOON}, NULL, 850, 130,
150);
INSERT INTO grants VALUES (1, 1, 'credit', 40, 850, {NOON}, NULL, NULL, NULL, NULL);
INSERT INTO reservations VALUES ('done', 1, 'settled', 200, 5, 'here', 'openai', 'gpt-4o', 'openai_chat', '/v1/x', 1,
NULL, {NOON}, {NOON + 1}, {NOON});
INSERT INTO reservations VALUES ('running', 1, 'pending', 100, 5, 'here', 'openai', 'gpt-4o', 'openai_chat', '/v1/x', 1,
NULL, {NOON}, {NOON + 1}, NULL);
INSERT INTO reservations VALUES ('left', 1, 'pending', 30, 30, 'dead', 'openai', 'gpt-4o', 'openai_chat', '/v1/x', 1,
NULL, {NOON}, {NOON + 1}, NULL);
INSERT INTO usage_events VALUES ('done', 1, {NOON}, 200, 0, 0, 100, 40, 0, 50, 10, 150, 'reported', 1500);
INSERT INTO entries VALUES (1, 1, {NOON}, {NOON}, 'credit', 1000, 1000, 1, NULL, 'pix-1', NULL);
INSERT INTO entries VALUES (2, 1, {NOON}, {NOON}, 'usage', -150, 850, NULL, 'done', NULL, NULL);
INSERT INTO postings VALUES (1, 1, 1000);
INSERT INTO postings VALUES (2, 1, -150)"""


@pytest.fixture(params=["sqlite", "postgres"])
def unmade(request, path):
    """Where a ledger can be made, and none is yet."""
    return path if request.param == "sqlite" else request.getfixturevalue("empty_postgres")


@pytest.fixture
def raw(path):
    SqliteEngine(path).migrate()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def named(raw, kind):
    rows = raw.execute("SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE '%sqlite%'", (kind,))
    return {name for (name,) in rows}


def test_the_tables_and_their_columns_are_these(raw):
    found = {
        table: [f"{name} {kind}" for _, name, kind, *_ in raw.execute(f"PRAGMA table_info({table})")]
        for table in named(raw, "table")
    }
    assert found == SCHEMA


def test_the_indexes_are_these(raw):
    assert named(raw, "index") == INDEXES


def test_every_table_is_strict(raw):
    strict = dict(raw.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"))
    assert {table: strict[table] for table in SCHEMA} == dict.fromkeys(SCHEMA, 1)


def test_both_engines_have_the_same_tables_columns_and_indexes(raw, postgres):
    with closing(engine_at(postgres).connect()) as tx:
        # What begins with an underscore is the engine's own.
        columns = tx.rows(
            "SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE '\\_%' ORDER BY table_name, ordinal_position"
        )
        indexes = tx.rows("SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '\\_%'")
        triggers = {row["tgname"] for row in tx.rows("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")}
    kinds = {"bigint": "INTEGER", "text": "TEXT"}
    found: dict[str, list[str]] = {}
    for row in columns:
        found.setdefault(row["table_name"], []).append(f"{row['column_name']} {kinds[row['data_type']]}")
        assert row["collation_name"] == ("C" if row["data_type"] == "text" else None), row
    assert found == SCHEMA
    empty = {
        (table, name)
        for table in SCHEMA
        for _, name, _, needed, _, key in raw.execute(f"PRAGMA table_info({table})")
        if not needed and not key
    }
    assert {(row["table_name"], row["column_name"]) for row in columns if row["is_nullable"] == "YES"} == empty
    unnamed = re.compile(r"\w+_(key|pkey)")  # of a UNIQUE, of a PRIMARY KEY
    assert {row["indexname"] for row in indexes if not unnamed.fullmatch(row["indexname"])} == INDEXES
    assert triggers == TRIGGERS | {"entries_whole", "postings_whole", "rates_whole"}


@pytest.mark.parametrize("table", ["entries", "postings", "rates"])
def test_history_cannot_be_emptied_at_once(postgres, table):
    books = Books(postgres)
    books.open_with(1000)
    before = books.dump()
    with pytest.raises(INTEGRITY, match=f"{table} are append-only"):
        books.run(lambda tx: tx.execute(f"TRUNCATE {table} CASCADE"))
    assert books.dump() == before
    books.close()


def test_a_strict_table_takes_no_text_for_a_number(raw):
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER column"):
        raw.execute("UPDATE plans SET tokens = 'many'")


def test_a_new_ledger_has_one_plan(raw):
    plans = raw.execute("SELECT name, tokens, period, anchor, rollover_max, retired_at_ms FROM plans").fetchall()
    assert plans == [("basico", 1_000_000, "month", "calendar", 0, None)]


def test_the_triggers_are_these(raw):
    assert named(raw, "trigger") == TRIGGERS


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET amount = amount + 1, balance_after = balance_after + 1",
        "UPDATE entries SET note = 'better'",
        "DELETE FROM entries",
        "UPDATE postings SET amount = amount + 1",
        "DELETE FROM postings",
        "UPDATE rates SET micro = 0",
        "UPDATE rates SET note = 'better'",
        "DELETE FROM rates",
    ],
)
def test_history_cannot_be_changed(books, statement):
    books.open_with(1000)
    books.rate("gpt-4o", input="15")
    before = books.dump()
    with pytest.raises(INTEGRITY, match="append-only"):
        books.run(lambda tx: tx.execute(statement))
    assert books.dump() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE grants SET remaining = -1",
        "UPDATE accounts SET reserved = -1",
        "UPDATE accounts SET used = -1",
        "UPDATE accounts SET status = 'gone'",
        "UPDATE accounts SET user_id = ''",
        "UPDATE accounts SET plan = 'none such'",
        "UPDATE accounts SET period_end_ms = period_start_ms",
        "INSERT INTO entries SELECT 99, account_id, at_ms, period_start_ms, 'bonus', 0, balance_after, NULL, NULL,"
        " NULL, NULL FROM entries",
        "INSERT INTO entries SELECT 99, account_id, at_ms, period_start_ms, 'usage', -1, balance_after, NULL, NULL,"
        " NULL, NULL FROM entries",
        "INSERT INTO postings SELECT entry_id, grant_id, 0 FROM postings",
        "INSERT INTO rates (at_ms, pattern, kind, micro) VALUES (0, '', 'input', 1)",
        "INSERT INTO rates (at_ms, pattern, kind, micro) VALUES (0, '*', 'video', 1)",
        "INSERT INTO rates (at_ms, pattern, kind, micro) VALUES (0, '*', 'input', -1)",
        "UPDATE reservations SET rates = ''",
        "UPDATE usage_events SET images = -1",
        "UPDATE usage_events SET audio_ms = -1",
        "UPDATE usage_events SET cost_nano_usd = -1",
        "INSERT INTO audits VALUES ('none such', 1, 1)",
        "INSERT INTO audits SELECT id, -1, NULL FROM usage_events",
        "INSERT INTO audits SELECT id, 1, -1 FROM usage_events",
        "INSERT INTO notices VALUES (99, 0, 80, 0, 'one')",
        "INSERT INTO notices VALUES (1, 0, 0, 0, 'one')",
        "INSERT INTO notices VALUES (1, 0, 101, 0, 'one')",
        "INSERT INTO notices VALUES (1, 0, 80, 0, 'none such')",
        "INSERT INTO outbox VALUES (1, '', 1, '{}', 'a', 'a', NULL, 'pending', 0, 0, NULL, NULL, NULL, NULL)",
        "INSERT INTO outbox VALUES (1, 'k', 99, '{}', 'a', 'a', NULL, 'pending', 0, 0, NULL, NULL, NULL, NULL)",
        "INSERT INTO outbox VALUES (1, 'k', 1, '{}', 'a', 'a', NULL, 'lost', 0, 0, NULL, NULL, NULL, NULL)",
        "INSERT INTO outbox VALUES (1, 'k', 1, '{}', 'a', 'a', NULL, 'sent', 1, 0, NULL, NULL, NULL, NULL)",
        "INSERT INTO outbox VALUES (1, 'k', 1, '{}', 'a', 'a', NULL, 'dead', 1, 0, NULL, 'me', 1, NULL)",
        "INSERT INTO outbox VALUES (1, 'k', 1, '{}', 'a', 'a', NULL, 'pending', 1, 0, NULL, 'me', NULL, NULL)",
    ],
)
def test_the_schema_refuses_what_cannot_be(books, statement):
    books.open_with(1000)
    books.hold("one", 10)
    books.settle("one", 10)
    with pytest.raises(INTEGRITY):
        books.run(lambda tx: tx.execute(statement))


def test_a_migration_runs_once(unmade):
    engine = engine_at(unmade)
    assert engine.migrate() == STEPS
    assert engine.migrate() == []
    assert engine_at(unmade).migrate() == []


def test_a_migrated_ledger_keeps_what_it_holds(books):
    books.open_with(1000)
    before = books.dump()
    assert books.engine.migrate() == []
    assert books.dump() == before


def test_a_ledger_of_the_first_version_goes_on(path):
    """Accounts, entries, a settled call and two pending ones, as version one left them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = Database(raw)
        migrations.steps.apply(database, stop_before="m002_rates")
        assert migrations.pending(database) == STEPS[1:]
        for statement in FIRST_VERSION.split(";\n"):
            raw.execute(statement)
        database.close()
    books = Books(path)
    assert books.check().ok
    account = books.account()
    assert (account.balance, account.reserved, account.used) == (850, 130, 150)
    (event,) = reports.usage_events(books.tx)
    assert (event["billed_tokens"], event["images"], event["audio_seconds"], event["cost_usd"]) == (150, 0, 0.0, None)
    # A call that began before there were rates costs what it would have cost then.
    books.rate("*", input="15", output="15")
    assert books.extend("running", 20) == 20
    assert books.account().reserved == 150
    assert books.settle("running", 120, NOON + 5).standing.balance == 730
    assert books.recover(NOON + 6) == ["left"]
    assert books.balance() == 700
    decision = books.reserve("new", prompt=10, output=5)
    assert isinstance(decision, Reserved)
    assert decision.tokens == 225
    assert books.check().ok
    books.close()


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(books):
    applied = "_sqlite_migrations" if isinstance(books.place, Path) else "_migrations"
    by_hand(
        books.place,
        f"INSERT INTO {applied} (migration_set, name, applied_at)"
        " VALUES ('solaris', 'm999_from_the_future', '2030-01-01')",
    )
    before = books.dump()
    with pytest.raises(Unavailable, match=r"newer version .*m999_from_the_future.*upgrade Solaris Meter"):
        engine_at(books.place).migrate()
    assert books.dump() == before
    by_hand(books.place, f"DELETE FROM {applied} WHERE name = 'm999_from_the_future'")


def test_threads_that_migrate_at_once_all_succeed(unmade):
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: engine_at(unmade).migrate(), range(8)))
    assert sorted(results) == [[]] * 7 + [STEPS]


def test_processes_that_migrate_at_once_all_succeed(unmade):
    url = f"sqlite:///{unmade}" if isinstance(unmade, Path) else unmade
    # Each waits for its line, so that the work of both starts together however long Python took to load.
    program = (
        "import sys; from solaris_meter.ledger.database import open_engine\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(open_engine(sys.argv[1]).migrate())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(results) == [str(STEPS), "[]"]
    assert [process.returncode for process in processes] == [0, 0]
