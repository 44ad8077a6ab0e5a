"""What people read of a call, in every dialect, however its bytes were cut."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metering.calls import REQUESTS
from tests.metering.samples import EXPECTED, MEDIA_TYPES, NAMED, dialect_of, payload

from solaris_meter.proxy import transcript

JSON = "application/json"
THOUGHT = {
    "anthropic_messages.json": "Let me think about it.",
    "anthropic_stream_cache_thinking.sse": "Let me work this out step by step.",
    "deepseek_stream.sse": "Pensar",
}
CALLED = {
    "anthropic_stream_tool.sse": 'get_weather({"location": "Porto"})',
    "anthropic_stream_websearch.sse": 'a tool({"query": "tempo Porto"})',
    "openai_chat_stream_tools.sse": 'get_weather({"city":"Porto"})',
}
_KEYS = (
    "messages content type text role input contents parts tools function name choices delta tool_calls message output"
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=4),
    max_leaves=12,
)


def told(name) -> Any:
    return transcript.answer(dialect_of(name), payload(name), MEDIA_TYPES[Path(name).suffix])


def asked(dialect, path, data, content_type=JSON) -> Any:
    return transcript.request(NAMED[dialect], path, data, content_type)


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name]["text"]])
def test_an_answer_is_put_together(name):
    shown = told(name)
    said = EXPECTED[name]["text"]
    if name in THOUGHT:
        assert f"── assistant, thinking ──\n{THOUGHT[name]}" in shown
        said = said.removeprefix(THOUGHT[name])
    if name in CALLED:
        assert shown.endswith(f"── assistant calls ──\n{CALLED[name]}")
    else:
        assert shown.endswith(f"── assistant ──\n{said}")


@pytest.mark.parametrize("name", [name for name in EXPECTED if not EXPECTED[name]["text"]])
def test_an_answer_without_text_is_left_to_other_views(name):
    assert told(name) is None


# The request of one is a handshake, the other's an upload, which has a test of its own.
@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - {"openai-realtime", "openai-transcription"}))
def test_a_request_tells_its_model_and_what_it_says(name):
    path, body = REQUESTS[name]
    request = NAMED[name].read_request(path, body, 0)
    shown = asked(name, path, json.dumps(body).encode())
    assert shown.startswith(f"{request.model} · {'streamed' if request.stream else 'not streamed'}")
    assert "──\n" in shown


def test_a_conversation_keeps_its_order_and_names_what_is_no_text():
    shown = asked("openai-chat", *_dumped("openai-chat"))
    assert shown == (
        "gpt-4o · streamed · max_completion_tokens 50 · n 2\ntools: clima\n\n"
        "── system ──\nSeja breve.\n\n── assistant ──\ncalls clima()\n\n── tool ──\n42\n\n── user ──\nE?\n[image_url]"
    )


def test_a_tool_and_its_result_are_shown():
    shown = asked("anthropic", *_dumped("anthropic"))
    assert '── assistant ──\ncalls f({"a": 1})\n\n── user ──\nresult: 42' in shown


def test_an_upload_is_named_by_its_size():
    form = (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n12345\r\n--b--\r\n'
    )
    shown = asked("openai-transcription", "/v1/audio/transcriptions", form, "multipart/form-data; boundary=b")
    assert shown.startswith("whisper-1 · not streamed")
    assert shown.endswith("[file: 5 bytes]")


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'{"messages": [', b"[" * 100_000, b'{"model": "gpt-4o"}'])
def test_a_request_that_says_nothing_is_left_to_other_views(body):
    assert asked("openai-chat", "/v1/chat/completions", body) is None


def test_plain_text_is_the_answer_of_a_transcription():
    shown = transcript.answer(NAMED["openai-transcription"], "Olá mundo".encode(), "text/plain; charset=utf-8")
    assert shown == "── assistant ──\nOlá mundo"


@pytest.mark.parametrize("dialect", NAMED.values(), ids=lambda dialect: dialect.name)
@given(body=ODD)
def test_odd_values_never_fail(dialect, body):
    data = json.dumps(body).encode()
    transcript.request(dialect, "/v1/x", data, JSON)
    transcript.answer(dialect, data, JSON)
    transcript.answer(dialect, b"data: " + data + b"\n\n", "text/event-stream")


@pytest.mark.parametrize(
    "name", ["openai_chat_stream_usage.sse", "bedrock_converse_stream.bin", "anthropic_stream.sse"]
)
def test_the_beginning_of_an_answer_is_shown_wherever_it_was_cut(name):
    whole = payload(name)
    for end in range(0, len(whole), 7):
        shown = transcript.answer(dialect_of(name), whole[:end], MEDIA_TYPES[Path(name).suffix])
        assert shown is None or f"── assistant ──\n{EXPECTED[name]['text']}".startswith(shown)


def test_what_was_compressed_and_cut_is_read_as_far_as_it_goes():
    plain = b"".join(b"%d a line of text\n" % number for number in range(10_000))
    cut = gzip.compress(plain)[:-2000]
    read = transcript.inflated(cut, "gzip")
    assert plain.startswith(read)
    assert len(read) > len(plain) / 2
    assert transcript.inflated(b"not compressed", "gzip") == b"not compressed"
    assert transcript.inflated(b"who knows", "compress") == b"who knows"


def _dumped(name):
    path, body = REQUESTS[name]
    return path, json.dumps(body).encode()
