"""Every text as a person would see it, with example values: for the operator who writes own ones."""

from dataclasses import replace
from datetime import date
from typing import get_args

from solaris_meter.chat import catalogue
from solaris_meter.chat.texts import Audience, MailKind, ModelUse, Texts
from solaris_meter.models import Standing
from solaris_meter.periods import Period

NOVEMBER = Period(1_793_502_000_000, 1_796_094_000_000)
"""November 2026 in São Paulo."""
ACTIVE = Standing(
    "665f1c2ab34de89f01234567",
    "maria@example.com",
    "basico",
    "active",
    "America/Sao_Paulo",
    NOVEMBER,
    used=850_000,
    reserved=2_000,
    balance=150_000,
)
EXHAUSTED = replace(ACTIVE, used=1_000_000, reserved=0, balance=0)
NOTHING = replace(ACTIVE, used=0, reserved=0, balance=0)
BLOCKED = replace(ACTIVE, status="blocked", reserved=0)
TODAY = (ModelUse("gpt-4o", 12_500, 3), ModelUse("claude-sonnet-4-6", 4_000, 1))
PERIOD = (ModelUse("gpt-4o", 600_000, 120), ModelUse("claude-sonnet-4-6", 250_000, 38))
CREDITED = 500_000

_DETAIL = {"identity_refused": "X-Solaris-Key is wrong", "endpoint_denied": "api.example.com/v1/new"}
_AMOUNTS = {"one": 1, "many": 150_000, "millions": 1_500_000}


def examples(texts: Texts) -> dict[str, str]:
    """Each text by its key, in the order of the catalogue, filled in."""
    return {name: _example(texts, name) for name in catalogue.load(texts.language)}


def _example(texts: Texts, name: str) -> str:
    for audience in get_args(Audience):
        for kind in get_args(MailKind):
            if name.startswith(f"{audience}_{kind}_"):
                standing = {"exhausted": EXHAUSTED, "blocked": BLOCKED}.get(kind, ACTIVE)
                mail = texts.mail(kind, standing, audience=audience, amount=CREDITED)
                return mail.subject if name.endswith("_subject") else mail.body
    if name in _ANSWERS:
        standing = _ANSWERS[name]
        used = standing.used > 0
        return texts.balance_answer(standing, TODAY if used else (), PERIOD if used else ())
    if name.startswith("notice_"):
        return texts.notice(ACTIVE if name == "notice_threshold" else EXHAUSTED)
    if name in _PARTS or name.startswith(_PARTS_BY_START):
        return _part(texts, name)
    standing = {"tokens_none": NOTHING, "tokens_reserved": ACTIVE, "account_blocked": BLOCKED}.get(name, EXHAUSTED)
    detail = _DETAIL.get(name, "line 1 column 2")
    return texts.sentence(name, standing, header="X-Solaris-User", detail=detail)


_ANSWERS = {
    "balance_active": ACTIVE,
    "balance_exhausted": EXHAUSTED,
    "balance_none": NOTHING,
    "balance_blocked": BLOCKED,
}
_PARTS = {"renewal", "renewal_it", "until", "reserved", "no_email", "tokens_one", "tokens_many", "tokens_millions"}
_PARTS_BY_START = ("usage_", "remains_", "buy_", "ask_")


def _part(texts: Texts, name: str) -> str:
    amount = _AMOUNTS.get(name.partition("_")[2], 0)
    if name == "reserved":
        shown = texts.tokens(ACTIVE.reserved)
    elif name.startswith("remains_"):
        shown = texts.short(amount)
    else:
        shown = texts.number(amount // 10**6 * 10**6 or amount)
    values = {
        "amount": shown,
        "date": texts.day(date(2026, 11, 1) if name.startswith("usage_") else date(2026, 12, 1)),
        "address": texts.purchase.email or "vendas@example.com",
        "url": (texts.base_url if name.startswith("usage_") else texts.purchase.url) or "https://example.com",
        "count": texts.number(3),
    }
    return texts.fill(name, values)
