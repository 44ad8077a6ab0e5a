"""The order in which everything is looked at."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from solaris_cli.context import Context
from solaris_cli.doctor import authority, books, endpoints, librechat, running, surroundings, upkeep
from solaris_cli.doctor.finding import Finding, fault, ok
from solaris_cli.doctor.host import Host
from solaris_meter.errors import SolarisError
from solaris_meter.settings import Settings


def examine(
    context: Context, librechat_path: Path | None, sidecar: str | None, confdir: Path | None
) -> Iterator[Finding]:
    """Every check, one subject after the other; of a path or URL that is None nothing is looked at."""
    try:
        settings = context.settings
    except SolarisError as error:
        yield fault("settings", str(error), "correct that line; nothing starts until then")
        return
    yield ok("settings", str(context.config or "defaults (no solaris.toml)"))
    host = Host.read()
    yield from upkeep.examine(settings, host, sidecar)
    yield from books.examine(context, host)
    folder = confdir or authority.default_folder(host)
    has_proxy = False
    if librechat_path is not None:
        chat = librechat.read(librechat_path, host)
        if isinstance(chat, list):
            yield from chat
        else:
            has_proxy = endpoints.uses_proxy(chat)
            yield from _librechat(chat, settings, folder)
    now_ms = context.now_ms()
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    yield from authority.examine(folder, now, is_needed=confdir is not None or has_proxy)
    if sidecar is not None:
        yield from running.examine(sidecar, settings, host, now_ms / 1000)


def _librechat(chat: librechat.LibreChat, settings: Settings, folder: Path) -> Iterator[Finding]:
    yield from endpoints.examine(chat, settings)
    yield from surroundings.examine(chat, settings)
    trusted = surroundings.trusted(chat)
    if trusted is not None:
        yield from authority.compare(trusted, folder)
