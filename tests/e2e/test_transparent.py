"""Transparent use, in network namespaces: client and sidecar share one, the provider is in the other.

deploy/transparent.sh itself sets up the redirect. IPv4 and IPv6 alike.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.certificates import write_certificate
from tests.e2e.providers import TLS_HOSTS
from tests.e2e.sidecar import CLI, ENVIRONMENT, Sidecar

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "transparent.sh"
ADDRESSES = {"IPv4": "198.51.100.2", "IPv6": "2001:db8:5::2"}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}], "max_tokens": 20}


def _absent() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "nft", "setpriv") if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not here (Debian: iproute2 nftables util-linux); CI installs them"
    if subprocess.run(["unshare", "-n", "nft", "list", "ruleset"], capture_output=True, check=False).returncode:
        return "no network namespace with nftables can be made here"
    return ""


pytestmark = pytest.mark.skipif(bool(_absent()), reason=_absent() or "-")

_WORLD = """
import json, socket, ssl, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        with open(sys.argv[2], "a") as seen:
            seen.write(json.dumps([self.headers["host"], sorted(self.headers)]) + "\\n")
        body = json.dumps({"choices": [{"message": {"content": "oi"}}],
                           "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
for port in (80, 8000):
    threading.Thread(target=Server(("::", port), Handler).serve_forever, daemon=True).start()
echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
echo.bind(("::", 443))
def answer():
    while True:
        data, sender = echo.recvfrom(2000)
        echo.sendto(data, sender)
threading.Thread(target=answer, daemon=True).start()
server = Server(("::", 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""

_CLIENT = """
import encodings.idna, http.client, json, os, socket, ssl, sys
order = json.loads(sys.argv[1])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)  # LibreChat is not the sidecar
family = socket.AF_INET6 if ":" in order["host"] else socket.AF_INET
said = {}
try:
    raw = socket.socket(family, socket.SOCK_DGRAM if order.get("udp") else socket.SOCK_STREAM)
    raw.settimeout(15)
    raw.connect((order["host"], order["port"]))
    if order.get("udp"):
        raw.send(b"hello")
        raw.recv(10)
        said["reached"] = True
    else:
        if "tls" in order:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=order["tls"])
            said["certificate"] = ssl.DER_cert_to_PEM_cert(raw.getpeercert(binary_form=True))
        body = json.dumps(order["body"]).encode()
        headers = {"host": order["name"], "content-type": "application/json", "content-length": str(len(body)),
                   "connection": "close"} | order["headers"]
        lines = "".join(f"{name}: {value}\\r\\n" for name, value in headers.items())
        raw.sendall(f"POST /v1/chat/completions HTTP/1.1\\r\\n{lines}\\r\\n".encode() + body)
        answer = http.client.HTTPResponse(raw, method="POST")
        answer.begin()
        said |= {"status": answer.status, "headers": {k.lower(): v for k, v in answer.getheaders()},
                 "body": answer.read().decode()}
except Exception as error:
    said["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


class Pod:
    """A namespace with a sidecar in it, and the way to ask from inside."""

    def __init__(self, folder: Path, world: str, pod: str) -> None:
        self.folder, self.world, self.pod = folder, world, pod
        self.certificate = folder / "provider.pem"
        self.seen_file = folder / "seen"
        self.sidecar = Sidecar(folder, "http://127.0.0.1:9", "[observe]\nlisten = ''\n", routes={})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        trusted = f"ssl_verify_upstream_trusted_ca={self.certificate}"
        command = [
            "ip", "netns", "exec", self.pod, "sh", str(SCRIPT), CLI, "--config", str(self.sidecar.config),
            "run", "--mode", "transparent@8443", "--", "--set", f"confdir={self.folder / 'ca'}", "--set", trusted,
        ]  # fmt: skip
        # Root without capabilities, because it owns the interpreter here; in the image it is a user of its own.
        environment = ENVIRONMENT | {"SIDECAR_UID": "0"}
        with self.sidecar.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while "Transparent Proxy listening" not in self.sidecar.log.read_text():
            assert self.process.poll() is None, self.sidecar.log.read_text()
            assert time.monotonic() < deadline, self.sidecar.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def ask(self, host, port=443, *, user="ana", name="api.openai.com", body=CHAT, **how):
        order = {"host": host, "port": port, "name": name, "body": body, "headers": self.sidecar.headers(user)} | how
        said = _in(self.pod, sys.executable, "-c", _CLIENT, json.dumps(order))
        return json.loads(said)

    def seen(self):
        return [json.loads(line) for line in self.seen_file.read_text().splitlines()] if self.seen_file.exists() else []


def _in(namespace: str, *command: str) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pod(tmp_path_factory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("transparent")
    world, inner = f"sm-world-{os.getpid()}", f"sm-pod-{os.getpid()}"
    one = Pod(folder, world, inner)
    write_certificate(one.certificate, [*TLS_HOSTS, "example.net"])
    provider = None
    try:
        for namespace in (world, inner):
            subprocess.run(["ip", "netns", "add", namespace], check=True)
            _in(namespace, "ip", "link", "set", "lo", "up")
        _in(world, "ip", "link", "add", "down0", "type", "veth", "peer", "name", "up0", "netns", inner)
        for namespace, device, last in ((world, "down0", 2), (inner, "up0", 1)):
            _in(namespace, "ip", "address", "add", f"198.51.100.{last}/24", "dev", device)
            _in(namespace, "ip", "address", "add", f"2001:db8:5::{last}/64", "dev", device, "nodad")
            _in(namespace, "ip", "link", "set", device, "up")
        # A second network, as MongoDB's: its own hosts are reachable, a way on from there is none.
        _in(world, "ip", "link", "add", "chat1", "type", "veth", "peer", "name", "chat0", "netns", inner)
        for namespace, device, last in ((world, "chat1", 2), (inner, "chat0", 1)):
            _in(namespace, "ip", "address", "add", f"203.0.113.{last}/24", "dev", device)
            _in(namespace, "ip", "link", "set", device, "up")
        _in(world, "ip", "address", "add", "198.18.77.2/32", "dev", "lo")
        _in(inner, "ip", "route", "add", "198.18.77.0/24", "via", "203.0.113.2")
        _in(inner, "ip", "route", "add", "default", "via", "198.51.100.2")
        _in(inner, "ip", "-6", "route", "add", "default", "via", "2001:db8:5::2")
        provider = subprocess.Popen(
            ["ip", "netns", "exec", world, sys.executable, "-c", _WORLD, str(one.certificate), str(one.seen_file)],
            stdout=subprocess.PIPE,
        )
        assert provider.stdout is not None
        assert provider.stdout.readline() == b"ready\n"
        one.start()
        yield one
    finally:
        one.stop()
        if provider is not None:
            provider.kill()
            provider.wait(10)
            if provider.stdout:
                provider.stdout.close()
        for namespace in (inner, world):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


@pytest.fixture(params=list(ADDRESSES.values()), ids=list(ADDRESSES))
def address(request):
    return request.param


def issuer(answer):
    from cryptography import x509

    return x509.load_pem_x509_certificate(answer["certificate"].encode()).issuer.rfc4514_string()


def test_the_handshake_says_whose_call_it_is(pod, address):
    before = len(pod.sidecar.events())
    answer = pod.ask(address, tls="api.openai.com")
    assert answer.get("status") == 200, answer
    assert "mitmproxy" in issuer(answer)
    event = pod.sidecar.events()[before]
    assert (event["user"], event["provider"], event["billed_tokens"]) == ("ana", "openai", 7)
    host, names = pod.seen()[-1]
    assert host == "api.openai.com"
    assert not [name for name in names if name.lower().startswith("x-solaris")]


def test_the_host_header_does_not_hide_what_the_handshake_says(pod, address):
    before = len(pod.sidecar.events())
    assert pod.ask(address, tls="api.openai.com", name="example.net")["status"] == 200
    assert len(pod.sidecar.events()) == before + 1


def test_plain_http_is_known_by_its_host_header(pod, address):
    before = len(pod.sidecar.events())
    assert pod.ask(address, 80)["status"] == 200
    assert pod.sidecar.events()[before]["provider"] == "openai"


def test_what_is_no_providers_passes_undecrypted(pod, address):
    before = pod.sidecar.events()
    answer = pod.ask(address, tls="example.net", name="example.net")
    assert (answer.get("status"), "mitmproxy" in issuer(answer)) == (200, False)
    assert pod.sidecar.events() == before


def test_a_handshake_without_a_name_is_looked_into(pod, address):
    before = len(pod.sidecar.events())
    answer = pod.ask(address, tls=None)
    assert "mitmproxy" in issuer(answer)
    # The provider's certificate is for names; whether it is reached or not, nothing passes unmetered.
    assert answer["status"] != 200 or len(pod.sidecar.events()) == before + 1


def test_who_has_nothing_left_is_denied_and_the_provider_hears_nothing(pod, address):
    pod.sidecar.give(f"bia-{len(address)}", 1)
    pod.sidecar.cli("debit", f"bia-{len(address)}", "1", "--note", "test")
    before = pod.seen()
    answer = pod.ask(address, tls="api.openai.com", user=f"bia-{len(address)}")
    assert (answer["status"], answer["headers"]["x-solaris-denied"]) == (429, "tokens_exhausted")
    assert pod.seen() == before


def test_nothing_else_leaves(pod, address):
    before = pod.seen()
    assert "refused" in pod.ask(address, 8000)["error"]
    assert "error" in pod.ask(address, 443, udp=True)  # QUIC
    assert "error" in pod.ask(address, 53, udp=True)
    assert pod.seen() == before


def test_a_network_without_a_way_out_is_reached_directly_and_nothing_beyond_it(pod):
    before = pod.sidecar.events()
    assert pod.ask("203.0.113.2", 8000, name="mongodb")["status"] == 200
    assert pod.sidecar.events() == before
    assert "refused" in pod.ask("198.18.77.2", 8000)["error"]
    answer = pod.ask("198.18.77.2", tls="api.openai.com")
    assert (answer["status"], "mitmproxy" in issuer(answer)) == (200, True)
    assert len(pod.sidecar.events()) == len(before) + 1


def test_the_sidecar_keeps_no_capability(pod):
    assert pod.process is not None
    status = Path(f"/proc/{pod.process.pid}/status").read_text()
    held = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith(("Cap", "NoNew"))}
    assert held == {f"Cap{kind}:": "0" * 16 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} | {"NoNewPrivs:": "1"}


def test_setting_up_again_changes_nothing(pod):
    before = _in(pod.pod, "nft", "list", "ruleset")
    for _ in range(2):
        _in(pod.pod, "env", "SIDECAR_UID=0", "sh", str(SCRIPT), "true")
    assert _in(pod.pod, "nft", "list", "ruleset") == before
    assert before.count("table inet solaris") == 1


def test_a_sidecar_that_is_gone_means_no_way_out_and_its_return_heals(pod, address):
    before = pod.seen()
    pod.stop()
    for how in ({"tls": "api.openai.com"}, {"tls": "example.net"}):
        assert "error" in pod.ask(address, **how)
    assert pod.seen() == before
    pod.sidecar.log.write_text("")
    pod.start()
    assert pod.ask(address, tls="api.openai.com")["status"] == 200
    pod.sidecar.no_holds()
    pod.sidecar.check()
