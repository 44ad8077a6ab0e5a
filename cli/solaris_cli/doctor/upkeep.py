"""The settings: key, routes, where to buy, addresses, the addon itself."""

import ast
import importlib.util
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from solaris_cli.doctor.finding import Finding, fault, ok, warning
from solaris_cli.doctor.host import Host
from solaris_meter.settings import Settings, without_effect

MIN_KEY_LENGTH = 16
DEFAULT_PORT = 8080
WORLD = {"0.0.0.0", "::", ""}  # noqa: S104  (it is looked for)
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_ADDON = "from solaris_meter.proxy.addons import Solaris\naddons = [Solaris()]"


def examine(settings: Settings, host: Host, sidecar: str | None) -> Iterator[Finding]:
    """What can be seen in the settings alone; `sidecar` is the URL of a running one."""
    yield from _key(settings)
    yield from _anonymous(settings)
    for name in without_effect(settings):
        yield warning(name, "is not built yet in this version", "it has no effect; remove it, or upgrade")
    if not settings.purchase.email and not settings.purchase.url:
        yield warning(
            "purchase",
            "neither e-mail nor url: people who used up their tokens are not told where to buy",
            "set purchase.email or purchase.url",
        )
    elif "example.com" in settings.purchase.email + settings.purchase.url:
        yield warning("purchase", "is the example's: people would write to example.com", "set your own")
    yield from _observe(settings, host)
    yield from _routes(settings, sidecar)
    yield from _addon()


def _key(settings: Settings) -> Iterator[Finding]:
    key = settings.identity.key
    if not key:
        yield warning(
            "identity.key",
            "is empty: whoever reaches the sidecar can call as anybody",
            "set it here, and the same in the headers of librechat.yaml",
        )
    elif key.startswith("PUT-"):
        yield fault("identity.key", "is the example's, which everybody can read", "openssl rand -hex 32")
    elif len(key) < MIN_KEY_LENGTH:
        yield warning("identity.key", "is short enough to be guessed", "openssl rand -hex 32")
    else:
        yield ok("identity.key", "is set")


def _anonymous(settings: Settings) -> Iterator[Finding]:
    user = settings.identity.anonymous_user
    if user is not None:
        yield warning(
            "identity.anonymous",
            f"every call without an identity is charged to the one account {user!r}",
            'set it to "deny" once every endpoint in librechat.yaml sends the headers; keep it only for what cannot '
            "(Bedrock, pictures, speech)",
        )


def _observe(settings: Settings, host: Host) -> Iterator[Finding]:
    address = settings.observe.listen.rpartition(":")[0].strip("[]")
    if settings.observe.listen and address in WORLD and not host.in_container:  # there it is the network's business
        yield warning(
            "observe.listen",
            f"{settings.observe.listen}: whoever reaches this machine can read the metrics",
            "listen on 127.0.0.1:9464, or on a private address",
        )


def _routes(settings: Settings, sidecar: str | None) -> Iterator[Finding]:
    wrong = list(_wrong_routes(settings, sidecar))
    yield from wrong
    if not wrong:
        yield ok("routes", ", ".join(sorted(settings.all_routes)))


def _wrong_routes(settings: Settings, sidecar: str | None) -> Iterator[Finding]:
    own = urlsplit(sidecar or f"http://127.0.0.1:{DEFAULT_PORT}")
    own_hosts = _LOCAL | {own.hostname} if own.hostname in _LOCAL else {own.hostname}
    for name, url in settings.all_routes.items():
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.hostname in own_hosts and port == (own.port or (443 if own.scheme == "https" else 80)):
            yield fault(
                f"routes.{name}",
                f"{url} is the sidecar itself: each call would come back without end",
                "name the address of the provider behind it",
            )
        elif parts.scheme == "http" and _is_public(parts.hostname or ""):
            yield warning(
                f"routes.{name}",
                f"{url}: API keys and prompts cross the internet in the clear",
                "write https://",
            )


def _is_public(host: str) -> bool:
    """Whether a host is beyond this network, as far as its name tells."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".lan", ".home.arpa", ".localhost"))


def _addon() -> Iterator[Finding]:
    found = importlib.util.find_spec("solaris_addon")
    if found is None or found.origin is None:
        yield fault("solaris_addon", "is not installed: nothing would be metered", "install the package again")
        return
    path = Path(found.origin)
    statements = ast.parse(path.read_text("utf-8")).body[1:]
    if ast.dump(ast.Module(statements, [])) != ast.dump(ast.parse(_ADDON)):
        yield fault(
            "solaris_addon",
            f"{path} is not the one of this version: a file mounted over it, or an edited one, decides what is metered",
            "remove the mount, or install the package again",
        )
