import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from tests.metering.calls import REQUESTS, answer_of, open_call, read_whole, usage_of
from tests.metering.samples import json_objects, json_values, objects_with

from solaris_meter.metering.dialects.dialect import MAX_CHOICES, MAX_TOKENS, Answer, Json
from solaris_meter.metering.dialects.openai_chat import OpenAIChat

OPENAI = OpenAIChat()
PATH = "/v1/chat/completions"


def read(body, path=PATH):
    return OPENAI.read_request(path, body, len(json.dumps(body)))


def answer_to(body):
    answer = Answer()
    OPENAI.read_body(answer, body)
    return answer


def payloads_in(said):
    assert {name for name, _ in said} == {None}
    return [payload for _, payload in said]


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


def test_a_chunk_after_the_usage_takes_nothing_away():
    # With moderation OpenAI sends another chunk without choices behind the one with the usage.
    answer = Answer()
    events: list[Json] = [
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}},
        {"choices": [], "moderation": {"results": []}},
        {"choices": [], "usage": None},
    ]
    for event in events:
        OPENAI.read_event(answer, event)
    assert (answer.input_tokens, answer.output_tokens) == (5, 8)


def test_the_usage_of_a_choice_counts_like_its_own():
    answer = Answer()
    OPENAI.read_event(answer, {"choices": [{"delta": {}, "usage": {"prompt_tokens": 19, "completion_tokens": 13}}]})
    assert (answer.input_tokens, answer.output_tokens) == (19, 13)


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 4}}, 4),
        ({"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 1}, 4),
        ({"num_cached_tokens": 4}, 4),
        ({"cached_tokens": 4}, 4),
        ({"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 0}, 0),
        ({"prompt_tokens_details": {"cached_tokens": 99}}, 5),
        ({"prompt_tokens_details": None}, 0),
    ],
)
def test_each_provider_has_its_word_for_what_was_cached(usage, cached):
    answer = answer_to({"usage": {"prompt_tokens": 5, "completion_tokens": 1} | usage})
    assert (answer.input_tokens, answer.cached_input_tokens) == (5, cached)


def test_the_parts_of_the_input_are_never_more_than_it_is():
    details = {"cached_tokens": 8, "cache_write_tokens": 8}
    answer = answer_to({"usage": {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": details}})
    assert answer.cached_input_tokens == 8
    assert answer.cached_input_tokens + answer.cache_write_tokens <= 10


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.00064}, 0.00064),
        ({"cost": 0}, 0.0),
        ({"cost": {"input_tokens_cost": 0.001, "total_cost": 0.00903}}, 0.00903),
        ({"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.2}}, 0.01),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({"cost_in_usd_ticks": 37_756_000}, 0.0037756),
    ],
)
def test_a_price_that_the_provider_tells_is_kept(usage, usd):
    terms = answer_to({"usage": {"prompt_tokens": 5, "completion_tokens": 1} | usage}).terms
    assert terms["reported_usd"] == pytest.approx(usd)


@pytest.mark.parametrize("cost", [None, True, "0.1", {}, {"total_cost": None}, [0.1]])
def test_what_is_no_price_is_none(cost):
    assert "reported_usd" not in answer_to({"usage": {"prompt_tokens": 5, "completion_tokens": 1, "cost": cost}}).terms


def test_sound_and_pictures_among_the_tokens_are_told_apart():
    usage = {
        "prompt_tokens": 60,
        "completion_tokens": 90,
        "prompt_tokens_details": {"audio_tokens": 40, "image_tokens": 10},
        "completion_tokens_details": {"audio_tokens": 75, "image_tokens": 0},
    }
    assert answer_to({"service_tier": "flex", "model": "gpt-audio", "usage": usage}).terms == {
        "model": "gpt-audio",
        "service_tier": "flex",
        "audio_input_tokens": 40,
        "image_input_tokens": 10,
        "audio_output_tokens": 75,
    }


def test_a_search_model_searches_once():
    call = open_call(OPENAI, body={"model": "gpt-4o-search-preview", "messages": []})
    usage_of(call)
    assert call.price_terms.web_searches == 1


def test_an_azure_answer_names_its_model_after_an_empty_chunk():
    # The first chunk holds the results of the content filter and names nothing.
    call = answer_of("azure_chat_stream_usage.sse")
    usage_of(call)
    assert call.price_terms.model == "gpt-4o-2024-08-06"


def test_what_a_filter_took_away_was_read():
    # Azure bills the tokens of an answer that it does not show.
    usage = read_whole(OPENAI, {"choices": [{"index": 0, "finish_reason": "content_filter", "message": {}}]})
    assert usage.input_tokens > 0


def test_an_error_inside_a_success_costs_nothing():
    assert read_whole(OPENAI, {"error": {"message": "content filter", "code": "content_filter"}}) is None


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
    assert read({"model": "gpt-4o"}, path).model == "my-gpt4o"  # whatever the body says, the deployment runs
    assert read({}).model == "unknown"


def test_the_prompt_is_messages_tools_and_schema():
    prompt = read(REQUESTS["openai-chat"][1]).prompt()
    assert [message["role"] for message in prompt.messages] == ["system", "assistant", "tool", "user"]
    assert [message["content"] for message in prompt.messages] == ["Seja breve.", "", "42", "E?"]
    assert [tool["function"]["name"] for tool in prompt.tools] == ["clima"]
    assert '"type":["string","null"]' in prompt.schema
    assert prompt.attachments == 1
    assert prompt.surface == "chat"
    assert read({"messages": []}, "/openai/deployments/d/chat/completions").prompt().surface == "azure"


def test_each_answer_that_is_asked_for_counts():
    request = read(REQUESTS["openai-chat"][1])
    assert (request.choices, request.max_output) == (2, 50)
    assert read({"n": 10**6}).choices == MAX_CHOICES
    assert [read({"n": odd}).choices for odd in (None, 0, -1, True, "x", 1.5)] == [1] * 6


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
    *chunks, done = payloads_in(OPENAI.ending(answer, "FIM", 3, 4, usage=True))
    assert done == "[DONE]"
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
    *chunks, _ = payloads_in(OPENAI.ending(answer, "", 3, 4, usage=False))
    assert [json.loads(chunk)["choices"][0]["index"] for chunk in chunks] == [0, 2, 1]


def test_the_sdk_accepts_an_ending():
    state = ChatCompletionStreamState()
    events = [
        {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "gpt-4o", "choices": [choice]}
        for choice in (
            {"index": 0, "delta": {"role": "assistant", "content": "Olá"}, "finish_reason": None},
            {"index": 1, "delta": {"role": "assistant", "content": "Oi"}, "finish_reason": None},
        )
    ]
    answer = Answer()
    for event in events:
        OPENAI.read_event(answer, event)
    *said, _ = payloads_in(OPENAI.ending(answer, "FIM", 3, 4, usage=True))
    for event in [*events, *map(json.loads, said)]:
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    whole = state.current_completion_snapshot
    assert [choice.message.content for choice in whole.choices] == ["OláFIM", "Oi"]
    assert {choice.finish_reason for choice in whole.choices} == {"length"}
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7


def test_an_ending_shows_usage_only_to_who_asked():
    assert "usage" not in "".join(payloads_in(OPENAI.ending(Answer(), "FIM", 3, 4, usage=False)))


def test_no_notice_stands_between_the_arguments_of_a_tool():
    answer = Answer()
    OPENAI.read_event(answer, {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{"}}]}}]})
    assert "FIM" not in "".join(payloads_in(OPENAI.ending(answer, "FIM", 3, 4, usage=False)))


def test_a_refusal_is_openais_error():
    denial = OPENAI.denial(429, "insufficient_quota", "Acabou.", plain=False)["error"]
    assert (denial["type"], denial["code"]) == ("insufficient_quota", "insufficient_quota")
    assert json.loads(denial["message"]) == {"type": "google_error", "info": "Acabou."}
    assert OPENAI.denial(401, "identity_missing", "Quem?", plain=True) == {
        "error": {"message": "Quem?", "type": "authentication_error", "code": "identity_missing", "param": None}
    }


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
