"""The sidecar as a real process, with its command line beside it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

CLI = str(Path(sys.executable).with_name("solaris-cli"))
KEY = "0123456789abcdef"
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("SOLARIS_") and not name.lower().endswith("_proxy")
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Sidecar:
    """`solaris-cli run` on a settings file in `folder`; `start` may be called again after `kill` or `stop`."""

    def __init__(
        self,
        folder: Path,
        upstream_url: str,
        extra: str = "",
        *,
        routes: Mapping[str, str] | None = None,
        database: str | None = None,
        ledger: str = "",
    ) -> None:
        """`extra` is appended to the settings, `ledger` to their first table; `database` is a URL instead of a file."""
        self.folder = folder
        self.port = free_port()
        self.observe_port = free_port()
        self.database = folder / "solaris.db"
        self.config = folder / "solaris.toml"
        self.log = folder / "sidecar.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.mitmproxy_args: list[str] = []
        routes = routes or {"openai": upstream_url, "anthropic": upstream_url}
        leading = "".join(f'{name} = "{url}"\n' for name, url in routes.items())
        self.config.write_text(
            f'[ledger]\ndatabase = "{database or f"sqlite:///{self.database}"}"\n{ledger}[identity]\nkey = "{KEY}"\n'
            f"[routes]\n{leading}"
            f'[purchase]\nemail = "vendas@example.com"\n{extra}'
        )
        if "[observe]" not in extra:
            with self.config.open("a") as config:
                config.write(f'\n[observe]\nlisten = "127.0.0.1:{self.observe_port}"\n')

    def start(self, command: list[str] | None = None) -> None:
        command = command or [
            CLI, "--config", str(self.config), "run", "--listen", f"127.0.0.1:{self.port}",
            "--", "--set", f"confdir={self.folder / 'ca'}", *self.mitmproxy_args,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=ENVIRONMENT
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                self._wait_until_served(deadline)
                return
        raise AssertionError(f"the sidecar does not listen:\n{self.log.read_text()}")

    def _wait_until_served(self, deadline: float) -> None:
        """A call without a key is refused as soon as the ledger is open, and never reaches the upstream."""
        assert self.process is not None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                httpx.post(self.url("openai/v1/chat/completions"), timeout=10, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"the sidecar does not answer:\n{self.log.read_text()}")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL, as an out-of-memory killer does it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def cli(self, *arguments: str) -> Any:
        """Run a command that must succeed; its JSON."""
        done = self.run_cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run_cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [CLI, "--config", str(self.config), *arguments],
            capture_output=True, text=True, env=ENVIRONMENT, cwd=self.folder, timeout=60, check=False,
        )  # fmt: skip

    def url(self, route: str) -> str:
        return f"http://127.0.0.1:{self.port}/{route}"

    def headers(self, user: str) -> dict[str, str]:
        return {"X-Solaris-User": user, "X-Solaris-Email": f"{user}@example.com", "X-Solaris-Key": KEY}

    def give(self, user: str, tokens: int) -> None:
        """An account that holds exactly so many tokens, and no allowance."""
        self.cli("plans", "set", "prepago", "--tokens", "0", "--period", "none")
        self.cli("users", "add", user, "--plan", "prepago")
        self.cli("credit", user, str(tokens))

    def events(self) -> list[dict[str, Any]]:
        return list(self.cli("usage", "--events"))

    def no_holds(self, patience_s: float = 10) -> None:
        """Wait until nothing is reserved any more."""
        deadline = time.monotonic() + patience_s
        while (held := self.cli("ledger", "holds")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert held == []

    def check(self) -> None:
        report = self.cli("ledger", "check")
        assert report["ok"], report
