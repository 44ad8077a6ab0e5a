"""Channels: where alerts go, each an Apprise URL of `alerts.channels`, without ever showing its secrets.

A channel with `{email}` in its URL is for the user, whose address is filled in; one without it is for the operator.
The e-mail schemes `mailto` and `mailtos` and the signed JSON of `webhook+https` and `webhook+http` are our own
business; every other scheme is Apprise's.
"""

import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

MAIL_SCHEMES = frozenset({"mailto", "mailtos"})
WEBHOOK_SCHEMES = frozenset({"webhook+http", "webhook+https"})
EMAIL = "{email}"

_SHOWN_HOSTS = MAIL_SCHEMES | WEBHOOK_SCHEMES | {"json", "jsons", "xml", "xmls", "form", "forms"}
"""The schemes whose host is an address; in the others it may be a key."""
_SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key|auth|sign", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@,;:<>()\[\]\"\\]+")
_MASK = "****"


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. `id` stays the same when only its password changes; `name` is what people may see of the URL.

    `personal`: it is for the user. `secrets` are the parts of the URL that nobody may see.
    """

    url: str = field(repr=False)
    scheme: str
    id: str
    name: str
    personal: bool
    secrets: tuple[str, ...] = field(repr=False)

    def url_for(self, email: str | None) -> str:
        """The URL with the user's address filled in."""
        return self.url.replace(EMAIL, quote(email or "", safe=""))

    def mask(self, text: str) -> str:
        """A text such as an error message, without the secrets."""
        for secret in self.secrets:
            text = text.replace(secret, _MASK)
        return text


def parse_channel(url: str) -> Channel:
    """Read one URL of `alerts.channels`. Raises ValueError, whose message shows no secret."""
    scheme, found, _ = url.partition("://")
    scheme = scheme.lower()
    if not found or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise ValueError("a channel that is not a URL such as mailto://user:pass@smtp.example.com?to={email}")
    try:
        parts = urlsplit(url)
        name = _name(scheme, parts)
    except ValueError:  # a bracket that is not closed, a port that is none
        what = "its host or port cannot be read; write %2F, %40, %3A, %23 for / @ : # in a password"
        raise ValueError(f"{scheme}://{_MASK}: {what}") from None  # it quotes the URL
    if re.search(r"[\x00-\x20\x7f]", url) and scheme not in MAIL_SCHEMES:
        raise ValueError(f"{name} holds a space or a control character; write %20 for a space")
    if scheme in WEBHOOK_SCHEMES:
        if not parts.hostname:
            raise ValueError(f"{name} names no host; write webhook+https://host/path?secret=…")
        if not dict(parse_qsl(parts.query)).get("secret"):
            raise ValueError(f"{name} has no secret to sign with; write webhook+https://host/path?secret=…")
    return Channel(url, scheme, _id(scheme, parts), name, EMAIL in url, _secrets(scheme, parts))


def is_address(email: str | None) -> bool:
    """Whether this is one e-mail address. What a request's header says may be anything."""
    return email is not None and len(email) <= 254 and _ADDRESS.fullmatch(email) is not None


def _name(scheme: str, parts: SplitResult) -> str:
    if scheme not in _SHOWN_HOSTS:
        return f"{scheme}://{_MASK}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    name = f"{scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    if scheme in MAIL_SCHEMES:
        to = dict(parse_qsl(parts.query)).get("to")
        return f"{name}?to={to}" if to else name
    return name + ("/…" if parts.path.strip("/") else "")


def _id(scheme: str, parts: SplitResult) -> str:
    """Made of all that tells the channel from others, less its password: a corrected one must find what waits for it.

    Keys in a path are long and random; nobody finds them by their hash.
    """
    place = parts.netloc.rpartition("@")
    user = place[0].partition(":")[0]
    query = [(name, value) for name, value in parse_qsl(parts.query) if not _SECRET_PARAMETER.search(name)]
    told = "\n".join((scheme, user, place[2].lower(), parts.path, urlencode(sorted(query))))
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _secrets(scheme: str, parts: SplitResult) -> tuple[str, ...]:
    found = {parts.password, *(value for name, value in parse_qsl(parts.query) if _SECRET_PARAMETER.search(name))}
    if scheme not in MAIL_SCHEMES:
        found |= {parts.username, *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))}
    if scheme not in _SHOWN_HOSTS:
        found |= {parts.netloc.rpartition("@")[2]}
    spelt = {spelling for text in found if text for spelling in (text, unquote(text), quote(text, safe=""))}
    # A very short one would tear any text to pieces, and is in it by chance. The longest first: one may hold another.
    return tuple(sorted((text for text in spelt if len(text) > 3 and text != EMAIL), key=len, reverse=True))
