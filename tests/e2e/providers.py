"""A local upstream that answers as each provider does, so that the official SDKs run through the sidecar unchanged.

`http://127.0.0.1:PORT/openai/…` answers as OpenAI, `/cohere/…` as Cohere; what each says is in `tests.e2e.wire`.
The same answers are given over TLS at the hosts of `TLS_HOSTS`, without the first segment, for forward-proxy clients.

A request header `x-encode: gzip | deflate | br | zstd` has the answer compressed, whatever `accept-encoding` says.
"""

import asyncio
import email.message
import email.parser
import email.policy
import json
import ssl
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import brotli
import zstandard
from aiohttp import web
from tests.e2e.certificates import write_certificate
from tests.e2e.upstream import Arrival, Upstream
from tests.e2e.wire import anthropic, azure, bedrock, cohere, google, mistral, ollama, openai
from tests.e2e.wire.answers import Answer, Request

TLS_HOSTS: dict[str, Callable[[Request], Answer]] = {
    "api.openai.com": openai.answer,
    "api.anthropic.com": anthropic.answer,
    "generativelanguage.googleapis.com": google.answer,
    "api.cohere.com": cohere.answer,
    bedrock.HOST: bedrock.answer,
}

_PROVIDERS: dict[str, Callable[[Request], Answer]] = {
    "openai": openai.answer,
    "azure": azure.answer,
    "anthropic": anthropic.answer,
    "google": google.answer,
    "vertex": google.answer,
    "vertex-anthropic": anthropic.answer,
    "cohere": cohere.answer,
    "mistral": mistral.answer,
    "ollama": ollama.answer,
}
_PIECE = 61
"""Bytes of a streamed answer that are written at once: borders fall into events, lines and characters alike."""


@dataclass
class ProviderUpstream(Upstream):
    """`port` (plain) and `tls_port` are valid after `start`; `certificate` is a file to write, which vouches for it."""

    certificate: Path = field(kw_only=True)
    tls_port: int = 0

    def routes(self) -> dict[str, str]:
        """The settings of a sidecar that leads here."""
        return {name: f"{self.url}/{name}" for name in _PROVIDERS}

    async def _listen(self) -> None:
        write_certificate(self.certificate, TLS_HOSTS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port, self.tls_port = (address[1] for address in self._runner.addresses)
        self._started.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        by_host = TLS_HOSTS.get(headers.get("host", ""))
        _, provider, *rest = request.raw_path.split("/", 2)
        path = request.raw_path if by_host else "/" + "".join(rest)
        path, _, query = path.partition("?")
        if headers.get("upgrade", "").lower() == "websocket":
            self.requests.append(Arrival(request.path_qs, headers, None))
            return await _converse(request)
        raw = await request.read()
        body = _read_body(raw, headers.get("content-type", ""))
        self.requests.append(Arrival(request.raw_path, headers, body))
        answer_as = by_host or _PROVIDERS[provider]
        answer = answer_as(Request(request.method, path, query, headers, body, raw))
        return await _send(request, answer, headers.get("x-encode", ""))


async def _send(request: web.Request, answer: Answer, encoding: str) -> web.StreamResponse:
    headers = {"content-type": answer.content_type} | answer.headers
    if encoding:
        headers["content-encoding"] = encoding
    pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
    content = b"".join(_encoded(pieces, encoding)) if encoding else b"".join(pieces)
    if isinstance(answer.body, bytes):
        return web.Response(body=content, status=answer.status, headers=headers)
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    for start in range(0, len(content), _PIECE):
        await response.write(content[start : start + _PIECE])
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def _converse(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(protocols=["realtime"])
    await socket.prepare(request)
    session = openai.RealtimeSession(request.query.get("model", ""))
    for event in session.greet():
        await socket.send_str(json.dumps(event, ensure_ascii=False))
    async for message in socket:
        for event in session.answer(json.loads(message.data)):
            await socket.send_str(json.dumps(event, ensure_ascii=False))
    return socket


# ---------------------------------------------------------------------------------------------------------- bodies


def _read_body(raw: bytes, content_type: str) -> Any:
    """JSON as its value, a form as a dict of bytes, anything else as it is."""
    if content_type.startswith("multipart/form-data"):
        head = f"content-type: {content_type}\r\n\r\n".encode()
        form = email.parser.BytesParser(email.message.EmailMessage, policy=email.policy.HTTP).parsebytes(head + raw)
        return {part.get_param("name", header="content-disposition"): _content(part) for part in form.iter_parts()}
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _content(part: Any) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


class _Brotli:
    """`brotli.Compressor` with the names of the others."""

    def __init__(self) -> None:
        self._compressor = brotli.Compressor()

    def compress(self, data: bytes, /) -> bytes:
        return bytes(self._compressor.process(data))

    def flush(self, mode: int, /) -> bytes:
        return bytes(self._compressor.finish() if mode else self._compressor.flush())


_ENCODINGS: dict[str, tuple[Callable[[], _Compressor], int, int]] = {
    # How to begin, and how `flush` is told that a piece and that the body ends.
    "gzip": (lambda: zlib.compressobj(wbits=31), zlib.Z_SYNC_FLUSH, zlib.Z_FINISH),
    "deflate": (lambda: zlib.compressobj(), zlib.Z_SYNC_FLUSH, zlib.Z_FINISH),
    "br": (_Brotli, 0, 1),
    "zstd": (
        lambda: zstandard.ZstdCompressor().compressobj(),
        zstandard.COMPRESSOBJ_FLUSH_BLOCK,
        zstandard.COMPRESSOBJ_FLUSH_FINISH,
    ),
}


def _encoded(pieces: Iterable[bytes], encoding: str) -> Iterable[bytes]:
    begin, flush, finish = _ENCODINGS[encoding]
    compressor = begin()
    for piece in pieces:
        yield compressor.compress(piece) + compressor.flush(flush)
    yield compressor.flush(finish)


# ------------------------------------------------------------------------------------------------------------- TLS
