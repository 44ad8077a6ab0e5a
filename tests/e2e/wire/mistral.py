"""Mistral: as OpenAI, but a stream reports unasked, in its last chunk of content."""

from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, not_found, sse

CHAT = Bill(
    {
        "prompt_tokens": 143,
        "completion_tokens": 22,
        "total_tokens": 165,
        "prompt_tokens_details": {"cached_tokens": 128},
    },
    input=143,
    cached=128,
    output=22,
)
EMBEDDING = Bill({"prompt_tokens": 19, "completion_tokens": 0, "total_tokens": 19}, input=19)
TRANSCRIPTION = Bill(
    {
        "prompt_tokens": 4,
        "completion_tokens": 635,
        "total_tokens": 3264,
        "prompt_audio_seconds": 203,
    },
    input=2629,
    output=635,
)
VECTOR = [0.25, -0.5, 0.125]


def answer(request: Request) -> Answer:
    body = request.body
    match request.method, request.path:
        case "GET", "/v1/models":
            return document({"object": "list", "data": []})
        case "POST", "/v1/chat/completions" | "/v1/fim/completions":
            return _chat(body)
        case "POST", "/v1/moderations":
            return document({"id": "m1", "model": body["model"], "results": [], "usage": EMBEDDING.wire})
        case "POST", "/v1/audio/transcriptions":
            return _transcription({key: value.decode() for key, value in body.items() if key != "file"})
        case "POST", "/v1/embeddings":
            data = [{"object": "embedding", "index": i, "embedding": VECTOR} for i, _ in enumerate(body["input"])]
            about = {"id": "e1", "object": "list", "model": body["model"], "usage": EMBEDDING.wire}
            return document(about | {"data": data})
        case _:
            return not_found(request)


def _chat(body: Any) -> Answer:
    base = {"id": "c1", "created": 1761000000, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": WHOLE_TEXT, "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return document(base | {"object": "chat.completion", "choices": [choice], "usage": CHAT.wire})
    base["object"] = "chat.completion.chunk"
    events = [
        base | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]}
        for piece in TEXT[:-1]
    ]
    last = {"index": 0, "delta": {"content": TEXT[-1]}, "finish_reason": "stop"}
    return sse([*events, base | {"choices": [last], "usage": CHAT.wire}], done=True)


def _transcription(form: Any) -> Answer:
    about = {"model": form["model"], "text": WHOLE_TEXT, "language": "pt", "segments": [], "usage": TRANSCRIPTION.wire}
    if form.get("stream") != "true":
        return document(about)
    deltas = [{"type": "transcription.text.delta", "text": piece} for piece in TEXT]
    return sse([*deltas, about | {"type": "transcription.done"}], named=True)
