"""Ollama's own API: one JSON object per line, the last of which counts."""

from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, lines, not_found

CHAT = Bill({"prompt_eval_count": 26, "eval_count": 282}, input=26, output=282)
EMBEDDING = Bill({"prompt_eval_count": 8}, input=8)
VECTOR = [0.25, -0.5, 0.125]

_DURATIONS = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_duration": 342546000,
    "eval_duration": 4535599000,
}


def answer(request: Request) -> Answer:
    body = request.body
    match request.method, request.path:
        case "GET", "/api/tags":
            return document({"models": [{"model": "llama3.2", "size": 1}]})
        case "POST", "/api/show":
            return document({"details": {"family": "llama"}, "model_info": {}})
        case "POST", "/api/chat":
            return _generate(body, lambda piece: {"message": {"role": "assistant", "content": piece}})
        case "POST", "/api/generate":
            return _generate(body, lambda piece: {"response": piece})
        case "POST", "/api/embeddings":
            return document({"embedding": VECTOR})
        case "POST", "/api/embed":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            return document({"model": body["model"], "embeddings": [VECTOR for _ in texts]} | EMBEDDING.wire)
        case _:
            return not_found(request)


def _generate(body: Any, said: Any) -> Answer:
    base = {"model": body["model"], "created_at": "2026-11-01T10:00:00.1Z"}
    end = base | {"done": True, "done_reason": "stop"} | _DURATIONS | CHAT.wire
    if body.get("stream") is False:
        return document(end | said(WHOLE_TEXT))
    return lines([*(base | said(piece) | {"done": False} for piece in TEXT), end | said("")])
