"""Every provider's answer, through a call: what it used, however it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.calls import ByteCounter, feed, open_payload, read_whole, usage_of
from tests.metering.samples import (
    BODIES,
    EXPECTED,
    PAYLOADS,
    SERVER_SENT,
    STREAMS,
    answer_in,
    cut,
    dialect_called,
    dialect_of,
    framing_of,
    payload,
    pieces,
    totals,
    with_line_end,
)

from solaris_meter.models import Basis, PriceTerms, Usage


def due(name, call):
    """What a payload has to be charged; a side that it does not tell is counted, a byte for a token."""
    entry = EXPECTED[name]
    read, written = entry["input_tokens"], entry["output_tokens"]
    if read is None and written is None and not entry["text"]:
        return None
    counter = ByteCounter()
    counted_text = written is None and entry["text"]
    if written is None:
        written = counter.count_answer("", entry["text"]).tokens
    basis: Basis = "counted" if read is None or counted_text else "reported"
    if read is None:
        read = counter.count_prompt("", call.request.prompt()).tokens
    parts = ("cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "images", "audio_ms")
    return Usage(read, written, basis, **{part: entry[part] for part in parts})


def assert_charged(name, call):
    assert usage_of(call) == due(name, call)
    assert call.price_terms == PriceTerms(**EXPECTED[name]["terms"])


def test_every_payload_is_expected_to_give_something():
    assert sorted(EXPECTED) == sorted(path.name for path in PAYLOADS.iterdir() if path.name != "EXPECTED.json")
    assert sorted([*BODIES, *STREAMS]) == sorted(EXPECTED)
    assert len(EXPECTED) >= 53


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [1_000_000, 7, 1])
def test_an_answer_is_charged_for_what_it_used(name, size):
    call = open_payload(name)
    data = payload(name)
    relayed = feed(call, pieces(data, size))
    assert relayed == data
    assert_charged(name, call)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_an_answer_says_is_its_text(name):
    answer = answer_in(name)
    assert totals(answer)["text"] == EXPECTED[name]["text"]
    assert not answer.refused_usage


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_that_was_held_is_charged_the_same(name):
    call = open_payload(name)
    call.read_body(payload(name))
    assert_charged(name, call)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_an_answer_may_be_cut_anywhere(data):
    name = data.draw(st.sampled_from(sorted(EXPECTED)))
    call = open_payload(name)
    chunks = data.draw(cut(payload(name)))
    assert [call.feed(chunk) for chunk in chunks] == chunks
    assert call.finish() == b""
    assert_charged(name, call)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", SERVER_SENT)
def test_any_line_end_will_do(name, line_end):
    call = open_payload(name)
    feed(call, pieces(with_line_end(payload(name), line_end), 11))
    assert_charged(name, call)


@pytest.mark.parametrize("name", SERVER_SENT)
def test_a_stream_that_calls_itself_json_is_charged_the_same(name):
    call = open_payload(name)
    call.begin({}, None)
    call.read_body(payload(name))
    assert_charged(name, call)


def test_an_array_that_was_held_is_charged_like_its_stream():
    name = "gemini_stream_array.json"
    call = open_payload(name)
    call.begin({}, None)
    call.read_body(payload(name))
    assert_charged(name, call)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_second_look_is_not_added_to_the_first(name):
    # An answer that is polled is read anew with every poll.
    call = open_payload(name)
    feed(call, [payload(name)])
    usage_of(call)
    again = call.again()
    again.begin({}, framing_of(name))
    feed(again, [payload(name)])
    assert_charged(name, again)


@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_is_known_to_be_whole_where_its_dialect_can_tell(name):
    call = open_payload(name)
    feed(call, [payload(name)])
    cannot_tell = dialect_of(name).name == "bedrock-invoke"  # its last chunk looks like any other
    assert call.finished is ("aborted" not in name and not cannot_tell)


@pytest.mark.parametrize("name", ["anthropic", "openai-responses", "google", "bedrock-invoke", "generic"])
def test_what_a_count_endpoint_tells_is_no_usage(name):
    # Such endpoints are free; were one ever read as a model's, it must cost nothing all the same.
    assert read_whole(dialect_called(name), {"input_tokens": 2095, "totalTokens": 31}) is None
