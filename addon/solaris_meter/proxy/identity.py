"""Who calls: identity headers as LibreChat sends them, the shared key, and fields of the body as the fallback."""

import base64
import hmac
import re
import unicodedata
from dataclasses import dataclass

from mitmproxy.http import Headers

from solaris_meter.models import Caller
from solaris_meter.settings import Identity

MAX_LENGTH = 256
_PREFIX = "x-solaris-"
_SIGNED_HEADERS = re.compile(r"^AWS4-HMAC-SHA256\b.*\bSignedHeaders=([^,\s]+)")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class Refused(Exception):
    """The request's identification is wrong or ambiguous; the message says which header, for the operator."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What the headers say. `user` None: nothing; the body or `identity.anonymous` decides then.

    `keyless`: the shared key was not shown, so that the body is not believed either.
    """

    user: str | None
    email: str | None
    conversation: str | None
    keyless: bool = False

    def caller(self, settings: Identity, body_user: str | None) -> Caller | None:
        """The caller, with the fallbacks that the settings allow; None where there is nobody to charge."""
        believed = settings.body_fallback and not self.keyless
        fallback = _clean(body_user) if believed and body_user else None
        user = self.user or fallback or settings.anonymous_user
        return Caller(user, self.email, self.conversation) if user else None


def read(headers: Headers, settings: Identity) -> Identified:
    """Read the identity headers. Raises Refused for a wrong or missing key and for a header that stands twice.

    A value that is empty, or a placeholder that LibreChat did not fill in, is no value. Where an account pays for calls
    without an identity, a call without any of our headers, the key included, is one: LibreChat sends pictures and
    speech so.
    """
    _refuse_signed(headers, settings)
    if settings.key:
        shown = [
            value for name, value in headers.fields if name.decode("latin-1").lower() == settings.key_header.lower()
        ]
        if not shown and settings.anonymous_user and not _names_anybody(headers, settings):
            return Identified(None, None, None, keyless=True)
        if len(shown) != 1 or not hmac.compare_digest(shown[0], settings.key.encode()):
            state = "is missing" if not shown else "stands more than once" if len(shown) > 1 else "is wrong"
            raise Refused(f"{settings.key_header} {state}")
    email = _value(headers, settings.email_header)
    return Identified(
        user=_value(headers, settings.user_header),
        email=email if email and _EMAIL.fullmatch(email) else None,
        conversation=_value(headers, settings.conversation_header),
    )


def _names_anybody(headers: Headers, settings: Identity) -> bool:
    ours = {settings.user_header.lower(), settings.email_header.lower()}
    return any(name.decode("latin-1").lower() in ours for name, _ in headers.fields)


def _refuse_signed(headers: Headers, settings: Identity) -> None:
    """An AWS signature names the headers it covers: to take one of those out would break it. Raises Refused."""
    signed = _SIGNED_HEADERS.search(headers.get("authorization", ""))
    names = {name.lower() for name in _names(settings)}
    for name in signed[1].lower().split(";") if signed else ():
        if name in names or name.startswith(_PREFIX):
            raise Refused(f"{name} is part of the AWS signature: add it after signing")


def strip(headers: Headers, settings: Identity) -> None:
    """Take our headers out of a request: the upstream must not see who calls, nor the key."""
    ours = {name.lower() for name in _names(settings)}
    headers.fields = tuple(
        (name, value)
        for name, value in headers.fields
        if (lowered := name.decode("latin-1").lower()) not in ours and not lowered.startswith(_PREFIX)
    )


def _names(settings: Identity) -> tuple[str, ...]:
    return settings.user_header, settings.email_header, settings.conversation_header, settings.key_header


def _value(headers: Headers, name: str) -> str | None:
    """The decoded value of a header. Raises Refused where it stands more than once."""
    raw = [value for key, value in headers.fields if key.decode("latin-1").lower() == name.lower()]
    if len(raw) > 1:
        raise Refused(f"{name} stands more than once")
    return decode(raw[0]) if raw else None


def decode(raw: bytes) -> str | None:
    """A header value of LibreChat's as text: UTF-8, else Latin-1; `b64:` where it held characters beyond Latin-1.

    None for an empty value, an unresolved placeholder, control characters, or more than MAX_LENGTH characters.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.strip()
    if text.startswith("b64:"):
        try:
            text = base64.b64decode(text.removeprefix("b64:"), validate=True).decode("utf-8")
        except ValueError:  # not base64, or not UTF-8 inside
            return None
    return _clean(text)


def _clean(text: str) -> str | None:
    text = unicodedata.normalize("NFC", text.strip())
    if not text or len(text) > MAX_LENGTH or "{{" in text:
        return None
    return None if any(unicodedata.category(char).startswith("C") for char in text) else text
