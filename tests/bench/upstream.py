"""The bench's upstream: as little work as possible, so that the proxies are what is measured.

`python -m tests.bench.upstream PORT` answers every POST: a body with `"stream": true` gets CHUNKS server-sent events,
anything else one JSON document.
"""

import asyncio
import json
import sys

CHUNKS = 200
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(delta: object, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    base = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}
    return b"data: " + json.dumps(base | {"choices": [choice]}).encode() + b"\n\n"


_USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}
_WORDS = _chunk(_event({"content": " hello"}))
_LAST = _chunk(_event({}, "stop"))
_LAST += _chunk(b"data: " + json.dumps({"id": "chatcmpl-bench", "choices": [], "usage": _USAGE}).encode() + b"\n\n")
_LAST += _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_MESSAGE = {"role": "assistant", "content": " hello" * 300}
_JSON = json.dumps({"id": "chatcmpl-bench", "choices": [{"message": _MESSAGE}], "usage": _USAGE}).encode()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
            if b'"stream": true' in body:
                writer.write(_HEAD % (b"text/event-stream", b"transfer-encoding: chunked"))
                for _ in range(CHUNKS):
                    writer.write(_WORDS)
                    await asyncio.sleep(0)  # each event in a write of its own, as providers send them
                writer.write(_LAST)
            else:
                writer.write(_HEAD % (b"application/json", b"content-length: %d" % len(_JSON)) + _JSON)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
