"""What looks like something else is not free: no request to a known host gets past identity and metering."""

import json
import socket
from urllib.parse import urlsplit

import pytest

CHAT = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}]}).encode()


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "v1/models/gpt2", {}),
        ("POST", "v1/files/../responses", {}),
        ("POST", "openai/deployments/files/embeddings", {}),
        ("POST", "v1beta/models/gemini-2.5%3AgenerateContent", {}),
        ("POST", "v1//chat/completions", {}),
        ("POST", "v1/chat/completions/", {}),
        ("POST", "v1/chat/completions?x=/models", {}),
        ("PUT", "v1/chat/completions", {}),
        ("GET", "v1/realtime", {"Upgrade": "foo, websocket", "Connection": "Upgrade"}),
        ("GET", "v1/chat/completions", {"X-HTTP-Method-Override": "POST"}),
    ],
)
def test_a_disguised_call_without_an_identity_is_refused(start, upstream, client, method, path, headers):
    sidecar = start()
    answer = client.request(method, sidecar.url(f"openai/{path}"), headers=headers, content=CHAT)
    assert answer.status_code in {401, 403}
    assert upstream.requests == []


def test_another_method_inside_is_refused_with_an_identity_as_well(start, upstream, client):
    sidecar = start()
    for path, headers in (
        ("openai/v1/realtime", {"X-HTTP-Method-Override": "POST"}),
        ("openai/v1/realtime", {"X-HTTP-Method-Override": "POST", "Upgrade": "websocket"}),
        ("openai/v1/responses", {"Upgrade": "websocket"}),  # of WebSockets only Realtime can be metered
    ):
        answer = client.get(sidecar.url(path), headers=sidecar.headers("ana") | headers)
        assert (answer.status_code, answer.headers["x-solaris-denied"]) == (403, "endpoint_denied")
    assert upstream.requests == []


def _tunnel(sidecar, upstream, first, rest):
    """CONNECT to a metered host and say something in two pieces; whatever comes back."""
    address = urlsplit(upstream.url).netloc
    with socket.create_connection(("127.0.0.1", sidecar.port), 5) as connection:
        connection.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert b" 200 " in connection.recv(4096)
        connection.settimeout(2)
        try:
            connection.sendall(first)
            connection.settimeout(0.5)
            try:
                connection.recv(1)
            except TimeoutError:
                connection.sendall(rest)
            connection.settimeout(5)
            return connection.recv(65536)
        except OSError:
            return b""


@pytest.mark.parametrize("first", [b"\r\n", b"PO", b"POST", b"\x00\x01\x02\x03"])
def test_a_tunnel_whose_first_bytes_are_not_http_yet_is_not_relayed_unread(start, upstream, first):
    sidecar = start()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(CHAT)
    whole = head + CHAT
    rest = whole.removeprefix(first)
    answer = _tunnel(sidecar, upstream, first, rest)
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    assert upstream.requests == []


def test_a_request_line_that_comes_in_pieces_finds_its_route(start):
    sidecar = start()
    lines = ["POST /openai/v1/chat/completions HTTP/1.1", f"Host: 127.0.0.1:{sidecar.port}"]
    lines += [f"{name}: {value}" for name, value in sidecar.headers("ana").items()]
    request = "\r\n".join([*lines, f"Content-Length: {len(CHAT)}", "", ""]).encode() + CHAT
    for cut in (1, 4, 5, 6):
        with socket.create_connection(("127.0.0.1", sidecar.port), 10) as connection:
            connection.sendall(request[:cut])
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)
            connection.sendall(request[cut:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_events_that_are_called_json_are_charged(start, client):
    sidecar = start()
    usage = {"prompt_tokens": 4000, "completion_tokens": 6000}
    raw = f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
    body = json.loads(CHAT) | {"stream": True, "script": {"raw": raw}}
    answer = client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=body)
    assert answer.status_code == 200
    assert sidecar.events()[0]["billed_tokens"] == 10_000


def test_a_forged_signature_does_not_lift_a_limit(start, upstream, client):
    sidecar = start('[admission]\noverdraft = "strict"\n')
    sidecar.give("ana", 300)
    headers = sidecar.headers("ana") | {"authorization": "AWS4-HMAC-SHA256 forged"}
    client.post(sidecar.url("openai/v1/chat/completions"), headers=headers, json=json.loads(CHAT) | {"n": 4})
    assert upstream.requests[0].body["max_tokens"] <= 75
