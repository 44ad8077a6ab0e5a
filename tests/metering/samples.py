"""What the tests of metering share: the provider answers in `payloads/`, and strategies that cut and distort them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from solaris_meter.metering import endpoints, sse
from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json
from solaris_meter.metering.tokens import TokenCounter

PAYLOADS = Path(__file__).parent / "payloads"
EXPECTED: dict[str, Json] = json.loads((PAYLOADS / "EXPECTED.json").read_text("utf-8"))
STREAMS = sorted(name for name in EXPECTED if name.endswith(".sse"))
BODIES = sorted(name for name in EXPECTED if name.endswith(".json"))
LINE_ENDS = (b"\n", b"\r\n", b"\r")
PATHS = {"openai-chat": "/v1/chat/completions", "anthropic": "/v1/messages"}


def payload(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def dialect_called(name: str) -> Dialect:
    found = endpoints.classify("POST", PATHS[name])
    assert isinstance(found, Dialect)
    return found


def dialect_of(name: str) -> Dialect:
    """The dialect of a payload."""
    return dialect_called(EXPECTED[name]["dialect"])


def follow(dialect: Dialect, events: list[sse.Event]) -> Answer:
    answer = Answer()
    for event in events:
        if event.data and event.data != b"[DONE]":
            dialect.read_event(answer, json.loads(event.data))
    return answer


def totals(answer: Answer) -> Json:
    """An answer in the form of EXPECTED.json, without the dialect."""
    return {
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cached_input_tokens": answer.cached_input_tokens,
        "cache_write_tokens": answer.cache_write_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
        "text": "".join(answer.text),
    }


def expected_totals(name: str) -> Json:
    return {key: value for key, value in EXPECTED[name].items() if key != "dialect"}


def with_line_end(data: bytes, line_end: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", lambda _: line_end, data)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, as some network may cut it; now and then a piece is empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=30)))
    ends = [*places, len(data)]
    return [data[start:end] for start, end in zip([0, *places], ends, strict=True)]


# Every kind of value that JSON has, with the numbers that json.loads lets through although JSON does not know them.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 10**6)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=8)
    | st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image", "user", "assistant"])
)
_KEYS = st.sampled_from(
    [
        "type",
        "content",
        "text",
        "thinking",
        "role",
        "name",
        "arguments",
        "function",
        "tool_calls",
        "message",
        "delta",
        "index",
        "usage",
        "input",
        "id",
    ]
) | st.text(max_size=4)
json_values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(_KEYS, json_values, max_size=5)


def objects_with(*keys: str) -> st.SearchStrategy[Json]:
    """JSON objects in which each of `keys` may stand, with any value."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, json_values))


@contextmanager
def loaded_counter() -> Iterator[TokenCounter]:
    """A token counter with LiteLLM behind it; loading takes seconds the first time in a process."""
    counter = TokenCounter()
    counter.start()
    assert counter.count_answer("gpt-4o", "olá").tokens > 0  # waits for the load
    assert counter.ready
    yield counter
    counter.close()
