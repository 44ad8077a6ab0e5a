import json

import pydantic
import pytest
from openai.types import responses
from tests.metering.calls import REQUESTS, open_document, read_whole, usage_of
from tests.metering.samples import cut_whole, payload

from solaris_meter.metering.dialects.dialect import Answer
from solaris_meter.metering.dialects.openai_responses import OpenAIResponses
from solaris_meter.metering.framing.sse import ServerSentEvents

RESPONSES = OpenAIResponses()
PATH, ASKED = REQUESTS["openai-responses"]
STREAM = [
    json.loads(event.data or b"") for event in cut_whole(ServerSentEvents(), [payload("openai_responses_stream.sse")])
]
EVENTS: dict[str, type[pydantic.BaseModel]] = {
    "response.output_item.added": responses.ResponseOutputItemAddedEvent,
    "response.content_part.added": responses.ResponseContentPartAddedEvent,
    "response.output_text.delta": responses.ResponseTextDeltaEvent,
    "response.output_text.done": responses.ResponseTextDoneEvent,
    "response.content_part.done": responses.ResponseContentPartDoneEvent,
    "response.output_item.done": responses.ResponseOutputItemDoneEvent,
    "response.incomplete": responses.ResponseIncompleteEvent,
}


def read(body, path=PATH):
    return RESPONSES.read_request(path, body, len(json.dumps(body)))


def after(*events):
    answer = Answer()
    for event in events:
        RESPONSES.read_event(answer, event)
    return answer


def ending_after(*events, notice="FIM"):
    said = RESPONSES.ending(after(*events), notice, 3, 4, usage=True)
    found = [json.loads(payload) for _, payload in said]
    assert [name for name, _ in said] == [event["type"] for event in found]
    for event in found:
        EVENTS[event["type"]].model_validate(event)
    return found


def as_built_from(events):
    """The output of the response as its deltas and items make it."""
    items = {}
    for event in events:
        place = event.get("output_index")
        if event["type"] == "response.output_item.added":
            items[place] = event["item"] | {"content": []}
        elif event["type"] == "response.content_part.added":
            items[place]["content"].append({"text": ""})
        elif event["type"] == "response.output_text.delta":
            items[place]["content"][event["content_index"]]["text"] += event["delta"]
        elif event["type"] == "response.output_text.done":
            assert items[place]["content"][event["content_index"]]["text"] == event["text"]
        elif event["type"] == "response.output_item.done":
            texts = [part["text"] for part in event["item"].get("content") or []]
            assert texts == [part["text"] for part in items[place]["content"]]
            items[place] = event["item"]
    return [items[place] for place in sorted(items)]


def test_a_request_is_read():
    request = read(ASKED)
    assert (request.model, request.stream, request.max_output) == ("gpt-5", True, 80)
    assert (request.user, request.wants_usage) == ("65f0", True)
    assert RESPONSES.ask_for_usage(b'{"stream":true}', request) is None


def test_the_prompt_is_instructions_items_functions_and_schema():
    prompt = read(ASKED).prompt()
    assert [(message["role"], message["content"]) for message in prompt.messages] == [
        ("system", "Seja breve."),
        ("user", "Olá"),
        ("assistant", "Hm"),
        ("assistant", ""),
        ("tool", "42"),
        ("assistant", "Sol."),
    ]
    assert prompt.messages[3]["tool_calls"][0]["function"] == {"name": "clima", "arguments": '{"a":1}'}
    function = {"name": "clima", "description": "O tempo", "parameters": {"type": "object"}}
    assert prompt.tools == ({"type": "function", "function": function},)
    assert '"type":["string","null"]' in prompt.schema
    assert prompt.attachments == 1
    assert prompt.opaque  # it may search the web
    assert prompt.surface == "responses"


def test_an_input_may_be_a_text():
    prompt = read({"model": "gpt-5", "input": "Olá"}).prompt()
    assert prompt.messages == ({"role": "user", "content": "Olá"},)
    assert not prompt.opaque


@pytest.mark.parametrize(("previous", "opaque"), [("resp_0", True), (None, False)])
def test_what_an_earlier_answer_said_is_not_seen(previous, opaque):
    assert read({"input": "Olá", "previous_response_id": previous}).prompt().opaque is opaque


def test_the_limit_is_set():
    assert RESPONSES.limit_output({"max_output_tokens": 90}, 7) == {"max_output_tokens": 7}
    assert RESPONSES.limit_output({"max_output_tokens": 3}, 7) == {"max_output_tokens": 3}
    assert RESPONSES.limit_output({}, 7) == {"max_output_tokens": 7}


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_last_event_tells_what_was_used(kind):
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    event = {"type": f"response.{kind}", "response": {"model": "gpt-5", "service_tier": "flex", "usage": usage}}
    answer = after({"type": "response.created", "response": {"usage": None}}, event)
    assert (answer.input_tokens, answer.output_tokens) == (9, 5)
    assert (answer.cached_input_tokens, answer.cache_write_tokens, answer.reasoning_tokens) == (4, 2, 3)
    assert answer.terms == {"model": "gpt-5", "service_tier": "flex"}
    assert RESPONSES.is_last(event)


def test_the_usage_of_a_tool_is_no_second_usage():
    usage = {"input_tokens": 9, "output_tokens": 5}
    tools = {"image_generation": {"input_tokens": 1000, "output_tokens": 5000}}
    found = read_whole(RESPONSES, {"usage": usage, "tool_usage": tools, "output": []})
    assert found.total_tokens == 14


def test_zeros_beside_a_text_are_no_report():
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Olá!"}]}]
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    found = read_whole(RESPONSES, {"output": output, "usage": usage}, body={"input": "Oi"})
    assert (found.input_tokens, found.output_tokens, found.basis) == (2, 5, "counted")


def background(body):
    asked = {"model": "gpt-5", "input": "Oi", "background": True}
    return open_document(RESPONSES, json.dumps({"id": "resp_1", "background": True} | body).encode(), body=asked)


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_answer_is_polled(status):
    call = background({"status": status, "output": [], "usage": None})
    assert call.background_id == "resp_1"
    assert not call.is_over
    assert usage_of(call) is None


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "incomplete"])
def test_a_background_answer_that_is_over_is_charged(status):
    call = background({"status": status, "output": [], "usage": {"input_tokens": 9, "output_tokens": 5}})
    assert call.background_id is None
    assert call.is_over
    assert usage_of(call).total_tokens == 14


def test_an_answer_that_is_not_in_the_background_is_not_polled():
    body = {"id": "resp_1", "background": False, "status": "in_progress"}
    call = open_document(RESPONSES, json.dumps(body).encode(), body={"model": "gpt-5", "input": "Oi"})
    assert call.background_id is None


@pytest.mark.parametrize(
    ("path", "identity"),
    [
        ("/v1/responses/resp_1", "resp_1"),
        ("/openai/v1/responses/resp_0a_b-c", "resp_0a_b-c"),
        ("/v1/responses", None),
        ("/v1/responses/resp_1/input_items", None),
        ("/v1/responses/resp_1/cancel", None),
        ("/v1/chat/completions", None),
    ],
)
def test_a_poll_names_the_answer(path, identity):
    assert RESPONSES.polls(path) == identity


def test_web_searches_are_counted():
    search = {"id": "w", "type": "web_search_call", "status": "completed"}
    done = {"type": "response.output_item.done", "item": search}
    assert after(done, done).terms["web_searches"] == 2
    answer = Answer()
    RESPONSES.read_body(answer, {"output": [search, search, {"type": "message", "content": []}]})
    assert answer.terms["web_searches"] == 2


def test_everything_that_was_generated_in_a_stream_is_text():
    answer = after(
        {"type": "response.output_item.added", "item": {"id": "f", "type": "function_call", "name": "clima"}},
        {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": '{"a":1}'},
        {"type": "response.reasoning_summary_text.delta", "delta": "Hm"},
        {"type": "response.refusal.delta", "delta": "Não."},
        {"type": "response.code_interpreter_call_code.delta", "delta": "1+1"},
        {"type": "response.output_text.delta", "delta": "Olá"},
        {"type": "response.audio.delta", "delta": "AAAA"},
        {"type": "response.output_text.done", "text": "Olá"},
    )
    assert "".join(answer.text) == 'clima{"a":1}HmNão.1+1Olá'
    assert ["".join(pieces) for pieces in answer.calls["f"]] == ["clima", '{"a":1}']


def test_everything_that_was_generated_in_a_body_is_text():
    answer = Answer()
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "Olá"}, {"type": "refusal", "refusal": "Não."}],
        },
        {"type": "function_call", "name": "clima", "arguments": "{}"},
        {"type": "code_interpreter_call", "code": "1+1"},
    ]
    RESPONSES.read_body(answer, {"output": output})
    assert "".join(answer.text) == "HmOláNão.clima{}1+1"


@pytest.mark.parametrize("count", range(1, len(STREAM)))
def test_the_sdk_accepts_an_ending_anywhere(count):
    events = STREAM[:count]
    said = ending_after(*events)
    numbers = [event["sequence_number"] for event in said]
    assert numbers == list(range(events[-1]["sequence_number"] + 1, events[-1]["sequence_number"] + 1 + len(said)))
    last = said[-1]
    assert last["type"] == "response.incomplete"
    response = responses.Response.model_validate(last["response"])
    assert (response.id, response.status) == ("resp_1", "incomplete")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 4)
    assert "FIM" in response.output_text
    if any(event["type"] == "response.output_text.delta" for event in events):
        written = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert response.output_text == written + "FIM"


def test_the_last_object_of_an_ending_agrees_with_its_deltas():
    begun = [event for event in STREAM[:8] if event.get("output_index") != 0]
    said = ending_after(*begun)
    assert as_built_from([*begun, *said]) == said[-1]["response"]["output"]


def test_no_notice_stands_between_the_arguments_of_a_tool():
    item = {"id": "f", "call_id": "c", "type": "function_call", "name": "clima", "arguments": ""}
    said = ending_after(
        STREAM[0],
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": 0, "delta": "{"},
    )
    assert [event["type"] for event in said] == ["response.output_item.done", "response.incomplete"]
    assert "FIM" not in json.dumps(said)


def test_without_a_notice_what_is_open_is_closed():
    said = ending_after(*STREAM[:8], notice="")
    assert [event["type"] for event in said] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert said[-1]["response"]["output"][-1]["content"][0]["text"] == "Olá! Claro"


def test_after_a_finished_item_the_notice_is_a_message_of_its_own():
    done = {
        "type": "response.output_item.done",
        "output_index": 0,
        "item": {"id": "rs_1", "type": "reasoning", "summary": []},
    }
    said = ending_after(*STREAM[:3], done)
    assert [item["type"] for item in said[-1]["response"]["output"]] == ["reasoning", "message"]
    assert as_built_from(said)[0]["content"][0]["text"] == "FIM"


def test_a_refusal_is_openais_error():
    assert RESPONSES.denial(503, "ledger_unavailable", "Já volto.", plain=True)["error"]["type"] == "server_error"
