"""An overview: what a person who asks for the balance is told."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from solaris_meter.ledger import renewals
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.ledger.database import Connection
from solaris_meter.models import Caller, Standing
from solaris_meter.periods import period_at


@dataclass(frozen=True, slots=True)
class Used:
    """What calls of one model cost, in billed tokens."""

    model: str
    billed_tokens: int
    calls: int


@dataclass(frozen=True, slots=True)
class Overview:
    """How an account stands, and what it used today and in its period, by model, the most first."""

    standing: Standing
    today: tuple[Used, ...]
    period: tuple[Used, ...]


def of_caller(tx: Connection, caller: Caller, new: NewAccount, now_ms: int) -> Overview:
    """The overview of whoever calls, whose account is opened where that is allowed. Raises UnknownName."""
    account = renewals.touch(tx, caller.user, now_ms, new, caller.email)
    day = period_at("day", "calendar", now_ms, ZoneInfo(account.timezone), now_ms)
    return Overview(
        standing=account.standing,
        today=_used(tx, account, day.start_ms),
        period=_used(tx, account, account.period.start_ms),
    )


def _used(tx: Connection, account: Account, since_ms: int) -> tuple[Used, ...]:
    rows = tx.rows(
        "SELECT model, sum(billed_tokens) AS billed, count(*) AS calls FROM usage_events"
        " JOIN reservations ON reservations.id = usage_events.id"
        " WHERE usage_events.account_id = :account AND at_ms >= :since GROUP BY model ORDER BY billed DESC, model",
        account=account.id,
        since=since_ms,
    )
    return tuple(Used(row["model"], row["billed"], row["calls"]) for row in rows)
