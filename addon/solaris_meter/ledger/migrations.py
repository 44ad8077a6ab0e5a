"""The schema, as numbered steps. A step that has been released is never edited: the next one changes what it made."""

from contextlib import closing

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

steps = Migrations("solaris")


@steps()
def m001_ledger(db: Database) -> None:
    """Plans, accounts, grants, entries, reservations, usage events and alerts; one plan to begin with."""
    for statement in _M001.split("\n\n"):
        db.conn.execute(statement)


@steps()
def m002_rates(db: Database) -> None:
    """Rates and the ones each call began with, costs, pictures and sound, audits."""
    for statement in _M002.split("\n\n"):
        db.conn.execute(statement)


@steps()
def m003_outbox(db: Database) -> None:
    """Alerts that must leave."""
    for statement in _M003.split("\n\n"):
        db.conn.execute(statement)


@steps()
def m004_notices(db: Database) -> None:
    """What people were told in the chat."""
    for statement in _M004.split("\n\n"):
        db.conn.execute(statement)


def pending(db: Database) -> list[str]:
    """The names of the steps that this database lacks."""
    return [step.name for step in steps.pending(db)]


def unknown(db: Database) -> list[str]:
    """The names of the steps in this database that this version does not know: it is from a newer one."""
    with closing(Database(memory=True)) as fresh:
        known = set(pending(fresh))
    return [step.name for step in steps.applied(db) if step.name not in known]


def apply(db: Database) -> list[str]:
    """Run the steps that this database lacks; their names."""
    missing = pending(db)
    steps.apply(db)
    return missing


_M001 = """\
CREATE TABLE plans (
    name TEXT PRIMARY KEY CHECK (name <> ''),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    period TEXT NOT NULL CHECK (period IN ('day', 'week', 'month', 'year', 'none')),
    anchor TEXT NOT NULL CHECK (anchor IN ('calendar', 'signup')),
    rollover_max INTEGER NOT NULL CHECK (rollover_max >= 0),
    price_minor INTEGER CHECK (price_minor >= 0),
    price_currency TEXT,
    created_at_ms INTEGER NOT NULL,
    retired_at_ms INTEGER
) STRICT

INSERT INTO plans (name, tokens, period, anchor, rollover_max, created_at_ms)
VALUES ('basico', 1000000, 'month', 'calendar', 0, 0)

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE CHECK (user_id <> ''),
    email TEXT,
    plan TEXT NOT NULL REFERENCES plans (name),
    status TEXT NOT NULL CHECK (status IN ('active', 'blocked')),
    timezone TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    period_start_ms INTEGER NOT NULL,
    period_end_ms INTEGER CHECK (period_end_ms > period_start_ms),
    balance INTEGER NOT NULL,
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    used INTEGER NOT NULL CHECK (used >= 0)
) STRICT

CREATE INDEX accounts_by_email ON accounts (email)

CREATE TABLE grants (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL CHECK (kind IN ('allowance', 'rollover', 'bonus', 'credit')),
    priority INTEGER NOT NULL,
    remaining INTEGER NOT NULL CHECK (remaining >= 0),
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    period_start_ms INTEGER,
    paid_minor INTEGER CHECK (paid_minor >= 0),
    paid_currency TEXT,
    UNIQUE (account_id, kind, period_start_ms),
    CHECK ((period_start_ms IS NOT NULL) = (kind IN ('allowance', 'rollover')))
) STRICT

CREATE INDEX live_grants ON grants (account_id) WHERE remaining > 0

CREATE TABLE reservations (
    id TEXT PRIMARY KEY CHECK (id <> ''),
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    state TEXT NOT NULL CHECK (state IN ('pending', 'settled', 'void')),
    reserved INTEGER NOT NULL CHECK (reserved >= 0),
    input_floor INTEGER NOT NULL CHECK (input_floor >= 0),
    owner TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    dialect TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    stream INTEGER NOT NULL CHECK (stream IN (0, 1)),
    conversation TEXT,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    closed_at_ms INTEGER,
    CHECK ((closed_at_ms IS NULL) = (state = 'pending'))
) STRICT

CREATE INDEX pending_reservations ON reservations (account_id) WHERE state = 'pending'

CREATE TABLE usage_events (
    id TEXT PRIMARY KEY REFERENCES reservations (id),
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    at_ms INTEGER NOT NULL,
    status INTEGER NOT NULL,
    interrupted INTEGER NOT NULL CHECK (interrupted IN (0, 1)),
    recovered INTEGER NOT NULL CHECK (recovered IN (0, 1)),
    input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
    cached_input_tokens INTEGER NOT NULL CHECK (cached_input_tokens >= 0),
    cache_write_tokens INTEGER NOT NULL CHECK (cache_write_tokens >= 0),
    output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
    reasoning_tokens INTEGER NOT NULL CHECK (reasoning_tokens >= 0),
    billed_tokens INTEGER NOT NULL CHECK (billed_tokens >= 0),
    basis TEXT NOT NULL CHECK (basis IN ('reported', 'counted', 'estimated')),
    duration_ms INTEGER NOT NULL CHECK (duration_ms >= 0)
) STRICT

CREATE INDEX usage_events_by_account ON usage_events (account_id, at_ms)

CREATE INDEX usage_events_by_time ON usage_events (at_ms)

CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    at_ms INTEGER NOT NULL,
    period_start_ms INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('allowance', 'rollover', 'bonus', 'credit', 'usage', 'expire', 'adjust')),
    amount INTEGER NOT NULL CHECK (amount <> 0 OR kind = 'usage'),
    balance_after INTEGER NOT NULL,
    grant_id INTEGER REFERENCES grants (id),
    usage_event_id TEXT UNIQUE REFERENCES usage_events (id),
    reference TEXT UNIQUE CHECK (reference <> ''),
    note TEXT,
    CHECK ((usage_event_id IS NOT NULL) = (kind = 'usage'))
) STRICT

CREATE INDEX entries_by_account ON entries (account_id, id)

CREATE INDEX entries_by_time ON entries (account_id, at_ms)

CREATE INDEX usage_by_period ON entries (account_id, period_start_ms) WHERE kind = 'usage'

CREATE TABLE postings (
    entry_id INTEGER NOT NULL REFERENCES entries (id),
    grant_id INTEGER REFERENCES grants (id),
    amount INTEGER NOT NULL CHECK (amount <> 0)
) STRICT

CREATE INDEX postings_by_entry ON postings (entry_id)

CREATE INDEX postings_by_grant ON postings (grant_id)

CREATE TRIGGER entries_keep BEFORE UPDATE ON entries BEGIN
    SELECT RAISE(ABORT, 'entries are append-only: correct one with another');
END

CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN
    SELECT RAISE(ABORT, 'entries are append-only: correct one with another');
END

CREATE TRIGGER postings_keep BEFORE UPDATE ON postings BEGIN
    SELECT RAISE(ABORT, 'postings are append-only');
END

CREATE TRIGGER postings_stay BEFORE DELETE ON postings BEGIN
    SELECT RAISE(ABORT, 'postings are append-only');
END

CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    period_start_ms INTEGER NOT NULL,
    threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 100),
    at_ms INTEGER NOT NULL,
    usage_event_id TEXT NOT NULL REFERENCES usage_events (id),
    UNIQUE (account_id, period_start_ms, threshold)
) STRICT"""

_M002 = """\
CREATE TABLE rates (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    pattern TEXT NOT NULL CHECK (pattern <> ''),
    kind TEXT NOT NULL CHECK (kind IN ('input', 'cached_input', 'cache_write', 'output', 'image', 'second')),
    micro INTEGER CHECK (micro >= 0),
    note TEXT
) STRICT

CREATE INDEX rates_by_pattern ON rates (pattern, kind, at_ms)

CREATE TRIGGER rates_keep BEFORE UPDATE ON rates BEGIN
    SELECT RAISE(ABORT, 'rates are append-only: set them anew');
END

CREATE TRIGGER rates_stay BEFORE DELETE ON rates BEGIN
    SELECT RAISE(ABORT, 'rates are append-only: set them anew');
END

ALTER TABLE reservations ADD COLUMN rates TEXT CHECK (rates <> '')

ALTER TABLE usage_events ADD COLUMN images INTEGER NOT NULL DEFAULT 0 CHECK (images >= 0)

ALTER TABLE usage_events ADD COLUMN audio_ms INTEGER NOT NULL DEFAULT 0 CHECK (audio_ms >= 0)

ALTER TABLE usage_events ADD COLUMN cost_nano_usd INTEGER CHECK (cost_nano_usd >= 0)

CREATE TABLE audits (
    usage_event_id TEXT PRIMARY KEY REFERENCES usage_events (id),
    counted_input INTEGER NOT NULL CHECK (counted_input >= 0),
    counted_output INTEGER CHECK (counted_output >= 0)
) STRICT"""

_M003 = """\
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE CHECK (key <> ''),
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    event TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    recipient TEXT CHECK (recipient <> ''),
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead')),
    tries INTEGER NOT NULL CHECK (tries >= 0),
    next_try_at_ms INTEGER NOT NULL,
    last_error TEXT,
    lease_owner TEXT,
    lease_expires_at_ms INTEGER,
    sent_at_ms INTEGER,
    CHECK ((lease_owner IS NULL) = (lease_expires_at_ms IS NULL)),
    CHECK (lease_owner IS NULL OR state = 'pending'),
    CHECK ((sent_at_ms IS NOT NULL) = (state = 'sent'))
) STRICT

CREATE INDEX pending_outbox ON outbox (next_try_at_ms, id) WHERE state = 'pending'

CREATE INDEX outbox_by_account ON outbox (account_id)"""

_M004 = """\
CREATE TABLE notices (
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    period_start_ms INTEGER NOT NULL,
    threshold INTEGER NOT NULL CHECK (threshold BETWEEN 1 AND 100),
    at_ms INTEGER NOT NULL,
    reservation_id TEXT NOT NULL REFERENCES reservations (id),
    PRIMARY KEY (account_id, period_start_ms, threshold)
) STRICT"""
