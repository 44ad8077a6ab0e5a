"""One caller of one test of the SDKs, and what that caller was charged for."""

import json
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from tests.e2e.providers import ProviderUpstream
from tests.e2e.sidecar import Sidecar
from tests.e2e.wire.answers import Bill

from solaris_cli.main import main

_PATIENCE_S = 5
_ENVIRONMENT: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SOLARIS_")}


@dataclass
class Person:
    """Somebody whom nobody else calls as. `others` called through the same sidecar before."""

    name: str
    sidecar: Sidecar
    providers: ProviderUpstream
    others: list[str]
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = self.sidecar.headers(self.name)

    def url(self, route: str) -> str:
        return self.sidecar.url(route)

    @property
    def authority(self) -> Path:
        """The certificate that a client of the forward proxy has to trust."""
        return self.sidecar.folder / "ca" / "mitmproxy-ca-cert.pem"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def events(self, *, running: int = 0) -> list[dict[str, Any]]:
        """What this person was charged for, once no more than so many calls are running.

        An SDK may go on at the last event of a stream, before the answer has ended and is settled. Fails where anybody
        else was charged, and where the provider learned who called.
        """
        for arrival in self.providers.requests:
            assert not [name for name in arrival.headers if name.startswith("x-solaris")], arrival
            assert self.name not in str(arrival), arrival
        deadline = time.monotonic() + _PATIENCE_S
        while len(held := self._holds()) > running and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(held) == running, held
        events: list[dict[str, Any]] = self._solaris_cli("usage", "--events")
        assert {event["user"] for event in events} <= {self.name, *self.others}
        return [event for event in events if event["user"] == self.name]

    def pays(self, bill: Bill, provider: str, model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
        """Assert that there is one event, and that it says what the provider reported; the event."""
        [event] = self.events()
        about = {"provider": provider, "model": model, "stream": stream, "basis": "reported"}
        about |= {"status": 200, "interrupted": False}
        expected = about | bill.event | {"billed_tokens": bill.input + bill.output} | more
        assert {name: event.get(name) for name in expected} == expected, event
        assert event["dialect"] != "generic"
        return event

    def pays_nothing(self) -> None:
        """Assert that the calls reached the provider and cost nothing."""
        assert self.providers.requests
        assert self.events() == []

    def _holds(self) -> list[Any]:
        return [hold for hold in self._solaris_cli("ledger", "holds") if hold["user"] == self.name]

    def _solaris_cli(self, *arguments: str) -> Any:
        """In this process: there are many tests, and starting the program takes longer than the rest of one."""
        runner = CliRunner(env=_ENVIRONMENT)
        result = runner.invoke(main, ["--config", str(self.sidecar.config), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
