import asyncio
import json
import socket
import sys
import unicodedata
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import loaded_counter

from solaris_meter.metering.tokens import ATTACHMENT_ESTIMATE, Count, Prompt, TokenCounter

PORTUGUESE = "A renovação automática não é obrigatória, e as condições estão à disposição de cada usuário. " * 8
HELLO = Prompt(({"role": "user", "content": PORTUGUESE},))


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


@pytest.fixture(scope="module")
def o200k(counter):
    # The same file that litellm brings; asked for only after litellm has set where it is.
    return len(tiktoken.get_encoding("o200k_base").encode(PORTUGUESE))


@pytest.fixture(scope="module")
def cl100k(counter):
    return len(tiktoken.get_encoding("cl100k_base").encode(PORTUGUESE))


def refuse_tool(tool):
    """A request whose tool litellm cannot read."""
    return Prompt(({"role": "user", "content": PORTUGUESE},), tools=(tool,))


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4o-2024-11-20",
        "openai/gpt-4o",
        "azure/gpt-4o",
        "openrouter/openai/gpt-4o-mini",
        "ft:gpt-4o-mini-2024-07-18:acme::abc",
        "meu-gpt4o-producao",
        "GPT-4.1",
        "gpt-4.5-preview",
        "chatgpt-4o-latest",
        "openai/gpt-oss-120b",
    ],
)
def test_a_name_of_the_newer_family_is_counted_with_o200k(counter, o200k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k, "counted")


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "azure/gpt-35-turbo", "gpt-3.5-turbo-0125", "my-gpt4"])
def test_a_name_of_the_older_family_is_counted_with_cl100k(counter, cl100k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(cl100k, "counted")


def test_the_families_differ_enough_for_portuguese_to_matter(o200k, cl100k):
    assert cl100k > o200k * 1.15


@pytest.mark.parametrize("model", ["o1", "o3-mini", "openai/o4-mini", "gpt-5", "azure/gpt-5-mini"])
def test_the_answer_of_a_model_that_reasons_unseen_is_an_estimate(counter, o200k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k, "estimated")
    assert counter.count_prompt(model, HELLO).basis == "counted"


@pytest.mark.parametrize("model", ["unknown", "deployment-7", "llama-3.1-70b", "command-r-plus", "gemini-2.5-pro", ""])
def test_an_unknown_tokenizer_makes_an_estimate(counter, o200k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k, "estimated")


@pytest.mark.parametrize(
    "model", ["claude-sonnet-4-5", "anthropic/claude-3-haiku", "us.anthropic.claude-opus-4-5-v1:0"]
)
def test_claude_is_estimated_with_its_own_tokenizer(counter, o200k, model):
    counted = counter.count_answer(model, PORTUGUESE)
    assert counted.basis == "estimated"
    assert counted.tokens == counter.count_answer("claude-sonnet-4-5", PORTUGUESE).tokens != o200k


def test_a_plain_request_is_counted_exactly(counter):
    # OpenAI's cookbook: 3 tokens for each message and its role, and 3 to begin the answer.
    messages = ({"role": "system", "content": "Responda em português."}, {"role": "user", "content": "Olá!"})
    encoding = tiktoken.get_encoding("o200k_base")
    words = sum(
        len(encoding.encode(message["role"])) + len(encoding.encode(message["content"])) for message in messages
    )
    assert counter.count_prompt("gpt-4o", Prompt(messages)) == Count(words + 3 * 2 + 3, "counted")


def test_no_text_is_no_tokens(counter):
    assert counter.count_answer("gpt-4o", "") == Count(0, "counted")
    assert counter.quick("gpt-4o", "") == 0


def test_a_running_answer_is_counted_like_a_whole_one(counter, o200k):
    assert counter.quick("gpt-4o", PORTUGUESE) == o200k


def test_attachments_are_added_and_make_an_estimate(counter):
    plain = counter.count_prompt("gpt-4o", HELLO)
    with_pictures = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, attachments=2))
    assert with_pictures == Count(plain.tokens + 2 * ATTACHMENT_ESTIMATE, "estimated")


def test_tools_and_a_schema_are_counted_as_estimates(counter):
    plain = counter.count_prompt("gpt-4o", HELLO).tokens
    tool = {"type": "function", "function": {"name": "clima", "description": "O tempo", "parameters": {}}}
    schema = json.dumps({"type": "object", "properties": {"cidade": {"type": "string"}}})
    for prompt in (Prompt(HELLO.messages, tools=(tool,)), Prompt(HELLO.messages, schema=schema)):
        counted = counter.count_prompt("gpt-4o", prompt)
        assert counted.basis == "estimated"
        assert plain < counted.tokens < plain + 100


UNREADABLE_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}},
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": True}}}},
    {"type": "function", "function": None},
    {"type": "web_search"},
    {},
]


@pytest.mark.parametrize("tool", UNREADABLE_TOOLS)
def test_tools_that_litellm_cannot_read_are_survived(counter, tool):
    plain = counter.count_prompt("gpt-4o", HELLO).tokens
    counted = counter.count_prompt("gpt-4o", refuse_tool(tool))
    assert counted.basis == "estimated"
    assert plain - 10 < counted.tokens < plain + 100


def test_attachments_are_not_forgotten_where_litellm_cannot_read_the_tools(counter):
    plain = counter.count_prompt("gpt-4o", HELLO).tokens
    counted = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, tools=(UNREADABLE_TOOLS[0],), attachments=3))
    assert counted.tokens > plain + 3 * ATTACHMENT_ESTIMATE - 10


def test_special_tokens_and_lone_surrogates_are_text(counter):
    for text in ("<|endoftext|>", "metade \ud83d de um par"):
        assert counter.count_answer("gpt-4o", text).tokens > 0
        assert counter.count_prompt("gpt-4o", Prompt(({"role": "user", "content": text},))).tokens > 0


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=200))
def test_no_text_has_more_tokens_than_bytes(counter, text):
    for model in ("gpt-4o", "gpt-4"):
        assert counter.quick(model, text) <= len(text.encode())
    # Claude's tokenizer normalises first ("¼" becomes three characters); what is normalised already keeps the bound.
    plain = unicodedata.normalize("NFKC", text)
    assert counter.quick("claude-sonnet-4-5", plain) <= len(plain.encode())


def test_counting_opens_no_connection(counter, monkeypatch):
    def refuse(*args):
        raise AssertionError(f"counting connects to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
    for model in ("llama-3-8b", "meta-llama/Llama-2-7b-chat-hf", "replicate/llama", "command-r", "gpt-4o", "claude-3"):
        assert counter.count_prompt(model, HELLO).tokens > 100
        assert counter.count_answer(model, PORTUGUESE).tokens > 100
        assert counter.count_prompt(model, Prompt((picture,), attachments=1)).tokens > ATTACHMENT_ESTIMATE


def test_counting_does_not_hold_up_the_event_loop(counter):
    async def count():
        return await asyncio.gather(counter.prompt("gpt-4o", HELLO), counter.answer("gpt-4o", PORTUGUESE))

    prompt, answer = asyncio.run(count())
    assert prompt == counter.count_prompt("gpt-4o", HELLO)
    assert answer == counter.count_answer("gpt-4o", PORTUGUESE)


def test_before_litellm_is_there_a_running_answer_is_counted_roughly():
    counter = TokenCounter()
    assert not counter.ready
    assert counter.quick("gpt-4o", "ã" * 30) == 20
    assert counter.quick("gpt-4o", "a") == 1
    counter.close()


def test_without_litellm_everything_is_estimated_from_bytes(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "litellm", None)  # what an import of a missing package looks like
    counter = TokenCounter()
    counter.start()
    assert counter.count_answer("gpt-4o", "x" * 300) == Count(100, "estimated")
    assert counter.count_prompt("gpt-4o", Prompt(({"role": "user", "content": "x" * 300},))).tokens >= 100
    assert not counter.ready
    assert "litellm cannot be loaded" in caplog.text
    counter.close()
