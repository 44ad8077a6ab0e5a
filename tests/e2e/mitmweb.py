"""A sidecar under mitmweb, and mitmweb's own API, as its page uses it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.sidecar import CLI, Sidecar, free_port

PASSWORD = "correct-horse-battery"


class Mitmweb(Sidecar):
    """`solaris-cli run --web`. `api` is logged in. `inspect` is appended to the settings' table of that name."""

    def __init__(self, folder: Path, upstream_url: str, extra: str = "", *, inspect: str = "", **more: Any) -> None:
        table = f'[inspect]\npassword = "{PASSWORD}"\n{inspect}\n'
        super().__init__(folder, upstream_url, table + extra, **more)
        self.web_port = free_port()

    def start(self, command: list[str] | None = None) -> None:
        super().start(
            command
            or [
                CLI,
                "--config",
                str(self.config),
                "run",
                "--web",
                "--listen",
                f"127.0.0.1:{self.port}",
                "--",
                "--set",
                f"confdir={self.folder / 'ca'}",
                "--web-port",
                str(self.web_port),
                *self.mitmproxy_args,
            ]
        )
        assert self.process is not None
        self.api = httpx.Client(base_url=self.page, timeout=30, trust_env=False)
        self.api.headers["authorization"] = f"Bearer {PASSWORD}"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def kill(self) -> None:
        super().kill()
        if hasattr(self, "api"):
            self.api.close()

    def flows(self) -> list[dict[str, Any]]:
        """What the list shows, oldest first, without the refused call with which the start is awaited."""
        answer = self.api.get("/flows")
        assert answer.status_code == 200, answer.text
        return [flow for flow in answer.json() if flow["comment"] != "nobody · denied: identity_refused (401)"]

    def flow(self, condition: Callable[[dict[str, Any]], object] = bool, patience_s: float = 10) -> dict[str, Any]:
        """The newest flow, once it is as the condition says."""
        deadline = time.monotonic() + patience_s
        while True:
            flows = self.flows()
            if flows and condition(flows[-1]):
                return flows[-1]
            assert time.monotonic() < deadline, flows
            time.sleep(0.05)

    def prices_are_known(self, patience_s: float = 60) -> None:
        """Wait until calls are priced: LiteLLM's map is loaded in the background."""
        ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}]}
        deadline = time.monotonic() + patience_s
        while "$" not in (self.flows() or [{"comment": ""}])[-1]["comment"]:
            assert time.monotonic() < deadline, self.log.read_text()
            httpx.post(
                self.url("openai/v1/chat/completions"),
                headers=self.headers("early"), json=ask, timeout=30, trust_env=False,
            )  # fmt: skip
            time.sleep(0.3)

    def shown(self, flow: dict[str, Any], message: str, view: str = "auto") -> dict[str, Any]:
        """A body as a contentview renders it."""
        answer = self.api.get(f"/flows/{flow['id']}/{message}/content/{view}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, path: str, json: Any = None) -> Any:
        """What the page does with a button: a cookie and a header that are the same show that it was no other site."""
        token = "0" * 32
        self.api.cookies.set("_mitmproxy_xsrf", token, domain="127.0.0.1")
        answer = self.api.post(path, json=json, headers={"x-xsrftoken": token})
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    def command(self, name: str, *arguments: str) -> dict[str, Any]:
        """The command bar: `{"value": …}` or `{"error": …}`."""
        return dict(self.post(f"/commands/{name}", {"arguments": list(arguments)}))
