"""The bench's client: a number of keep-alive connections that ask again as soon as they are answered, for a while."""

import asyncio
import json
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Calls and streamed events per second, and the median time of a call in milliseconds."""

    calls_per_s: float
    events_per_s: float
    median_ms: float


def measure(port: int, path: str, headers: dict[str, str], *, stream: bool, clients: int, seconds: float) -> Measured:
    """Load a proxy. Raises RuntimeError for an answer that is not a 200."""
    return asyncio.run(_measure(port, path, headers, stream, clients, seconds))


async def _measure(
    port: int, path: str, headers: dict[str, str], stream: bool, clients: int, seconds: float
) -> Measured:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello " * 200}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", "content-type: application/json"]
    lines += [f"content-length: {len(content)}", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + content
    until = time.monotonic() + seconds
    began = time.monotonic()
    done = await asyncio.gather(*(_client(port, request, until) for _ in range(clients)))
    elapsed = time.monotonic() - began
    times = sorted(duration for durations, _ in done for duration in durations)
    events = sum(count for _, count in done)
    return Measured(len(times) / elapsed, events / elapsed, times[len(times) // 2] * 1000)


async def _client(port: int, request: bytes, until: float) -> tuple[list[float], int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times, events = [], 0
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"not served: {head!r}")
        if b"chunked" in head:
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            events += body.count(b"data: ")
        else:
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        times.append(time.monotonic() - began)
    writer.close()
    return times, events
