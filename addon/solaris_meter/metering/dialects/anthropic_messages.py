"""Anthropic messages.

Request and answer: https://docs.anthropic.com/en/api/messages and /messages-streaming. Usage: `usage`; streamed,
`message_start.message.usage` and then `message_delta.usage`, which is cumulative and replaces value by value. IN =
input_tokens + cache_creation_input_tokens + cache_read_input_tokens; OUT = output_tokens, thinking inside. Where
`iterations` is present the sum over it counts: the top level leaves out compaction and advisor passes.
"""

import re
from typing import Any
from urllib.parse import unquote

from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Dialect,
    Json,
    Message,
    Request,
    Said,
    dump,
    for_librechat,
    items,
    kind,
    limited,
    make_request,
    mapping,
    objects,
    remembers,
    said,
    whole,
)
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_INPUT, _WRITE, _READ, _OUTPUT = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)
_FORCED = frozenset({"any", "tool"})
_LEAST_THINKING = 1024
_VERTEX_MODEL = re.compile(r"/publishers/anthropic/models/([^/:]+):")
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "api_error",
}


class AnthropicMessages(Dialect):
    """`/v1/messages`, and the same behind `:rawPredict` on Vertex AI."""

    name = "anthropic"
    conversation = Conversation()
    paths = re.compile(
        r"/v1/messages$|/publishers/anthropic/models/(?!count-tokens:)[^/:]+:(rawPredict|streamRawPredict)$",
        re.IGNORECASE,
    )
    usage_at = "`usage`; streamed `message_start.message.usage`, then `message_delta.usage`, which replaces it"
    formula = (
        "IN = input_tokens + cache_creation_input_tokens + cache_read_input_tokens; OUT = output_tokens;"
        " each the sum over `iterations` where there are any"
    )
    source = "https://docs.anthropic.com/en/api/messages"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        named = _VERTEX_MODEL.search(path)
        return make_request(
            body,
            body_bytes,
            model=body.get("model") or (named and unquote(named[1])),
            max_output=body.get("max_tokens"),
            user=mapping(body.get("metadata")).get("user_id"),
            prompt=lambda: messages_prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        tokens = limited(body.get("max_tokens"), tokens)
        fewer = body | {"max_tokens": tokens}
        budget = whole(mapping(body.get("thinking")).get("budget_tokens"))
        if budget is not None and budget >= tokens:
            # The API refuses a budget that is not below max_tokens, or is below its minimum.
            fewer.pop("thinking")
            if tokens >= 2 * _LEAST_THINKING:
                fewer["thinking"] = body["thinking"] | {"budget_tokens": tokens // 2}
        return fewer

    def read_event(self, answer: Answer, event: Json) -> None:
        named = kind(event)
        if named == "content_block_delta":
            delta = mapping(event.get("delta"))
            for key in ("text", "thinking", "partial_json"):
                answer.wrote(delta.get(key))
        elif named == "content_block_start":
            block = mapping(event.get("content_block"))
            answer.state["open_block"] = (event.get("index"), kind(block))
            answer.wrote(block.get("text"))
            if block.get("type") == "tool_use":
                answer.wrote(block.get("name"))
        elif named == "content_block_stop":
            answer.state["last_block"] = event.get("index")
            answer.state.pop("open_block", None)
        elif named == "message_start":
            answer.named(mapping(event.get("message")).get("model"))
            _read_usage(answer, mapping(event.get("message")).get("usage"), final=False)
        elif named == "message_delta":
            _read_usage(answer, event.get("usage"), final=True)

    def is_last(self, event: Json) -> bool:
        return event.get("type") == "message_stop"

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.named(body.get("model"))
        for block in objects(body.get("content")):
            for key in ("text", "thinking", "name"):
                answer.wrote(block.get(key))
            if block.get("type") == "tool_use":
                answer.wrote(dump(block.get("input")))
        _read_usage(answer, body.get("usage"), final=True)

    def message(self, request: Request, text: str) -> Message | None:
        usage = {_INPUT: 0, _WRITE: 0, _READ: 0, _OUTPUT: 0}
        body = {
            "id": "msg_solaris",
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        start = body | {"content": [], "stop_reason": None}
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        events = [
            {"type": "message_start", "message": start},
            *_text_block(0, text),
            {"type": "message_delta", "delta": delta, "usage": {_OUTPUT: 0}},
            {"type": "message_stop"},
        ]
        return Message([said(event, event["type"]) for event in events], body)

    def takes_notice(self, body: Json) -> bool:
        return mapping(body.get("tool_choice")).get("type") not in _FORCED and not remembers(body)

    def closing(self, answer: Answer, event: Json) -> bool:
        ends = event.get("type") == "message_delta" and mapping(event.get("delta")).get("stop_reason") == "end_turn"
        return ends and bool(answer.text) and "open_block" not in answer.state

    def notice(self, answer: Answer, event: Json, text: str) -> list[Said]:
        last = whole(answer.state.get("last_block"))
        block = _text_block(0 if last is None else last + 1, text)
        return [said(part, part["type"]) for part in [*block, event]]

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        text = message if plain else for_librechat(message)
        # The SDK that LibreChat uses reads code and message at the top level.
        error = {"type": _ERROR_TYPES.get(status, "api_error"), "message": text}
        return {"type": "error", "error": error, "code": code, "message": text}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        index, block = answer.state.get("open_block", (None, None))
        events: list[Json] = []
        if block == "text" and notice:
            events.append(_text_delta(index, notice))
        if index is not None:
            events.append({"type": "content_block_stop", "index": index})
        if block in (None, "thinking") and notice:
            last = whole(answer.state.get("last_block") if index is None else index)
            events += _text_block(0 if last is None else last + 1, notice)
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": {_OUTPUT: output_tokens}})
        events.append({"type": "message_stop"})
        return [said(event, event["type"]) for event in events]


def _text_block(index: int, text: str) -> list[Json]:
    """A block of text, from its start to its stop."""
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        _text_delta(index, text),
        {"type": "content_block_stop", "index": index},
    ]


def _text_delta(index: Any, text: str) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _read_usage(answer: Answer, usage: object, *, final: bool) -> None:
    """Merge a usage object. Only a `final` one tells the output: message_start carries a first guess of it."""
    if not isinstance(usage, dict):
        return
    merged: Json = answer.state.setdefault("usage", {})
    for key in (_INPUT, _WRITE, _READ, _OUTPUT):
        number = answer.number(usage, key)
        if number is not None:
            # What was read cannot become unread; some servers end with zeros.
            merged[key] = number if key == _OUTPUT else max(number, merged.get(key, 0))
    _read_terms(answer, usage)
    passes = list(objects(usage.get("iterations")))
    totals = merged
    if any(_INPUT in item for item in passes):
        totals = {key: sum(whole(item.get(key)) or 0 for item in passes) for key in (_INPUT, _WRITE, _READ, _OUTPUT)}
    if _INPUT in totals:
        answer.cache_write_tokens = totals.get(_WRITE, 0)
        answer.cached_input_tokens = totals.get(_READ, 0)
        answer.input_tokens = totals[_INPUT] + answer.cache_write_tokens + answer.cached_input_tokens
    if final and _OUTPUT in totals:
        answer.output_tokens = totals[_OUTPUT]
        thinking = whole(mapping(usage.get("output_tokens_details")).get("thinking_tokens"))
        answer.reasoning_tokens = min(answer.output_tokens, thinking or 0)


def _read_terms(answer: Answer, usage: Json) -> None:
    """What the price depends on besides the totals."""
    tier = "fast" if usage.get("speed") == "fast" else usage.get("service_tier")
    if isinstance(tier, str):
        answer.terms["service_tier"] = tier
    for holder, key, term in (
        ("cache_creation", "ephemeral_1h_input_tokens", "hour_cache_write_tokens"),
        ("server_tool_use", "web_search_requests", "web_searches"),
    ):
        if count := whole(mapping(usage.get(holder)).get(key)):
            answer.terms[term] = count


def messages_prompt(body: Json) -> Prompt:
    """The request as LiteLLM counts it: system and messages as text, tools as functions."""
    messages: list[Json] = []
    system = _text(body.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    for message in items(body.get("messages")):
        role = mapping(message).get("role")
        text = _text(mapping(message).get("content"))
        messages.append({"role": role if isinstance(role, str) else "user", "content": text})
    tools = []
    for tool in items(body.get("tools")):
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            function = {
                "name": tool["name"],
                "description": str(tool.get("description") or ""),
                "parameters": mapping(tool.get("input_schema")),
            }
            tools.append({"type": "function", "function": function})
    return Prompt(messages=tuple(messages), tools=tuple(tools), attachments=count_attachments(body))


def _text(content: object) -> str:
    """The text of a message's content, in order, whatever its blocks hold."""
    parts: list[str] = []
    pending = [content]
    while pending:  # not recursive: a body may be nested deeper than Python's stack
        item = pending.pop()
        if isinstance(item, str):
            parts.append(item)
        elif isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict) and item.get("type") == "tool_use":
            parts.append(f"{item.get('name', '')} {dump(item.get('input'))}")
        elif isinstance(item, dict):
            pending.extend(
                item[key] for key in ("content", "thinking", "text") if isinstance(item.get(key), str | list)
            )
    return "\n".join(parts)
