"""`openai`'s Realtime client, unchanged, through the sidecar: one WebSocket, a usage event per answer."""

import asyncio
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT, Bill
from tests.e2e.wire.openai import REALTIME, TRANSCRIPTION

MODEL = "gpt-realtime"


def _client(person: Person, key: str = "k") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=person.url("openai/v1"),
        websocket_base_url=person.url("openai/v1").replace("http://", "ws://"),
        max_retries=0,
    )


async def _ask(connection: Any, text: str) -> str:
    """Say something, have it answered, and read until the answer is done; the answer."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await connection.conversation.item.create(item=item)
    await connection.response.create()
    said = []
    async for event in connection:
        assert event.type != "error", event
        if event.type == "response.output_text.delta":
            said.append(event.delta)
        if event.type == "response.done":
            break
    return "".join(said)


def _pays(person: Person, bills: Sequence[Bill]) -> list[dict[str, Any]]:
    """Assert that there is an event for each of them, in their order; the events."""
    events = person.events()
    for event, bill in zip(events, bills, strict=True):
        about = {"provider": "openai", "model": MODEL, "dialect": "openai-realtime", "basis": "reported"}
        expected = about | bill.event | {"billed_tokens": bill.input + bill.output, "interrupted": False}
        assert {name: event[name] for name in expected} == expected
    return events


@pytest.mark.parametrize("beta", [False, True])
def test_two_answers_of_one_session_are_two_events(person: Person, beta: bool) -> None:
    async def converse() -> None:
        async with _client(person) as client:
            realtime: Any = client.beta.realtime if beta else client.realtime
            async with realtime.connect(model=MODEL, extra_headers=person.headers) as connection:
                assert (await connection.recv()).type == "session.created"
                await connection.session.update(session={"type": "realtime", "instructions": "Seja breve."})
                assert (await connection.recv()).session.instructions == "Seja breve."
                assert await _ask(connection, "Há café?") == WHOLE_TEXT
                assert await _ask(connection, "E chá?") == WHOLE_TEXT

    asyncio.run(asyncio.wait_for(converse(), 30))
    _pays(person, REALTIME)
    [arrival] = person.providers.requests
    assert arrival.headers["authorization"] == "Bearer k"


def test_what_was_heard_and_written_down_is_an_event_of_its_own(person: Person) -> None:
    async def converse() -> None:
        async with (
            _client(person) as client,
            client.realtime.connect(model=MODEL, extra_headers=person.headers) as connection,
        ):
            assert (await connection.recv()).type == "session.created"
            await connection.input_audio_buffer.commit()
            assert (await connection.recv()).type == "input_audio_buffer.committed"
            assert await _ask(connection, "E chá?") == WHOLE_TEXT

    asyncio.run(asyncio.wait_for(converse(), 30))
    _pays(person, [TRANSCRIPTION, REALTIME[0]])


def test_a_session_without_an_answer_costs_nothing(person: Person) -> None:
    async def converse() -> None:
        async with (
            _client(person) as client,
            client.realtime.connect(model=MODEL, extra_headers=person.headers) as connection,
        ):
            assert (await connection.recv()).type == "session.created"

    asyncio.run(asyncio.wait_for(converse(), 30))
    person.pays_nothing()


def test_a_session_without_an_identity_never_begins(person: Person) -> None:
    async def converse() -> None:
        async with _client(person) as client, client.realtime.connect(model=MODEL):
            pass

    with pytest.raises(Exception, match="401"):
        asyncio.run(asyncio.wait_for(converse(), 30))
    assert person.providers.requests == []


def test_a_session_ends_with_a_reason_when_the_tokens_do(person: Person) -> None:
    person.sidecar.give(person.name, 100)

    async def converse() -> None:
        async with (
            _client(person) as client,
            client.realtime.connect(model=MODEL, extra_headers=person.headers) as connection,
        ):
            assert (await connection.recv()).type == "session.created"
            assert await _ask(connection, "Há café?") == WHOLE_TEXT
            await connection.response.create()
            refused: Any = [event async for event in connection]
            assert [(event.type, event.error.code) for event in refused] == [("error", "insufficient_quota")]

    asyncio.run(asyncio.wait_for(converse(), 30))
    _pays(person, REALTIME[:1])

    async def begin() -> None:
        async with _client(person) as client, client.realtime.connect(model=MODEL, extra_headers=person.headers):
            pass

    with pytest.raises(Exception, match="429"):
        asyncio.run(asyncio.wait_for(begin(), 30))
    assert len(person.providers.requests) == 1
