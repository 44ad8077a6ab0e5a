"""Audits: calls whose usage the provider reported and that were counted as well, to see how good counts are."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from solaris_meter.ledger.database import Connection, Row


@dataclass(frozen=True, slots=True)
class Pair:
    """One call's tokens as they were reported and as they were counted."""

    reported: int
    counted: int

    @property
    def error(self) -> int:
        return abs(self.counted - self.reported)

    @property
    def is_close(self) -> bool:
        """Whether the count is within one percent of the report, or within one token."""
        return self.error <= 1 or self.error * 100 <= self.reported


def record(tx: Connection, usage_event_id: str, counted_input: int, counted_output: int | None) -> bool:
    """Keep what a settled call was counted as; whether it was kept. The first audit of a call stays.

    `counted_output` None: its output could not be counted. A call that is not in the ledger has no audit.
    """
    kept = tx.execute(
        "INSERT INTO audits (usage_event_id, counted_input, counted_output)"
        " SELECT id, :input, :output FROM usage_events WHERE id = :id ON CONFLICT (usage_event_id) DO NOTHING",
        id=usage_event_id,
        input=counted_input,
        output=counted_output,
    )
    return kept > 0


def accuracy(
    tx: Connection, since_ms: int | None = None, until_ms: int | None = None, account_id: int | None = None
) -> dict[str, Any]:
    """How far the counts of audited calls are from what was reported: `{"models": [...], "total": {...}}`.

    Each has `calls` and, for `input` and `output`, the sums and errors of `_compared`; models with the most calls come
    first. Hidden reasoning cannot be counted and is left out of the reported output.
    """
    rows = tx.rows(
        "SELECT reservations.model, input_tokens, output_tokens, reasoning_tokens, counted_input, counted_output"
        " FROM audits JOIN usage_events ON usage_events.id = audits.usage_event_id"
        " JOIN reservations ON reservations.id = usage_events.id"
        " WHERE basis = 'reported' AND (CAST(:account AS BIGINT) IS NULL OR usage_events.account_id = :account)"
        " AND (CAST(:since AS BIGINT) IS NULL OR at_ms >= :since)"
        " AND (CAST(:until AS BIGINT) IS NULL OR at_ms < :until)",
        account=account_id,
        since=since_ms,
        until=until_ms,
    )
    models: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        models[row["model"]].append(row)
    ordered = sorted(models.items(), key=lambda item: (-len(item[1]), item[0]))
    return {"models": [{"model": name} | _summary(some) for name, some in ordered], "total": _summary(rows)}


def _summary(rows: list[Row]) -> dict[str, Any]:
    read = [Pair(row["input_tokens"], row["counted_input"]) for row in rows]
    written = [
        Pair(max(0, row["output_tokens"] - row["reasoning_tokens"]), row["counted_output"])
        for row in rows
        if row["counted_output"] is not None
    ]
    return {"calls": len(rows), "input": _compared(read), "output": _compared(written)}


def _compared(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Sums and errors in percent of what was reported: of the sum, with its sign, and of each call, on average.

    `within_percent` is the share of calls that are close. Null where there is nothing to compare with.
    """
    pairs = list(pairs)
    reported = sum(pair.reported for pair in pairs)
    counted = sum(pair.counted for pair in pairs)
    of_each = sum(100 * pair.error / max(1, pair.reported) for pair in pairs)
    return {
        "calls": len(pairs),
        "reported_tokens": reported,
        "counted_tokens": counted,
        "error_percent": round(100 * (counted - reported) / reported, 2) if reported else None,
        "mean_error_percent": round(of_each / len(pairs), 2) if pairs else None,
        "within_percent": sum(pair.is_close for pair in pairs) * 1000 // len(pairs) / 10 if pairs else None,
    }
