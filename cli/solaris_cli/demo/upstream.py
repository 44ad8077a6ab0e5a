"""A provider on this machine: speaks OpenAI's chat completions and Anthropic's messages, streamed and not.

The name of the model says what a call costs: `demo-750000` reports 750,000 tokens. So one question can be as dear as a
month of work, and the usage is still the provider's word, as in earnest.
"""

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

from aiohttp import web

Json = dict[str, Any]

_ANSWER = "Claro! Esta resposta vem de um modelo de mentira que roda nesta máquina."
_START_TIMEOUT_S = 10


class Upstream:
    """Serves from a thread of its own between `__enter__` and `__exit__`. `url` is where."""

    def __init__(self) -> None:
        self.requests = 0
        """How many model calls arrived here."""
        self.identified = 0
        """How many of them still said who calls; the sidecar takes that out."""
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> "Upstream":
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise OSError("the local upstream does not start: can a program listen on 127.0.0.1?")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1)
        try:
            self._loop.run_until_complete(self._listen(runner))
            self._ready.set()
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(runner.cleanup())
            self._loop.close()

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/messages", self._messages)
        return application

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if not body.get("stream"):
            return web.json_response(_completion(body))
        wants_usage = (body.get("stream_options") or {}).get("include_usage") is True
        return await _stream(request, [_line(chunk) for chunk in _chunks(body, wants_usage)] + ["data: [DONE]\n\n"])

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if not body.get("stream"):
            return web.json_response(_message(body))
        return await _stream(request, [f"event: {event['type']}\n{_line(event)}" for event in _events(body)])

    async def _read(self, request: web.Request) -> Json:
        self.requests += 1
        self.identified += any(name.lower().startswith("x-solaris-") for name in request.headers)
        body: Json = await request.json()
        return body


def _cost(body: Json) -> tuple[int, int]:
    """Input and output tokens of a call, by the name of its model: all that the answer's words do not make is input."""
    written = len(_ANSWER.split())
    return int(body["model"].removeprefix("demo-")) - written, written


def _openai_usage(body: Json) -> Json:
    read, written = _cost(body)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _completion(body: Json) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": _openai_usage(body),
    }


def _chunks(body: Json, wants_usage: bool) -> list[Json]:
    base = {"id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": word} for word in _words())]
    choices: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    chunks = [base | {"choices": [choice]} for choice in choices]
    if wants_usage:  # as OpenAI does: reported only where it was asked for
        chunks.append(base | {"choices": [], "usage": _openai_usage(body)})
    return chunks


def _message(body: Json, *, started: bool = False) -> Json:
    """The message; `started`: as `message_start` shows it, without its text and with a first guess of its output."""
    read, written = _cost(body)
    return {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [] if started else [{"type": "text", "text": _ANSWER}],
        "stop_reason": None if started else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": read, "output_tokens": 1 if started else written},
    }


def _events(body: Json) -> list[Json]:
    deltas = [{"type": "text_delta", "text": word} for word in _words()]
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        {"type": "message_start", "message": _message(body, started=True)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": _cost(body)[1]}},
        {"type": "message_stop"},
    ]


def _words() -> list[str]:
    return [f"{word} " for word in _ANSWER.split()[:-1]] + _ANSWER.split()[-1:]


def _line(event: Json) -> str:
    return f"data: {json.dumps(event)}\n\n"


async def _stream(request: web.Request, events: list[str]) -> web.StreamResponse:
    """Each event in a piece of its own, as a model writes; the last one together with the end."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    with suppress(ConnectionResetError):  # whoever asked has left
        await response.prepare(request)
        for event in events[:-1]:
            await response.write(event.encode())
            await asyncio.sleep(0.01)
        await response.write_eof(events[-1].encode())
    return response
