"""Cohere, versions 1 and 2: chat, generate, embed, rerank, classify, summarize.

Request and answer: https://docs.cohere.com/reference/chat (v2) and /v1/reference/chat. `billed_units` is what is
billed; `tokens` holds the provider's own preamble as well, and counts only where `billed_units` is absent.
"""

import re
from collections.abc import Iterator

from solaris_meter.metering.dialects.dialect import (
    Answer,
    Conversation,
    Dialect,
    Json,
    Message,
    Request,
    Said,
    dump,
    items,
    kind,
    limited,
    make_request,
    mapping,
    objects,
    said,
    texts,
)
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.providers import KNOWN
from solaris_meter.metering.tokens import Prompt

_SPOKEN = ("message", "content", "tool_plan")
_NO_TEXT = re.compile(r"/v\d/(embed|rerank|classify)$")


class Cohere(Dialect):
    """`/v1/…` and `/v2/…`; v1 streams one JSON document a line, v2 server-sent events."""

    name = "cohere"
    conversation = Conversation()
    paths = re.compile(r"/v\d/(chat|generate|embed|rerank|classify|summarize)$", re.IGNORECASE)
    usage_at = (
        "`usage.billed_units` (v2; streamed in `message-end`), `meta.billed_units` (v1, embeddings; streamed in"
        " `stream-end`)"
    )
    formula = "IN = billed_units.input_tokens; OUT = billed_units.output_tokens; rerank: the texts, counted"
    source = "https://docs.cohere.com/reference/chat"

    def claims(self, provider: str | None, body: Json | None) -> bool:
        # `/v1/chat` and `/v1/embed` mean other things elsewhere (Writer's chat is OpenAI's).
        if provider in KNOWN:
            return provider == "cohere"
        return (provider or "").startswith("cohere") or (body is not None and ("message" in body or "texts" in body))

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=body.get("model"),
            max_output=1 if _NO_TEXT.search(path) else body.get("max_tokens"),
            choices=body.get("num_generations"),
            prompt=lambda: _prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        return body | {"max_tokens": limited(body.get("max_tokens"), tokens)}

    def read_event(self, answer: Answer, event: Json) -> None:
        if isinstance(event.get("event_type"), str):
            self._read_v1(answer, event)
            return
        named = kind(event)
        delta = mapping(event.get("delta"))
        message = mapping(delta.get("message"))
        if named in {"content-start", "content-delta", "tool-plan-delta"}:
            for text in texts([message.get("content"), message.get("tool_plan")], "thinking", "text"):
                answer.wrote(text)
            answer.state["index"] = event.get("index")
        elif named in {"tool-call-start", "tool-call-delta"}:
            function = mapping(mapping(message.get("tool_calls")).get("function"))
            answer.wrote(function.get("name"))
            answer.wrote(function.get("arguments"))
        elif named == "message-end":
            _read_units(answer, mapping(delta.get("usage")))

    def is_last(self, event: Json) -> bool:
        return event.get("type") == "message-end" or event.get("event_type") == "stream-end"

    def read_body(self, answer: Answer, body: Json) -> None:
        message = mapping(body.get("message"))
        for text in texts([message.get("tool_plan"), message.get("content"), body.get("text")], "thinking", "text"):
            answer.wrote(text)
        for generation in objects(body.get("generations")):
            answer.wrote(generation.get("text"))
        for call in [*objects(message.get("tool_calls")), *objects(body.get("tool_calls"))]:
            function = mapping(call.get("function") or call)
            answer.wrote(function.get("name"))
            arguments = function.get("arguments", function.get("parameters"))
            answer.wrote(arguments if isinstance(arguments, str) else dump(arguments))
        answer.wrote(body.get("summary"))
        answer.ran = bool(answer.ran or body.get("embeddings") or body.get("results") or body.get("classifications"))
        _read_units(answer, mapping(body.get("usage")) or mapping(body.get("meta")))

    def conclude(self, answer: Answer, request: Request) -> None:
        if answer.ran and not answer.text:
            answer.output_tokens = answer.output_tokens or 0

    def message(self, request: Request, text: str) -> Message | None:
        units = {"billed_units": {"input_tokens": 0, "output_tokens": 0}}
        if isinstance(request.body.get("message"), str):
            answer = {"text": text, "generation_id": "solaris", "finish_reason": "COMPLETE", "meta": units}
            last = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": answer}
            events: list[Json] = [
                {"is_finished": False, "event_type": "stream-start", "generation_id": "solaris"},
                {"is_finished": False, "event_type": "text-generation", "text": text},
                {"is_finished": True} | last,
            ]
            return Message([said(event) for event in events], answer)
        if not request.body.get("messages"):
            return None
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        part = {"type": "text", "text": text}
        events = [
            {"id": "solaris", "type": "message-start", "delta": {"message": empty}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": part | {"text": ""}}}},
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}},
            {"type": "content-end", "index": 0},
            {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": units}},
        ]
        whole_message = {"role": "assistant", "content": [part]}
        body = {"id": "solaris", "finish_reason": "COMPLETE", "message": whole_message, "usage": units}
        return Message([said(event, event["type"]) for event in events], body)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return {"message": message}

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        units = {"billed_units": {"input_tokens": input_tokens, "output_tokens": output_tokens}}
        if answer.state.get("v1"):
            spoken = [{"is_finished": False, "event_type": "text-generation", "text": notice}] if notice else []
            text = "".join(answer.text) + notice
            response = {"text": text, "finish_reason": "MAX_TOKENS", "meta": units}
            end = {"is_finished": True, "event_type": "stream-end", "finish_reason": "MAX_TOKENS", "response": response}
            return [said(event) for event in [*spoken, end]]
        events: list[Json] = []
        index = answer.state.get("index", 0)
        if notice:
            content = {"message": {"content": {"text": notice}}}
            events.append({"type": "content-delta", "index": index, "delta": content})
        events.append({"type": "content-end", "index": index})
        events.append({"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS", "usage": units}})
        return [said(event, event["type"]) for event in events]

    def _read_v1(self, answer: Answer, event: Json) -> None:
        answer.state["v1"] = True
        named = event["event_type"]
        if named == "text-generation":
            answer.wrote(event.get("text"))
        elif named == "tool-calls-chunk":
            call = mapping(mapping(event.get("tool_call_delta")))
            answer.wrote(call.get("name"))
            answer.wrote(call.get("parameters"))
            answer.wrote(event.get("text"))
        elif named == "stream-end":
            _read_units(answer, mapping(mapping(event.get("response")).get("meta")))


def _read_units(answer: Answer, holder: Json) -> None:
    for name in ("billed_units", "tokens"):
        units = mapping(holder.get(name))
        if units.get("input_tokens") is None and units.get("output_tokens") is None:
            continue
        # A side that is not there is nothing billed (embeddings write none).
        read, written = answer.number(units, "input_tokens"), answer.number(units, "output_tokens")
        if not answer.refused_usage:
            answer.input_tokens, answer.output_tokens = read or 0, written or 0
        return


def _prompt(body: Json) -> Prompt:
    """What is billed is the texts, without the template around them."""
    turns = [*objects(body.get("chat_history")), *objects(body.get("messages"))]
    spoken = [text for turn in turns for text in texts([turn.get(key) for key in _SPOKEN], "text", "thinking")]
    calls = [dump(turn["tool_calls"]) for turn in turns if turn.get("tool_calls")]
    tools = [
        {"type": "function", "function": mapping(tool.get("function")) or _v1_function(tool)}
        for tool in objects(body.get("tools"))
    ]
    form = mapping(body.get("response_format"))
    schema = form.get("json_schema") or form.get("schema")
    own = [body[key] for key in ("preamble", "message") if isinstance(body.get(key), str)]
    return Prompt(
        messages=(),
        tools=tuple(tools),
        schema=dump(schema) if schema else "",
        attachments=count_attachments(body),
        text="\n".join([*spoken, *calls, *own, *_texts(body)]),
    )


def _v1_function(tool: Json) -> Json:
    return {
        "name": str(tool.get("name") or ""),
        "description": str(tool.get("description") or ""),
        "parameters": {"type": "object", "properties": mapping(tool.get("parameter_definitions"))},
    }


def _texts(body: Json) -> Iterator[str]:
    """What is read besides messages: documents, the texts to embed or to rank, a prompt. A query is read with each."""
    documents = [
        item if isinstance(item, str) else "\n".join(texts(list(mapping(item).values()), *mapping(item)))
        for item in items(body.get("documents"))
    ]
    query = body.get("query")
    for document in documents:
        yield f"{query}\n{document}" if isinstance(query, str) else document
    for name in ("texts", "inputs", "prompt", "text"):
        yield from texts(body.get(name), "text", "content")
