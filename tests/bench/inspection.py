"""What mitmweb keeps: the resident memory of a sidecar under mitmweb while calls go through it.

`python -m tests.bench.inspection [--calls 50000] [--keep 500] [--json]`: half of the calls are streamed, on keep-alive
connections that are renewed now and then, each with a prompt of about 4 KB. After the first `--warm` calls everything
that grows once has grown (LiteLLM's price map, mitmproxy's buffers, the flows that are kept); BOUND_MB is what may be
added after that, however many calls come.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.mitmweb import Mitmweb
from tests.e2e.sidecar import free_port

BOUND_MB = 32
_CLIENTS = 8
_CALLS_PER_CONNECTION = 100
_STEPS = 10
_WARM = 2000


@dataclass(frozen=True, slots=True)
class Sample:
    """After `calls` calls: resident memory in MB, flows in mitmweb, calls per second since the sample before."""

    calls: int
    resident_mb: float
    flows: int
    calls_per_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--warm", type=int, default=_WARM, help="calls before memory is compared")
    parser.add_argument("--keep", type=int, default=500, help="[inspect] keep")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for sample in measure(Path(folder), options.calls, options.keep, options.warm):
            samples.append(sample)
            if not options.json:
                print(
                    f"{sample.calls:6} calls: {sample.resident_mb:6.1f} MB resident, {sample.flows} flows,"
                    f" {sample.calls_per_s:.0f} calls/s",
                    flush=True,
                )
    grown = max(sample.resident_mb for sample in samples) - samples[0].resident_mb
    if options.json:
        print(json.dumps({"samples": [vars_of(sample) for sample in samples], "grown_mb": round(grown, 1)}, indent=2))
    else:
        print(f"grown since {samples[0].calls} calls: {grown:.1f} MB at most; bound {BOUND_MB} MB")
    return 0 if grown <= BOUND_MB else 1


def vars_of(sample: Sample) -> dict[str, float]:
    """A sample as plain JSON values."""
    return {name: getattr(sample, name) for name in Sample.__slots__}


def measure(folder: Path, calls: int, keep: int, warm: int):
    """Drive that many calls through a fresh sidecar; a Sample after the first `warm`, and after each tenth of all."""
    port = free_port()
    upstream = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream", str(port)])
    web = Mitmweb(folder, f"http://127.0.0.1:{port}", inspect=f"keep = {keep}")
    try:
        web.start()
        web.cli("plans", "set", "basico", "--tokens", "1T", "--period", "month")
        web.prices_are_known()
        done = 0
        for until in sorted({warm, *(calls * step // _STEPS for step in range(1, _STEPS + 1))}):
            if until <= done:
                continue
            began = time.monotonic()
            asyncio.run(_drive(web, until - done))
            rate = (until - done) / (time.monotonic() - began)
            done = until
            time.sleep(2.5)  # what is over is dropped once a second
            if done >= warm:
                yield Sample(done, _resident_mb(web), len(web.flows()), round(rate, 1))
    finally:
        web.kill()
        upstream.kill()
        upstream.wait(10)


async def _drive(web: Mitmweb, calls: int) -> None:
    shares = [calls // _CLIENTS + (number < calls % _CLIENTS) for number in range(_CLIENTS)]
    await asyncio.wait_for(asyncio.gather(*(_client(web, share) for share in shares)), 3600)


async def _client(web: Mitmweb, calls: int) -> None:
    """Calls one after another. Raises RuntimeError for an answer that is not a 200."""
    prompt = "Tell me about the coffee of Minas Gerais. " * 100
    writer: asyncio.StreamWriter | None = None
    for number in range(calls):
        if writer is None or number % _CALLS_PER_CONNECTION == 0:
            if writer is not None:
                writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": f"{number} {prompt}"}],
            "stream": number % 2 == 0,
        }
        content = json.dumps(body).encode()
        headers = web.headers(f"user-{number % 50}") | {"authorization": "Bearer sk-bench"}
        lines = ["POST /openai/v1/chat/completions HTTP/1.1", f"host: 127.0.0.1:{web.port}"]
        lines += ["content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(f"not served: {head!r}")
        if b"chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
    if writer is not None:
        writer.close()


def _resident_mb(web: Mitmweb) -> float:
    """Of the sidecar's process (Linux)."""
    assert web.process is not None
    status = Path(f"/proc/{web.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return round(int(found[1]) / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
