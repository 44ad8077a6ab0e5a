"""The check: everything recomputed from the entries, and each account that differs named."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from solaris_meter.ledger.database import Connection, Row
from solaris_meter.ledger.rates import Rates
from solaris_meter.models import Usage

# Each query returns (account, what, is, should): one row for each thing that is not as its history says.
_CHECKS = (
    """
    SELECT accounts.user_id AS account, 'balance' AS what, accounts.balance AS found,
           coalesce((SELECT sum(amount) FROM entries WHERE account_id = accounts.id), 0) AS expected
    FROM accounts
    """,
    """
    SELECT accounts.user_id AS account, 'balance against what remains in its grants' AS what,
           coalesce((SELECT sum(remaining) FROM grants WHERE account_id = accounts.id), 0) AS found,
           CASE WHEN balance > 0 THEN balance ELSE 0 END AS expected
    FROM accounts
    """,
    """
    SELECT accounts.user_id AS account, 'reserved' AS what, accounts.reserved AS found,
           coalesce((SELECT sum(reserved) FROM reservations
                     WHERE account_id = accounts.id AND state = 'pending'), 0) AS expected
    FROM accounts
    """,
    """
    SELECT accounts.user_id AS account, 'used in the period' AS what, accounts.used AS found,
           coalesce((SELECT -sum(amount) FROM entries WHERE account_id = accounts.id AND kind = 'usage'
                     AND entries.period_start_ms = accounts.period_start_ms), 0) AS expected
    FROM accounts
    """,
    """
    SELECT accounts.user_id AS account, 'running balance after entry ' || lines.id AS what,
           lines.balance_after AS found, lines.running AS expected
    FROM (SELECT id, account_id, balance_after, sum(amount) OVER (PARTITION BY account_id ORDER BY id) AS running
          FROM entries) AS lines
    JOIN accounts ON accounts.id = lines.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'remaining of grant ' || grants.id AS what, grants.remaining AS found,
           coalesce((SELECT sum(amount) FROM postings WHERE grant_id = grants.id), 0) AS expected
    FROM grants JOIN accounts ON accounts.id = grants.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'postings of entry ' || entries.id AS what,
           coalesce((SELECT sum(amount) FROM postings WHERE entry_id = entries.id), 0) AS found,
           entries.amount AS expected
    FROM entries JOIN accounts ON accounts.id = entries.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'usage entry of event ' || usage_events.id AS what,
           coalesce((SELECT sum(amount) FROM entries WHERE usage_event_id = usage_events.id), 1) AS found,
           -usage_events.billed_tokens AS expected
    FROM usage_events JOIN accounts ON accounts.id = usage_events.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'account of event ' || usage_events.id AS what,
           usage_events.account_id AS found, reservations.account_id AS expected
    FROM usage_events JOIN reservations ON reservations.id = usage_events.id
    JOIN accounts ON accounts.id = usage_events.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'account of entry ' || entries.id AS what,
           entries.account_id AS found, usage_events.account_id AS expected
    FROM entries JOIN usage_events ON usage_events.id = entries.usage_event_id
    JOIN accounts ON accounts.id = entries.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'account of a posting of entry ' || entries.id AS what,
           entries.account_id AS found, grants.account_id AS expected
    FROM postings JOIN entries ON entries.id = postings.entry_id JOIN grants ON grants.id = postings.grant_id
    JOIN accounts ON accounts.id = entries.account_id
    """,
    """
    SELECT accounts.user_id AS account, 'usage events of reservation ' || reservations.id AS what,
           (SELECT count(*) FROM usage_events WHERE id = reservations.id) AS found,
           CASE state WHEN 'settled' THEN 1 ELSE 0 END AS expected
    FROM reservations JOIN accounts ON accounts.id = reservations.account_id
    """,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What the check found: nothing wrong when `problems` is empty."""

    accounts: int
    entries: int
    problems: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "accounts": self.accounts, "entries": self.entries, "problems": self.problems}


def run(tx: Connection) -> Report:
    """Recompute every account of a snapshot. Each problem: `{"user", "what", "found", "expected"}`."""
    problems = [
        {"user": row["account"], "what": row["what"], "found": row["found"], "expected": row["expected"]}
        for query in _CHECKS
        for row in tx.rows(f"SELECT * FROM ({query}) AS lines WHERE found <> expected ORDER BY account, what")  # noqa: S608
    ]
    problems += sorted(_wrongly_billed(tx), key=lambda problem: (problem["user"], problem["what"]))
    return Report(
        accounts=tx.value("SELECT count(*) FROM accounts"),
        entries=tx.value("SELECT count(*) FROM entries"),
        problems=problems,
    )


def _wrongly_billed(tx: Connection) -> Iterator[dict[str, Any]]:
    """The events that do not cost what the rates of their reservation make of their usage."""
    for row in tx.rows(
        "SELECT accounts.user_id, reservations.rates, usage_events.* FROM usage_events"
        " JOIN reservations ON reservations.id = usage_events.id JOIN accounts ON accounts.id = usage_events.account_id"
    ):
        expected = _billed(row)
        if row["billed_tokens"] != expected:
            what = f"billed tokens of event {row['id']}"
            yield {"user": row["user_id"], "what": what, "found": row["billed_tokens"], "expected": expected}


def _billed(row: Row) -> int | None:
    """What an event must cost; None where its reservation's rates cannot be read."""
    usage = Usage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        basis=row["basis"],
        cached_input_tokens=row["cached_input_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        images=row["images"],
        audio_ms=row["audio_ms"],
    )
    try:
        return Rates.decode(row["rates"]).billed(usage)
    except ValueError:
        return None
