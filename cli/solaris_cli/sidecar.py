"""Start the other edges as programs: the sidecar, and the demo."""

import importlib.util
import os
import re
import socket
import sys
from pathlib import Path

import click

from solaris_cli.context import Context, bring_up_to_date, pass_context
from solaris_meter.errors import SettingsError

_LISTEN = re.compile(r"(?:(?P<host>[^:\[\]]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>\d{1,5})")
_DEFAULT_LISTEN = "127.0.0.1:8080"


@click.command()
@click.option("--web", is_flag=True, help="mitmweb, to look into the traffic, instead of mitmdump.")
@click.option(
    "--listen", metavar="HOST:PORT", help=f"Base-URL and forward-proxy requests alike.  [default: {_DEFAULT_LISTEN}]"
)
@click.option("--mode", "modes", multiple=True, metavar="SPEC", help="mitmproxy's own listeners, instead of --listen.")
@click.argument("mitmproxy_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- MITMPROXY ARGS]")
@pass_context
def run(
    context: Context, web: bool, listen: str | None, modes: tuple[str, ...], mitmproxy_args: tuple[str, ...]
) -> None:
    """Start the sidecar.

    \b
    solaris-cli run
    solaris-cli run --listen 0.0.0.0:8080
    solaris-cli run --web --mode regular@8080 --mode transparent@8081 -- --set web_port=9090
    """
    if listen is not None and modes:
        raise click.UsageError("--mode replaces the listener of --listen: give one of the two")
    context.settings  # noqa: B018  (what is wrong with them is better said here than by mitmproxy)
    arguments = ["mitmweb" if web else "mitmdump", "-s", _addon(), "--set", "flow_detail=0"]
    if context.config:
        arguments += ["--set", f"solaris_config={context.config.absolute()}"]
    if modes:
        arguments += [part for mode in modes for part in ("--mode", mode)]
    else:
        host, port = _address(_DEFAULT_LISTEN if listen is None else listen)
        _check_free(host, port)
        arguments += ["--listen-host", host, "--listen-port", str(port)]
    if web:
        arguments += ["--no-web-open-browser"]
    environment = dict(os.environ)
    if context.database != context.settings.ledger.database:
        environment["SOLARIS_LEDGER_DATABASE"] = context.database
    bring_up_to_date(context.open_engine())  # what is wrong with the ledger, likewise
    # Until mitmproxy listens to signals, which takes seconds, nothing has begun: to stop is to end. (As the first
    # process of a container it would not even hear SIGTERM.)
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
        f"from mitmproxy.tools.main import {arguments[0]}; {arguments[0]}()"
    )
    if context.settings.observe.log == "json":
        # Until the addon is loaded, which takes this back, mitmproxy knows text only.
        program = f"import logging; logging.getLogger('mitmproxy').setLevel('ERROR'); {program}"
    # The same process: signals and exit codes are mitmproxy's own.
    sys.stdout.flush()
    # -P: a file of the current folder must not stand in for a module.
    os.execve(sys.executable, [sys.executable, "-P", "-c", program, *arguments[1:], *mitmproxy_args], environment)


@click.command()
def demo() -> None:
    """Tell the whole story on this machine: no key, no network."""
    missing = [name for name in ("aiohttp", "anthropic", "openai") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(f"the demo needs {', '.join(missing)}: pip install 'solaris-meter[demo]'")
    from solaris_cli.demo import story

    sys.exit(story.tell())


def _addon() -> str:
    """The path of solaris_addon, found without importing it: that would load mitmproxy."""
    found = importlib.util.find_spec("solaris_addon")
    if found is None or found.origin is None:
        raise SettingsError("solaris_addon is not installed beside solaris-cli: install the package again")
    return str(Path(found.origin))


def _address(text: str) -> tuple[str, int]:
    found = _LISTEN.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 65536:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as {_DEFAULT_LISTEN}", param_hint="--listen")
    return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])


def _check_free(host: str, port: int) -> None:
    """Raises SettingsError where nothing can listen there: mitmproxy would say so only after loading everything."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError, UnicodeError) as error:  # the latter two: no host has such a name
            shown = f"[{host}]" if ":" in host else host
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(
                f"cannot listen on {shown}:{port}: {reason}; choose another address with --listen HOST:PORT"
            ) from error
