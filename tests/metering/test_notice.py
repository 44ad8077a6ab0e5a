"""A notice in an answer: where it stands, what it costs (nothing), and that no cut of the stream changes it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter
from tests.metering.calls import feed, open_payload, usage_at_once
from tests.metering.samples import (
    EXPECTED,
    STREAMS,
    cut,
    cut_whole,
    dialect_of,
    follow,
    framing_of,
    payload,
    pieces,
    totals,
)

from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.models import Usage

RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
NOTICE = "\u2063\u2063\u2063\n\n---\n*fim*\n\u2063\u2063\u2063"


class Teller:
    """Tells `text`, and remembers what it was told."""

    def __init__(self, text: str = NOTICE) -> None:
        self.text = text
        self.heard: list[Usage] = []

    def __call__(self, usage):
        self.heard.append(usage)
        return self.text


def told(name, chunks, text=NOTICE, **options):
    teller = Teller(text)
    call = open_payload(name, tell=teller, **options)
    return feed(call, chunks), teller, call


def events_of(name, chunks):
    framing = framing_of(name)
    assert framing is not None
    return cut_whole(framing, chunks)


def _carries(name):
    return bool(told(name, [payload(name)])[1].heard)


CARRIERS = [name for name in STREAMS if _carries(name)]


def test_the_payloads_of_these_dialects_carry_notices():
    assert {EXPECTED[name]["dialect"] for name in CARRIERS} == {"openai-chat", "anthropic", "google"}


@pytest.mark.parametrize("name", CARRIERS)
def test_a_notice_is_the_end_of_the_text_and_changes_no_usage(name):
    out, teller, call = told(name, [payload(name)])
    plain = open_payload(name)
    feed(plain, [payload(name)])
    before = follow(dialect_of(name), events_of(name, [payload(name)]))
    after = follow(dialect_of(name), events_of(name, [out]))
    assert totals(after) == totals(before) | {"text": "".join(before.text) + NOTICE}
    assert usage_at_once(call) == usage_at_once(plain)
    assert len(teller.heard) == 1


@pytest.mark.parametrize("name", CARRIERS)
def test_what_is_told_beforehand_is_what_the_call_used(name):
    _, teller, call = told(name, [payload(name)])
    usage = usage_at_once(call)
    [heard] = teller.heard
    assert usage is not None
    if usage.basis == "reported":
        assert (heard.input_tokens, heard.output_tokens) == (usage.input_tokens, usage.output_tokens)
        assert heard.cached_input_tokens == usage.cached_input_tokens


@pytest.mark.parametrize("name", STREAMS)
def test_where_there_is_nothing_to_tell_every_byte_stays(name):
    for chunks in ([payload(name)], pieces(payload(name), 7)):
        assert told(name, chunks, text="")[0] == payload(name)


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in CARRIERS])
def test_what_carries_no_notice_is_relayed_as_it_comes(name):
    assert told(name, [payload(name)])[0] == payload(name)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(CARRIERS))
def test_no_cut_of_the_stream_changes_it(data, name):
    whole, _, _ = told(name, [payload(name)])
    out, teller, _ = told(name, data.draw(cut(payload(name))))
    assert out == whole
    assert len(teller.heard) == 1


@pytest.mark.parametrize("name", [name for name in CARRIERS if name.startswith("openai_chat")])
def test_a_usage_chunk_that_nobody_asked_for_stays_hidden(name):
    out, _, _ = told(name, [payload(name)], hides_usage=True)
    shown = [json.loads(event.data) for event in events_of(name, [out]) if event.data not in (None, b"[DONE]")]
    assert not [event for event in shown if event["choices"] == [] and event.get("usage")]
    assert NOTICE in "".join(choice["delta"].get("content") or "" for event in shown for choice in event["choices"])


@pytest.mark.parametrize("name", CARRIERS)
def test_a_teller_that_fails_costs_the_person_nothing(name, caplog):
    def fails(usage):
        raise RuntimeError("no")

    call = open_payload(name, tell=fails)
    assert feed(call, [payload(name)]) == payload(name)
    assert "its notice cannot be written" in caplog.text


CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Oi"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}\n\n'
DONE = b"data: [DONE]\n\n"
CHAT = "openai_chat_stream_nousage.sse"


def test_the_closing_event_is_not_lost_to_a_failure_in_the_event_after_it(monkeypatch, caplog):
    call = open_payload(CHAT, tell=Teller())
    read_event = call.dialect.read_event

    def fails_at_the_usage(answer, event):
        if not event["choices"]:
            raise RuntimeError("no")
        read_event(answer, event)

    monkeypatch.setattr(call.dialect, "read_event", fails_at_the_usage)
    out = feed(call, [CHUNK, LAST, USAGE, DONE])
    assert "an event of its answer cannot be read" in caplog.text
    assert out.startswith(CHUNK)
    assert out.endswith(USAGE + DONE)
    ended = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in out.split(b"\n\n")[1:3]]
    assert [(end["delta"].get("content"), end["finish_reason"]) for end in ended] == [(NOTICE, None), (None, "stop")]


@pytest.mark.parametrize("end", [[USAGE, DONE], [DONE], [USAGE], []], ids=["both", "done", "usage", "none"])
def test_the_closing_event_waits_for_the_usage_and_never_for_longer(end):
    teller = Teller()
    call = open_payload(CHAT, tell=teller)
    assert call.feed(CHUNK) == CHUNK
    assert call.feed(LAST) == b""
    rest = [call.feed(event) for event in end] + [call.finish()]
    assert b'"finish_reason": "stop"' in rest[0]
    assert json.dumps(NOTICE).strip('"').encode() in rest[0]
    assert b"".join(rest).endswith(b"".join(end))
    assert [usage.input_tokens for usage in teller.heard] == ([5] if USAGE in end else [teller.heard[0].input_tokens])


def test_text_in_the_closing_event_stands_before_the_notice():
    call = open_payload(CHAT, tell=Teller())
    last = b'data: {"choices":[{"index":0,"delta":{"content":" Tchau"},"finish_reason":"stop"}]}\n\n'
    out = feed(call, [CHUNK, last, DONE])
    shown = follow(dialect_of(CHAT), events_of(CHAT, [out]))
    assert "".join(shown.text) == f"Oi Tchau{NOTICE}"


@pytest.mark.parametrize("reason", ["length", "tool_calls", "content_filter", None])
def test_an_answer_that_does_not_end_by_itself_carries_none(reason):
    teller = Teller()
    call = open_payload(CHAT, tell=teller)
    last = f'data: {{"choices":[{{"index":0,"delta":{{}},"finish_reason":{json.dumps(reason)}}}]}}\n\n'.encode()
    assert feed(call, [CHUNK, last, DONE]) == CHUNK + last + DONE
    assert teller.heard == []


def test_an_answer_without_text_carries_none():
    teller = Teller()
    assert feed(open_payload(CHAT, tell=teller), [LAST, DONE]) == LAST + DONE
    assert teller.heard == []


# Responses: the payloads leave out most events, and an item that is still open takes no notice.


def _responses(*, output=True, calls=False):
    """A whole stream of a reasoning item and a message, or a call of a function."""
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
    part = {"type": "output_text", "text": "Olá", "annotations": [], "logprobs": []}
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    function: dict[str, Any] = {
        "id": "fc_1",
        "type": "function_call",
        "name": "clima",
        "arguments": "{}",
        "call_id": "c",
    }
    last: dict[str, Any] = function if calls else message
    place = {"item_id": last["id"], "output_index": 1}
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt-5",
        "status": "completed",
        "output": [reasoning, last] if output else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 6},
            "total_tokens": 29,
        },
    }
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    if calls:
        said = [{"type": "response.function_call_arguments.delta", "delta": "{}"} | place]
    else:
        said = [
            {"type": "response.content_part.added", "content_index": 0, "part": part | {"text": ""}} | place,
            {"type": "response.output_text.delta", "content_index": 0, "delta": "Olá", "logprobs": []} | place,
            {"type": "response.output_text.done", "content_index": 0, "text": "Olá", "logprobs": []} | place,
            {"type": "response.content_part.done", "content_index": 0, "part": part} | place,
        ]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.added", "output_index": 1, "item": last | ({} if calls else {"content": []})},
        *said,
        {"type": "response.output_item.done", "output_index": 1, "item": last},
        {"type": "response.completed", "response": response},
    ]
    numbered = [event | {"sequence_number": number} for number, event in enumerate(events)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered]


def _told_response(chunks):
    teller = Teller()
    call = open_payload("openai_responses_stream.sse", tell=teller)
    out = feed(call, chunks)
    return [json.loads(event.data) for event in cut_whole(ServerSentEvents(), [out]) if event.data], teller, out


@pytest.mark.parametrize("output", [True, False], ids=["whole", "left empty"])
def test_a_response_ends_with_a_message_that_is_the_notice(output):
    # Some servers leave the output of the last event empty, although it was streamed.
    stream = _responses(output=output)
    events, teller, out = _told_response(stream)
    assert out.startswith(b"".join(stream[:-1]))
    read = [RESPONSE_EVENT.validate_python(event) for event in events]
    assert [event.sequence_number for event in read] == list(range(len(read)))
    state = ResponseStreamState(text_format=omit, input_tools=omit)
    for event in read:
        state.handle_event(event)
    final = read[-1].response
    assert final.output_text == f"Olá{NOTICE}"
    assert final.usage.to_dict() == json.loads(stream[-1].split(b"data: ")[1])["response"]["usage"]
    [heard] = teller.heard
    assert (heard.input_tokens, heard.cached_input_tokens, heard.output_tokens) == (20, 4, 9)


@given(st.data())
def test_no_cut_of_a_response_changes_it(data):
    stream = b"".join(_responses())
    whole = _told_response([stream])[2]
    assert _told_response(data.draw(cut(stream)))[2] == whole


def test_a_response_that_calls_a_function_carries_none():
    stream = _responses(calls=True)
    _, teller, out = _told_response(stream)
    assert (out, teller.heard) == (b"".join(stream), [])
