"""OpenAI: chat, completions, responses, embeddings, images, sound, realtime."""

import base64
import io
import itertools
import json
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, not_found, sse

CHAT = Bill(
    {
        "prompt_tokens": 2006,
        "completion_tokens": 301,
        "total_tokens": 2307,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 192,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 3,
            "rejected_prediction_tokens": 7,
        },
    },
    input=2006,
    cached=1920,
    output=301,
    reasoning=192,
)
COMPLETION = Bill({"prompt_tokens": 17, "completion_tokens": 43, "total_tokens": 60}, input=17, output=43)
RESPONSE = Bill(
    {
        "input_tokens": 5120,
        "input_tokens_details": {"cached_tokens": 4096},
        "output_tokens": 641,
        "output_tokens_details": {"reasoning_tokens": 512},
        "total_tokens": 5761,
    },
    input=5120,
    cached=4096,
    output=641,
    reasoning=512,
)
EMBEDDING = Bill({"prompt_tokens": 23, "total_tokens": 23}, input=23)
IMAGE = Bill(
    {
        "input_tokens": 51,
        "output_tokens": 1056,
        "total_tokens": 1107,
        "input_tokens_details": {"text_tokens": 11, "image_tokens": 40},
    },
    input=51,
    output=1056,
)
TRANSCRIPTION = Bill(
    {
        "type": "tokens",
        "input_tokens": 114,
        "input_token_details": {"text_tokens": 14, "audio_tokens": 100},
        "output_tokens": 45,
        "total_tokens": 159,
    },
    input=114,
    output=45,
)
SPEECH = Bill({"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}, input=14, output=101)
REALTIME = (
    Bill(
        {
            "total_tokens": 253,
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "image_tokens": 0,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
        input=132,
        cached=64,
        output=121,
    ),
    Bill(
        {
            "total_tokens": 391,
            "input_tokens": 302,
            "output_tokens": 89,
            "input_token_details": {"text_tokens": 250, "audio_tokens": 52, "cached_tokens": 192},
            "output_token_details": {"text_tokens": 20, "audio_tokens": 69},
        },
        input=302,
        cached=192,
        output=89,
    ),
)
"""The first and the second answer of a session."""

VECTOR = (0.25, -0.5, 0.125)
PICTURE = b"\x89PNG\r\n\x1a\n a picture"
SECONDS = 0.4
HEARD_SECONDS = 9
"""What whisper says it heard, rounded up, which is what it bills."""

_NUMBERS = itertools.count(1)
_POLLED: set[str] = set()
"""Ids of background responses that somebody asked for once: the second time they are done."""


def _wave() -> bytes:
    """A sound of SECONDS: silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * int(8000 * SECONDS))
    return file.getvalue()


SOUND = _wave()


def answer(request: Request) -> Answer:
    if request.method == "GET":
        return _read(request)
    path = request.path.removeprefix("/v1")
    if path.startswith("/audio/"):
        return _sound(path, request.body)
    if path.startswith("/images/"):
        return _image(request.body)
    handler = {
        "/chat/completions": _chat,
        "/completions": _completion,
        "/responses": _response,
        "/embeddings": _embedding,
        "/moderations": _moderation,
        "/responses/input_tokens": lambda body: document({"object": "response.input_tokens", "input_tokens": 4711}),
    }.get(path)
    return handler(request.body) if handler else not_found(request)


def _read(request: Request) -> Answer:
    """A list of models, or a response that runs in the background."""
    if request.path == "/v1/models":
        return document({"object": "list", "data": [{"id": "gpt-5", "object": "model", "created": 1, "owned_by": "o"}]})
    *_, identity = request.path.split("/")
    if request.path != f"/v1/responses/{identity}":
        return not_found(request)
    status = "completed" if identity in _POLLED else "in_progress"
    _POLLED.add(identity)
    return document(_response_body({"model": "gpt-5", "background": True}, identity, status))


# ------------------------------------------------------------------------------------------------- chat, completions


def _chat(body: Any) -> Answer:
    base = {"id": "chatcmpl-1", "created": 1761000000, "model": body["model"], "system_fingerprint": "fp_1"}
    if not body.get("stream"):
        message: Any = {"role": "assistant", "content": WHOLE_TEXT, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return document(base | {"object": "chat.completion", "choices": [choice], "usage": CHAT.wire})
    asked = (body.get("stream_options") or {}).get("include_usage")
    base |= {"object": "chat.completion.chunk"} | ({"usage": None} if asked else {})
    deltas: list[Any] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in TEXT), {}]
    finishes = [None] * (len(deltas) - 1) + ["stop"]
    events = [
        base | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
        for delta, finish in zip(deltas, finishes, strict=True)
    ]
    return sse(events + ([base | {"choices": [], "usage": CHAT.wire}] if asked else []), done=True)


def _completion(body: Any) -> Answer:
    base = {"id": "cmpl-1", "object": "text_completion", "created": 1761000000, "model": body["model"]}

    def choices(text: str, finish: str | None) -> Any:
        return {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}

    if not body.get("stream"):
        return document(base | choices(WHOLE_TEXT, "stop") | {"usage": COMPLETION.wire})
    asked = (body.get("stream_options") or {}).get("include_usage")
    events = [base | choices(piece, None) for piece in TEXT] + [base | choices("", "stop")]
    return sse(events + ([base | {"choices": [], "usage": COMPLETION.wire}] if asked else []), done=True)


# --------------------------------------------------------------------------------------------------------- responses


def _response_body(body: Any, identity: str, status: str = "completed") -> dict[str, Any]:
    is_done = status == "completed"
    content = {"type": "output_text", "annotations": [], "logprobs": [], "text": WHOLE_TEXT}
    output: list[Any] = [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [content]},
    ]
    return {
        "id": identity,
        "object": "response",
        "created_at": 1761000000,
        "status": status,
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": body["model"],
        "output": output if is_done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSE.wire if is_done else None,
        "metadata": {},
        "tool_usage": {"image_gen": {"input_tokens": 999, "output_tokens": 999}},
    }


def _response(body: Any) -> Answer:
    identity = f"resp_{next(_NUMBERS)}"
    if not body.get("stream"):
        return document(_response_body(body, identity, "queued" if body.get("background") else "completed"))
    part = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    message: Any = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    full = _response_body(body, identity)
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response_body(body, identity, "in_progress")},
        {"type": "response.in_progress", "response": _response_body(body, identity, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": full["output"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": full["output"][0]},
        {"type": "response.output_item.added", "output_index": 1, "item": message},
        {"type": "response.content_part.added", "part": empty} | part,
        *({"type": "response.output_text.delta", "delta": piece, "logprobs": []} | part for piece in TEXT),
        {"type": "response.output_text.done", "text": WHOLE_TEXT, "logprobs": []} | part,
        {"type": "response.content_part.done", "part": empty | {"text": WHOLE_TEXT}} | part,
        {"type": "response.output_item.done", "output_index": 1, "item": full["output"][1]},
        {"type": "response.completed", "response": full},
    ]
    return sse([event | {"sequence_number": number} for number, event in enumerate(events)], named=True)


# ------------------------------------------------------------------------------ embeddings, moderation, images, sound


def _embedding(body: Any) -> Answer:
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    vector: Any = packed if body.get("encoding_format") == "base64" else list(VECTOR)
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, _ in enumerate(texts)]
    return document({"object": "list", "data": data, "model": body["model"], "usage": EMBEDDING.wire})


def _moderation(body: Any) -> Answer:
    result: dict[str, Any] = {"flagged": False, "categories": {}, "category_scores": {}}
    return document({"id": "modr-1", "model": "omni-moderation-latest", "results": [result]})


def _image(body: Any) -> Answer:
    """Of a new picture (JSON) or of one to be changed (a form)."""
    form = {
        key: value.decode() if isinstance(value, bytes) and key != "image" else value for key, value in body.items()
    }
    encoded = base64.b64encode(PICTURE).decode()
    if form["model"] == "dall-e-3":
        count = int(form.get("n") or 1)
        data = [{"url": "http://127.0.0.1/a.png", "revised_prompt": "um gato"} for _ in range(count)]
        return document({"created": 1761000000, "data": data})
    about = {"background": "opaque", "output_format": "png", "quality": "medium", "size": "1024x1024"}
    if form.get("stream") in (True, "true"):
        kind = "image_edit" if "image" in form else "image_generation"
        partial = {"type": f"{kind}.partial_image", "b64_json": encoded, "partial_image_index": 0, "created_at": 1}
        whole = {"type": f"{kind}.completed", "b64_json": encoded, "created_at": 1, "usage": IMAGE.wire}
        return sse([partial | about, whole | about], named=True)
    return document({"created": 1761000000, "data": [{"b64_json": encoded}], "usage": IMAGE.wire} | about)


def _sound(path: str, body: Any) -> Answer:
    if path == "/audio/speech":
        if body.get("stream_format") != "sse":
            return Answer([SOUND], "audio/wav")
        delta = {"type": "speech.audio.delta", "audio": base64.b64encode(SOUND).decode()}
        return sse([delta, {"type": "speech.audio.done", "usage": SPEECH.wire}])
    form = {key: value.decode() for key, value in body.items() if key != "file"}
    duration = {"type": "duration", "seconds": HEARD_SECONDS}
    if form.get("response_format") == "text":
        return Answer(f"{WHOLE_TEXT}\n".encode(), "text/plain; charset=utf-8")
    if form.get("response_format") == "verbose_json":
        task = "translate" if path == "/audio/translations" else "transcribe"
        verbose = {"task": task, "language": "portuguese", "duration": SECONDS, "segments": [], "words": []}
        return document(verbose | {"text": WHOLE_TEXT, "usage": duration})
    if form["model"] == "whisper-1":
        return document({"text": WHOLE_TEXT, "usage": duration})
    if form.get("stream") == "true":
        deltas = [{"type": "transcript.text.delta", "delta": piece} for piece in TEXT]
        return sse([*deltas, {"type": "transcript.text.done", "text": WHOLE_TEXT, "usage": TRANSCRIPTION.wire}])
    return document({"text": WHOLE_TEXT, "usage": TRANSCRIPTION.wire})


# ---------------------------------------------------------------------------------------------------------- realtime


@dataclass
class RealtimeSession:
    """One WebSocket: what it says at once, and what it answers to each event of the client."""

    model: str
    answers: int = 0
    items: int = 0
    heard: bool = False

    def greet(self) -> Iterator[dict[str, Any]]:
        yield {"type": "session.created", "event_id": "event_0", "session": {"type": "realtime", "model": self.model}}

    def answer(self, event: Any) -> Iterator[dict[str, Any]]:
        match event["type"]:
            case "session.update":
                session = {"model": self.model} | event["session"]
                yield {"type": "session.updated", "event_id": "event_1", "session": session}
            case "conversation.item.create":
                self.items += 1
                item = {"id": f"item_{self.items}", "object": "realtime.item", "status": "completed"} | event["item"]
                yield {"type": "conversation.item.added", "event_id": "event_2", "item": item}
                yield {"type": "conversation.item.done", "event_id": "event_3", "item": item}
            case "input_audio_buffer.commit":
                self.heard = True
                yield {"type": "input_audio_buffer.committed", "event_id": "event_8", "item_id": "item_a"}
            case "response.create":
                yield from self._respond()
            case _:
                error = {"type": "invalid_request_error", "message": f"unknown: {json.dumps(event)}"}
                yield {"type": "error", "event_id": "event_e", "error": error}

    def _respond(self) -> Iterator[dict[str, Any]]:
        usage = REALTIME[self.answers].wire
        self.answers += 1
        response = {"object": "realtime.response", "id": f"resp_{self.answers}", "output": []}
        part = {"response_id": response["id"], "item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield {"type": "response.created", "event_id": "event_4", "response": response | {"status": "in_progress"}}
        for number, piece in enumerate(TEXT):
            if self.heard and number == 3:
                # Another model writes down what was said, while this one answers.
                kind = "conversation.item.input_audio_transcription.completed"
                about = {"event_id": "event_9", "item_id": "item_a", "content_index": 0}
                yield {"type": kind, "transcript": WHOLE_TEXT, "usage": TRANSCRIPTION.wire} | about
            yield {"type": "response.output_text.delta", "event_id": "event_5", "delta": piece} | part
        yield {"type": "response.output_text.done", "event_id": "event_6", "text": WHOLE_TEXT} | part
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": WHOLE_TEXT}],
        }
        done = response | {"status": "completed", "output": [message], "usage": usage}
        yield {"type": "response.done", "event_id": "event_7", "response": done}
