"""Ollama's own API.

Request and answer: https://github.com/ollama/ollama/blob/main/docs/api.md. Streams are one JSON document a line, and
usage stands in the last (`done`). Builds differ: some leave out `prompt_eval_count` for a prompt that was cached.
"""

import re

from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Dialect,
    Json,
    Message,
    Request,
    Said,
    dump,
    limited,
    make_request,
    mapping,
    objects,
    said,
)
from solaris_meter.metering.dialects.openai_style import plain_prompt
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_EMBEDS = re.compile(r"/api/embed(dings)?$")


class Ollama(Dialect):
    """`/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`; the first two stream unless told not to."""

    name = "ollama"
    conversation = Conversation()
    stream_type = "application/x-ndjson"
    paths = re.compile(r"/api/(chat|generate|embed|embeddings)$", re.IGNORECASE)
    usage_at = "the answer, streamed its last line"
    formula = "IN = prompt_eval_count; OUT = eval_count"
    source = "https://github.com/ollama/ollama/blob/main/docs/api.md"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        embeds = _EMBEDS.search(path)
        options = mapping(body.get("options"))
        return make_request(
            body,
            body_bytes,
            model=body.get("model"),
            max_output=1 if embeds else options.get("num_predict"),
            stream=not embeds and body.get("stream") is not False,
            prompt=lambda: _prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        options = mapping(body.get("options"))
        return body | {"options": options | {"num_predict": limited(options.get("num_predict"), tokens)}}

    def read_event(self, answer: Answer, event: Json) -> None:
        message = mapping(event.get("message"))
        for text in (message.get("thinking"), message.get("content"), event.get("thinking"), event.get("response")):
            answer.wrote(text)
        for call in objects(message.get("tool_calls")):
            function = mapping(call.get("function"))
            answer.wrote(function.get("name"))
            answer.wrote(dump(function.get("arguments")))
        for key in ("model", "created_at"):
            if isinstance(event.get(key), str):
                answer.state[key] = event[key]
        answer.state["generates"] = "response" in event
        answer.ran = answer.ran or "embedding" in event or "embeddings" in event
        read, written = answer.number(event, "prompt_eval_count"), answer.number(event, "eval_count")
        if read is not None:
            answer.input_tokens = read
        if written is not None:
            answer.output_tokens = written

    def is_last(self, event: Json) -> bool:
        return event.get("done") is True

    def read_body(self, answer: Answer, body: Json) -> None:
        self.read_event(answer, body)

    def conclude(self, answer: Answer, request: Request) -> None:
        if answer.ran and not answer.text:
            answer.output_tokens = answer.output_tokens or 0

    def message(self, request: Request, text: str) -> Message | None:
        if "messages" not in request.body:
            return None
        base = {"model": request.model, "created_at": "1970-01-01T00:00:00Z"}
        counts = {"prompt_eval_count": 0, "eval_count": 0}
        spoken = {"message": {"role": "assistant", "content": text}}
        last = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
        done = {"done": True, "done_reason": "stop"}
        return Message(
            [said(base | spoken | {"done": False}), said(base | last | counts)], base | spoken | done | counts
        )

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return {"error": message}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        base = {"model": answer.state.get("model", ""), "created_at": answer.state.get("created_at", "")}

        def holding(text: str) -> Json:
            generates = answer.state.get("generates")
            return {"response": text} if generates else {"message": {"role": "assistant", "content": text}}

        events = [base | holding(notice) | {"done": False}] if notice else []
        counts = {"prompt_eval_count": input_tokens, "eval_count": output_tokens}
        events.append(base | holding("") | {"done": True, "done_reason": "length"} | counts)
        return [said(event) for event in events]


def _prompt(body: Json) -> Prompt:
    messages = []
    for message in objects(body.get("messages")):
        role, content = message.get("role"), message.get("content")
        calls = dump(message.get("tool_calls")) if message.get("tool_calls") else ""
        text = (content if isinstance(content, str) else "") + calls
        messages.append({"role": role if isinstance(role, str) else "user", "content": text})
    plain = plain_prompt(body.get("input")).text
    pieces = [body.get("system"), body.get("prompt"), plain]
    schema = body.get("format")
    return Prompt(
        messages=tuple(messages),
        tools=tuple(objects(body.get("tools"))),
        schema=dump(schema) if isinstance(schema, dict) else "",
        attachments=count_attachments(body),
        text="\n".join(piece for piece in pieces if isinstance(piece, str) and piece),
    )
