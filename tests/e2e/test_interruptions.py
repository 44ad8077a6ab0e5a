"""Whatever breaks off: what was relayed is charged, nothing stays reserved, nobody is locked out."""

import random
import threading
import time

import httpx
import pytest
from tests.e2e.upstream import WORD

MESSAGES = [{"role": "user", "content": "Conte uma história, por favor."}]
MODELS = {"openai/v1/chat/completions": "gpt-4o", "anthropic/v1/messages": "claude-sonnet-4-6"}


def _body(path, **script):
    return {"model": MODELS[path], "max_tokens": 5_000, "messages": MESSAGES, "stream": True, "script": script}


def test_a_client_that_leaves_pays_for_what_was_relayed(start):
    """At 20 random points: the upstream says no more than what the client has seen when it leaves."""
    sidecar = start()
    seed = random.Random(7)
    path = "openai/v1/chat/completions"
    for number in range(20):
        words = seed.randint(1, 300)
        body = _body(path, words=400, hold_after=words + 1)
        got = b""
        with (
            httpx.Client(trust_env=False, timeout=30) as client,
            client.stream("POST", sidecar.url(path), headers=sidecar.headers(f"u{number}"), json=body) as answer,
        ):
            for piece in answer.iter_raw():
                got += piece
                if got.count(WORD.encode()) == words:
                    break
        sidecar.no_holds()
        event = next(event for event in sidecar.events() if event["user"] == f"u{number}")
        assert (event["interrupted"], event["basis"]) == (True, "counted")
        # The question has 7 tokens in o200k, a message 3 more, its role 1, and the answer is primed with 3.
        assert event["input_tokens"] == 14
        assert event["output_tokens"] == words
        assert event["billed_tokens"] == 14 + words
    sidecar.check()


@pytest.mark.parametrize("path", MODELS)
def test_who_hangs_up_at_the_last_event_had_the_whole_answer(start, path):
    """The official SDKs do not wait for the end of the body."""
    sidecar = start()
    last = b"[DONE]" if "openai" in path else b"message_stop"
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream(
            "POST", sidecar.url(path), headers=sidecar.headers("ana"), json=_body(path, words=9, linger_s=5)
        ) as answer,
    ):
        got = b""
        for piece in answer.iter_raw():
            got += piece
            if last in got:
                break
    sidecar.no_holds()
    [event] = sidecar.events()
    assert (event["interrupted"], event["basis"], event["output_tokens"]) == (False, "reported", 9)


def test_anthropic_input_is_exact_at_the_cut(start):
    sidecar = start()
    path = "anthropic/v1/messages"
    with (
        httpx.Client(trust_env=False, timeout=30) as client,
        client.stream(
            "POST",
            sidecar.url(path),
            headers=sidecar.headers("ana"),
            json=_body(path, input=4321, words=200, delay_s=0.01),
        ) as answer,
    ):
        for piece in answer.iter_raw():
            if WORD.encode() in piece:
                break
    sidecar.no_holds()
    [event] = sidecar.events()
    assert (event["input_tokens"], event["interrupted"]) == (4321, True)
    assert 0 < event["output_tokens"] < 50


@pytest.mark.parametrize("path", MODELS)
def test_an_upstream_that_breaks_off_is_charged_for_what_it_said(start, path):
    sidecar = start()
    with httpx.Client(trust_env=False, timeout=30) as client, pytest.raises(httpx.HTTPError):
        client.post(sidecar.url(path), headers=sidecar.headers("ana"), json=_body(path, words=50, cut_after=20))
    sidecar.no_holds()
    [event] = sidecar.events()
    assert event["interrupted"]
    assert 15 <= event["output_tokens"] <= 20
    sidecar.check()


def test_a_client_that_leaves_before_the_answer_pays_for_its_question(start, upstream):
    sidecar = start()
    path = "openai/v1/chat/completions"
    with httpx.Client(trust_env=False, timeout=0.7) as client, pytest.raises(httpx.ReadTimeout):
        client.post(sidecar.url(path), headers=sidecar.headers("ana"), json=_body(path, wait_s=5))
    sidecar.no_holds()
    [event] = sidecar.events()
    assert (event["interrupted"], event["output_tokens"]) == (True, 0)
    assert event["input_tokens"] > 7


def test_kill_in_the_middle_of_twenty_streams_loses_no_reservation(start, upstream):
    sidecar = start()
    path = "openai/v1/chat/completions"
    began = threading.Barrier(21)

    def stream(number):
        with (
            httpx.Client(trust_env=False, timeout=30) as client,
            client.stream(
                "POST",
                sidecar.url(path),
                headers=sidecar.headers(f"u{number}"),
                json=_body(path, words=1000, delay_s=0.02),
            ) as answer,
        ):
            pieces = answer.iter_raw()
            next(pieces)
            began.wait(30)
            for _ in pieces:
                pass

    def quietly(number):
        try:
            stream(number)
        except httpx.HTTPError:
            return

    threads = [threading.Thread(target=quietly, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    began.wait(30)
    assert len(sidecar.cli("ledger", "holds")) == 20
    sidecar.kill()
    for thread in threads:
        thread.join()
    assert len(sidecar.cli("ledger", "holds")) == 20
    sidecar.start()
    sidecar.no_holds()
    events = sidecar.events()
    assert len(events) == 20
    for event in events:
        assert event["recovered"]
        assert event["basis"] == "estimated"
        # A quarter of the text bytes: deliberately less than what was really read.
        assert 0 < event["input_tokens"] <= 20
        assert event["output_tokens"] == 0
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(20):
            again = client.post(sidecar.url(path), headers=sidecar.headers(f"u{number}"), json=_body(path, words=1))
            assert again.status_code == 200
    sidecar.no_holds()
    sidecar.check()


def test_sigterm_lets_a_running_answer_end_and_settles_it(start):
    sidecar = start()
    path = "openai/v1/chat/completions"
    got: list[bytes] = []

    def stream():
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.post(
                sidecar.url(path), headers=sidecar.headers("ana"), json=_body(path, words=100, delay_s=0.02)
            )
            got.append(answer.content)

    thread = threading.Thread(target=stream)
    thread.start()
    while not sidecar.cli("ledger", "holds"):
        time.sleep(0.05)
    assert sidecar.stop() == 0
    thread.join()
    assert got[0].endswith(b"data: [DONE]\n\n")
    [event] = sidecar.events()
    assert (event["interrupted"], event["basis"], event["output_tokens"]) == (False, "reported", 100)
    assert sidecar.cli("ledger", "holds") == []
    sidecar.check()


def test_sigterm_waits_for_settlements_that_have_begun(start):
    """Clients and sidecar go down together, as `docker compose restart` does it: what was relayed is not lost."""
    sidecar = start()
    path = "openai/v1/chat/completions"
    question = "palavra " * 20_000
    answers = []
    for number in range(10):
        client = httpx.Client(trust_env=False, timeout=30)
        body = _body(path, words=50, hold_after=20) | {"messages": [{"role": "user", "content": question}]}
        request = client.build_request("POST", sidecar.url(path), headers=sidecar.headers(f"u{number}"), json=body)
        answer = client.send(request, stream=True)
        for piece in answer.iter_raw():
            if WORD.encode() in piece:
                break
        answers.append((client, answer))
    for client, answer in answers:
        answer.close()
        client.close()
    assert sidecar.stop() == 0
    assert sidecar.cli("ledger", "holds") == []
    events = sidecar.events()
    assert len(events) == 10
    for event in events:
        assert (event["recovered"], event["basis"], event["interrupted"]) == (False, "counted", True)
        assert event["input_tokens"] > 20_000
    sidecar.check()


def test_sigterm_admits_nobody_who_waits(start, upstream):
    sidecar = start()
    sidecar.give("ana", 500)
    path = "openai/v1/chat/completions"
    statuses: list[object] = []

    def ask(**script):
        with httpx.Client(trust_env=False, timeout=60) as client:
            try:
                body = _body(path, **script)
                answer = client.post(sidecar.url(path), headers=sidecar.headers("ana"), json=body)
                statuses.append(answer.status_code)
            except httpx.HTTPError as error:
                statuses.append(error)

    running = threading.Thread(target=ask, kwargs={"words": 300, "delay_s": 0.1})
    running.start()
    while not sidecar.cli("ledger", "holds"):
        time.sleep(0.05)
    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(1)
    assert sidecar.stop() == 0
    running.join()
    waiting.join()
    assert len(upstream.requests) == 1
    assert 429 in statuses
    assert sidecar.cli("ledger", "holds") == []
    sidecar.check()
