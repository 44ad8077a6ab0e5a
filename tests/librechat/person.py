"""One person in LibreChat: what they send, what they read, and what the sidecar charged them for."""

import contextlib
import itertools
import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.e2e.providers import ProviderUpstream
from tests.e2e.sidecar import KEY, Sidecar
from tests.e2e.upstream import Arrival
from tests.e2e.wire import anthropic, google, openai
from tests.e2e.wire.answers import Bill

from solaris_cli.main import main

_PATIENCE_S = 5
_LONGEST_TURN_S = 60
"""The package repeats what fails for two minutes: a turn that takes so long has failed."""
_ENVIRONMENT: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SOLARIS_")}
_IDS = itertools.count(0x66A0F00D0000000000000000)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of LibreChat: the path of its base URL, what is asked for, and what the upstream bills for a chat."""

    path: str
    model: str
    provider: str
    bill: Bill
    title: Bill


ENDPOINTS = {
    "openai": Endpoint("openai/v1", "gpt-4o", "openai", openai.CHAT, openai.CHAT),
    "responses": Endpoint("openai/v1", "gpt-5", "openai", openai.RESPONSE, openai.RESPONSE),
    "custom": Endpoint("openai/v1", "llama-3.3-70b-versatile", "openai", openai.CHAT, openai.CHAT),
    "anthropic": Endpoint("anthropic", "claude-sonnet-4-6", "anthropic", anthropic.STREAM, anthropic.MESSAGE),
    "google": Endpoint("google", "gemini-2.5-pro", "google", google.STREAMED, google.GENERATED),
}


@dataclass(frozen=True)
class Turn:
    """What came of one message, as `chat.mjs` says it."""

    shown: str
    error: str | None
    replaced: bool
    history: list[dict[str, Any]]
    requests: int
    seconds: float


class Librechat:
    """`chat.mjs` on the package installed in `folder`; `version` is its first two numbers, `log` a file to write."""

    def __init__(self, version: str, script: Path, folder: Path, log: Path) -> None:
        self.version = version
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["node", str(script), str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment,
            )  # fmt: skip

    def ask(self, **job: Any) -> Turn:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _LONGEST_TURN_S)
        assert ready, f"no end of this turn after {_LONGEST_TURN_S} s: {job}"
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(10)
            raise AssertionError(f"chat.mjs ended with {code}:\n{self._log.read_text()[-2000:]}")
        return Turn(**json.loads(line))

    def stop(self) -> None:
        try:
            self._process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@dataclass
class Chatter:
    """Somebody whom LibreChat knows by an id of its database, in one conversation on one endpoint."""

    name: str
    librechat: Librechat
    sidecar: Sidecar
    providers: ProviderUpstream
    history: list[dict[str, Any]] = field(default_factory=list)
    user: str = field(default_factory=lambda: f"{next(_IDS):024x}")

    @property
    def endpoint(self) -> Endpoint:
        return ENDPOINTS[self.name]

    @property
    def email(self) -> str:
        """LibreChat sends such characters as single bytes of Latin-1."""
        return f"josé-{self.user}@exemplo.com.br"

    def give(self, tokens: int) -> None:
        """A yearly allowance of so many tokens, and nothing else."""
        plan = f"plan-{self.user}"
        self.cli("plans", "set", plan, "--tokens", str(tokens), "--period", "year")
        self.cli("users", "add", self.user, "--plan", plan)

    def give_so_that_one_answer_is(self, percent: int, *, title: bool = False) -> None:
        """An allowance of which one answer (or title) uses this share."""
        bill = self.endpoint.title if title else self.endpoint.bill
        self.give((bill.input + bill.output) * 100 // percent)

    def exhaust(self) -> None:
        """Have the whole allowance used up by one answer, in another conversation."""
        self.give_so_that_one_answer_is(100)
        self.say("Gaste tudo.")
        self.history.clear()
        self.events()
        self.providers.requests.clear()

    def say(self, text: str, *, title: bool = False) -> Turn:
        """Send a message, or have the chat that begins with it named (`title`)."""
        process = self.sidecar.process
        assert process is not None
        assert process.poll() is None, self.sidecar.log.read_text()
        turn = self.librechat.ask(
            provider=self.name,
            baseUrl=self.sidecar.url(self.endpoint.path),
            headers={
                "X-Solaris-User": self.user,
                "X-Solaris-Email": self.email,
                "X-Solaris-Conversation": f"conversa-{self.user}",
                "X-Solaris-Key": KEY,
            },
            model=self.endpoint.model,
            user=self.user,
            history=self.history,
            text=text,
            title=title,
        )
        if not title:
            self.history = turn.history
        return turn

    @property
    def arrivals(self) -> list[Arrival]:
        """The requests that reached the provider; none of them says who the sidecar's caller was."""
        for arrival in self.providers.requests:
            assert not [name for name in arrival.headers if name.startswith("x-solaris")], arrival
        return list(self.providers.requests)

    def events(self) -> list[dict[str, Any]]:
        """What this person was charged for, once nothing is running any more."""
        deadline = time.monotonic() + _PATIENCE_S
        while held := [hold for hold in self.cli("ledger", "holds") if hold["user"] == self.user]:
            assert time.monotonic() < deadline, held
            time.sleep(0.02)
        return [event for event in self.cli("usage", "--events") if event["user"] == self.user]

    def cli(self, *arguments: str) -> Any:
        """In this process: starting the program takes longer than a chat."""
        result = CliRunner(env=_ENVIRONMENT).invoke(main, ["--config", str(self.sidecar.config), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def texts_of(arrival: Arrival) -> list[tuple[str, str]]:
    """Who says what in a request that reached the provider, without the instructions; the same for every API."""
    body = arrival.body
    said = []
    for message in body.get("messages") or body.get("input") or body["contents"]:
        role = "assistant" if message["role"] == "model" else message["role"]
        content = message.get("parts") or message["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        if role not in ("system", "developer"):
            said.append((role, text))
    return said
