"""Plans: how many tokens an account gets per period."""

from dataclasses import dataclass
from typing import cast

from solaris_meter.amounts import MAX_TOKENS, Money
from solaris_meter.errors import LedgerError, UnknownName
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.periods import Anchor, PeriodKind


@dataclass(frozen=True, slots=True)
class Plan:
    """`tokens` are given at the start of each period; up to `rollover_max` unused ones live one period longer."""

    name: str
    tokens: int
    period: PeriodKind
    anchor: Anchor = "calendar"
    rollover_max: int = 0
    price: Money | None = None
    retired_at_ms: int | None = None

    @classmethod
    def from_row(cls, row: Row) -> "Plan":
        minor, currency = row["price_minor"], row["price_currency"]
        return cls(
            name=row["name"],
            tokens=row["tokens"],
            period=cast(PeriodKind, row["period"]),
            anchor=cast(Anchor, row["anchor"]),
            rollover_max=row["rollover_max"],
            price=Money(minor, currency) if minor is not None else None,
            retired_at_ms=row["retired_at_ms"],
        )


def get(tx: Connection, name: str, *, usable: bool = False) -> Plan:
    """The plan of that name. Raises UnknownName; with `usable`, LedgerError for a retired one."""
    row = tx.row("SELECT * FROM plans WHERE name = :name", name=name)
    if row is None:
        raise UnknownName("plan", name, [plan.name for plan in all_plans(tx)])
    plan = Plan.from_row(row)
    if usable and plan.retired_at_ms is not None:
        raise LedgerError(f"plan {name!r} is retired; 'solaris-cli plans set {name} …' brings it back")
    return plan


def all_plans(tx: Connection) -> list[Plan]:
    """Every plan, by name."""
    return [Plan.from_row(row) for row in tx.rows("SELECT * FROM plans ORDER BY name")]


def put(tx: Connection, plan: Plan, now_ms: int) -> bool:
    """Make the plan, or change it from each account's next period on; whether it is new. A retired one comes back.

    Raises LedgerError for a plan that cannot be.
    """
    if not plan.name.strip():
        raise LedgerError("a plan needs a name")
    if not 0 <= plan.tokens <= MAX_TOKENS or not 0 <= plan.rollover_max <= MAX_TOKENS:
        raise LedgerError(f"plan {plan.name!r}: tokens and rollover are between 0 and {MAX_TOKENS:,}")
    if plan.rollover_max and plan.period == "none":
        raise LedgerError(f"plan {plan.name!r}: there is no rollover without a period")
    values = {
        "name": plan.name,
        "tokens": plan.tokens,
        "period": plan.period,
        "anchor": plan.anchor,
        "rollover": plan.rollover_max,
        "price": plan.price.minor if plan.price else None,
        "currency": plan.price.currency if plan.price else None,
    }
    tx.lock(f"plan {plan.name}")
    changed = tx.execute(
        "UPDATE plans SET tokens = :tokens, period = :period, anchor = :anchor, rollover_max = :rollover,"
        " price_minor = :price, price_currency = :currency, retired_at_ms = NULL WHERE name = :name",
        **values,
    )
    if not changed:
        tx.execute(
            "INSERT INTO plans (name, tokens, period, anchor, rollover_max, price_minor, price_currency, created_at_ms)"
            " VALUES (:name, :tokens, :period, :anchor, :rollover, :price, :currency, :now)",
            **values,
            now=now_ms,
        )
    return not changed


def retire(tx: Connection, name: str, now_ms: int) -> int:
    """Give the plan to nobody new; the number of accounts that stay on it. Raises UnknownName."""
    get(tx, name)
    tx.execute(
        "UPDATE plans SET retired_at_ms = coalesce(retired_at_ms, :now) WHERE name = :name", now=now_ms, name=name
    )
    return int(tx.value("SELECT count(*) FROM accounts WHERE plan = :name", name=name))
