"""Alerts: an account crossed a threshold of its limit; once per threshold and period, as part of the settlement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from solaris_meter.channels import Channel
from solaris_meter.ledger import outbox
from solaris_meter.ledger.accounts import Account
from solaris_meter.ledger.database import Connection
from solaris_meter.ledger.outbox import Event


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold (percent of the limit) that was crossed, and when."""

    threshold: int
    at_ms: int


def record(
    tx: Connection,
    account: Account,
    thresholds: Iterable[int],
    usage_event_id: str,
    now_ms: int,
    channels: Sequence[Channel] = (),
) -> tuple[int, ...]:
    """Record each threshold that the account has reached and that was not recorded in this period; the new ones.

    The channels are told of the highest only, and of none that is below one they were told of before.
    """
    standing = account.standing
    new = []
    for threshold in sorted(thresholds):
        if standing.used == 0 or standing.used * 100 < threshold * standing.limit:
            break
        new += tx.rows(
            "INSERT INTO alerts (account_id, period_start_ms, threshold, at_ms, usage_event_id)"
            " VALUES (:account, :period, :threshold, :now, :event) ON CONFLICT DO NOTHING RETURNING threshold",
            account=account.id,
            period=account.period.start_ms,
            threshold=threshold,
            now=now_ms,
            event=usage_event_id,
        )
    crossed = tuple(row["threshold"] for row in new)
    if crossed and channels and crossed[-1] == of_period(tx, account)[-1].threshold:
        highest = crossed[-1]
        event = Event("exhausted" if highest == 100 else "threshold", now_ms, standing, threshold=highest)
        outbox.put(tx, account.id, event, f"{account.period.start_ms}:{highest}", channels)
    return crossed


def of_period(tx: Connection, account: Account) -> list[Alert]:
    """What was crossed in the account's current period, lowest first."""
    rows = tx.rows(
        "SELECT threshold, at_ms FROM alerts WHERE account_id = :account AND period_start_ms = :period"
        " ORDER BY threshold",
        account=account.id,
        period=account.period.start_ms,
    )
    return [Alert(row["threshold"], row["at_ms"]) for row in rows]
