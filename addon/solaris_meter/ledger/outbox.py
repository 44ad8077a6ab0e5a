"""The outbox: alerts that must leave, written in the transaction of the event that they tell of.

There is one message for each event and channel, with a key that lets it be written once. Messages are delivered
afterwards, outside of any transaction, by whichever process leases them first: a lease names its owner and ends by
itself, so that nobody waits for a process that died. Delivery is at least once: a process that dies between the
delivery and `sent` leaves a message that is delivered again, under the same `reference`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from solaris_meter.channels import Channel, is_address
from solaris_meter.errors import Conflict, LedgerError, UnknownName
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.models import Standing

Kind = Literal["threshold", "exhausted", "credited", "blocked"]
State = Literal["pending", "sent", "dead"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an account, and where it stood then.

    `threshold` is a percentage of the limit (100 for `exhausted`); `amount` the tokens that were bought, `paid` what
    was paid for them as people write it, and `entry` the id of the entry (`credited`).
    """

    kind: Kind
    at_ms: int
    standing: Standing
    threshold: int | None = None
    amount: int | None = None
    paid: str | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One row of `outbox`. `channel` is the name of the channel as people may see it.

    `recipient` is the user's e-mail address; None: the message is for the operator. `tries` counts deliveries that
    were begun. A dead message was tried too often.
    """

    id: int
    user: str
    event: Event
    channel_id: str
    channel: str
    recipient: str | None
    state: State
    tries: int
    next_try_at_ms: int
    last_error: str | None
    sent_at_ms: int | None

    @classmethod
    def from_row(cls, row: Row) -> "Message":
        event = _decoder.decode(row["event"])
        return cls(
            id=row["id"],
            user=event.standing.user,
            event=event,
            channel_id=row["channel_id"],
            channel=row["channel"],
            recipient=row["recipient"],
            state=row["state"],
            tries=row["tries"],
            next_try_at_ms=row["next_try_at_ms"],
            last_error=row["last_error"],
            sent_at_ms=row["sent_at_ms"],
        )

    @property
    def reference(self) -> str:
        """The same at every try, and nobody else's: for Message-ID and idempotency keys."""
        return f"alert-{self.id}-{self.event.at_ms}"


_decoder = msgspec.json.Decoder(Event)


def put(tx: Connection, account_id: int, event: Event, key: str, channels: Sequence[Channel]) -> int:
    """Write an event's messages, one for each channel; how many are new.

    `key` is the event's own name, unique for ever. A channel for the user is left out where there is no address.
    """
    written = 0
    for channel in channels:
        recipient = event.standing.email if channel.personal else None
        if channel.personal and not is_address(recipient):
            continue
        written += tx.execute(
            "INSERT INTO outbox (key, account_id, event, channel_id, channel, recipient, state, tries, next_try_at_ms)"
            " VALUES (:key, :account, :event, :channel_id, :channel, :recipient, 'pending', 0, :now)"
            " ON CONFLICT (key) DO NOTHING",
            key=f"{event.kind}:{account_id}:{key}:{channel.id}",
            account=account_id,
            event=msgspec.json.encode(event).decode(),
            channel_id=channel.id,
            channel=channel.name,
            recipient=recipient,
            now=event.at_ms,
        )
    return written


def is_due(tx: Connection, channel_ids: Sequence[str], now_ms: int) -> bool:
    """Whether `claim` would find anything. Takes no lock."""
    found = tx.row(
        "SELECT 1 AS due FROM outbox WHERE state = 'pending' AND next_try_at_ms <= :now"
        " AND (lease_expires_at_ms IS NULL OR lease_expires_at_ms <= :now)"
        " AND :channels LIKE '%' || channel_id || '%' LIMIT 1",
        now=now_ms,
        channels=_listed(channel_ids),
    )
    return found is not None


def claim(
    tx: Connection, owner: str, channel_ids: Sequence[str], now_ms: int, lease_ms: int, limit: int
) -> list[Message]:
    """Lease up to `limit` messages that are due and go to these channels, oldest first, and count a try for each.

    Messages for other channels stay: another process may have newer settings.
    """
    # The condition stands twice: PostgreSQL looks at a row that it waited for only by the outer one.
    rows = tx.rows(
        "UPDATE outbox SET lease_owner = :owner, lease_expires_at_ms = :expires, tries = tries + 1"
        " WHERE state = 'pending' AND (lease_expires_at_ms IS NULL OR lease_expires_at_ms <= :now) AND id IN"
        " (SELECT id FROM outbox WHERE state = 'pending' AND next_try_at_ms <= :now"
        " AND (lease_expires_at_ms IS NULL OR lease_expires_at_ms <= :now)"
        " AND :channels LIKE '%' || channel_id || '%' ORDER BY next_try_at_ms, id LIMIT :limit) RETURNING *",
        owner=owner,
        now=now_ms,
        expires=now_ms + lease_ms,
        channels=_listed(channel_ids),
        limit=limit,
    )
    return sorted(map(Message.from_row, rows), key=lambda message: (message.next_try_at_ms, message.id))


def sent(tx: Connection, message: Message, owner: str, now_ms: int) -> bool:
    """Note that a leased message was delivered. False: the lease had ended and somebody else has it."""
    return (
        tx.execute(
            "UPDATE outbox SET state = 'sent', sent_at_ms = :now, lease_owner = NULL, lease_expires_at_ms = NULL"
            " WHERE id = :id AND lease_owner = :owner",
            now=now_ms,
            id=message.id,
            owner=owner,
        )
        > 0
    )


def failed(tx: Connection, message: Message, owner: str, error: str, next_try_at_ms: int | None) -> bool:
    """Note why a leased message was not delivered, and when to try again; None: it is dead. False: as in `sent`."""
    return (
        tx.execute(
            "UPDATE outbox SET state = :state, last_error = :error, next_try_at_ms = coalesce(:next, next_try_at_ms),"
            " lease_owner = NULL, lease_expires_at_ms = NULL WHERE id = :id AND lease_owner = :owner",
            state="dead" if next_try_at_ms is None else "pending",
            error=error,
            next=next_try_at_ms,
            id=message.id,
            owner=owner,
        )
        > 0
    )


def lease_owners(tx: Connection) -> list[str]:
    """Who holds leases."""
    rows = tx.rows("SELECT DISTINCT lease_owner FROM outbox WHERE lease_owner IS NOT NULL ORDER BY lease_owner")
    return [row["lease_owner"] for row in rows]


def free(tx: Connection, is_alive: Callable[[str], bool]) -> int:
    """End the leases of owners that died; how many."""
    dead = [owner for owner in lease_owners(tx) if not is_alive(owner)]
    return sum(
        tx.execute(
            "UPDATE outbox SET lease_owner = NULL, lease_expires_at_ms = NULL WHERE lease_owner = :owner", owner=owner
        )
        for owner in dead
    )


def messages(tx: Connection, state: State | None = None, account_id: int | None = None) -> list[Message]:
    """The messages, in one state or of one account or all, oldest first."""
    rows = tx.rows(
        "SELECT * FROM outbox WHERE (CAST(:state AS TEXT) IS NULL OR state = :state)"
        " AND (CAST(:account AS BIGINT) IS NULL OR account_id = :account) ORDER BY id",
        state=state,
        account=account_id,
    )
    return [Message.from_row(row) for row in rows]


def resend(tx: Connection, message_id: int, channel_ids: Sequence[str], now_ms: int) -> Message:
    """Have a message delivered anew, whatever became of it, with all its tries before it.

    Raises UnknownName, Conflict while it is being delivered, LedgerError where its channel is not among the settings'.
    """
    row = tx.row(
        "UPDATE outbox SET state = 'pending', tries = 0, next_try_at_ms = :now, sent_at_ms = NULL, lease_owner = NULL,"
        " lease_expires_at_ms = NULL WHERE id = :id AND (lease_owner IS NULL OR lease_expires_at_ms <= :now)"
        " RETURNING *",
        id=message_id,
        now=now_ms,
    )
    if row is None:
        if tx.row("SELECT 1 AS known FROM outbox WHERE id = :id", id=message_id) is None:
            raise UnknownName("alert", str(message_id), [])
        raise Conflict(f"alert {message_id} is being delivered at this moment; look again in a minute")
    message = Message.from_row(row)
    if message.channel_id not in channel_ids:
        raise LedgerError(
            f"alert {message_id} goes to {message.channel}, which is not in alerts.channels any more; put it back first"
        )
    return message


def resend_dead(tx: Connection, channel_ids: Sequence[str], now_ms: int) -> list[Message]:
    """Have every dead message delivered anew whose channel is among these."""
    rows = tx.rows(
        "UPDATE outbox SET state = 'pending', tries = 0, next_try_at_ms = :now"
        " WHERE state = 'dead' AND :channels LIKE '%' || channel_id || '%' RETURNING *",
        now=now_ms,
        channels=_listed(channel_ids),
    )
    return sorted(map(Message.from_row, rows), key=lambda message: message.id)


def forget(tx: Connection, account_id: int) -> None:
    """Remove an account's messages: they say who it belonged to."""
    tx.execute("DELETE FROM outbox WHERE account_id = :account", account=account_id)


def _listed(channel_ids: Sequence[str]) -> str:
    """For `:channels LIKE '%' || channel_id || '%'`: ids are hexadecimal and of one length."""
    return ",".join(channel_ids)
