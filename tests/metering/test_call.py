import asyncio
import gzip
import json
import zlib
from concurrent.futures import Future

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import (
    BODIES,
    EXPECTED,
    LINE_ENDS,
    STREAMS,
    cut,
    dialect_called,
    dialect_of,
    loaded_counter,
    payload,
    pieces,
    with_line_end,
)

from solaris_meter.ledger.reservations import Ask, Reserved
from solaris_meter.metering import encodings, endpoints, sse
from solaris_meter.metering.call import Call, Terms
from solaris_meter.metering.dialects.openai_chat import OpenAIChat
from solaris_meter.metering.tokens import ATTACHMENT_ESTIMATE, TokenCounter
from solaris_meter.models import CallDetails, Caller, Standing, Usage
from solaris_meter.periods import Period

STANDING = Standing("ana", None, "basico", "active", "UTC", Period(0, None), used=0, reserved=0, balance=100)
QUESTION = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Olá, tudo bem?"}]}
ROUGH = TokenCounter()
"""Not loaded: good enough where nothing is counted in the end."""


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


def open_call(
    dialect,
    *,
    counter=ROUGH,
    body=None,
    granted=1_000_000,
    strict=False,
    hides_usage=False,
    reserved=True,
    notice="NOTICE",
):
    details = CallDetails("openai", "gpt-4o", dialect.name, "/", stream=True)
    ask = Ask("call-1", Caller("ana"), details, 10, False, granted, granted, 3, "soft", "here", 0)
    terms = Terms(
        ask=ask,
        reserved=Reserved("call-1", 10 + granted, granted, STANDING) if reserved else None,
        opened_ms=0,
        slice_tokens=1024,
        strict=strict,
        body=None,
        hides_usage=hides_usage,
        notice=notice,
    )

    def nothing_left(tokens):
        future: Future[int] = Future()
        future.set_result(0)
        return future

    request = dialect.read_request("", body or QUESTION, 100)
    return Call(terms, dialect, request, counter, nothing_left)


def feed(call, chunks):
    return b"".join(call.feed(chunk) for chunk in chunks) + call.finish()


def usage_of(call, *, client_left=False):
    return asyncio.run(call.usage(client_left=client_left))


def less_usage_event(stream):
    """What a caller gets who did not ask for usage: everything but the last chunk without choices."""
    blocks = stream.split(b"\n\n")
    kept = [block for block in blocks if b'"choices":[],"usage":{' not in block]
    assert len(kept) == len(blocks) - 1
    return b"\n\n".join(kept)


def reported(name):
    keys = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
    return {key: EXPECTED[name][key] for key in keys}


COMPLETE = [name for name in STREAMS if EXPECTED[name]["output_tokens"] is not None]
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
    "name", [name for name in STREAMS if EXPECTED[name]["dialect"] == "openai-chat" and name not in WITH_USAGE_EVENT]
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


def test_a_body_that_is_not_compressed_as_it_says_is_relayed_as_it_comes(caplog):
    call = open_call(OpenAIChat())
    decode = encodings.decoder("gzip")
    assert decode is not None
    call.inflate(decode)
    stream = payload("openai_chat_stream_usage.sse")
    assert feed(call, pieces(stream, 100)) == stream
    assert caplog.text.count("cannot be followed any more") == 1


@pytest.mark.parametrize("name", [name for name in BODIES if EXPECTED[name]["output_tokens"] is not None])
def test_a_whole_answer_is_charged_as_reported(name):
    call = open_call(dialect_of(name))
    call.read_body(payload(name))
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (
        EXPECTED[name]["input_tokens"],
        EXPECTED[name]["output_tokens"],
        "reported",
    )


def test_the_parts_of_a_usage_are_kept():
    name = "anthropic_stream_cache_thinking.sse"
    call = open_call(dialect_of(name))
    feed(call, [payload(name)])
    assert usage_of(call) == Usage(basis="reported", **reported(name))


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
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": [picture]}]}
    call = open_call(OpenAIChat(), counter=counter, body=body)
    feed(call, [payload("openai_chat_stream_nousage.sse")])
    usage = usage_of(call)
    assert usage.basis == "estimated"
    assert usage.input_tokens > ATTACHMENT_ESTIMATE


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
    decoder = sse.Decoder()
    return [event.data for event in decoder.feed(data) + decoder.flush() if event.data is not None]


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
    call = open_call(OpenAIChat(), body=body, granted=4, strict=True)
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
