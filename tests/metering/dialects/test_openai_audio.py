import io
import json
import wave

import pytest
from tests.metering.calls import REQUESTS, feed, open_call, open_document, read_whole, usage_of
from tests.metering.samples import payload

from solaris_meter.metering.dialects.openai_audio import OpenAISpeech, OpenAITranscription

HEARS, SPEAKS = OpenAITranscription(), OpenAISpeech()
HEARS_AT, SPEAKS_AT = "/v1/audio/transcriptions", "/v1/audio/speech"


def wav(seconds: float, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * round(rate * seconds)))
    return out.getvalue()


FORM = {"model": "whisper-1", "file": wav(2.5), "prompt": "Nomes: Ana."}


def heard(data, *, form=FORM):
    call = open_document(HEARS, data, path=HEARS_AT, body=form)
    return usage_of(call)


def spoken(data, **body):
    call = open_document(SPEAKS, data, path=SPEAKS_AT, body={"model": "tts-1", "input": "Olá"} | body)
    return usage_of(call), call.price_terms


def test_a_form_is_read():
    request = HEARS.read_request(HEARS_AT, FORM | {"user": "65f0"}, 50_000)
    assert (request.model, request.user, request.stream) == ("whisper-1", "65f0", False)
    assert request.audio_ms == len(FORM["file"]) // 6  # by its size, as speech is usually recorded
    assert request.size.bound < 50_000 - len(FORM["file"]) + 2000  # its bytes are no text
    assert request.prompt().text == "Nomes: Ana."
    assert HEARS.read_request("/openai/deployments/ouvido/audio/transcriptions", {}, 1).model == "ouvido"


@pytest.mark.parametrize("file", [None, "", b"", 7])
def test_where_there_is_no_sound_none_is_held(file):
    assert HEARS.read_request(HEARS_AT, {"file": file}, 100).audio_ms == 0


@pytest.mark.parametrize(("stream", "streams"), [("true", True), ("false", False), (True, True), ("", False)])
def test_a_form_says_in_words_whether_it_streams(stream, streams):
    assert HEARS.read_request(HEARS_AT, {"stream": stream}, 100).stream is streams


def test_tokens_are_charged_where_they_are_told():
    usage = heard(payload("openai_transcription_tokens.json"))
    assert (usage.input_tokens, usage.output_tokens, usage.audio_ms, usage.basis) == (114, 45, 0, "reported")


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "Olá", "usage": {"type": "duration", "seconds": 9}},
        {"text": "Olá", "duration": 9.0, "language": "portuguese", "segments": []},
        {"text": "Olá", "duration": "9.00"},
        {"text": "", "usage": {"type": "duration", "seconds": 9}},
    ],
)
def test_seconds_are_charged_where_they_are_told(answer):
    usage = heard(json.dumps(answer).encode())
    assert (usage.audio_ms, usage.input_tokens, usage.output_tokens, usage.basis) == (9000, 0, 0, "reported")


@pytest.mark.parametrize("seconds", [-1, 0, True, "x", 1e12, None])
def test_seconds_that_cannot_be_are_measured(seconds):
    usage = heard(json.dumps({"text": "Olá", "duration": seconds}).encode())
    assert (usage.audio_ms, usage.basis) == (2500, "counted")


@pytest.mark.parametrize(
    "answer",
    [
        b'{"text":"Ol\xc3\xa1"}',
        "Olá, tudo bem?\n".encode(),
        b"1\n00:00:00,000 --> 00:00:02,000\nOi\n",
        b"WEBVTT\n\n00:00.000 --> 00:02.000\nOi\n",
    ],
)
def test_a_transcript_alone_is_charged_for_the_sound_that_was_sent(answer):
    usage = heard(answer)
    assert (usage.audio_ms, usage.input_tokens, usage.output_tokens, usage.basis) == (2500, 0, 0, "counted")


@pytest.mark.parametrize(
    ("answer", "length_ms"),
    [
        (b"1\n00:00:00,000 --> 00:00:02,000\nOi\n\n2\n00:00:02,000 --> 01:02:03,450\nFim\n", 3_723_450),
        (b"WEBVTT\n\n00:00.000 --> 00:02.000\nOi\n\n00:02.000 --> 00:04.500\nFim\n", 4500),
    ],
)
def test_a_sound_that_cannot_be_measured_is_as_long_as_its_subtitles(answer, length_ms):
    usage = heard(answer, form=FORM | {"file": b"?"})
    assert (usage.audio_ms, usage.basis) == (length_ms, "estimated")


@pytest.mark.parametrize("hours", ["99999999999", "9" * 5000])
def test_subtitles_of_an_absurd_length_measure_nothing(hours, caplog):
    usage = heard(f"1\n00:00:00,000 --> {hours}:00:00,000\nOi\n".encode(), form=FORM | {"file": b"?"})
    assert usage.audio_ms == 0
    assert usage.output_tokens > 0
    assert "cannot be read" not in caplog.text


def test_a_transcript_of_an_unknown_length_is_counted():
    usage = heard(b"Ol\xc3\xa1", form=FORM | {"file": b"?"})
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (len("Nomes: Ana."), 4, "estimated")


def test_a_streamed_transcript_is_charged_at_its_end():
    call = open_call(HEARS, path=HEARS_AT, body=FORM)
    feed(call, [b'data: {"type":"transcript.text.delta","delta":"Ol\xc3\xa1"}\n\n'])
    assert not call.finished
    used = {"type": "tokens", "input_tokens": 14, "input_token_details": {"audio_tokens": 10}, "output_tokens": 45}
    done = {"type": "transcript.text.done", "text": "Olá", "usage": used}
    feed(call, [f"data: {json.dumps(done)}\n\n".encode()])
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens) == (14, 45)
    assert call.price_terms.audio_input_tokens == 10
    assert call.finished


def test_a_cut_transcript_is_charged_for_the_sound():
    call = open_call(HEARS, path=HEARS_AT, body=FORM)
    feed(call, [b'data: {"type":"transcript.text.delta","delta":"Oi"}\n\n'])
    usage = usage_of(call, client_left=True)
    assert (usage.audio_ms, usage.basis) == (2500, "counted")


def test_an_error_costs_nothing():
    assert read_whole(HEARS, {"error": {"message": "no"}}, path=HEARS_AT, body=FORM) is None
    assert heard(b"") is None


def test_what_is_to_be_spoken_is_the_prompt():
    path, body = REQUESTS["openai-speech"]
    request = SPEAKS.read_request(path, body, 100)
    assert (request.model, request.stream, request.user) == ("gpt-4o-mini-tts", True, "65f0")
    assert request.prompt().text == "Alegre.\nOlá"
    assert not SPEAKS.read_request(path, {"stream_format": "audio"}, 100).stream


def test_a_streamed_speech_tells_its_tokens():
    call = open_call(SPEAKS, path=SPEAKS_AT, body={"model": "gpt-4o-mini-tts", "input": "Olá"})
    feed(call, [payload("openai_tts_stream.sse")])
    usage = usage_of(call)
    assert (usage.input_tokens, usage.output_tokens, usage.audio_ms) == (14, 101, 0)
    assert call.finished


def test_a_speech_is_charged_for_its_text_and_its_length():
    usage, terms = spoken(wav(1.25))
    assert (usage.input_tokens, usage.output_tokens, usage.audio_ms, usage.basis) == (4, 0, 1250, "counted")
    assert terms.characters == 3


def test_raw_samples_are_measured_by_their_number():
    usage, _ = spoken(bytes(48_000), response_format="pcm")
    assert usage.audio_ms == 1000


def test_a_sound_that_cannot_be_measured_is_estimated_by_its_size():
    # Six bytes a millisecond, as speech is usually recorded.
    usage, terms = spoken(b"no sound at all " * 6)
    assert (usage.input_tokens, usage.output_tokens, usage.audio_ms, usage.basis) == (4, 0, 16, "estimated")
    assert terms.characters == 3


def test_a_speech_that_was_cut_owes_its_text():
    call = open_call(SPEAKS, path=SPEAKS_AT, body={"model": "gpt-4o-mini-tts", "input": "Olá"})
    feed(call, [b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'])
    usage = usage_of(call, client_left=True)
    assert (usage.input_tokens, usage.output_tokens, usage.basis) == (4, 0, "estimated")


def test_no_sound_costs_nothing():
    usage, _ = spoken(b"")
    assert usage is None


def test_a_refusal_to_speak_costs_nothing():
    usage, _ = spoken(b'{"error":{"message":"no"}}')
    assert usage is None


@pytest.mark.parametrize("dialect", [HEARS, SPEAKS])
def test_a_refusal_is_openais_error(dialect):
    assert dialect.denial(429, "insufficient_quota", "Acabou.", plain=True)["error"]["message"] == "Acabou."
