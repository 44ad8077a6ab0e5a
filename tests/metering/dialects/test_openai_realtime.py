import base64
import json

import pytest
from tests.metering.calls import open_call, usage_of
from tests.metering.samples import payload

from solaris_meter.metering.dialects.openai_realtime import DONE, TRANSCRIBED, OpenAIRealtime

REALTIME = OpenAIRealtime()


def after(*events):
    call = open_call(REALTIME, path="/v1/realtime", body={"model": "gpt-realtime"})
    for event in events:
        call.read_message(json.dumps(event).encode())
    return call


def done(*output, **usage):
    return {"type": DONE, "response": {"output": list(output), "usage": usage or None}}


def test_the_handshake_names_the_model():
    request = REALTIME.read_request("/v1/realtime", {"model": "gpt-realtime"}, 0)
    assert (request.model, request.stream) == ("gpt-realtime", True)
    assert REALTIME.read_request("/openai/realtime", {"deployment": "voz"}, 0).model == "voz"
    assert REALTIME.read_request("/v1/realtime", {}, 0).model == "unknown"


def test_a_response_tells_what_it_used():
    call = after(json.loads(payload("openai_realtime_response_done.json")))
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (132, 121, 64)
    assert (call.price_terms.audio_input_tokens, call.price_terms.audio_output_tokens) == (13, 91)
    assert call.finished


def test_what_is_heard_is_transcribed_by_another_model():
    call = after({"type": TRANSCRIBED, "transcript": "Olá", "usage": {"type": "duration", "seconds": 1.5}})
    usage = usage_of(call)
    assert (usage.audio_ms, usage.input_tokens, usage.output_tokens) == (1500, 0, 0)
    assert call.finished
    in_tokens = {"type": "tokens", "input_tokens": 14, "output_tokens": 4}
    usage = usage_of(after({"type": TRANSCRIBED, "transcript": "Olá", "usage": in_tokens}))
    assert (usage.input_tokens, usage.output_tokens, usage.audio_ms) == (14, 4, 0)


@pytest.mark.parametrize("seconds", [-1, -0.4, float("nan"), float("inf"), 10**30, True, "x", None, []])
def test_seconds_that_cannot_be_are_none(seconds, caplog):
    call = after({"type": TRANSCRIBED, "transcript": "Olá", "usage": {"type": "duration", "seconds": seconds}})
    usage = usage_of(call)
    assert usage is None or usage.audio_ms in (0, 1000)
    assert "cannot be read" not in caplog.text


def test_a_cut_response_is_counted_by_its_words():
    usage = usage_of(
        after(
            {"type": "response.output_text.delta", "delta": "Olá"},
            {"type": "response.output_audio_transcript.delta", "delta": "!"},
            {"type": "response.function_call_arguments.delta", "delta": "{}"},
        )
    )
    assert (usage.output_tokens, usage.basis) == (7, "estimated")  # what it heard and knew before is not seen


def test_a_cut_response_is_estimated_by_its_sound():
    # A second of 24 kHz samples is 20 tokens.
    second = base64.b64encode(bytes(48_000)).decode()
    usage = usage_of(
        after(
            {"type": "response.output_audio_transcript.delta", "delta": "Olá!"},
            {"type": "response.output_audio.delta", "delta": second[:32_000]},
            {"type": "response.output_audio.delta", "delta": second[32_000:]},
        )
    )
    assert (usage.output_tokens, usage.basis) == (len("Olá!".encode()) + 20, "estimated")


def test_arguments_that_were_not_streamed_are_words_too():
    usage = usage_of(after(done({"type": "function_call", "arguments": '{"a":1}'})))
    assert usage.output_tokens == 7


def test_a_session_that_said_nothing_owes_nothing():
    call = after({"type": "session.created"}, {"type": "rate_limits.updated"})
    assert not call.finished
    assert usage_of(call, client_left=True) is None


def test_a_cancelled_response_without_usage_owes_nothing():
    assert usage_of(after(done())) is None


def test_a_refusal_is_openais_error():
    assert REALTIME.denial(429, "insufficient_quota", "Acabou.", plain=True)["error"]["code"] == "insufficient_quota"
