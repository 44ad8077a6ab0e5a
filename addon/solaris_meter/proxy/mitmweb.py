"""What makes mitmweb a window for operators; under mitmdump there is none of it."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import argon2
from mitmproxy import contentviews, ctx, hooks, http

from solaris_meter.ledger.ledger import Ledger
from solaris_meter.proxy.commands import Commands
from solaris_meter.proxy.contentview import SolarisContentview
from solaris_meter.proxy.inspection import Inspection
from solaris_meter.proxy.retention import Retention
from solaris_meter.settings import Inspect, Settings

log = logging.getLogger(__name__)

_COLUMNS = ["icon", "path", "comment", "method", "status", "size", "time"]
_WARNED_PERCENT = 80
_SHORT = 12
_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""mitmweb checks each guess on the event loop that relays the calls, so a check must cost nothing. The hash is never
stored, and the password stands in the settings: there is nothing that a dear one would protect."""


@dataclass(frozen=True, slots=True)
class Mitmweb:
    """The parts that watch, and those with hooks."""

    inspection: Inspection
    addons: tuple[Any, ...]


def build(settings: Settings, ledger: Ledger, clock_ms: Callable[[], int]) -> Mitmweb | None:
    """Set up the window; None where there is nothing to show flows in (mitmdump)."""
    view = ctx.master.addons.get("view")
    if view is None:
        return None
    _set_options(settings.inspect)
    contentviews.add(SolarisContentview)
    ctx.master.commands.collect_commands(Commands(ledger, clock_ms))
    inspection = Inspection(_show, min(settings.alerts.thresholds, default=_WARNED_PERCENT))
    retention = Retention(
        view,
        settings.inspect.keep,
        settings.inspect.keep_seconds,
        settings.identity.key_header,
        _show,
        inspection.forget_gone,
        time.monotonic,
    )
    return Mitmweb(inspection, (retention,))


def _set_options(settings: Inspect) -> None:
    """mitmproxy's own options, where they were not set: an empty password lets it make a random one."""
    options = ctx.options
    if "web_password" not in options:  # the terminal's mitmproxy
        return
    if settings.password and not options.web_password:
        is_hash = settings.password.startswith("$")
        options.update(web_password=settings.password if is_hash else _CHEAP.hash(settings.password))
    elif options.web_password and not options.web_password.startswith("$") and len(options.web_password) < _SHORT:
        log.warning("web_password is short: who guesses it sees every prompt; use 12 characters or more")
    if options.web_columns == options.default("web_columns"):
        options.update(web_columns=_COLUMNS)


def _show(flows: Sequence[http.HTTPFlow]) -> None:
    """mitmweb shows a change that was made outside of a hook only when it is told."""
    ctx.master.addons.trigger(hooks.UpdateHook(flows))
