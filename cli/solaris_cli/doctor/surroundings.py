"""LibreChat besides its endpoints: the proxy, its own balance, and calls that go past the sidecar."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from solaris_cli.doctor.endpoints import uses_proxy
from solaris_cli.doctor.finding import Finding, fault, warning
from solaris_cli.doctor.librechat import LibreChat
from solaris_meter.settings import Settings

_TRUE = {"true", "1", "yes"}
_BUILT_IN = {"openai", "anthropic", "google", "bedrock"}
_PICTURES = (
    "DALLE_API_KEY",
    "DALLE3_API_KEY",
    "DALLE2_API_KEY",
    "IMAGE_GEN_OAI_API_KEY",
    "FLUX_API_KEY",
    "SD_WEBUI_URL",
)


def examine(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    if "version" not in chat.config:
        yield fault(f"{chat.file}: version", "is missing: LibreChat takes none of the file", "version: 1.3.0")
    yield from _proxy(chat, settings)
    yield from _balance(chat)
    yield from _leaks(chat, settings)


def trusted(chat: LibreChat) -> Path | None:
    """The file of certificates that LibreChat trusts besides the usual ones, as it sees it."""
    named = chat.variable("NODE_EXTRA_CA_CERTS")
    return Path(named) if named else None


def _proxy(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    if not uses_proxy(chat):
        return
    if not chat.variable("NODE_EXTRA_CA_CERTS"):
        yield fault(
            "NODE_EXTRA_CA_CERTS",
            "is not set, although the sidecar looks into TLS: LibreChat does not trust its certificate, and every "
            "call fails",
            "in LibreChat's compose file: NODE_EXTRA_CA_CERTS=/ca/mitmproxy-ca-cert.pem, with that file on /ca",
        )
    elif "NODE_EXTRA_CA_CERTS" in chat.dotenv and "NODE_EXTRA_CA_CERTS" not in chat.real:
        yield warning(
            "NODE_EXTRA_CA_CERTS",
            "stands in .env alone: node reads it before LibreChat loads that file",
            "set it in the compose file, under environment",
        )
    hosts = {urlsplit(url).hostname or "" for url in settings.all_routes.values()}
    for name in ("NO_PROXY", "no_proxy"):
        listed = {entry.strip().lstrip("*.") for entry in chat.variable(name).split(",")} - {""}
        passed = [host for host in sorted(hosts) if any(host == one or host.endswith(f".{one}") for one in listed)]
        if "*" in chat.variable(name).replace("*.", "").split(","):
            passed = sorted(hosts)
        if passed:
            yield fault(
                name,
                f"lists {', '.join(passed[:3])}: LibreChat asks them past the sidecar, unmetered",
                f"take the providers out of {name}; keep the names of the compose network",
            )


def _balance(chat: LibreChat) -> Iterator[Finding]:
    remedy = "balance: { enabled: false } in librechat.yaml"
    if chat.table("balance").get("enabled") is True:
        yield fault(
            "balance.enabled",
            "is on: LibreChat keeps a second, other balance, and refuses people who have tokens here",
            remedy,
        )
    if chat.variable("CHECK_BALANCE").lower() in _TRUE:
        yield fault("CHECK_BALANCE", "is on: LibreChat keeps a second, other balance", f"remove it; {remedy}")


def _leaks(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    provider = str(chat.table("summarization").get("provider", ""))
    if provider.lower() in _BUILT_IN and not chat.variable(f"{provider.upper()}_BASE_URL"):
        yield warning(
            "summarization.provider",
            f"{provider}: from another endpoint, summaries go to the vendor directly, without identity and unmetered",
            "remove it: then summaries are made by the endpoint of the chat",
        )
    for number, endpoint in enumerate(chat.entries("endpoints", "custom")):
        title = str(endpoint.get("titleEndpoint", ""))
        if title.lower() in {"bedrock", "assistants"}:
            where = f"endpoints.custom[{endpoint.get('name', number)}].titleEndpoint"
            yield warning(where, f"{title} sends no identity: titles are refused", "name an endpoint with headers")
    if settings.identity.anonymous_user is not None:
        return
    filtered = chat.config.get("filteredTools")
    tools = [name for name in _PICTURES if chat.variable(name)]
    if tools and not filtered:
        yield warning(
            tools[0],
            "LibreChat's picture tools say nobody's name: through the sidecar they are refused, past it they are free",
            'name who pays (identity.anonymous = "account:pictures"), or switch them off with filteredTools',
        )
    for kind in ("stt", "tts"):
        if chat.table("speech", kind):
            yield warning(
                f"speech.{kind}",
                "LibreChat sends speech without identity: through the sidecar it is refused, past it it is free",
                'name who pays (identity.anonymous = "account:speech"), or remove it',
            )
