"""Amazon Bedrock: Converse for every model, and Invoke, which speaks each model family's own language.

Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; Invoke:
/API_runtime_InvokeModel.html and the model parameters in the user guide. Requests are signed and never edited.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages, messages_prompt
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
    limited,
    make_request,
    mapping,
    objects,
    said,
    texts,
    whole,
)
from solaris_meter.metering.dialects.openai_style import read_prompt_completion
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_MODEL = re.compile(r"/model/(.+)/(?:converse|invoke)")
_COUNT = re.compile(r"[0-9]{1,9}")
_HEADER = "x-amzn-bedrock-{}-token-count"
_EXCEPTIONS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    429: "ServiceQuotaExceededException",
    503: "ServiceUnavailableException",
}
_ANTHROPIC = AnthropicMessages()
_LIMITS = ("max_tokens", "max_tokens_to_sample", "max_gen_len", "maxTokens", "max_completion_tokens", "max_new_tokens")


class BedrockConverse(Dialect):
    """`/model/…/converse` and `/converse-stream`."""

    name = "bedrock-converse"
    conversation = Conversation()
    stream_type = "application/vnd.amazon.eventstream"
    paths = re.compile(r"/model/.+/converse(-stream)?$", re.IGNORECASE)
    usage_at = "`usage`; streamed in the event `metadata`"
    formula = "IN = inputTokens + cacheReadInputTokens + cacheWriteInputTokens; OUT = outputTokens"
    source = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=model_in(path),
            max_output=mapping(body.get("inferenceConfig")).get("maxTokens"),
            stream=path.endswith("-stream"),
            prompt=lambda: _converse_prompt(body),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        config = mapping(body.get("inferenceConfig"))
        return body | {"inferenceConfig": config | {"maxTokens": limited(config.get("maxTokens"), tokens)}}

    def read_event(self, answer: Answer, event: Json) -> None:
        for kind, payload in event.items():
            if kind == "contentBlockDelta":
                delta = mapping(mapping(payload).get("delta"))
                answer.wrote(delta.get("text"))
                answer.wrote(mapping(delta.get("reasoningContent")).get("text"))
                answer.wrote(mapping(delta.get("toolUse")).get("input"))
                answer.state["block"] = mapping(payload).get("contentBlockIndex")
                answer.state["writes_text"] = "text" in delta
            elif kind == "contentBlockStart":
                tool = mapping(mapping(mapping(payload).get("start")).get("toolUse"))
                answer.wrote(tool.get("name"))
            elif kind == "contentBlockStop":
                answer.state.pop("block", None)
            elif kind == "metadata":
                _read_usage(answer, mapping(mapping(payload).get("usage")))

    def is_last(self, event: Json) -> bool:
        return "metadata" in event

    def read_body(self, answer: Answer, body: Json) -> None:
        _read_message(answer, mapping(mapping(body.get("output")).get("message")))
        _read_usage(answer, mapping(body.get("usage")))

    def message(self, request: Request, text: str) -> Message | None:
        usage = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
        events: list[tuple[str, Json]] = [
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 0}}),
        ]
        whole_message = {"message": {"role": "assistant", "content": [{"text": text}]}}
        body = {"output": whole_message, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 0}}
        return Message([said(payload, kind) for kind, payload in events], body)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return _denial(status, message)

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        events: list[tuple[str, Json]] = []
        block = answer.state.get("block")
        if block is not None:
            if notice and answer.state.get("writes_text"):
                events.append(("contentBlockDelta", {"contentBlockIndex": block, "delta": {"text": notice}}))
            events.append(("contentBlockStop", {"contentBlockIndex": block}))
        counts = {
            "inputTokens": input_tokens,
            "outputTokens": output_tokens,
            "totalTokens": input_tokens + output_tokens,
        }
        events.append(("messageStop", {"stopReason": "max_tokens"}))
        events.append(("metadata", {"usage": counts, "metrics": {"latencyMs": 0}}))
        return [said(payload, kind) for kind, payload in events]


class BedrockInvoke(Dialect):
    """`/model/…/invoke` and `/invoke-with-response-stream`: Claude, Nova, Titan, Llama, Mistral, Cohere, AI21, …"""

    name = "bedrock-invoke"
    limits_output = False
    paths = re.compile(r"/model/.+/invoke(-with-response-stream)?$", re.IGNORECASE)
    usage_at = (
        "headers `x-amzn-bedrock-*-token-count`; streamed `amazon-bedrock-invocationMetrics` in the last chunk;"
        " else the model family's own fields"
    )
    formula = "IN = input + cache-read + cache-write; OUT = output"
    source = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        config = [body, mapping(body.get("inferenceConfig")), mapping(body.get("textGenerationConfig"))]
        limits = [whole(holder.get(key)) for holder in config for key in (*_LIMITS, "maxTokenCount")]
        return make_request(
            body,
            body_bytes,
            model=model_in(path),
            max_output=next((limit for limit in limits if limit), None),
            stream=path.endswith("-stream"),
            prompt=lambda: _invoke_prompt(body),
        )

    def read_headers(self, answer: Answer, headers: Mapping[str, str]) -> None:
        counts = {
            name: int(text)
            for name in ("input", "output", "cache-read-input", "cache-write-input")
            if _COUNT.fullmatch(text := headers.get(_HEADER.format(name), ""))
        }
        if "input" in counts:
            cached, write = counts.get("cache-read-input", 0), counts.get("cache-write-input", 0)
            _take(answer, counts["input"], counts.get("output", 0), cached, write)
            answer.state["told"] = True

    def read_event(self, answer: Answer, event: Json) -> None:
        wrapped = mapping(event.get("chunk")).get("bytes")
        if not isinstance(wrapped, str):
            return
        try:
            inner = msgspec.json.decode(base64.b64decode(wrapped))
        except (ValueError, RecursionError):
            return
        if isinstance(inner, dict):
            self._read_piece(answer, inner)

    def is_last(self, event: Json) -> bool:
        # The metrics stand in the last chunk; looking into the base64 for them would be work for each.
        return False

    def read_body(self, answer: Answer, body: Json) -> None:
        self._read_piece(answer, body)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return _denial(status, message)

    def _read_piece(self, answer: Answer, piece: Json) -> None:
        told = answer.input_tokens, answer.output_tokens, answer.cached_input_tokens, answer.cache_write_tokens
        _read_family_text(answer, piece)
        if answer.state.get("told"):
            # Claude's own usage is read with its text, and says no more than what was told.
            answer.input_tokens, answer.output_tokens, answer.cached_input_tokens, answer.cache_write_tokens = told
            return
        metrics = mapping(piece.get("amazon-bedrock-invocationMetrics"))
        if metrics.get("inputTokenCount") is not None:
            read, written = answer.number(metrics, "inputTokenCount"), answer.number(metrics, "outputTokenCount")
            # Metrics may lack what Claude's own usage told of its cache.
            cached = whole(metrics.get("cacheReadInputTokenCount", answer.cached_input_tokens))
            write = whole(metrics.get("cacheWriteInputTokenCount", answer.cache_write_tokens))
            if read is not None:
                _take(answer, read, written or 0, cached or 0, write or 0)
                answer.state["told"] = True
        elif piece.get("amazon-bedrock-guardrailAction") != "INTERVENED":
            # Where the guardrail answered, the family's fields count its canned text.
            _read_family_usage(answer, piece)


def model_in(path: str) -> str | None:
    """The model id, inference profile or ARN in a path; it may be percent-encoded."""
    found = _MODEL.search(path)
    return unquote(found[1]) if found else None


def _denial(status: int, message: str) -> Json:
    return {"__type": _EXCEPTIONS.get(status, "InternalServerException"), "message": message}


def _take(answer: Answer, fresh: int, written: int, cached: int, write: int) -> None:
    answer.input_tokens = fresh + cached + write
    answer.output_tokens = written
    answer.cached_input_tokens = cached
    answer.cache_write_tokens = write


def _read_usage(answer: Answer, usage: Json) -> None:
    """Converse's usage, which is Nova's in Invoke too; both spellings of the cached parts occur."""
    read, written = answer.number(usage, "inputTokens"), answer.number(usage, "outputTokens")
    cached = answer.number(usage, "cacheReadInputTokens", "cacheReadInputTokenCount") or 0
    write = answer.number(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount") or 0
    if read is not None and not answer.refused_usage:
        answer.input_tokens = read + cached + write
        answer.cached_input_tokens, answer.cache_write_tokens = cached, write
        if written is not None:
            answer.output_tokens = written


def _read_message(answer: Answer, message: Json) -> None:
    for block in objects(message.get("content")):
        answer.wrote(block.get("text"))
        answer.wrote(mapping(mapping(block.get("reasoningContent")).get("reasoningText")).get("text"))
        tool = mapping(block.get("toolUse"))
        answer.wrote(tool.get("name"))
        answer.wrote(dump(tool.get("input")))


def _read_family_text(answer: Answer, piece: Json) -> None:
    if isinstance(piece.get("type"), str):
        _read_claude_text(answer, piece)
    for key in ("completion", "generation", "outputText"):  # Claude 2, Llama, Titan
        answer.wrote(piece.get(key))
    delta = mapping(mapping(piece.get("contentBlockDelta")).get("delta"))  # Nova
    answer.wrote(delta.get("text"))
    answer.wrote(mapping(delta.get("toolUse")).get("input"))
    _read_message(answer, mapping(mapping(piece.get("output")).get("message")))
    for name in ("results", "outputs", "generations", "completions", "choices"):  # Titan, Mistral, Cohere, AI21, others
        for item in objects(piece.get(name)):
            for text in (item.get("outputText"), item.get("text"), mapping(item.get("data")).get("text")):
                answer.wrote(text)
            for holder in (item.get("message"), item.get("delta")):
                for text in texts(mapping(holder).get("content"), "text"):
                    answer.wrote(text)
    answer.ran = answer.ran or "embedding" in piece or "embeddings" in piece or "images" in piece


def _read_claude_text(answer: Answer, piece: Json) -> None:
    """Claude's text through its own dialect; its usage is read there too, and replaced by better sources."""
    if piece["type"] == "message":
        _ANTHROPIC.read_body(answer, piece)
    else:
        _ANTHROPIC.read_event(answer, piece)


def _read_family_usage(answer: Answer, piece: Json) -> None:
    usage = mapping(piece.get("usage"))
    if "inputTextTokenCount" in piece:  # Titan, texts and embeddings; in streams each chunk tells a part
        read, total = answer.number(piece, "inputTextTokenCount"), answer.number(piece, "totalOutputTextTokenCount")
        counts = [answer.number(result, "tokenCount") for result in objects(piece.get("results"))]
        answer.input_tokens = read if read is not None else answer.input_tokens
        if total is not None or "totalOutputTextTokenCount" not in piece:
            answer.output_tokens = total if total is not None else sum(count or 0 for count in counts)
    elif "prompt_token_count" in piece or "generation_token_count" in piece:  # Llama
        read, written = answer.number(piece, "prompt_token_count"), answer.number(piece, "generation_token_count")
        answer.input_tokens = read if read is not None else answer.input_tokens
        answer.output_tokens = written if written is not None else answer.output_tokens
    elif "inputTokens" in usage:
        _read_usage(answer, usage)
    elif "prompt_tokens" in usage:  # an imported model with an OpenAI surface
        read_prompt_completion(answer, usage)
    elif mapping(piece.get("metadata")).get("usage"):  # Nova's stream
        _read_usage(answer, mapping(mapping(piece.get("metadata")).get("usage")))


def _converse_prompt(body: Json) -> Prompt:
    messages: list[Json] = []
    system = "\n".join(texts(body.get("system"), "text"))
    if system:
        messages.append({"role": "system", "content": system})
    for message in objects(body.get("messages")):
        role = message.get("role")
        content = message.get("content")
        text = content if isinstance(content, str) else "\n".join(_said(block) for block in objects(content))
        messages.append({"role": role if isinstance(role, str) else "user", "content": text})
    tools = []
    for tool in objects(mapping(body.get("toolConfig")).get("tools")):
        spec = mapping(tool.get("toolSpec"))
        function = {
            "name": str(spec.get("name") or ""),
            "description": str(spec.get("description") or ""),
            "parameters": mapping(mapping(spec.get("inputSchema")).get("json")),
        }
        tools.append({"type": "function", "function": function})
    return Prompt(messages=tuple(messages), tools=tuple(tools), attachments=count_attachments(body))


def _said(block: Json) -> str:
    tool, result = mapping(block.get("toolUse")), mapping(block.get("toolResult"))
    if tool:
        return f"{tool.get('name', '')} {dump(tool.get('input'))}"
    if result:
        results = [(part.get("text"), part.get("json")) for part in objects(result.get("content"))]
        return "\n".join(text if isinstance(text, str) else dump(value) for text, value in results)
    text: Any = block.get("text") or mapping(mapping(block.get("reasoningContent")).get("reasoningText")).get("text")
    return text if isinstance(text, str) else ""


def _invoke_prompt(body: Json) -> Prompt:
    if "anthropic_version" in body:
        return messages_prompt(body)
    if body.get("messages"):
        return _converse_prompt(body)
    plain = [body.get(name) for name in ("prompt", "inputText", "message")]
    several = [text for name in ("texts", "inputs") for text in items(body.get(name))]
    return Prompt(messages=(), text="\n".join(text for text in [*plain, *several] if isinstance(text, str)))
