"""OpenAI Responses.

Request and answer: https://platform.openai.com/docs/api-reference/responses; streams:
/docs/api-reference/responses-streaming. `tool_usage` is another model's count and is not added.
"""

import re
from typing import Any

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Dialect,
    Json,
    Request,
    Said,
    deployment,
    make_request,
    mapping,
    objects,
    said,
    texts,
    whole,
)
from solaris_meter.metering.openai_prompt import schema_text
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_RUNNING = frozenset({"queued", "in_progress"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_HELD = frozenset({"response.created", "response.queued", "response.in_progress"})
_CALLS = frozenset({"function_call", "custom_tool_call"})
_ARGUMENTS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_OURS = frozenset({"function", "custom"})
_EMPTY: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
_FUNCTION = ("name", "description", "parameters")
_POLLED = re.compile(r"/responses/(resp_[^/]+)$")


class OpenAIResponses(Dialect):
    """`/responses`."""

    name = "openai-responses"
    paths = re.compile(r"/responses(/compact)?$")
    usage_at = (
        "`usage`, streamed in `response.completed`, `.incomplete` and `.failed`; of a background call when polled"
    )
    formula = "IN = input_tokens; OUT = output_tokens"
    source = "https://platform.openai.com/docs/api-reference/responses/object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=body.get("model") or deployment(path),
            max_output=body.get("max_output_tokens"),
            user=body.get("user"),
            prompt=lambda: _prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        return body | {"max_output_tokens": min(tokens, whole(body.get("max_output_tokens")) or tokens)}

    def read_event(self, answer: Answer, event: Json) -> None:
        kind = event.get("type")
        number = whole(event.get("sequence_number"))
        if number is not None:
            answer.state["sequence_number"] = number
        if isinstance(kind, str) and kind.endswith(".delta"):
            # Text, refusals, arguments of tools, code, reasoning; not sound and pictures, whose deltas are base64.
            if kind in _ARGUMENTS:
                answer.called(str(event.get("item_id")), None, event.get("delta"))
            elif "audio.delta" not in kind and "partial_image" not in kind:
                answer.wrote(event.get("delta"))
        elif kind == "response.output_item.added":
            item = mapping(event.get("item"))
            answer.state["begun"] = len(answer.text)
            if item.get("type") in _CALLS:
                answer.called(str(item.get("id")), item.get("name"), None)
            answer.state["item"] = event
        elif kind == "response.content_part.added":
            answer.state["part"] = event
        elif kind == "response.output_item.done":
            answer.state.setdefault("items", []).append(event.get("item"))
            answer.state.pop("item", None)
            answer.state.pop("part", None)
            _read_searches(answer, mapping(event.get("item")))
        elif kind in _HELD or kind in _LAST:
            response = mapping(event.get("response"))
            answer.state["response"] = response
            _read_usage(answer, response)

    def is_last(self, event: Json) -> bool:
        return event.get("type") in _LAST

    def read_body(self, answer: Answer, body: Json) -> None:
        identity = body.get("id")
        if body.get("background") is True and body.get("status") in _RUNNING and isinstance(identity, str):
            answer.polled_as = identity
            return
        for item in objects(body.get("output")):
            for text in texts([item.get(key) for key in ("summary", "content")], "text", "refusal"):
                answer.wrote(text)
            if item.get("type") in _CALLS:
                answer.called(str(item.get("id")), item.get("name"), item.get("arguments") or item.get("input"))
            answer.wrote(item.get("code"))
            _read_searches(answer, item)
        _read_usage(answer, body)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return openai_style.denial(status, code, message, plain=plain)

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        return _Ending(answer, notice, input_tokens, output_tokens).events()


def polled(path: str) -> str | None:
    """The id of the response that a GET on this path asks for, if it does."""
    found = _POLLED.search(path)
    return found[1] if found else None


class _Ending:
    """The events that close what is open, in the order in which the API sends them."""

    def __init__(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int) -> None:
        self._state = answer.state
        self._open_text = "".join(answer.text[answer.state.get("begun", 0) :])
        self._notice = notice
        self._number = answer.state.get("sequence_number", -1)
        total = input_tokens + output_tokens
        self._usage = {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": total,
        }
        self._events: list[Json] = []

    def events(self) -> list[Said]:
        opened = self._state.get("item")
        if opened:
            self._close_item(opened)
        elif self._notice:
            self._say(len(self._state.get("items", [])))
        response = dict(self._state.get("response", {}))
        response |= {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [item for item in self._state.get("items", []) if isinstance(item, dict)],
            "usage": self._usage,
        }
        self._add("response.incomplete", response=response)
        return [said(event, event["type"]) for event in self._events]

    def _add(self, kind: str, **members: Any) -> None:
        self._number += 1
        self._events.append({"type": kind, "sequence_number": self._number} | members)

    def _close_item(self, opened: Json) -> None:
        item, index = mapping(opened.get("item")), opened.get("output_index", 0)
        if item.get("type") == "message":
            self._close_text(item, index)
            return
        closed = item | {"status": "incomplete"}
        self._add("response.output_item.done", output_index=index, item=closed)
        self._state.setdefault("items", []).append(closed)
        if self._notice and item.get("type") == "reasoning":
            self._say(index + 1 if isinstance(index, int) else 1)

    def _close_text(self, item: Json, index: Any) -> None:
        opened = self._state.get("part")
        place = {"item_id": item.get("id"), "output_index": index, "content_index": 0}
        if opened is not None and mapping(opened.get("part")).get("type") != "output_text":
            self._finish_message(item, index, [])  # a refusal takes no notice
            return
        if opened is not None:
            place["content_index"] = opened.get("content_index", 0)
        elif self._notice:
            self._add("response.content_part.added", **place, part=_EMPTY)
        else:
            self._finish_message(item, index, [])
            return
        if self._notice:
            self._add("response.output_text.delta", **place, delta=self._notice, logprobs=[])
        self._finish_text(item, place, self._open_text + self._notice)

    def _finish_text(self, item: Json, place: Json, text: str) -> None:
        part = _EMPTY | {"text": text}
        self._add("response.output_text.done", **place, text=text, logprobs=[])
        self._add("response.content_part.done", **place, part=part)
        self._finish_message(item, place["output_index"], [part])

    def _finish_message(self, item: Json, index: Any, content: list[Json]) -> None:
        closed = item | {"status": "incomplete", "content": content}
        self._add("response.output_item.done", output_index=index, item=closed)
        self._state.setdefault("items", []).append(closed)

    def _say(self, index: int) -> None:
        """A message of its own with the notice."""
        item: Json = {
            "id": "msg_solaris",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        self._add("response.output_item.added", output_index=index, item=item)
        self._add("response.content_part.added", **place, part=_EMPTY)
        self._add("response.output_text.delta", **place, delta=self._notice, logprobs=[])
        self._finish_text(item, place, self._notice)


def _read_searches(answer: Answer, item: Json) -> None:
    if item.get("type") == "web_search_call":
        answer.terms["web_searches"] = answer.terms.get("web_searches", 0) + 1


def _read_usage(answer: Answer, response: Json) -> None:
    answer.named(response.get("model"))
    openai_style.read_tier(answer, response)
    usage = response.get("usage")
    if isinstance(usage, dict):
        openai_style.read_input_output(answer, usage)


def _prompt(body: Json) -> Prompt:
    """The request as chat completions would have it: instructions, items, functions, the format's schema."""
    messages: list[Json] = []
    if isinstance(body.get("instructions"), str):
        messages.append({"role": "system", "content": body["instructions"]})
    if isinstance(body.get("input"), str):
        messages.append({"role": "user", "content": body["input"]})
    messages += [_message(item) for item in objects(body.get("input"))]
    tools = list(objects(body.get("tools")))
    functions = [
        {"type": "function", "function": {key: tool[key] for key in _FUNCTION if key in tool}}
        for tool in tools
        if tool.get("type") == "function" and isinstance(tool.get("name"), str)
    ]
    form = mapping(mapping(body.get("text")).get("format"))
    forced = mapping(body.get("tool_choice")).get("name")
    return Prompt(
        messages=tuple(messages),
        tools=tuple(functions),
        schema=schema_text(form.get("name"), form.get("description"), form["schema"]) if form.get("schema") else "",
        attachments=count_attachments(body),
        choice=forced if isinstance(forced, str) else "",
        opaque=any(tool.get("type") not in _OURS for tool in tools) or body.get("previous_response_id") is not None,
        surface="responses",
    )


def _message(item: Json) -> Json:
    """An item of the input as a message."""
    call = item.get("call_id")
    if item.get("type") in _CALLS:
        arguments = item.get("arguments", item.get("input"))
        function = {"name": str(item.get("name") or ""), "arguments": _text(arguments)}
        return {"role": "assistant", "content": "", "tool_calls": [{"id": call, "function": function}]}
    if isinstance(item.get("type"), str) and item["type"].endswith("_call_output"):
        return {"role": "tool", "tool_call_id": call, "content": _text(item.get("output"))}
    role = item.get("role")
    content = _text([item.get("content"), item.get("summary")])
    return {"role": role if isinstance(role, str) else "assistant", "content": content}


def _text(content: object) -> str:
    return "".join(texts(content, "text", "refusal", "output", "content"))
