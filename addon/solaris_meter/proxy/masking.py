"""Keys and the like, blotted out of what mitmweb keeps of a flow.

A request must go upstream with its key, so nothing here may run on one before the upstream has it.
"""

import re

from mitmproxy import http

MASKED = "[masked]"

_SECRET_HEADER = re.compile(
    r"^(proxy-)?authorization$|cookie2?$|(^|[-_])(api[-_]?)?(key|token|secret|signature|password|credentials?|auth)$",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"idempotency-key", "sec-websocket-key"})
_PROTOCOLS = "sec-websocket-protocol"
"""Browsers cannot set headers on a WebSocket: OpenAI takes the key as `openai-insecure-api-key.KEY` here."""
_PROTOCOL_KEY = re.compile(r"(api-key|token|secret|jwt)\.[^,\s]+", re.IGNORECASE)
_SCHEME = re.compile(r"(?:Basic|Bearer|Digest|Negotiate|Token|AWS4-HMAC-SHA256)(?=\s)", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&;](?:[\w.-]*[-_.])?"
    r"(?:api)?(?:key|token|secret|sig|signature|password|credential|auth|authorization|jwt))"
    r"=(?P<value>[^&;#]*)",
    re.IGNORECASE,
)


def mask_request(flow: http.HTTPFlow, key_header: str) -> bool:
    """Mask a request that its upstream has, or that goes nowhere; whether there was something to mask.

    `key_header` is the name of the shared key's header: it is still there where a request was answered before it was
    identified.
    """
    request = flow.request
    changed = _mask_headers(request.headers, key_header.lower())
    if request.trailers is not None:
        changed = _mask_headers(request.trailers, key_header.lower()) or changed
    path = mask_query(request.path)
    if path != request.path:
        request.path = path
        changed = True
    return changed


def mask_response(flow: http.HTTPFlow) -> bool:
    """Mask a response that the client has; whether there was something to mask."""
    return flow.response is not None and _mask_headers(flow.response.headers, "")


def forget_backup(flow: http.HTTPFlow) -> None:
    """Drop what mitmweb would go back to with "revert": somebody edited the flow while it held its key."""
    flow._backup = None


def mask_query(path: str) -> str:
    """A path or URL with the secret parameters of its query masked (Google: `key`, AWS: `X-Amz-Signature`, …)."""
    return _SECRET_PARAMETER.sub(lambda found: f"{found['name']}={MASKED}", path) if "=" in path else path


def _mask_headers(headers: http.Headers, key_header: str) -> bool:
    masked = tuple((name, _masked(name.decode("latin-1").lower(), value, key_header)) for name, value in headers.fields)
    changed = masked != headers.fields
    if changed:
        headers.fields = masked
    return changed


def _masked(name: str, value: bytes, key_header: str) -> bytes:
    if name == _PROTOCOLS:
        text = _PROTOCOL_KEY.sub(lambda found: f"{found[1]}.{MASKED}", value.decode("latin-1"))
        return text.encode("latin-1")
    if name != key_header and (name in _NOT_SECRET or not _SECRET_HEADER.search(name)):
        return value
    scheme = _SCHEME.match(value.decode("latin-1"))  # which kind of key it was may be shown
    return f"{scheme[0]} {MASKED}".encode() if scheme else MASKED.encode()
