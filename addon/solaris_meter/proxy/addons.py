"""Builds the addons from the settings, and starts and stops what runs beside them."""

import asyncio
import logging
import os
import socket
import time
import uuid
from contextlib import suppress
from typing import Any

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from solaris_meter.chat import notices
from solaris_meter.chat.texts import Texts
from solaris_meter.errors import SolarisError
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import open_engine
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.metering.meter import Meter
from solaris_meter.metering.providers import Providers
from solaris_meter.metering.tokens import TokenCounter
from solaris_meter.models import Standing
from solaris_meter.proxy.metered import Metered
from solaris_meter.proxy.passthrough import Passthrough
from solaris_meter.proxy.route import Router
from solaris_meter.settings import Settings, find_config, load_settings, without_effect

log = logging.getLogger(__name__)

TEND_EVERY_S = 20.0
GRACE_S = 7.0
"""How long running answers may go on after SIGTERM; Docker kills after 10 s."""
CLOSING_S = 2.0
"""How long settlements that have begun may take after that."""
EXHAUSTED_PERCENT = 100


class Solaris:
    """The addon that mitmdump and mitmweb load. Its option is `solaris_config`, the path of solaris.toml."""

    def __init__(self) -> None:
        self.addons: list[Any] = []
        self._ledger: Ledger | None = None
        self._counter: TokenCounter | None = None
        self._meter: Meter | None = None
        self._metered: Metered | None = None
        self._tending: asyncio.Task[None] | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option("solaris_config", str, "", "Path of solaris.toml (default: SOLARIS_CONFIG, ./solaris.toml).")
        options: dict[str, Any] = {
            # A call that is refused must not even open a connection to the provider.
            "connection_strategy": "lazy",
            # Would send large requests upstream before they are admitted.
            "stream_large_bodies": None,
            # Would relay a tunnel unread whose first bytes do not look like HTTP yet.
            "rawtcp": False,
        }
        if ctx.options.tcp_timeout == ctx.options.default("tcp_timeout"):
            options["tcp_timeout"] = 1800  # an answer may think for longer than mitmproxy's 10 minutes
        ctx.options.update(**options)
        if ctx.options.termlog_verbosity != "debug":
            # Up to five records a call, each of which mitmproxy sends through every addon.
            logging.getLogger("mitmproxy.proxy.server").setLevel(logging.WARNING)

    def configure(self, updated: set[str]) -> None:
        if "solaris_config" not in updated or self._meter is not None:
            return
        try:
            self._build(load_settings(find_config(ctx.options.solaris_config)))
        except SolarisError as error:
            raise exceptions.OptionsError(str(error)) from error

    async def running(self) -> None:
        # mitmproxy ends the start at any record of level ERROR; until `start`, every call is held back.
        misspelt = sorted(name for name in ctx.options.deferred if name.startswith("solaris"))
        if misspelt:
            log.error("unknown option %s: there is solaris_config", ", ".join(misspelt))
            return
        if self._ledger is None or self._counter is None or self._metered is None:
            log.error("Solaris Meter is not configured; see the error above")
            return
        try:
            self._ledger.open()
        except SolarisError as error:
            log.error("%s", error)
            return
        self._counter.start()
        await self._tend()
        # A little later: until its own start is over, mitmproxy would take a call's failure for a failure to start.
        asyncio.get_running_loop().call_later(0.05, self._metered.start)
        self._tending = asyncio.create_task(self._keep_tending())

    async def done(self) -> None:
        if self._ledger is None or self._meter is None or self._metered is None or self._counter is None:
            return
        ctx.options.update(server=False)
        self._meter.stop()
        await self._wait_for_calls(GRACE_S)
        await self._metered.settle_all()
        await self._wait_for_calls(CLOSING_S)
        if self._tending is not None:
            self._tending.cancel()
            with suppress(asyncio.CancelledError):
                await self._tending
        self._counter.close()
        await asyncio.to_thread(self._ledger.close)

    async def _wait_for_calls(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._meter and self._meter.running and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _build(self, settings: Settings) -> None:
        for name in without_effect(settings):
            log.warning("the setting %s is not built yet: it has no effect", name)
        accounts = settings.accounts
        self._ledger = Ledger(
            open_engine(settings.ledger.database),
            owner=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            new=NewAccount(accounts.default_plan, accounts.timezone, accounts.auto_create),
            thresholds=sorted({*settings.alerts.thresholds, EXHAUSTED_PERCENT}),
        )
        self._counter = TokenCounter()
        texts = Texts(settings.locale.language, settings.purchase)

        def notice(standing: Standing) -> str:
            return notices.notice(texts.sentence("ended", standing))

        self._meter = Meter(
            self._ledger,
            self._counter,
            settings,
            clock_ms=_clock_ms,
            new_id=lambda: str(uuid.uuid4()),
            notice=notice,
        )
        providers = Providers(settings.all_routes, settings.policy.hosts)
        self._metered = Metered(self._meter, providers, texts, settings, _clock_ms)
        self.addons = [
            Router(settings.all_routes, providers),
            Passthrough(providers, settings.policy.unknown_hosts),
            self._metered,
        ]

    async def _keep_tending(self) -> None:
        while True:
            await asyncio.sleep(TEND_EVERY_S)
            await self._tend()

    async def _tend(self) -> None:
        assert self._meter is not None
        try:
            await self._meter.tend()
        except Exception:
            log.warning("the ledger cannot be tended; it is tried again in %d s", TEND_EVERY_S, exc_info=True)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
