"""A call as people read it: who said what, which tools were called. From the bodies, through the dialects' own readers.

Reading never fails on odd values: what is not understood is left out, and a body in which nothing is found gives None.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from solaris_meter.metering import encodings, forms
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Dialect,
    Json,
    dump,
    items,
    kind,
    mapping,
    objects,
)
from solaris_meter.metering.framing import media_types
from solaris_meter.metering.framing.framing import Event, Framing

_PARAMETERS = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n", "temperature", "top_p", "top_k",
    "reasoning_effort", "effort", "budget_tokens", "thinkingBudget", "maxTokens", "maxOutputTokens", "topP",
    "service_tier", "size", "quality", "voice", "dimensions", "previous_response_id", "background",
)  # fmt: skip
_HOLDERS = ("generationConfig", "generation_config", "inferenceConfig", "options", "reasoning", "thinking")
"""Where some put their parameters."""
_SYSTEM = ("system", "systemInstruction", "system_instruction", "instructions", "preamble")
_PLAIN = ("prompt", "input", "message", "texts", "inputs", "query", "documents", "content", "requests", "instances")
"""Where what is no chat has its text."""
_TEXT = ("text", "thinking", "reasoning_content", "refusal", "content", "parts", "output", "response", "json", "result")
_THOUGHTS = frozenset({"thinking", "reasoning_content", "reasoning", "reasoningContent", "reasoningText"})
_CALLS = frozenset({"partial_json", "toolUse", "functionCall", "function_call", "tool_calls", "toolCall", "tool_call"})
_CALL_TYPES = frozenset({"tool_use", "server_tool_use", "function_call", "custom_tool_call", "mcp_call"})
_RESULTS = frozenset({"tool_result", "function_call_output", "custom_tool_call_output"})
_RESULT_KEYS = ("toolResult", "functionResponse")
_ARGUMENTS = ("arguments", "input", "args", "parameters")
_FILES = frozenset(
    {"image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url"}
)
_FILE_KEYS = ("inlineData", "inline_data", "fileData", "file_data", "image", "document", "video", "audio")
_MOST_DEPTH = 64
"""Of what is walked through: a body may be nested deeper than Python's stack."""


@dataclass(slots=True)
class _Found(Answer):
    """An answer whose calls of tools stay out of its text."""

    told: list[tuple[str, str]] = field(default_factory=list)
    """Pieces with their kind: `text`, `thinking`, `call`."""

    def called(self, call: object, name: object, arguments: object) -> None:
        for pieces, piece in zip(self.calls.setdefault(call, ([], [])), (name, arguments), strict=True):
            if isinstance(piece, str):
                pieces.append(piece)


def request(dialect: Dialect, path: str, data: bytes, content_type: str) -> str | None:
    """What was asked; None where the body is not what the dialect takes."""
    body = _body(dialect, data, content_type)
    if body is None:
        return None
    head = _head(dialect, path, body, len(data))
    turns = [*_system(body), *_turns(body, dialect.conversation)]
    if not turns:
        turns = [("input", text) for key in _PLAIN if (text := _text(body.get(key)))]
        turns += [("input", f"[{name}: {len(file):,} bytes]") for name, file in body.items() if isinstance(file, bytes)]
    return "\n\n".join([head, *map(_section, turns)]) if turns else None


def answer(dialect: Dialect, data: bytes, content_type: str) -> str | None:
    """What was answered, put together from its events; None where nothing in it is for people."""
    found = _Found()
    try:
        for event in _documents(dialect, found, data, content_type):
            _take_in(dialect, found, event)
    except (ValueError, RecursionError):
        pass  # what came before the fault is shown
    if not found.told and not found.calls and found.text:
        found.told = [("text", "".join(found.text))]  # not JSON at all: a transcription, subtitles
    sections = [
        ("assistant, thinking" if told == "thinking" else "assistant", "".join(text for _, text in pieces))
        for told, pieces in groupby(found.told, key=lambda piece: piece[0])
        if told != "call"
    ]
    sections += [("assistant calls", call) for call in _calls(found)]
    return "\n\n".join(_section(section) for section in sections if section[1].strip()) or None


def inflated(data: bytes, content_encoding: str) -> bytes:
    """As much of a compressed body as can be read: one that was cut short ends somewhere."""
    decode = encodings.decoder(content_encoding)
    if decode is None:
        return data
    plain = b""
    try:
        for at in range(0, len(data), 1024):
            plain += decode(data[at : at + 1024])
    except Exception:
        return plain or data
    return plain


# ------------------------------------------------------------------------------------------------------------ requests


def _body(dialect: Dialect, data: bytes, content_type: str) -> Json | None:
    try:
        value = (
            forms.read(content_type, data) if dialect.takes_forms and forms.is_form(content_type) else json.loads(data)
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _head(dialect: Dialect, path: str, body: Json, body_bytes: int) -> str:
    """The model, the parameters that matter, and the tools by their names."""
    asked = dialect.read_request(path, body, body_bytes)
    facts = [asked.model, "streamed" if asked.stream else "not streamed"]
    for holder in (body, *(mapping(body.get(name)) for name in _HOLDERS)):
        facts += [f"{name} {holder[name]}" for name in _PARAMETERS if isinstance(holder.get(name), str | int | float)]
    lines = [" · ".join(facts)]
    tools = [name for tool in _tools(body) if (name := _tool_name(tool))]
    if tools:
        lines.append(f"tools: {', '.join(tools)}")
    return "\n".join(lines)


def _tools(body: Json) -> Iterator[Json]:
    yield from objects(body.get("functions"))
    yield from objects(mapping(body.get("toolConfig")).get("tools"))
    for tool in objects(body.get("tools")):
        declared = [*objects(tool.get("functionDeclarations")), *objects(tool.get("function_declarations"))]
        yield from declared or [tool]


def _tool_name(tool: Json) -> str:
    for holder in (mapping(tool.get("function")), mapping(tool.get("toolSpec")), tool):
        if isinstance(holder.get("name"), str):
            return str(holder["name"])
    return kind(tool) or next(iter(tool), "")


def _system(body: Json) -> list[tuple[str, str]]:
    return [("system", text) for key in _SYSTEM if (text := _text(body.get(key)))]


def _turns(body: Json, conversation: Conversation | None) -> list[tuple[str, str]]:
    conversation = conversation or Conversation()  # Bedrock's `invoke` takes what the model's own API takes
    turns = body.get(conversation.turns)
    if isinstance(turns, str):
        return [("user", turns)]
    found = []
    for turn in items(turns):
        if isinstance(turn, str):
            found.append(("user", turn))
        elif isinstance(turn, dict):
            role = turn.get("role") or turn.get("type")
            found.append((role if isinstance(role, str) else "user", _turn(turn, conversation)))
    return found


def _turn(turn: Json, conversation: Conversation) -> str:
    if conversation.content not in turn and "tool_calls" not in turn:
        return "\n".join(_lines(turn, 0))
    lines = list(_lines(turn.get(conversation.content), 0))
    if isinstance(turn.get("reasoning_content"), str):
        lines.insert(0, str(turn["reasoning_content"]))
    lines += [line for call in objects(turn.get("tool_calls")) for line in _lines(call, 0)]
    lines += ["[image]" for _ in items(turn.get("images"))]
    return "\n".join(lines)


def _text(value: object) -> str:
    return "\n".join(_lines(value, 0))


def _lines(value: object, depth: int) -> Iterator[str]:
    """The texts in some content, with a word for everything else that is understood."""
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item, depth + 1)
    elif isinstance(value, dict):
        yield from _part(value, depth)


def _part(part: Json, depth: int) -> Iterator[str]:
    type_ = kind(part)
    call = _call(part, type_)
    if call:
        yield f"calls {call}"
        return
    if type_ in _FILES or any(isinstance(part.get(key), dict) for key in _FILE_KEYS):
        yield f"[{type_ or next(key for key in _FILE_KEYS if isinstance(part.get(key), dict))}]"
        return
    result = next((part[key] for key in _RESULT_KEYS if isinstance(part.get(key), dict)), None)
    if result is not None or type_ in _RESULTS:
        text = "\n".join(line for key in _TEXT for line in _lines((result or part).get(key), depth + 1))
        yield f"result: {text or dump(result or part)}"
        return
    for key in _TEXT:
        yield from _lines(part.get(key), depth + 1)


def _call(part: Json, type_: str) -> str:
    """A call of a tool as `name(arguments)`; empty for what is none."""
    for holder in (*(mapping(part.get(key)) for key in ("toolUse", "functionCall", "function")), part):
        if not holder or (holder is part and type_ not in _CALL_TYPES) or not isinstance(holder.get("name"), str):
            continue
        arguments = next((holder[key] for key in _ARGUMENTS if key in holder), "")
        return f"{holder['name']}({arguments if isinstance(arguments, str) else dump(arguments)})"
    return ""


# ------------------------------------------------------------------------------------------------------------- answers


def _documents(dialect: Dialect, found: _Found, data: bytes, content_type: str) -> Iterator[Json]:
    """The JSON objects of an answer. Raises ValueError where a stream is not what it says it is."""
    media_type = media_types.essence(content_type)
    framing = media_types.framing_of(media_type)
    if framing is None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            framing = media_types.framing_in(data)
            if framing is None:
                if media_type.startswith("text/"):
                    dialect.read_other(found, data)
                return
        else:
            if isinstance(value, dict):
                _read(found, value, lambda: dialect.read_body(found, value))
            yield from objects(value)
            return
    framing = media_types.sniffed(framing, data)
    for event in _events(framing, data):
        if event.data is not None and event.data.strip() != b"[DONE]":
            try:
                parsed = json.loads(event.data)
            except (ValueError, RecursionError):
                continue
            if isinstance(parsed, dict):
                yield parsed


def _events(framing: Framing, data: bytes) -> Iterator[Event]:
    yield from framing.feed(data)
    yield from framing.flush()


def _take_in(dialect: Dialect, found: _Found, event: Json) -> None:
    _read(found, event, lambda: dialect.read_event(found, event))


def _read(found: _Found, event: Json, read: Any) -> None:
    """Let the dialect read, and sort what it found by where that stands in the event."""
    before = len(found.text)
    read()
    thoughts, names, arguments = _sorted_strings(event)
    for piece in found.text[before:]:
        if piece in names:
            found.calls[("told", len(found.calls))] = ([piece], [])
            found.told.append(("call", piece))
        elif piece in arguments:
            if not found.calls:
                found.calls[("told", 0)] = ([], [])
            next(reversed(found.calls.values()))[1].append(piece)
            found.told.append(("call", piece))
        else:
            found.told.append(("thinking" if piece in thoughts else "text", piece))


def _sorted_strings(event: Json) -> tuple[set[str], set[str], set[str]]:
    """The strings of an event that are thoughts, names of tools that are called, and their arguments."""
    thoughts: set[str] = set()
    names: set[str] = set()
    arguments: set[str] = set()
    pending: list[tuple[Any, str]] = [(event, "")]
    while pending:
        value, part_of = pending.pop()
        if isinstance(value, str):
            (thoughts if part_of == "thinking" else arguments if part_of == "call" else set()).add(value)
        elif isinstance(value, list):
            pending.extend((item, part_of) for item in value)
        elif isinstance(value, dict):
            if kind(value) in _CALL_TYPES:
                part_of = "call"
            elif value.get("thought") is True or kind(value) == "thinking":
                part_of = "thinking"
            for key, inner in value.items():
                if part_of == "call" and key == "name" and isinstance(inner, str):
                    names.add(inner)
                elif part_of == "call" and key in _ARGUMENTS and not isinstance(inner, str):
                    arguments.add(dump(inner))
                else:
                    pending.append((inner, "thinking" if key in _THOUGHTS else "call" if key in _CALLS else part_of))
    return thoughts, names, arguments


def _calls(found: _Found) -> list[str]:
    return [f"{''.join(name) or 'a tool'}({''.join(arguments)})" for name, arguments in found.calls.values()]


def _section(turn: tuple[str, str]) -> str:
    role, text = turn
    return f"── {role} ──\n{text}"
