"""Grants: what holds an account's tokens. Issue one, burn across them, expire what is past its time."""

from collections.abc import Sequence
from dataclasses import dataclass

from solaris_meter.amounts import Money
from solaris_meter.ledger import entries
from solaris_meter.ledger.accounts import Account
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.ledger.entries import Entry, Posting
from solaris_meter.models import GrantKind

PRIORITY: dict[GrantKind, int] = {"rollover": 10, "allowance": 20, "bonus": 30, "credit": 40}
"""Lower burns first: what the plan gave before what was given, what was given before what was paid for."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A live grant. `expires_at_ms` is the first moment at which it is worth nothing; None: never."""

    id: int
    kind: GrantKind
    remaining: int
    expires_at_ms: int | None
    period_start_ms: int | None

    @classmethod
    def from_row(cls, row: Row) -> "Grant":
        return cls(row["id"], row["kind"], row["remaining"], row["expires_at_ms"], row["period_start_ms"])


def live(tx: Connection, account: Account) -> list[Grant]:
    """The grants that still hold tokens, in the order in which they burn."""
    rows = tx.rows(
        "SELECT * FROM grants WHERE account_id = :account AND remaining > 0"
        " ORDER BY priority, expires_at_ms IS NULL, expires_at_ms, id",
        account=account.id,
    )
    return [Grant.from_row(row) for row in rows]


def issue(
    tx: Connection,
    account: Account,
    kind: GrantKind,
    amount: int,
    now_ms: int,
    *,
    expires_at_ms: int | None = None,
    period_start_ms: int | None = None,
    paid: Money | None = None,
    reference: str | None = None,
    note: str | None = None,
) -> tuple[Account, Entry | None]:
    """Give `amount` tokens; a debt is paid first. No entry: a grant of that kind was issued for that period before."""
    row = tx.row(
        "INSERT INTO grants (account_id, kind, priority, remaining, created_at_ms, expires_at_ms, period_start_ms,"
        " paid_minor, paid_currency)"
        " VALUES (:account, :kind, :priority, 0, :now, :expires, :period, :paid, :currency)"
        " ON CONFLICT (account_id, kind, period_start_ms) DO NOTHING RETURNING id",
        account=account.id,
        kind=kind,
        priority=PRIORITY[kind],
        now=now_ms,
        expires=expires_at_ms,
        period=period_start_ms,
        paid=paid.minor if paid else None,
        currency=paid.currency if paid else None,
    )
    if row is None or amount == 0:
        return account, None
    return fill(tx, account, row["id"], kind, amount, now_ms, reference=reference, note=note)


def fill(
    tx: Connection,
    account: Account,
    grant_id: int,
    kind: entries.EntryKind,
    amount: int,
    now_ms: int,
    *,
    reference: str | None = None,
    note: str | None = None,
) -> tuple[Account, Entry]:
    """Put `amount` > 0 tokens into a grant, less what pays the account's debt."""
    debt = min(amount, max(0, -account.balance))
    split: list[Posting] = [(None, debt), (grant_id, amount - debt)]
    return entries.post(tx, account, kind, split, now_ms, grant_id=grant_id, reference=reference, note=note)


def of_period(tx: Connection, account: Account, kind: GrantKind, period_start_ms: int) -> Grant | None:
    """The grant of that kind for the period that began then, also where nothing remains in it."""
    row = tx.row(
        "SELECT * FROM grants WHERE account_id = :account AND kind = :kind AND period_start_ms = :start",
        account=account.id,
        kind=kind,
        start=period_start_ms,
    )
    return Grant.from_row(row) if row else None


def consumed(tx: Connection, account: Account, kind: GrantKind, since_ms: int) -> int:
    """Tokens that the account's grants of a kind lost since then: to calls, to corrections, and to debt they paid.

    What expired or was changed with a plan is not consumed.
    """
    burned = tx.value(
        "SELECT coalesce(-sum(postings.amount), 0) FROM postings"
        " JOIN entries ON entries.id = postings.entry_id JOIN grants ON grants.id = postings.grant_id"
        " WHERE entries.account_id = :account AND entries.at_ms >= :since AND entries.grant_id IS NULL"
        " AND grants.kind = :kind",
        account=account.id,
        since=since_ms,
        kind=kind,
    )
    paid_debt = tx.value(
        "SELECT coalesce(sum(postings.amount), 0) FROM postings"
        " JOIN entries ON entries.id = postings.entry_id JOIN grants ON grants.id = entries.grant_id"
        " WHERE entries.account_id = :account AND entries.at_ms >= :since AND postings.grant_id IS NULL"
        " AND grants.kind = :kind",
        account=account.id,
        since=since_ms,
        kind=kind,
    )
    return int(burned + paid_debt)


def paid_for(tx: Connection, grant_id: int) -> Money | None:
    """What was paid for a grant."""
    row = tx.row("SELECT paid_minor, paid_currency FROM grants WHERE id = :id", id=grant_id)
    return Money(row["paid_minor"], row["paid_currency"]) if row and row["paid_minor"] is not None else None


def set_expiry(tx: Connection, grant: Grant, expires_at_ms: int | None) -> None:
    """Let a grant live until another moment."""
    tx.execute("UPDATE grants SET expires_at_ms = :expires WHERE id = :id", expires=expires_at_ms, id=grant.id)


def adjust(tx: Connection, account: Account, grant: Grant, change: int, now_ms: int, *, note: str) -> Account:
    """Put tokens into a grant (less what pays a debt) or take them out of it, as one `adjust` entry."""
    if change > 0:
        account, _ = fill(tx, account, grant.id, "adjust", change, now_ms, note=note)
    elif change < 0:
        account, _ = entries.post(tx, account, "adjust", [(grant.id, change)], now_ms, grant_id=grant.id, note=note)
    return account


def burn(tx: Connection, account: Account, amount: int) -> Sequence[Posting]:
    """The postings that take `amount` tokens from the live grants in order; what they do not hold becomes debt."""
    split: list[Posting] = []
    for grant in live(tx, account):
        if amount == 0:
            break
        taken = min(amount, grant.remaining)
        split.append((grant.id, -taken))
        amount -= taken
    return [*split, (None, -amount)]


def expire(tx: Connection, account: Account, grant: Grant, now_ms: int) -> Account:
    """Take what remains in a grant whose time is over."""
    account, _ = entries.post(tx, account, "expire", [(grant.id, -grant.remaining)], now_ms, grant_id=grant.id)
    return account
