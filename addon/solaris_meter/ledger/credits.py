"""Tokens that a person gives, sells or takes back: bonus, credit, debit. Each is one entry with an idempotency key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from solaris_meter.amounts import Money
from solaris_meter.channels import Channel
from solaris_meter.errors import Conflict, LedgerError
from solaris_meter.ledger import entries, grants, outbox, renewals
from solaris_meter.ledger.database import Connection
from solaris_meter.ledger.entries import Entry
from solaris_meter.ledger.outbox import Event
from solaris_meter.models import Standing
from solaris_meter.periods import to_iso


@dataclass(frozen=True, slots=True)
class Applied:
    """An entry and where the account stands now. `repeated`: the reference had been used for just this before."""

    entry: Entry
    standing: Standing
    repeated: bool


def give(
    tx: Connection,
    user: str,
    kind: Literal["bonus", "credit"],
    amount: int,
    now_ms: int,
    *,
    expires_at_ms: int | None = None,
    paid: Money | None = None,
    reference: str | None = None,
    note: str | None = None,
    channels: Sequence[Channel] = (),
) -> Applied:
    """Grant `amount` tokens to an existing account; its debt is paid first. The channels are told of a credit.

    The same `reference` again changes nothing and says so. Raises UnknownName, Conflict where the reference was used
    for something else, LedgerError for an expiry that has passed.
    """
    account = renewals.touch(tx, user, now_ms)
    if reference == "":
        raise LedgerError("the reference is empty; name one such as a payment's id, or leave it out")
    if reference is not None:
        before = _repeated(tx, reference, user, kind, amount, paid)
        if before:
            return Applied(before, account.standing, repeated=True)
    if expires_at_ms is not None and expires_at_ms <= now_ms:
        raise LedgerError(f"the expiry {to_iso(expires_at_ms)} has passed; name a moment to come")
    account = renewals.start_window(tx, account, now_ms)
    account, entry = grants.issue(
        tx, account, kind, amount, now_ms, expires_at_ms=expires_at_ms, paid=paid, reference=reference, note=note
    )
    assert entry is not None
    if kind == "credit":
        event = Event(
            "credited", now_ms, account.standing, amount=amount, paid=str(paid) if paid else None, entry=entry.id
        )
        outbox.put(tx, account.id, event, str(entry.id), channels)
    return Applied(entry, account.standing, repeated=False)


def take(tx: Connection, user: str, amount: int, now_ms: int, *, note: str, reference: str | None = None) -> Applied:
    """Take `amount` tokens back as a correction; more than there is becomes debt. Raises UnknownName, Conflict."""
    account = renewals.touch(tx, user, now_ms)
    if reference == "":
        raise LedgerError("the reference is empty; name one such as a payment's id, or leave it out")
    if reference is not None:
        before = _repeated(tx, reference, user, "adjust", -amount)
        if before:
            return Applied(before, account.standing, repeated=True)
    split = grants.burn(tx, account, amount)
    account, entry = entries.post(tx, account, "adjust", split, now_ms, reference=reference, note=note)
    return Applied(entry, account.standing, repeated=False)


def _repeated(
    tx: Connection, reference: str, user: str, kind: entries.EntryKind, amount: int, paid: Money | None = None
) -> Entry | None:
    tx.lock(f"reference {reference}")
    row = entries.by_reference(tx, reference)
    if row is None:
        return None
    sold = grants.paid_for(tx, row["grant_id"]) if row["grant_id"] is not None else None
    if (row["user_id"], row["kind"], row["amount"], sold) != (user, kind, amount, paid):
        raise Conflict(
            f"reference {reference!r} was used at {to_iso(row['at_ms'])} for {row['kind']} of {row['amount']:,} tokens "
            f"to {row['user_id']!r}{f', paid {sold}' if sold else ''}; nothing was changed: use another reference"
        )
    return Entry.from_row(row)
