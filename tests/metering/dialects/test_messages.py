"""A message of our own in each dialect, as the official SDKs read it, and which requests an answer's notice suits."""

import json
from typing import Any

import anthropic.types
import cohere
import ollama
import openai.types.chat
import openai.types.responses
import pytest
from google.genai import types as genai
from pydantic import TypeAdapter
from tests.metering.calls import REQUESTS
from tests.metering.samples import ALL_DIALECTS, dialect_called

from solaris_meter.metering.dialects.dialect import Answer

TEXT = "Olá 🙂\n\n| a |\n| --- |"
RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(openai.types.responses.ResponseStreamEvent)
ANTHROPIC_EVENT: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
CHATS = ["openai-chat", "openai-responses", "anthropic", "google", "cohere", "ollama", "bedrock-converse"]
MEMORY = [{"type": "function", "name": "set_memory", "function": {"name": "set_memory"}}]


def asked(name, **more):
    path, body = REQUESTS[name]
    body = {key: value for key, value in body.items() if key != "message"} | more
    return dialect_called(name).read_request(path, body, 100)


def message(name, **more):
    found = dialect_called(name).message(asked(name, **more), TEXT)
    assert found is not None
    events = [json.loads(payload) for _, payload in found.events if payload != "[DONE]"]
    return events, found.body, [kind for kind, _ in found.events]


@pytest.mark.parametrize("wants", [True, False])
def test_openai_chat(wants):
    events, body, _ = message("openai-chat", stream_options={"include_usage": wants})
    chunks = [openai.types.chat.ChatCompletionChunk.model_validate(event, strict=True) for event in events]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert [bool(chunk.usage) for chunk in chunks] == [False, False, False] + [True] * wants
    whole = openai.types.chat.ChatCompletion.model_validate(body, strict=True)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (TEXT, "stop")


def test_openai_responses():
    events, body, kinds = message("openai-responses")
    read = [RESPONSE_EVENT.validate_python(event) for event in events]
    assert kinds == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert read[0].type == "response.created"
    assert read[-1].type == "response.completed"
    assert read[-1].response.output_text == TEXT
    assert openai.types.responses.Response.model_validate(body).output_text == TEXT


def test_anthropic():
    events, body, kinds = message("anthropic")
    read = [ANTHROPIC_EVENT.validate_python(event) for event in events]
    assert kinds == [event.type for event in read]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    whole = anthropic.types.Message.model_validate(body)
    assert [block.text for block in whole.content if block.type == "text"] == [TEXT]


def test_google():
    events, body, _ = message("google")
    for value in (*events, body):
        assert genai.GenerateContentResponse.model_validate(value).text == TEXT


def test_cohere():
    events, body, kinds = message("cohere")
    assert kinds == [event["type"] for event in events]
    assert kinds == ["message-start", "content-start", "content-delta", "content-end", "message-end"]
    whole = cohere.V2ChatResponse.model_validate(body)
    assert whole.message.content is not None
    assert [part.text for part in whole.message.content if part.type == "text"] == [TEXT]


def test_cohere_v1():
    request = dialect_called("cohere").read_request("/v1/chat", {"message": "Oi", "stream": True}, 10)
    found = dialect_called("cohere").message(request, TEXT)
    assert found is not None
    kinds = [json.loads(payload)["event_type"] for _, payload in found.events]
    assert kinds == ["stream-start", "text-generation", "stream-end"]
    assert cohere.NonStreamedChatResponse.model_validate(found.body).text == TEXT


def test_ollama():
    events, body, _ = message("ollama", messages=[{"role": "user", "content": "Oi"}])
    chunks = [ollama.ChatResponse.model_validate(event) for event in events]
    assert "".join(chunk.message.content or "" for chunk in chunks) == TEXT
    assert [chunk.done for chunk in chunks] == [False, True]
    assert ollama.ChatResponse.model_validate(body).message.content == TEXT


def test_bedrock_converse():
    events, body, kinds = message("bedrock-converse")
    assert kinds == ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
    assert events[1]["delta"]["text"] == TEXT
    assert body["output"]["message"]["content"] == [{"text": TEXT}]


@pytest.mark.parametrize("name", CHATS)
def test_a_message_costs_nothing_and_reads_as_its_text(name):
    dialect = dialect_called(name)
    events, body, _ = message(name, messages=[{"role": "user", "content": "Oi"}])
    streamed, whole = Answer(), Answer()
    for event, kind in zip(events, message(name)[2], strict=False):
        dialect.read_event(streamed, {kind: event} if name == "bedrock-converse" else event)
    dialect.read_body(whole, body)
    for answer in (streamed, whole):
        assert "".join(answer.text) == TEXT
        assert (answer.input_tokens or 0, answer.output_tokens or 0) == (0, 0)
        assert not answer.refused_usage


@pytest.mark.parametrize("dialect", [one for one in ALL_DIALECTS if one.name not in CHATS], ids=lambda one: one.name)
def test_what_is_no_chat_has_no_messages(dialect):
    assert dialect.conversation is None
    path, body = REQUESTS[dialect.name]
    assert dialect.message(dialect.read_request(path, body, 100), TEXT) is None
    assert not dialect.takes_notice(body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai-chat", {"response_format": {"type": "json_object"}}),
        ("openai-chat", {"response_format": {"type": "json_schema"}}),
        ("openai-chat", {"n": 2}),
        ("openai-chat", {"tools": MEMORY}),
        ("openai-responses", {"text": {"format": {"type": "json_schema"}}}),
        ("openai-responses", {"tools": MEMORY}),
        ("anthropic", {"tool_choice": {"type": "tool", "name": "f"}}),
        ("anthropic", {"tool_choice": {"type": "any"}}),
        ("anthropic", {"tools": [{"name": "delete_memory", "input_schema": {}}]}),
        ("google", {"generationConfig": {"responseMimeType": "application/json"}}),
        ("google", {"generationConfig": {"candidateCount": 2}}),
        ("google", {"tools": [{"functionDeclarations": [{"name": "set_memory"}]}]}),
    ],
)
def test_an_answer_that_no_person_reads_takes_no_notice(name, body):
    assert not dialect_called(name).takes_notice(body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai-chat", {}),
        ("openai-chat", {"response_format": {"type": "text"}, "n": 1, "tools": [{"function": {"name": "clima"}}]}),
        ("openai-responses", {"text": {"format": {"type": "text"}}}),
        ("anthropic", {"tool_choice": {"type": "auto"}, "tools": [{"name": "clima"}]}),
        ("google", {"generationConfig": {"responseMimeType": "text/plain"}}),
        ("google", {"tools": [{"functionDeclarations": [{"name": "clima"}]}]}),
    ],
)
def test_an_ordinary_answer_takes_one(name, body):
    assert dialect_called(name).takes_notice(body)
