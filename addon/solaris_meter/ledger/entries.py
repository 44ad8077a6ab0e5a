"""Entries and postings: the immutable lines that explain a balance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from solaris_meter.ledger.accounts import Account
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.models import GrantKind

EntryKind = GrantKind | Literal["usage", "expire", "adjust"]
Posting = tuple[int | None, int]
"""(grant id, tokens): what one entry put into a grant or took out of it. No grant: debt."""

_NO_LIMIT = 2**63 - 1
"""Means the same to every engine."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's history. `amount` and `balance_after` are tokens; usage is negative."""

    id: int
    at_ms: int
    kind: EntryKind
    amount: int
    balance_after: int
    reference: str | None
    note: str | None

    @classmethod
    def from_row(cls, row: Row) -> "Entry":
        return cls(
            row["id"],
            row["at_ms"],
            row["kind"],
            row["amount"],
            row["balance_after"],
            row["reference"],
            row["note"],
        )


def post(
    tx: Connection,
    account: Account,
    kind: EntryKind,
    postings: Sequence[Posting],
    now_ms: int,
    *,
    grant_id: int | None = None,
    usage_event_id: str | None = None,
    reference: str | None = None,
    note: str | None = None,
) -> tuple[Account, Entry]:
    """Append one entry with its postings, and apply them to the grants and the balance."""
    amount = sum(tokens for _, tokens in postings)
    changed = replace(account, balance=account.balance + amount)
    row = tx.row(
        "INSERT INTO entries (account_id, at_ms, period_start_ms, kind, amount, balance_after, grant_id,"
        " usage_event_id, reference, note) VALUES (:account, :now, :period, :kind, :amount, :balance, :grant_id,"
        " :event, :reference, :note) RETURNING *",
        account=account.id,
        now=now_ms,
        period=account.period.start_ms,
        kind=kind,
        amount=amount,
        balance=changed.balance,
        grant_id=grant_id,
        event=usage_event_id,
        reference=reference,
        note=note,
    )
    assert row is not None
    for target, tokens in postings:
        if tokens == 0:
            continue
        tx.execute(
            "INSERT INTO postings (entry_id, grant_id, amount) VALUES (:entry, :grant_id, :tokens)",
            entry=row["id"],
            grant_id=target,
            tokens=tokens,
        )
        if target is not None:
            tx.execute("UPDATE grants SET remaining = remaining + :tokens WHERE id = :id", tokens=tokens, id=target)
    tx.execute("UPDATE accounts SET balance = :balance WHERE id = :id", balance=changed.balance, id=account.id)
    return changed, Entry.from_row(row)


def by_reference(tx: Connection, reference: str) -> Row | None:
    """The entry that carries an idempotency key, with its account's user id."""
    return tx.row(
        "SELECT entries.*, accounts.user_id FROM entries JOIN accounts ON accounts.id = entries.account_id"
        " WHERE reference = :reference",
        reference=reference,
    )


def all_entries(tx: Connection) -> Iterator[tuple[str, Entry]]:
    """Every entry with its user id, oldest first."""
    for row in tx.rows(
        "SELECT entries.*, accounts.user_id FROM entries JOIN accounts ON accounts.id = entries.account_id"
        " ORDER BY entries.id"
    ):
        yield row["user_id"], Entry.from_row(row)


def of_account(tx: Connection, account: Account, limit: int | None = None) -> list[Entry]:
    """The newest `limit` entries, or all, oldest first."""
    rows = tx.rows(
        "SELECT * FROM entries WHERE account_id = :id ORDER BY id DESC LIMIT :limit",
        id=account.id,
        limit=_NO_LIMIT if limit is None else limit,
    )
    return [Entry.from_row(row) for row in reversed(rows)]
