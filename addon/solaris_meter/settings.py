"""Settings: `solaris.toml`, each key overridable by the environment as `SOLARIS_<TABLE>_<KEY>`.

Everything has a default that works on one machine with SQLite. An unknown key, a wrong type or an impossible value
raises SettingsError with the key's name. In an environment variable a list is written with commas; with `_FILE` behind
its name it holds the path of a file that has the value (a Docker secret), a list with one item a line.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from solaris_meter.channels import Channel, parse_channel
from solaris_meter.errors import SettingsError
from solaris_meter.models import Overdraft

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Percent = Annotated[int, Meta(ge=1, le=100)]
_LISTEN = re.compile(r"(?:(?P<host>[^:\[\]\s]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>\d{1,5})")

DEFAULT_ROUTES = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "mistral": "https://api.mistral.ai",
    "groq": "https://api.groq.com",
    "deepseek": "https://api.deepseek.com",
    "xai": "https://api.x.ai",
    "openrouter": "https://openrouter.ai",
    "perplexity": "https://api.perplexity.ai",
    "cohere": "https://api.cohere.com",
    "together": "https://api.together.xyz",
    "fireworks": "https://api.fireworks.ai",
    "moonshot": "https://api.moonshot.ai",
}
"""First path segment of a base URL → upstream. `[routes]` adds to these and overrides them."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Ledger(_Table, frozen=True, kw_only=True):
    """`on_error`: what happens to calls while the ledger is down; `allow` journals them and bills them later.

    `journal`: the file for what the database cannot take; empty: beside a SQLite file, else
    ./solaris-unsettled.jsonl. It must outlive the process.
    """

    database: str = "sqlite:///solaris.db"
    on_error: Literal["deny", "allow"] = "deny"
    journal: str = ""


class Identity(_Table, frozen=True, kw_only=True):
    """How the caller is recognised. `key`: when set, a metered call with a wrong or missing key header is a 401."""

    user_header: HeaderName = "X-Solaris-User"
    email_header: HeaderName = "X-Solaris-Email"
    conversation_header: HeaderName = "X-Solaris-Conversation"
    key_header: HeaderName = "X-Solaris-Key"
    key: Annotated[str, Meta(pattern=r"^[!-~]*$")] = ""
    body_fallback: bool = True
    anonymous: Annotated[str, Meta(pattern=r"^(deny|account:.+)$")] = "deny"

    @property
    def anonymous_user(self) -> str | None:
        """The account that calls without an identity are charged to; None: they are denied."""
        return self.anonymous.removeprefix("account:") if self.anonymous != "deny" else None


class Accounts(_Table, frozen=True, kw_only=True):
    """How accounts come to be at first sight. `timezone` cuts their periods."""

    auto_create: bool = True
    default_plan: str = "basico"
    timezone: str = "America/Sao_Paulo"


class Admission(_Table, frozen=True, kw_only=True):
    """`slice`: output tokens reserved at a time. `admission_wait`: seconds a call waits for others to settle."""

    slice: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    overdraft: Overdraft = "soft"
    admission_wait: Annotated[float, Meta(ge=0, le=3600)] = 30.0


class Metering(_Table, frozen=True, kw_only=True):
    """`audit_sample`: the share (0 to 1) of reported calls that LiteLLM counts as well, for `usage --accuracy`."""

    audit_sample: Annotated[float, Meta(ge=0, le=1)] = 0.01


class Price(_Table, frozen=True, kw_only=True):
    """What a model costs in USD: per million tokens, per picture, per second of sound. None: as in LiteLLM's map.

    Of a model that LiteLLM does not know either, cached input and cache writes cost as `input`; what it used besides
    and has no price makes the price of the call unknown.
    """

    input: Annotated[float, Meta(ge=0)] | None = None
    cached_input: Annotated[float, Meta(ge=0)] | None = None
    cache_write: Annotated[float, Meta(ge=0)] | None = None
    output: Annotated[float, Meta(ge=0)] | None = None
    image: Annotated[float, Meta(ge=0)] | None = None
    second: Annotated[float, Meta(ge=0)] | None = None


class Alerts(_Table, frozen=True, kw_only=True):
    """`thresholds`: percentages of the limit whose crossing is recorded, once per period. `channels`: Apprise URLs."""

    thresholds: tuple[Percent, ...] = (80, 95)
    in_chat: bool = True
    channels: tuple[str, ...] = ()

    @property
    def parsed_channels(self) -> tuple[Channel, ...]:
        """The channels, each once."""
        return tuple({channel.id: channel for channel in map(parse_channel, self.channels)}.values())


class Denial(_Table, frozen=True, kw_only=True):
    """How a refusal for lack of tokens is told: with the HTTP status 429 or 402, or, where a person reads along (a
    streamed chat), as an answer of the assistant; everything else is a 429 then."""

    mode: Literal["http_429", "http_402", "assistant_message"] = "http_429"


class Chat(_Table, frozen=True, kw_only=True):
    """Messages that ask for the balance."""

    commands: tuple[str, ...] = ("/saldo", "!saldo", "/balance")


class Purchase(_Table, frozen=True, kw_only=True):
    """Where a person buys more tokens."""

    email: str = ""
    url: str = ""


class Locale(_Table, frozen=True, kw_only=True):
    """The language of what people read; `messages` names a TOML file whose texts replace single ones of ours, relative
    to where the sidecar starts."""

    language: Literal["pt-BR", "en"] = "pt-BR"
    messages: str = ""


class Policy(_Table, frozen=True, kw_only=True):
    """What to do beyond the known: `hosts` adds hosts to meter."""

    hosts: tuple[str, ...] = ()
    unknown_hosts: Literal["pass", "meter", "deny"] = "pass"
    unknown_endpoints: Literal["meter", "pass", "deny"] = "meter"


class Web(_Table, frozen=True, kw_only=True):
    """The usage page and the console."""

    base_url: str = ""
    secret: str = ""
    admin_password: str = ""


class Observe(_Table, frozen=True, kw_only=True):
    """Where metrics and health are served (empty: nowhere), and in which form the log is written.

    `users`: metrics and spans say which user a call was of. `otlp_endpoint`: the base URL of an OpenTelemetry collector
    (OTLP over HTTP) that gets a span for each call; empty: nobody does.
    """

    listen: str = "127.0.0.1:9464"
    log: Literal["text", "json"] = "text"
    users: bool = False
    otlp_endpoint: str = ""

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`; None: nothing is served. Raises ValueError."""
        if not self.listen:
            return None
        found = _LISTEN.fullmatch(self.listen)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ValueError(f"{self.listen!r} is not HOST:PORT, such as 127.0.0.1:9464 (empty: nothing is served)")
        return (found["host"] or "127.0.0.1").strip("[]"), int(found["port"])


class Inspect(_Table, frozen=True, kw_only=True):
    """What mitmweb keeps for operators: at most so many finished calls, none older than so many seconds.

    `password` of mitmweb, or its argon2 hash; empty: a random one, which mitmweb prints when it starts.
    """

    keep: Annotated[int, Meta(ge=1, le=100_000)] = 500
    keep_seconds: Annotated[int, Meta(ge=1)] = 3600
    password: Annotated[str, Meta(pattern=r"^(\$argon2.+|[^$\s].{10,}\S)?$")] = ""


class Shutdown(_Table, frozen=True, kw_only=True):
    """`grace`: seconds that running answers get to end in after SIGTERM; what still runs then is settled as it is.

    Docker kills after 10 s unless its `stop_grace_period` is longer.
    """

    grace: Annotated[float, Meta(ge=0, le=3600)] = 7.0


class Settings(_Table, frozen=True, kw_only=True):
    """All settings, one attribute per table."""

    ledger: Ledger = Ledger()
    identity: Identity = Identity()
    accounts: Accounts = Accounts()
    admission: Admission = Admission()
    metering: Metering = Metering()
    alerts: Alerts = Alerts()
    denial: Denial = Denial()
    chat: Chat = Chat()
    purchase: Purchase = Purchase()
    locale: Locale = Locale()
    routes: dict[str, str] = {}
    prices: dict[str, Price] = {}
    policy: Policy = Policy()
    web: Web = Web()
    observe: Observe = Observe()
    inspect: Inspect = Inspect()
    shutdown: Shutdown = Shutdown()

    @property
    def all_routes(self) -> dict[str, str]:
        """The default routes with those of `[routes]` over them."""
        return DEFAULT_ROUTES | self.routes


NOT_BUILT_YET = ("web",)
"""Keys of the design that are read but change nothing in this version; `without_effect` reports the ones in use."""

_FILE = "_FILE"
_SPECIAL = {"SOLARIS_CONFIG"}  # the path of the settings file
_SERVICE_LINK = re.compile(r"SOLARIS_(SERVICE_|PORT)")  # Kubernetes sets these for a service named solaris


def find_config(explicit: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file: the one named, else `SOLARIS_CONFIG`, else `solaris.toml` here, else none."""
    named = explicit or environ.get("SOLARIS_CONFIG")
    if named:
        return Path(named)
    here = Path("solaris.toml")
    return here if here.exists() else None


def load_settings(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings file (None: defaults) and the environment. Raises SettingsError."""
    tables = _read(path) if path else {}
    where = str(path) if path else "the default settings"
    settings = _convert(tables, where, strict=True)
    overrides = _from_environment(environ)
    if overrides:
        merged = msgspec.to_builtins(settings)
        for table, values in overrides.items():
            merged[table] |= values
        settings = _convert(merged, "the environment (SOLARIS_<TABLE>_<KEY>)", strict=False)
        where = f"the environment, or {where}"
    _check(settings, where)
    return settings


def without_effect(settings: Settings) -> list[str]:
    """The keys that were changed from their default although this version does nothing with them."""
    default = Settings()
    found = []
    for name in NOT_BUILT_YET:
        table, _, key = name.partition(".")
        mine, usual = getattr(settings, table), getattr(default, table)
        if (getattr(mine, key) != getattr(usual, key)) if key else (mine != usual):
            found.append(name)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}; name a readable file with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error


def _convert(tables: dict[str, Any], where: str, *, strict: bool) -> Settings:
    routes = tables.get("routes")
    for name, url in routes.items() if isinstance(routes, dict) else ():
        if not isinstance(url, str):
            raise SettingsError(f"{where}: routes.{name}: a URL is expected, not {url!r}")
    try:
        return msgspec.convert(tables, Settings, strict=strict)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {_explain(str(error))}") from error


def _explain(message: str) -> str:
    """msgspec's message with the key as it stands in the file, and for an unknown key the ones there are."""
    what, _, place = message.partition(" - at `$")
    key = re.sub(r"\[\d+\]", "", place.rstrip("`")).lstrip(".")
    unknown = re.search(r"unknown field `(.+?)`", what)
    if unknown:
        full = f"{key}.{unknown[1]}" if key else unknown[1]
        table = getattr(Settings(), key) if key else Settings()
        return f"unknown key {full!r}; there are {', '.join(table.__struct_fields__)}"
    if key == "identity.key":
        return "identity.key: it travels in a header: use ASCII without spaces, such as 'openssl rand -hex 32' prints"
    if key == "inspect.password":
        return (
            "inspect.password: it opens all traffic: use 12 characters or more, such as 'openssl rand -hex 16' prints"
        )
    if "enum value" in what:
        table, _, name = key.partition(".")
        field = next(field for field in msgspec.structs.fields(getattr(Settings(), table)) if field.name == name)
        return f"{key}: {what.rpartition(' ')[2]} is not one of {', '.join(map(repr, get_args(field.type)))}"
    return f"{key}: {what}" if key else what


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    default = Settings()
    for name, text in environ.items():
        if not name.startswith("SOLARIS_") or name in _SPECIAL or _SERVICE_LINK.match(name):
            continue
        if name.endswith(_FILE):
            if not text:
                continue
            text = _read_secret(name, text)
        elif environ.get(name + _FILE):
            if text:
                raise SettingsError(f"{name} and {name}{_FILE} are both set: keep one")
            continue
        table, _, key = name.removeprefix("SOLARIS_").removesuffix(_FILE).lower().partition("_")
        known = getattr(default, table, None) if table in default.__struct_fields__ else None
        keys = () if known is None or isinstance(known, dict) else known.__struct_fields__
        if not key or (table != "routes" and key not in keys):
            raise SettingsError(f"the environment variable {name} is not a setting (SOLARIS_<TABLE>_<KEY>)")
        is_list = table != "routes" and isinstance(getattr(known, key), tuple)
        parts = text.splitlines() if name.endswith(_FILE) else text.split(",")
        found.setdefault(table, {})[key] = [part.strip() for part in parts if part.strip()] if is_list else text
    return found


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{name}: {path!r}: {reason}; name a readable file") from error


def _check(settings: Settings, where: str) -> None:
    """What types cannot say. Raises SettingsError."""
    try:
        ZoneInfo(settings.accounts.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        name = settings.accounts.timezone
        raise SettingsError(
            f"{where}: accounts.timezone: no time zone {name!r}; write one like Europe/Lisbon"
        ) from error
    for name, url in settings.routes.items():
        if not _is_base_url(url):
            raise SettingsError(f"{where}: routes.{name}: {url!r} is not a URL such as https://api.example.com")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise SettingsError(
                f"{where}: routes: {name!r} cannot be a path segment; use letters, digits, '.', '_', '-'"
            )
    for url in settings.alerts.channels:
        try:
            parse_channel(url)
        except ValueError as error:
            raise SettingsError(f"{where}: alerts.channels: {error}") from None  # the URL holds secrets
    try:
        settings.observe.address  # noqa: B018  (it is parsed where it is used as well)
    except ValueError as error:
        raise SettingsError(f"{where}: observe.listen: {error}") from None
    if settings.observe.otlp_endpoint and not _is_base_url(settings.observe.otlp_endpoint):
        raise SettingsError(
            f"{where}: observe.otlp_endpoint: {settings.observe.otlp_endpoint!r} is not a URL such as "
            "http://collector:4318"
        )


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is none
        return False
    return usable and not parts.query and not parts.fragment
