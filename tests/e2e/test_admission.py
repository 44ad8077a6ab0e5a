"""Zero overspend and zero false refusals, through a real proxy process."""

import json
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import openai
import pytest


def _ask(sidecar, user, **script):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "script": script}
    with httpx.Client(timeout=120, trust_env=False) as client:
        return client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers(user), json=body)


def test_fifty_parallel_calls_that_the_balance_covers_are_all_served(start):
    sidecar = start()
    sidecar.give("ana", 10_000)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: _ask(sidecar, "ana", input=60, words=5, output=40, wait_s=0.05), range(50)))
    assert [answer.status_code for answer in answers] == [200] * 50
    assert sidecar.cli("balance", "ana")["balance"] == 5_000
    sidecar.no_holds()
    sidecar.check()


def test_fifty_parallel_calls_of_a_tenth_of_the_balance_use_it_up_and_no_more(start, upstream):
    sidecar = start()
    sidecar.give("ana", 10_000)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: _ask(sidecar, "ana", input=60, words=5, output=940, wait_s=0.05), range(50)))
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(served) + len(refused) == 50
    assert len(upstream.requests) == len(served)
    assert {answer.headers["x-solaris-denied"] for answer in refused} == {"tokens_exhausted"}
    # Nobody was refused while there was something left, and at most the last call overdrew.
    assert -1_000 < sidecar.cli("balance", "ana")["balance"] <= 0
    sidecar.no_holds()
    sidecar.check()


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_strict_answers_end_politely_where_nothing_is_left(start, upstream, dialect):
    sidecar = start('[admission]\nslice = 64\noverdraft = "strict"\n')
    sidecar.give("ana", 500)
    script = {"input": 8, "words": 300, "delay_s": 0.002}

    def stream(number):
        if dialect == "openai":
            sdk = openai.OpenAI(
                api_key="k", base_url=sidecar.url("openai/v1"), default_headers=sidecar.headers("ana"), max_retries=0
            )
            chunks = list(
                sdk.chat.completions.create(
                    model="gpt-4o",
                    messages=[{"role": "user", "content": "hi"}],
                    stream=True,
                    extra_body={"script": script},
                )
            )
            return chunks[-1].choices[0].finish_reason
        anthropic_sdk = anthropic.Anthropic(
            api_key="k", base_url=sidecar.url("anthropic"), default_headers=sidecar.headers("ana"), max_retries=0
        )
        with anthropic_sdk.messages.stream(
            model="claude-sonnet-4-6",
            max_tokens=300,
            messages=[{"role": "user", "content": "hi"}],
            extra_body={"script": script},
        ) as answer:
            return answer.get_final_message().stop_reason

    with ThreadPoolExecutor(4) as pool:
        reasons = list(pool.map(stream, range(4)))
    assert set(reasons) == {"length" if dialect == "openai" else "max_tokens"}
    sidecar.no_holds()
    sidecar.check()
    # A chunk carries one token: at most one too many for each stream, and nothing worth mentioning is left over.
    assert -4 <= sidecar.cli("balance", "ana")["balance"] <= 4
    assert all(arrival.chunks_sent < 303 for arrival in upstream.requests)


def test_the_next_call_of_a_client_whose_answer_was_ended_is_answered(start):
    """The sidecar hangs up on the upstream; the client's pool must not notice."""
    sidecar = start('[admission]\nslice = 64\noverdraft = "strict"\n')
    sidecar.give("ana", 200)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    url = sidecar.url("openai/v1/chat/completions")
    with httpx.Client(timeout=30, trust_env=False) as client:
        for _ in range(5):
            ended = client.post(url, headers=sidecar.headers("ana"), json=body | {"script": {"words": 2000}})
            assert ended.content.endswith(b"data: [DONE]\n\n")
            refused = client.post(url, headers=sidecar.headers("ana"), json=body)
            assert refused.headers["x-solaris-denied"] == "tokens_exhausted"
            sidecar.cli("credit", "ana", "200")
    sidecar.no_holds()
    sidecar.check()


def test_strict_lowers_the_limit_of_an_answer_that_is_not_streamed(start, upstream):
    sidecar = start('[admission]\noverdraft = "strict"\n')
    sidecar.give("ana", 300)
    answer = _ask(sidecar, "ana", input=8, words=5)
    assert answer.status_code == 200
    limit = upstream.requests[-1].body["max_tokens"]
    assert 280 <= limit <= 292


def test_soft_lets_the_last_answer_finish_and_carries_the_debt(start):
    sidecar = start("[admission]\nslice = 64\n")
    sidecar.give("ana", 100)
    assert _ask(sidecar, "ana", input=10, words=200).status_code == 200
    assert sidecar.cli("balance", "ana")["balance"] == -110
    refused = _ask(sidecar, "ana")
    assert refused.status_code == 429
    assert json.loads(refused.json()["error"]["message"])["type"] == "google_error"
    sidecar.cli("credit", "ana", "1000")
    assert sidecar.cli("balance", "ana")["balance"] == 890
    assert _ask(sidecar, "ana").status_code == 200
    sidecar.check()


def test_a_call_that_waited_too_long_is_told_that_others_hold_the_rest(start):
    sidecar = start("[admission]\nadmission_wait = 0.5\n")
    sidecar.give("ana", 500)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_ask, sidecar, "ana", input=10, words=5, wait_s=3)
        while not sidecar.cli("ledger", "holds"):
            pass
        waited = _ask(sidecar, "ana")
        assert (waited.status_code, waited.headers["x-solaris-denied"]) == (429, "tokens_reserved")
        assert running.result().status_code == 200
    sidecar.check()
