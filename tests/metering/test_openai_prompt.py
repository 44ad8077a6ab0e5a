import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import loaded_counter

from solaris_meter.metering.openai_prompt import chat_prompt, schema_text
from solaris_meter.metering.tokens import ATTACHMENT_ESTIMATE

HELLO = {"role": "user", "content": "Olá!"}
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("<|endoftext|>") | st.just("\ud83d")
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "name", "function", "arguments", "id", "url", "detail"])
            | st.sampled_from(["parameters", "properties", "items", "description", "json_schema", "schema", "refusal"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal", "novelty"])},
    optional={
        "text": JSON,
        "image_url": st.fixed_dictionaries(
            {"url": st.just("https://example.com/a.png"), "detail": st.sampled_from(["high", "original", 1])}
        ),
        "input_audio": JSON,
        "file": JSON,
    },
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool", "function", "developer"]) | JSON},
    optional={
        "content": JSON | st.lists(PARTS, max_size=3),
        "name": JSON,
        "tool_calls": JSON | st.lists(st.fixed_dictionaries({"id": JSON, "function": JSON}), max_size=3),
        "tool_call_id": JSON,
        "function_call": JSON,
        "refusal": JSON,
    },
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES | JSON, max_size=4) | JSON},
    optional={
        "tools": st.lists(st.fixed_dictionaries({"type": JSON, "function": JSON}) | JSON, max_size=3) | JSON,
        "functions": JSON,
        "tool_choice": JSON,
        "response_format": JSON,
        "modalities": JSON,
        "audio": JSON,
        "web_search_options": JSON,
    },
)


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


def asked(*messages, **more):
    return chat_prompt({"messages": list(messages)} | more)


def texts(prompt):
    return [message["content"] for message in prompt.messages]


def test_a_message_keeps_what_is_counted():
    prompt = asked({"role": "user", "name": "ana", "content": "Oi", "cache_control": {"type": "ephemeral"}})
    assert prompt.messages == ({"role": "user", "name": "ana", "content": "Oi"},)
    assert not prompt.opaque


def test_parts_are_one_text_and_files_are_counted():
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "original"}}
    sound = {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}
    parts = [{"type": "text", "text": "Olhe "}, picture, sound, {"type": "text", "text": "isto"}]
    prompt = asked({"role": "user", "content": parts})
    assert texts(prompt) == ["Olhe isto"]
    assert (prompt.attachments, prompt.opaque) == (2, False)


def test_what_was_refused_is_text_as_well():
    refused = {"role": "assistant", "content": None, "refusal": "Não posso."}
    part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "Não."}]}
    assert texts(asked(refused, part)) == ["Não posso.", "Não."]


@pytest.mark.parametrize("content", [{"text": "Oi"}, 7, [{"type": "novelty"}], [{"type": "text"}], [3]])
def test_content_that_nobody_knows_makes_the_prompt_opaque(content):
    prompt = asked({"role": "user", "content": content})
    assert prompt.opaque
    assert all(isinstance(text, str) for text in texts(prompt))


@pytest.mark.parametrize(
    "more",
    [
        {"web_search_options": {"search_context_size": "low"}},
        {"tools": [{"type": "web_search"}]},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy"}},
    ],
)
def test_what_the_provider_adds_unseen_makes_the_prompt_opaque(more):
    assert asked(HELLO, **more).opaque
    assert not asked(HELLO, modalities=["text"], tools=[{"type": "function", "function": {"name": "f"}}]).opaque


def test_calls_and_results_are_kept_with_their_ids():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    prompt = asked(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    )
    assert prompt.messages == (
        {"role": "assistant", "tool_calls": [call], "content": ""},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    )


def test_the_functions_of_old_are_tools():
    assert asked(HELLO, functions=[{"name": "f"}, None]).tools == ({"function": {"name": "f"}},)


def test_a_function_that_must_be_called_is_named():
    assert asked(HELLO, tool_choice={"type": "function", "function": {"name": "f"}}).choice == "f"
    assert asked(HELLO, function_call={"name": "g"}).choice == "g"
    others: list[Any] = ["auto", "required", "none", {}, {"function": {}}, {"function": 7}, 7]
    for choice in others:
        assert asked(HELLO, tool_choice=choice).choice == ""


def test_a_schema_is_shown_under_a_heading_without_what_the_model_need_not_know():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"required": {"type": "string", "title": "Exigido"}},
        "required": ["required"],
        "additionalProperties": False,
    }
    form = {"name": "Resposta", "description": "O que dizer", "strict": True, "schema": schema}
    assert (
        asked(HELLO, response_format={"type": "json_schema", "json_schema": form}).schema
        == """# Response Formats

## Resposta

// O que dizer
{"type":"object","properties":{"required":{"type":"string","title":"Exigido"}}}"""
    )


def test_the_description_of_a_schema_stands_above_it():
    text = schema_text("R", None, {"description": "Um recibo", "type": "object"})
    assert text == '# Response Formats\n\n## R\n\n// Um recibo\n{"type":"object"}'
    assert schema_text("R", "De fora", {"description": "De dentro"}).endswith('// De fora\n{"description":"De dentro"}')


def test_without_a_schema_nothing_is_shown():
    others: list[Any] = [None, "json", {"type": "json_object"}, {"json_schema": None}, {"json_schema": {"schema": []}}]
    for form in others:
        assert asked(HELLO, response_format=form).schema == ""


def test_the_surface_is_told():
    assert chat_prompt({}).surface == "chat"
    assert chat_prompt({}, "azure").surface == "azure"


def test_a_body_that_holds_nothing_is_an_empty_prompt():
    prompt = chat_prompt({})
    assert (prompt.messages, prompt.tools, prompt.schema, prompt.attachments) == ((), (), "", 0)


@settings(deadline=None, max_examples=300)
@given(BODIES)
def test_any_body_can_be_counted(counter, body):
    prompt = chat_prompt(body)
    for model in ("gpt-4o", "claude-sonnet-4-5"):
        counted = counter.count_prompt(model, prompt)
        assert counted.tokens >= prompt.attachments * ATTACHMENT_ESTIMATE
        if prompt.tools or prompt.schema or prompt.attachments or prompt.opaque:
            assert counted.basis == "estimated"


def test_a_body_as_deep_as_the_parser_takes_can_be_counted(counter):
    deep = json.loads('{"a":' * 900 + "1" + "}" * 900)
    body = {
        "messages": [{"role": "user", "content": deep}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": deep}}}}],
        "response_format": {"json_schema": {"name": "r", "schema": deep}},
    }
    assert counter.count_prompt("gpt-4o", chat_prompt(body)).basis == "estimated"
