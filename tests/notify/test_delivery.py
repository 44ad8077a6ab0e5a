"""Delivery: everything leaves once in the end, whatever dies on the way."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from tests.ledger.support import NOON, Books
from tests.notify.samples import PT

from solaris_meter.channels import parse_channel
from solaris_meter.errors import Unavailable
from solaris_meter.ledger import accounts, outbox
from solaris_meter.ledger.database import Connection, SqliteEngine
from solaris_meter.notify import delivery as module
from solaris_meter.notify.delivery import LEASE_MS, LONGEST_WAIT_MS, MAX_TRIES, Delivery, wait_ms
from solaris_meter.notify.outlets import Outlets


class World:
    """A ledger in which ana is about to be told something, and a clock."""

    def __init__(self, path, urls):
        self.now = NOON
        self.channels = [parse_channel(url) for url in urls]
        self.books = Books(path)
        self.books.channels = self.channels
        self.books.plan("pro", 1_000_000)
        self.books.open("ana", "pro")
        self.books.run(lambda tx: accounts.set_email(tx, self.books.account(), "ana@example.com"))

    def delivery(self, owner="here", engine=None, chance=0.0):
        engine = engine or SqliteEngine(self.books.path)
        engine.claim(owner)
        return Delivery(engine, owner, Outlets(self.channels), PT, lambda: self.now, lambda: chance)

    def deliver(self, delivery):
        """As often as anything is due; how many tries that were."""
        tries = 0
        with closing(self.books.engine.connect()) as connection:
            delivery.free(connection)
            while count := delivery.deliver(connection):
                tries += count
        return tries

    def states(self):
        return [message.state for message in outbox.messages(self.books.tx)]


@pytest.fixture
def world(tmp_path, mailbox):
    opened = World(tmp_path / "solaris.db", [mailbox.url()])
    yield opened
    opened.books.close()


def test_a_message_is_delivered_once(world, mailbox, caplog):
    world.books.spend(850_000)
    delivery = world.delivery()
    with caplog.at_level(logging.INFO, module.__name__):
        assert world.deliver(delivery) == 1
    assert world.deliver(delivery) == 0
    (letter,) = mailbox.letters
    assert letter["Subject"] == "Você já usou 85 % dos seus tokens"
    assert letter["To"] == "ana@example.com"
    assert world.states() == ["sent"]
    assert f"alert 1 (threshold) went to mailto://127.0.0.1:{mailbox.port}?to={{email}}" in caplog.text


def test_every_channel_gets_its_own(tmp_path, mailbox, hook):
    urls = [mailbox.url(), mailbox.url("ops@example.com"), hook.url(), f"json://127.0.0.1:{hook.port}/slack"]
    world = World(tmp_path / "solaris.db", urls)
    hook.answers = [200, 200]
    world.books.spend(850_000)
    assert world.deliver(world.delivery()) == 4
    assert sorted(letter["To"] for letter in mailbox.letters) == ["ana@example.com", "ops@example.com"]
    assert sorted(body.get("kind", "apprise") for body in hook.bodies) == ["apprise", "threshold"]
    world.books.close()


def test_what_fails_is_tried_again_later_and_longer(world, mailbox):
    world.books.spend(850_000)
    mailbox.answers = ["451 later"] * 3
    delivery = world.delivery()
    tried = []
    for _ in range(40):
        if world.deliver(delivery):
            tried.append(world.now - NOON)
        world.now += 1000
    assert tried == [0, 5_000, 15_000, 35_000]
    assert (len(mailbox.letters), mailbox.tries, world.states()) == (1, 4, ["sent"])


def test_the_last_error_is_kept_without_secrets(tmp_path, mailbox, caplog):
    url = mailbox.url().replace("//", "//robot:s3same@")
    world = World(tmp_path / "solaris.db", [url])
    mailbox.stop()
    world.books.spend(850_000)
    world.deliver(world.delivery())
    (message,) = outbox.messages(world.books.tx)
    assert message.last_error == f"127.0.0.1:{mailbox.port}: Connection refused"
    assert "(try 1; again in 5 s)" in caplog.text
    assert "s3same" not in caplog.text + repr(world.books.dump()["outbox"])
    world.books.close()


def test_what_fails_too_often_is_dead_until_it_is_resent(world, mailbox, caplog):
    world.books.spend(850_000)
    mailbox.answers = ["550 no"] * MAX_TRIES
    delivery = world.delivery()
    for _ in range(MAX_TRIES + 5):
        world.deliver(delivery)
        world.now += LONGEST_WAIT_MS
    assert (mailbox.tries, world.states()) == (MAX_TRIES, ["dead"])
    (message,) = outbox.messages(world.books.tx, "dead")
    assert message.last_error is not None
    assert "550 no" in message.last_error
    assert "'solaris-cli alerts resend'" in caplog.text
    world.books.run(lambda tx: outbox.resend_dead(tx, [channel.id for channel in world.channels], world.now))
    assert world.deliver(delivery) == 1
    assert (len(mailbox.letters), world.states()) == (1, ["sent"])


def test_waits_grow_to_an_hour_and_differ_by_chance():
    assert [wait_ms(tries, 0) for tries in (1, 2, 3, 10, 11, 20, 10**6)] == [
        5_000, 10_000, 20_000, 2_560_000, *[LONGEST_WAIT_MS] * 3,
    ]  # fmt: skip
    assert wait_ms(3, 1) == 10_000
    assert wait_ms(3, 0.5) == 15_000


def test_one_that_hangs_does_not_hold_up_the_others(tmp_path, mailbox, hook):
    world = World(tmp_path / "solaris.db", [mailbox.url(), hook.url()])
    gate = threading.Event()
    mailbox.gate = lambda: gate.wait(5)
    world.books.spend(850_000)
    thread = threading.Thread(target=world.deliver, args=(world.delivery(),))
    thread.start()
    deadline = time.monotonic() + 5
    while world.states() != ["pending", "sent"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert world.states() == ["pending", "sent"]
    gate.set()
    thread.join()
    assert world.states() == ["sent", "sent"]
    world.books.close()


def test_a_message_for_an_unknown_channel_waits(world, mailbox):
    world.books.spend(850_000)
    stranger = World.delivery(world)
    stranger._outlets = Outlets([parse_channel("webhook+http://127.0.0.1:9/?secret=s3same")])
    assert world.deliver(stranger) == 0
    assert world.states() == ["pending"]
    assert world.deliver(world.delivery("there")) == 1


def test_what_cannot_be_written_is_an_error_like_any_other(world, monkeypatch):
    world.books.spend(850_000)
    monkeypatch.setattr(module, "compose", lambda *_: 1 / 0)
    world.deliver(world.delivery())
    (message,) = outbox.messages(world.books.tx)
    assert (message.state, message.last_error) == ("pending", "ZeroDivisionError: division by zero")


# several processes, and dying ones


class _Failing:
    """A connection whose transactions fail from the second on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.begun = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.begun += 1
        if self.begun > 1:
            raise Unavailable("the disk is full")
        with self._connection.transaction():
            yield


def test_what_was_sent_while_the_ledger_failed_is_not_sent_again(world, mailbox):
    world.books.spend(850_000)
    delivery = world.delivery()
    with closing(world.books.engine.connect()) as connection, pytest.raises(Unavailable):
        delivery.deliver(_Failing(connection))
    assert (len(mailbox.letters), world.states()) == (1, ["pending"])
    assert world.deliver(delivery) == 0
    assert (len(mailbox.letters), world.states()) == (1, ["sent"])


def test_a_lease_that_ended_is_anybody_s(world, mailbox):
    world.books.spend(850_000)
    world.books.run(lambda tx: outbox.claim(tx, "stuck", [world.channels[0].id], NOON, LEASE_MS, 1))
    engine = SqliteEngine(world.books.path)
    engine.claim("stuck")
    delivery = world.delivery()
    assert world.deliver(delivery) == 0
    world.now += LEASE_MS
    assert world.deliver(delivery) == 1
    engine.release("stuck")


def test_two_deliverers_in_threads_deliver_each_message_once(world, mailbox):
    for number in range(25):
        world.books.give(1, kind="credit", now=NOON - number)
    threads = [
        threading.Thread(target=world.deliver, args=(world.delivery(owner),)) for owner in ("here", "there", "where")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mailbox.letters) == 25
    assert len({letter["Message-ID"] for letter in mailbox.letters}) == 25
    assert set(world.states()) == {"sent"}


PROGRAM = f"""
import os, sys, time
from pathlib import Path
from solaris_meter.channels import parse_channel
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.chat.texts import Texts
from solaris_meter.notify.delivery import Delivery
from solaris_meter.notify.outlets import Outlets
from solaris_meter.settings import Purchase
path, url, owner = sys.argv[1:]
engine = SqliteEngine(Path(path))
engine.claim(owner)
outlets = Outlets([parse_channel(url)])
outlets.check()
delivery = Delivery(engine, owner, outlets, Texts("pt-BR", Purchase()), lambda: {NOON}, lambda: 0.0)
print("ready", flush=True)
sys.stdin.readline()
delivery.start()
sys.stdin.readline()
delivery.stop()
"""


def begin(world, owner):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(world.books.path), world.channels[0].url, owner],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(*processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_two_processes_deliver_each_message_once(world, mailbox):
    for number in range(25):
        world.books.give(1, kind="credit", now=NOON - number)
    processes = [begin(world, owner) for owner in ("a", "b")]
    go(*processes)
    wait_for(lambda: set(world.states()) == {"sent"})
    go(*processes)
    assert [process.wait(20) for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    assert len({letter["Message-ID"] for letter in mailbox.letters}) == len(mailbox.letters) == 25


def test_a_server_that_is_down_and_a_process_that_is_killed_cost_no_message(world, mailbox):
    """The server refuses three times, then the process dies while it holds the fourth try; the next one delivers."""
    world.books.spend(850_000)
    mailbox.answers = ["421 down"] * 3
    here = world.delivery()
    for wait in (5_000, 10_000, 20_000):
        assert world.deliver(here) == 1
        world.now += wait
    assert mailbox.letters == []
    world.books.run(lambda tx: tx.execute("UPDATE outbox SET next_try_at_ms = :now", now=NOON))
    mailbox.stop()
    process = begin(world, "doomed")
    with socket.create_server(("127.0.0.1", mailbox.port)):  # takes connections and never says a word
        go(process)
        wait_for(lambda: outbox.messages(world.books.tx)[0].tries == 4)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        process.communicate()
    assert world.states() == ["pending"]
    mailbox.start()
    assert world.deliver(here) == 1
    assert world.deliver(here) == 0
    assert (len(mailbox.letters), world.states()) == (1, ["sent"])


# the thread


def test_the_thread_delivers_what_comes_and_ends(world, mailbox, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    delivery = world.delivery()
    delivery.start()
    world.books.spend(850_000)
    wait_for(lambda: world.states() == ["sent"])
    begun = time.monotonic()
    delivery.stop()
    assert time.monotonic() - begun < 1
    world.books.give(1, kind="credit")
    time.sleep(0.1)
    assert world.states() == ["sent", "pending"]


def test_the_thread_outlives_a_ledger_that_is_away(world, mailbox, monkeypatch, caplog):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    engine = SqliteEngine(world.books.path)
    connects = iter([Unavailable("it is away"), ZeroDivisionError()])
    usual = engine.connect

    def connect():
        for error in connects:
            raise error
        return usual()

    monkeypatch.setattr(engine, "connect", connect)
    world.books.spend(850_000)
    delivery = world.delivery(engine=engine)
    delivery.start()
    wait_for(lambda: world.states() == ["sent"])
    delivery.stop()
    assert "alerts wait: it is away" in caplog.text
    assert all(record.levelno < logging.ERROR for record in caplog.records)


def test_a_hanging_server_does_not_keep_the_end_waiting(world, mailbox, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "STOPPING_S", 0.2)
    gate, reached = threading.Event(), threading.Event()

    def hold():
        reached.set()
        gate.wait(5)

    mailbox.gate = hold
    world.books.spend(850_000)
    delivery = world.delivery()
    delivery.start()
    assert reached.wait(5)
    begun = time.monotonic()
    delivery.stop()
    assert time.monotonic() - begun < 1
    gate.set()
    wait_for(lambda: world.states() == ["sent"])
    delivery._thread.join(5)
