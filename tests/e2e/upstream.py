"""A local upstream for OpenAI chat completions and Anthropic messages, told by the request itself how to behave.

A request body may carry `script`, a Script as a JSON object. Everything that arrived is kept in `requests`.
"""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

WORD = " hello"
"""One token in o200k and in cl100k."""


@dataclass
class Script:
    """How to answer. `usage` False: report none. `finish`: OpenAI's reason for the end; `tool_calls` calls a tool.
    After `cut_after` chunks the connection is cut; after `hold_after` chunks nothing more comes. `linger_s` after the
    last event the body ends."""

    input: int = 10
    words: int = 5
    output: int | None = None
    delay_s: float = 0.0
    usage: bool = True
    finish: str = "stop"
    status: int = 200
    cut_after: int | None = None
    hold_after: int | None = None
    wait_s: float = 0.0
    raw: str | None = None
    linger_s: float = 0.0


@dataclass
class Arrival:
    """A request that reached the upstream."""

    path: str
    headers: dict[str, str]
    body: Any
    chunks_sent: int = 0
    hung_up: bool = False


@dataclass
class Upstream:
    """Runs in a thread of its own. `port` is valid after `start`."""

    port: int = 0
    requests: list[Arrival] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _runner: web.AppRunner | None = None
    _started: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        assert self._runner is not None
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw
        arrival = Arrival(request.path_qs, {name.lower(): value for name, value in request.headers.items()}, body)
        self.requests.append(arrival)
        if request.method == "GET":
            return web.json_response({"object": "list", "data": []})
        wishes = body.get("script") if isinstance(body, dict) else None
        script = Script(**(wishes or {}))
        try:
            await asyncio.sleep(script.wait_s)
            if script.status != 200:
                return web.json_response({"error": {"message": "scripted", "type": "scripted"}}, status=script.status)
            if script.raw is not None:
                return web.Response(text=script.raw, content_type="application/json")
            anthropic = request.path.endswith("/messages")
            if not body.get("stream"):
                return web.json_response(_anthropic_body(body, script) if anthropic else _openai_body(body, script))
            return await self._stream(request, arrival, script, _anthropic_events if anthropic else _openai_events)
        except (asyncio.CancelledError, ConnectionError):
            arrival.hung_up = True
            raise

    async def _stream(self, request: web.Request, arrival: Arrival, script: Script, events: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for number, event in enumerate(events(arrival.body, script)):
            if script.cut_after is not None and number >= script.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            if script.hold_after is not None and number >= script.hold_after:
                await asyncio.sleep(30)
            await response.write(event)
            arrival.chunks_sent += 1
            if script.delay_s:
                await asyncio.sleep(script.delay_s)
        await asyncio.sleep(script.linger_s)
        await response.write_eof()
        return response


def _output(script: Script) -> int:
    return script.words if script.output is None else script.output


def _openai_usage(script: Script) -> dict[str, int]:
    return {
        "prompt_tokens": script.input,
        "completion_tokens": _output(script),
        "total_tokens": script.input + _output(script),
    }


def _openai_body(body: Any, script: Script) -> dict[str, Any]:
    message = {"role": "assistant", "content": WORD * script.words}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    return answer | ({"usage": _openai_usage(script)} if script.usage else {})


def _openai_events(body: Any, script: Script) -> Any:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}

    def chunk(delta: Any, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps(base | {'choices': [choice]})}\n\n".encode()

    yield chunk({"role": "assistant", "content": ""})
    for _ in range(script.words):
        yield chunk({"content": WORD})
    if script.finish == "tool_calls":
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "clima", "arguments": "{}"}}
        yield chunk({"tool_calls": [call]})
    yield chunk({}, script.finish)
    if script.usage and (body.get("stream_options") or {}).get("include_usage"):
        yield f"data: {json.dumps(base | {'choices': [], 'usage': _openai_usage(script)})}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _anthropic_body(body: Any, script: Script) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [{"type": "text", "text": WORD * script.words}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": script.input, "output_tokens": _output(script)},
    }


def _anthropic_events(body: Any, script: Script) -> Any:
    def event(value: Any) -> bytes:
        return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode()

    message = _anthropic_body(body, script) | {"content": [], "stop_reason": None}
    message["usage"] = {"input_tokens": script.input, "output_tokens": 1}
    yield event({"type": "message_start", "message": message})
    yield event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for _ in range(script.words):
        yield event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}})
    yield event({"type": "content_block_stop", "index": 0})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": _output(script)}})
    yield event({"type": "message_stop"})
