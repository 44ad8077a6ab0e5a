"""Ways to have an answer and not pay for it, or to pay for what nobody got, through a real sidecar."""

import http.client
import io
import itertools
import json
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.sidecar import Sidecar

USAGE = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
CHAT = {"id": "c1", "object": "chat.completion", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 7}}

_NUMBERS = itertools.count(1)

Reply = tuple[int, str, bytes]
"""Status, content type and body."""


class Scripted:
    """An upstream that answers by path; `seen` is what arrived, `replies` may be functions of the request's body."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | Callable[[bytes], Reply]] = {}
        self.seen: list[str] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream.seen.append(f"{self.command} {self.path}")
                reply = upstream.replies[self.path.partition("?")[0]]
                status, kind, content = reply(body) if callable(reply) else reply
                self.send_response(status)
                for name, value in (("content-type", kind), ("content-length", str(len(content)))):
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    upstream = Scripted()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Iterator[Sidecar]:
    names = ("openai", "azure", "xai", "ollama", "groq", "writer", "google")
    sidecar = Sidecar(tmp_path_factory.mktemp("loopholes"), scripted.url, routes=dict.fromkeys(names, scripted.url))
    sidecar.cli("plans", "set", "basico", "--tokens", "10M", "--period", "month")
    sidecar.cli("rates", "set", "free", "--input", "0", "--output", "0")
    sidecar.start()
    yield sidecar
    sidecar.check()
    sidecar.kill()


class Caller:
    """Somebody of their own for each test."""

    def __init__(self, sidecar: Sidecar, name: str) -> None:
        self.sidecar = sidecar
        self.name = name
        self.client = httpx.Client(timeout=30, trust_env=False)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        options |= {} if body is None else {"json": body}
        return self.client.post(self.sidecar.url(path), headers=self.sidecar.headers(self.name), **options)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.sidecar.url(path))

    def events(self) -> list[dict[str, Any]]:
        return [event for event in self.sidecar.events() if event["user"] == self.name]

    def paid(self) -> list[tuple[int, int]]:
        return [(event["input_tokens"], event["output_tokens"]) for event in self.events()]


@pytest.fixture
def caller(metered: Sidecar, scripted: Scripted) -> Iterator[Caller]:
    scripted.seen.clear()
    caller = Caller(metered, f"u{next(_NUMBERS)}")
    yield caller
    caller.client.close()


def document(value: Any, kind: str = "application/json") -> Reply:
    return 200, kind, json.dumps(value).encode()


def sse(*events: Any, kind: str = "text/event-stream") -> Reply:
    return 200, kind, b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# --------------------------------------------------------------------------------------------------- in the background


@pytest.fixture
def background(caller: Caller, scripted: Scripted) -> str:
    """The id of a response that was begun in the background, and is done when it is asked for."""
    identity = f"resp_{caller.name}"
    queued = {"id": identity, "object": "response", "status": "queued", "background": True, "usage": None}
    scripted.replies["/v1/responses"] = document(queued)
    done = queued | {"status": "completed", "usage": USAGE, "model": "gpt-5", "output": []}
    scripted.replies[f"/v1/responses/{identity}"] = document(done)
    caller.post("openai/v1/responses", {"model": "gpt-5", "input": "Olá", "background": True})
    assert caller.paid() == []
    return identity


def test_a_poll_that_streams_is_charged(caller: Caller, scripted: Scripted, background: str) -> None:
    done = {"id": background, "status": "completed", "usage": USAGE}
    events = ({"type": "response.created", "response": done | {"status": "in_progress", "usage": None}},)
    scripted.replies[f"/v1/responses/{background}"] = sse(*events, {"type": "response.completed", "response": done})
    caller.get(f"openai/v1/responses/{background}?stream=true")
    caller.sidecar.no_holds()
    assert caller.paid() == [(1000, 500)]


@pytest.mark.parametrize("written", ["%72esp_{}", "resp_{}/", "resp_{}?include=usage"])
def test_a_poll_is_one_however_its_path_is_written(
    caller: Caller, scripted: Scripted, background: str, written: str
) -> None:
    path = written.format(background.removeprefix("resp_"))
    plain = f"/v1/responses/{background}"
    for spelled in (f"/v1/responses/{path.partition('?')[0]}", plain):
        scripted.replies[spelled] = scripted.replies[plain]
    caller.get(f"openai/v1/responses/{path}")
    assert caller.paid() == [(1000, 500)]


def test_a_poll_that_says_nothing_ends_nothing(caller: Caller, scripted: Scripted, background: str) -> None:
    plain = f"/v1/responses/{background}"
    done = scripted.replies[plain]
    for nothing in (document({}), document({"error": {}}), (500, "application/json", b"{}"), (200, "text/html", b"hm")):
        scripted.replies[plain] = nothing
        caller.get(f"openai/v1/responses/{background}")
    scripted.replies[f"/responses/{background}"] = document({})
    caller.get(f"ollama/responses/{background}")  # somebody else's server knows nothing of it
    assert caller.paid() == []
    scripted.replies[plain] = done
    caller.get(f"openai/v1/responses/{background}")
    caller.get(f"openai/v1/responses/{background}")
    assert caller.paid() == [(1000, 500)]


# ------------------------------------------------------------------------------------------------------ what is called


@pytest.mark.parametrize(
    "path", ["deployments/gpt-4o/chat/completions", "deployments/gpt%2D4o/chat/completions?api-version=1"]
)
def test_the_deployment_decides_and_not_what_the_body_says(caller: Caller, scripted: Scripted, path: str) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    scripted.replies[f"/openai/{path.partition('?')[0]}"] = document(CHAT | {"usage": usage})
    caller.post(f"azure/openai/{path}", {"model": "free", "messages": []})
    [event] = caller.events()
    assert (event["model"], event["billed_tokens"]) == ("gpt-4o", 1500)


def test_a_body_names_its_model_once(caller: Caller, scripted: Scripted) -> None:
    twice = (
        b'{"model":"gpt-4o","messages":[],"model":"free"}',
        b'{"model":"gpt-4o","messages":[],"mod\\u0065l":"free"}',
    )
    for body in twice:
        answer = caller.post("openai/v1/chat/completions", content=body)
        assert (answer.status_code, answer.headers["x-solaris-denied"]) == (400, "body_unreadable")
    assert scripted.seen == []


def test_a_body_with_a_form_behind_it_is_no_form(caller: Caller, scripted: Scripted) -> None:
    tail = b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfree\r\n--x--\r\n'
    headers = caller.sidecar.headers(caller.name) | {"content-type": "multipart/form-data; boundary=x"}
    body = b'{"model":"gpt-4o","messages":[]}' + tail
    answer = caller.client.post(caller.sidecar.url("openai/v1/chat/completions"), headers=headers, content=body)
    assert (answer.status_code, scripted.seen) == (400, [])


def test_a_key_that_nobody_reads_makes_nothing_free(caller: Caller, scripted: Scripted) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    scripted.replies["/v1/chat"] = document(CHAT | {"usage": usage})
    caller.post("writer/v1/chat", {"model": "palmyra", "messages": [], "message": "x"})
    assert caller.paid() == [(1000, 500)]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("xai/v1/chat/completions", {"model": "grok-4", "messages": [], "deferred": True}),
        ("openai/v1/async/chat/completions", {"model": "sonar", "messages": []}),
        ("openai/v1/batches", {"input_file_id": "file-1"}),
        ("openai/v1/files/../chat/completions", {"model": "gpt-4o", "messages": []}),
    ],
)
def test_what_is_answered_where_nobody_can_meter_it_is_refused(
    caller: Caller, scripted: Scripted, path: str, body: Any
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", caller.sidecar.port, timeout=30)  # tidies no path
    connection.request("POST", f"/{path}", json.dumps(body), caller.sidecar.headers(caller.name))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-solaris-denied"], scripted.seen) == (403, "endpoint_denied", [])
    connection.close()


@pytest.mark.parametrize("path", ["v1/threads/runs", "v1/threads/t1/runs", "V1/Chat/Completions", "v1/responses;x=1"])
def test_a_run_of_a_model_is_charged(caller: Caller, scripted: Scripted, path: str) -> None:
    usage = USAGE | {"prompt_tokens": 1000, "completion_tokens": 500}
    scripted.replies[f"/{path}"] = document({"object": "x", "usage": usage})
    assert caller.client.post(caller.sidecar.url(f"openai/{path}"), json={"model": "m"}).status_code == 401
    caller.post(f"openai/{path}", {"model": "m"})
    assert caller.paid() == [(1000, 500)]


# ------------------------------------------------------------------------------------------------- what is not as said


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson", "text/plain", "application/json", ""])
@pytest.mark.parametrize("framing", ["events", "lines", "document"])
def test_a_stream_is_read_for_what_it_is(caller: Caller, scripted: Scripted, kind: str, framing: str) -> None:
    last = {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}
    first = {"choices": [{"index": 0, "delta": {"content": "Olá"}}]}
    content = {
        "events": sse(first, last)[2],
        "lines": b"".join(json.dumps(event).encode() + b"\n" for event in (first, last)),
        "document": json.dumps(last, indent=1).encode(),
    }[framing]
    scripted.replies["/v1/chat/completions"] = 200, kind, content
    options = {"model": "gpt-4o", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    assert caller.post("openai/v1/chat/completions", options).content == content
    caller.sidecar.no_holds()
    [event] = caller.events()
    assert (event["input_tokens"], event["output_tokens"], event["basis"]) == (1000, 500, "reported")


def test_the_bytes_of_a_sound_tell_more_than_its_header(caller: Caller, scripted: Scripted) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 24_000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 24_000)
    said = bytearray(file.getvalue())
    said[4:8] = said[40:44] = struct.pack("<I", 0xFFFFFFFF)  # as a stream is sent whose length nobody knows yet
    scripted.replies["/v1/audio/speech"] = 200, "audio/wav", bytes(said)
    caller.post("openai/v1/audio/speech", {"model": "tts-1", "input": "Olá", "response_format": "wav"})
    [event] = caller.events()
    assert event["audio_seconds"] == 1.0


def test_an_upload_whose_length_nobody_can_tell_is_not_free(caller: Caller, scripted: Scripted, tmp_path: Path) -> None:
    scripted.replies["/openai/v1/audio/transcriptions"] = document({"text": "Olá"})
    webm = b"\x1aE\xdf\xa3" + bytes(60_000)
    caller.post("groq/openai/v1/audio/transcriptions", data={"model": "whisper"}, files={"file": ("a.webm", webm)})
    [event] = caller.events()
    assert (event["basis"], event["audio_seconds"]) == ("estimated", pytest.approx(10, abs=1))


def test_a_form_with_our_mark_in_it_arrives_as_it_was_sent(caller: Caller, scripted: Scripted) -> None:
    arrived = []

    def edit(body: bytes) -> Reply:
        arrived.append(body)
        return document({"created": 1, "data": [{"b64_json": "AA=="}], "usage": USAGE})

    scripted.replies["/v1/images/edits"] = edit
    mark = "\u2063" * 3
    data = {"model": "gpt-image-1", "prompt": f"Um gato {mark}x{mark}"}
    answer = caller.post("openai/v1/images/edits", data=data, files={"image": ("a.png", b"\x89PNG")})
    assert (answer.status_code, caller.paid()) == (200, [(1000, 500)])
    assert mark.encode() in arrived[0]
