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
