"""`solaris-cli doctor`: is everything as it must be, and if not, what to do."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from solaris_cli.context import Context, json_option, pass_context
from solaris_cli.doctor import authority, books, endpoints, librechat, running, surroundings, upkeep
from solaris_cli.doctor.finding import Finding, fault, ok
from solaris_cli.doctor.host import Host
from solaris_cli.output import print_json
from solaris_meter.errors import SolarisError
from solaris_meter.settings import Settings


@click.command()
@click.option(
    "--librechat",
    "librechat_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="LibreChat's folder, or its librechat.yaml: its .env and compose files are read, too.",
)
@click.option("--sidecar", metavar="URL", help="A running sidecar, to ask for what it must refuse; costs no tokens.")
@click.option(
    "--ca",
    "confdir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="mitmproxy's folder (confdir), with its CA and config.yaml.  [default: ~/.mitmproxy]",
)
@json_option
@pass_context
def doctor(
    context: Context, librechat_path: Path | None, sidecar: str | None, confdir: Path | None, as_json: bool
) -> None:
    """Check settings, database, clock, CA and LibreChat, and say what to fix. Exit 1 where something is broken.

    \b
    solaris-cli doctor --librechat /srv/librechat --sidecar http://127.0.0.1:8080
    """
    findings = list(_examine(context, librechat_path, sidecar, confdir))
    broken = any(finding.level == "fault" for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.level:8} {finding.subject}: {finding.text}")
            if finding.remedy:
                click.echo(f"         → {finding.remedy}")
    if broken:
        sys.exit(1)


def _examine(
    context: Context, librechat_path: Path | None, sidecar: str | None, confdir: Path | None
) -> Iterator[Finding]:
    try:
        settings = context.settings
    except SolarisError as error:
        yield fault("settings", str(error), "correct that line; nothing starts until then")
        return
    yield ok("settings", str(context.config or "defaults (no solaris.toml)"))
    host = Host.read()
    yield from upkeep.examine(settings, sidecar)
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
