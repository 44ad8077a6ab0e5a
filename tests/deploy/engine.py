"""A deployment of compose.yaml in a real Docker engine, with stand-ins for the images that cannot be pulled."""

import json
import os
import shutil
import subprocess
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("SOLARIS_TEST_IMAGE", "solaris-meter:test")
KEY = "0123456789abcdef" * 2
ENVIRONMENT = {
    "CREDS_KEY": "a" * 64,
    "CREDS_IV": "b" * 32,
    "JWT_SECRET": "c" * 64,
    "JWT_REFRESH_SECRET": "d" * 64,
    "MEILI_MASTER_KEY": "e" * 32,
    "SOLARIS_IDENTITY_KEY": KEY,
    "SOLARIS_PURCHASE_EMAIL": "vendas@example.com",
    "POSTGRES_PASSWORD": "f" * 32,
}
_FIRST_PORT = 33080


def absent() -> str:
    """Why the engine cannot be used; empty where it can."""
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "no Docker here"
    if done.returncode != 0:
        return "no Docker engine runs (CI starts one; see .ci/run)"
    if lacks(IMAGE):
        return f"the image {IMAGE} is not built: make compose-test"
    return ""


def lacks(image: str) -> bool:
    """Whether an image is not in the engine."""
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode != 0


class Deployment:
    """One compose project: `way` is "reverse", "forward" or "transparent"; `more` are further overrides. `folder` is
    for what it mounts."""

    def __init__(
        self,
        folder: Path,
        way: str,
        environment: dict[str, str] | None = None,
        name: str = "",
        *,
        more: Sequence[str] = (),
    ) -> None:
        self.way = way
        self._project = f"solaris-test-{name or way}"
        self._port = _FIRST_PORT + zlib.crc32(self._project.encode()) % 1000  # two may run side by side
        self._files = ["compose.yaml", "tests/deploy/compose.test.yaml"]
        if way != "reverse":
            self._files.insert(1, f"deploy/compose.{way}.yaml")
        for number, file in enumerate(more):
            self._files.insert(1 + number, file)
        own = {"SIDECAR_IMAGE": IMAGE, "CHAT_PORT": str(self._port), "TLS": str(folder)}
        self._settings = ENVIRONMENT | own | (environment or {})
        self._env_file = folder / f"{self._project}.env"
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))

    def compose(self, *arguments: str, timeout_s: float = 240) -> str:
        """Run docker compose; its output. Raises AssertionError with what it said where it failed."""
        files = [part for file in self._files for part in ("-f", str(ROOT / file))]
        command = ["docker", "compose", "--env-file", str(self._env_file), "-p", self._project, *files, *arguments]
        ours = ("SOLARIS_", "COMPOSE_", *self._settings)  # a variable of the shell would win over the file
        usable = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, env=usable, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        try:
            self.compose("up", "-d", "--wait", "--no-build", "--quiet-pull")
        except AssertionError as error:
            states = self.compose("ps", "-a")
            logs = self.compose("logs", "--no-color", "--tail", "40", "solaris", "init", "librechat")
            raise AssertionError(f"{error}\n{states}\n{logs}") from None

    def container(self, service: str) -> str:
        return self.compose("ps", "-a", "-q", service).strip()

    def cli(self, *arguments: str) -> Any:
        """A solaris-cli command inside the sidecar's container, as its user; its JSON."""
        said = self.compose("exec", "-T", "-u", "10001:10001", "solaris", "solaris-cli", *arguments, "--json")
        return json.loads(said)

    def doctor(self) -> Any:
        """What doctor says of the whole deployment; its JSON. `.env` is the tests' own, which stands elsewhere."""
        variables = {name: value for name, value in self._settings.items() if name != "TLS"}
        if self.way != "reverse":
            variables["COMPOSE_FILE"] = f"compose.yaml:deploy/compose.{self.way}.yaml"
        folder = self._env_file.parent / f"deployment-{self.way}"
        shutil.copytree(ROOT / "deploy", folder / "deploy", dirs_exist_ok=True)
        shutil.copy(ROOT / "compose.yaml", folder)
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        folder.chmod(0o755)
        command = ["solaris-cli", "doctor", "--librechat", "/seen", "--sidecar", "http://solaris:8080", "--ca", "/ca"]
        options = ["run", "--rm", "-T", "--no-deps", "-v", f"{folder}:/seen:ro", "doctor"]
        return json.loads(self.compose("--profile", "tools", *options, *command, "--json"))

    def inside(self, service: str, *command: str) -> str:
        return self.compose("exec", "-T", service, *command)

    def address(self, service: str, network: str = "uplink") -> str:
        """A container's address in one of the project's networks."""
        template = f'{{{{(index .NetworkSettings.Networks "{self._project}_{network}").IPAddress}}}}'
        return subprocess.run(
            ["docker", "inspect", "-f", template, self.container(service)], capture_output=True, text=True, check=True
        ).stdout.strip()

    def headers(self, endpoint: str, user: str) -> dict[str, str]:
        """The headers of deploy/librechat/librechat.yaml as LibreChat would send them."""
        settings = YAML(typ="safe").load((ROOT / "deploy/librechat/librechat.yaml").read_text())
        endpoints = settings["endpoints"]
        custom = {entry["name"].lower(): entry for entry in endpoints["custom"]}
        named = {"openai": "openAI"}.get(endpoint, endpoint)
        filled = {
            "{{LIBRECHAT_USER_ID}}": user,
            "{{LIBRECHAT_USER_EMAIL}}": f"{user}@example.com",
            "{{LIBRECHAT_BODY_CONVERSATIONID}}": "conversation-1",
            "${SOLARIS_IDENTITY_KEY}": KEY,
        }
        entry = custom[endpoint] if endpoint in custom else endpoints[named]
        return {name: filled[value] for name, value in entry["headers"].items()}

    def ask(self, endpoint: str, user: str, **body: Any) -> dict[str, Any]:
        """Have LibreChat send a chat request; `{"status", "headers", "body"}` or `{"error"}`."""
        messages = [{"role": "user", "content": "Oi, tudo bem?"}]
        question = {"model": "gpt-4o", "max_tokens": 50, "messages": messages} | body
        return self._tell("ask", {"endpoint": endpoint, "headers": self.headers(endpoint, user), "body": question})

    def reach(self, host: str, port: int, **how: Any) -> dict[str, Any]:
        """Have LibreChat's container try to get out by itself."""
        return self._tell("reach", {"host": host, "port": port} | how)

    def _tell(self, what: str, order: dict[str, Any]) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=90) as browser:
            return dict(browser.post(f"http://127.0.0.1:{self._port}/{what}", json=order).json())

    def page(self) -> int:
        """The status of the chat's page, as a browser gets it."""
        return httpx.get(f"http://127.0.0.1:{self._port}/health", trust_env=False, timeout=10).status_code

    def arrived(self) -> list[dict[str, Any]]:
        """What reached the provider."""
        script = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/').read().decode())"
        return list(json.loads(self.inside("provider", "python", "-c", script)))

    def until_served(self, user: str, patience_s: float = 90) -> None:
        """Wait until a call is answered again, without touching anything."""
        deadline = time.monotonic() + patience_s
        answer: dict[str, Any] = {}
        while time.monotonic() < deadline:
            try:
                answer = self.ask("openai", user)
            except (httpx.HTTPError, ValueError) as error:  # the page itself may be gone for a moment
                answer = {"error": repr(error)}
            if answer.get("status") == 200:
                return
            time.sleep(1)
        raise AssertionError(f"still not served: {answer}\n{self.compose('ps', '-a')}")
