"""The writer: operations are committed together, fail alone, and are told only when they are on disk."""

import sqlite3
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.ledger.support import INTEGRITY, engine_at, only_sqlite

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.database import SqliteEngine, sqlite
from solaris_meter.ledger.writer import MAX_BATCH, Writer

TIMEOUT = 30


@pytest.fixture
def engine(place):
    engine = engine_at(place)
    engine.migrate()
    return engine


@pytest.fixture
def writer(engine):
    """Not started: what is submitted before `start` is one batch."""
    writer = Writer(engine)
    yield writer
    writer.close()


def add(tx, amount=1):
    tx.execute("UPDATE plans SET tokens = tokens + :amount WHERE name = 'basico'", amount=amount)
    return tx.value("SELECT tokens FROM plans WHERE name = 'basico'") - 1_000_000


def on_disk(engine):
    with closing(engine.connect()) as other:
        return other.value("SELECT tokens FROM plans WHERE name = 'basico'") - 1_000_000


def test_an_operation_s_result_comes_from_its_future(writer, engine):
    writer.start()
    assert writer.submit(add).result(TIMEOUT) == 1
    assert on_disk(engine) == 1


def test_operations_run_in_the_order_in_which_they_were_submitted(writer):
    futures = [writer.submit(add) for _ in range(20)]
    writer.start()
    assert [future.result(TIMEOUT) for future in futures] == list(range(1, 21))


def test_what_waits_together_is_committed_together(writer, engine):
    def look(tx):
        add(tx)
        return on_disk(engine)

    futures = [writer.submit(look) for _ in range(5)]
    writer.start()
    # Nobody else saw the first change while the last was made.
    assert [future.result(TIMEOUT) for future in futures] == [0] * 5
    assert on_disk(engine) == 5


def test_a_result_is_told_only_when_it_is_on_disk(writer, engine):
    seen = []
    told = threading.Event()

    def tell(_):
        seen.append(on_disk(engine))
        told.set()

    first = writer.submit(add)
    first.add_done_callback(tell)
    writer.submit(add)
    writer.start()
    assert told.wait(TIMEOUT)
    assert seen == [2]


@pytest.mark.parametrize("error", [ValueError, Unavailable, sqlite3.IntegrityError])
def test_an_operation_that_fails_takes_nothing_with_it(writer, engine, error):
    def fail(tx):
        add(tx, 100)
        raise error("wrong")

    before, failing, after = writer.submit(add), writer.submit(fail), writer.submit(add)
    writer.start()
    assert before.result(TIMEOUT) == 1
    with pytest.raises(error, match="wrong"):
        failing.result(TIMEOUT)
    assert after.result(TIMEOUT) == 2
    assert on_disk(engine) == 2


def test_a_broken_constraint_takes_nothing_with_it(writer, engine):
    futures = [writer.submit(lambda tx, amount=amount: add(tx, amount)) for amount in (1, -2_000_000, 1)]
    writer.start()
    with pytest.raises(INTEGRITY):
        futures[1].result(TIMEOUT)
    assert [futures[0].result(TIMEOUT), futures[2].result(TIMEOUT)] == [1, 2]
    assert on_disk(engine) == 2


@pytest.mark.parametrize("operations", [1, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 2 * MAX_BATCH])
def test_everything_submitted_before_the_end_is_done(engine, operations):
    writer = Writer(engine)
    futures = [writer.submit(add) for _ in range(operations)]
    writer.start()
    writer.close()
    assert all(future.done() for future in futures)
    assert on_disk(engine) == operations


def test_after_the_end_nothing_is_taken(writer, engine):
    writer.start()
    writer.close()
    with pytest.raises(Unavailable, match="closed"):
        writer.submit(add).result(TIMEOUT)
    assert on_disk(engine) == 0


def test_closing_twice_or_before_the_start_is_harmless(engine):
    writer = Writer(engine)
    writer.close()
    started = Writer(engine)
    started.start()
    started.close()
    started.close()


def test_a_cancelled_operation_is_not_run(writer, engine):
    futures = [writer.submit(add) for _ in range(3)]
    assert futures[1].cancel()
    writer.start()
    assert futures[2].result(TIMEOUT) == 2
    with pytest.raises(CancelledError):
        futures[1].result(TIMEOUT)
    assert on_disk(engine) == 2


def test_an_operation_that_runs_cannot_be_cancelled(writer, engine):
    running, go_on = threading.Event(), threading.Event()

    def slow(tx):
        running.set()
        assert go_on.wait(TIMEOUT)
        return add(tx)

    future = writer.submit(slow)
    writer.start()
    assert running.wait(TIMEOUT)
    assert not future.cancel()
    go_on.set()
    assert future.result(TIMEOUT) == 1


def test_a_database_that_cannot_be_opened_is_unavailable_until_it_can(tmp_path):
    place = tmp_path / "mounted"
    engine = SqliteEngine(place / "solaris.db")
    writer = Writer(engine)
    futures = [writer.submit(add) for _ in range(3)]
    assert futures[2].cancel()
    writer.start()
    for future in futures[:2]:
        with pytest.raises(Unavailable, match="cannot be used"):
            future.result(TIMEOUT)
    assert futures[2].cancelled()
    place.mkdir()
    engine.migrate()
    assert writer.submit(add).result(TIMEOUT) == 1
    writer.close()


@only_sqlite
def test_a_database_that_is_lost_is_unavailable_until_it_is_back(writer, engine, path):
    writer.start()
    writer.submit(add).result(TIMEOUT)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("ALTER TABLE plans RENAME TO elsewhere")
        with pytest.raises(Unavailable, match="no such table"):
            writer.submit(add).result(TIMEOUT)
        raw.execute("ALTER TABLE elsewhere RENAME TO plans")
    assert writer.submit(add).result(TIMEOUT) == 2


@only_sqlite
def test_a_database_that_another_process_holds_is_unavailable_until_it_lets_go(writer, engine, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    writer.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            writer.submit(add).result(TIMEOUT)
        raw.execute("ROLLBACK")
    assert writer.submit(add).result(TIMEOUT) == 1


@only_sqlite
def test_on_a_full_disk_what_was_promised_is_what_there_is(writer, engine):
    def fill(tx):
        tx.execute(f"PRAGMA max_page_count = {tx.value('PRAGMA page_count')}")
        tx.execute("UPDATE plans SET price_currency = :much", much="x" * 1_000_000)

    futures = [writer.submit(add), writer.submit(fill), writer.submit(add)]
    writer.start()
    with pytest.raises(Unavailable, match="full"):
        futures[1].result(TIMEOUT)
    promised = sum(future.exception(TIMEOUT) is None for future in futures)
    assert on_disk(engine) == promised
    # The limit went with the connection, or was never reached again: the writer works on.
    assert writer.submit(add).result(TIMEOUT) == promised + 1


def test_many_threads_lose_nothing(writer, engine):
    writer.start()

    def work(_):
        return [writer.submit(add).result(TIMEOUT) for _ in range(25)]

    with ThreadPoolExecutor(8) as pool:
        results = [result for results in pool.map(work, range(8)) for result in results]
    assert sorted(results) == list(range(1, 201))
    assert on_disk(engine) == 200


def test_two_writers_share_a_database(place, engine):
    writers = [Writer(engine_at(place)) for _ in range(2)]
    for writer in writers:
        writer.start()
    futures = [writers[number % 2].submit(add) for number in range(100)]
    assert sorted(future.result(TIMEOUT) for future in futures) == list(range(1, 101))
    for writer in writers:
        writer.close()
    assert on_disk(engine) == 100


def test_each_submission_ends_although_the_writer_closes_meanwhile(engine):
    # A call that is told nothing would hang for ever.
    writer = Writer(engine)
    writer.start()
    futures = []
    started = threading.Event()

    def submit():
        for _ in range(200):
            futures.append(writer.submit(add))
            started.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert started.wait(TIMEOUT)
    writer.close()
    thread.join()
    promised = sum(future.exception(5) is None for future in futures)
    assert on_disk(engine) == promised
