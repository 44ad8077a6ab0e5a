"""The backlog: what there is to do yet, and whether a ledger can be written at all."""

import sqlite3

import pytest
from tests.ledger.support import MINUTE, NOON

from solaris_meter.channels import parse_channel
from solaris_meter.errors import Unavailable
from solaris_meter.ledger import backlog, outbox
from solaris_meter.ledger.backlog import Backlog
from solaris_meter.ledger.database import SqliteEngine

OPERATOR = parse_channel("webhook+https://example.com/alerts?secret=s3same")


def test_a_ledger_with_nothing_to_do_says_so(books):
    books.open_with(1000)
    assert backlog.read(books.tx) == Backlog(0, 0, None, 0, 0, None)


def test_pending_reservations_are_counted_and_closed_ones_are_not(books):
    books.open_with(10_000)
    books.reserve("first", prompt=100, now=NOON)
    books.reserve("second", prompt=50, now=NOON + MINUTE)
    books.reserve("settled", prompt=70, now=NOON - MINUTE)
    books.settle("settled", 70)
    found = backlog.read(books.tx)
    assert (found.reservations, found.reserved_tokens, found.oldest_at_ms) == (2, 150, NOON)


def test_messages_are_counted_by_what_is_to_become_of_them(books):
    books.channels, books.thresholds = (OPERATOR,), (30, 60, 90)
    books.open_with(1000)
    for _ in range(3):
        books.spend(320)
    assert len(outbox.messages(books.tx)) == 3
    (first, *_) = books.run(lambda tx: outbox.claim(tx, "here", [OPERATOR.id], NOON, MINUTE, 1))
    books.run(lambda tx: outbox.failed(tx, first, "here", "no", None))
    (second, *_) = books.run(lambda tx: outbox.claim(tx, "here", [OPERATOR.id], NOON, MINUTE, 1))
    books.run(lambda tx: outbox.sent(tx, second, "here", NOON))
    found = backlog.read(books.tx)
    assert (found.alerts_pending, found.alerts_dead, found.alerts_due_at_ms) == (1, 1, NOON)


def test_a_probe_leaves_all_as_it_was_and_reaches_the_disk(books, path):
    before = list(map(dict, books.tx.rows("SELECT * FROM plans ORDER BY name")))
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.exists() else None  # None: PostgreSQL
    books.run(backlog.probe)
    assert size is None or wal.stat().st_size > size
    assert list(map(dict, books.tx.rows("SELECT * FROM plans ORDER BY name"))) == before


def test_a_probe_of_a_ledger_that_cannot_be_written_fails(books, path):
    connection = SqliteEngine(path).connect()
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable), connection.transaction():
        backlog.probe(connection)
    connection.close()


def test_reading_does_not_wait_for_whoever_writes(books, path):
    books.open_with(1000)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert backlog.read(books.tx).reservations == 0
        other.execute("ROLLBACK")
    other.close()
