"""What the tests of metering share: the provider answers in `payloads/`, a request in each dialect, and strategies that
cut and distort both."""

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from solaris_meter.metering import endpoints
from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json
from solaris_meter.metering.framing import media_types
from solaris_meter.metering.framing.framing import Event, Framing
from solaris_meter.metering.framing.json_array import JsonArray
from solaris_meter.metering.tokens import TokenCounter

PAYLOADS = Path(__file__).parent / "payloads"
UNNAMED: Json = {
    "cached_input_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "images": 0,
    "audio_ms": 0,
    "text": "",
    "terms": {},
}
"""What an entry of EXPECTED.json need not name."""
EXPECTED: dict[str, Json] = {
    name: UNNAMED | entry for name, entry in json.loads((PAYLOADS / "EXPECTED.json").read_text("utf-8")).items()
}
"""What each answer used: `input_tokens` and `output_tokens` are null where it does not tell. `model` was asked for."""
MEDIA_TYPES = {
    ".sse": "text/event-stream",
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".bin": "application/vnd.amazon.eventstream",
}
SERVER_SENT = sorted(name for name in EXPECTED if name.endswith(".sse"))
BODIES = sorted(name for name in EXPECTED if name.endswith(".json") and "stream" not in name)
STREAMS = sorted(name for name in EXPECTED if name not in BODIES)
LINE_ENDS = (b"\n", b"\r\n", b"\r")
ALL_DIALECTS: tuple[Dialect, ...] = (*endpoints.DIALECTS, endpoints.GENERIC, endpoints.REALTIME)
NAMED: dict[str, Dialect] = {dialect.name: dialect for dialect in ALL_DIALECTS}


def payload(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def dialect_called(name: str) -> Dialect:
    return NAMED[name]


def dialect_of(name: str) -> Dialect:
    """The dialect of a payload."""
    return NAMED[EXPECTED[name]["dialect"]]


def payloads_of(dialect: Dialect) -> list[str]:
    return [name for name in EXPECTED if EXPECTED[name]["dialect"] == dialect.name]


def framing_of(name: str) -> Framing | None:
    """How a payload is cut into events; None for one document."""
    if name == "gemini_stream_array.json":
        return JsonArray()
    return media_types.framing_of(MEDIA_TYPES[Path(name).suffix])


def cut_whole(framing: Framing, chunks: list[bytes]) -> list[Event]:
    """The events of a whole stream."""
    return [event for chunk in chunks for event in framing.feed(chunk)] + framing.flush()


def follow(dialect: Dialect, events: list[Event]) -> Answer:
    answer = Answer()
    for event in events:
        if event.data and event.data != b"[DONE]":
            dialect.read_event(answer, json.loads(event.data))
    return answer


def answer_in(name: str) -> Answer:
    """A payload as its dialect reads it, before it is concluded."""
    framing = framing_of(name)
    if framing is not None:
        return follow(dialect_of(name), cut_whole(framing, [payload(name)]))
    answer = Answer()
    dialect_of(name).read_body(answer, json.loads(payload(name)))
    return answer


def totals(answer: Answer) -> Json:
    """An answer's tokens and text, in the words of EXPECTED.json."""
    return {
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cached_input_tokens": answer.cached_input_tokens,
        "cache_write_tokens": answer.cache_write_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
        "text": "".join(answer.text),
    }


def expected_totals(name: str) -> Json:
    return {key: EXPECTED[name][key] for key in totals(Answer())}


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


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = [value]
    return value


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
hostile_values: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        st.sampled_from(
            [
                None,
                True,
                False,
                -1,
                -0.4,
                0,
                1.5,
                10**9,
                10**12,
                -(10**30),
                10**30,
                float("nan"),
                float("inf"),  # 1e400 comes out of json.loads as this
                float("-inf"),
                "",
                "7",
                "9" * 5000,
                "\ud83d",
                "<|endoftext|>",
                {},
                [],
                [[]],
                [None],
                [{}],
                nested(150, "x"),
                {"type": ["string", "null"]},
            ]
        )
        | json_values
    )
).map(copy.deepcopy)


def objects_with(*keys: str) -> st.SearchStrategy[Json]:
    """JSON objects in which each of `keys` may stand, with any value."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, json_values))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each member of a JSON value, as what holds it and its key or index."""
    pending = [value]
    while pending:
        holder = pending.pop(0)
        if isinstance(holder, dict | list):
            for key in holder if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                pending.append(holder[key])


@st.composite
def spoiled(draw: st.DrawFn, value: Any, hostile: st.SearchStrategy[Any] = hostile_values) -> Any:
    """A JSON value in which some members have been taken out, or have another value."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if isinstance(holder, dict) and draw(st.integers(0, 4)) == 0:
            del holder[key]
        else:
            holder[key] = draw(hostile)
    return value


@contextmanager
def loaded_counter() -> Iterator[TokenCounter]:
    """A token counter with LiteLLM behind it; loading takes seconds the first time in a process."""
    counter = TokenCounter()
    counter.start()
    assert counter.count_answer("gpt-4o", "olá").tokens > 0  # waits for the load
    assert counter.ready
    yield counter
    counter.close()
