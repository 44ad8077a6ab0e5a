import json

import pytest
from ollama import ChatResponse, GenerateResponse
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, feed, open_call, read_whole, usage_of
from tests.metering.samples import cut_whole, payload

from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.dialects.ollama import Ollama
from solaris_meter.metering.framing.lines import Lines

OLLAMA = Ollama()
PATH, ASKED = REQUESTS["ollama"]


def read(body, path=PATH):
    return OLLAMA.read_request(path, body, len(json.dumps(body)))


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.max_output, request.user) == ("llama3.2", True, 50, None)


@pytest.mark.parametrize(
    ("path", "body", "stream", "max_output"),
    [
        ("/api/chat", {}, True, None),
        ("/api/chat", {"stream": None}, True, None),
        ("/api/chat", {"stream": False}, False, None),
        ("/api/generate", {"stream": True, "options": {"num_predict": 9}}, True, 9),
        ("/api/generate", {"options": {"num_predict": -1}}, True, None),
        ("/api/embed", {}, False, 1),
        ("/api/embed", {"stream": True}, False, 1),
        ("/api/embeddings", {}, False, 1),
    ],
)
def test_it_streams_unless_it_is_told_not_to(path, body, stream, max_output):
    request = read(body, path)
    assert (request.stream, request.max_output) == (stream, max_output)


def test_the_prompt_of_a_chat_is_its_messages():
    prompt = read({key: ASKED[key] for key in ("messages", "tools", "format")}).prompt()
    assert [(message["role"], message["content"]) for message in prompt.messages] == [
        ("user", "Olá"),
        ("assistant", '[{"function": {"name": "clima"}}]'),
    ]
    assert [tool["function"]["name"] for tool in prompt.tools] == ["clima"]
    assert '"type": ["string", "null"]' in prompt.schema


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"system": "Seja breve.", "prompt": "E?"}, "Seja breve.\nE?"),
        ({"input": "um"}, "um"),
        ({"input": ["um", "dois"]}, "um\ndois"),
        ({"prompt": "um", "format": "json"}, "um"),
    ],
)
def test_the_prompt_of_the_others_is_text(body, text):
    prompt = read(body, "/api/generate").prompt()
    assert (prompt.messages, prompt.text, prompt.schema) == ((), text, "")


def test_the_limit_is_set():
    assert OLLAMA.limit_output({"options": {"seed": 1, "num_predict": 90}}, 7) == {
        "options": {"seed": 1, "num_predict": 7}
    }
    assert OLLAMA.limit_output({"options": {"num_predict": -1}}, 7) == {"options": {"num_predict": 7}}
    assert OLLAMA.limit_output({}, 7) == {"options": {"num_predict": 7}}


def test_a_prompt_that_was_cached_is_counted():
    # Older builds leave prompt_eval_count out then.
    answer = {"message": {"content": "Olá"}, "done": True, "eval_count": 282}
    usage = read_whole(OLLAMA, answer, path="/api/chat", body={"messages": [{"role": "user", "content": "Oi"}]})
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (2, 282, "counted")


def test_what_an_earlier_line_told_is_not_taken_away():
    answer = Answer()
    for line in ({"prompt_eval_count": 5, "eval_count": 1}, {"eval_count": 2}, {"done": True}):
        OLLAMA.read_event(answer, line)
    assert (answer.input_tokens, answer.output_tokens) == (5, 2)


@pytest.mark.parametrize(
    ("path", "answer"), [("/api/embed", {"embeddings": [[0.1]]}), ("/api/embeddings", {"embedding": [0.1]})]
)
def test_vectors_without_a_count_owe_their_input(path, answer):
    usage = read_whole(OLLAMA, answer, path=path, body={"input": "um"})
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (2, 0, "counted")


def test_everything_that_was_generated_is_text():
    answer = Answer()
    call = {"function": {"name": "clima", "arguments": {"a": 1}}}
    OLLAMA.read_event(answer, {"message": {"thinking": "Hm", "content": "Olá", "tool_calls": [call]}})
    OLLAMA.read_event(answer, {"thinking": "Hm", "response": "Oi"})
    assert "".join(answer.text) == 'HmOláclima{"a": 1}HmOi'


def test_an_ended_chat_is_whole_for_the_sdk():
    call = open_call(OLLAMA, path=PATH, body=ASKED, framing=Lines(), granted=5, strict=True)
    relayed = feed(call, payload("ollama_chat.ndjson").splitlines(keepends=True))
    assert call.ended
    lines = [ChatResponse.model_validate_json(event.data or b"") for event in cut_whole(Lines(), [relayed])]
    assert [line.message.content for line in lines] == ["Olá", "!", "NOTICE", ""]
    assert [line.done for line in lines] == [False, False, False, True]
    assert (lines[-1].done_reason, lines[-1].eval_count, lines[-1].model) == ("length", 5, "llama3.2")


def test_an_ended_completion_is_whole_for_the_sdk():
    answer = Answer()
    OLLAMA.read_event(answer, OTHER_ANSWERS["ollama"][0][0])
    said = [payload for _, payload in OLLAMA.ending(answer, "FIM", 3, 4, usage=True)]
    notice, last = [GenerateResponse.model_validate_json(payload) for payload in said]
    assert (notice.response, notice.done) == ("FIM", False)
    assert (last.response, last.done, last.prompt_eval_count, last.eval_count) == ("", True, 3, 4)


def test_an_error_in_the_stream_costs_what_was_said():
    call = open_call(OLLAMA, path=PATH, body={"messages": []}, framing=Lines())
    feed(call, [b'{"message":{"content":"Oi"},"done":false}\n{"error":"out of memory"}\n'])
    usage = usage_of(call)
    assert (usage.output_tokens, usage.basis) == (2, "counted")


def test_a_refusal_is_an_error():
    assert OLLAMA.denial(429, "insufficient_quota", "Acabou.", plain=False) == {"error": "Acabou."}
