"""Forward-proxy use on the same port: known hosts are metered inside their TLS, others pass undecrypted."""

import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from cryptography import x509
from tests.e2e.certificates import write_certificate

BODY = b'{"choices": [{"message": {"content": "ok"}}], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}'
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        pass


@pytest.fixture
def certificate(tmp_path):
    file = tmp_path / "upstream.pem"
    write_certificate(file, ["localhost"])
    return file


@pytest.fixture
def tls_upstream(certificate):
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.seen = []  # type: ignore[attr-defined]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _post(sidecar, tls_upstream, trusted):
    context = ssl.create_default_context(cafile=str(trusted))
    url = f"https://localhost:{tls_upstream.server_port}/v1/chat/completions"
    with httpx.Client(proxy=sidecar.url(""), verify=context, trust_env=False, timeout=30) as client:
        return client.post(url, headers=sidecar.headers("ana"), json=CHAT)


def test_a_known_host_is_metered_inside_its_tls(start, tls_upstream):
    sidecar = start('[policy]\nhosts = ["localhost"]\n', ["--set", "ssl_insecure=true"])
    answer = _post(sidecar, tls_upstream, sidecar.folder / "ca" / "mitmproxy-ca-cert.pem")
    assert (answer.status_code, answer.content) == (200, BODY)
    assert "X-Solaris-User" not in tls_upstream.seen[0]
    [event] = sidecar.events()
    assert (event["provider"], event["billed_tokens"]) == ("localhost", 7)


def test_an_unknown_host_passes_undecrypted(start, tls_upstream, certificate):
    sidecar = start()
    # The client trusts nobody but the upstream itself: only an untouched connection can satisfy it.
    answer = _post(sidecar, tls_upstream, certificate)
    assert answer.content == BODY
    assert sidecar.events() == []


def test_an_unknown_host_is_metered_by_its_paths_where_the_policy_says_so(start, tls_upstream):
    sidecar = start('[policy]\nunknown_hosts = "meter"\n', ["--set", "ssl_insecure=true"])
    answer = _post(sidecar, tls_upstream, sidecar.folder / "ca" / "mitmproxy-ca-cert.pem")
    assert answer.status_code == 200
    assert sidecar.events()[0]["billed_tokens"] == 7


def _tunnel(sidecar, tls_upstream, name):
    """POST a chat through `CONNECT 127.0.0.1`, with `name` in the TLS handshake; who vouched for it, and the answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", sidecar.port), 20) as raw:
        raw.sendall(f"CONNECT 127.0.0.1:{tls_upstream.server_port} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in raw.recv(1000)
        with context.wrap_socket(raw, server_hostname=name) as tls:
            issuer = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"").issuer.rfc4514_string()
            body = json.dumps(CHAT).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n"
            tls.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return issuer, tls.recv(1000)


def test_an_address_does_not_hide_whose_call_the_handshake_says_it_is(start, tls_upstream):
    sidecar = start("", ["--set", "ssl_insecure=true"])
    issuer, answer = _tunnel(sidecar, tls_upstream, "api.openai.com")
    assert "mitmproxy" in issuer
    assert answer.startswith(b"HTTP/1.1 401 ")  # it has no key: it was looked into, and refused
    assert tls_upstream.seen == []


def test_a_handshake_to_an_address_without_a_name_is_looked_into(start, tls_upstream):
    sidecar = start("", ["--set", "ssl_insecure=true"])
    assert "mitmproxy" in _tunnel(sidecar, tls_upstream, None)[0]


def test_the_addresses_where_clouds_keep_credentials_are_refused(start):
    sidecar = start()
    with httpx.Client(proxy=sidecar.url(""), trust_env=False, timeout=20) as client:
        assert client.get("http://169.254.169.254/latest/meta-data/").status_code == 403
        with pytest.raises(httpx.ProxyError, match="403"):
            client.get("https://169.254.169.254/")


def test_an_unknown_host_is_refused_where_the_policy_says_so(start, tls_upstream, certificate):
    sidecar = start('[policy]\nunknown_hosts = "deny"\n')
    with pytest.raises(httpx.ProxyError, match="403"):
        _post(sidecar, tls_upstream, certificate)
    assert tls_upstream.seen == []


def test_an_unknown_host_on_a_port_of_the_same_number_is_reached(start):
    """Plain http to another container on 8080, say, while the sidecar listens on 8080 as well."""
    sidecar = start()
    other = HTTPServer(("127.0.0.2", sidecar.port), _Handler)
    other.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=other.serve_forever, daemon=True)
    thread.start()
    try:
        with httpx.Client(proxy=sidecar.url(""), trust_env=False, timeout=30) as client:
            answer = client.post(f"http://127.0.0.2:{sidecar.port}/some/service", json={})
        assert answer.content == BODY
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
    assert sidecar.events() == []
