"""What the wire formats have in common: a request, an answer, a bill, and how streams are framed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TEXT = ("Olá", "!", " Não", " há", " café", " aqui", " — ", "日本", " 🙂", ".")
"""What every model says, in the pieces of a stream."""
WHOLE_TEXT = "".join(TEXT)


@dataclass(frozen=True)
class Bill:
    """`wire` is what a provider writes; the rest is what has to be metered for it."""

    wire: dict[str, Any]
    input: int
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def event(self) -> dict[str, Any]:
        """The counts as a usage event shows them."""
        return {
            "input_tokens": self.input,
            "cached_input_tokens": self.cached,
            "cache_write_tokens": self.cache_write,
            "output_tokens": self.output,
            "reasoning_tokens": self.reasoning,
        }


@dataclass(frozen=True)
class Request:
    """`body` is the JSON value or the fields of the form; `path` and `query` are as they came, still encoded."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True)
class Answer:
    """A body of bytes is sent whole, with its length; a list is streamed."""

    body: bytes | list[bytes]
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def document(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value, ensure_ascii=False).encode(), status=status)


def not_found(request: Request) -> Answer:
    return document({"error": {"message": f"the upstream knows no {request.method} {request.path}"}}, 404)


def sse(events: Iterable[Any], *, named: bool = False, end: str = "\n", done: bool = False) -> Answer:
    """`named` writes each event's `type` beside it, `end` ends the lines, `done` closes with `[DONE]`."""
    pieces = []
    for event in events:
        name = f"event: {event['type']}{end}" if named else ""
        pieces.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}{end}{end}".encode())
    if done:
        pieces.append(f"data: [DONE]{end}{end}".encode())
    return Answer(pieces, "text/event-stream; charset=utf-8")


def lines(events: Iterable[Any], content_type: str = "application/x-ndjson") -> Answer:
    return Answer([json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events], content_type)
