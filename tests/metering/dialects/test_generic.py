import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import json_values, objects_with

from solaris_meter.metering.dialects.dialect import MAX_TOKENS, Answer
from solaris_meter.metering.dialects.generic import Generic

GENERIC = Generic()


def read(*bodies):
    answer = Answer()
    for body in bodies:
        GENERIC.read_body(answer, body)
    return answer.input_tokens, answer.output_tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}, (5, 7)),
        ({"usage": {"input_tokens": 5, "output_tokens": 7}}, (5, 7)),
        ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, (8, 0)),
        ({"response": {"usage": {"input_tokens": 5, "output_tokens": 7}}}, (5, 7)),
        ({"message": {"usage": {"input_tokens": 5, "output_tokens": 7}}}, (5, 7)),
        ({"usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 11, "totalTokenCount": 151}}, (40, 111)),
        ({"usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 12}}, (12, 0)),
        ({"meta": {"billed_units": {"input_tokens": 5, "output_tokens": 7}}}, (5, 7)),
        ({"usage": {"billed_units": {"input_tokens": 5}, "tokens": {"input_tokens": 71}}}, (5, 0)),
        ({"usage": {"input_tokens": 5, "output_tokens": 7}, "usage_breakdown": {"usage": {"input_tokens": 9}}}, (5, 7)),
        ({}, (None, None)),
        ({"usage": None}, (None, None)),
        ({"usage": {"seconds": 9}}, (None, None)),
        ({"usage": {"input_tokens": -1, "output_tokens": True}}, (None, None)),
    ],
)
def test_a_usage_that_is_known_is_read(body, tokens):
    assert read(body) == tokens


def test_of_a_cumulative_usage_the_last_counts():
    event = {"usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 1, "totalTokenCount": 41}}
    last = {"usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 9, "totalTokenCount": 49}}
    assert read(event, event, last, {}) == (40, 9)


def test_a_later_usage_takes_nothing_away_that_it_does_not_name():
    # As Anthropic streams it: the input at the beginning, the output at the end.
    begun, over = {"message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}, {"usage": {"output_tokens": 15}}
    assert read(begun, over) == (25, 15)
    assert read({"usage": {"input_tokens": 5, "output_tokens": 7}}, {"usage": {"input_tokens": 5}}) == (5, 7)


def test_a_streamed_event_is_read_like_a_body():
    answer = Answer()
    GENERIC.read_event(answer, {"response": {"usage": {"input_tokens": 5, "output_tokens": 7}}})
    assert (answer.input_tokens, answer.output_tokens) == (5, 7)


def test_an_unknown_endpoint_costs_nothing_that_is_not_reported():
    assert not GENERIC.counts_input
    assert GENERIC.ask_for_usage(b'{"stream":true}', GENERIC.read_request("/", {"stream": True}, 15)) is None


@pytest.mark.parametrize("key", ["max_tokens", "max_output_tokens", "max_completion_tokens"])
def test_each_spelling_of_a_limit_is_read(key):
    assert GENERIC.read_request("/v1/responses", {key: 50, "model": "gpt-5", "user": "u"}, 9).max_output == 50


def test_the_prompt_is_the_whole_body():
    body = {"input": "Olá", "model": "text-embedding-3-small"}
    request = GENERIC.read_request("/v1/embeddings", body, 50)
    assert request.model == "text-embedding-3-small"
    assert request.prompt().messages == ({"role": "user", "content": json.dumps(body)},)


@settings(deadline=None, max_examples=100)
@given(objects_with("model", "input", "messages", "contents", "max_tokens", "max_output_tokens", "user", "tools"))
def test_any_values_make_a_request(body):
    request = GENERIC.read_request("/v1/anything", body, 100)
    assert request.max_output is None or 0 < request.max_output <= MAX_TOKENS
    request.prompt()


COUNTS = st.dictionaries(
    st.sampled_from(
        ["prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens", "promptTokenCount"]
    )
    | st.sampled_from(["candidatesTokenCount", "totalTokenCount"]),
    json_values,
)
HOLDERS = st.dictionaries(st.sampled_from(["usage", "usageMetadata"]), COUNTS | json_values)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["usage", "usageMetadata", "response", "message"]), HOLDERS | COUNTS | json_values
        ),
        max_size=3,
    )
)
def test_any_values_make_an_answer_without_impossible_numbers(events):
    for number in read(*events):
        assert number is None or (type(number) is int and 0 <= number <= MAX_TOKENS)
