"""Alerts leave: real sidecars, a real mail server, real kills."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.e2e.sidecar import Sidecar
from tests.ledger.support import Books

from solaris_meter.ledger import outbox
from solaris_meter.ledger.database import SqliteEngine

PATIENCE_S = 20


def channels(*urls):
    return f"[alerts]\nchannels = {list(urls)!r}\n"


def ask(client, sidecar, tokens):
    script = {"input": tokens - 10, "words": 5, "output": 10, "wait_s": 0.05}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "script": script}
    answer = client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=body)
    assert answer.status_code == 200, answer.text


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def give(sidecar, tokens):
    """An account that was given exactly so many tokens, opened in this process: a gift is not told."""
    books = Books(sidecar.database)
    books.open_with(tokens)
    books.close()


def alerts(sidecar):
    """What `solaris-cli alerts` shows, read in this process: it is asked for often."""
    with closing(SqliteEngine(sidecar.database).connect()) as tx:
        return outbox.messages(tx)


def settled(sidecar):
    """Nothing waits any more; what became of the alerts."""
    wait_for(lambda: "pending" not in [alert.state for alert in alerts(sidecar)])
    return [(alert.event.kind, alert.event.threshold, alert.recipient, alert.state) for alert in alerts(sidecar)]


def test_a_call_that_crosses_a_threshold_sends_one_mail(start, client, mailbox, hook):
    sidecar = start(channels(mailbox.url(), hook.url()))
    give(sidecar, 1000)
    ask(client, sidecar, 790)
    ask(client, sidecar, 100)
    ask(client, sidecar, 10)
    wait_for(lambda: mailbox.letters and hook.requests)
    assert settled(sidecar) == [
        ("threshold", 80, "ana@example.com", "sent"),
        ("threshold", 80, None, "sent"),
    ]
    (letter,) = mailbox.letters
    assert letter["To"] == "ana@example.com"
    assert letter["Subject"] == "Você já usou 89 % dos seus tokens"
    assert "List-Unsubscribe" in letter
    assert [body["kind"] for body in hook.bodies] == ["threshold"]
    assert hook.bodies[0]["account"]["used"] == 890
    assert sidecar.stop() == 0
    log = sidecar.log.read_text()
    assert "s3same" not in log
    assert "Traceback" not in log


def test_what_the_command_line_does_is_told_by_the_sidecar(start, mailbox):
    sidecar = start(channels(mailbox.url()))
    sidecar.cli("users", "add", "ana", "--email", "ana@example.com")
    sidecar.cli("credit", "ana", "500K", "--paid", "49.90", "--reference", "pix-1")
    wait_for(lambda: mailbox.letters)
    sidecar.cli("users", "block", "ana")
    wait_for(lambda: len(mailbox.letters) == 2)
    assert [letter["Subject"] for letter in mailbox.letters] == [
        "Seu crédito chegou: 500.000 tokens",
        "Sua conta de tokens foi bloqueada",
    ]


@pytest.fixture
def pair(tmp_path, upstream, mailbox) -> Iterator[list[Sidecar]]:
    """Two sidecars on one ledger."""
    sidecars = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        sidecars.append(Sidecar(tmp_path / name, upstream.url, channels(mailbox.url())))
    one, other = sidecars
    other.config.write_text(other.config.read_text().replace(str(other.database), str(one.database)))
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Sidecar.start, sidecars))
        yield sidecars
    finally:
        one.kill()
        other.kill()


def test_parallel_calls_through_two_sidecars_that_cross_together_send_one_mail(pair, client, mailbox):
    give(pair[0], 1000)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: ask(client, pair[number % 2], 45), range(20)))
    wait_for(lambda: mailbox.letters)
    time.sleep(1.2)  # another one would have come by now: everybody looks once a second
    assert settled(pair[0]) == [("threshold", 80, "ana@example.com", "sent")]
    assert len(mailbox.letters) == 1


def test_a_sidecar_killed_between_commit_and_delivery_delivers_once_in_the_end(start, client, mailbox):
    """The mail server is silent; the process dies; then both are back."""
    mailbox.stop()
    sidecar = start(channels(mailbox.url()))
    give(sidecar, 1000)
    with socket.create_server(("127.0.0.1", mailbox.port)):
        ask(client, sidecar, 900)
        wait_for(lambda: [alert.tries for alert in alerts(sidecar)] == [1])
        sidecar.kill()
    assert [alert.state for alert in alerts(sidecar)] == ["pending"]
    mailbox.start()
    sidecar.start()
    wait_for(lambda: mailbox.letters)
    assert settled(sidecar) == [("threshold", 80, "ana@example.com", "sent")]
    assert len(mailbox.letters) == 1
    assert [alert.tries for alert in alerts(sidecar)] == [2]


def test_a_channel_that_cannot_be_used_stops_the_start(start):
    with pytest.raises(AssertionError, match=r"alerts\.channels: slack://\*\*\*\*: ") as stopped:
        start(channels("slack://s3same"))
    assert "s3same" not in str(stopped.value)
