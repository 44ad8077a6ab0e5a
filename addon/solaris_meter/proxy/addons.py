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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from solaris_meter import __version__
from solaris_meter.chat import notices
from solaris_meter.chat.texts import Texts
from solaris_meter.errors import SettingsError, SolarisError
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import open_engine, shown
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.metering.meter import Meter
from solaris_meter.metering.pricing import Pricing
from solaris_meter.metering.providers import Providers
from solaris_meter.metering.tokens import TokenCounter
from solaris_meter.models import Standing
from solaris_meter.notify.delivery import Delivery
from solaris_meter.notify.outlets import Outlets
from solaris_meter.proxy import json_log, mitmweb
from solaris_meter.proxy.json_log import CallLog, JsonLog, Lines
from solaris_meter.proxy.metered import Metered
from solaris_meter.proxy.metrics import Metrics
from solaris_meter.proxy.mitmweb import Mitmweb
from solaris_meter.proxy.observatory import Observatory
from solaris_meter.proxy.passthrough import Passthrough
from solaris_meter.proxy.replies import Replies
from solaris_meter.proxy.route import Router
from solaris_meter.proxy.sessions import Sessions
from solaris_meter.proxy.watch import Watch, Watcher
from solaris_meter.settings import Observe, Settings, find_config, load_settings, without_effect

if TYPE_CHECKING:
    from solaris_meter.proxy.tracing import Tracing

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
    mitmweb: Mitmweb | None
    metrics: Metrics
    observatory: Observatory
    tracing: "Tracing | None"
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
            self._parts = _build(settings, _open_log(settings))
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
            *(self._parts.mitmweb.addons if self._parts.mitmweb else ()),
        ]
        source = config or "defaults (no solaris.toml)"
        log.info("Solaris Meter %s: settings %s, ledger %s", __version__, source, shown(settings.ledger.database))
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
        self._parts.observatory.open()
        await _tend(self._parts)
        # A little later: until its own start is over, mitmproxy would take a call's failure for a failure to start.
        asyncio.get_running_loop().call_later(0.05, _serve, self._parts)
        self._tending = asyncio.create_task(_keep_tending(self._parts))

    async def done(self) -> None:
        parts = self._parts
        if parts is None:
            return
        ctx.options.update(server=False)
        parts.observatory.stopping()
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
        if parts.tracing is not None:
            await asyncio.to_thread(parts.tracing.close)
        await parts.observatory.close()


def _open_log(settings: Settings) -> Lines | None:
    """Have the log written as the settings say; where it is JSON, what the lines of calls go to."""
    if settings.observe.log != "json":
        return None
    lines = json_log.open_lines(
        (
            settings.identity.key,
            settings.web.secret,
            settings.web.admin_password,
            settings.inspect.password,
            *settings.alerts.channels,
        )
    )
    levels = {"error": logging.ERROR, "debug": logging.DEBUG}  # mitmproxy's -q and -v
    json_log.install(JsonLog(lines, levels.get(ctx.options.termlog_verbosity, logging.INFO)))
    logging.getLogger("mitmproxy").setLevel(logging.NOTSET)  # solaris-cli has kept it quiet until here
    termlog = ctx.master.addons.get("termlog")
    if termlog is not None:
        termlog.uninstall()  # it would write everything once more, as text
    if "flow_detail" in ctx.options:
        ctx.options.update(flow_detail=0)  # mitmdump would print each URL, with its query
    return lines


def _build(settings: Settings, lines: Lines | None) -> _Parts:
    accounts, channels = settings.accounts, settings.alerts.parsed_channels
    journal = Path(settings.ledger.journal) if settings.ledger.journal else None
    engine = open_engine(settings.ledger.database, journal=journal)
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

    window = mitmweb.build(settings, ledger, _clock_ms)
    metrics = Metrics(users=settings.observe.users)
    watchers: list[Watcher] = [metrics]
    if window is not None:
        watchers.append(window.inspection)
    if lines is not None:
        watchers.append(CallLog(lines))
    tracing = _open_tracing(settings.observe)
    if tracing is not None:
        watchers.append(tracing)
    watch = Watch(watchers)
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
    observatory = Observatory(
        settings.observe,
        metrics,
        meter,
        ledger,
        engine,
        counter,
        metered.unmetered,
        _clock_ms,
        serves_without_ledger=settings.ledger.on_error == "allow",
    )
    return _Parts(
        ledger,
        counter,
        meter,
        providers,
        metered,
        sessions,
        delivery,
        window,
        metrics,
        observatory,
        tracing,
        settings.shutdown.grace,
    )


def _open_tracing(settings: Observe) -> "Tracing | None":
    """Raises SettingsError where spans are wanted and the packages for them are missing."""
    if not settings.otlp_endpoint:
        return None
    try:
        from solaris_meter.proxy.tracing import Tracing
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"observe.otlp_endpoint: spans need the package {error.name}: pip install 'solaris-meter[otel]'"
        ) from error
    return Tracing(settings.otlp_endpoint, users=settings.users)


def _serve(parts: _Parts) -> None:
    parts.metered.start()
    parts.observatory.started()


async def _wait_for_calls(meter: Meter, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while meter.running and time.monotonic() < deadline:  # noqa: ASYNC110  (calls end in many places)
        await asyncio.sleep(0.05)


async def _keep_tending(parts: _Parts) -> None:
    while True:
        await asyncio.sleep(TEND_EVERY_S)
        await _tend(parts)


async def _tend(parts: _Parts) -> None:
    try:
        await parts.meter.tend()
    except Exception:
        parts.metrics.tending_failed()
        log.warning("the ledger cannot be tended; it is tried again in %d s", TEND_EVERY_S, exc_info=True)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
