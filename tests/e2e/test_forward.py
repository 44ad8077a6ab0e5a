"""Forward-proxy use on the same port: known hosts are metered inside their TLS, others pass undecrypted."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
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
