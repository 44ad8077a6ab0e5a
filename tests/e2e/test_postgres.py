"""Sidecars on one PostgreSQL: as exact as one on a file, and nothing lost when the server goes away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.e2e.sidecar import Sidecar
from tests.postgres import PostgresServer

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}], "script": {"input": 5, "words": 5}}
GRACE_OVER = "UPDATE _alive SET heard_at = '2020-01-01'"
"""Half a minute passes for everybody who is not there."""


@pytest.fixture
def ledger(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    try:
        server = PostgresServer()
    except Exception as error:
        pytest.skip(f"no PostgreSQL can run here: {type(error).__name__}: {error}")
    yield server
    server.close()


def call(sidecar, user, timeout=60, **script):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "script": script}
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        return client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers(user), json=body)


def held(sidecar, count=1):
    while len(sidecar.cli("ledger", "holds")) < count:
        pass


@pytest.mark.parametrize("sidecars", [1, 2])
def test_twenty_parallel_calls_near_zero_use_the_balance_up_and_no_more(start, upstream, ledger, sidecars):
    running = [start(database=ledger) for _ in range(sidecars)]
    running[0].give("ana", 4_000)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda number: call(running[number % sidecars], "ana", input=60, words=5, output=440, wait_s=0.05),
                range(20),
            )
        )
    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(served) + len(refused) == 20, [answer.text for answer in answers]
    assert len(upstream.requests) == len(served)
    assert {answer.headers["x-solaris-denied"] for answer in refused} == {"tokens_exhausted"}
    # Eight calls of 500 are what 4,000 pays for: nobody was refused before, and nobody served after.
    assert len(served) == 8
    for sidecar in running:
        assert sidecar.cli("balance", "ana")["balance"] == 0
        sidecar.no_holds()
        sidecar.check()


def test_twenty_parallel_calls_that_the_balance_covers_are_all_served(start, ledger):
    running = [start(database=ledger), start(database=ledger)]
    running[0].give("ana", 2_000)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda number: call(running[number % 2], "ana", input=60, words=5, output=40), range(20))
        )
    assert [answer.status_code for answer in answers] == [200] * 20
    assert running[1].cli("balance", "ana")["balance"] == 0
    running[0].check()


def test_many_people_on_two_sidecars_are_all_served_and_billed(start, ledger):
    """Batches of both hold accounts that the other one wants."""
    running = [start(database=ledger), start(database=ledger)]
    people = [f"person-{number}" for number in range(10)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda number: call(running[number % 2], people[number // 2 % 10], input=5, words=5), range(120))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert {user["used"] for user in running[0].cli("balance")} == {120}
    running[0].no_holds()
    running[1].check()
    for sidecar in running:
        assert "deadlock" not in sidecar.log.read_text()


def test_what_a_killed_sidecar_left_is_recovered_once_its_time_is_over(start, postgres_server, ledger):
    one, other = start(database=ledger), start(database=ledger)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(call, one, "ana", input=500, words=5, wait_s=30)
        held(one)
        other_call = pool.submit(call, other, "ana", input=5, words=5, wait_s=3)
        held(one, 2)
        one.kill()
        one.start()
        # Its successor cannot know yet whether it was only cut off.
        assert len(one.cli("ledger", "holds")) == 2
        one.kill()
        postgres_server.run(GRACE_OVER, ledger)
        one.start()
        # The call that runs in the other sidecar is not touched: it holds its lock.
        assert other_call.result().status_code == 200
    one.no_holds()
    events = sorted(one.events(), key=lambda event: event["recovered"])
    assert [(event["recovered"], event["basis"]) for event in events] == [(False, "reported"), (True, "estimated")]
    assert events[0]["billed_tokens"] == 10
    one.check()


def test_without_its_server_the_sidecar_refuses_and_comes_back_with_it(start, upstream, own_server):
    sidecar = start(database=own_server.database())
    assert call(sidecar, "ana", input=5, words=5).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, sidecar, "ana", input=5, words=5, wait_s=2)
        held(sidecar)
        own_server.stop()
        # What runs goes to its end: the journal keeps what it cost.
        assert running.result().status_code == 200
    arrived = len(upstream.requests)
    answer = call(sidecar, "ana", input=5, words=5)
    assert (answer.status_code, answer.headers["x-solaris-denied"]) == (503, "ledger_unavailable")
    assert len(upstream.requests) == arrived
    assert len((sidecar.folder / "solaris-unsettled.jsonl").read_text().splitlines()) == 1
    own_server.start()
    # The first call after a restart is worth no refusal.
    assert call(sidecar, "ana", input=5, words=5).status_code == 200
    assert sidecar.stop() == 0
    sidecar.start()
    assert [event["billed_tokens"] for event in sidecar.events()] == [10, 10, 10]
    assert {(event["basis"], event["recovered"]) for event in sidecar.events()} == {("reported", False)}
    sidecar.no_holds()
    sidecar.check()


def test_with_on_error_allow_calls_are_served_and_billed_once_the_server_is_back(start, own_server):
    sidecar = start(database=own_server.database(), ledger='on_error = "allow"\njournal = "kept/lost.jsonl"\n')
    (sidecar.folder / "kept").mkdir()
    own_server.stop()
    assert call(sidecar, "ana", input=5, words=5).status_code == 200
    assert len((sidecar.folder / "kept" / "lost.jsonl").read_text().splitlines()) == 1
    own_server.start()
    assert sidecar.cli("users", "list") == []
    sidecar.stop()
    sidecar.start()
    assert sidecar.cli("balance", "ana")["used"] == 10
    assert len(sidecar.events()) == 1
    sidecar.check()


def test_the_password_stands_in_no_log(start, ledger):
    url = ledger.replace("postgres:@", "postgres:s3cret@")
    assert url != ledger
    sidecar: Sidecar = start(database=url)
    assert call(sidecar, "ana", input=5, words=5).status_code == 200
    assert sidecar.stop() == 0
    text = sidecar.log.read_text()
    assert "ledger postgresql://postgres:***@" in text
    assert "s3cret" not in text
