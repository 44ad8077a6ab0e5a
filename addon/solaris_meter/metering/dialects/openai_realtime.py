"""OpenAI Realtime over a WebSocket: a session in which each response is a call of its own.

Events: https://platform.openai.com/docs/api-reference/realtime-server-events. What the session hears is transcribed by
another model, which is paid apart.
"""

import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Json,
    Request,
    kind,
    make_request,
    mapping,
    milliseconds,
    objects,
)
from solaris_meter.metering.tokens import Prompt

_TEXTS = frozenset(
    {
        "response.output_text.delta",
        "response.text.delta",
        "response.output_audio_transcript.delta",
        "response.audio_transcript.delta",
        "response.function_call_arguments.delta",
    }
)
_SOUNDS = frozenset({"response.output_audio.delta", "response.audio.delta"})
TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
DONE = "response.done"


class OpenAIRealtime(openai_style.OpenAIStyle):
    """`/realtime`."""

    name = "openai-realtime"
    paths = re.compile(r"/realtime$", re.IGNORECASE)
    usage_at = "each `response.done`.response.usage; each transcription's `usage`"
    formula = "IN = input_tokens; OUT = output_tokens; one usage event a response"
    source = "https://platform.openai.com/docs/api-reference/realtime-server-events/response/done"
    counts_input = False
    limits_output = False

    # The body is the query of the handshake.
    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=body.get("deployment") or body.get("model"),
            stream=True,
            prompt=lambda: Prompt(messages=()),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        named = kind(event)
        if named in _TEXTS:
            answer.wrote(event.get("delta"))
        elif named in _SOUNDS:
            answer.heard(event.get("delta"))
        elif named == DONE:
            response = mapping(event.get("response"))
            if not answer.text:
                for item in objects(response.get("output")):
                    answer.wrote(item.get("arguments"))
            openai_style.read_input_output(answer, mapping(response.get("usage")))
        elif named == TRANSCRIBED:
            usage = mapping(event.get("usage"))
            seconds = usage.get("seconds") if usage.get("type") == "duration" else None
            heard_ms = milliseconds(seconds)
            if heard_ms is not None:
                answer.audio_ms, answer.input_tokens, answer.output_tokens = heard_ms, 0, 0
            else:
                openai_style.read_input_output(answer, usage)

    def is_last(self, event: Json) -> bool:
        return kind(event) in {DONE, TRANSCRIBED}

    def conclude(self, answer: Answer, request: Request) -> None:
        # The input of a response that broke off is the session so far, which only its server has.
        if answer.input_tokens is None and (answer.text or answer.ran):
            answer.basis = "estimated"

    def read_body(self, answer: Answer, body: Json) -> None:
        self.read_event(answer, body)


def response_id(event: Json) -> str | None:
    """The response that a server's event belongs to; None where it belongs to none."""
    if not kind(event).startswith("response."):
        return None
    found = event.get("response_id", mapping(event.get("response")).get("id"))
    return found if isinstance(found, str) else ""
