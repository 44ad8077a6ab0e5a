"""The signed webhook, to a real server, and its signature by an implementation of its own."""

import base64
import json
import socket
import subprocess
import threading

import pytest
from tests.ledger.support import NOON
from tests.notify.samples import composed

from solaris_meter.notify import webhook
from solaris_meter.notify.sender import NotDelivered
from solaris_meter.notify.webhook import Webhook, signature


def hmac_by_hand(key: bytes, text: bytes) -> str:
    """RFC 2104, from the hash alone, which openssl takes."""

    def sha256(data: bytes) -> bytes:
        return subprocess.run(
            ["openssl", "dgst", "-sha256", "-binary"], input=data, capture_output=True, check=True
        ).stdout

    key = (sha256(key) if len(key) > 64 else key).ljust(64, b"\0")
    inner = sha256(bytes(byte ^ 0x36 for byte in key) + text)
    return sha256(bytes(byte ^ 0x5C for byte in key) + inner).hex()


def test_a_post_of_signed_json(hook):
    Webhook(hook.url("/alerts?secret=s3same&team=blue")).send(composed(), NOON)
    ((path, headers, body),) = hook.requests
    assert path == "/alerts?team=blue"
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == f"alert-12-{NOON}"
    assert headers["user-agent"].startswith("solaris-meter/")
    assert json.loads(body) == composed().json
    timestamp, _, signed = headers["x-solaris-signature"].partition(",")
    assert timestamp == f"t={NOON // 1000}"
    assert signed == "v1=" + hmac_by_hand(b"s3same", f"{NOON // 1000}.".encode() + body)
    assert "s3same" not in path + repr(headers) + repr(body)


@pytest.mark.parametrize("secret", ["x", "k" * 64, "k" * 65, "açúcar"])
def test_the_signature_is_hmac(secret):
    assert signature(secret, 1_700_000_000, b"{}") == "t=1700000000,v1=" + hmac_by_hand(
        secret.encode(), b"1700000000.{}"
    )


def test_user_and_password_of_the_url_are_sent(hook):
    Webhook(hook.url().replace("//", "//robot:p%40ss@")).send(composed(), NOON)
    assert hook.requests[0][1]["authorization"] == "Basic " + base64.b64encode(b"robot:p@ss").decode()


def test_a_host_without_a_path(hook):
    Webhook(hook.url("?secret=s3same")).send(composed(), NOON)
    assert hook.requests[0][0] == "/"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_a_delivery(hook, status):
    hook.answers = [status]
    Webhook(hook.url()).send(composed(), NOON)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_anything_else_is_none(hook, status):
    hook.answers = [status]
    with pytest.raises(NotDelivered, match=f"answered HTTP {status}"):
        Webhook(hook.url()).send(composed(), NOON)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(hook, status):
    hook.answers = [status]
    with pytest.raises(NotDelivered, match="redirects are not followed"):
        Webhook(hook.url()).send(composed(), NOON)
    assert len(hook.requests) == 1


def test_nobody_listens():
    with pytest.raises(NotDelivered, match="Connection refused"):
        Webhook("webhook+http://127.0.0.1:9/x?secret=s3same").send(composed(), NOON)


def test_who_says_nothing_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotDelivered, match="timed out"):
        Webhook(f"webhook+http://127.0.0.1:{silent.getsockname()[1]}/x?secret=s3same").send(composed(), NOON)


def test_what_is_not_http_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-x\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotDelivered):
            Webhook(f"webhook+http://127.0.0.1:{server.getsockname()[1]}/x?secret=s3same").send(composed(), NOON)
        thread.join()


def test_tls_is_checked(hook):
    with pytest.raises(NotDelivered, match="SSL"):
        Webhook(hook.url().replace("http:", "https:")).send(composed(), NOON)
