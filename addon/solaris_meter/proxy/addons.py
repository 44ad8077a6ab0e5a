"""Builds the addons from the settings, and starts and stops what runs beside them."""

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from solaris_meter import __version__
from solaris_meter.chat import notices
from solaris_meter.chat.texts import Texts
from solaris_meter.errors import SolarisError
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import open_engine
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.metering.meter import Meter
from solaris_meter.metering.pricing import Pricing
from solaris_meter.metering.providers import Providers
from solaris_meter.metering.tokens import TokenCounter
from solaris_meter.models import Standing
from solaris_meter.notify.delivery import Delivery
from solaris_meter.notify.outlets import Outlets
from solaris_meter.proxy.metered import Metered
from solaris_meter.proxy.passthrough import Passthrough
from solaris_meter.proxy.replies import Replies
from solaris_meter.proxy.route import Router
from solaris_meter.proxy.sessions import Sessions
from solaris_meter.proxy.watch import Watch
from solaris_meter.settings import Settings, find_config, load_settings, without_effect

log = logging.getLogger(__name__)

TEND_EVERY_S = 20.0
CLOSING_S = 2.0
"""How long settlements that have begun may take after the time of grace."""
EXHAUSTED_PERCENT = 100


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is built from the settings."""

    ledger: Ledger
    counter: TokenCounter
    meter: Meter
    providers: Providers
    metered: Metered
    sessions: Sessions
    delivery: Delivery | None
    grace_s: float


class _Closed:
    """Stands in for everything while the settings cannot be used."""

    def http_connect(self, flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(503, b"Solaris Meter is not configured\n")

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(503, b"Solaris Meter is not configured\n")


class Solaris:
    """The addon that mitmdump and mitmweb load. Its option is `solaris_config`, the path of solaris.toml."""

    def __init__(self) -> None:
        self.addons: list[Any] = []
        self._parts: _Parts | None = None
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
        if "solaris_config" not in updated or self._parts is not None:
            return
        try:
            config = find_config(ctx.options.solaris_config)
            settings = load_settings(config)
            self._parts = _build(settings)
        except SolarisError as error:
            # mitmproxy ends the start at this record; until it has, nothing may pass.
            log.error("%s", error)
            self.addons = [_Closed()]
            return
        self.addons = [
            Router(settings.all_routes, self._parts.providers),
            Passthrough(self._parts.providers, settings.policy.unknown_hosts),
            self._parts.metered,
            self._parts.sessions,
        ]
        source = config or "defaults (no solaris.toml)"
        log.info("Solaris Meter %s: settings %s, ledger %s", __version__, source, settings.ledger.database)
        for name in without_effect(settings):
            log.warning("the setting %s is not built yet: it has no effect", name)
        if not settings.identity.key:
            log.warning("identity.key is empty: whoever reaches the sidecar can call as anybody")

    async def running(self) -> None:
        # mitmproxy ends the start at any record of level ERROR; until `start`, every call is held back.
        misspelt = sorted(name for name in ctx.options.deferred if name.startswith("solaris"))
        if misspelt:
            log.error("unknown option %s: there is solaris_config", ", ".join(misspelt))
            return
        if self._parts is None:
            log.error("Solaris Meter is not configured: it stops")
            return
        try:
            self._parts.ledger.open()
        except SolarisError as error:
            log.error("%s", error)
            return
        self._parts.counter.start()
        if self._parts.delivery is not None:
            self._parts.delivery.start()
        await _tend(self._parts.meter)
        # A little later: until its own start is over, mitmproxy would take a call's failure for a failure to start.
        asyncio.get_running_loop().call_later(0.05, self._parts.metered.start)
        self._tending = asyncio.create_task(_keep_tending(self._parts.meter))

    async def done(self) -> None:
        parts = self._parts
        if parts is None:
            return
        ctx.options.update(server=False)
        parts.meter.stop()
        if parts.meter.running:
            log.info("stopping: up to %g s for %d running calls", parts.grace_s, parts.meter.running)
        await _wait_for_calls(parts.meter, parts.grace_s)
        await parts.metered.settle_all()
        await parts.meter.settle_deferred()
        await _wait_for_calls(parts.meter, CLOSING_S)
        if self._tending is not None:
            self._tending.cancel()
            with suppress(asyncio.CancelledError):
                await self._tending
        parts.counter.close()
        if parts.delivery is not None:
            await asyncio.to_thread(parts.delivery.stop)
        await asyncio.to_thread(parts.ledger.close)


def _build(settings: Settings) -> _Parts:
    accounts, channels = settings.accounts, settings.alerts.parsed_channels
    engine = open_engine(settings.ledger.database)
    ledger = Ledger(
        engine,
        owner=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        new=NewAccount(accounts.default_plan, accounts.timezone, accounts.auto_create),
        thresholds=sorted({*settings.alerts.thresholds, EXHAUSTED_PERCENT}),
        channels=channels,
    )
    counter = TokenCounter()
    texts = Texts.from_settings(settings)

    def notice(standing: Standing) -> str:
        return notices.notice(texts.sentence("ended", standing))

    def warning(standing: Standing) -> str:
        return notices.notice(texts.notice(standing))

    watch = Watch(())
    meter = Meter(
        ledger,
        counter,
        Pricing(settings.prices),
        settings,
        clock_ms=_clock_ms,
        new_id=lambda: str(uuid.uuid4()),
        notice=notice,
        warning=warning,
        ended=watch.ended,
    )
    providers = Providers(settings.all_routes, settings.policy.hosts)
    sessions = Sessions(meter, texts, watch, settings, _clock_ms)
    replies = Replies(texts, settings.denial, _clock_ms)
    metered = Metered(meter, sessions, providers, replies, watch, settings, _clock_ms)
    delivery = None
    if channels:
        outlets = Outlets(channels)
        outlets.check()
        delivery = Delivery(engine, ledger.owner, outlets, texts, _clock_ms, random.random)
    return _Parts(ledger, counter, meter, providers, metered, sessions, delivery, settings.shutdown.grace)


async def _wait_for_calls(meter: Meter, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while meter.running and time.monotonic() < deadline:  # noqa: ASYNC110  (calls end in many places)
        await asyncio.sleep(0.05)


async def _keep_tending(meter: Meter) -> None:
    while True:
        await asyncio.sleep(TEND_EVERY_S)
        await _tend(meter)


async def _tend(meter: Meter) -> None:
    try:
        await meter.tend()
    except Exception:
        log.warning("the ledger cannot be tended; it is tried again in %d s", TEND_EVERY_S, exc_info=True)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
