import json

import pytest
from openai.types import Completion
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, read_whole

from solaris_meter.metering.dialects.dialect import MAX_CHOICES, Answer
from solaris_meter.metering.dialects.openai_completions import OpenAICompletions

COMPLETIONS = OpenAICompletions()
PATH, ASKED = REQUESTS["openai-completions"]


def read(body, path=PATH):
    return COMPLETIONS.read_request(path, body, len(json.dumps(body)))


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.max_output) == ("davinci-002", True, 20)
    assert not request.wants_usage
    assert read({}, "/openai/deployments/meu-gpt/completions").model == "meu-gpt"


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": "a", "n": 3}, 3),
        ({"prompt": "a", "n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": []}, 1),
        ({}, 1),
        ({"prompt": ["a"] * 200}, MAX_CHOICES),
        ({"prompt": ["a"] * 200, "n": 10**9}, MAX_CHOICES),
    ],
)
def test_every_prompt_gets_its_answers(body, choices):
    assert read(body).choices == choices


@pytest.mark.parametrize(
    ("prompt", "text", "ids"),
    [
        ("Olá", "Olá", 0),
        (["um", "dois"], "um\ndois", 0),
        ([1, 2, 3], "", 3),
        ([[1, 2], [3]], "", 3),
        (["um", [1, 2]], "um", 2),
        (None, "", 0),
    ],
)
def test_the_prompt_is_texts_and_tokens(prompt, text, ids):
    found = read({"prompt": prompt}).prompt()
    assert (found.messages, found.text, found.token_ids) == ((), text, ids)


def test_usage_is_asked_for_and_is_an_event_of_its_own():
    asking = COMPLETIONS.ask_for_usage(json.dumps(ASKED).encode(), read(ASKED))
    assert asking is not None
    assert json.loads(asking)["stream_options"] == {"include_usage": True}
    assert COMPLETIONS.is_usage_only({"choices": [], "usage": {"prompt_tokens": 1}})


def test_the_limit_is_set():
    assert COMPLETIONS.limit_output({"max_tokens": 90}, 7) == {"max_tokens": 7}
    assert COMPLETIONS.limit_output({"max_tokens": 3}, 7) == {"max_tokens": 3}
    assert COMPLETIONS.limit_output({}, 7) == {"max_tokens": 7}


def test_an_answer_is_read_whole_or_streamed():
    usage = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
    whole = read_whole(COMPLETIONS, {"choices": [{"index": 0, "text": "Olá"}], "usage": usage})
    assert (whole.input_tokens, whole.output_tokens, whole.basis) == (4, 1, "reported")
    answer = Answer()
    for event in OTHER_ANSWERS["openai-completions"][0]:
        COMPLETIONS.read_event(answer, event)
    assert (answer.text, answer.input_tokens, answer.output_tokens) == (["Olá"], 4, 1)


def test_without_usage_its_text_is_counted():
    usage = read_whole(COMPLETIONS, {"choices": [{"text": "Olá"}, {"text": "Oi"}]}, body={"prompt": "E?"})
    assert (usage.input_tokens, usage.output_tokens) == (2, 6)


def test_an_ending_finishes_every_text_that_was_begun():
    answer = Answer()
    for index in (0, 1):
        COMPLETIONS.read_event(
            answer, {"id": "c", "model": "m", "created": 5, "choices": [{"index": index, "text": "a"}]}
        )
    *said, done = [payload for _, payload in COMPLETIONS.ending(answer, "FIM", 3, 4, usage=True)]
    assert done == "[DONE]"
    notice = json.loads(said[0])
    first, second, usage = [Completion.model_validate(json.loads(payload)) for payload in said[1:]]
    assert notice["choices"] == [{"index": 0, "text": "FIM", "logprobs": None, "finish_reason": None}]
    assert [chunk.choices[0].index for chunk in (first, second)] == [0, 1]
    assert {chunk.choices[0].finish_reason for chunk in (first, second)} == {"length"}
    assert {notice["id"], first.id, second.id, usage.id} == {"c"}
    assert usage.usage is not None
    assert usage.usage.total_tokens == 7
    assert "usage" not in json.dumps(COMPLETIONS.ending(answer, "", 3, 4, usage=False))


def test_a_refusal_is_openais_error():
    assert COMPLETIONS.denial(429, "insufficient_quota", "Acabou.", plain=True)["error"]["message"] == "Acabou."
