import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import (
    EXPECTED,
    dialect_of,
    expected_totals,
    follow,
    json_objects,
    json_values,
    objects_with,
    payload,
    totals,
)

from solaris_meter.metering import sse
from solaris_meter.metering.dialects.dialect import MAX_TOKENS, Answer
from solaris_meter.metering.dialects.openai_chat import OpenAIChat

OPENAI = OpenAIChat()
PATH = "/v1/chat/completions"
MINE = [name for name in EXPECTED if EXPECTED[name]["dialect"] == "openai-chat"]


def read(body, path=PATH):
    return OPENAI.read_request(path, body, len(json.dumps(body)))


def answer_to(body):
    answer = Answer()
    OPENAI.read_body(answer, body)
    return answer


def events_of(data):
    decoder = sse.Decoder()
    return [event.data for event in decoder.feed(data)]


@pytest.mark.parametrize("name", MINE)
def test_each_providers_answer_gives_its_right_totals(name):
    assert dialect_of(name).name == "openai-chat"
    if name.endswith(".json"):
        answer = answer_to(json.loads(payload(name)))
    else:
        decoder = sse.Decoder()
        answer = follow(OPENAI, decoder.feed(payload(name)) + decoder.flush())
    assert totals(answer) == expected_totals(name)
    assert not answer.refused_usage


def test_what_the_total_holds_beyond_both_sides_is_output():
    # xAI and Gemini leave hidden reasoning out of completion_tokens.
    answer = answer_to({"usage": {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}})
    assert (answer.input_tokens, answer.output_tokens) == (32, 103)


def test_a_total_that_is_too_small_takes_nothing_away():
    answer = answer_to({"usage": {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 1}})
    assert answer.output_tokens == 9


def test_the_last_usage_wins_and_a_partial_one_erases_nothing():
    answer = Answer()
    for usage in (
        {"prompt_tokens": 5, "completion_tokens": 1},
        {"prompt_tokens": 5, "completion_tokens": 8},
        {"total_tokens": 13},
        None,
    ):
        OPENAI.read_event(answer, {"choices": [], "usage": usage})
    assert (answer.input_tokens, answer.output_tokens) == (5, 8)


def test_a_usage_by_model_is_no_second_usage():
    # Groq repeats the total by model.
    usage = {"prompt_tokens": 5, "completion_tokens": 8}
    answer = answer_to({"usage": usage, "usage_breakdown": {"models": [{"model": "a", "usage": usage}]}})
    assert (answer.input_tokens, answer.output_tokens) == (5, 8)


def test_embeddings_have_no_output_and_that_is_no_fault():
    answer = answer_to({"usage": {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}})
    assert (answer.input_tokens, answer.output_tokens, answer.refused_usage) == (8, 0, False)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "Olá"}, "Olá"),
        ({"content": [{"type": "text", "text": "Olá"}, {"type": "text", "text": "!"}]}, "Olá!"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]}, "Hm"),
        ({"refusal": "Não posso."}, "Não posso."),
        ({"reasoning_content": "Hm", "content": "Olá"}, "OláHm"),
        ({"reasoning": "Hm"}, "Hm"),
        ({"tool_calls": [{"function": {"name": "clima", "arguments": '{"a":1}'}}]}, 'clima{"a":1}'),
        ({"function_call": {"name": "clima", "arguments": "{}"}}, "clima{}"),
        ({"content": None, "tool_calls": None}, ""),
    ],
)
def test_everything_that_was_generated_is_text(message, text):
    assert "".join(answer_to({"choices": [{"message": message}]}).text) == text
    streamed = Answer()
    OPENAI.read_event(streamed, {"choices": [{"index": 0, "delta": message}]})
    assert "".join(streamed.text) == text


def test_every_choice_is_text():
    assert answer_to({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}).text == ["a", "b"]


def test_a_request_is_read():
    body = {
        "model": "gpt-4o",
        "stream": True,
        "max_tokens": 50,
        "user": "65f0",
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Olá"}],
    }
    request = read(body)
    assert (request.model, request.stream, request.max_output, request.user) == ("gpt-4o", True, 50, "65f0")
    assert request.wants_usage
    assert request.body is body
    assert request.prompt().messages == ({"role": "user", "content": "Olá"},)


def test_the_newer_limit_comes_first():
    assert read({"max_tokens": 50, "max_completion_tokens": 70}).max_output == 70
    assert read({"max_tokens": 50, "max_completion_tokens": None}).max_output == 50


@pytest.mark.parametrize("limit", [None, 0, -1, True, "50", 1.5, 10**12])
def test_a_limit_that_is_none_is_none(limit):
    assert read({"max_tokens": limit}).max_output is None


def test_azure_names_the_model_in_the_path():
    path = "/openai/deployments/my-gpt4o/chat/completions"
    assert read({}, path).model == "my-gpt4o"
    assert read({"model": "gpt-4o"}, path).model == "gpt-4o"
    assert read({}).model == "unknown"


def test_the_prompt_is_freed_of_what_litellm_counts_wrongly():
    body = {
        "messages": [
            {"role": "system", "content": "Seja breve."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "E?"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
    }
    prompt = read(body).prompt()
    assert prompt.messages == (
        {"role": "system", "content": "Seja breve."},
        {"role": "assistant", "content": "\nf {}"},
        {"role": "tool", "content": "42"},
        {"role": "user", "content": "E?"},
    )
    assert prompt.tools == ({"type": "function", "function": {"name": "f"}},)
    assert prompt.schema == '{"type": "object"}'
    assert prompt.attachments == 1


def test_usage_is_asked_for_and_every_other_byte_stays():
    raw = b'{ "model":"gpt-4o",\n "stream" : true, "seed":1.0e3, "x":"\\u00e9" }'
    asking = OPENAI.ask_for_usage(raw, read(json.loads(raw)))
    assert asking is not None
    assert asking.endswith(raw[1:])
    assert json.loads(asking) == json.loads(raw) | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}, "odd"])
def test_other_stream_options_are_kept(options):
    body = {"stream": True, "stream_options": options}
    asking = OPENAI.ask_for_usage(json.dumps(body).encode(), read(body))
    assert asking is not None
    kept = options if isinstance(options, dict) else {}
    assert json.loads(asking) == {"stream": True, "stream_options": kept | {"include_usage": True}}


def test_a_body_with_space_before_it_is_asked_as_well():
    body = {"stream": True}
    asking = OPENAI.ask_for_usage(b' \n{"stream": true}', read(body))
    assert asking is not None
    assert json.loads(asking) == {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    "body", [{}, {"stream": False}, {"stream": "yes"}, {"stream": True, "stream_options": {"include_usage": True}}]
)
def test_nothing_is_asked_where_usage_comes_anyway(body):
    assert OPENAI.ask_for_usage(json.dumps(body).encode(), read(body)) is None


@pytest.mark.parametrize(
    ("event", "only"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1}}, True),
        ({"choices": [], "usage": None}, False),
        ({"choices": [], "prompt_filter_results": []}, False),
        ({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}}, False),
        ({"usage": {"prompt_tokens": 1}}, False),
    ],
)
def test_only_a_chunk_of_nothing_but_usage_is_usage_only(event, only):
    assert OPENAI.is_usage_only(event) is only


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"model": "gpt-4o"}, "max_tokens"),
        ({"model": "gpt-4o", "max_tokens": 900}, "max_tokens"),
        ({"model": "gpt-4o", "max_completion_tokens": 900}, "max_completion_tokens"),
        ({"model": "o3-mini"}, "max_completion_tokens"),
        ({"model": "openai/gpt-5"}, "max_completion_tokens"),
        ({}, "max_tokens"),
    ],
)
def test_the_limit_is_set_where_the_model_takes_it(body, key):
    before = dict(body)
    assert OPENAI.limit_output(body, 7) == before | {key: 7}
    assert body == before


def test_an_ending_is_a_notice_a_length_finish_and_done():
    answer = Answer()
    OPENAI.read_event(answer, {"id": "c1", "created": 5, "model": "gpt-4o", "choices": [{"delta": {"content": "a"}}]})
    *chunks, done = events_of(OPENAI.ending(answer, "FIM", 3, 4, usage=True))
    assert done == b"[DONE]"
    notice, finish, usage = map(json.loads, chunks)
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "gpt-4o"}
    assert notice == base | {"choices": [{"index": 0, "delta": {"content": "FIM"}, "finish_reason": None}]}
    assert finish == base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    assert usage == base | {
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def test_an_ending_finishes_every_choice_that_was_begun():
    answer = Answer()
    for index in (0, 2, 1, 2):
        OPENAI.read_event(answer, {"choices": [{"index": index, "delta": {"content": "a"}}]})
    *chunks, _ = events_of(OPENAI.ending(answer, "", 3, 4, usage=False))
    assert [json.loads(chunk)["choices"][0]["index"] for chunk in chunks] == [0, 2, 1]


def test_an_ending_shows_usage_only_to_who_asked():
    assert b"usage" not in OPENAI.ending(Answer(), "FIM", 3, 4, usage=False)


def test_no_notice_stands_between_the_arguments_of_a_tool():
    answer = Answer()
    OPENAI.read_event(answer, {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}]})
    assert b"FIM" not in OPENAI.ending(answer, "FIM", 3, 4, usage=False)


@settings(deadline=None, max_examples=150)
@given(objects_with("model", "messages", "tools", "stream", "stream_options", "max_tokens", "user", "response_format"))
def test_any_values_make_a_request(body):
    request = OPENAI.read_request(PATH, body, 100)
    assert isinstance(request.model, str)
    assert request.max_output is None or 0 < request.max_output <= MAX_TOKENS
    request.prompt()
    OPENAI.ask_for_usage(json.dumps(body).encode(), request)
    OPENAI.limit_output(body, 5)


USAGES = json_values | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": json_values,
        "completion_tokens": json_values,
        "total_tokens": json_values,
        "prompt_tokens_details": json_values | st.fixed_dictionaries({"cached_tokens": json_values}),
        "completion_tokens_details": json_values | st.fixed_dictionaries({"reasoning_tokens": json_values}),
    },
)
CHOICES = json_values | st.lists(
    st.fixed_dictionaries({}, optional={"delta": json_objects, "message": json_objects, "usage": USAGES}), max_size=3
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={"choices": CHOICES, "usage": USAGES, "x_groq": st.fixed_dictionaries({"usage": USAGES})}
        ),
        max_size=4,
    )
)
def test_any_values_make_an_answer_without_impossible_numbers(events):
    answer = Answer()
    for event in events:
        OPENAI.read_event(answer, event)
        OPENAI.read_body(answer, event)
        OPENAI.is_usage_only(event)
    for number in (answer.input_tokens, answer.output_tokens):
        assert number is None or (type(number) is int and 0 <= number <= MAX_TOKENS)
    for part, whole in (
        (answer.cached_input_tokens, answer.input_tokens),
        (answer.reasoning_tokens, answer.output_tokens),
    ):
        assert type(part) is int
        assert 0 <= part <= (whole or 0)
    assert all(isinstance(piece, str) for piece in answer.text)
    OPENAI.ending(answer, "FIM", 1, 1, usage=True)
