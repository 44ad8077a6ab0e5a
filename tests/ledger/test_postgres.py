"""What is PostgreSQL's own: how its SQL is read, what several processes do at once, and a server that goes away."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import psycopg
import pytest
from tests.ledger.support import NOON, ZONE, ask, by_hand, engine_at, outcome

from solaris_meter.errors import Conflict, Contended, Unavailable
from solaris_meter.ledger import credits, plans, rates, renewals, reservations
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import heartbeat, postgres
from solaris_meter.ledger.database.postgres import translated
from solaris_meter.ledger.plans import Plan
from solaris_meter.ledger.reservations import Reserved
from solaris_meter.ledger.writer import Writer

TIMEOUT = 30
NEW = NewAccount("basico", ZONE)


@pytest.fixture
def place(postgres):
    return postgres


@pytest.fixture
def engine(place):
    return engine_at(place)


@pytest.fixture
def tx(engine):
    with closing(engine.connect()) as connection:
        yield connection


def at_once(engine, *operations):
    """Run each in a transaction on a connection of its own, all together; what each gave or raised."""
    together = threading.Barrier(len(operations))

    def work(operation):
        with closing(engine.connect()) as connection:
            connection.row("SELECT 1")
            together.wait(TIMEOUT)
            try:
                with connection.transaction():
                    return operation(connection)
            except Exception as error:
                return error

    with ThreadPoolExecutor(len(operations)) as pool:
        return list(pool.map(work, operations))


def cut(place, application="solaris-meter"):
    """The server ends every connection of the ledger's."""
    by_hand(
        place,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name = '{application}'",
    )


# SQL


@pytest.mark.parametrize(
    ("sql", "read"),
    [
        ("SELECT :a, :a_2", "SELECT %(a)s, %(a_2)s"),
        ("SELECT 1", "SELECT 1"),
        ("SELECT ':a' || :a", "SELECT ':a' || %(a)s"),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', %(b)s"),
        ('SELECT ":a", :b', 'SELECT ":a", %(b)s'),
        ("SELECT x::bigint, :a::text", "SELECT x::bigint, %(a)s::text"),
        ("SELECT 7 % :a", "SELECT 7 %% %(a)s"),
        ("x LIKE '%' || y || '%s'", "x LIKE '%%' || y || '%%s'"),
        ("make_interval(secs => :a)", "make_interval(secs => %(a)s)"),
        ("a[1:2]", "a[1:2]"),
    ],
)
def test_parameters_are_found_and_nothing_else(sql, read):
    assert translated(sql).decode() == read


def test_what_is_read_comes_out_as_it_is_written(tx):
    assert tx.value("SELECT '100% :a' || :a", a=" 'quoted' %s :b") == "100% :a 'quoted' %s :b"
    assert tx.value("SELECT CAST(:a AS BIGINT)", a=2**62) == 2**62
    assert tx.value("SELECT 7 % :a", a=4) == 3


def test_a_sum_is_a_whole_number(tx):
    total = tx.value("SELECT sum(tokens) FROM plans")
    assert (total, type(total)) == (1_000_000, int)


def test_a_character_that_postgresql_cannot_keep_costs_nobody_a_call(books):
    books.open_with(1000)
    books.hold("one", 10, model="gpt\0-4o", conversation="a\0b")
    books.settle("one", 10)
    assert books.tx.value("SELECT model FROM reservations") == "gpt\N{REPLACEMENT CHARACTER}-4o"


def test_a_commit_survives_a_power_cut(tx):
    with tx.transaction():
        assert tx.value("SELECT current_setting('synchronous_commit')") == "on"
        assert tx.value("SELECT current_setting('transaction_isolation')") == "read committed"


def test_a_snapshot_takes_no_change(tx):
    with pytest.raises(Unavailable, match="read-only"), tx.snapshot():
        tx.execute("UPDATE plans SET tokens = 5")
    assert tx.value("SELECT tokens FROM plans") == 1_000_000


def test_an_error_that_was_passed_over_does_not_pass_for_a_commit(tx):
    def careless():
        tx.execute("UPDATE plans SET tokens = 5")
        with pytest.raises(psycopg.IntegrityError):
            tx.execute("UPDATE plans SET tokens = -1")

    with pytest.raises(Unavailable, match="took nothing"), tx.transaction():
        careless()
    assert tx.value("SELECT tokens FROM plans") == 1_000_000


def test_a_table_that_a_newer_version_changed_is_read_again(place, tx):
    for _ in range(8):  # by now the statement is prepared
        tx.row("SELECT * FROM plans")
    try:
        by_hand(place, "ALTER TABLE plans ADD COLUMN later BIGINT")
        with pytest.raises(Unavailable), tx.transaction():
            tx.row("SELECT * FROM plans")
        with tx.transaction():
            assert "later" in tx.row("SELECT * FROM plans")
    finally:
        by_hand(place, "ALTER TABLE plans DROP COLUMN later")


# several at once


def test_a_person_s_first_calls_open_one_account(books, engine):
    calls = [partial(reservations.reserve, ask=ask(f"call-{n}", "new"), new=NEW, now_ms=NOON) for n in range(8)]
    decisions = at_once(engine, *calls)
    assert [type(decision) for decision in decisions] == [Reserved] * 8
    account = books.account("new")
    assert (account.balance, account.reserved) == (1_000_000, 800)
    assert books.lines("new") == [("allowance", 1_000_000)]


def test_a_period_is_issued_once(books, engine):
    books.open("ana", "basico")
    later = NOON + 40 * 24 * 3_600_000
    at_once(engine, *[partial(renewals.touch, user="ana", now_ms=later)] * 6)
    assert books.lines() == [("allowance", 1_000_000), ("expire", -1_000_000), ("allowance", 1_000_000)]


def test_calls_that_ask_together_hold_no_more_than_there_is(books, engine):
    books.open_with(1000)
    calls = [partial(reservations.reserve, ask=ask(f"call-{n}", prompt=150), new=NEW, now_ms=NOON) for n in range(10)]
    decisions = at_once(engine, *calls)
    assert sum(decision.tokens for decision in decisions if isinstance(decision, Reserved)) == 900
    assert books.account().reserved == 900


def test_a_reference_counts_once_for_one_account(books, engine):
    books.open()
    give = partial(credits.give, user="ana", kind="credit", amount=500, now_ms=NOON, reference="pix-1")
    applied = at_once(engine, *[give] * 6)
    assert sorted(each.repeated for each in applied) == [False] + [True] * 5
    assert books.balance() == 500


def test_a_reference_is_not_used_for_two_accounts(books, engine):
    for user in ("ana", "bruno", "carla", "davi"):
        books.open(user)
    give = partial(credits.give, kind="credit", amount=500, now_ms=NOON, reference="pix-1")
    given = at_once(engine, *[partial(give, user=user) for user in ("ana", "bruno", "carla", "davi")])
    assert sum(isinstance(each, credits.Applied) for each in given) == 1
    refused = [each for each in given if isinstance(each, Conflict)]
    assert len(refused) == 3
    assert all("'pix-1' was used" in str(each) for each in refused)
    assert sum(books.balance(user) for user in ("ana", "bruno", "carla", "davi")) == 500


def test_a_plan_is_made_once(books, engine):
    made = at_once(engine, *[lambda tx, n=n: plans.put(tx, Plan("pro", n, "month"), NOON) for n in range(6)])
    assert sorted(made) == [False] * 5 + [True]


def test_rates_become_known_in_the_order_of_their_ids(engine):
    # Whoever has read up to one line must not have missed one before it that was committed later.
    with (
        closing(engine.connect()) as slow,
        closing(engine.connect()) as quick,
        closing(engine.connect()) as reader,
        ThreadPoolExecutor(1) as pool,
    ):

        def put():
            with quick.transaction():
                rates.put(quick, "quick", {"input": 7}, NOON)

        with slow.transaction():
            rates.put(slow, "slow", {"input": 5}, NOON)
            second = pool.submit(put)
            time.sleep(0.2)
            assert not second.done()
            assert rates.resolve(reader, "openai", "quick", NOON).input == rates.ONE
        second.result(TIMEOUT)
        assert rates.resolve(reader, "openai", "slow", NOON).input == 5
        assert rates.resolve(reader, "openai", "quick", NOON).input == 7


def test_of_two_that_recover_one_does(books, engine):
    books.open_with(1000)
    for number in range(5):
        books.hold(f"left-{number}", 50, floor=20, owner="dead")
    recover = partial(
        reservations.recover, me="here", running=(), is_alive=lambda _: False, thresholds=(), now_ms=NOON + 1
    )
    found = at_once(engine, *[recover] * 4)
    assert sorted(each for some in found for each in some) == [f"left-{number}" for number in range(5)]
    assert books.balance() == 1000 - 5 * 20


def test_a_call_that_is_settled_and_recovered_together_is_charged_once(books, engine):
    books.open_with(1000)
    books.hold("one", 50, floor=20, owner="cut off")
    settle = partial(reservations.settle, reservation_id="one", outcome=outcome(300), thresholds=(), now_ms=NOON + 1)
    recover = partial(
        reservations.recover, me="here", running=(), is_alive=lambda _: False, thresholds=(), now_ms=NOON + 1
    )
    settled, recovered = at_once(engine, settle, recover)
    assert books.balance() == 1000 - (20 if settled.repeated else 300)
    assert recovered == (["one"] if settled.repeated else [])


def test_a_bill_waits_for_a_reservation_whose_commit_nobody_heard_of(books, engine):
    books.open_with(1000)
    with closing(engine.connect()) as unheard, ThreadPoolExecutor(1) as pool:

        def bill():
            call, how = ask("one"), outcome(300)
            return at_once(engine, lambda tx: reservations.bill(tx, call, how, NEW, (), NOON, NOON + 1))

        with unheard.transaction():
            reservations.reserve(unheard, ask("one"), NEW, NOON)
            billed = pool.submit(bill)
            time.sleep(0.2)
            assert not billed.done()
        [settled] = billed.result(TIMEOUT)
    assert (settled.billed_tokens, settled.repeated) == (300, False)
    assert (books.balance(), books.account().reserved) == (700, 0)


# who waits for whom


def test_who_holds_a_lock_does_not_wait_for_another(books, engine, tx):
    books.open_with(10, "ana")
    books.open_with(10, "bruno")

    def hurried():
        renewals.touch(tx, "ana", NOON)
        tx.hurry()
        renewals.touch(tx, "bruno", NOON)

    with closing(engine.connect()) as other, other.transaction():
        renewals.touch(other, "bruno", NOON)
        began = time.monotonic()
        with pytest.raises(Contended), tx.transaction():
            hurried()
        assert time.monotonic() - began < 0.5
    # The next transaction has time again.
    with tx.transaction():
        assert tx.value("SELECT current_setting('lock_timeout')") == "5s"


def test_who_holds_nothing_waits_and_gives_up_in_the_end(books, place, monkeypatch):
    monkeypatch.setattr(postgres, "LOCK_TIMEOUT_MS", 100)
    books.open_with(10)
    with closing(engine_at(place).connect()) as impatient, books.tx.transaction():
        renewals.touch(books.tx, "ana", NOON)
        with pytest.raises(Unavailable, match="lock timeout") as caught, impatient.transaction():
            renewals.touch(impatient, "ana", NOON)
    assert not isinstance(caught.value, Contended)


def test_two_transactions_that_wait_for_each_other_are_told_so(books, engine):
    books.open_with(10, "ana")
    books.open_with(10, "bruno")
    both = threading.Barrier(2)

    def take(first, second, tx):
        renewals.touch(tx, first, NOON)
        both.wait(TIMEOUT)
        renewals.touch(tx, second, NOON)
        return "done"

    ended = at_once(engine, partial(take, "ana", "bruno"), partial(take, "bruno", "ana"))
    assert [type(each) for each in ended if each != "done"] == [Contended]


def test_writers_whose_batches_take_accounts_in_opposite_orders_lose_nothing_and_wait_hardly(books, place):
    users = [f"user-{number}" for number in range(12)]
    for user in users:
        books.open_with(1_000_000, user)
    writers = [Writer(engine_at(place)) for _ in range(2)]

    def spend(user, name, tx):
        reservations.reserve(tx, ask(name, user), NEW, NOON)
        return reservations.settle(tx, name, outcome(10), (), NOON)

    futures = []
    for turn in range(10):
        for writer, order in zip(writers, (users, users[::-1]), strict=True):
            side = writers.index(writer)
            futures += [writer.submit(partial(spend, user, f"{side}-{turn}-{user}")) for user in order]
    began = time.monotonic()
    for writer in writers:
        writer.start()
    settled = [future.result(60) for future in futures]
    took = time.monotonic() - began
    for writer in writers:
        writer.close()
    assert [each.billed_tokens for each in settled] == [10] * 240
    assert {books.balance(user) for user in users} == {1_000_000 - 200}
    # PostgreSQL looks for deadlocks after a second of waiting: there were none to find.
    assert took < 15


def test_a_job_that_is_contended_keeps_its_place(books, place):
    """What was done before it is committed; it and what comes after it are done in their order."""
    for user in ("ana", "bruno"):
        books.open_with(1000, user)
    writer = Writer(engine_at(place))
    order = []

    def touch(user, name, tx):
        renewals.touch(tx, user, NOON)
        order.append(name)

    jobs = [("ana", "first"), ("bruno", "second"), ("ana", "third")]
    with books.tx.transaction():
        renewals.touch(books.tx, "bruno", NOON)
        futures = [writer.submit(partial(touch, user, name)) for user, name in jobs]
        writer.start()
        futures[0].result(TIMEOUT)
        assert not futures[1].done()
    for future in futures:
        future.result(TIMEOUT)
    writer.close()
    assert order == ["first", "second", "third"]


# a server that goes away


def test_a_connection_that_was_lost_is_replaced_at_the_next_transaction(place, tx):
    with tx.transaction():
        tx.execute("UPDATE plans SET tokens = 5")
    cut(place)
    with tx.transaction():
        tx.execute("UPDATE plans SET tokens = tokens + 1")
    cut(place)
    with tx.snapshot():
        assert tx.value("SELECT tokens FROM plans") == 6


def test_what_was_being_done_when_the_connection_was_lost_is_not_done(place, tx):
    def interrupted():
        tx.execute("UPDATE plans SET tokens = 5")
        cut(place)
        tx.execute("UPDATE plans SET rollover_max = 5")

    with pytest.raises(Unavailable, match="cannot be used"), tx.transaction():
        interrupted()
    assert not tx.in_transaction
    with tx.transaction():
        assert dict(tx.row("SELECT tokens, rollover_max FROM plans")) == {"tokens": 1_000_000, "rollover_max": 0}


def test_a_commit_that_is_lost_is_no_promise(place, tx):
    def interrupted():
        tx.execute("UPDATE plans SET tokens = 5")
        cut(place)

    with pytest.raises(Unavailable), tx.transaction():
        interrupted()


def test_a_writer_survives_its_server(place):
    writer = Writer(engine_at(place))
    writer.start()

    def add(tx):
        tx.execute("UPDATE plans SET tokens = tokens + 1")

    writer.submit(add).result(TIMEOUT)
    cut(place)
    writer.submit(add).result(TIMEOUT)

    def cut_off(tx):
        add(tx)
        cut(place)
        add(tx)

    with pytest.raises(Unavailable):
        writer.submit(cut_off).result(TIMEOUT)
    writer.submit(add).result(TIMEOUT)
    writer.close()
    with closing(engine_at(place).connect()) as connection:
        assert connection.value("SELECT tokens FROM plans") == 1_000_003


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:secret@127.0.0.1:1/solaris",
        "postgresql://ana:secret@/solaris?host=/nowhere",
        "postgresql://ana:secret@127.0.0.1:1/solaris?sslpassword=secret",
    ],
)
def test_a_server_that_is_not_there_is_unavailable_without_its_password(url):
    with pytest.raises(Unavailable, match="is the server running, and are host, user, password") as caught:
        engine_at(url).migrate()
    assert "secret" not in str(caught.value)


def test_a_ledger_that_must_exist_is_not_made(empty_postgres):
    engine = postgres.PostgresEngine(empty_postgres, create=False)
    with pytest.raises(Unavailable, match=r"no ledger in postgresql://.*db migrate"):
        engine.migrate()
    with closing(engine.connect()) as tx:
        assert tx.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


def test_a_user_who_may_not_make_tables_is_told_what_to_do(empty_postgres, postgres_server):
    postgres_server.run("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    with pytest.raises(Unavailable, match=r"permission denied for schema public; let the user .* own the database"):
        engine_at(empty_postgres.replace("postgres:@", "guest@")).migrate()


def test_without_psycopg_the_remedy_is_told():
    program = (
        "import sys; sys.modules['psycopg'] = None; from solaris_meter.ledger.database import open_engine\n"
        "open_engine(sys.argv[1])"
    )
    url = "postgresql://ana:secret@db/x"
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60, check=False)
    assert "Unavailable: ledger.database: PostgreSQL needs psycopg" in done.stderr
    assert "pip install 'solaris-meter[postgres]'" in done.stderr
    assert "secret" not in done.stderr


# who is alive


@pytest.fixture
def impatient(monkeypatch):
    """Who was not heard for a moment is dead unless its lock is held."""
    monkeypatch.setattr(heartbeat, "GRACE_S", 0.0)


def unheard(place, owner="a"):
    """The owner's row is as old as that of one who was never heard again."""
    by_hand(place, f"UPDATE _alive SET heard_at = '2020-01-01' WHERE owner = '{owner}'")


def test_who_holds_its_lock_is_alive_although_it_is_silent(engine, place, impatient):
    engine.claim("a")
    unheard(place)
    assert engine_at(place).is_alive("a")
    engine.release("a")
    assert not engine_at(place).is_alive("a")


def test_who_lost_its_connection_is_alive_for_a_while(engine, place, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 60)
    other = engine_at(place)
    engine.claim("a")
    cut(place)
    assert other.is_alive("a")
    monkeypatch.setattr(heartbeat, "GRACE_S", 0.0)
    assert not other.is_alive("a")
    engine.release("a")


def test_who_lost_its_connection_comes_back_by_itself(engine, place, impatient, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    other = engine_at(place)
    engine.claim("a")
    cut(place)
    by_hand(place, "DELETE FROM _alive")
    deadline = time.monotonic() + 5
    while not other.is_alive("a") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert other.is_alive("a")
    engine.release("a")
    assert not other.is_alive("a")


def test_nobody_is_dead_before_the_server_was_there_for_a_while(engine, place, monkeypatch):
    """After a restart every mark is gone; who is quicker to come back must not take the others for dead."""
    by_hand(place, "INSERT INTO _alive VALUES ('a', '2020-01-01')")
    monkeypatch.setattr(heartbeat, "GRACE_S", 1e6)  # the server is younger than that
    assert engine.is_alive("a")
    assert not engine.is_alive("never claimed")


def test_a_killed_process_is_dead_when_its_time_is_over(engine, place, impatient):
    program = (
        "import sys; from solaris_meter.ledger.database import open_engine\n"
        "open_engine(sys.argv[1]).claim('other'); print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        assert engine.is_alive("other")
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
    while engine.is_alive("other") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not engine.is_alive("other")


def test_marks_that_nobody_asks_for_any_more_are_removed(engine, place):
    engine.claim("a")
    by_hand(place, "INSERT INTO _alive VALUES ('old', '2020-01-01')")
    engine.sweep()
    with closing(engine.connect()) as tx:
        assert [row["owner"] for row in tx.rows("SELECT owner FROM _alive")] == ["a"]
    engine.release("a")


def test_a_release_without_its_server_is_harmless(engine, place, monkeypatch):
    engine.claim("a")
    cut(place)
    engine.release("a")


def test_who_is_alive_cannot_be_told_without_the_server():
    with pytest.raises(Unavailable):
        engine_at("postgresql://ana@127.0.0.1:1/solaris").is_alive("a")


def test_a_database_without_an_encoding_is_read_as_text(postgres_server):
    """What `initdb` makes where no locale is set, as in a small container."""
    postgres_server.run("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    url = postgres_server.url("ascii")
    try:
        engine = engine_at(url)
        assert engine.migrate()
        assert engine.migrate() == []
        with closing(engine.connect()) as tx, tx.transaction():
            renewals.touch(tx, "joão", NOON, NEW)
            assert tx.value("SELECT user_id FROM accounts") == "joão"
    finally:
        postgres_server.drop(url)
