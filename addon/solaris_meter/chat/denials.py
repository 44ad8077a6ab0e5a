"""Refusals: an HTTP answer that LibreChat shows and nobody retries."""

import math
from dataclasses import dataclass
from typing import Any

from solaris_meter.chat.texts import Texts
from solaris_meter.metering.dialects.dialect import Dialect
from solaris_meter.metering.meter import Denied
from solaris_meter.models import Standing

_STATUS = {
    "tokens_exhausted": 429,
    "tokens_reserved": 429,
    "account_blocked": 429,
    "account_unknown": 403,
    "identity_missing": 401,
    "identity_refused": 401,
    "ledger_unavailable": 503,
    "internal_error": 503,
    "body_unreadable": 400,
    "endpoint_denied": 403,
}
REASONS = tuple(_STATUS)
"""Every machine-readable reason that there is."""
SHORTEST_RETRY_S = 60
"""LibreChat's client stack retries by itself where Retry-After is this or less."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal, ready to be sent. `body` is JSON."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def build(denied: Denied, dialect: Dialect, texts: Texts, mode: str, now_ms: int, **details: str) -> Denial:
    """The refusal of a call in its own dialect; `mode` is `denial.mode`.

    The machine-readable reason is the header `X-Solaris-Denied`. Retry-After is the time to the reset, and only where
    that is more than a minute: anything shorter makes LibreChat try again and again.
    """
    status = _STATUS[denied.reason]
    message = texts.sentence(denied.reason, denied.standing, **details)
    paid_for = status == 429
    code = "insufficient_quota" if paid_for else denied.reason
    plain = False
    if paid_for and mode == "http_402":
        # Newer LibreChats hide the text of a 429, and show the plain text of a 402.
        status, plain = 402, True
    headers = {"x-should-retry": "false", "x-solaris-denied": denied.reason}
    reset_s = seconds_to_reset(denied.standing, now_ms) if denied.standing else None
    if denied.reason == "tokens_exhausted" and reset_s is not None and reset_s > SHORTEST_RETRY_S:
        headers["retry-after"] = str(reset_s)
    return Denial(status, headers, dialect.denial(status, code, message, plain=plain))


def rate_limit_headers(standing: Standing, now_ms: int) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) for an account's tokens."""
    period = standing.period
    policy = f'"tokens";q={standing.limit}'
    state = f'"tokens";r={max(0, standing.available)}'
    reset_s = seconds_to_reset(standing, now_ms)
    if period.end_ms is not None and reset_s is not None:
        policy += f";w={(period.end_ms - period.start_ms) // 1000}"
        state += f";t={reset_s}"
    return {"RateLimit-Policy": policy, "RateLimit": state}


def seconds_to_reset(standing: Standing, now_ms: int) -> int | None:
    """Whole seconds until the account's next period; None for a plan without periods."""
    end_ms = standing.period.end_ms
    return None if end_ms is None else max(0, math.ceil((end_ms - now_ms) / 1000))
