"""Fail closed: our own failures and a ledger that is away never become free calls."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}], "script": {"input": 5, "words": 5}}

# A defect of ours, as a script that mitmproxy loads after the addon.
_BREAK = """
from solaris_meter.{module} import {owner}

def broken(self, *args, **kwargs):
    raise ZeroDivisionError("seeded")

{owner}.{method} = broken
"""


def _seeded(tmp_path, module, owner, method):
    script = tmp_path / "seeded.py"
    script.write_text(_BREAK.format(module=module, owner=owner, method=method))
    return ["-s", str(script)]


@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [
        ("metering.meter", "Meter", "open"),
        ("metering.meter", "Meter", "_admitted"),
        ("metering.providers", "Providers", "name"),
        ("metering.dialects.openai_chat", "OpenAIChat", "read_request"),
    ],
)
def test_a_failure_before_the_call_is_a_503_and_the_upstream_is_left_alone(
    start, upstream, client, tmp_path, module, owner, method
):
    sidecar = start(arguments=_seeded(tmp_path, module, owner, method))
    for stream in (False, True):
        answer = client.post(
            sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=CHAT | {"stream": stream}
        )
        assert (answer.status_code, answer.headers["x-solaris-denied"]) == (503, "internal_error")
        assert "message" in answer.json()["error"]
    assert upstream.requests == []
    assert "ZeroDivisionError: seeded" in sidecar.log.read_text()
    sidecar.no_holds()
    assert sidecar.events() == []


@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [("metering.meter", "Meter", "settle"), ("proxy.metered", "Metered", "_follow")],
)
def test_a_failure_after_the_call_is_a_503_and_releases_what_was_held(start, client, tmp_path, module, owner, method):
    sidecar = start(arguments=_seeded(tmp_path, module, owner, method))
    answer = client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=CHAT)
    assert (answer.status_code, answer.headers["x-solaris-denied"]) == (503, "internal_error")
    sidecar.no_holds()
    sidecar.check()


def test_a_failure_in_mid_stream_does_not_cost_the_person_the_answer(start, client, tmp_path):
    sidecar = start(arguments=_seeded(tmp_path, "metering.dialects.openai_chat", "OpenAIChat", "read_event"))
    answer = client.post(
        sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=CHAT | {"stream": True}
    )
    assert answer.status_code == 200
    assert answer.content.count(b" hello") == 5
    assert answer.content.endswith(b"data: [DONE]\n\n")
    sidecar.no_holds()
    sidecar.check()


@contextmanager
def _locked(sidecar):
    """Another program holds the database and does not let go; the sidecar gives up after its busy timeout."""
    raw = sqlite3.connect(sidecar.database, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        raw.close()


def test_without_its_ledger_the_sidecar_refuses(start, upstream, client):
    sidecar = start()
    url = sidecar.url("openai/v1/chat/completions")
    with _locked(sidecar):
        answer = client.post(url, headers=sidecar.headers("ana"), json=CHAT)
    assert (answer.status_code, answer.headers["x-solaris-denied"]) == (503, "ledger_unavailable")
    assert upstream.requests == []
    assert client.post(url, headers=sidecar.headers("ana"), json=CHAT).status_code == 200
    sidecar.check()


def test_a_settlement_that_the_ledger_cannot_take_is_billed_later(start, client):
    """The ledger goes away while the call runs: the answer is the caller's, and nothing is lost or given away."""
    sidecar = start()
    url = sidecar.url("openai/v1/chat/completions")
    with ThreadPoolExecutor(1) as pool:
        slow = CHAT | {"script": {"input": 5, "words": 5, "wait_s": 2}}
        running = pool.submit(client.post, url, headers=sidecar.headers("ana"), json=slow)
        while not sidecar.cli("ledger", "holds"):
            pass
        with _locked(sidecar):
            assert running.result().status_code == 200
    assert sidecar.stop() == 0
    sidecar.start()
    [event] = sidecar.events()
    assert (event["billed_tokens"], event["basis"], event["recovered"]) == (10, "reported", False)
    sidecar.no_holds()
    sidecar.check()


def test_with_on_error_allow_calls_are_served_and_billed_later(start, client):
    sidecar = start()
    sidecar.stop()
    text = sidecar.config.read_text()
    sidecar.config.write_text(text.replace("[ledger]\n", '[ledger]\non_error = "allow"\n'))
    sidecar.start()
    url = sidecar.url("openai/v1/chat/completions")
    with _locked(sidecar):
        assert client.post(url, headers=sidecar.headers("ana"), json=CHAT).status_code == 200
    assert len((sidecar.folder / "solaris.db-unsettled.jsonl").read_text().splitlines()) == 1
    assert sidecar.cli("users", "list") == []
    sidecar.stop()
    sidecar.start()
    assert sidecar.cli("balance", "ana")["used"] == 10
    assert len(sidecar.events()) == 1
    sidecar.check()
