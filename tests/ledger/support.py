"""A ledger in a file, driven as the writer drives it: each call below is one transaction."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from solaris_meter.channels import Channel
from solaris_meter.ledger import accounts, check, credits, grants, plans, rates, renewals, reservations
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.ledger.check import Report
from solaris_meter.ledger.credits import Applied
from solaris_meter.ledger.database import Connection, Engine, Row, SqliteEngine, open_engine
from solaris_meter.ledger.grants import Grant
from solaris_meter.ledger.plans import Plan
from solaris_meter.ledger.reservations import Ask, Decision, Outcome, Reserved, Settled
from solaris_meter.models import Basis, CallDetails, Caller, GrantKind, Overdraft, Standing, Usage
from solaris_meter.periods import to_ms

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LIFE = 2 * MINUTE
"""How long the reservations of these tests live."""

ZONE = "America/Sao_Paulo"
DETAILS = CallDetails("openai", "gpt-4o", "openai_chat", "/v1/chat/completions", stream=True)


def moment(text: str, zone: str = ZONE) -> int:
    """The UTC milliseconds of a local time, written as ISO 8601 without an offset."""
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


NOON = moment("2026-03-10T12:00")
"""When these tests begin, unless the calendar is their subject: the middle of a month, a Tuesday."""


def usage(tokens: int, basis: Basis = "reported") -> Usage:
    return Usage(tokens, 0, basis)


def outcome(billed: int, basis: Basis = "reported") -> Outcome:
    """That of a call of so many tokens, which are billed one by one where no rates are set."""
    return Outcome(usage(billed, basis), status=200, interrupted=False, duration_ms=1500)


def ask(
    reservation: str,
    user: str = "ana",
    *,
    prompt: int = 100,
    output: int = 0,
    wish: int = 0,
    exact: bool = True,
    floor: int = 0,
    overdraft: Overdraft = "soft",
    owner: str = "here",
    expires: int = NOON + LIFE,
    email: str | None = None,
    conversation: str | None = None,
    images: int = 0,
    audio_ms: int = 0,
    model: str = DETAILS.model,
) -> Ask:
    return Ask(
        id=reservation,
        caller=Caller(user, email, conversation),
        details=replace(DETAILS, model=model),
        input_tokens=prompt,
        exact=exact,
        output_tokens=output,
        output_wish=wish,
        input_floor=floor,
        overdraft=overdraft,
        owner=owner,
        expires_at_ms=expires,
        images=images,
        audio_ms=audio_ms,
    )


type Place = Path | str
"""Where a ledger is: a SQLite file, or a URL."""

INTEGRITY = (sqlite3.IntegrityError, psycopg.IntegrityError)
"""What a broken constraint is, in either engine."""


only_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
"""For what is about a file: its disk, its locks, its being away."""


def engine_at(place: Place) -> Engine:
    return SqliteEngine(place) if isinstance(place, Path) else open_engine(place)


def cells(row: Row) -> tuple[Any, ...]:
    """The values of a row, in the order of its columns."""
    return tuple(row[name] for name in row.keys())  # noqa: SIM118  (a row of SQLite iterates over its values)


class Books:
    """One connection to a ledger that has the plan `livre` (no allowance) besides `basico`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.engine = engine_at(place)
        self.engine.migrate()
        self.tx: Connection = self.engine.connect()
        self.new = NewAccount("livre", ZONE)
        self.thresholds: Sequence[int] = (80, 95)
        self.channels: Sequence[Channel] = ()
        self.plan("livre", 0, period="none")

    @property
    def path(self) -> Path:
        """The file of a ledger in SQLite."""
        assert isinstance(self.place, Path)
        return self.place

    @property
    def url(self) -> str:
        return f"sqlite:///{self.place}" if isinstance(self.place, Path) else self.place

    def close(self) -> None:
        self.tx.close()

    def off_the_disk(self) -> None:
        """Commits need not survive a power cut: of a test that makes many, and is not about the disk."""
        sqlite = isinstance(self.place, Path)
        self.tx.execute("PRAGMA synchronous=OFF" if sqlite else "SET synchronous_commit = off")

    def run[T](self, operation: Callable[[Connection], T]) -> T:
        with self.tx.transaction():
            return operation(self.tx)

    def plan(self, name: str, tokens: int, **rest: Any) -> Plan:
        plan = Plan(name, tokens, **{"period": "month", **rest})
        self.run(lambda tx: plans.put(tx, plan, 0))
        return plan

    def rate(self, pattern: str, now: int = 0, note: str | None = None, **kinds: str) -> None:
        """Set rates as a person writes them: `rate("gpt-4o", output="0.1")`."""
        micros: Any = {kind: rates.parse_rate(text) for kind, text in kinds.items()}
        self.run(lambda tx: rates.put(tx, pattern, micros, now, note))

    def open(self, user: str = "ana", plan: str = "livre", now: int = NOON, zone: str = ZONE) -> Account:
        return self.run(lambda tx: renewals.open_account(tx, user, NewAccount(plan, zone), now))

    def open_with(self, tokens: int, user: str = "ana", now: int = NOON) -> None:
        """An account without an allowance that was given `tokens`."""
        self.open(user, now=now)
        self.give(tokens, user, now=now)

    def give(self, amount: int, user: str = "ana", kind: Any = "bonus", now: int = NOON, **rest: Any) -> Applied:
        return self.run(lambda tx: credits.give(tx, user, kind, amount, now, **{"channels": self.channels, **rest}))

    def take(self, amount: int, user: str = "ana", now: int = NOON, **rest: Any) -> Applied:
        return self.run(lambda tx: credits.take(tx, user, amount, now, **{"note": "correction", **rest}))

    def touch(self, user: str = "ana", now: int = NOON) -> Account:
        return self.run(lambda tx: renewals.touch(tx, user, now))

    def change_plan(self, plan: str, user: str = "ana", now: int = NOON) -> Account:
        def operation(tx: Connection) -> Account:
            return renewals.change_plan(tx, renewals.touch(tx, user, now), plans.get(tx, plan), now)

        return self.run(operation)

    def block(self, user: str = "ana", now: int = NOON) -> None:
        self.run(lambda tx: accounts.block(tx, accounts.get(tx, user), now, self.channels))

    def reserve(self, reservation: str, user: str = "ana", now: int = NOON, **rest: Any) -> Decision:
        wanted = ask(reservation, user, **{"expires": now + LIFE, **rest})
        return self.run(lambda tx: reservations.reserve(tx, wanted, self.new, now))

    def hold(self, reservation: str, tokens: int, user: str = "ana", now: int = NOON, **rest: Any) -> None:
        """Reserve exactly `tokens`."""
        decision = self.reserve(reservation, user, now, **{"prompt": tokens, **rest})
        assert isinstance(decision, Reserved)
        assert decision.tokens == tokens

    def extend(self, reservation: str, tokens: int, now: int = NOON) -> int:
        return self.run(lambda tx: reservations.extend(tx, reservation, tokens, now + LIFE))

    def settle(self, reservation: str, billed: int, now: int = NOON) -> Settled:
        return self.end(reservation, outcome(billed), now)

    def end(self, reservation: str, how: Outcome | Usage, now: int = NOON) -> Settled:
        ended = Outcome(how, 200, interrupted=False, duration_ms=1500) if isinstance(how, Usage) else how
        return self.run(lambda tx: reservations.settle(tx, reservation, ended, self.thresholds, now, self.channels))

    def void(self, reservation: str, now: int = NOON) -> Standing | None:
        return self.run(lambda tx: reservations.void(tx, reservation, now))

    def recover(self, now: int = NOON, alive: Sequence[str] = ("here",), keep: Sequence[str] = ()) -> list[str]:
        return self.run(
            lambda tx: reservations.recover(
                tx, "here", keep, lambda owner: owner in alive, self.thresholds, now, self.channels
            )
        )

    def spend(self, tokens: int, user: str = "ana", now: int = NOON) -> Settled:
        """A whole call of `tokens`, whatever is available."""
        call = ask(f"call-{self.count('reservations')}", user, expires=now + LIFE)
        return self.run(
            lambda tx: reservations.bill(tx, call, outcome(tokens), self.new, self.thresholds, now, now, self.channels),
        )

    def account(self, user: str = "ana") -> Account:
        """The row as it is, not brought up to date."""
        return accounts.get(self.tx, user)

    def balance(self, user: str = "ana") -> int:
        return self.account(user).balance

    def grants(self, user: str = "ana") -> list[Grant]:
        return grants.live(self.tx, self.account(user))

    def remaining(self, user: str = "ana") -> list[tuple[GrantKind, int]]:
        """Kind and rest of each live grant, in the order in which they burn."""
        return [(grant.kind, grant.remaining) for grant in self.grants(user)]

    def lines(self, user: str = "ana") -> list[tuple[str, int]]:
        """Kind and amount of each entry, oldest first."""
        rows = self.tx.rows(
            "SELECT kind, amount FROM entries WHERE account_id = :id ORDER BY id", id=self.account(user).id
        )
        return [(row["kind"], row["amount"]) for row in rows]

    def count(self, table: str) -> int:
        return int(self.tx.value(f"SELECT count(*) FROM {table}"))

    def check(self) -> Report:
        with self.tx.snapshot():
            return check.run(self.tx)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything there is, to see that something changed nothing."""
        tables = [
            *("plans", "accounts", "grants", "reservations", "usage_events", "entries", "postings", "alerts"),
            *("rates", "audits", "outbox", "notices"),
        ]
        rows = {
            table: [tuple(dict(row).values()) for row in self.tx.rows(f"SELECT * FROM {table}")] for table in tables
        }
        # PostgreSQL has no order of its own.
        return {table: sorted(found, key=repr) for table, found in rows.items()}


def by_hand(place: Place, *statements: str) -> None:
    """Change a ledger without the program, as somebody does who holds the keys."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place, isolation_level=None)) as raw:
            for statement in statements:
                raw.execute(statement)
        return
    with psycopg.connect(place, autocommit=True) as connection:
        # Neither triggers nor foreign keys, which a connection to SQLite checks only where it asks for it.
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            if not statement.startswith("DROP TRIGGER"):
                connection.execute(statement.encode())


def tampered(place: Place, *statements: str) -> Report:
    """What the check says after someone changed the ledger by hand."""
    by_hand(place, *statements)
    with closing(engine_at(place).connect()) as tx, tx.snapshot():
        return check.run(tx)
