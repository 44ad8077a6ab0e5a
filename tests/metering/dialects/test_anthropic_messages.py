import json
from typing import Any

import pydantic
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.calls import REQUESTS, read_whole
from tests.metering.samples import json_objects, json_values, objects_with

from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages
from solaris_meter.metering.dialects.dialect import MAX_TOKENS, Answer, Json

ANTHROPIC = AnthropicMessages()
PATH, ASKED = REQUESTS["anthropic"]


def read(body):
    return ANTHROPIC.read_request("/v1/messages", body, len(json.dumps(body)))


def after(*events):
    answer = Answer()
    for event in events:
        ANTHROPIC.read_event(answer, event)
    return answer


def start(**usage):
    return {"type": "message_start", "message": {"usage": usage}}


def delta(**usage):
    return {"type": "message_delta", "delta": {}, "usage": usage}


def ending_after(*events):
    said = ANTHROPIC.ending(after(*events), "FIM", 3, 4, usage=True)
    found = [json.loads(payload) for _, payload in said]
    assert [name for name, _ in said] == [event["type"] for event in found]
    return found


def test_the_first_guess_of_the_output_is_not_believed():
    answer = after(start(input_tokens=25, output_tokens=1))
    assert (answer.input_tokens, answer.output_tokens) == (25, None)


def test_a_later_usage_replaces_value_by_value():
    answer = after(
        start(input_tokens=2479, cache_read_input_tokens=10, cache_creation_input_tokens=5, output_tokens=1),
        delta(output_tokens=7),
        delta(input_tokens=404_500, cache_read_input_tokens=None, output_tokens=9),
    )
    assert (answer.input_tokens, answer.output_tokens) == (404_515, 9)
    assert (answer.cached_input_tokens, answer.cache_write_tokens) == (10, 5)


def test_iterations_are_summed_instead_of_the_top_level():
    # The top level leaves out compaction and advisor passes.
    passes = [{"input_tokens": 55_000, "output_tokens": 300}, {"input_tokens": 416, "output_tokens": 20}]
    answer = after(start(input_tokens=220), delta(input_tokens=220, output_tokens=20, iterations=passes))
    assert (answer.input_tokens, answer.output_tokens) == (55_416, 320)


def test_thinking_is_part_of_the_output():
    answer = after(start(input_tokens=1), delta(output_tokens=50, output_tokens_details={"thinking_tokens": 40}))
    assert (answer.output_tokens, answer.reasoning_tokens) == (50, 40)


def test_everything_that_was_generated_in_a_stream_is_text():
    answer = after(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EuYB"}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "name": "clima", "input": {}},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Olá"}},
        {"type": "ping"},
    )
    assert "".join(answer.text) == 'Hmclima{"a"Olá'


def test_everything_that_was_generated_in_a_body_is_text():
    answer = Answer()
    tool = {"type": "tool_use", "name": "clima", "input": {"cidade": "Porto"}}
    ANTHROPIC.read_body(answer, {"content": [{"type": "text", "text": "Olá"}, tool]})
    assert "".join(answer.text) == 'Oláclima{"cidade": "Porto"}'


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.max_output) == ("claude-sonnet-4-5", True, 64_000)
    assert (request.user, request.wants_usage, request.choices) == ("65f0", True, 1)


def test_the_prompt_is_system_messages_and_tools():
    prompt = read(ASKED).prompt()
    assert [message["role"] for message in prompt.messages] == ["system", "user", "assistant", "user", "user"]
    assert [message["content"] for message in prompt.messages] == ["Seja breve.", "Olá", 'f {"a": 1}', "42", ""]
    function = {"name": "f", "description": "F", "parameters": {"type": "object"}}
    assert prompt.tools == ({"type": "function", "function": function},)
    assert prompt.attachments == 1


def test_on_vertex_the_path_names_the_model():
    path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5%4020250929:streamRawPredict"
    body = {key: value for key, value in ASKED.items() if key != "model"}
    assert ANTHROPIC.read_request(path, body, 10).model == "claude-sonnet-4-5@20250929"


def test_usage_comes_without_being_asked_for():
    body = {"model": "claude-sonnet-4-5", "stream": True}
    assert ANTHROPIC.ask_for_usage(b'{"stream":true}', read(body)) is None
    assert not ANTHROPIC.is_usage_only(delta(output_tokens=1))


def test_the_limit_is_set():
    assert ANTHROPIC.limit_output({"max_tokens": 900, "model": "claude"}, 7) == {"max_tokens": 7, "model": "claude"}


def test_thinking_must_stay_below_the_limit():
    # The API refuses a budget that is not below max_tokens, and one of less than 1,024 tokens.
    thinks = {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 4000}}
    before = json.dumps(thinks)
    assert ANTHROPIC.limit_output(thinks, 5000)["thinking"]["budget_tokens"] == 4000
    assert ANTHROPIC.limit_output(thinks, 4000)["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert ANTHROPIC.limit_output(thinks, 2000) == {"max_tokens": 2000}
    assert json.dumps(thinks) == before


def test_a_cut_stream_keeps_the_tier_and_the_model_it_began_with():
    message = {
        "model": "claude-sonnet-4-5-20250929",
        "usage": {"input_tokens": 2, "service_tier": "priority"},
    }
    begun = {"type": "message_start", "message": message}
    assert after(begun).terms == {"model": "claude-sonnet-4-5-20250929", "service_tier": "priority"}


def test_what_the_price_depends_on_is_kept():
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 4,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        "service_tier": "standard",
    }
    answer = Answer()
    ANTHROPIC.read_body(answer, {"model": "claude-opus-4-5", "usage": usage})
    assert answer.terms == {
        "model": "claude-opus-4-5",
        "service_tier": "standard",
        "hour_cache_write_tokens": 200,
        "web_searches": 2,
    }
    assert (answer.input_tokens, answer.cache_write_tokens) == (303, 300)


def test_a_report_without_the_side_that_was_known_takes_nothing_away():
    answer = after(
        start(input_tokens=25, cache_read_input_tokens=5), delta(output_tokens=7), delta(), delta(input_tokens=None)
    )
    assert (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens) == (30, 7, 5)


def test_an_answer_of_nothing_but_an_error_costs_nothing():
    assert (
        read_whole(ANTHROPIC, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}) is None
    )


def test_a_refusal_has_its_code_where_the_sdk_of_librechat_looks():
    denial = ANTHROPIC.denial(429, "insufficient_quota", "Acabou.", plain=True)
    error = {"type": "rate_limit_error", "message": "Acabou."}
    assert denial == {"type": "error", "error": error, "code": "insufficient_quota", "message": "Acabou."}
    wrapped = ANTHROPIC.denial(402, "x", "Acabou.", plain=False)
    assert wrapped["error"]["type"] == "billing_error"
    assert json.loads(wrapped["message"])["info"] == "Acabou."


TEXT_STARTS = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
LAST = [
    {
        "type": "message_delta",
        "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    },
    {"type": "message_stop"},
]


def block(index):
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": "FIM"}},
        {"type": "content_block_stop", "index": index},
    ]


def test_in_a_text_the_notice_is_its_last_piece():
    assert ending_after(TEXT_STARTS) == block(0)[1:] + LAST


def test_after_a_text_the_notice_is_a_block_of_its_own():
    assert ending_after(TEXT_STARTS, {"type": "content_block_stop", "index": 0}) == block(1) + LAST


def test_thinking_is_closed_before_the_notice():
    thinking = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}}
    assert ending_after(thinking) == [{"type": "content_block_stop", "index": 0}, *block(1), *LAST]


def test_a_tool_call_is_closed_without_a_notice():
    tool = {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "name": "f"}}
    assert ending_after(tool) == [{"type": "content_block_stop", "index": 2}, *LAST]


def test_before_any_block_the_notice_is_the_first():
    assert ending_after(start(input_tokens=1)) == block(0) + LAST


def test_the_sdk_accepts_every_ending():
    events: list[Json] = [
        {
            "type": "message_start",
            "message": {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-4-5",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 1},
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "", "citations": None}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Olá"}},
        {"type": "content_block_stop", "index": 1},
    ]
    for count in range(1, len(events) + 1):
        message: Any = None
        buffers: dict[int, bytes] = {}
        for event in [*events[:count], *ending_after(*events[:count])]:
            parsed: Any = pydantic.TypeAdapter(RawMessageStreamEvent).validate_python(event)
            message = accumulate_event(event=parsed, current_snapshot=message, json_bufs=buffers)
        assert message.stop_reason == "max_tokens"
        assert message.usage.output_tokens == 4
        assert message.content[-1].text.endswith("FIM")


@settings(deadline=None, max_examples=150)
@given(objects_with("model", "system", "messages", "tools", "stream", "max_tokens", "metadata"))
def test_any_values_make_a_request(body):
    request = ANTHROPIC.read_request("/v1/messages", body, 100)
    assert isinstance(request.model, str)
    assert request.max_output is None or 0 < request.max_output <= MAX_TOKENS
    request.prompt()


BLOCKS = st.lists(objects_with("type", "text", "content", "name", "input", "thinking"), max_size=3)


@settings(deadline=None, max_examples=100)
@given(BLOCKS, BLOCKS)
def test_any_blocks_of_a_message_make_a_prompt(inner, outer):
    outer = [*outer, {"type": "tool_result", "content": inner}]
    ANTHROPIC.read_request("/", {"messages": [{"role": "user", "content": outer}]}, 100).prompt()


def test_a_prompt_nested_as_deeply_as_json_may_be_is_built():
    # Deeper than Python's own stack: newer parsers of JSON take more than 1,000 levels.
    content: object = "x"
    for _ in range(3000):
        content = [{"type": "tool_result", "content": content}]
    body = {"messages": [{"role": "user", "content": content}]}
    assert ANTHROPIC.read_request("/", body, 100).prompt().messages == ({"role": "user", "content": "x"},)


_NUMBERS = dict.fromkeys(
    (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "output_tokens_details",
    ),
    json_values,
)
USAGES = json_values | st.fixed_dictionaries(
    {}, optional=_NUMBERS | {"iterations": st.lists(st.fixed_dictionaries({}, optional=_NUMBERS), max_size=3)}
)
KINDS = st.sampled_from(
    ["message_start", "message_delta", "content_block_start", "content_block_delta", "content_block_stop", "ping"]
)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS | json_values},
    optional={
        "index": json_values,
        "delta": json_values,
        "content_block": json_objects | json_values,
        "usage": USAGES,
        "message": st.fixed_dictionaries({"usage": USAGES}) | json_values,
        "content": json_values | BLOCKS,
    },
)


@settings(deadline=None, max_examples=200)
@given(st.lists(EVENTS, max_size=5))
def test_any_values_make_an_answer_without_impossible_numbers(events):
    answer = Answer()
    for event in events:
        ANTHROPIC.read_event(answer, event)
        ANTHROPIC.read_body(answer, event)
    # Three numbers are added up, in up to three iterations.
    for number in (answer.input_tokens, answer.output_tokens):
        assert number is None or (type(number) is int and 0 <= number <= 9 * MAX_TOKENS)
    for part in (answer.cached_input_tokens, answer.cache_write_tokens, answer.reasoning_tokens):
        assert type(part) is int
        assert part >= 0
    assert answer.cached_input_tokens + answer.cache_write_tokens <= (answer.input_tokens or 0)
    assert all(isinstance(piece, str) for piece in answer.text)


@pytest.mark.parametrize("number", [-1, 10**12, True, "7", 1.5, float("nan"), float("inf")])
def test_an_impossible_number_is_refused_and_told(number):
    answer = after(start(input_tokens=25), delta(output_tokens=number))
    assert (answer.input_tokens, answer.output_tokens, answer.refused_usage) == (25, None, True)
