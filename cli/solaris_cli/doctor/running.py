"""A running sidecar: does it answer, does it want the same key, does its clock agree, and who can reach it?"""

import http.client
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from solaris_cli.doctor.finding import Finding, fault, ok, warning
from solaris_cli.doctor.host import Host
from solaris_cli.doctor.upkeep import WORLD
from solaris_meter.settings import Settings

MAX_SKEW_S = 60
_TIMEOUT_S = 10
_WEB_PORT = 8081
_UNREADABLE = b"{"
"""A body that no sidecar passes on, so that asking reaches no provider and costs nothing."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    denied: str
    date: str


def examine(url: str, settings: Settings, host: Host, now_s: float) -> Iterator[Finding]:
    """Ask the sidecar at `url` for what it must refuse, with and without the key."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield fault("--sidecar", f"{url!r} is not a URL", "write one like http://127.0.0.1:8080")
        return
    try:
        without = _ask(url, settings, key=None)
        with_key = _ask(url, settings, key=settings.identity.key or None)
    except (OSError, http.client.HTTPException) as error:
        yield fault(f"sidecar {url}", f"does not answer: {error}", "start it: solaris-cli run; or correct --sidecar")
        return
    yield from _answers(url, settings, without, with_key)
    yield from _clock(with_key, now_s)
    yield from _reach(parts.hostname, parts.port or 80, host)


def _answers(url: str, settings: Settings, without: _Answer, with_key: _Answer) -> Iterator[Finding]:
    subject = f"sidecar {url}"
    key = settings.identity.key
    if not with_key.denied:
        yield fault(
            subject,
            f"something answers there ({with_key.status}), but not this sidecar: it says no X-Solaris-Denied",
            "correct --sidecar, or the port: another program may listen there, or mitmproxy without the addon",
        )
    elif key and with_key.denied == "identity_refused":
        yield fault(
            subject,
            "refuses the key of these settings: it runs with another identity.key",
            "start it again with these settings, and give LibreChat the same key",
        )
    elif with_key.denied == "ledger_unavailable":
        yield fault(subject, "has no ledger", "its log says why")
    elif key and without.status != http.client.UNAUTHORIZED:
        yield fault(
            subject,
            f"asks for no key ({without.status}), although identity.key is set here: anybody can call as anybody",
            "start it again with these settings (SOLARIS_CONFIG, or --config)",
        )
    else:
        yield ok(subject, "refuses whom it must" if key else "answers, and asks for no key")


def _clock(answer: _Answer, now_s: float) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.date).timestamp()
    except ValueError:
        return  # it does not say
    skew = round(theirs - now_s)
    if abs(skew) > MAX_SKEW_S:
        yield fault(
            "clock",
            f"the sidecar's clock is {abs(skew):,} s {'ahead of' if skew > 0 else 'behind'} this machine's",
            "set both clocks (timedatectl set-ntp true): periods and expiries are cut by them",
        )


def _reach(name: str, port: int, host: Host) -> Iterator[Finding]:
    """Who else can reach the sidecar, if it runs on this machine."""
    try:
        is_here = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_here = name == "localhost"
    if not is_here or host.in_container:
        return
    for address, listening in sorted(host.listeners):
        if address in WORLD and listening == port:
            yield warning(
                f"port {port}",
                f"the sidecar listens on every address ({address}): whoever reaches this machine reaches it",
                "listen on 127.0.0.1 or on the network of LibreChat alone: solaris-cli run --listen HOST:PORT; in "
                'compose use expose, or ports: ["127.0.0.1:8080:8080"]',
            )
        if address in WORLD and listening == _WEB_PORT:
            yield warning(
                f"port {_WEB_PORT}",
                f"mitmweb's port is open on every address ({address}): its password shows API keys and prompts",
                "start it with --web-host 127.0.0.1, and reach it through ssh -L 8081:127.0.0.1:8081",
            )


def _ask(url: str, settings: Settings, key: str | None) -> _Answer:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    assert parts.hostname is not None
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    headers = {"content-type": "application/json"} | ({settings.identity.key_header: key} if key else {})
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/openai/v1/chat/completions", _UNREADABLE, headers)
        answer = connection.getresponse()
        answer.read()
        return _Answer(answer.status, answer.getheader("x-solaris-denied", ""), answer.getheader("date", ""))
    finally:
        connection.close()
