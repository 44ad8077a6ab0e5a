"""Stands in for the images of compose.yaml where none can be pulled: `standin.py ROLE`, standard library only.

`librechat` sends what it is asked to from where LibreChat would: by its environment variables, to base URLs, through
PROXY, or straight out. `provider` answers as OpenAI and Anthropic do, over TLS, and counts who asked. `relay` carries a
port to another host, `health` answers 200 to everything, `store` takes connections.
"""

import asyncio
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

BASE_URLS = {
    "openai": ("OPENAI_REVERSE_PROXY", "https://api.openai.com/v1", "/chat/completions"),
    "anthropic": ("ANTHROPIC_REVERSE_PROXY", "https://api.anthropic.com", "/v1/messages"),
    "groq": ("", "http://solaris:8080/groq/openai/v1", "/chat/completions"),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read(self):
        return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")

    def say(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class LibreChat(Handler):
    """POST /ask: {"endpoint", "headers", "body"}; POST /reach: {"host", "port", "udp"}; both say what happened."""

    def do_GET(self):
        self.say({"ok": True})

    def do_POST(self):
        order = self.read()
        try:
            self.say(ask(order) if self.path == "/ask" else reach(order))
        except Exception as error:
            self.say({"error": f"{type(error).__name__}: {error}"})


def ask(order):
    variable, usual, path = BASE_URLS[order["endpoint"]]
    url = urllib.parse.urlsplit((os.environ.get(variable) or usual) + path)
    proxy = urllib.parse.urlsplit(os.environ.get("PROXY", ""))
    trust = ssl.create_default_context()
    if os.environ.get("NODE_EXTRA_CA_CERTS"):
        trust.load_verify_locations(os.environ["NODE_EXTRA_CA_CERTS"])
    port = url.port or (443 if url.scheme == "https" else 80)
    assert url.hostname
    host, at = (proxy.hostname, proxy.port) if proxy.hostname else (url.hostname, port)
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(host, at, timeout=60, context=trust)
    else:
        connection = http.client.HTTPConnection(host, at, timeout=60)
    if proxy.hostname:
        connection.set_tunnel(url.hostname, port)  # LibreChat's client does so for http as well
    headers = order["headers"] | {"content-type": "application/json", "authorization": "Bearer sk-of-the-operator"}
    connection.request("POST", url.path, json.dumps(order["body"]), headers)
    answer = connection.getresponse()
    return {"status": answer.status, "headers": dict(answer.getheaders()), "body": answer.read().decode()}


def reach(order):
    """Try to get out without the sidecar: says `reached` or what stood in the way."""
    kind = socket.SOCK_DGRAM if order.get("udp") else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in order["host"] else socket.AF_INET
    with socket.socket(family, kind) as out:
        out.settimeout(5)
        out.connect((order["host"], order["port"]))
        if not order.get("tls"):
            out.send(b"hello")
            out.recv(100)
            return {"reached": True}
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(out, server_hostname=order["tls"]) as tls:
            shown = tls.getpeercert(binary_form=True)
            return {"reached": True, "certificate": ssl.DER_cert_to_PEM_cert(shown or b"")}


class Provider(Handler):
    seen: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self):
        self.say(self.seen)

    def do_POST(self):
        body = self.read()
        self.seen.append({"path": self.path, "host": self.headers["host"], "headers": list(self.headers.keys())})
        text, usage = "Oi do modelo.", body.get("usage") or [10, 5]
        if self.path.endswith("/messages"):
            told = {"input_tokens": usage[0], "output_tokens": usage[1]}
            content = [{"type": "text", "text": text}]
            message = {"id": "m", "type": "message", "role": "assistant", "content": content, "usage": told}
            self.say(message | {"model": body["model"], "stop_reason": "end_turn", "stop_sequence": None})
            return
        told = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self.say({"id": "c", "object": "chat.completion", "choices": choices, "usage": told})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in [*text.split(), *(["mais"] * body.get("words", 0))]:
            self.event({"choices": [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]})
            time.sleep(body.get("delay_s", 0))
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": told})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: %s\n\n" % json.dumps({"object": "chat.completion.chunk"} | value).encode())
        self.wfile.flush()


class Health(Handler):
    def do_GET(self):
        self.say({"status": "available"})


async def relay(port, target_host, target_port):
    async def carry(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        try:
            other = await asyncio.open_connection(target_host, target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, other[1]), carry(other[0], writer))

    server = await asyncio.start_server(serve, "0.0.0.0", port)
    await server.serve_forever()


def provider():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls/provider.pem")

    class Dual(Server):
        address_family = socket.AF_INET6

    server = Dual(("::", 443), Provider)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    echo.bind(("::", 443))

    def answer():
        while True:
            data, sender = echo.recvfrom(2048)
            echo.sendto(data, sender)

    threading.Thread(target=answer, daemon=True).start()
    threading.Thread(target=Server(("0.0.0.0", 8000), Provider).serve_forever, daemon=True).start()
    server.serve_forever()


def main(role, *arguments):
    if role == "librechat":
        if os.environ.get("MONGO_URI"):
            socket.create_connection(("mongodb", 27017), 5).close()
        Server(("0.0.0.0", 3080), LibreChat).serve_forever()
    elif role == "provider":
        provider()
    elif role == "health":
        Server(("0.0.0.0", int(arguments[0])), Health).serve_forever()
    elif role == "store":
        with open("/data/db/written", "w", encoding="utf-8") as file:  # the volume belongs to this user
            file.write("yes")
        asyncio.run(relay(27017, "127.0.0.1", 9))
    elif role == "relay":
        asyncio.run(relay(int(arguments[0]), arguments[1], int(arguments[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
