"""A mail server and a webhook on this machine, which can be told to refuse."""

import json
import threading
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Mailbox:
    """Takes mail on 127.0.0.1. `answers` are given to the next messages instead of taking them."""

    def __init__(self, port: int = 0, *, login: tuple[str, str] | None = None) -> None:
        self.letters: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.answers: list[str] = []
        self.refused: set[str] = set()
        self.tries = 0
        self.gate: Callable[[], None] = lambda: None
        self._login = login
        self._options: dict[str, Any] = {"auth_required": True, "auth_require_tls": False} if login else {}
        self._controller: Controller | None = None
        self.port = port or _free_port()

    def start(self) -> "Mailbox":
        """May be called again after `stop`."""
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, authenticator=self._authenticate, **self._options
        )
        self._controller.start()
        return self

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def url(self, to: str = "{email}", more: str = "") -> str:
        user = f"{self._login[0]}:{self._login[1]}@" if self._login else ""
        return f"mailto://{user}127.0.0.1:{self.port}?from=avisos@example.com&to={to}{more}"

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refused:
            return "550 unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  (aiosmtpd's own name)
        self.tries += 1
        self.gate()
        if self.answers:
            return self.answers.pop(0)
        letter = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"

    def _authenticate(self, server, session, envelope, mechanism, data):
        given = (data.login.decode(), data.password.decode())
        return AuthResult(success=given == self._login, handled=False)


class Hook:
    """Takes POSTs on 127.0.0.1. `answers` are the statuses of the next ones, then 204."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(hook.answers.pop(0) if hook.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.port = self._server.server_port

    def start(self) -> "Hook":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]

    def url(self, rest: str = "/alerts?secret=s3same") -> str:
        return f"webhook+http://127.0.0.1:{self.port}{rest}"


def _free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        return int(probe.server_port)
