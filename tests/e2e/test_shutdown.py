"""SIGTERM: nobody new, time for what runs, and every token that was relayed in the ledger; exit code 0."""

import json
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from tests.e2e.sidecar import CLI, ENVIRONMENT, Sidecar
from tests.e2e.upstream import WORD, Arrival, Upstream
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

MESSAGES = [{"role": "user", "content": "Conte uma história, por favor."}]
OPENAI, ANTHROPIC = "openai/v1/chat/completions", "anthropic/v1/messages"
MODELS = {OPENAI: "gpt-4o", ANTHROPIC: "claude-sonnet-4-6"}
ENDLESS = {"words": 100_000, "delay_s": 0.05}


class Stream(threading.Thread):
    """One streamed call; `got` is all that reached the client, `whole` whether it was ended properly."""

    def __init__(self, sidecar: Sidecar, client: httpx.Client, path: str, user: str, **script: Any) -> None:
        super().__init__(daemon=True)
        self.path, self.user = path, user
        self.got = b""
        self.whole = False
        self.began = threading.Event()
        self._ask: dict[str, Any] = {
            "method": "POST",
            "url": sidecar.url(path),
            "headers": sidecar.headers(user),
            "json": {
                "model": MODELS[path],
                "max_tokens": 5_000,
                "messages": MESSAGES,
                "stream": True,
                "script": {"input": 1234, **script},
            },
        }
        self._client = client
        self.start()

    def run(self) -> None:
        try:
            with self._client.stream(**self._ask) as answer:
                assert answer.status_code == 200
                for piece in answer.iter_raw():
                    self.got += piece
                    self.began.set()
            self.whole = True
        except httpx.HTTPError:
            pass

    @property
    def words(self) -> int:
        return self.got.count(WORD.encode())


@pytest.fixture
def many() -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    with httpx.Client(timeout=60, trust_env=False, limits=limits) as client:
        yield client


def _terminate(sidecar: Sidecar) -> "subprocess.Popen[bytes]":
    assert sidecar.process is not None
    sidecar.process.send_signal(signal.SIGTERM)
    return sidecar.process


def _is_refused(sidecar: Sidecar) -> bool:
    try:
        socket.create_connection(("127.0.0.1", sidecar.port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def _until(condition: Callable[[], bool], patience_s: float = 10) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_in_the_middle_of_fifty_streams_loses_nothing(start, many):
    sidecar = start("[shutdown]\ngrace = 5\n")
    ending = [
        Stream(sidecar, many, (OPENAI, ANTHROPIC)[number % 2], f"ends-{number}", words=40, delay_s=0.05)
        for number in range(25)
    ]
    endless = [
        Stream(sidecar, many, (OPENAI, ANTHROPIC)[number % 2], f"endless-{number}", **ENDLESS) for number in range(25)
    ]
    for stream in ending + endless:
        assert stream.began.wait(30)
    assert len(sidecar.cli("ledger", "holds")) >= 25
    began = time.monotonic()
    process = _terminate(sidecar)
    _until(lambda: _is_refused(sidecar))
    assert any(stream.is_alive() for stream in endless)
    process.send_signal(signal.SIGTERM)  # an impatient second one cuts nothing off
    assert process.wait(30) == 0
    assert 5 <= time.monotonic() - began < 25
    for stream in ending + endless:
        stream.join(10)
        assert not stream.is_alive()

    events = {event["user"]: event for event in sidecar.events()}
    assert len(events) == 50
    for stream in ending:
        event = events[stream.user]
        assert (stream.whole, stream.words) == (True, 40)
        assert stream.got.rstrip().endswith(b"[DONE]" if stream.path == OPENAI else b'{"type": "message_stop"}')
        assert (event["interrupted"], event["basis"], event["recovered"]) == (False, "reported", False)
        assert (event["input_tokens"], event["output_tokens"]) == (1234, 40)
    for stream in endless:
        event = events[stream.user]
        assert (stream.whole, event["interrupted"], event["recovered"]) == (False, True, False)
        assert (event["output_tokens"], stream.words > 10) == (stream.words, True)
        # OpenAI reports nothing before the end: the question is counted. Anthropic has told its input at once.
        assert event["input_tokens"] == (14 if stream.path == OPENAI else 1234)
    assert sum(event["billed_tokens"] for event in events.values()) == sum(
        account["used"] for account in sidecar.cli("balance")
    )
    assert sidecar.cli("ledger", "holds") == []
    sidecar.check()


def test_without_a_time_of_grace_what_runs_is_settled_at_once(start, many):
    sidecar = start("[shutdown]\ngrace = 0\n")
    stream = Stream(sidecar, many, OPENAI, "ana", **ENDLESS)
    assert stream.began.wait(30)
    began = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - began < 25  # an endless answer that was waited for would take longer
    stream.join(10)
    [event] = sidecar.events()
    assert (event["interrupted"], event["output_tokens"]) == (True, stream.words)
    assert sidecar.cli("ledger", "holds") == []
    sidecar.check()


def test_an_error_of_the_provider_is_not_charged_because_the_sidecar_stops(start, many):
    """Its status is here, and its body hangs: nothing was owed before, and nothing is now."""
    sidecar = start("[shutdown]\ngrace = 1\n")
    body = {"model": "gpt-4o", "messages": MESSAGES, "script": {"status": 500, "wait_s": 0.5}}
    statuses = []

    def ask() -> None:
        statuses.append(many.post(sidecar.url(OPENAI), headers=sidecar.headers("ana"), json=body).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    _until(lambda: bool(sidecar.cli("ledger", "holds")) or bool(statuses))
    assert sidecar.stop() == 0
    thread.join(10)
    assert statuses == [500]
    assert (sidecar.events(), sidecar.cli("ledger", "holds")) == ([], [])


# ------------------------------------------------------------------------------------ a ledger that is locked meanwhile


def test_what_a_locked_ledger_cannot_take_is_journalled_and_charged_once(start, many):
    sidecar = start("[shutdown]\ngrace = 1\n")
    first = Stream(sidecar, many, OPENAI, "first", words=1, usage=False)  # LiteLLM is loaded when that is counted
    first.join(30)
    streams = [Stream(sidecar, many, (OPENAI, ANTHROPIC)[number % 2], f"u{number}", **ENDLESS) for number in range(10)]
    for stream in streams:
        assert stream.began.wait(30)
    with closing(sqlite3.connect(sidecar.database, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        process = _terminate(sidecar)
        # On disk before Docker would kill, whatever the ledger goes on to do.
        journal = sidecar.folder / "solaris.db-unsettled.jsonl"
        _until(lambda: journal.exists() and len(journal.read_text().splitlines()) == 10, 1 + 4)
        assert process.wait(15) == 0
        assert time.monotonic() - began < 25
    for stream in streams:
        stream.join(10)
    assert len(sidecar.cli("ledger", "holds")) == 10
    sidecar.start()
    sidecar.no_holds()
    events = {event["user"]: event for event in sidecar.events()}
    assert len(events) == 11
    for stream in streams:
        event = events[stream.user]
        assert (event["output_tokens"], event["interrupted"], event["recovered"]) == (stream.words, True, False)
    sidecar.check()
    assert journal.read_text() == ""


def test_an_answer_that_comes_after_its_call_was_settled_is_not_given_away(start, upstream, many):
    """Its headers come while the ledger, which is locked, keeps the process from ending."""
    sidecar = start("[shutdown]\ngrace = 0.2\n")
    first = Stream(sidecar, many, OPENAI, "first", words=1, usage=False)
    first.join(30)
    late = [Stream(sidecar, many, path, path, words=2000, wait_s=1.8) for path in (OPENAI, ANTHROPIC)]
    upstream.requests.clear()
    whole: list[httpx.Response] = []

    def ask() -> None:
        script = {"input": 1234, "words": 2000, "wait_s": 1.8}
        body = {"model": "gpt-4o", "messages": MESSAGES, "script": script}
        with suppress(httpx.HTTPError):
            whole.append(many.post(sidecar.url(OPENAI), headers=sidecar.headers("json"), json=body))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    _until(lambda: len(sidecar.cli("ledger", "holds")) == 3, 15)
    with closing(sqlite3.connect(sidecar.database, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        process = _terminate(sidecar)
        assert process.wait(15) == 0
    for stream in late:
        stream.join(10)
    asking.join(10)
    assert whole == []
    assert [stream.words for stream in late] == [0, 0]
    sidecar.start()
    sidecar.no_holds()
    events = {event["user"]: event for event in sidecar.events()}
    assert {user for user, event in events.items() if event["interrupted"]} == {OPENAI, ANTHROPIC, "json"}
    assert all(event["output_tokens"] == 0 for user, event in events.items() if user != "first")
    sidecar.check()


# ------------------------------------------------------------------------------------------------------ while it starts


@pytest.mark.parametrize("wait_s", [0.3, 0.8, 1.3, 1.8, 2.3, 2.8, 3.5])
def test_sigterm_while_it_starts_ends_it(tmp_path, upstream, wait_s):
    sidecar = Sidecar(tmp_path, upstream.url)
    sidecar.cli("db", "migrate")
    command = [CLI, "--config", str(sidecar.config), "run", "--listen", f"127.0.0.1:{sidecar.port}"]
    with sidecar.log.open("ab") as log:
        process = subprocess.Popen(
            [*command, "--", "--set", f"confdir={tmp_path / 'ca'}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=tmp_path, env=ENVIRONMENT,
        )  # fmt: skip
    try:
        time.sleep(wait_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0, sidecar.log.read_text()
    finally:
        process.kill()
    assert "Traceback" not in sidecar.log.read_text()
    assert list(tmp_path.glob("*-alive-*")) == []
    assert sidecar.cli("ledger", "holds") == []


# ------------------------------------------------------------------------------------------ in the background, sessions


class Slow(Upstream):
    """Answers `/v1/responses` with one that is in the making, and a WebSocket's response with words that do not end."""

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Arrival(request.path_qs, dict(request.headers), None))
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await self._talk(request)
        queued = {"id": "resp_1", "object": "response", "status": "queued", "background": True, "usage": None}
        return web.json_response(queued)

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        answer = web.WebSocketResponse(protocols=["realtime"])
        await answer.prepare(request)
        await answer.send_json({"type": "session.created", "event_id": "e", "session": {"model": "gpt-realtime"}})
        part = {"response_id": "resp_1", "item_id": "msg_1", "output_index": 0, "content_index": 0}
        async for message in answer:
            if json.loads(message.data)["type"] != "response.create":
                continue
            begun = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": []}
            await answer.send_json({"type": "response.created", "event_id": "e", "response": begun})
            for _ in range(10_000):
                await answer.send_json({"type": "response.output_text.delta", "event_id": "e", "delta": WORD} | part)
                try:
                    await answer.receive(timeout=0.05)
                    break
                except TimeoutError:
                    continue
        return answer


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Sidecar]:
    upstream = Slow()
    upstream.start()
    sidecar = Sidecar(tmp_path, upstream.url, "[shutdown]\ngrace = 1\n")
    sidecar.start()
    yield sidecar
    sidecar.kill()
    upstream.stop()


def test_a_background_answer_that_nobody_came_for_costs_its_question(slow, client):
    slow.stop()
    slow.config.write_text(slow.config.read_text().replace("grace = 1\n", "grace = 60\n"))
    slow.start()
    question = "palavra " * 50
    body = {"model": "gpt-5", "input": question, "background": True}
    assert client.post(slow.url("openai/v1/responses"), headers=slow.headers("ana"), json=body).status_code == 200
    assert len(slow.cli("ledger", "holds")) == 1
    began = time.monotonic()
    assert slow.stop() == 0
    assert time.monotonic() - began < 25  # it is not waited for: it ends whenever it does
    [event] = slow.events()
    assert (event["interrupted"], event["recovered"], event["output_tokens"]) == (True, False, 0)
    assert 50 <= event["input_tokens"] <= 120
    assert slow.cli("ledger", "holds") == []
    slow.check()


def test_a_session_is_settled_with_what_was_relayed(slow):
    url = slow.url("openai/v1/realtime?model=gpt-realtime").replace("http://", "ws://")
    heard = 0
    with connect(url, additional_headers=slow.headers("ana"), proxy=None) as session:
        assert json.loads(session.recv())["type"] == "session.created"
        session.send(json.dumps({"type": "response.create"}))
        try:
            while True:
                event = json.loads(session.recv(timeout=20))
                heard += event["type"] == "response.output_text.delta"
                if heard == 10:
                    process = _terminate(slow)
        except ConnectionClosed:
            pass
    assert process.wait(15) == 0
    assert heard > 15  # it went on in the time of grace
    [event] = slow.events()
    assert (event["dialect"], event["interrupted"], event["recovered"]) == ("openai-realtime", True, False)
    assert event["output_tokens"] == heard
    assert slow.cli("ledger", "holds") == []
    slow.check()
