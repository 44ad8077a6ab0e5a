"""Anthropic messages, on their own server and on Vertex (`…/publishers/anthropic/models/MODEL:rawPredict`)."""

from typing import Any

from tests.e2e.wire.answers import TEXT, WHOLE_TEXT, Answer, Bill, Request, document, not_found, sse

_CACHES = {
    "cache_creation_input_tokens": 1200,
    "cache_read_input_tokens": 18000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 200},
}
MESSAGE = Bill(
    {"input_tokens": 21, "output_tokens": 393, "service_tier": "standard"} | _CACHES,
    input=21 + 1200 + 18000,
    cached=18000,
    cache_write=1200,
    output=393,
)
STREAM = Bill(
    {"input_tokens": 10682, "output_tokens": 517, "server_tool_use": {"web_search_requests": 1}} | _CACHES,
    input=10682 + 1200 + 18000,
    cached=18000,
    cache_write=1200,
    output=517,
)
"""What the end of a stream reports: what a search found is read as well, so that the start knew of less."""

THOUGHT = "Deixe-me pensar."


def answer(request: Request) -> Answer:
    *_, last = request.path.split("/")
    if request.method == "GET" and last == "models":
        known = {"type": "model", "id": "claude-sonnet-4-6", "display_name": "C", "created_at": "2026-01-01T00:00:00Z"}
        return document({"data": [known], "has_more": False, "first_id": known["id"], "last_id": known["id"]})
    if last in ("count_tokens", "count-tokens:rawPredict"):
        return document({"input_tokens": 2095})
    model, _, verb = last.partition(":")
    if last != "messages" and verb not in ("rawPredict", "streamRawPredict"):
        return not_found(request)
    model = request.body.get("model", model)
    return sse(stream_events(model), named=True) if request.body.get("stream") else document(message(model))


def message(model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [
            {"type": "thinking", "thinking": THOUGHT, "signature": "EuYB"},
            {"type": "text", "text": WHOLE_TEXT},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": MESSAGE.wire,
    }


def stream_events(model: str) -> list[dict[str, Any]]:
    start = message(model) | {"content": [], "stop_reason": None}
    start["usage"] = {"input_tokens": 2679, "output_tokens": 3} | _CACHES
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": THOUGHT}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQB"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}
            for piece in TEXT
        ),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": STREAM.wire,
        },
        {"type": "message_stop"},
    ]
