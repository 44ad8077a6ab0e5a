"""Calls that answer nobody: opened by hand, fed by hand, with a counter that takes each byte for a token."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from tests.metering.samples import EXPECTED, dialect_of, framing_of, payload

from solaris_meter.ledger.rates import Rates
from solaris_meter.ledger.reservations import Ask, Reserved
from solaris_meter.metering.call import Call, Terms
from solaris_meter.metering.dialects.dialect import Dialect, Json
from solaris_meter.metering.framing.framing import Framing
from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.metering.tokens import Calibration, Count, Prompt, TokenCounter
from solaris_meter.models import CallDetails, Caller, Standing, Usage
from solaris_meter.periods import Period

STANDING = Standing("ana", None, "basico", "active", "UTC", Period(0, None), used=0, reserved=0, balance=100)
QUESTION: Json = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Olá, tudo bem?"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
_TOOL = {"type": "function", "function": {"name": "clima", "description": "O tempo", "parameters": {"type": "object"}}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}

REQUESTS: Mapping[str, tuple[str, Json]] = {
    "openai-chat": (
        "/v1/chat/completions",
        {
            "model": "gpt-4o",
            "stream": True,
            "stream_options": {"include_obfuscation": False},
            "max_completion_tokens": 50,
            "n": 2,
            "user": "65f0",
            "messages": [
                {"role": "system", "content": "Seja breve."},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "clima"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "user", "content": [{"type": "text", "text": "E?"}, PICTURE]},
            ],
            "tools": [_TOOL],
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": _SCHEMA}},
        },
    ),
    "openai-completions": (
        "/v1/completions",
        {"model": "davinci-002", "prompt": ["Olá", [1, 2, 3]], "max_tokens": 20, "best_of": 3, "n": 2, "stream": True},
    ),
    "openai-responses": (
        "/v1/responses",
        {
            "model": "gpt-5",
            "stream": True,
            "instructions": "Seja breve.",
            "max_output_tokens": 80,
            "user": "65f0",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Olá"}, {"type": "input_image"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
                {"type": "function_call", "call_id": "c1", "name": "clima", "arguments": '{"a":1}'},
                {"type": "function_call_output", "call_id": "c1", "output": "42"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sol."}]},
            ],
            "tools": [
                {"type": "function", "name": "clima", "description": "O tempo", "parameters": {"type": "object"}},
                {"type": "web_search"},
            ],
            "text": {"format": {"type": "json_schema", "name": "s", "schema": _SCHEMA}},
        },
    ),
    "anthropic": (
        "/v1/messages",
        {
            "model": "claude-sonnet-4-5",
            "stream": True,
            "max_tokens": 64_000,
            "metadata": {"user_id": "65f0"},
            "thinking": {"type": "enabled", "budget_tokens": 32_000},
            "system": [{"type": "text", "text": "Seja breve.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Olá"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}]},
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://a.example"}}]},
            ],
            "tools": [{"name": "f", "description": "F", "input_schema": {"type": "object"}}, {"type": "web_search"}],
        },
    ),
    "google": (
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        {
            "systemInstruction": {"parts": [{"text": "Seja breve."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Olá"}, {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "clima", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "clima", "response": {"b": 2}}}]},
            ],
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "clima", "description": "O tempo", "parameters": {"type": "object"}},
                        {"name": "hora", "parametersJsonSchema": {"type": "object"}},
                    ]
                },
                {"googleSearch": {}},
            ],
            "generationConfig": {"maxOutputTokens": 50, "candidateCount": 2, "responseSchema": _SCHEMA},
        },
    ),
    "google-embeddings": (
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        {
            "requests": [{"content": {"parts": [{"text": "Olá"}, {"text": "mundo"}]}}],
            "instances": [{"content": "um"}, {"prompt": "dois"}],
            "parameters": {"sampleCount": 2},
        },
    ),
    "bedrock-converse": (
        "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
        {
            "system": [{"text": "Seja breve."}],
            "messages": [
                {
                    "role": "user",
                    "content": [{"text": "Olá"}, {"image": {"format": "png", "source": {"bytes": "iVBO"}}}],
                },
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "clima", "input": {"a": 1}}}]},
                {"role": "user", "content": [{"toolResult": {"content": [{"text": "42"}, {"json": {"b": 2}}]}}]},
                {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "Hm"}}}]},
            ],
            "toolConfig": {
                "tools": [
                    {
                        "toolSpec": {
                            "name": "clima",
                            "description": "O tempo",
                            "inputSchema": {"json": {"type": "object"}},
                        }
                    }
                ]
            },
            "inferenceConfig": {"maxTokens": 50},
        },
    ),
    "bedrock-invoke": (
        "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream",
        {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 100,
            "system": "Seja breve.",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Olá"}]}],
            "prompt": "Olá",
            "inputText": "Olá",
            "texts": ["um", "dois"],
            "inferenceConfig": {"maxTokens": 50},
            "textGenerationConfig": {"maxTokenCount": 60},
        },
    ),
    "cohere": (
        "/v2/chat",
        {
            "model": "command-a-03-2025",
            "stream": True,
            "max_tokens": 50,
            "preamble": "Seja breve.",
            "chat_history": [{"role": "CHATBOT", "message": "Sim?"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Olá"}]},
                {"role": "assistant", "tool_plan": "Ver.", "tool_calls": [{"function": {"name": "clima"}}]},
            ],
            "message": "E?",
            "documents": ["um", {"data": {"text": "dois"}}],
            "query": "Qual?",
            "texts": ["três"],
            "tools": [_TOOL, {"name": "hora", "description": "As horas", "parameter_definitions": {"z": {}}}],
            "response_format": {"type": "json_object", "json_schema": _SCHEMA},
        },
    ),
    "ollama": (
        "/api/chat",
        {
            "model": "llama3.2",
            "options": {"num_predict": 50},
            "messages": [
                {"role": "user", "content": "Olá", "images": ["iVBO"]},
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clima"}}]},
            ],
            "tools": [_TOOL],
            "format": _SCHEMA,
            "system": "Seja breve.",
            "prompt": "E?",
            "input": ["um", "dois"],
        },
    ),
    "embeddings": (
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": ["Olá", [1, 2, 3]], "user": "65f0"},
    ),
    "openai-images": (
        "/v1/images/generations",
        {"model": "dall-e-3", "prompt": "um gato", "n": 2, "size": "1024x1024", "quality": "hd", "user": "65f0"},
    ),
    "openai-transcription": (
        "/v1/audio/transcriptions",
        {"model": "whisper-1", "prompt": "Olá", "file": b"RIFF", "stream": "true", "user": "65f0"},
    ),
    "openai-speech": (
        "/v1/audio/speech",
        {"model": "gpt-4o-mini-tts", "input": "Olá", "instructions": "Alegre.", "stream_format": "sse", "user": "65f0"},
    ),
    "generic": ("/v1/anything", {"model": "m", "input": "Olá", "max_tokens": 50, "user": "65f0"}),
    "openai-realtime": ("/v1/realtime", {"model": "gpt-realtime"}),
}
"""A path and a body in each dialect, by its name, with everything in it that the dialect reads."""


def _claude(kind: str, **members: Any) -> Json:
    return {"type": kind} | members


OTHER_ANSWERS: Mapping[str, list[list[Json]]] = {
    "openai-chat": [
        [
            {"id": "c", "choices": [{"index": 1, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]},
            {"choices": [{"index": 0, "delta": {"reasoning": "Hm"}, "finish_reason": "content_filter"}]},
            {
                "choices": [],
                "service_tier": "flex",
                "usage": {
                    "prompt_tokens": 90,
                    "completion_tokens": 30,
                    "total_tokens": 150,
                    "is_byok": True,
                    "cost": {"total_cost": 0.5},
                    "cost_in_usd_ticks": 100,
                    "cost_details": {"upstream_inference_cost": 0.25},
                    "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 20, "image_tokens": 3},
                    "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 2, "image_tokens": 1},
                },
            },
        ]
    ],
    "openai-completions": [
        [
            {"id": "c", "model": "davinci-002", "choices": [{"index": 0, "text": "Olá", "finish_reason": None}]},
            {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}},
        ]
    ],
    "openai-responses": [
        [
            {"type": "response.queued", "sequence_number": 0, "response": {"id": "resp_1", "output": []}},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {"id": "f", "type": "function_call", "name": "clima"},
            },
            {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": "{"},
            {"type": "response.output_item.done", "item": {"id": "w", "type": "web_search_call"}},
            {"type": "response.audio.delta", "delta": "AAAA"},
            {"type": "response.failed", "response": {"usage": {"input_tokens": 9, "output_tokens": 1}}},
        ],
        [{"id": "resp_1", "object": "response", "background": True, "status": "queued", "output": []}],
    ],
    "anthropic": [
        [
            _claude("message_start", message={"usage": {"input_tokens": 220, "output_tokens": 1}}),
            _claude("content_block_start", index=0, content_block={"type": "tool_use", "name": "clima"}),
            _claude(
                "message_delta",
                usage={
                    "input_tokens": 220,
                    "output_tokens": 20,
                    "output_tokens_details": {"thinking_tokens": 5},
                    "iterations": [
                        {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 3},
                        {"input_tokens": 8, "cache_creation_input_tokens": 2, "output_tokens": 1},
                    ],
                },
            ),
        ]
    ],
    "google": [
        [
            {
                "candidates": [
                    {
                        "content": {"parts": [{"functionCall": {"name": "clima", "args": {}}}, {"inlineData": {}}]},
                        "groundingMetadata": {"webSearchQueries": ["a", "b"]},
                        "finishReason": "STOP",
                    }
                ],
                "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 12, "trafficType": "ON_DEMAND"},
                "responseId": "r",
            }
        ]
    ],
    "google-embeddings": [
        [{"predictions": [{"embeddings": {"values": [0.1], "statistics": {"token_count": 5, "truncated": False}}}]}],
        [{"predictions": [{"bytesBase64Encoded": "iVBO"}, {"gcsUri": "gs://b/a.png"}]}],
        [{"embedding": {"values": [0.1]}, "usageMetadata": {"promptTokenCount": 5}}],
    ],
    "bedrock-converse": [
        [
            {"contentBlockStart": {"start": {"toolUse": {"name": "clima"}}, "contentBlockIndex": 0}},
            {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}, "contentBlockIndex": 0}},
            {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Hm"}}, "contentBlockIndex": 1}},
            {
                "metadata": {
                    "usage": {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 1},
                    "trace": {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {}}}}}},
                }
            },
        ]
    ],
    "bedrock-invoke": [
        [
            {"outputText": "Olá", "index": 0, "inputTextTokenCount": 9, "totalOutputTextTokenCount": None},
            {"outputText": "!", "index": 0, "inputTextTokenCount": None, "totalOutputTextTokenCount": 3},
        ],
        [
            {
                "inputTextTokenCount": 9.0,
                "results": [{"tokenCount": 3.0, "outputText": "Olá", "completionReason": "FINISH"}],
            }
        ],
        [{"embedding": [0.1], "inputTextTokenCount": 9}],
        [
            {"generation": "Olá", "prompt_token_count": 12, "generation_token_count": 1},
            {"generation": "!", "prompt_token_count": None, "generation_token_count": 2},
        ],
        [
            {"contentBlockDelta": {"delta": {"text": "Olá"}, "contentBlockIndex": 0}},
            {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokenCount": 1}}},
        ],
        [{"output": {"message": {"content": [{"text": "Olá"}]}}, "usage": {"inputTokens": 30}}],
        [{"outputs": [{"text": "Olá", "stop_reason": "stop"}]}],
        [{"generations": [{"text": "Olá"}], "prompt": "Oi"}],
        [{"completions": [{"data": {"text": "Olá"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}],
        [{"type": "completion", "completion": "Olá", "amazon-bedrock-guardrailAction": "INTERVENED"}],
        [
            {
                "amazon-bedrock-invocationMetrics": {
                    "inputTokenCount": 8,
                    "outputTokenCount": 2,
                    "cacheReadInputTokenCount": 1,
                }
            }
        ],
    ],
    "cohere": [
        [
            {"event_type": "stream-start", "is_finished": False},
            {"event_type": "text-generation", "text": "Olá"},
            {"event_type": "tool-calls-chunk", "tool_call_delta": {"name": "clima", "parameters": "{"}},
            {
                "event_type": "stream-end",
                "is_finished": True,
                "response": {"meta": {"billed_units": {"input_tokens": 5, "output_tokens": 9}}},
            },
        ],
        [
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Ver."}}},
            {"type": "tool-call-start", "delta": {"message": {"tool_calls": {"function": {"name": "clima"}}}}},
            {"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 7, "output_tokens": 2}}}},
        ],
        [{"text": "Olá", "tool_calls": [{"name": "clima", "parameters": {"a": 1}}], "meta": {"billed_units": {}}}],
    ],
    "ollama": [
        [
            {"model": "llama3.2", "response": "Olá", "done": False},
            {"model": "llama3.2", "response": "", "done": True, "prompt_eval_count": 5, "eval_count": 2},
        ],
        [{"message": {"thinking": "Hm", "tool_calls": [{"function": {"name": "clima", "arguments": {"a": 1}}}]}}],
        [{"embedding": [0.1]}],
    ],
    "embeddings": [[{"data": [{"embedding": [0.1]}], "model": "voyage-3", "usage": {"total_tokens": 8}}]],
    "openai-images": [
        [
            {"type": "image_generation.partial_image", "b64_json": "iVBO"},
            {
                "type": "image_generation.completed",
                "size": "1024x1024",
                "quality": "low",
                "usage": {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"image_tokens": 9}},
            },
        ]
    ],
    "openai-transcription": [
        [
            {"type": "transcript.text.delta", "delta": "Olá"},
            {"type": "transcript.text.done", "text": "Olá", "usage": {"type": "duration", "seconds": 1.5}},
        ],
        [{"text": "Olá", "duration": "1.5", "language": "portuguese", "segments": []}],
    ],
    "openai-speech": [[{"type": "speech.audio.delta", "audio": "AAAA"}]],
    "openai-realtime": [
        [
            {"type": "response.output_text.delta", "delta": "Olá"},
            {"type": "response.done", "response": {"output": [{"arguments": "{}"}], "usage": {"input_tokens": 5}}},
        ],
        [
            {
                "type": "conversation.item.input_audio_transcription.completed",
                "transcript": "Olá",
                "usage": {"type": "duration", "seconds": 1.5},
            }
        ],
    ],
    "generic": [
        [
            {"message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
            {"usage": {"output_tokens": 15}},
            {"meta": {"billed_units": {"input_tokens": 2}}},
            {"response": {"usageMetadata": {"promptTokenCount": 2, "totalTokenCount": 5}}},
        ]
    ],
}
"""Events, or whole answers, that no payload holds: by dialect."""


class ByteCounter(TokenCounter):
    """Each byte is a token, at once. `calibrations` is what it was told of the counting of each answer."""

    def __init__(self):
        super().__init__()
        self.calibrations: list[Calibration | None] = []

    @property
    def ready(self):
        return True

    def quick(self, model, text):
        return len(text.encode("utf-8", "surrogatepass"))

    async def prompt(self, model, prompt):
        return self.count_prompt(model, prompt)

    async def answer(self, model, text, calibration=None, *, calls=(), prompt=None):
        self.calibrations.append(calibration)
        return self.count_answer(model, text)

    def count_prompt(self, model, prompt: Prompt):
        said = [*(message["content"] for message in prompt.messages), prompt.schema, prompt.text]
        return Count(self.quick(model, "".join(said)) + prompt.token_ids, "counted")

    def count_answer(self, model, text, calibration=None, *, calls=(), prompt=None):
        return Count(self.quick(model, text), "counted")


def open_call(
    dialect: Dialect,
    *,
    counter: TokenCounter | None = None,
    body: Json | None = None,
    path: str = "",
    granted: int = 1_000_000,
    strict: bool = False,
    hides_usage: bool = False,
    reserved: bool = True,
    notice: str = "NOTICE",
    framing: Framing | None = None,
    tell: Callable[[Usage], str] | None = None,
) -> Call:
    """A call whose ledger has `granted` output tokens and not one more; its answer is a stream of events."""
    details = CallDetails("openai", "gpt-4o", dialect.name, "/", stream=True)
    ask = Ask("call-1", Caller("ana"), details, 10, False, granted, granted, 3, "soft", "here", 0)
    terms = Terms(
        ask=ask,
        reserved=Reserved("call-1", 10 + granted, granted, STANDING, Rates(), ()) if reserved else None,
        opened_ms=0,
        slice_tokens=1024,
        strict=strict,
        body=None,
        hides_usage=hides_usage,
        notice=notice,
    )

    def nothing_left(tokens: int) -> "Future[int]":
        future: Future[int] = Future()
        future.set_result(0)
        return future

    request = dialect.read_request(path, QUESTION if body is None else body, 100)
    call = Call(terms, dialect, request, ByteCounter() if counter is None else counter, nothing_left, tell)
    call.begin({}, framing or ServerSentEvents())
    return call


def open_document(dialect: Dialect, data: bytes, headers: Mapping[str, str] | None = None, **options: Any) -> Call:
    """A call whose whole answer has come, as one document."""
    call = open_call(dialect, **options)
    call.begin(headers or {}, None)
    call.read_body(data)
    return call


def open_payload(name: str, **options: Any) -> Call:
    """A call that may be fed a payload; it asked for the payload's model, and brought no tools."""
    dialect, model = dialect_of(name), EXPECTED[name]["model"]
    path, body = REQUESTS[dialect.name]
    call = open_call(dialect, path=path, body=body | {"model": model, "tools": []}, **options)
    call.begin({}, framing_of(name))
    return call


def answer_of(name: str, **options: Any) -> Call:
    """A call that got a payload, as one piece."""
    call = open_payload(name, **options)
    feed(call, [payload(name)])
    return call


def feed(call: Call, chunks: Iterable[bytes]) -> bytes:
    return b"".join([call.feed(chunk) for chunk in chunks]) + call.finish()


def usage_of(call, *, client_left=False):
    """What a call used."""
    return asyncio.run(call.usage(client_left=client_left))


def usage_at_once(call: Call, *, client_left: bool = False) -> Usage | None:
    """The same without an event loop, which hardly any call with a ByteCounter needs."""
    if call.dialect.concludes_slowly:
        return asyncio.run(call.usage(client_left=client_left))
    coroutine = call.usage(client_left=client_left)
    try:
        coroutine.send(None)
    except StopIteration as done:
        usage: Usage | None = done.value
        return usage
    raise AssertionError("it waits for something")


def read_whole(dialect, answer, **options):
    """What a JSON answer used."""
    return usage_of(open_document(dialect, json.dumps(answer).encode(), **options))


@contextmanager
def nothing_fails() -> Iterator[None]:
    """No code of ours may have met what it does not expect, and have hidden it in the log."""
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Kept()
    log = logging.getLogger("solaris_meter")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
    for record in records:
        if record.exc_info and "cannot be followed" not in record.getMessage():
            raise AssertionError(record.getMessage()) from record.exc_info[1]
