"""What the sidecar answers itself, in the dialect of the request: refusals, and the balance."""

import json
import logging
from collections.abc import Callable
from email.utils import formatdate

from mitmproxy import http

from solaris_meter.chat import denials, notices
from solaris_meter.chat.texts import ModelUse, Texts
from solaris_meter.ledger.overview import Overview
from solaris_meter.metering.dialects.dialect import Dialect, Request
from solaris_meter.metering.framing import media_types
from solaris_meter.metering.meter import Denied
from solaris_meter.settings import Denial

log = logging.getLogger(__name__)

_JSON = "application/json; charset=utf-8"
_TOO_MANY = 429
_ONE_DENIAL_MS = 10_000
"""Refusals of one person for one reason within this time are logged once."""
_MOST_DENIED = 10_000


class Replies:
    """Sets the response of a flow. `settings` say how a refusal is told."""

    def __init__(self, texts: Texts, settings: Denial, clock_ms: Callable[[], int]) -> None:
        self._texts = texts
        self._mode = settings.mode
        self._clock_ms = clock_ms
        self._denied_at_ms: dict[tuple[str, str, str], int] = {}

    def deny(
        self, flow: http.HTTPFlow, dialect: Dialect, asked: Request | None, denied: Denied, **details: str
    ) -> None:
        """Refuse a request; `asked` is None where it could not be read."""
        now_ms = self._clock_ms()
        denial = denials.build(denied, dialect, self._texts, self._mode, now_ms, **details)
        self._log(flow, denied, details.get("detail", ""), now_ms)
        headers = denial.headers
        if denied.standing:
            headers = headers | denials.rate_limit_headers(denied.standing, now_ms)
        if self._mode == "assistant_message" and denial.status == _TOO_MANY and asked is not None and asked.stream:
            text = self._texts.markdown(denied.reason, denied.standing, **details)
            if self._say(flow, dialect, asked, text, headers):
                return
        content = json.dumps(denial.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        date = formatdate(now_ms / 1000, usegmt=True)
        flow.response = http.Response.make(denial.status, content, headers | {"content-type": _JSON, "date": date})

    def balance(self, flow: http.HTTPFlow, dialect: Dialect, asked: Request, overview: Overview) -> bool:
        """Tell a person how they stand; whether the dialect has an answer for that."""
        today, period = (
            [ModelUse(one.model, one.billed_tokens, one.calls) for one in some]
            for some in (overview.today, overview.period)
        )
        text = self._texts.balance_answer(overview.standing, today, period)
        log.info("%s asked for the balance", overview.standing.user)
        return self._say(flow, dialect, asked, text, denials.rate_limit_headers(overview.standing, self._clock_ms()))

    def _say(self, flow: http.HTTPFlow, dialect: Dialect, asked: Request, text: str, headers: dict[str, str]) -> bool:
        """Answer as the assistant; whether the dialect has such an answer to this request."""
        said = dialect.message(asked, notices.message(text))
        if said is None:
            return False
        if not asked.stream:
            kind, content = _JSON, json.dumps(said.body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        else:
            as_array = dialect.streams_array and "alt=sse" not in flow.request.path
            kind = _JSON if as_array else dialect.stream_type
            framing = media_types.array_framing() if as_array else media_types.stream_framing(kind)
            content = b"".join(framing.encode(*event) for event in said.events) + framing.end()
        flow.response = http.Response.make(200, content, headers | {"content-type": kind})
        return True

    def _log(self, flow: http.HTTPFlow, denied: Denied, detail: str, now_ms: int) -> None:
        """A new chat asks for its answer and its title at once: both are one refusal."""
        who = denied.standing.user if denied.standing else "-"
        key = (who, denied.reason, flow.request.host)
        repeated = who != "-" and now_ms - self._denied_at_ms.get(key, -_ONE_DENIAL_MS) < _ONE_DENIAL_MS
        if len(self._denied_at_ms) >= _MOST_DENIED:
            self._denied_at_ms.clear()
        self._denied_at_ms[key] = now_ms
        where = f"{flow.request.method} {flow.request.host}{flow.request.path.partition('?')[0]}"
        log.log(logging.DEBUG if repeated else logging.INFO, "denied %s: %s, %s %s", who, denied.reason, where, detail)
