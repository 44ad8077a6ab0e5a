"""Our own webhook: `webhook+https://host/path?secret=…` (or `webhook+http`) receives an alert as signed JSON.

The request is `POST https://host/path` with every other parameter of the URL, `Content-Type: application/json`,
`Idempotency-Key` (the same at every try) and

    X-Solaris-Signature: t=<unix seconds>,v1=<hex of HMAC-SHA256 under the secret over "<t>." and the body>

The body is `message.as_json`. Any 2xx answer within ten seconds is a delivery; redirects are not followed, because the
answer to a POST elsewhere would go to whoever the first host names.
"""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from solaris_meter import __version__
from solaris_meter.notify.message import Composed
from solaris_meter.notify.sender import TIMEOUT_S, NotDelivered, Sender

SIGNATURE_HEADER = "X-Solaris-Signature"


class Webhook(Sender):
    """One address that takes signed JSON. `url` was checked by `channels.parse_channel`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        self._secret = dict(query)["secret"]
        self._secure = parts.scheme == "webhook+https"
        self._host, self._port = parts.hostname or "", parts.port
        rest = urlencode([(name, value) for name, value in query if name != "secret"])
        self._target = (parts.path or "/") + (f"?{rest}" if rest else "")
        self._login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None

    def send(self, message: Composed, now_ms: int) -> None:
        body = json.dumps(message.json, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"solaris-meter/{__version__}",
            "Idempotency-Key": message.reference,
            SIGNATURE_HEADER: signature(self._secret, now_ms // 1000, body),
        }
        if self._login:
            headers["Authorization"] = "Basic " + base64.b64encode(self._login.encode()).decode()
        connection = self._connection()
        try:
            connection.request("POST", self._target, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise NotDelivered(f"{self._host}: {_why(error)}") from error
        finally:
            connection.close()
        if 300 <= status < 400:
            raise NotDelivered(
                f"{self._host} answered HTTP {status}; redirects are not followed: name the address itself"
            )
        if not 200 <= status < 300:
            raise NotDelivered(f"{self._host} answered HTTP {status}")

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)


def signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """The value of the signature header."""
    signed = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp_s},v1={signed}"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
