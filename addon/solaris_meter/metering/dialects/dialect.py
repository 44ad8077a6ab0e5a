"""What every wire format can do: read a request, follow an answer, and put what the sidecar says in its own way."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from solaris_meter.metering.prompt import Size, measure
from solaris_meter.metering.tokens import Prompt

Json = dict[str, Any]
MAX_CHOICES = 128
"""The most answers that a provider gives to one request (OpenAI's limit)."""
MAX_TOKENS = 10**9
"""No call reads or writes more: a larger number in a usage report is a fault."""


@dataclass(frozen=True, slots=True)
class Request:
    """A model call as it was asked for.

    `max_output` is the most output tokens the caller allows for each of `choices` answers. `wants_usage`: the caller
    asked for a usage event in the stream (or the dialect always sends one). `prompt` builds what is needed to count the
    input.
    """

    body: Json
    model: str
    stream: bool
    max_output: int | None
    choices: int
    user: str | None
    wants_usage: bool
    size: Size
    prompt: Callable[[], Prompt]


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far. None: not reported. `text` is what was generated, in order."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    text: list[str] = field(default_factory=list)
    refused_usage: bool = False
    state: Json = field(default_factory=dict)
    """What the dialect must remember between events."""

    def wrote(self, piece: object) -> None:
        """Note a piece of generated text; anything that is not text is passed over."""
        if isinstance(piece, str) and piece:
            self.text.append(piece)


class Dialect(ABC):
    """A wire format. Stateless: what must be remembered of one answer is in its `Answer`."""

    name: str
    counts_input = True
    """Whether a call costs its input even where nothing was reported."""

    @abstractmethod
    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        """What a parsed request body asks for. Never raises for odd values: upstreams say what they do not take."""

    @abstractmethod
    def read_event(self, answer: Answer, event: Json) -> None:
        """Take in one event of a streamed answer."""

    @abstractmethod
    def read_body(self, answer: Answer, body: Json) -> None:
        """Take in a whole answer that was not streamed."""

    @abstractmethod
    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        """The body of a refusal. `message` is for a person; `plain`: without the wrapping that LibreChat unpacks."""

    def ask_for_usage(self, raw: bytes, request: Request) -> bytes | None:
        """The request body with a request for usage in the stream; None where nothing is to be asked."""
        return None

    def is_last(self, event: Json) -> bool:
        """Whether an event ends the answer."""
        return False

    def is_usage_only(self, event: Json) -> bool:
        """Whether an event was sent only because usage was asked for."""
        return False

    def limit_output(self, body: Json, tokens: int) -> Json:
        """The request body with at most `tokens` of output allowed for each answer."""
        return body | {"max_tokens": tokens}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> bytes:
        """The events that end a streamed answer here, because its length is used up, with a notice in its text."""
        return b""


def make_request(
    body: Json,
    body_bytes: int,
    *,
    model: object,
    max_output: object,
    user: object,
    choices: object = 1,
    wants_usage: bool,
    prompt: Callable[[], Prompt],
) -> Request:
    """A Request from values as they stand in a body, whatever their types."""
    return Request(
        body=body,
        model=model if isinstance(model, str) and model else "unknown",
        stream=body.get("stream") is True,
        max_output=whole(max_output) or None,
        choices=min(MAX_CHOICES, whole(choices) or 1),
        user=user if isinstance(user, str) and user else None,
        wants_usage=wants_usage,
        size=measure(body, body_bytes),
        prompt=prompt,
    )


def whole(value: object) -> int | None:
    """A token count as an integer; None for what is none: negative, fractional, absurd, boolean or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MAX_TOKENS or value != int(value):
        return None
    return int(value)


def mapping(value: object) -> Json:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def for_librechat(message: str) -> str:
    """The form in which LibreChat shows exactly `message`, without a prefix (its error view unpacks `info`)."""
    return json.dumps({"type": "google_error", "info": message}, ensure_ascii=False)
