"""The invariants of the ledger (design, section 4) after any sequence of operations."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from tests.ledger.support import DAY, HOUR, LIFE, MINUTE, NOON, Books

from solaris_meter.errors import LedgerError
from solaris_meter.ledger.rates import KINDS, ONE, Rates, resolve
from solaris_meter.ledger.reservations import MustWait, Refused, Reserved
from solaris_meter.models import Usage

USERS = ("ana", "bruno")
ZONES = ("America/Sao_Paulo", "America/New_York")
PLANS = ("basico", "livre", "pro")
MODELS = ("gpt", "claude")

users = st.sampled_from(USERS)
tokens = st.integers(1, 1500)


class LedgerMachine(RuleBasedStateMachine):
    """Small amounts, so that limits are met; periods from a day to a year, so that they end."""

    pending = Bundle("pending")
    closed = Bundle("closed")
    references = Bundle("references")

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.books = Books(url or Path(self._folder.name) / "solaris.db")
        self.books.off_the_disk()
        self.now = NOON
        self.calls = 0
        self.rates: dict[str, Rates] = {}

    def teardown(self) -> None:
        self.books.close()
        self._folder.cleanup()

    @initialize(allowance=st.integers(0, 2000))
    def open_accounts(self, allowance: int) -> None:
        self.books.plan("basico", allowance)
        self.books.plan("pro", 2 * allowance, period="week", anchor="signup", rollover_max=allowance)
        for user, zone in zip(USERS, ZONES, strict=True):
            self.books.open(user, "basico", self.now, zone)

    @rule(step=st.sampled_from([1, MINUTE, LIFE, HOUR, DAY, 8 * DAY, 40 * DAY, 400 * DAY]))
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(target=references, user=users, kind=st.sampled_from(["bonus", "credit"]), amount=tokens)
    def give(self, user: str, kind: str, amount: int) -> tuple[str, str, str, int]:
        reference = self._name("reference")
        balance = self.books.touch(user, self.now).balance
        applied = self.books.give(amount, user, kind, self.now, reference=reference)
        assert applied.standing.balance == balance + amount
        return reference, user, kind, amount

    @rule(user=users, amount=tokens, life=st.sampled_from([1, HOUR, 3 * DAY, 60 * DAY]))
    def give_for_a_while(self, user: str, amount: int, life: int) -> None:
        self.books.give(amount, user, now=self.now, expires_at_ms=self.now + life)

    @rule(user=users, amount=tokens)
    def take(self, user: str, amount: int) -> None:
        balance = self.books.touch(user, self.now).balance
        assert self.books.take(amount, user, self.now).standing.balance == balance - amount

    @rule(reference=references)
    def repeat_a_reference(self, reference: tuple[str, str, str, int]) -> None:
        key, user, kind, amount = reference
        self.books.touch(user, self.now)
        before = self.books.dump()
        assert self.books.give(amount, user, kind, self.now, reference=key).repeated
        assert self.books.dump() == before

    @rule(
        target=pending,
        user=users,
        overdraft=st.sampled_from(["soft", "strict"]),
        prompt=st.integers(0, 1500),
        output=st.integers(0, 500),
        floor=st.sampled_from([0, 30]),
        images=st.sampled_from([0, 0, 3]),
        audio_ms=st.sampled_from([0, 0, 1501]),
        owner=st.sampled_from(["here", "there"]),
        model=st.sampled_from(MODELS),
    )
    def reserve(self, user: str, overdraft: str, prompt: int, output: int, owner: str, **rest: Any):
        name = self._name("call")
        before = self.books.touch(user, self.now).standing
        rates = self._rates(rest["model"])
        read = rates.billed_input(prompt, rest["images"], rest["audio_ms"])
        decision = self.books.reserve(
            name, user, self.now, prompt=prompt, output=output, overdraft=overdraft, owner=owner, **rest
        )
        if isinstance(decision, Reserved):
            # No overspend: nothing is held twice.
            assert decision.tokens <= max(0, before.available)
            self.rates[name] = rates
            return name
        # No false refusal: who has tokens goes, or waits for those that are held.
        if isinstance(decision, Refused):
            no_answer = rates.billed_output(1) > before.balance - read
            assert before.balance <= 0 or (overdraft == "strict" and before.reserved == 0 and no_answer)
        else:
            assert isinstance(decision, MustWait)
            assert before.reserved > 0
            assert before.available < read + rates.billed_output(output)
        return multiple()

    @rule(
        pattern=st.sampled_from(["*", "gpt*", "openai/gpt", "claude"]),
        kind=st.sampled_from(KINDS),
        rate=st.sampled_from(["0", "0.000001", "0.1", "0.333333", "1", "2.5", "15"]),
    )
    def set_a_rate(self, pattern: str, kind: str, rate: str) -> None:
        self.books.rate(pattern, self.now, **{kind: rate})

    @rule(name=pending, amount=tokens)
    def extend(self, name: str, amount: int) -> None:
        before = self.books.account(self._user(name)).standing
        granted = self.books.extend(name, amount, self.now)
        held = self.books.account(self._user(name)).reserved - before.reserved
        assert 0 <= held <= max(0, before.available)
        assert granted * self.rates[name].output <= held * ONE
        # Nothing is kept back that is there.
        assert granted >= amount or held == max(0, before.available) or self._state(name) != "pending"

    @rule(
        target=closed,
        name=consumes(pending),
        usage=st.builds(
            Usage,
            st.integers(0, 2000),
            st.integers(0, 500),
            st.just("reported"),
            st.integers(0, 2500),
            st.integers(0, 2500),
            images=st.integers(0, 3),
            audio_ms=st.integers(0, 3000),
        ),
    )
    def settle(self, name: str, usage: Usage) -> str:
        state = self._state(name)
        if state == "void":  # recovered, with nothing to show
            with pytest.raises(LedgerError, match="void"):
                self.books.end(name, usage, self.now)
            return name
        balance = self.books.touch(self._user(name), self.now).balance
        settled = self.books.end(name, usage, self.now)
        assert settled.repeated is (state == "settled")
        # At the rates with which it began, whatever was set since.
        billed = 0 if settled.repeated else self.rates[name].billed(usage)
        assert settled.standing.balance == balance - billed
        return name

    @rule(target=closed, name=consumes(pending))
    def void(self, name: str) -> str:
        self.books.void(name, self.now)
        return name

    @rule(name=closed, billed=st.integers(0, 2500))
    def end_a_call_again(self, name: str, billed: int) -> None:
        before = self.books.dump()
        assert self.books.void(name, self.now) is None
        assert self.books.extend(name, 10, self.now) == 0
        if self._state(name) == "settled":
            assert self.books.settle(name, billed, self.now).repeated
        assert self.books.dump() == before

    @rule(alive=st.sampled_from([("here",), ("here", "there"), ()]))
    def recover(self, alive: tuple[str, ...]) -> None:
        # What is recovered stays in the bundle `pending`: its call may still end, and must not be charged again.
        self.books.recover(self.now, alive)

    @rule(user=users, amount=st.integers(0, 2500))
    def bill(self, user: str, amount: int) -> None:
        self.books.spend(amount, user, self.now)

    @rule(user=users, plan=st.sampled_from(PLANS))
    def change_plan(self, user: str, plan: str) -> None:
        self.books.change_plan(plan, user, self.now)
        after = self.books.balance(user)
        # The same again is no way to more.
        assert self.books.change_plan(plan, user, self.now).balance == after

    @rule(
        name=st.sampled_from(PLANS),
        amount=st.integers(0, 2000),
        period=st.sampled_from(["day", "week", "month", "year"]),
        anchor=st.sampled_from(["calendar", "signup"]),
        rollover=st.sampled_from([0, 200]),
    )
    def set_plan(self, name: str, amount: int, period: str, anchor: str, rollover: int) -> None:
        self.books.plan(name, amount, period=period, anchor=anchor, rollover_max=rollover)

    @rule(user=users)
    def touch(self, user: str) -> None:
        account = self.books.touch(user, self.now)
        assert account.period.start_ms <= self.now
        assert account.period.end_ms is None or self.now < account.period.end_ms

    @invariant()
    def the_check_finds_nothing(self) -> None:
        assert self.books.check().problems == []

    @invariant()
    def the_sums_agree(self) -> None:
        # Computed here anew, and not by the queries of the check.
        tx = self.books.tx
        for row in tx.rows("SELECT * FROM accounts"):
            lines = [line["amount"] for line in tx.rows("SELECT * FROM entries WHERE account_id = :id", id=row["id"])]
            assert row["balance"] == sum(lines)
            grants = tx.rows("SELECT remaining FROM grants WHERE account_id = :id", id=row["id"])
            debt = max(0, -row["balance"])
            assert sum(grant["remaining"] for grant in grants) - debt == row["balance"]
            held = tx.rows("SELECT * FROM reservations WHERE account_id = :id AND state = 'pending'", id=row["id"])
            assert sum(reservation["reserved"] for reservation in held) == row["reserved"]

    @invariant()
    def every_event_has_one_reservation_and_one_entry(self) -> None:
        tx = self.books.tx
        settled = [row["id"] for row in tx.rows("SELECT id FROM reservations WHERE state = 'settled'")]
        events = {row["id"]: row["billed_tokens"] for row in tx.rows("SELECT id, billed_tokens FROM usage_events")}
        entries = [
            (row["usage_event_id"], -row["amount"]) for row in tx.rows("SELECT * FROM entries WHERE kind = 'usage'")
        ]
        assert sorted(settled) == sorted(events)
        assert sorted(entries) == sorted(events.items())

    def _rates(self, model: str) -> Rates:
        return resolve(self.books.tx, "openai", model, self.now)

    def _state(self, name: str) -> str:
        return str(self.books.tx.value("SELECT state FROM reservations WHERE id = :id", id=name))

    def _user(self, name: str) -> str:
        query = "SELECT account_id FROM reservations WHERE id = :id"
        return str(self.books.tx.value(f"SELECT user_id FROM accounts WHERE id = ({query})", id=name))

    def _name(self, kind: str) -> str:
        self.calls += 1
        return f"{kind} {self.calls}"


def test_the_invariants_hold_in_postgresql_too(postgres_server):
    class InPostgres(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(postgres_server.ledger())

    run_state_machine_as_test(
        InPostgres,
        settings=settings(max_examples=25, stateful_step_count=30, deadline=None),
    )


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
