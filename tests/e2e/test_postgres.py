"""Sidecars on one PostgreSQL: as exact as one on a file, and nothing lost when the server goes away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.e2e.sidecar import Sidecar
from tests.e2e.upstream import Upstream
from tests.postgres import PostgresServer

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


def call(sidecar, user, limit=None, **script):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "script": script}
    if limit is not None:
        body["max_tokens"] = limit
    with httpx.Client(timeout=60, trust_env=False) as client:
        return client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers(user), json=body)


def held(sidecar, count=1):
    while len(sidecar.cli("ledger", "holds")) < count:
        pass


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, shared_upstream: Upstream
) -> Iterator[list[Sidecar]]:
    """Two sidecars on one ledger, in which everything is in order after the last test."""
    url = postgres_server.database()
    sidecars = [Sidecar(tmp_path_factory.mktemp(name), shared_upstream.url, database=url) for name in ("one", "two")]
    try:
        for sidecar in sidecars:
            sidecar.start()
        yield sidecars
        for sidecar in sidecars:
            sidecar.no_holds()
            sidecar.check()
            assert "deadlock" not in sidecar.log.read_text()
    finally:
        for sidecar in sidecars:
            sidecar.kill()
        postgres_server.drop(url)


@pytest.mark.parametrize("sidecars", [1, 2])
def test_twenty_parallel_calls_near_zero_use_the_balance_up_and_no_more(pair, upstream, sidecars):
    user = f"near-zero-{sidecars}"
    pair[0].give(user, 4_000)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda number: call(pair[number % sidecars], user, input=60, words=5, output=440, wait_s=0.05),
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
    for sidecar in pair:
        sidecar.no_holds()
        assert sidecar.cli("balance", user)["balance"] == 0
        sidecar.check()


def test_twenty_parallel_calls_that_the_balance_covers_are_all_served(pair):
    pair[0].give("covered", 2_000)
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda number: call(pair[number % 2], "covered", limit=500, input=60, words=5, output=40), range(20)
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 20
    pair[0].no_holds()
    assert pair[1].cli("balance", "covered")["balance"] == 0


def test_many_people_on_two_sidecars_are_all_served_and_billed(pair):
    """Batches of both hold accounts that the other one wants."""
    people = [f"person-{number}" for number in range(10)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda number: call(pair[number % 2], people[number // 2 % 10], input=5, words=5), range(120))
        )
    assert {answer.status_code for answer in answers} == {200}
    pair[0].no_holds()
    used = {user["user"]: user["used"] for user in pair[1].cli("balance")}
    assert [used[user] for user in people] == [120] * 10


def test_what_a_killed_sidecar_left_is_recovered_once_its_time_is_over(start, postgres_server, ledger):
    one, other = start(database=ledger), start(database=ledger)
    endless = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=60, trust_env=False) as client:
        pool.submit(call, one, "ana", input=500, words=5, wait_s=30)
        held(one)
        with client.stream(
            "POST",
            other.url("openai/v1/chat/completions"),
            headers=other.headers("ana"),
            json=endless | {"script": {"input": 5, "words": 5, "hold_after": 2}},
        ) as answer:
            chunks = answer.iter_raw()  # kept: without it the stream would be closed
            next(chunks)
            one.kill()
            one.start()
            # Its successor cannot know yet whether it was only cut off.
            assert len(one.cli("ledger", "holds")) == 2
            one.kill()
            postgres_server.run(GRACE_OVER, ledger)
            one.start()
            # The call that runs in the other sidecar is not touched: that one holds its lock.
            assert len(one.cli("ledger", "holds")) == 1
    one.no_holds()
    assert sorted((event["recovered"], event["interrupted"]) for event in one.events()) == [(False, True), (True, True)]
    one.check()


def test_without_its_server_the_sidecar_refuses_and_comes_back_with_it(start, upstream, own_server):
    # The test's server asks nobody for a password.
    sidecar = start(database=own_server.database().replace("postgres:@", "postgres:s3cret@"))
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
    assert "the ledger postgresql://postgres:***@" in sidecar.log.read_text()
    assert "s3cret" not in sidecar.log.read_text()


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
