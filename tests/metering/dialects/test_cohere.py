import json

import pytest
from tests.metering.calls import OTHER_ANSWERS, REQUESTS, feed, open_call, read_whole, usage_of
from tests.metering.samples import payload

from solaris_meter.metering.dialects.cohere import Cohere
from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.framing.lines import Lines

COHERE = Cohere()
PATH, ASKED = REQUESTS["cohere"]


def read(body, path=PATH):
    return COHERE.read_request(path, body, len(json.dumps(body)))


def after(*events):
    answer = Answer()
    for event in events:
        COHERE.read_event(answer, event)
    return answer


@pytest.mark.parametrize(
    ("provider", "body", "claimed"),
    [
        ("cohere", None, True),
        ("cohere", {"messages": []}, True),
        (None, None, False),
        ("writer", None, False),
        ("writer", {"model": "palmyra", "messages": []}, False),
        (None, {"message": "Olá"}, True),
        (None, {"texts": ["Olá"]}, True),
    ],
)
def test_host_and_body_tell_who_is_spoken_to(provider, body, claimed):
    # `/v1/chat` is another API on another host.
    assert COHERE.claims(provider, body) is claimed


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.max_output, request.choices) == ("command-a-03-2025", True, 50, 1)
    assert read({"num_generations": 3}, "/v1/generate").choices == 3


@pytest.mark.parametrize("path", ["/v2/embed", "/v1/embed", "/v2/rerank", "/v1/classify"])
def test_what_writes_nothing_holds_nothing_for_it(path):
    assert read({"max_tokens": 500}, path).max_output == 1


def test_the_prompt_of_version_2_is_what_is_said_and_tools():
    # What is billed is the texts, without the template around them.
    prompt = read({key: ASKED[key] for key in ("messages", "tools", "response_format")}).prompt()
    assert prompt.messages == ()
    assert sorted(prompt.text.split("\n")) == sorted(["Olá", "Ver.", '[{"function": {"name": "clima"}}]'])
    assert [tool["function"]["name"] for tool in prompt.tools] == ["clima", "hora"]
    assert '"type": ["string", "null"]' in prompt.schema


def test_the_prompt_of_version_1_is_preamble_history_and_message():
    prompt = read({key: ASKED[key] for key in ("preamble", "chat_history", "message")}, "/v1/chat").prompt()
    assert sorted(prompt.text.split("\n")) == sorted(["Seja breve.", "Sim?", "E?"])


def test_a_query_is_read_with_each_document():
    prompt = read({"query": "Qual?", "documents": ["um", {"text": "dois"}]}, "/v2/rerank").prompt()
    assert prompt.text == "Qual?\num\nQual?\ndois"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"texts": ["um", "dois"]}, "um\ndois"),
        ({"inputs": [{"content": [{"type": "text", "text": "um"}]}]}, "um"),
        ({"prompt": "um"}, "um"),
    ],
)
def test_what_is_embedded_is_text(body, text):
    assert read(body, "/v2/embed").prompt().text == text


def test_the_limit_is_set():
    assert COHERE.limit_output({"max_tokens": 90}, 7) == {"max_tokens": 7}
    assert COHERE.limit_output({}, 7) == {"max_tokens": 7}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"billed_units": {"input_tokens": 5, "output_tokens": 418}, "tokens": {"input_tokens": 71}}, (5, 418)),
        ({"tokens": {"input_tokens": 71, "output_tokens": 420}}, (71, 420)),
        ({"billed_units": {"input_tokens": 5}}, (5, 0)),
        ({"billed_units": {"input_tokens": 5.0, "output_tokens": 2.0}}, (5, 2)),
        ({"billed_units": {"search_units": 1}}, (None, None)),
        ({"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 7, "output_tokens": 0}}, (7, 0)),
        ({"billed_units": {}}, (None, None)),
        ({"cached_tokens": 448, "billed_units": {"input_tokens": 5, "output_tokens": 2}}, (5, 2)),
    ],
)
def test_billed_units_count_before_tokens(usage, tokens):
    answer = Answer()
    COHERE.read_body(answer, {"usage": usage})
    assert (answer.input_tokens, answer.output_tokens) == tokens
    streamed = after({"type": "message-end", "delta": {"usage": usage}})
    assert (streamed.input_tokens, streamed.output_tokens) == tokens


def test_a_rerank_that_tells_no_tokens_is_counted():
    answer = {"results": [{"index": 0}], "meta": {"billed_units": {"search_units": 1}}}
    body = {"query": "Qual?", "documents": ["um"]}
    usage = read_whole(COHERE, answer, path="/v2/rerank", body=body)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (len("Qual?\num"), 0, "counted")


def test_a_stream_of_version_1_is_lines():
    call = open_call(COHERE, path="/v1/chat", body={"message": "Oi"}, framing=Lines())
    feed(call, ["".join(json.dumps(event) + "\n" for event in OTHER_ANSWERS["cohere"][0]).encode()])
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (5, 9, "reported")
    assert call.finished


def test_everything_that_was_generated_is_text():
    answer = after(
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Ver."}}},
        {
            "type": "tool-call-start",
            "index": 0,
            "delta": {"message": {"tool_calls": {"function": {"name": "clima", "arguments": ""}}}},
        },
        {"type": "tool-call-delta", "delta": {"message": {"tool_calls": {"function": {"arguments": '{"a":1}'}}}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm"}}}},
        {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "Olá"}}}},
        {"type": "citation-start", "delta": {"message": {"citations": {"text": "Olá"}}}},
    )
    assert "".join(answer.text) == 'Ver.clima{"a":1}HmOlá'
    whole = Answer()
    message = {
        "tool_plan": "Ver.",
        "content": [{"type": "text", "text": "Olá"}],
        "tool_calls": [{"function": {"name": "clima", "arguments": "{}"}}],
    }
    COHERE.read_body(whole, {"message": message})
    assert "".join(whole.text) == "Ver.Oláclima{}"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"text": "Olá", "tool_calls": [{"name": "clima", "parameters": {"a": 1}}]}, 'Oláclima{"a": 1}'),
        ({"generations": [{"text": "Olá"}, {"text": "Oi"}]}, "OláOi"),
        ({"summary": "Curto."}, "Curto."),
    ],
)
def test_version_1_has_its_words_for_it(body, text):
    answer = Answer()
    COHERE.read_body(answer, body)
    assert "".join(answer.text) == text


def test_an_ended_answer_has_the_notice_a_stop_and_its_units():
    call = open_call(COHERE, path=PATH, body=ASKED, granted=4, strict=True)
    relayed = feed(call, [event + b"\n\n" for event in payload("cohere_v2_stream.sse").split(b"\n\n")])
    assert call.ended
    blocks = [block.split("\n") for block in relayed.decode().split("\n\n") if block]
    events = [json.loads(block[-1].removeprefix("data: ")) for block in blocks]
    assert [block[0] for block in blocks] == [f"event: {event['type']}" for event in events]
    assert [event["type"] for event in events[-3:]] == ["content-delta", "content-end", "message-end"]
    assert events[-3]["delta"]["message"]["content"]["text"] == "NOTICE"
    assert events[-1]["delta"]["finish_reason"] == "MAX_TOKENS"
    units = events[-1]["delta"]["usage"]["billed_units"]
    assert units["output_tokens"] == sum(
        len(event["delta"]["message"]["content"]["text"].encode()) for event in events[:-3] if "delta" in event["type"]
    )


def test_an_ended_answer_of_version_1_repeats_its_text():
    answer = after(*OTHER_ANSWERS["cohere"][0][:2])
    said = COHERE.ending(answer, "FIM", 3, 4, usage=True)
    assert {name for name, _ in said} == {None}
    spoken, end = [json.loads(payload) for _, payload in said]
    assert (spoken["event_type"], spoken["text"], spoken["is_finished"]) == ("text-generation", "FIM", False)
    assert (end["event_type"], end["finish_reason"], end["is_finished"]) == ("stream-end", "MAX_TOKENS", True)
    assert end["response"]["text"] == "OláFIM"
    assert end["response"]["meta"]["billed_units"] == {"input_tokens": 3, "output_tokens": 4}


def test_a_refusal_is_a_message():
    assert COHERE.denial(429, "insufficient_quota", "Acabou.", plain=False) == {"message": "Acabou."}


def test_an_error_costs_nothing():
    assert read_whole(COHERE, {"message": "invalid request"}, path=PATH, body=ASKED) is None
