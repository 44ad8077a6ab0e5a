"""Notices: which thresholds a person was told of in the chat; once per threshold and period, whoever tells it."""

from collections.abc import Iterable

from solaris_meter.ledger.accounts import Account
from solaris_meter.ledger.database import Connection


def unshown(tx: Connection, account: Account, thresholds: Iterable[int]) -> tuple[int, ...]:
    """The thresholds above the highest that was shown in the account's period, lowest first."""
    shown = tx.row(
        "SELECT max(threshold) AS highest FROM notices WHERE account_id = :account AND period_start_ms = :period",
        account=account.id,
        period=account.period.start_ms,
    )
    highest = (shown["highest"] if shown else None) or 0
    return tuple(threshold for threshold in sorted(thresholds) if threshold > highest)


def claim(tx: Connection, account: Account, thresholds: Iterable[int], reservation_id: str, now_ms: int) -> int | None:
    """Claim the highest threshold that the account has reached, to show it; None where nothing is to be shown.

    The account is as it will stand. Whoever gets a threshold shows it; nobody else does in this period, nor a lower
    one.
    """
    standing = account.standing
    if standing.used == 0:
        return None
    reached = [one for one in unshown(tx, account, thresholds) if standing.used * 100 >= one * standing.limit]
    if not reached:
        return None
    claimed = tx.rows(
        "INSERT INTO notices (account_id, period_start_ms, threshold, at_ms, reservation_id)"
        " VALUES (:account, :period, :threshold, :now, :reservation) ON CONFLICT DO NOTHING RETURNING threshold",
        account=account.id,
        period=account.period.start_ms,
        threshold=reached[-1],
        now=now_ms,
        reservation=reservation_id,
    )
    return claimed[0]["threshold"] if claimed else None


def release(tx: Connection, reservation_id: str) -> None:
    """Give back what a call claimed and could not show."""
    tx.execute("DELETE FROM notices WHERE reservation_id = :reservation", reservation=reservation_id)
