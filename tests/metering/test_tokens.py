import asyncio
import json
import random
import socket
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import loaded_counter

from solaris_meter.metering import typescript
from solaris_meter.metering.openai_prompt import schema_text
from solaris_meter.metering.tokens import (
    ATTACHMENT_ESTIMATE,
    MAX_WAITING,
    Calibration,
    Count,
    Prompt,
    TokenCounter,
    knows,
)

PORTUGUESE = "A renovação automática não é obrigatória, e as condições estão à disposição de cada usuário. " * 8
HELLO = Prompt(({"role": "user", "content": PORTUGUESE},))
CLAUDE = "claude-sonnet-4-5"
WEATHER = {
    "type": "function",
    "function": {
        "name": "clima",
        "description": "O tempo numa cidade",
        "parameters": {"type": "object", "properties": {"cidade": {"type": "string"}}, "required": ["cidade"]},
    },
}
CITY = '{"cidade":"Recife"}'


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


@pytest.fixture(scope="module")
def encoded(counter):
    """The tokens of a text in an encoding, counted without LiteLLM from the file it brings."""

    def count(text, encoding="o200k_base"):
        return len(tiktoken.get_encoding(encoding).encode(text, disallowed_special=()))

    return count


@pytest.fixture(scope="module")
def o200k(encoded):
    return encoded(PORTUGUESE)


@pytest.fixture(scope="module")
def cl100k(encoded):
    return encoded(PORTUGUESE, "cl100k_base")


def one(content, role="user", **more):
    return {"role": role, "content": content} | more


def call(identity, name, arguments):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


# which tokenizer


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4o-2024-11-20",
        "openai/gpt-4o",
        "azure/gpt-4o",
        "openrouter/openai/gpt-4o-mini:free",
        "ft:gpt-4o-mini-2024-07-18:acme::abc",
        "ft:gpt-4o-2024-08-06:gpt-3.5-fans::abc",
        "gpt-4o-2024-08-06.ft-0123",
        "meu-gpt4o-producao",
        "GPT-4.1",
        "gpt-41-mini",
        "gpt-4.5-preview",
        "chatgpt-4o-latest",
        "gpt-4o-audio-preview",
        "gpt-realtime",
    ],
)
def test_a_name_of_the_newer_family_is_counted_with_o200k(counter, o200k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k, "counted")
    assert knows(model)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4",
        "gpt-4-32k-0613",
        "gpt-4-turbo",
        "gpt-4-1106-preview",
        "gpt-4-0125-preview",
        "azure/gpt-35-turbo",
        "gpt-3.5-turbo-0125",
        "ft:gpt-3.5-turbo-0613:my-gpt-4o::id",
        "my-gpt4",
        "davinci-002",
        "babbage-002",
    ],
)
def test_a_name_of_the_older_family_is_counted_with_cl100k(counter, cl100k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(cl100k, "counted")
    assert knows(model)


def test_the_families_differ_enough_for_portuguese_to_matter(o200k, cl100k):
    assert cl100k > o200k * 1.15


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "openai/o4-mini", "gpt-5", "azure/gpt-5-mini", "gpt-5.1", "gpt-6", "gpt-10-nano", "o5"]
)
def test_the_answer_of_a_model_that_reasons_unseen_is_an_estimate(counter, o200k, model):
    # Harmony: `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>` stands around it.
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k + 9, "estimated")
    # …and `<|start|>assistant` is all that begins it.
    plain = counter.count_prompt("gpt-4o", HELLO)
    assert counter.count_prompt(model, HELLO) == Count(plain.tokens - 1, "counted")
    assert knows(model)


@pytest.mark.parametrize("model", ["gpt-4o-search-preview", "gpt-5-search-api", "o3-deep-research", "gpt-oss-120b"])
def test_a_model_that_reads_what_the_request_does_not_hold_is_estimated(counter, model):
    assert knows(model)
    assert counter.count_prompt(model, HELLO).basis == "estimated"
    assert counter.count_answer(model, PORTUGUESE).basis == "estimated"


@pytest.mark.parametrize(
    "model",
    [
        *(
            "unknown",
            "deployment-7",
            "llama-3.1-70b",
            "command-r-plus",
            "gemini-2.5-pro",
            "",
            "/",
            "gpt4all-j",
            "gpt-j",
        ),
        *("marco-o1", "text-embedding-004", "deepseek-r1", "qwen3-235b"),
    ],
)
def test_an_unknown_tokenizer_makes_an_estimate(counter, o200k, model):
    assert counter.count_answer(model, PORTUGUESE) == Count(o200k, "estimated")
    assert counter.count_prompt(model, HELLO).basis == "estimated"
    assert not knows(model)


def test_the_oldest_models_are_estimated_with_the_tokenizer_next_to_theirs(counter, cl100k):
    for model in ("text-davinci-003", "davinci", "code-davinci-002:ft-acme", "curie"):
        assert counter.count_answer(model, PORTUGUESE).tokens == cl100k
    assert not knows("text-davinci-003")


@pytest.mark.parametrize("model", [CLAUDE, "anthropic/claude-3-haiku", "us.anthropic.claude-opus-4-5-v1:0"])
def test_claude_is_estimated_with_its_own_tokenizer(counter, o200k, model):
    counted = counter.count_answer(model, PORTUGUESE)
    assert counted.basis == "estimated"
    assert counted.tokens == counter.count_answer(CLAUDE, PORTUGUESE).tokens != o200k


# requests


def test_a_plain_request_is_counted_exactly(counter, encoded):
    # OpenAI's cookbook: 3 tokens for each message besides its role, 1 for a name, and 3 to begin the answer.
    messages = (one("Responda em português.", "system"), one("Olá!", name="ana"))
    words = sum(map(encoded, ["system", "Responda em português.", "user", "Olá!", "ana"]))
    assert counter.count_prompt("gpt-4o", Prompt(messages)) == Count(words + 3 * 2 + 1 + 3, "counted")


def test_a_prompt_without_messages_is_its_text_alone(counter, encoded):
    assert counter.count_prompt("davinci-002", Prompt((), text="Era uma vez")) == Count(
        encoded("Era uma vez", "cl100k_base"), "counted"
    )
    assert counter.count_prompt("davinci-002", Prompt((), token_ids=17)) == Count(17, "counted")
    assert counter.count_prompt("gpt-4o", Prompt(())) == Count(0, "counted")


def test_a_long_text_is_not_cut_within_its_words(counter, encoded):
    words = ["A", "renovação", "automática,", "1234567", "vezes;\n\nfoi-se", "", "", "dia\tde", "sol...", "não!", "\n"]
    text = " ".join(random.Random(7).choices(words, k=6_000))
    for model, encoding in (("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")):
        assert counter.count_answer(model, text) == Count(encoded(text, encoding), "counted")


def test_a_text_without_words_is_counted_in_pieces(counter, encoded):
    for text in ("語" * 10_000, " " * 10_000, "x" * 10_000):
        assert counter.count_answer("gpt-4o", text).tokens == pytest.approx(encoded(text), rel=0.01)


def test_functions_are_a_section_of_the_system_message(counter, encoded):
    section = typescript.namespace([WEATHER])
    with_system = Prompt((one("Seja breve:", "system"), one("Oi")), tools=(WEATHER,))
    words = sum(map(encoded, ["system", f"Seja breve:\n\n{section}", "user", "Oi"]))
    assert counter.count_prompt("gpt-4o", with_system) == Count(words + 3 * 2 + 3 - 1, "estimated")
    without = Prompt((one("Oi"),), tools=(WEATHER,))
    words = sum(map(encoded, ["system", section, "user", "Oi"]))
    assert counter.count_prompt("gpt-4o", without) == Count(words + 3 * 2 + 3 - 1, "estimated")


def test_a_developer_is_a_system(counter):
    as_system, as_developer = (
        counter.count_prompt("gpt-4o", Prompt((one("Seja breve", role), one("Oi")), tools=(WEATHER,))).tokens
        for role in ("system", "developer")
    )
    assert as_system == as_developer


def test_a_schema_is_a_section_of_the_system_message(counter, encoded):
    section = schema_text("Resposta", None, {"type": "object", "properties": {"cidade": {"type": "string"}}})
    words = sum(map(encoded, ["system", section, "user", "Oi"]))
    counted = counter.count_prompt("gpt-4o", Prompt((one("Oi"),), schema=section))
    assert counted == Count(words + 3 * 2 + 3 + 4, "estimated")


def test_counting_changes_nothing_in_a_prompt(counter):
    prompt = Prompt((one("Seja breve", "system"),), tools=(WEATHER,), schema="{}")
    assert counter.count_prompt("gpt-4o", prompt) == counter.count_prompt("gpt-4o", prompt)
    assert prompt.messages == ({"role": "system", "content": "Seja breve"},)


def test_a_call_is_addressed_and_its_result_is_signed(counter, encoded):
    history = (
        one("Como está o tempo?"),
        one("", "assistant", tool_calls=[call("c1", "clima", '{ "cidade": "Recife" }')]),
        one("Sol", "tool", tool_call_id="c1"),
    )
    asked = 3 + encoded("user") + encoded("Como está o tempo?")
    called = 3 + encoded("assistant") + 4 + encoded("clima") + encoded(CITY)
    answered = 3 + 2 + encoded("clima") + encoded("Sol")
    assert counter.count_prompt("gpt-4o", Prompt(history)) == Count(asked + called + answered + 3, "estimated")


def test_a_message_with_text_and_a_call_is_two(counter, encoded):
    alone = counter.count_prompt("gpt-4o", Prompt((one("", "assistant", tool_calls=[call("c1", "f", "{}")]),)))
    spoken = counter.count_prompt("gpt-4o", Prompt((one("Vejamos", "assistant", tool_calls=[call("c1", "f", "{}")]),)))
    assert spoken.tokens - alone.tokens == 3 + encoded("assistant") + encoded("Vejamos")


def test_the_calls_of_old_are_counted_like_new_ones(counter):
    new = (one(None, "assistant", tool_calls=[call("c", "f", CITY)]), one("Sol", "tool", tool_call_id="c"))
    old = (one(None, "assistant", function_call={"name": "f", "arguments": CITY}), one("Sol", "function", name="f"))
    assert counter.count_prompt("gpt-4", Prompt(new)) == counter.count_prompt("gpt-4", Prompt(old))


def test_several_calls_are_one_call_of_all(counter, encoded):
    calls = [call("a", "clima", '{"cidade": "Recife"}'), call("b", "hora", "{}")]
    text = (
        '{"tool_uses":[{"recipient_name":"functions.clima","parameters":{"cidade":"Recife"}},'
        '{"recipient_name":"functions.hora","parameters":{}}]}'
    )
    counted = counter.count_prompt("gpt-4o", Prompt((one("", "assistant", tool_calls=calls),)))
    assert counted.tokens == 3 + encoded("assistant") + 6 + encoded(text) + 3


def test_a_function_that_must_be_called_is_named_again(counter, encoded):
    free = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, tools=(WEATHER,))).tokens
    forced = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, tools=(WEATHER,), choice="clima")).tokens
    assert forced == free + 7 + encoded("clima")


def test_responses_count_tools_a_little_differently(counter):
    messages = (one("Seja breve", "system"), one("Oi"))
    chat, responses = (
        counter.count_prompt("gpt-4o", Prompt(messages, tools=(WEATHER,), surface=surface)).tokens
        for surface in ("chat", "responses")
    )
    assert responses == chat - 3
    plain = Prompt(messages, surface="responses")
    assert counter.count_prompt("gpt-4o", plain) == counter.count_prompt("gpt-4o", Prompt(messages))


def test_attachments_are_added_and_make_an_estimate(counter):
    plain = counter.count_prompt("gpt-4o", HELLO)
    with_pictures = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, attachments=2))
    assert with_pictures == Count(plain.tokens + 2 * ATTACHMENT_ESTIMATE, "estimated")


def test_what_is_opaque_is_an_estimate(counter):
    plain = counter.count_prompt("gpt-4o", HELLO)
    opaque = Prompt(HELLO.messages, opaque=True)
    assert counter.count_prompt("gpt-4o", opaque) == Count(plain.tokens, "estimated")
    assert counter.count_answer("gpt-4o", "Oi", prompt=opaque).basis == "estimated"


UNREADABLE_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}},
    {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": True}}}},
    {"type": "function", "function": None},
    {"type": "web_search"},
    {},
]


@pytest.mark.parametrize("tool", UNREADABLE_TOOLS)
def test_tools_that_litellm_cannot_read_are_counted(counter, tool):
    plain = counter.count_prompt("gpt-4o", HELLO).tokens
    counted = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, tools=(tool,), attachments=3))
    assert counted.basis == "estimated"
    assert plain <= counted.tokens - 3 * ATTACHMENT_ESTIMATE < plain + 100


def test_what_cannot_be_counted_as_a_request_is_counted_as_text(counter, o200k, monkeypatch, caplog):
    def fail(*args):
        raise ValueError("nothing to be done")

    monkeypatch.setattr(typescript, "namespace", fail)
    counted = counter.count_prompt("gpt-4o", Prompt(HELLO.messages, tools=(WEATHER,), attachments=1))
    assert counted.basis == "estimated"
    assert counted.tokens > o200k + ATTACHMENT_ESTIMATE
    assert "cannot be counted as such" in caplog.text


def test_special_tokens_and_lone_surrogates_are_text(counter):
    for text in ("<|endoftext|>", "<|im_start|>", "metade \ud83d de um par"):
        assert counter.count_answer("gpt-4o", text).tokens > 1
        assert counter.count_prompt("gpt-4o", Prompt((one(text),))).tokens > 8
        assert counter.quick("gpt-4o", text) > 1


# answers


def test_no_text_is_no_tokens(counter):
    for model in ("gpt-4o", "gpt-5", CLAUDE):
        assert counter.count_answer(model, "", prompt=Prompt((), tools=(WEATHER,))).tokens == 0
        assert counter.quick(model, "") == 0


def test_a_running_answer_is_counted_like_a_whole_one(counter, o200k):
    assert counter.quick("gpt-4o", PORTUGUESE) == o200k


def test_an_answer_that_could_have_been_a_call_says_so_with_a_token(counter, encoded):
    offered = Prompt(HELLO.messages, tools=(WEATHER,))
    assert counter.count_answer("gpt-4o", "Sol.", prompt=offered) == Count(encoded("Sol.") + 1, "counted")
    assert counter.count_answer("gpt-4o", "Sol.", prompt=HELLO) == Count(encoded("Sol."), "counted")


def test_a_call_costs_more_than_its_name_and_arguments(counter, encoded):
    offered = Prompt(HELLO.messages, tools=(WEATHER,))
    words = encoded("clima") + encoded(CITY)
    counted = counter.count_answer("gpt-4o", f"clima{CITY}", calls=[("clima", CITY)], prompt=offered)
    assert counted == Count(words + 7, "estimated")
    spoken = counter.count_answer("gpt-4o", f"Vejamos.clima{CITY}", calls=[("clima", CITY)], prompt=offered)
    assert spoken.tokens == counted.tokens + encoded("Vejamos.")


def test_gpt_4_calls_with_fewer_tokens(counter, encoded):
    words = encoded("f", "cl100k_base") + encoded(CITY, "cl100k_base")
    assert counter.count_answer("gpt-4-0613", f"f{CITY}", calls=[("f", CITY)]).tokens == words + 4
    assert counter.count_answer("gpt-4-turbo", f"f{CITY}", calls=[("f", CITY)]).tokens == words + 7


def test_the_name_of_a_function_that_must_be_called_is_not_written(counter, encoded):
    forced = Prompt(HELLO.messages, tools=(WEATHER,), choice="clima")
    counted = counter.count_answer("gpt-4o", f"clima{CITY}", calls=[("clima", CITY)], prompt=forced)
    assert counted.tokens == encoded(CITY)


def test_several_calls_in_an_answer_are_one_call_of_all(counter, encoded):
    calls = [("clima", '{"cidade": "Recife"}'), ("clima", '{"cidade": "Olinda"}')]
    text = (
        '{"tool_uses":[{"recipient_name":"functions.clima","parameters":{"cidade":"Recife"}},'
        '{"recipient_name":"functions.clima","parameters":{"cidade":"Olinda"}}]}'
    )
    counted = counter.count_answer("gpt-4o", "".join(map("".join, calls)), calls=calls)
    assert counted.tokens == encoded(text) + 10


def test_a_call_that_was_cut_short_is_counted(counter, encoded):
    counted = counter.count_answer("gpt-4o", 'clima{"cida', calls=[("clima", '{"cida')])
    assert counted == Count(encoded("clima") + encoded('{"cida') + 7, "estimated")
    several = counter.count_answer("gpt-4o", 'f{}g{"ci', calls=[("f", "{}"), ("g", '{"ci')])
    assert several.tokens > encoded('f{}g{"ci')


def test_the_end_of_an_answer_is_counted_where_the_surface_counts_it(counter, encoded):
    def tokens(model, surface):
        return counter.count_answer(model, "Sol.", prompt=Prompt((one("Oi"),), surface=surface)).tokens

    assert tokens("gpt-4.1", "chat") == encoded("Sol.")
    assert tokens("gpt-4.1", "azure") == encoded("Sol.") + 1
    assert tokens("gpt-4.1", "responses") == encoded("Sol.") + 1
    assert tokens("gpt-35-turbo", "azure") == encoded("Sol.", "cl100k_base")
    assert tokens("gpt-5", "responses") == encoded("Sol.") + 6


# calibration


def test_an_unknown_tokenizer_is_scaled_by_what_the_input_really_was(counter):
    counted = counter.count_prompt(CLAUDE, HELLO).tokens
    plain = counter.count_answer(CLAUDE, PORTUGUESE).tokens
    for factor in (0.8, 1.0, 1.3):
        scaled = counter.count_answer(CLAUDE, PORTUGUESE, Calibration(round(counted * factor), HELLO))
        assert scaled.tokens == pytest.approx(plain * factor, rel=0.01)
        assert scaled.basis == "estimated"


@pytest.mark.parametrize(("reported", "factor"), [(0, 0.5), (1, 0.5), (10**6, 2.5)])
def test_a_calibration_stays_within_reason(counter, reported, factor):
    plain = counter.count_answer("gemini-2.5-pro", PORTUGUESE).tokens
    scaled = counter.count_answer("gemini-2.5-pro", PORTUGUESE, Calibration(reported, HELLO))
    assert scaled.tokens == round(plain * factor)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((one("Oi"),)),
        Prompt(HELLO.messages, attachments=1),
        Prompt(HELLO.messages, tools=(WEATHER,)),
        Prompt(HELLO.messages, schema="{}"),
        Prompt(HELLO.messages, opaque=True),
        Prompt((*HELLO.messages, one("", "assistant", tool_calls=[call("c", "f", "{}")]))),
        Prompt(()),
    ],
)
def test_a_prompt_that_tells_nothing_calibrates_nothing(counter, prompt):
    plain = counter.count_answer(CLAUDE, PORTUGUESE)
    assert counter.count_answer(CLAUDE, PORTUGUESE, Calibration(5_000, prompt)) == plain


def test_a_known_tokenizer_is_never_scaled(counter, o200k):
    assert counter.count_answer("gpt-4o", PORTUGUESE, Calibration(5_000, HELLO)) == Count(o200k, "counted")


# threads


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=200))
def test_no_text_has_more_tokens_than_bytes(counter, text):
    for model in ("gpt-4o", "gpt-4"):
        assert counter.quick(model, text) <= len(text.encode())
    # Claude's tokenizer normalises first ("¼" becomes three characters); what is normalised already keeps the bound.
    plain = unicodedata.normalize("NFKC", text)
    assert counter.quick(CLAUDE, plain) <= len(plain.encode())


def test_counting_opens_no_connection(counter, monkeypatch):
    def refuse(*args):
        raise AssertionError(f"counting connects to {args[1:]}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    url = {"url": "https://example.com/a.png", "detail": "high"}
    picture = one([{"type": "image_url", "image_url": url}])
    everything = Prompt((*HELLO.messages, picture), tools=(WEATHER,), schema="{}", attachments=1)
    for model in ("llama-3-8b", "meta-llama/Llama-2-7b-chat-hf", "replicate/llama", "command-r", "gpt-4o", "claude-3"):
        assert counter.count_prompt(model, HELLO).tokens > 100
        assert counter.count_answer(model, PORTUGUESE, Calibration(200, HELLO)).tokens > 100
        assert counter.count_prompt(model, everything).tokens > ATTACHMENT_ESTIMATE
        assert counter.quick(model, PORTUGUESE) > 100


def test_counting_does_not_hold_up_the_event_loop(counter):
    async def count():
        return await asyncio.gather(
            counter.prompt("gpt-4o", HELLO),
            counter.answer("gpt-4o", PORTUGUESE),
            counter.answer(CLAUDE, PORTUGUESE, Calibration(250, HELLO), calls=[("f", "{}")], prompt=HELLO),
        )

    prompt, answer, calibrated = asyncio.run(count())
    assert prompt == counter.count_prompt("gpt-4o", HELLO)
    assert answer == counter.count_answer("gpt-4o", PORTUGUESE)
    assert calibrated == counter.count_answer(
        CLAUDE, PORTUGUESE, Calibration(250, HELLO), calls=[("f", "{}")], prompt=HELLO
    )


def test_many_threads_count_alike(counter):
    rounds = [(model, f"{PORTUGUESE} {number % 7}") for number in range(60) for model in ("gpt-4o", "gpt-4", CLAUDE)]
    alone = [counter.count_answer(*each) for each in rounds]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda each: counter.count_answer(*each), rounds)) == alone


def test_a_queue_in_the_background_delays_nobody(counter):
    release = threading.Event()
    done: list[int] = []
    futures = [counter.in_background(release.wait)]
    futures += [counter.in_background(lambda number=number: done.append(number)) for number in range(MAX_WAITING + 10)]
    assert sum(future is None for future in futures) == 11  # the queue is full
    counted = asyncio.run(asyncio.wait_for(counter.prompt("gpt-4o", HELLO), timeout=5))
    assert counted == counter.count_prompt("gpt-4o", HELLO)
    assert done == []
    release.set()
    for future in futures:
        if future is not None:
            future.result(timeout=5)
    assert done == list(range(MAX_WAITING - 1))
    again = counter.in_background(lambda: done.append(-1))  # there is room again
    assert again is not None
    again.result(timeout=5)
    assert done[-1] == -1


def test_what_fails_in_the_background_is_logged(counter, caplog):
    failing = counter.in_background(lambda: 1 // 0)
    assert failing is not None
    failing.result(timeout=5)
    assert "ZeroDivisionError" in caplog.text


def test_after_the_end_nothing_is_done_in_the_background():
    counter = TokenCounter()
    counter.close()
    assert counter.in_background(print) is None


# without LiteLLM


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
    prompt = Prompt(({"role": "user", "content": "x" * 300},), tools=(WEATHER,), attachments=1, token_ids=7)
    counted = counter.count_prompt("gpt-4o", prompt)
    assert counted.basis == "estimated"
    assert counted.tokens > 100 + len(json.dumps(WEATHER)) // 6 + ATTACHMENT_ESTIMATE + 7
    assert not counter.ready
    assert "litellm cannot be loaded" in caplog.text
    counter.close()


def test_a_text_that_litellm_fails_on_is_estimated_from_bytes(counter, monkeypatch, caplog):
    def fail(**arguments):
        raise RuntimeError("broken tokenizer")

    monkeypatch.setattr(counter, "_count", fail)
    assert counter.quick("gpt-4o", "x" * 300) == 100
    assert counter.count_answer("gpt-4o", "x" * 300).tokens == 100
    assert counter.count_answer("gpt-4o", "", calls=[("f", "{}"), ("g", "{}")]).tokens > 10
    assert counter.count_prompt("gpt-4o", Prompt((one("x" * 300),))).basis == "estimated"
    assert "cannot count a text" in caplog.text
