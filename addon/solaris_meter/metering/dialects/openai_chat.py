"""OpenAI chat completions, and everybody who speaks them.

Request and answer: https://platform.openai.com/docs/api-reference/chat. In streams OpenAI's usage comes in a last chunk
without choices, and only when `stream_options.include_usage` asked for it.
"""

import json
import re
from typing import Any, ClassVar

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Json,
    Message,
    Request,
    Said,
    deployment,
    items,
    limited,
    make_request,
    mapping,
    objects,
    remembers,
    said,
    texts,
    whole,
)
from solaris_meter.metering.openai_prompt import chat_prompt

_LIMITS = ("max_completion_tokens", "max_tokens")
_SEARCHES = re.compile(r"gpt.*-search")
_WANTS_COMPLETION_TOKENS = re.compile(r"\b(o[134]|gpt-5)")


class OpenAIChat(openai_style.OpenAIStyle):
    """`/chat/completions`, and the same under the names that Mistral, Writer and Vertex AI's partners have for it."""

    name = "openai-chat"
    conversation: ClassVar[Conversation | None] = Conversation()
    paths = re.compile(
        r"/(chat|fim|agents)/completions$|/v1/chat$"
        r"|/publishers/(?!anthropic/)[^/]+/models/[^/:]+:(rawPredict|streamRawPredict)$",
        re.IGNORECASE,
    )
    usage_at = (
        "`usage`, streamed in a last chunk without choices that is asked for; `x_groq.usage` (Groq);"
        " `choices[0].usage` (Moonshot)"
    )
    formula = "IN = prompt_tokens; OUT = max(completion_tokens, total_tokens - prompt_tokens)"
    source = "https://platform.openai.com/docs/api-reference/chat/object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        limits = [limit for key in _LIMITS if (limit := whole(body.get(key)))]
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            max_output=max(limits, default=None),
            choices=body.get("n"),
            user=body.get("user"),
            wants_usage=mapping(body.get("stream_options")).get("include_usage") is True,
            later=body.get("deferred") is True,  # xAI
            prompt=lambda: chat_prompt(body, "azure" if deployment(path) else "chat"),
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
        return body | {key: limited(body.get(key), tokens) for key in present or [usual]}

    def read_event(self, answer: Answer, event: Json) -> None:
        for key in ("id", "created", "model"):
            if event.get(key):  # Azure's first chunk names nothing
                answer.state.setdefault(key, event[key])
        choices = items(event.get("choices"))
        for choice in choices:
            choice = mapping(choice)
            index = whole(choice.get("index")) or 0
            _note_end(answer, choice)
            answer.state.setdefault("indices", {})[index] = None  # an ordered set
            _read_text(answer, mapping(choice.get("delta")), index)
        _read_usage(answer, event, choices)

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.named(body.get("model"))
        choices = items(body.get("choices"))
        for index, choice in enumerate(choices):
            _note_end(answer, mapping(choice))
            _read_text(answer, mapping(mapping(choice).get("message")), index)
        _read_usage(answer, body, choices)

    def conclude(self, answer: Answer, request: Request) -> None:
        if "model" in answer.state:
            answer.named(answer.state["model"])
        if _SEARCHES.search(request.model):
            answer.terms["web_searches"] = 1

    def message(self, request: Request, text: str) -> Message | None:
        base = {"id": "chatcmpl-solaris", "created": 0, "model": request.model}
        usage = openai_style.prompt_completion(0, 0)
        chunk = base | {"object": "chat.completion.chunk"}

        def choice(delta: Json, finish_reason: str | None) -> Json:
            return chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

        events = [
            choice({"role": "assistant", "content": ""}, None),
            choice({"content": text}, None),
            choice({}, "stop"),
        ]
        if request.wants_usage:
            events.append(chunk | {"choices": [], "usage": usage})
        whole_message = {"role": "assistant", "content": text, "refusal": None}
        body = base | {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": whole_message, "finish_reason": "stop", "logprobs": None}],
            "usage": usage,
        }
        return Message([*map(said, events), (None, "[DONE]")], body)

    def takes_notice(self, body: Json) -> bool:
        form = mapping(body.get("response_format")).get("type", "text")
        return form == "text" and (whole(body.get("n")) or 1) == 1 and not remembers(body)

    def closing(self, answer: Answer, event: Json) -> bool:
        choices = items(event.get("choices"))
        ended = [choice for choice in choices if mapping(choice).get("finish_reason") == "stop"]
        return len(choices) == len(ended) == 1 and bool(answer.text) and not answer.state.get("calls_tools")

    def notice(self, answer: Answer, event: Json, text: str) -> list[Said]:
        choice = mapping(items(event.get("choices"))[0])
        index = choice.get("index", 0)
        delta = mapping(choice.get("delta"))
        added = {"index": index, "delta": {"content": text}, "finish_reason": None}
        base = {key: value for key, value in event.items() if key not in {"usage", "x_groq"}}
        last = event | {"choices": [choice | {"delta": {key: delta[key] for key in delta if key != "content"}}]}
        content = delta.get("content")
        if isinstance(content, str) and content:  # some end with their last piece of text
            added["delta"] = {"content": content + text}
        return [said(base | {"choices": [added]}), said(last)]

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
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
            chunks.append(base | {"choices": [], "usage": openai_style.prompt_completion(input_tokens, output_tokens)})
        return [*map(said, chunks), (None, "[DONE]")]


def _note_end(answer: Answer, choice: Json) -> None:
    """What a content filter took away was written all the same."""
    if choice.get("finish_reason") == "content_filter":
        answer.ran = True


def _read_text(answer: Answer, message: Json, choice: int) -> None:
    content = message.get("content")
    if isinstance(content, str):
        answer.wrote(content)
    elif content is not None:
        for text in texts(content, "thinking", "text", "refusal"):  # parts; `thinking` holds parts of its own (Mistral)
            answer.wrote(text)
    for part in ("refusal", "reasoning_content", "reasoning"):
        if part in message:
            answer.wrote(message[part])
    if isinstance(message.get("audio"), dict):
        answer.wrote(message["audio"].get("transcript"))
        answer.heard(message["audio"].get("data"))
    if message.get("tool_calls") or message.get("function_call"):
        answer.state["calls_tools"] = True
        for position, call in enumerate(objects(message.get("tool_calls"))):
            index = whole(call.get("index"))
            function = mapping(call.get("function"))
            key = (choice, position if index is None else index)
            answer.called(key, function.get("name"), function.get("arguments"))
        function = mapping(message.get("function_call"))
        if function:
            answer.called((choice, None), function.get("name"), function.get("arguments"))


def _read_usage(answer: Answer, event: Json, choices: list[Any]) -> None:
    usage = event.get("usage") or mapping(event.get("x_groq")).get("usage")
    if not usage:
        usage = next((choice["usage"] for choice in choices if mapping(choice).get("usage")), None)
    if isinstance(usage, dict):
        openai_style.read_prompt_completion(answer, usage)
        openai_style.read_tier(answer, event)
