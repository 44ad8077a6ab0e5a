"""OpenAI chat completions, and everybody who speaks them.

Request and answer: https://platform.openai.com/docs/api-reference/chat. Usage stands in `usage` (streamed: in a last
chunk without choices, when `stream_options.include_usage` asked for it), in `x_groq.usage` (Groq) or in
`choices[0].usage` (Moonshot). IN = prompt_tokens; OUT = completion_tokens, or total_tokens - prompt_tokens where that
is more (xAI and Gemini's OpenAI surface leave hidden reasoning out of completion_tokens).
"""

import json
import re
from typing import Any

from solaris_meter.metering import sse
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Dialect,
    Json,
    Request,
    for_librechat,
    items,
    make_request,
    mapping,
    whole,
)
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_LIMITS = ("max_completion_tokens", "max_tokens")
_WANTS_COMPLETION_TOKENS = re.compile(r"\b(o[134]|gpt-5)")


class OpenAIChat(Dialect):
    """`/chat/completions`."""

    name = "openai-chat"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        deployment = re.search(r"/deployments/([^/]+)/", path)
        limits = [limit for key in _LIMITS if (limit := whole(body.get(key)))]
        return make_request(
            body,
            body_bytes,
            model=body.get("model") or (deployment and deployment[1]),
            max_output=max(limits, default=None),
            choices=body.get("n"),
            user=body.get("user"),
            wants_usage=mapping(body.get("stream_options")).get("include_usage") is True,
            prompt=lambda: _prompt(body),
        )

    def ask_for_usage(self, raw: bytes, request: Request) -> bytes | None:
        if not request.stream or request.wants_usage:
            return None
        body = request.body
        if "stream_options" not in body and raw[:1] == b"{":
            # Spliced in, so that every other byte stays as the caller wrote it.
            return b'{"stream_options":{"include_usage":true},' + raw[1:]
        options = mapping(body.get("stream_options")) | {"include_usage": True}
        return json.dumps(body | {"stream_options": options}).encode()

    def is_usage_only(self, event: Json) -> bool:
        return event.get("choices") == [] and isinstance(event.get("usage"), dict)

    def limit_output(self, body: Json, tokens: int) -> Json:
        present = [key for key in _LIMITS if body.get(key) is not None]
        usual = _LIMITS[0] if _WANTS_COMPLETION_TOKENS.search(str(body.get("model"))) else _LIMITS[1]
        return body | {key: min(tokens, whole(body.get(key)) or tokens) for key in present or [usual]}

    def read_event(self, answer: Answer, event: Json) -> None:
        for key in ("id", "created", "model"):
            if key in event:
                answer.state.setdefault(key, event[key])
        choices = items(event.get("choices"))
        for choice in choices:
            choice = mapping(choice)
            answer.state.setdefault("indices", {})[whole(choice.get("index")) or 0] = None  # an ordered set
            _read_text(answer, mapping(choice.get("delta")))
        _read_usage(answer, event, choices)

    def read_body(self, answer: Answer, body: Json) -> None:
        choices = items(body.get("choices"))
        for choice in choices:
            _read_text(answer, mapping(mapping(choice).get("message")))
        _read_usage(answer, body, choices)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        kind = {401: "authentication_error", 503: "server_error", 400: "invalid_request_error"}.get(status, code)
        text = message if plain else for_librechat(message)
        return {"error": {"message": text, "type": kind, "code": code, "param": None}}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> bytes:
        state = answer.state
        base = {
            "id": state.get("id", "chatcmpl-solaris"),
            "object": "chat.completion.chunk",
            "created": state.get("created", 0),
            "model": state.get("model", ""),
        }
        indices = list(state.get("indices", [0]))
        deltas: list[Json] = [{"index": index, "delta": {}, "finish_reason": "length"} for index in indices]
        if notice and not state.get("calls_tools"):
            deltas.insert(0, {"index": indices[0], "delta": {"content": notice}, "finish_reason": None})
        chunks: list[Json] = [base | {"choices": [delta]} for delta in deltas]
        if usage:
            total = {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            }
            chunks.append(base | {"choices": [], "usage": total})
        return b"".join(sse.encode(json.dumps(chunk)) for chunk in chunks) + sse.encode("[DONE]")


def _read_text(answer: Answer, message: Json) -> None:
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict):
            answer.wrote(part.get("text"))
            for thought in items(part.get("thinking")):  # Mistral
                answer.wrote(mapping(thought).get("text"))
        else:
            answer.wrote(part)
    for key in ("refusal", "reasoning_content", "reasoning"):
        answer.wrote(message.get(key))
    calls = [mapping(call).get("function") for call in items(message.get("tool_calls"))]
    for call in [*calls, message.get("function_call")]:
        if isinstance(call, dict):
            answer.state["calls_tools"] = True
            answer.wrote(call.get("name"))
            answer.wrote(call.get("arguments"))


def _read_usage(answer: Answer, event: Json, choices: list[Any]) -> None:
    usage = event.get("usage") or mapping(event.get("x_groq")).get("usage")
    if not usage:
        usage = next((choice["usage"] for choice in choices if mapping(choice).get("usage")), None)
    if not isinstance(usage, dict):
        return
    read, written, total = (whole(usage.get(key)) for key in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if None in (read, written) and (usage.get("prompt_tokens"), usage.get("completion_tokens")) != (None, None):
        answer.refused_usage = answer.refused_usage or read is None or written is None
    if read is not None:
        answer.input_tokens = read
        details = mapping(usage.get("prompt_tokens_details"))
        # DeepSeek and Moonshot have names of their own for what others put into the details.
        cached = [details.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")]
        answer.cached_input_tokens = min(read, next((number for value in cached if (number := whole(value))), 0))
        answer.cache_write_tokens = min(read, whole(details.get("cache_write_tokens")) or 0)
    if written is not None:
        reasoning = whole(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))
        answer.output_tokens = max(written, total - read) if total is not None and read is not None else written
        answer.reasoning_tokens = min(answer.output_tokens, reasoning or 0)


def _prompt(body: Json) -> Prompt:
    """The request in LiteLLM's shape, without what it counts wrongly: ids of tool calls, parts, names of calls."""
    messages = []
    for message in items(body.get("messages")):
        if not isinstance(message, dict):
            continue
        kept = {key: value for key, value in message.items() if key in {"role", "name", "content", "function_call"}}
        if isinstance(kept.get("content"), list):
            parts = [part.get("text") for part in kept["content"] if isinstance(part, dict)]
            kept["content"] = "".join(part for part in parts if isinstance(part, str))
        elif not isinstance(kept.get("content"), str):
            kept["content"] = ""
        calls = [mapping(mapping(call).get("function")) for call in items(message.get("tool_calls"))]
        kept["content"] += "".join(f"\n{call.get('name', '')} {call.get('arguments', '')}" for call in calls)
        if not isinstance(kept.get("role"), str):
            kept["role"] = "user"
        messages.append(kept)
    schema = mapping(mapping(body.get("response_format")).get("json_schema")).get("schema")
    return Prompt(
        messages=tuple(messages),
        tools=tuple(tool for tool in items(body.get("tools")) if isinstance(tool, dict)),
        schema=json.dumps(schema) if schema else "",
        attachments=count_attachments(body),
    )
