"""The certificate authority with which the sidecar looks into TLS (forward and transparent use)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from solaris_cli.context import Command, json_option
from solaris_cli.output import print_fields, print_json
from solaris_meter.errors import SettingsError

_TIMEOUT_S = 60


def _options(function: Command) -> Command:
    function = click.option(
        "--publish", metavar="FILE", help="Copy the certificate, without its key, there: for NODE_EXTRA_CA_CERTS."
    )(function)
    return click.option(
        "--confdir",
        metavar="FOLDER",
        envvar="MITMPROXY_CONFDIR",
        default="~/.mitmproxy",
        show_default=True,
        show_envvar=True,
        help="mitmproxy's folder.",
    )(function)


@click.group()
def ca() -> None:
    """The certificate authority that LibreChat trusts where the sidecar looks into TLS."""


@ca.command("show")
@_options
@json_option
def ca_show(confdir: str, publish: str | None, as_json: bool) -> None:
    """Where the certificate is, its fingerprint, and when it ends."""
    found = _ask("show", confdir, publish)
    _print({name: found[name] for name in ("certificate", "sha256", "not_after")}, as_json)


@ca.command("create")
@_options
@json_option
def ca_create(confdir: str, publish: str | None, as_json: bool) -> None:
    """Make the authority where there is none; repeating changes nothing."""
    _print(_ask("create", confdir, publish), as_json)


@ca.command("rotate")
@_options
@json_option
@click.confirmation_option(prompt="Clients must trust the new certificate before they can call again. Go on?")
def ca_rotate(confdir: str, publish: str | None, as_json: bool) -> None:
    """Replace the authority, keeping the old one aside. Restart the sidecar, then LibreChat."""
    _print(_ask("rotate", confdir, publish), as_json)
    if not as_json:
        click.echo("now restart the sidecar, and then LibreChat, which must trust the new one")


def _ask(action: str, confdir: str, publish: str | None) -> dict[str, Any]:
    arguments = [action, str(Path(confdir).expanduser()), *([publish] if publish else [])]
    done = subprocess.run(  # noqa: S603  (ourselves)
        [sys.executable, "-P", "-m", "solaris_meter.proxy.authority", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise SettingsError(done.stderr.strip().rpartition("\n")[2] or f"it failed with exit {done.returncode}")
    return dict(json.loads(done.stdout))


def _print(found: dict[str, Any], as_json: bool) -> None:
    print_json(found) if as_json else print_fields(found)
