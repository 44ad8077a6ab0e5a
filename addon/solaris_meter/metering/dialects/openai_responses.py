"""OpenAI Responses.

Request and answer: https://platform.openai.com/docs/api-reference/responses; streams:
/docs/api-reference/responses-streaming. `tool_usage` is another model's count and is not added.
"""

import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Json,
    Message,
    Request,
    Said,
    deployment,
    kind,
    limited,
    make_request,
    mapping,
    objects,
    remembers,
    texts,
    whole,
)
from solaris_meter.metering.dialects.openai_responses_writer import ResponseWriter, response_usage
from solaris_meter.metering.openai_prompt import schema_text
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_RUNNING = frozenset({"queued", "in_progress"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_HELD = frozenset({"response.created", "response.queued", "response.in_progress"})
_CALLS = frozenset({"function_call", "custom_tool_call"})
_ARGUMENTS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_OURS = frozenset({"function", "custom"})
_FUNCTION = ("name", "description", "parameters")
_POLLED = re.compile(r"/responses/([^/]+)$", re.IGNORECASE)


class OpenAIResponses(openai_style.OpenAIStyle):
    """`/responses`."""

    name = "openai-responses"
    conversation = Conversation(turns="input")
    paths = re.compile(r"/responses(/compact)?$", re.IGNORECASE)
    usage_at = (
        "`usage`, streamed in `response.completed`, `.incomplete` and `.failed`; of a background call when polled"
    )
    formula = "IN = input_tokens; OUT = output_tokens"
    source = "https://platform.openai.com/docs/api-reference/responses/object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            max_output=body.get("max_output_tokens"),
            user=body.get("user"),
            background=body.get("background") is True,
            prompt=lambda: _prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        return body | {"max_output_tokens": limited(body.get("max_output_tokens"), tokens)}

    def read_event(self, answer: Answer, event: Json) -> None:
        named = kind(event)
        number = whole(event.get("sequence_number"))
        if number is not None:
            answer.state["sequence_number"] = number
        if named.endswith(".delta"):
            # Text, refusals, arguments of tools, code, reasoning; not sound and pictures, whose deltas are base64.
            if named in _ARGUMENTS:
                answer.called(str(event.get("item_id")), None, event.get("delta"))
            elif "audio.delta" not in named:
                answer.wrote(event.get("delta"))
        elif named == "response.output_item.added":
            item = mapping(event.get("item"))
            answer.state["begun"] = len(answer.text)
            if kind(item) in _CALLS:
                answer.called(str(item.get("id")), item.get("name"), None)
            answer.state["item"] = event
        elif named == "response.content_part.added":
            answer.state["part"] = event
        elif named == "response.output_item.done":
            answer.state.setdefault("items", []).append(event.get("item"))
            answer.state.pop("item", None)
            answer.state.pop("part", None)
            _read_searches(answer, mapping(event.get("item")))
        elif named in _HELD or named in _LAST:
            response = mapping(event.get("response"))
            answer.state["response"] = response
            _read_state(answer, response)
            _read_usage(answer, response)
        elif named == "response.image_generation_call.partial_image":
            answer.ran = True
            answer.unseen_tokens = openai_style.PICTURE_TOKENS["medium"]

    def is_last(self, event: Json) -> bool:
        return kind(event) in _LAST

    def read_body(self, answer: Answer, body: Json) -> None:
        _read_state(answer, body)
        for item in objects(body.get("output")):
            for text in texts([item.get(key) for key in ("summary", "content")], "text", "refusal"):
                answer.wrote(text)
            if kind(item) in _CALLS:
                answer.called(str(item.get("id")), item.get("name"), item.get("arguments") or item.get("input"))
            answer.wrote(item.get("code"))
            _read_searches(answer, item)
        _read_usage(answer, body)

    def polls(self, path: str) -> str | None:
        found = _POLLED.search(path)
        return found[1] if found else None

    def message(self, request: Request, text: str) -> Message | None:
        response = {
            "id": "resp_solaris",
            "object": "response",
            "created_at": 0,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": request.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
        }
        writer = ResponseWriter(-1, [])
        writer.add("response.created", response=response)
        writer.speak(text)
        done = response | {"status": "completed", "usage": response_usage(0, 0), "output": writer.output}
        return Message(writer.end("response.completed", done), done)

    def takes_notice(self, body: Json) -> bool:
        form = mapping(mapping(body.get("text")).get("format")).get("type", "text")
        return form == "text" and not remembers(body)

    def closing(self, answer: Answer, event: Json) -> bool:
        ends = event.get("type") == "response.completed" and bool(answer.text) and not answer.calls
        return ends and "item" not in answer.state

    def notice(self, answer: Answer, event: Json, text: str) -> list[Said]:
        response = mapping(event.get("response"))
        output = list(objects(response.get("output")))
        streamed = list(objects(answer.state.get("items")))
        output = output if len(output) >= len(streamed) else streamed  # some servers leave it empty
        number = whole(event.get("sequence_number"))
        writer = ResponseWriter(-1 if number is None else number - 1, output)
        writer.speak(text)
        return writer.end("response.completed", response)

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        writer = ResponseWriter(answer.state.get("sequence_number", -1), answer.state.get("items", []))
        opened = answer.state.get("item")
        if opened is None:
            if notice:
                writer.speak(notice, status="incomplete")
        elif mapping(opened.get("item")).get("type") == "message":
            begun = "".join(answer.text[answer.state.get("begun", 0) :])
            writer.close_message(opened, answer.state.get("part"), begun, notice)
        else:
            writer.close_item(opened)
            if notice and mapping(opened.get("item")).get("type") == "reasoning":
                writer.speak(notice, status="incomplete")
        ended = {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "usage": response_usage(input_tokens, output_tokens),
        }
        return writer.end("response.incomplete", answer.state.get("response", {}) | ended)


def _read_searches(answer: Answer, item: Json) -> None:
    if item.get("type") == "web_search_call":
        answer.terms["web_searches"] = answer.terms.get("web_searches", 0) + 1


def _read_state(answer: Answer, response: Json) -> None:
    """What a caller may ask for later, and whether it is still being made."""
    identity, status = response.get("id"), response.get("status")
    if isinstance(identity, str) and identity:
        answer.polled_as = identity
    if isinstance(status, str):
        answer.final = status not in _RUNNING


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
        opaque=any(kind(tool) not in _OURS for tool in tools) or body.get("previous_response_id") is not None,
        surface="responses",
    )


def _message(item: Json) -> Json:
    """An item of the input as a message."""
    call = item.get("call_id")
    if kind(item) in _CALLS:
        arguments = item.get("arguments", item.get("input"))
        function = {"name": str(item.get("name") or ""), "arguments": _text(arguments)}
        return {"role": "assistant", "content": "", "tool_calls": [{"id": call, "function": function}]}
    if kind(item).endswith("_call_output"):
        return {"role": "tool", "tool_call_id": call, "content": _text(item.get("output"))}
    role = item.get("role")
    content = _text([item.get("content"), item.get("summary")])
    return {"role": role if isinstance(role, str) else "assistant", "content": content}


def _text(content: object) -> str:
    return "".join(texts(content, "text", "refusal", "output", "content"))
