import gzip
import json
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.calls import (
    PICTURE,
    QUESTION,
    ByteCounter,
    answer_of,
    feed,
    nothing_fails,
    open_call,
    open_document,
    usage_of,
)
from tests.metering.samples import (
    EXPECTED,
    LINE_ENDS,
    SERVER_SENT,
    cut,
    cut_whole,
    dialect_called,
    dialect_of,
    loaded_counter,
    payload,
    pieces,
    with_line_end,
)

from solaris_meter.metering import encodings, endpoints
from solaris_meter.metering.dialects.dialect import MAX_TOKENS
from solaris_meter.metering.dialects.openai_chat import OpenAIChat
from solaris_meter.metering.framing import framing
from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.json_array import JsonArray
from solaris_meter.metering.framing.lines import Lines
from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.models import PriceTerms, Usage


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


def less_usage_event(stream):
    """What a caller gets who did not ask for usage: everything but the last chunk without choices."""
    blocks = stream.split(b"\n\n")
    kept = [block for block in blocks if b'"choices":[],"usage":{' not in block]
    assert len(kept) == len(blocks) - 1
    return b"\n\n".join(kept)


COMPLETE = [name for name in SERVER_SENT if EXPECTED[name]["output_tokens"] is not None]
WITH_USAGE_EVENT = ["openai_chat_stream_usage.sse", "openai_chat_stream_tools.sse", "azure_chat_stream_usage.sse"]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_stream_is_relayed_byte_by_byte_and_its_usage_is_read(data):
    name = data.draw(st.sampled_from(COMPLETE))
    stream = with_line_end(payload(name), data.draw(st.sampled_from(LINE_ENDS)))
    call = open_call(dialect_of(name))
    chunks = data.draw(cut(stream))
    assert [call.feed(chunk) for chunk in chunks] == chunks
    assert call.finish() == b""
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens) == (
        EXPECTED[name]["input_tokens"],
        EXPECTED[name]["output_tokens"],
    )
    assert usage.basis == "reported"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_usage_event_that_was_not_asked_for_is_all_that_is_taken_out(data):
    name = data.draw(st.sampled_from(WITH_USAGE_EVENT))
    line_end = data.draw(st.sampled_from(LINE_ENDS))
    stream, expected = (with_line_end(one, line_end) for one in (payload(name), less_usage_event(payload(name))))
    call = open_call(dialect_of(name), hides_usage=True)
    assert feed(call, data.draw(cut(stream))) == expected
    assert usage_of(call).total_tokens == EXPECTED[name]["input_tokens"] + EXPECTED[name]["output_tokens"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_usage_is_hidden_in_pieces_of_any_size(size):
    stream = payload(WITH_USAGE_EVENT[0])
    assert feed(open_call(OpenAIChat(), hides_usage=True), pieces(stream, size)) == less_usage_event(stream)


@pytest.mark.parametrize(
    "name",
    [name for name in SERVER_SENT if EXPECTED[name]["dialect"] == "openai-chat" and name not in WITH_USAGE_EVENT],
)
def test_usage_that_comes_beside_other_things_is_not_taken_out(name):
    assert feed(open_call(OpenAIChat(), hides_usage=True), pieces(payload(name), 50)) == payload(name)


def test_a_usage_event_without_its_blank_line_is_hidden_and_read():
    stream = payload("openai_chat_stream_usage.sse").removesuffix(b"\n\ndata: [DONE]\n\n")
    call = open_call(OpenAIChat(), hides_usage=True)
    assert feed(call, [stream]) + b"data: [DONE]\n\n" == less_usage_event(payload("openai_chat_stream_usage.sse"))
    assert usage_of(call).total_tokens == 41


def test_a_last_event_without_its_blank_line_is_relayed():
    stream = payload("openai_chat_stream_nousage.sse").rstrip(b"\n")
    assert feed(open_call(OpenAIChat(), hides_usage=True), pieces(stream, 10)) == stream


COMPRESSORS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}


@pytest.mark.parametrize("encoding", COMPRESSORS)
@pytest.mark.parametrize("hides_usage", [False, True])
def test_a_compressed_stream_is_read_and_inflated_only_where_it_is_edited(encoding, hides_usage):
    plain = payload("openai_chat_stream_usage.sse")
    compressed = COMPRESSORS[encoding](plain)
    call = open_call(OpenAIChat(), hides_usage=hides_usage)
    decode = encodings.decoder(encoding)
    assert decode is not None
    call.inflate(decode)
    assert call.edits_answer is hides_usage
    assert feed(call, pieces(compressed, 11)) == (less_usage_event(plain) if hides_usage else compressed)
    assert usage_of(call).total_tokens == 41


@pytest.mark.parametrize(
    "event",
    [b"data: not json\n\n", b"data: [1, 2]\n\n", b"data: 7\n\n", b"data: \xff\xfe\n\n", b": ping\n\n", b"event: x\n\n"],
)
def test_events_that_say_nothing_are_relayed(event):
    stream = event + payload("openai_chat_stream_usage.sse")
    call = open_call(OpenAIChat(), hides_usage=True)
    assert feed(call, pieces(stream, 9)) == less_usage_event(stream)
    assert usage_of(call).total_tokens == 41


@pytest.mark.parametrize("hides_usage", [False, True])
@pytest.mark.parametrize("size", [1000, 5000, 10**9])
def test_an_event_that_cannot_be_followed_costs_the_person_nothing_of_the_answer(hides_usage, size):
    # Nested deeper than the parser goes: the answer is relayed as it comes from there on.
    before = payload("openai_chat_stream_nousage.sse").removesuffix(b"data: [DONE]\n\n")
    stream = before + b"data: " + b"[" * 200_000 + b"\n\ndata: [DONE]\n\n"
    call = open_call(OpenAIChat(), hides_usage=hides_usage)
    assert feed(call, pieces(stream, size)) == stream


def test_a_body_that_is_not_compressed_although_it_says_so_is_read_all_the_same(caplog):
    call = open_call(OpenAIChat())
    call.inflate(encodings.decoder("gzip") or bytes)
    stream = payload("openai_chat_stream_usage.sse")
    assert feed(call, pieces(stream, 100)) == stream
    assert usage_of(call).total_tokens == 41
    assert caplog.text == ""


@pytest.mark.parametrize("hides_usage", [False, True])
def test_a_compressed_body_that_is_broken_is_relayed_as_it_comes(caplog, hides_usage):
    call = open_call(OpenAIChat(), hides_usage=hides_usage)
    call.inflate(encodings.decoder("gzip") or bytes)
    whole = gzip.compress(payload("openai_chat_stream_usage.sse"), mtime=0)
    half = len(whole) // 2
    before = call.feed(whole[:half])
    assert call.feed(b"\xff" * 100).endswith(b"\xff" * 100)
    assert before == whole[:half] or hides_usage
    assert caplog.text.count("cannot be followed any more") == 1


def test_the_parts_of_a_usage_are_kept():
    name = "anthropic_stream_cache_thinking.sse"
    call = open_call(dialect_of(name))
    feed(call, [payload(name)])
    assert usage_of(call) == Usage(52_059, 812, "reported", cached_input_tokens=50_000, cache_write_tokens=2048)


@pytest.mark.parametrize(
    "body", [b"", b"not json", b"[]", b"null", b"17", b"\xff\xfe", b'{"cut": ', b'"text"', b"[" * 200_000]
)
def test_a_body_that_is_no_object_says_nothing(body):
    call = open_call(OpenAIChat())
    call.read_body(body)
    assert usage_of(call) is None


def test_an_answer_without_usage_is_counted(counter):
    call = open_call(OpenAIChat(), counter=counter)
    feed(call, [payload("openai_chat_stream_nousage.sse")])
    usage = usage_of(call)
    assert usage.basis == "counted"
    assert usage.output_tokens == counter.count_answer("gpt-4o", "Olá! Claro, posso ajudar com isso.").tokens
    assert usage.input_tokens == counter.count_prompt("gpt-4o", call.request.prompt()).tokens


def test_an_aborted_answer_is_charged_for_what_was_relayed(counter):
    call = open_call(OpenAIChat(), counter=counter)
    feed(call, [payload("openai_chat_stream_aborted.sse")])
    assert usage_of(call, client_left=True).output_tokens == counter.count_answer("gpt-4o", "Olá! Claro,").tokens


def test_only_the_missing_side_is_counted(counter):
    call = open_call(dialect_called("anthropic"), counter=counter, body=QUESTION | {"model": "claude-sonnet-4-5"})
    feed(call, [payload("anthropic_stream_aborted.sse")])
    usage = usage_of(call)
    assert usage.input_tokens == 25  # message_start told it
    assert usage.output_tokens == counter.count_answer("claude-sonnet-4-5", "Olá! Claro, posso").tokens
    assert usage.basis == "estimated"


def test_the_least_sure_side_decides_the_basis(counter):
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": [PICTURE]}]}
    call = open_call(OpenAIChat(), counter=counter, body=body)
    feed(call, [payload("openai_chat_stream_nousage.sse")])
    usage = usage_of(call)
    assert usage.basis == "estimated"
    assert usage.input_tokens == counter.count_prompt("gpt-4o", call.request.prompt()).tokens


def test_nothing_is_owed_for_an_answer_that_says_nothing():
    call = open_call(OpenAIChat())
    feed(call, [b'data: {"error":{"message":"overloaded"}}\n\n'])
    assert usage_of(call) is None


def test_who_leaves_before_the_first_word_owes_the_input(counter):
    call = open_call(OpenAIChat(), counter=counter)
    usage = usage_of(call, client_left=True)
    assert usage.input_tokens == counter.count_prompt("gpt-4o", call.request.prompt()).tokens
    assert usage.output_tokens == 0


def test_who_leaves_an_unknown_endpoint_owes_nothing():
    assert usage_of(open_call(endpoints.GENERIC), client_left=True) is None


def test_zeros_beside_a_text_are_taken_for_missing(counter):
    call = open_call(OpenAIChat(), counter=counter)
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    call.read_body(json.dumps({"choices": [{"message": {"content": "Olá!"}}], "usage": zeros}).encode())
    assert usage_of(call).output_tokens == counter.count_answer("gpt-4o", "Olá!").tokens


def test_zeros_without_a_text_are_believed():
    call = open_call(OpenAIChat())
    call.read_body(b'{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}')
    assert usage_of(call) == Usage(0, 0, "reported")


@pytest.mark.parametrize("absurd", [-1, 10**12, True, "7", 1.5, float("nan"), float("inf")])
def test_an_impossible_number_is_counted_instead_and_logged(counter, caplog, absurd):
    call = open_call(OpenAIChat(), counter=counter)
    report = {"prompt_tokens": 12, "completion_tokens": absurd, "total_tokens": 20}
    call.read_body(json.dumps({"choices": [{"message": {"content": "Olá!"}}], "usage": report}).encode())
    usage = usage_of(call)
    assert usage.input_tokens == 12
    assert usage.output_tokens == counter.count_answer("gpt-4o", "Olá!").tokens
    assert "impossible usage" in caplog.text


def test_a_part_is_never_larger_than_its_whole():
    call = open_call(OpenAIChat())
    report = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 99},
    }
    call.read_body(json.dumps({"usage": report}).encode())
    assert usage_of(call) == Usage(10, 5, "reported", cached_input_tokens=10, reasoning_tokens=5)


def decoded(data):
    return [event.data for event in cut_whole(ServerSentEvents(), [data]) if event.data is not None]


def events_of(data):
    return [json.loads(one) for one in decoded(data) if one != b"[DONE]"]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_an_answer_that_is_ended_is_whole_events_however_it_came(data):
    wants_usage = data.draw(st.booleans())
    body = QUESTION | ({"stream_options": {"include_usage": True}} if wants_usage else {})
    call = open_call(OpenAIChat(), body=body, granted=2, strict=True, hides_usage=not wants_usage)
    relayed = feed(call, data.draw(cut(payload("openai_chat_stream_nousage.sse"))))
    if call.ended:
        assert decoded(relayed)[-1] == b"[DONE]"
        assert [event["choices"][0]["finish_reason"] for event in events_of(relayed) if event["choices"]][
            -1
        ] == "length"


def test_the_beginning_of_the_next_event_is_not_relayed_before_an_ending():
    body = QUESTION | {"stream_options": {"include_usage": True}}
    call = open_call(OpenAIChat(), body=body, granted=1, strict=True)
    first, second, third = payload("openai_chat_stream_nousage.sse").split(b"\n\n")[:3]
    relayed = call.feed(first + b"\n\n" + second + b"\n\n" + third[:50])
    assert call.ended
    assert relayed.startswith(first + b"\n\n" + second + b"\n\ndata: ")
    assert [event["choices"][0]["delta"] for event in events_of(relayed)[2:4]] == [{"content": "NOTICE"}, {}]


def test_an_ended_answer_has_the_text_the_notice_and_the_usage_and_then_nothing():
    body = QUESTION | {"stream_options": {"include_usage": True}}
    call = open_call(OpenAIChat(), body=body, granted=11, strict=True)
    stream = payload("openai_chat_stream_usage.sse")
    relayed = b"".join(call.feed(block + b"\n\n") for block in stream.split(b"\n\n")[:-1])
    events = events_of(relayed)
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert text == "Olá! ClaroNOTICE"
    assert {event["id"] for event in events} == {"chatcmpl-S1"}
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["prompt_tokens"] == 10  # what was reserved for the input: nothing was reported yet
    assert call.feed(b"data: more\n\n") == b""
    assert call.finish() == b""


def test_an_ended_answer_shows_no_usage_to_who_did_not_ask():
    call = open_call(OpenAIChat(), granted=1, strict=True, hides_usage=True)
    relayed = b"".join(call.feed(block + b"\n\n") for block in payload(WITH_USAGE_EVENT[0]).split(b"\n\n"))
    assert call.ended
    assert b'"usage": {' not in relayed
    assert b"NOTICE" in relayed


def test_an_ended_answer_is_counted(counter):
    call = open_call(OpenAIChat(), counter=counter, granted=4, strict=True, hides_usage=True)
    for block in payload("openai_chat_stream_usage.sse").split(b"\n\n"):
        call.feed(block + b"\n\n")
    assert call.ended
    usage = usage_of(call)
    assert usage.output_tokens == 4  # "Olá", "!", " Claro", ",": the notice costs nothing
    assert usage.basis == "counted"


def test_an_ended_anthropic_answer_closes_what_is_open():
    call = open_call(dialect_called("anthropic"), granted=4, strict=True)
    relayed = b"".join(call.feed(block + b"\n\n") for block in payload("anthropic_stream.sse").split(b"\n\n"))
    kinds = [event["type"] for event in events_of(relayed)]
    assert call.ended
    assert kinds[-5:] == [
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events_of(relayed)[-4]["delta"] == {"type": "text_delta", "text": "NOTICE"}
    assert events_of(relayed)[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("name", ["openai_chat_stream_usage.sse", "anthropic_stream.sse"])
def test_an_answer_that_came_to_its_end_is_not_ended_again(name):
    body = QUESTION | {"stream_options": {"include_usage": True}}
    call = open_call(dialect_of(name), body=body, granted=1, strict=True)
    assert feed(call, [payload(name)]) == payload(name)
    assert not call.ended


def test_soft_ends_nothing():
    call = open_call(OpenAIChat(), granted=1)
    assert feed(call, pieces(payload("openai_chat_stream_usage.sse"), 300)) == payload("openai_chat_stream_usage.sse")
    assert not call.ended


def test_a_call_without_reservation_is_followed_but_never_ended():
    # The ledger was down, and calls are let through then.
    call = open_call(OpenAIChat(), reserved=False)
    feed(call, [payload("openai_chat_stream_usage.sse")])
    assert call.terms.standing is None
    assert usage_of(call).total_tokens == 41


def test_a_stopped_claude_stream_is_counted_by_the_measure_of_its_input():
    # What the provider said of the input tells how its unknown tokenizer counts.
    counter = ByteCounter()
    call = open_call(dialect_called("anthropic"), counter=counter)
    feed(call, [payload("anthropic_stream_aborted.sse")])
    usage_of(call, client_left=True)
    [calibration] = counter.calibrations
    assert calibration is not None
    assert (calibration.reported_input, calibration.prompt) == (25, call.request.prompt())


def test_without_a_reported_input_there_is_no_measure():
    counter = ByteCounter()
    usage_of(answer_of("openai_chat_stream_aborted.sse", counter=counter))
    assert counter.calibrations == [None]


def test_a_whole_report_is_not_counted():
    counter = ByteCounter()
    usage_of(answer_of("anthropic_stream.sse", counter=counter))
    assert counter.calibrations == []


class Named(ByteCounter):
    """Remembers which models it was asked to count for."""

    def __init__(self):
        super().__init__()
        self.models = []

    def count_prompt(self, model, prompt):
        self.models.append(model)
        return super().count_prompt(model, prompt)


@pytest.mark.parametrize(
    ("asked", "answered", "counted"),
    [
        ("meu-deployment", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4o", "gpt-4-0613", "gpt-4o"),
        ("meu-deployment", "outro-nome", "meu-deployment"),
        ("meu-deployment", None, "meu-deployment"),
    ],
)
def test_a_name_that_says_nothing_is_counted_as_the_model_that_answered(asked, answered, counted):
    counter = Named()
    answer = {"model": answered, "choices": [{"message": {"content": "Olá"}}]}
    call = open_document(OpenAIChat(), json.dumps(answer).encode(), counter=counter, body=QUESTION | {"model": asked})
    usage_of(call)
    assert counter.models == [counted]


def test_a_call_is_counted_whatever_was_reported():
    call = open_document(OpenAIChat(), payload("openai_chat.json"))
    usage_of(call)
    assert call.counted() == (len("Olá, tudo bem?".encode()), len("Olá! Claro, posso ajudar com isso.".encode()))
    silent = open_document(dialect_called("embeddings"), payload("openai_embeddings.json"), body={"input": "Olá"})
    usage_of(silent)
    assert silent.counted() == (4, None)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai_audio_chat.json", QUESTION),
        ("gemini_image_out.json", {"contents": "Olá"}),
        ("openai_chat.json", {"messages": [{"role": "user", "content": [PICTURE]}]}),
        ("openai_realtime_response_done.json", {}),
    ],
)
def test_of_sound_and_pictures_a_count_says_nothing(name, body):
    call = open_document(dialect_of(name), payload(name), body=body)
    assert usage_of(call) is not None
    assert call.counted() is None


def test_what_sets_the_price_is_there_once_the_usage_is():
    call = answer_of("perplexity_chat.json")
    usage_of(call)
    assert call.price_terms == PriceTerms(model="sonar-pro", reported_usd=0.00903)


def test_asking_twice_gives_the_same():
    call = answer_of("gemini_embed.json")
    assert usage_of(call) == usage_of(call)
    call = open_document(dialect_called("google-embeddings"), b'{"predictions":[{"gcsUri":"gs://b/a"}]}')
    assert call.background_id is None
    assert (usage_of(call), usage_of(call)) == (Usage(0, 0, "reported", images=1),) * 2


def test_an_answer_that_is_still_being_made_is_read_anew_with_each_poll():
    responses, body = dialect_called("openai-responses"), {"model": "gpt-5", "input": "Oi", "background": True}
    call = open_document(responses, b'{"id":"resp_1","background":true,"status":"queued"}', body=body)
    assert call.background_id == "resp_1"
    assert not call.is_over
    again = call.again()
    again.begin({}, None)
    again.read_body(payload("openai_responses.json"))
    assert again.is_over
    assert again.background_id is None
    assert again.id == call.id
    assert usage_of(again).total_tokens == 5760


def test_a_document_that_comes_in_pieces_is_read_when_it_is_over():
    name = "anthropic_messages.json"
    call = open_call(dialect_of(name))
    call.begin({}, None)
    assert feed(call, pieces(payload(name), 100)) == payload(name)
    assert usage_of(call).output_tokens == 393


def test_a_compressed_document_is_inflated_to_be_read():
    name = "anthropic_messages.json"
    call = open_call(dialect_of(name))
    call.begin({}, None)
    call.inflate(encodings.decoder("gzip") or bytes)
    compressed = gzip.compress(payload(name))
    assert feed(call, pieces(compressed, 50)) == compressed
    assert usage_of(call).output_tokens == 393


def test_a_document_that_is_too_long_is_relayed_unread(monkeypatch, caplog):
    monkeypatch.setattr("solaris_meter.metering.call.MAX_EVENT_BYTES", 100)
    call = open_call(OpenAIChat())
    call.begin({}, None)
    assert feed(call, [b"x" * 80, b"y" * 80, b"z" * 80]) == b"x" * 80 + b"y" * 80 + b"z" * 80
    assert caplog.text.count("cannot be followed any more") == 1


@pytest.mark.parametrize("hides_usage", [False, True])
def test_what_stands_before_an_event_that_is_too_long_is_relayed_and_read(monkeypatch, hides_usage):
    monkeypatch.setattr(framing, "MAX_EVENT_BYTES", 100)
    said = b'data: {"choices":[{"delta":{"content":"Oi"}}]}\n\n'
    stream = said + b"data: " + b"x" * 200
    call = open_call(OpenAIChat(), hides_usage=hides_usage)
    assert feed(call, [stream, b"y"]) == stream + b"y"
    assert usage_of(call).output_tokens == 2


@pytest.mark.parametrize("hides_usage", [False, True])
def test_a_stream_of_another_framing_than_it_says_is_relayed(hides_usage):
    stream = payload("openai_chat_stream_nousage.sse")
    for another in (Lines(), JsonArray(), EventStream()):
        call = open_call(OpenAIChat(), hides_usage=hides_usage, framing=another)
        with nothing_fails():
            assert feed(call, pieces(stream, 40)) == stream


def test_headers_that_cannot_be_read_cost_nothing_of_the_answer(caplog):
    class Faulty(OpenAIChat):
        def read_headers(self, answer, headers):
            raise RuntimeError("a defect of ours")

    call = open_call(Faulty())
    feed(call, [payload("openai_chat_stream_usage.sse")])
    assert usage_of(call).total_tokens == 41
    assert "the headers of its answer cannot be read" in caplog.text


def test_a_session_ends_where_nothing_is_left():
    call = open_call(endpoints.REALTIME, granted=3, strict=True, body={})
    call.read_message(b'{"type":"response.output_text.delta","delta":"Ol"}')
    assert not call.used_up()
    call.read_message(b'{"type":"response.output_text.delta","delta":"\xc3\xa1"}')
    assert call.used_up()


@pytest.mark.parametrize("message", [b"", b"not json", b"[1]", b"\xff", b"[" * 100_000])
def test_a_message_that_says_nothing_is_passed_over(message):
    call = open_call(endpoints.REALTIME, body={})
    with nothing_fails():
        call.read_message(message)
    assert usage_of(call) is None
    assert not call.finished


def test_no_number_is_larger_than_any_call():
    def read(tokens):
        usage = {"prompt_tokens": tokens, "completion_tokens": 1}
        return usage_of(open_document(OpenAIChat(), json.dumps({"usage": usage}).encode()))

    assert read(float(MAX_TOKENS)) == Usage(MAX_TOKENS, 1, "reported")
    assert read(MAX_TOKENS + 1).input_tokens == len("Olá, tudo bem?".encode())
