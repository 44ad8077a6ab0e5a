"""Reports: what the ledger says, as plain JSON values. Their names and shapes are a contract: add, never rename."""

from typing import Any, Literal

from solaris_meter.ledger import alerts, grants
from solaris_meter.ledger.accounts import Account
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.ledger.entries import Entry
from solaris_meter.models import Standing
from solaris_meter.periods import to_iso

Grouping = Literal["user", "model", "day", "conversation"]

_EVENTS = """
    SELECT usage_events.*, accounts.user_id, accounts.timezone, reservations.provider, reservations.model,
           reservations.dialect, reservations.endpoint, reservations.stream, reservations.conversation
    FROM usage_events
    JOIN accounts ON accounts.id = usage_events.account_id
    JOIN reservations ON reservations.id = usage_events.id
    WHERE (CAST(:account AS BIGINT) IS NULL OR usage_events.account_id = :account)
      AND (CAST(:since AS BIGINT) IS NULL OR usage_events.at_ms >= :since)
      AND (CAST(:until AS BIGINT) IS NULL OR usage_events.at_ms < :until)
"""

_GROUP: dict[Grouping, str] = {
    "user": "user_id",
    "model": "model",
    "conversation": "conversation",
    "day": "day",
}


def standing(value: Standing) -> dict[str, Any]:
    """Where an account stands; times as ISO 8601, amounts in tokens."""
    end_ms = value.period.end_ms
    return {
        "user": value.user,
        "email": value.email,
        "plan": value.plan,
        "status": value.status,
        "period": {"start": to_iso(value.period.start_ms), "end": to_iso(end_ms) if end_ms is not None else None},
        "limit": value.limit,
        "used": value.used,
        "reserved": value.reserved,
        "balance": value.balance,
        "available": value.available,
        "percent_used": value.percent_used,
    }


def balance(tx: Connection, account: Account) -> dict[str, Any]:
    """`standing` with the live grants, in the order in which they burn, and the alerts of the period."""
    return standing(account.standing) | {
        "grants": [
            {
                "kind": grant.kind,
                "remaining": grant.remaining,
                "expires_at": to_iso(grant.expires_at_ms) if grant.expires_at_ms is not None else None,
            }
            for grant in grants.live(tx, account)
        ],
        "alerts": [
            {"threshold": alert.threshold, "at": to_iso(alert.at_ms)} for alert in alerts.of_period(tx, account)
        ],
    }


def entry(line: Entry) -> dict[str, Any]:
    """One line of a statement."""
    return {
        "id": line.id,
        "at": to_iso(line.at_ms),
        "kind": line.kind,
        "amount": line.amount,
        "balance_after": line.balance_after,
        "reference": line.reference,
        "note": line.note,
    }


def usage_events(
    tx: Connection, account_id: int | None = None, since_ms: int | None = None, until_ms: int | None = None
) -> list[dict[str, Any]]:
    """Every metered call, oldest first."""
    rows = tx.rows(_EVENTS + " ORDER BY at_ms, usage_events.id", account=account_id, since=since_ms, until=until_ms)
    return [_event(row) for row in rows]


def usage(
    tx: Connection,
    by: Grouping,
    account_id: int | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[dict[str, Any]]:
    """Sums over the calls of each user, model, conversation or day (UTC), the largest first; days in order.

    `cost_usd` is the sum of the known costs, None where none is known; `unpriced_calls` are those without. The last
    three say how sure the tokens (input and output) are, as shares in percent.
    """
    key = "at_ms / 86400000" if by == "day" else _GROUP[by]
    order = "grouped" if by == "day" else "billed_tokens DESC, grouped"
    rows = tx.rows(
        f"SELECT {key} AS grouped, count(*) AS calls, sum(input_tokens) AS input_tokens,"  # noqa: S608  (constants)
        " sum(cached_input_tokens) AS cached_input_tokens, sum(cache_write_tokens) AS cache_write_tokens,"
        " sum(output_tokens) AS output_tokens, sum(reasoning_tokens) AS reasoning_tokens, sum(images) AS images,"
        " sum(audio_ms) AS audio_ms, sum(billed_tokens) AS billed_tokens, sum(cost_nano_usd) AS cost_nano_usd,"
        " count(*) - count(cost_nano_usd) AS unpriced_calls,"
        " sum(CASE basis WHEN 'reported' THEN input_tokens + output_tokens ELSE 0 END) AS reported_tokens,"
        " sum(CASE basis WHEN 'counted' THEN input_tokens + output_tokens ELSE 0 END) AS counted_tokens,"
        " sum(CASE basis WHEN 'estimated' THEN input_tokens + output_tokens ELSE 0 END) AS estimated_tokens"
        f" FROM ({_EVENTS}) AS events GROUP BY grouped ORDER BY {order}",
        account=account_id,
        since=since_ms,
        until=until_ms,
    )
    return [
        {by: to_iso(row["grouped"] * 86_400_000)[:10] if by == "day" else row["grouped"]} | _sums(row) for row in rows
    ]


def unpriced(tx: Connection, since_ms: int | None = None, until_ms: int | None = None) -> list[dict[str, Any]]:
    """The models with calls whose cost is not known, those with the most such calls first."""
    rows = tx.rows(
        "SELECT provider, model, count(*) AS calls, sum(input_tokens + output_tokens) AS total_tokens"  # noqa: S608
        f" FROM ({_EVENTS}) AS events WHERE cost_nano_usd IS NULL GROUP BY provider, model"
        " ORDER BY calls DESC, total_tokens DESC, provider, model",
        account=None,
        since=since_ms,
        until=until_ms,
    )
    return [{name: row[name] for name in ("provider", "model", "calls", "total_tokens")} for row in rows]


def holds(tx: Connection) -> list[dict[str, Any]]:
    """The pending reservations, oldest first."""
    rows = tx.rows(
        "SELECT reservations.*, accounts.user_id FROM reservations"
        " JOIN accounts ON accounts.id = reservations.account_id WHERE state = 'pending'"
        " ORDER BY reservations.created_at_ms, reservations.id"
    )
    return [
        {
            "id": row["id"],
            "user": row["user_id"],
            "reserved": row["reserved"],
            "created_at": to_iso(row["created_at_ms"]),
            "expires_at": to_iso(row["expires_at_ms"]),
            "model": row["model"],
        }
        for row in rows
    ]


def _event(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "at": to_iso(row["at_ms"]),
        "user": row["user_id"],
        "provider": row["provider"],
        "model": row["model"],
        "dialect": row["dialect"],
        "endpoint": row["endpoint"],
        "stream": bool(row["stream"]),
        "status": row["status"],
        "interrupted": bool(row["interrupted"]),
        "input_tokens": row["input_tokens"],
        "cached_input_tokens": row["cached_input_tokens"],
        "cache_write_tokens": row["cache_write_tokens"],
        "output_tokens": row["output_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "total_tokens": row["input_tokens"] + row["output_tokens"],
        "images": row["images"],
        "audio_seconds": row["audio_ms"] / 1000,
        "billed_tokens": row["billed_tokens"],
        "cost_usd": _usd(row["cost_nano_usd"]),
        "basis": row["basis"],
        "duration_ms": row["duration_ms"],
        "conversation": row["conversation"],
        "recovered": bool(row["recovered"]),
    }


def _sums(row: Row) -> dict[str, Any]:
    total = row["input_tokens"] + row["output_tokens"]
    return {
        "calls": row["calls"],
        "input_tokens": row["input_tokens"],
        "cached_input_tokens": row["cached_input_tokens"],
        "cache_write_tokens": row["cache_write_tokens"],
        "output_tokens": row["output_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "total_tokens": total,
        "images": row["images"],
        "audio_seconds": row["audio_ms"] / 1000,
        "billed_tokens": row["billed_tokens"],
        "cost_usd": _usd(row["cost_nano_usd"]),
        "unpriced_calls": row["unpriced_calls"],
        "reported_percent": _percent(row["reported_tokens"], total),
        "counted_percent": _percent(row["counted_tokens"], total),
        "estimated_percent": _percent(row["estimated_tokens"], total),
    }


def _usd(nano: int | None) -> float | None:
    """Thousand-millionths of a US dollar in dollars. What is not known is not 0."""
    return None if nano is None else round(nano / 1_000_000_000, 9)


def _percent(part: int, whole: int) -> float:
    return part * 1000 // whole / 10 if whole else 0.0


def latest_ms(tx: Connection) -> int | None:
    """The time of the latest entry, in UTC milliseconds; None where there is none."""
    row = tx.row("SELECT max(at_ms) AS at_ms FROM entries")
    return row["at_ms"] if row else None
