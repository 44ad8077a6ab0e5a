"""Messages as they stand in an outbox."""

from dataclasses import replace
from typing import Any

from tests.ledger.support import NOON, moment

from solaris_meter.chat.texts import Texts
from solaris_meter.ledger.outbox import Event, Message
from solaris_meter.models import Standing
from solaris_meter.notify.message import Composed, compose
from solaris_meter.periods import Period
from solaris_meter.settings import Purchase

MARCH = Period(moment("2026-03-01T00:00"), moment("2026-04-01T00:00"))
STANDING = Standing(
    "ana-1", "ana@example.com", "pro", "active", "America/Sao_Paulo", MARCH, used=850_000, reserved=0, balance=150_000
)
SHOP = Purchase(email="vendas@example.com", url="https://example.com/comprar?origem=chat")
PT, EN = Texts("pt-BR", SHOP), Texts("en", SHOP)


def event(kind: Any = "threshold", **rest: Any) -> Event:
    usual: dict[str, Any] = {
        "threshold": {"threshold": 80},
        "exhausted": {"threshold": 100, "standing": replace(STANDING, used=1_000_000, balance=0)},
        "credited": {"amount": 500_000, "paid": "49.90 BRL", "entry": 7},
        "blocked": {"standing": replace(STANDING, status="blocked")},
    }
    return Event(**{"kind": kind, "at_ms": NOON, "standing": STANDING, **usual[kind], **rest})


def message(kind: Any = "threshold", recipient: str | None = "ana@example.com", **rest: Any) -> Message:
    return Message(12, "ana-1", event(kind, **rest), "c0ffee", "mailto://h", recipient, "pending", 1, NOON, None, None)


def composed(kind: Any = "threshold", recipient: str | None = "ana@example.com", texts: Texts = PT) -> Composed:
    return compose(message(kind, recipient), texts)
