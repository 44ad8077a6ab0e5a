"""OpenAI's sound: transcription, translation, speech.

Transcription: https://platform.openai.com/docs/api-reference/audio/createTranscription (the newer models report tokens,
whisper the seconds it heard). Speech: /docs/api-reference/audio/createSpeech (usage only as server-sent events; else
the answer is the sound itself).
"""

import re

from solaris_meter.metering import sound
from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Json,
    Request,
    deployment,
    kind,
    make_request,
    mapping,
    milliseconds,
)
from solaris_meter.metering.tokens import Prompt

_MS_PER_TOKEN = 100
"""Nobody speaks faster than that."""
_TOKENS_PER_CHARACTER = 3
"""Slow speech: twenty tokens a second, seven characters."""
_DONE = frozenset({"transcript.text.done", "transcription.done"})
_CUE_END = re.compile(rb"-->\s*(?:(\d{1,3}):)?(\d\d):(\d\d)[.,](\d{3})")


class OpenAITranscription(openai_style.OpenAIStyle):
    """`/audio/transcriptions` and `/audio/translations`: an uploaded form, answered with JSON, text or events."""

    name = "openai-transcription"
    limits_output = False
    takes_forms = True
    concludes_slowly = True
    paths = re.compile(r"/audio/(transcriptions|translations)$", re.IGNORECASE)
    usage_at = "`usage` of type tokens or duration, streamed in `transcript.text.done`; whisper's verbose `duration`"
    formula = (
        "IN = input_tokens (Mistral: total_tokens - completion_tokens); OUT = output_tokens; by duration: the seconds"
        " of sound, measured here where not told"
    )
    source = "https://platform.openai.com/docs/api-reference/audio/json-object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        file = body.get("file")
        length_ms = sound.guess_ms(len(file)) if isinstance(file, bytes) else 0
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            max_output=256 + length_ms // _MS_PER_TOKEN,
            user=body.get("user"),
            audio_ms=length_ms,
            prompt=lambda: Prompt(messages=(), text=str(body.get("prompt") or "")),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        named = kind(event)
        if named == "transcript.text.delta":
            answer.wrote(event.get("delta"))
        elif named == "transcription.text.delta":  # Mistral
            answer.wrote(event.get("text"))
        elif named in _DONE:
            _read_heard(answer, event)

    def is_last(self, event: Json) -> bool:
        return kind(event) in _DONE

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.wrote(body.get("text"))
        _read_heard(answer, body)

    def read_other(self, answer: Answer, data: bytes) -> None:
        answer.wrote(data.decode("utf-8", "replace"))
        cues = _CUE_END.findall(data)  # srt and vtt end with the end of the last cue
        if cues:
            hours, minutes, seconds, thousandths = (int(part or 0) for part in cues[-1])
            answer.state["cue_ms"] = ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths

    def conclude(self, answer: Answer, request: Request) -> None:
        if answer.input_tokens is not None or answer.audio_ms or not (answer.text or answer.ran):
            return
        file = request.body.get("file")
        measured = sound.length_ms(file) if isinstance(file, bytes) else None
        # The last word of a transcript comes before the end of the sound; a guess by the size may be far off.
        answer.audio_ms = measured or answer.state.get("cue_ms", 0) or request.audio_ms
        answer.basis = "counted" if measured else "estimated"
        if answer.audio_ms:
            answer.input_tokens = answer.output_tokens = 0


class OpenAISpeech(openai_style.OpenAIStyle):
    """`/audio/speech`: JSON in, sound out, or events that hold it."""

    name = "openai-speech"
    limits_output = False
    concludes_slowly = True
    paths = re.compile(r"/audio/speech$", re.IGNORECASE)
    usage_at = "`usage`, only in the event `speech.audio.done`"
    formula = (
        "IN = input_tokens; OUT = output_tokens; without usage: the text's tokens, counted, and the sound's seconds"
    )
    source = "https://platform.openai.com/docs/api-reference/audio/createSpeech"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        text = body.get("input")
        said = "\n".join(part for part in (body.get("instructions"), text) if isinstance(part, str))
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            user=body.get("user"),
            max_output=256 + _TOKENS_PER_CHARACTER * len(said),
            stream=body.get("stream_format") == "sse",
            prompt=lambda: Prompt(messages=(), text=said),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        answer.ran = True
        piece = event.get("audio")
        if isinstance(piece, str):
            answer.state["streamed"] = answer.state.get("streamed", 0) + len(piece) * 3 // 4
        if kind(event) == "speech.audio.done":
            openai_style.read_input_output(answer, mapping(event.get("usage")))

    def is_last(self, event: Json) -> bool:
        return kind(event) == "speech.audio.done"

    def read_body(self, answer: Answer, body: Json) -> None:
        openai_style.read_input_output(answer, mapping(body.get("usage")))

    def read_other(self, answer: Answer, data: bytes) -> None:
        answer.ran = bool(data)
        answer.state["sound"] = data

    def conclude(self, answer: Answer, request: Request) -> None:
        text = request.body.get("input")
        answer.terms["characters"] = len(text) if isinstance(text, str) else 0
        if answer.input_tokens is None and answer.output_tokens is None and answer.ran:
            heard = answer.state.pop("sound", b"")
            size = len(heard) + answer.state.get("streamed", 0)
            pcm = request.body.get("response_format") == "pcm"
            measured = sound.pcm_ms(size) if pcm else sound.length_ms(heard)
            answer.audio_ms = measured or sound.guess_ms(size)
            answer.output_tokens = 0
            answer.basis = "counted" if measured else "estimated"


def _read_heard(answer: Answer, holder: Json) -> None:
    usage = mapping(holder.get("usage"))
    seconds = usage.get("seconds") if usage.get("type") == "duration" else None
    if seconds is None and not usage:
        seconds = holder.get("duration")  # verbose_json
    heard_ms = milliseconds(seconds)
    if heard_ms is not None:
        answer.audio_ms = heard_ms
        answer.input_tokens = answer.output_tokens = 0
    elif "prompt_tokens" in usage:  # Mistral: the sound's tokens are in the total alone
        total, written = answer.number(usage, "total_tokens"), answer.number(usage, "completion_tokens")
        read = answer.number(usage, "prompt_tokens")
        if read is not None and written is not None:
            answer.input_tokens, answer.output_tokens = max(read, (total or 0) - written), written
    else:
        openai_style.read_input_output(answer, usage)
