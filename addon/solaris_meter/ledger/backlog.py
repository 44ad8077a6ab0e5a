"""The backlog: what there is in a ledger that is not done yet, by whichever process. And whether it can be written."""

from dataclasses import dataclass

from solaris_meter.ledger.database import Connection


@dataclass(frozen=True, slots=True)
class Backlog:
    """Counts of one moment. `reserved_tokens` are billed tokens.

    `oldest_at_ms` is when the oldest pending reservation was made. Of the outbox, `alerts_pending` are to be delivered
    yet and `alerts_dead` were tried too often; `alerts_due_at_ms` is when the next of the pending ones may be tried: in
    the past, and ever further, where nobody delivers.
    """

    reservations: int
    reserved_tokens: int
    oldest_at_ms: int | None
    alerts_pending: int
    alerts_dead: int
    alerts_due_at_ms: int | None


def read(tx: Connection) -> Backlog:
    """Count. Takes no lock."""
    with tx.snapshot():
        pending = tx.rows(
            "SELECT count(*) AS number, COALESCE(sum(reserved), 0) AS tokens, min(created_at_ms) AS oldest"
            " FROM reservations WHERE state = 'pending'"
        )[0]
        alerts = tx.rows("SELECT count(*) AS number, min(next_try_at_ms) AS due FROM outbox WHERE state = 'pending'")[0]
        dead = tx.value("SELECT count(*) AS number FROM outbox WHERE state = 'dead'")
    return Backlog(
        reservations=pending["number"],
        reserved_tokens=int(pending["tokens"]),  # a sum is a decimal in PostgreSQL
        oldest_at_ms=pending["oldest"],
        alerts_pending=alerts["number"],
        alerts_dead=dead,
        alerts_due_at_ms=alerts["due"],
    )


def probe(tx: Connection) -> None:
    """Change a row and change it back: what keeps a ledger from being written keeps it from this. Raises Unavailable.

    SQLite writes nothing where a row is given the values that it has.
    """
    for step in (1, -1):
        tx.execute(
            "UPDATE plans SET created_at_ms = created_at_ms + :step WHERE name = (SELECT min(name) FROM plans)",
            step=step,
        )
