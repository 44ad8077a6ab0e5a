"""LibreChat's endpoints: does each say who calls, and does each lead through the sidecar?"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from solaris_cli.doctor.finding import Finding, fault, ok, warning
from solaris_cli.doctor.librechat import LibreChat
from solaris_meter.settings import Settings

_USER_ID = "{{LIBRECHAT_USER_ID}}"
_USER_FIELDS = (
    "ID NAME USERNAME EMAIL PROVIDER ROLE GOOGLEID FACEBOOKID OPENIDID SAMLID LDAPID GITHUBID DISCORDID APPLEID"
    " EMAILVERIFIED TWOFACTORENABLED TERMSACCEPTED TERMSACCEPTEDAT"
)
_BODY_FIELDS = "CONVERSATIONID PARENTMESSAGEID MESSAGEID"
_OPENID_FIELDS = "ACCESS_TOKEN ID_TOKEN USER_ID USER_EMAIL USER_NAME EXPIRES_AT TOKEN"
_KNOWN = {
    f"LIBRECHAT_{family}_{name}"
    for family, names in (("USER", _USER_FIELDS), ("BODY", _BODY_FIELDS), ("OPENID", _OPENID_FIELDS))
    for name in names.split()
}
_PLACEHOLDER = re.compile(r"(\{+)\s*(LIBRECHAT_\w*)\s*(\}*)")
_HEADERS_SINCE = (0, 8, 7)


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """One of LibreChat's own endpoints. `path`: what stands behind the route in its reverse URL."""

    name: str
    variable: str
    keys: tuple[str, ...]
    route: str
    path: str
    host: str
    has_body_id: bool


_BUILT_IN = (
    _BuiltIn("openAI", "OPENAI_REVERSE_PROXY", ("OPENAI_API_KEY",), "openai", "/v1", "api.openai.com", True),
    _BuiltIn(
        "anthropic", "ANTHROPIC_REVERSE_PROXY", ("ANTHROPIC_API_KEY",), "anthropic", "", "api.anthropic.com", True
    ),
    _BuiltIn(
        "google",
        "GOOGLE_REVERSE_PROXY",
        ("GOOGLE_KEY", "GEMINI_API_KEY"),
        "google",
        "",
        "generativelanguage.googleapis.com",
        False,
    ),
)


def examine(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with the endpoints; one line where nothing is."""
    found = [*_built_in(chat, settings), *_custom(chat, settings), *_azure(chat, settings), *_rest(chat, settings)]
    yield from found
    if not found:
        yield ok(str(chat.file), "every endpoint says who calls, and leads to the sidecar")


def uses_proxy(chat: LibreChat) -> bool:
    """Whether LibreChat uses the sidecar as a forward proxy, so that it must trust its certificate."""
    return bool(chat.variable("PROXY")) or chat.redirected


def _built_in(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    for endpoint in _BUILT_IN:
        url = chat.variable(endpoint.variable)
        if not (url or any(chat.variable(key) for key in endpoint.keys) or chat.table("endpoints", endpoint.name)):
            continue
        where = f"endpoints.{endpoint.name}"
        yield from _reverse(chat, settings, endpoint, url)
        if chat.variable("PROXY") and url:
            yield warning(
                endpoint.variable,
                "is set, and PROXY as well: the base URL is asked for through the proxy, and which of the two meters "
                "depends on NO_PROXY",
                f"choose one: remove {endpoint.variable}, or PROXY",
            )
        settings_of = chat.table("endpoints", endpoint.name)
        headers = settings_of.get("headers") or chat.table("endpoints", "all").get("headers") or {}
        has_id = endpoint.has_body_id and settings.identity.body_fallback
        yield from _headers(chat, settings, f"{where}.headers", headers, has_body_id=has_id)
        if headers and chat.version and chat.version < _HEADERS_SINCE:
            yield fault(
                f"{where}.headers",
                f"LibreChat {'.'.join(map(str, chat.version))} does not send them: built-in endpoints do since v0.8.7",
                "upgrade LibreChat, or describe the provider under endpoints.custom",
            )


def _reverse(chat: LibreChat, settings: Settings, endpoint: _BuiltIn, url: str) -> Iterator[Finding]:
    right = f"http://solaris:8080/{endpoint.route}{endpoint.path}"
    if not url:
        if not uses_proxy(chat):
            yield fault(
                endpoint.variable,
                f"is not set, nor is PROXY: calls of {endpoint.name} go past the sidecar to {endpoint.host}, unmetered",
                f"{endpoint.variable}={right} in LibreChat's .env",
            )
        return
    if url == "user_provided":
        yield fault(
            endpoint.variable,
            "user_provided: people choose where their calls go, and LibreChat withholds the headers",
            f"{endpoint.variable}={right} in LibreChat's .env",
        )
        return
    parts = urlsplit(url)
    _, route, *rest = (parts.path.rstrip("/") or "/").split("/", 2)
    path = "/" + rest[0] if rest else ""
    if route not in settings.all_routes or parts.hostname == endpoint.host:
        yield fault(
            endpoint.variable,
            f"{url} does not lead to a route of the sidecar: there are {', '.join(sorted(settings.all_routes))}",
            f"{endpoint.variable}={right}, or add {route!r} under [routes] in solaris.toml",
        )
    elif path != endpoint.path:
        too_much = f"{path} is too much" if path and not endpoint.path else f"{endpoint.path} is missing"
        yield fault(
            endpoint.variable,
            f"{url}: {too_much}, because LibreChat adds the rest of the path itself: every call is a 404",
            f"{endpoint.variable}={right}",
        )


def _custom(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    for number, endpoint in enumerate(chat.entries("endpoints", "custom")):
        where = f"endpoints.custom[{endpoint.get('name', number)}]"
        url = chat.resolve(str(endpoint.get("baseURL", "")))
        if url == "user_provided":
            yield fault(
                f"{where}.baseURL",
                "user_provided: people choose where their calls go, and LibreChat withholds the headers",
                "write the base URL of a route of the sidecar, such as http://solaris:8080/groq/openai/v1",
            )
            continue
        yield from _base_url(chat, settings, f"{where}.baseURL", url)
        if str(endpoint.get("apiKey", "")) == "user_provided":
            yield warning(
                f"{where}.apiKey",
                "user_provided: people bring a key of their own, and their tokens here are charged all the same",
                "give the endpoint a key of yours, or make its models free: solaris-cli rates set MODEL --input 0 …",
            )
        dropped = endpoint.get("dropParams")
        drops_user = isinstance(dropped, list) and "user" in dropped
        yield from _headers(
            chat,
            settings,
            f"{where}.headers",
            endpoint.get("headers"),
            has_body_id=settings.identity.body_fallback and not drops_user,
            dropped=drops_user,
        )


def _base_url(chat: LibreChat, settings: Settings, where: str, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    route = parts.path.lstrip("/").partition("/")[0]
    hosts = {urlsplit(target).hostname for target in settings.all_routes.values()} | set(settings.policy.hosts)
    if "${" in url or parts.scheme not in {"http", "https"}:
        yield fault(where, f"{url!r} is not a URL", "write it out, or set the variable in LibreChat's .env")
    elif parts.hostname in hosts:
        if not chat.variable("PROXY"):
            yield fault(
                where,
                f"{url} is the provider's own address: these calls go past the sidecar, unmetered",
                "write the sidecar's, whose first path segment names a route: http://solaris:8080/ROUTE/…",
            )
    elif route not in settings.all_routes:
        yield fault(
            where,
            f"{url} names no route of the sidecar: there are {', '.join(sorted(settings.all_routes))}",
            f"begin its path with one of them, or add {route or 'it'} under [routes] in solaris.toml"
            + (", or its host to policy.hosts" if chat.variable("PROXY") else ""),
        )


def _azure(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    for number, group in enumerate(chat.entries("endpoints", "azureOpenAI", "groups")):
        where = f"endpoints.azureOpenAI.groups[{group.get('group', number)}].additionalHeaders"
        has_id = settings.identity.body_fallback
        yield from _headers(chat, settings, where, group.get("additionalHeaders"), has_body_id=has_id)
    if chat.table("endpoints", "azureOpenAI").get("headers"):
        yield warning(
            "endpoints.azureOpenAI.headers", "is not read by LibreChat", "put them into additionalHeaders of each group"
        )


def _headers(
    chat: LibreChat, settings: Settings, where: str, headers: Any, *, has_body_id: bool, dropped: bool = False
) -> Iterator[Finding]:
    """Whether an endpoint says who calls, and that it may."""
    identity = settings.identity
    written = {str(name): str(value) for name, value in headers.items()} if isinstance(headers, Mapping) else {}
    for name, value in written.items():
        yield from _placeholders(where, name, value)
    given = {name.lower(): value for name, value in written.items()}
    user = given.get(identity.user_header.lower(), "")
    remedy = f'{identity.user_header}: "{_USER_ID}"'
    if not user:
        why = "and dropParams takes the user out of the body" if dropped else "and the body has no user either"
        if has_body_id:
            yield warning(
                where,
                f"has no {identity.user_header}: people are recognised by a field of the body alone, without e-mail",
                f"add {remedy}",
            )
        else:
            yield fault(where, f"has no {identity.user_header}, {why}: every call is refused with 401", f"add {remedy}")
    elif "NAME}}" in user or "EMAIL}}" in user:
        yield fault(
            f"{where}.{identity.user_header}",
            f"{user}: a name or an address can be changed or taken by somebody else, and some names break the chat",
            remedy,
        )
    elif "LIBRECHAT" not in user:
        yield fault(
            f"{where}.{identity.user_header}", f"{user!r} is the same for everybody: all share one account", remedy
        )
    yield from _key(chat, settings, where, given.get(identity.key_header.lower()))


def _placeholders(where: str, name: str, value: str) -> Iterator[Finding]:
    for opening, word, closing in _PLACEHOLDER.findall(value):
        if (opening, closing) != ("{{", "}}"):
            yield fault(
                f"{where}.{name}",
                f"{value!r}: a placeholder stands in two braces; LibreChat sends this as it stands",
                f'write "{{{{{word}}}}}"',
            )
        elif word not in _KNOWN:
            yield fault(
                f"{where}.{name}",
                f"{{{{{word}}}}} is no placeholder of LibreChat, which sends it as it stands: nobody is recognised",
                f"for the user write {_USER_ID}; others begin with LIBRECHAT_USER_ or LIBRECHAT_BODY_",
            )
        elif word == "LIBRECHAT_USER_NAME":
            yield warning(
                f"{where}.{name}",
                "{{LIBRECHAT_USER_NAME}}: people choose it themselves, and some names break the chat before v0.8.2",
                f"use {_USER_ID} and {{{{LIBRECHAT_USER_EMAIL}}}}",
            )


def _key(chat: LibreChat, settings: Settings, where: str, written: str | None) -> Iterator[Finding]:
    key, name = settings.identity.key, settings.identity.key_header
    if not key:
        return
    remedy = (
        f'{name}: "${{SOLARIS_IDENTITY_KEY}}", and SOLARIS_IDENTITY_KEY in LibreChat\'s .env, equal to identity.key'
    )
    if written is None:
        yield fault(
            where, f"has no {name}, which identity.key asks for: every call is refused with 401", f"add {remedy}"
        )
        return
    value = chat.resolve(written)
    if "${" in value:
        yield fault(
            f"{where}.{name}", f"{written} is set neither in .env nor in the environment: every call is a 401", remedy
        )
    elif value != key:
        yield fault(f"{where}.{name}", "is not identity.key: every call is refused with 401", remedy)


def _rest(chat: LibreChat, settings: Settings) -> Iterator[Finding]:
    """What has an effect on all endpoints, or no identity at all."""
    if chat.table("endpoints", "all"):
        yield warning(
            "endpoints.all",
            "hides titleModel, titleConvo and others of each endpoint, and is not merged into custom ones",
            "repeat the headers per endpoint (a YAML anchor does it) and remove endpoints.all",
        )
    denies = settings.identity.anonymous_user is None
    bedrock = chat.table("endpoints", "bedrock") or chat.variable("BEDROCK_AWS_DEFAULT_REGION")
    if bedrock and denies:
        yield fault(
            "endpoints.bedrock",
            "LibreChat sends Bedrock no identity, whatever headers say: every call is refused with 401",
            'name who pays: identity.anonymous = "account:bedrock", or take the endpoint out of ENDPOINTS',
        )
    for name in ("assistants", "azureAssistants"):
        if chat.table("endpoints", name):
            yield warning(f"endpoints.{name}", "LibreChat sends it no identity", f"remove endpoints.{name}")
