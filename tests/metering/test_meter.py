"""The meter on a real ledger: a SQLite file, its writer thread, its journal."""

import asyncio
import itertools
import json
import sqlite3
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.metering.calls import ByteCounter
from tests.metering.samples import dialect_called, loaded_counter, payload

from solaris_meter.errors import Unavailable
from solaris_meter.ledger import accounts, check, credits, renewals, reports
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import open_engine, sqlite
from solaris_meter.ledger.ledger import RESERVATION_LIFE_MS, Ledger
from solaris_meter.ledger.reservations import Decision
from solaris_meter.metering.dialects.openai_chat import OpenAIChat
from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.metering.meter import DEFERRED_LIFE_MS, UNSTREAMED_OUTPUT, Denied, Meter
from solaris_meter.metering.pricing import Pricing
from solaris_meter.models import CallDetails, Caller, CallReport, PriceTerms, Usage
from solaris_meter.settings import Admission, Metering, Settings
from solaris_meter.settings import Ledger as LedgerSettings

OPENAI = OpenAIChat()
NEW = NewAccount("basico", "America/Sao_Paulo")
NOW_MS = 1_795_400_000_000  # 2026-11-23
QUESTION = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Olá, tudo bem?"}]}
LONG = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "Conte mais. " * 100}]}


@pytest.fixture(scope="module")
def counter():
    with loaded_counter() as counter:
        yield counter


class Prices(Pricing):
    """Says that every call costs the same, and remembers which it was asked about."""

    def __init__(self, nano_usd: int | None = None):
        super().__init__({})
        self.nano_usd = nano_usd
        self.asked: list[tuple[str, str, Usage, PriceTerms]] = []

    def cost_nano_usd(self, provider, model, usage, terms):
        self.asked.append((provider, model, usage, terms))
        return self.nano_usd


class Backstage(ByteCounter):
    """Keeps what it is to do in the background until it is told to; `loaded`: whether it counts already."""

    def __init__(self, *, loaded=True):
        super().__init__()
        self.loaded = loaded
        self.tasks = []

    @property
    def ready(self):
        return self.loaded

    def in_background(self, task):
        self.tasks.append(task)

    def work(self):
        for task in self.tasks:
            task()
        self.tasks.clear()


class Shop:
    """A meter and its ledger in a directory of their own, with a clock that stands still until it is set."""

    def __init__(
        self, path, counter, *, owner="here", on_error="deny", new=NEW, prices=None, audit_sample=0.0, **admission
    ):
        self.path = path
        self.now_ms = NOW_MS
        self.reports: list[CallReport] = []
        self.engine = open_engine(f"sqlite:///{path}")
        self.ledger = Ledger(self.engine, owner, new, [80, 100])
        self.ledger.open()
        ids = itertools.count(1)
        self.meter = Meter(
            self.ledger,
            counter,
            prices or Prices(),
            Settings(
                ledger=LedgerSettings(on_error=on_error),
                admission=Admission(**admission),
                metering=Metering(audit_sample=audit_sample),
            ),
            clock_ms=lambda: self.now_ms,
            new_id=lambda: f"{owner}-{next(ids)}",
            notice=lambda standing: f"FIM {standing.user}",
            ended=lambda report: self.reports.append(report),
        )

    async def open(self, body=QUESTION, *, user="ana", dialect=OPENAI, gone=False):
        raw = json.dumps(body).encode()
        request = dialect.read_request("/v1/chat/completions", body, len(raw))
        details = CallDetails("openai", request.model, dialect.name, "/v1/chat/completions", request.stream)
        opened = await self.meter.open(Caller(user), details, dialect, request, raw, lambda: gone)
        if not isinstance(opened, Denied):
            opened.begin({}, ServerSentEvents())
        return opened

    @contextmanager
    def reading(self):
        connection = self.engine.connect()
        try:
            with connection.snapshot():
                yield connection
        finally:
            connection.close()

    @contextmanager
    def writing(self):
        connection = self.engine.connect()
        try:
            with connection.transaction():
                yield connection
        finally:
            connection.close()

    def standing(self, user="ana"):
        with self.reading() as tx:
            return accounts.get(tx, user).standing

    def leave(self, tokens, user="ana"):
        """Make `tokens` the balance of an account."""
        with self.writing() as tx:
            balance = renewals.touch(tx, user, self.now_ms, NEW).balance
            credits.take(tx, user, balance - tokens, self.now_ms, note="test")

    def events(self):
        with self.reading() as tx:
            return tx.rows("SELECT * FROM usage_events ORDER BY rowid")

    def reservations(self):
        with self.reading() as tx:
            return {row["id"]: row["state"] for row in tx.rows("SELECT id, state FROM reservations")}

    def sound(self):
        """Whether every number in the ledger is as its entries say."""
        with self.reading() as tx:
            return check.run(tx).problems == []

    @contextmanager
    def locked(self):
        """Another process holds the database, longer than the ledger waits."""
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    @contextmanager
    def gone(self):
        """The database file cannot be opened. To be used before the ledger wrote anything."""
        aside = self.path.with_name("aside")
        self.path.rename(aside)
        self.path.mkdir()
        try:
            yield
        finally:
            self.path.rmdir()
            aside.rename(self.path)


@pytest.fixture
def shop(tmp_path, counter, monkeypatch):
    """Makes shops in one database, and closes them."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 100)
    opened = []

    def make(**options):
        opened.append(Shop(tmp_path / "solaris.db", options.pop("counter", counter), **options))
        return opened[-1]

    yield make
    for one in opened:
        one.ledger.close()


def reports_usage(call, read, written):
    """The answer to a call, with what the provider says it used."""
    chunk = {
        "choices": [],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
    call.feed(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())


def says(text):
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


def test_what_is_opened_is_reserved_on_disk_and_what_is_settled_is_charged(shop):
    async def story():
        one = shop(slice=1000)
        call = await one.open()
        size = call.request.size.bound
        assert one.standing().reserved == size + 1000
        assert one.meter.running == 1
        reports_usage(call, 12, 30)
        settled = await one.meter.settle(call, 200, interrupted=False)
        assert (settled.standing.balance, settled.standing.reserved) == (1_000_000 - 42, 0)
        assert one.standing() == settled.standing
        assert one.meter.running == 0
        [event] = one.events()
        assert (event["id"], event["input_tokens"], event["output_tokens"], event["billed_tokens"]) == (
            call.id,
            12,
            30,
            42,
        )
        assert (event["basis"], event["status"], event["interrupted"]) == ("reported", 200, 0)
        assert one.sound()

    asyncio.run(story())


def test_the_time_a_call_took_is_kept(shop):
    async def story():
        one = shop()
        call = await one.open()
        one.now_ms += 2500
        reports_usage(call, 1, 1)
        await one.meter.settle(call, 200, interrupted=True)
        assert [(event["duration_ms"], event["interrupted"]) for event in one.events()] == [(2500, 1)]

    asyncio.run(story())


def test_who_watches_hears_of_each_call_once_and_how_it_ended(shop):
    async def story():
        one = shop()
        call = await one.open()
        one.now_ms += 2500
        reports_usage(call, 12, 30)
        settled = await one.meter.settle(call, 200, interrupted=True)
        await one.meter.settle(call, 200, interrupted=True)
        [report] = one.reports
        assert (report.id, report.ending, report.caller.user, report.details.model) == (
            call.id,
            "settled",
            "ana",
            "gpt-4o",
        )
        assert (report.billed_tokens, report.usage.total_tokens, report.standing) == (42, 42, settled.standing)
        assert (report.at_ms, report.duration_ms, report.status, report.interrupted) == (one.now_ms, 2500, 200, True)
        free = await one.open()
        await one.meter.void(free)
        await one.meter.void(free)
        assert [(report.id, report.ending, report.billed_tokens) for report in one.reports[1:]] == [
            (free.id, "free", 0)
        ]

    asyncio.run(story())


def test_a_call_is_settled_once(shop):
    async def story():
        one = shop()
        call = await one.open()
        reports_usage(call, 12, 30)
        await one.meter.settle(call, 200, interrupted=False)
        assert await one.meter.settle(call, 200, interrupted=False) is None
        await one.meter.void(call)
        assert len(one.events()) == 1
        assert one.sound()

    asyncio.run(story())


def test_two_who_settle_the_same_call_at_once_charge_it_once(shop):
    async def story():
        one = shop()
        call = await one.open()
        reports_usage(call, 12, 30)
        results = await asyncio.gather(*[one.meter.settle(call, 200, interrupted=False) for _ in range(3)])
        assert len([result for result in results if result]) == 1
        assert one.standing().balance == 1_000_000 - 42

    asyncio.run(story())


def test_a_voided_call_costs_nothing_and_holds_nothing(shop):
    async def story():
        one = shop()
        call = await one.open()
        await one.meter.void(call)
        await one.meter.void(call)
        assert await one.meter.settle(call, 200, interrupted=False) is None
        assert one.reservations() == {call.id: "void"}
        assert (one.standing().balance, one.standing().reserved) == (1_000_000, 0)
        assert one.events() == []
        assert one.sound()

    asyncio.run(story())


def test_an_answer_that_owes_nothing_is_voided(shop):
    async def story():
        one = shop()
        call = await one.open()
        call.feed(b'data: {"error":{"message":"overloaded"}}\n\n')
        assert await one.meter.settle(call, 200, interrupted=False) is None
        assert one.reservations() == {call.id: "void"}

    asyncio.run(story())


def test_the_thresholds_that_a_call_crosses_are_told_once(shop):
    async def story():
        one = shop()
        crossed = []
        for _ in range(3):
            call = await one.open()
            reports_usage(call, 0, 420_000)
            crossed.append((await one.meter.settle(call, 200, interrupted=False)).crossed)
        assert crossed == [(), (80,), (100,)]
        assert one.standing().balance == -260_000

    asyncio.run(story())


def test_a_usage_that_cannot_be_told_costs_the_floor(shop, caplog):
    def fail():
        raise RuntimeError("a defect of ours")

    async def story():
        one = shop()
        call = await one.open(LONG)
        call.request = replace(call.request, prompt=fail)
        call.feed(says("Era uma vez"))
        settled = await one.meter.settle(call, 200, interrupted=False)
        floor = call.request.size.floor
        assert floor > 100
        assert settled.standing.used == floor
        assert [event["basis"] for event in one.events()] == ["estimated"]

    asyncio.run(story())
    assert "its usage cannot be told" in caplog.text


@pytest.mark.parametrize("balance", [0, -5])
def test_who_has_nothing_left_is_denied(shop, balance):
    async def story():
        one = shop()
        one.leave(balance)
        denied = await one.open()
        assert isinstance(denied, Denied)
        assert denied.reason == "tokens_exhausted"
        assert denied.standing == one.standing()
        assert one.meter.running == 0
        assert one.reservations() == {}

    asyncio.run(story())


def test_a_blocked_account_is_denied(shop):
    async def story():
        one = shop()
        one.leave(100)
        with one.writing() as tx:
            accounts.set_status(tx, accounts.get(tx, "ana"), "blocked")
        assert (await one.open()).reason == "account_blocked"

    asyncio.run(story())


def test_who_has_no_account_is_denied_where_none_is_created(shop):
    async def story():
        one = shop(new=replace(NEW, create=False))
        assert await one.open() == Denied("account_unknown", None)

    asyncio.run(story())


def test_far_from_the_limit_the_bound_is_reserved_and_nothing_is_counted(shop):
    async def story():
        one = shop()
        call = await one.open()
        assert not call.terms.ask.exact
        assert call.terms.ask.input_tokens == call.request.size.bound

    asyncio.run(story())


def test_near_the_limit_the_input_is_counted(shop, counter):
    async def story():
        one = shop(slice=10)
        one.leave(600)
        call = await one.open(LONG)
        exact = counter.count_prompt("gpt-4o", call.request.prompt()).tokens
        assert exact < 600 < call.request.size.bound
        assert call.terms.ask.exact
        assert one.standing().reserved == exact + 10

    asyncio.run(story())


def test_parallel_calls_spend_what_there_is_and_no_more(shop, counter):
    # Twelve calls at once, and tokens for exactly ten: ten are served, two are told that nothing is left.
    async def serve(one):
        call = await one.open(QUESTION | {"max_tokens": 50})
        if isinstance(call, Denied):
            return call.reason
        await asyncio.sleep(0.01)
        reports_usage(call, call.terms.ask.input_tokens, 50)
        await one.meter.settle(call, 200, interrupted=False)
        return "served"

    async def story():
        one = shop(slice=50, overdraft="strict")
        cost = counter.count_prompt("gpt-4o", OPENAI.read_request("/", QUESTION, 0).prompt()).tokens + 50
        one.leave(10 * cost)
        results = await asyncio.gather(*[serve(one) for _ in range(12)])
        assert sorted(results) == ["served"] * 10 + ["tokens_exhausted"] * 2
        assert (one.standing().balance, one.standing().reserved) == (0, 0)
        assert one.sound()

    asyncio.run(story())


def test_a_call_waits_for_what_a_running_one_frees(shop):
    async def story():
        one = shop(slice=100)
        one.leave(120)
        first = await one.open()
        second = asyncio.create_task(one.open())
        await asyncio.sleep(0.1)
        assert not second.done()
        assert one.meter.running == 2
        reports_usage(first, 10, 10)
        await one.meter.settle(first, 200, interrupted=False)
        call = await asyncio.wait_for(second, 5)
        assert call.terms.reserved.tokens == 100  # all that was left
        assert one.standing().reserved == 100

    asyncio.run(story())


def test_a_call_that_waited_too_long_is_told_why(shop):
    async def story():
        one = shop(slice=100, admission_wait=0.05)
        one.leave(120)
        await one.open()
        denied = await one.open()
        assert denied.reason == "tokens_reserved"
        assert denied.standing.balance == 120
        assert one.meter.running == 1

    asyncio.run(story())


def test_soft_lets_the_last_call_run_into_debt(shop):
    async def story():
        one = shop()
        one.leave(5)
        call = await one.open(LONG)
        assert (call.terms.reserved.tokens, call.terms.reserved.output_tokens) == (5, 0)
        for _ in range(20):
            call.feed(says("mais e mais palavras "))
        assert not call.ended
        reports_usage(call, 500, 4000)
        await one.meter.settle(call, 200, interrupted=False)
        assert one.standing().balance == 5 - 4500
        assert one.sound()

    asyncio.run(story())


def test_strict_serves_only_what_fits(shop):
    async def story():
        one = shop(overdraft="strict")
        one.leave(5)
        assert (await one.open(LONG)).reason == "tokens_exhausted"
        assert one.reservations() == {}

    asyncio.run(story())


def test_strict_lowers_the_limit_of_a_last_call_to_what_is_left(shop):
    async def story():
        one = shop(slice=1000, overdraft="strict")
        one.leave(50)
        call = await one.open(QUESTION | {"max_tokens": 800})
        left = call.terms.reserved.output_tokens
        assert 0 < left < 50
        sent = json.loads(call.terms.body)
        assert sent == QUESTION | {"max_tokens": left, "stream_options": {"include_usage": True}}
        assert call.terms.hides_usage

    asyncio.run(story())


def test_strict_limits_an_answer_that_is_not_streamed_where_less_is_left_than_it_may_need(shop):
    async def story():
        one = shop(overdraft="strict")
        call = await one.open(QUESTION | {"stream": False})
        assert call.terms.body is None
        assert one.standing().reserved == call.request.size.bound + UNSTREAMED_OUTPUT
        await one.meter.void(call)
        one.leave(5000)
        call = await one.open(QUESTION | {"stream": False, "n": 2})
        assert json.loads(call.terms.body)["max_tokens"] == call.terms.reserved.output_tokens // 2
        await one.meter.void(call)
        one.leave(1_000_000)
        within = await one.open(QUESTION | {"stream": False, "max_tokens": 700})
        assert within.terms.body is None
        assert within.terms.reserved.output_tokens == 700

    asyncio.run(story())


def test_strict_extends_from_the_ledger_and_ends_when_it_has_nothing_left(shop):
    async def story():
        one = shop(slice=20, overdraft="strict")
        one.leave(100)
        call = await one.open()
        relayed = b""
        for _ in range(200):
            relayed += call.feed(says(" palavra"))
            if call.ended:
                break
        assert call.ended
        assert one.standing().available == 0
        assert b"FIM ana" in relayed
        settled = await one.meter.settle(call, 200, interrupted=True)
        assert -5 <= settled.standing.balance <= 0  # no more than one network chunk beyond
        assert one.sound()

    asyncio.run(story())


def test_soft_asks_for_usage_and_changes_nothing_else(shop):
    async def story():
        one = shop()
        call = await one.open()
        assert json.loads(call.terms.body) == QUESTION | {"stream_options": {"include_usage": True}}
        assert call.terms.hides_usage
        silent = await one.open(QUESTION | {"stream_options": {"include_usage": True}})
        assert silent.terms.body is None
        assert not silent.terms.hides_usage

    asyncio.run(story())


def test_a_cancelled_open_leaves_no_reservation_while_the_ledger_is_busy(shop, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 10_000)

    async def story():
        one = shop()
        with one.locked():
            opening = asyncio.create_task(one.open())
            await asyncio.sleep(0.1)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        call = await one.open()  # the writer has worked off what came before it
        assert one.standing().reserved == call.terms.reserved.tokens
        assert one.meter.running == 1
        assert one.sound()

    asyncio.run(story())


def test_a_cancelled_open_leaves_the_line_of_those_who_wait(shop):
    async def story():
        one = shop(slice=100)
        one.leave(120)
        first = await one.open()
        waiting = [asyncio.create_task(one.open()) for _ in range(2)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        await asyncio.sleep(0.05)
        assert one.meter.running == 2
        await one.meter.void(first)
        second = await asyncio.wait_for(waiting[1], 5)
        assert one.standing().reserved == second.terms.reserved.tokens
        assert [state for state in one.reservations().values() if state == "pending"] == ["pending"]

    asyncio.run(story())


def test_a_fault_of_ours_while_opening_leaves_no_reservation(shop):
    class Faulty(OpenAIChat):
        def ask_for_usage(self, raw, request):
            raise RuntimeError("a defect of ours")

    async def story():
        one = shop()
        with pytest.raises(RuntimeError, match="defect"):
            await one.open(dialect=Faulty())
        await one.meter.tend()  # waits behind the void
        assert one.standing().reserved == 0
        assert list(one.reservations().values()) == ["void"]
        assert one.meter.running == 0

    asyncio.run(story())


def test_a_body_with_half_a_character_leaves_no_reservation(shop):
    async def story():
        one = shop()
        with pytest.raises(UnicodeEncodeError):
            await one.open(QUESTION | {"model": "gpt-\ud83d"})
        call = await one.open()
        assert one.standing().reserved == call.terms.reserved.tokens

    asyncio.run(story())


def test_while_the_ledger_is_down_calls_are_denied(shop):
    async def story():
        one = shop(on_error="deny")
        with one.gone():
            assert await one.open() == Denied("ledger_unavailable")
            assert one.meter.running == 0
        assert not isinstance(await one.open(), Denied)

    asyncio.run(story())


def test_a_reservation_whose_commit_nobody_heard_of_costs_nothing_where_the_call_was_refused(shop, monkeypatch):
    async def story():
        one = shop(on_error="deny")
        reserve = one.ledger.reserve

        def unheard(ask, now_ms):
            reserve(ask, now_ms).result(10)
            lost: Future[Decision] = Future()
            lost.set_exception(Unavailable("the answer was lost"))
            return lost

        monkeypatch.setattr(one.ledger, "reserve", unheard)
        assert await one.open() == Denied("ledger_unavailable")
        assert one.standing().reserved > 0
        one.now_ms += 3_600_000  # long after it has expired
        await one.meter.tend()
        assert one.reservations() == {"here-1": "void"}
        assert (one.standing().reserved, one.standing().balance) == (0, 1_000_000)
        assert one.events() == []

    asyncio.run(story())


def test_while_the_ledger_is_down_calls_may_be_let_through_and_are_billed_later(shop):
    async def story():
        one = shop(on_error="allow")
        with one.gone():
            call = await one.open()
            assert call.terms.reserved is None
            assert call.terms.standing is None
            reports_usage(call, 12, 30)
            one.now_ms += 1000
            assert await one.meter.settle(call, 200, interrupted=False) is None
            assert one.meter.running == 0
        await one.meter.tend()
        await one.meter.tend()
        assert one.standing().balance == 1_000_000 - 42
        [event] = one.events()
        assert (event["id"], event["billed_tokens"], event["recovered"], event["duration_ms"]) == (call.id, 42, 0, 1000)
        assert one.sound()

    asyncio.run(story())


def test_a_call_that_was_let_through_is_billed_at_once_where_the_ledger_is_back(shop):
    async def story():
        one = shop(on_error="allow")
        with one.gone():
            call = await one.open()
        reports_usage(call, 12, 30)
        settled = await one.meter.settle(call, 200, interrupted=False)
        assert settled.standing.balance == 1_000_000 - 42
        await one.meter.tend()
        assert len(one.events()) == 1

    asyncio.run(story())


def test_a_call_that_was_let_through_may_owe_nothing(shop):
    async def story():
        one = shop(on_error="allow")
        with one.gone():
            call = await one.open()
            await one.meter.void(call)
        await one.meter.tend()
        assert one.events() == []
        assert one.meter.running == 0

    asyncio.run(story())


def test_strict_does_not_limit_a_call_that_was_let_through(shop):
    async def story():
        one = shop(on_error="allow", overdraft="strict")
        with one.gone():
            call = await one.open(QUESTION | {"stream": False})
        assert call.terms.body is None
        assert not call.terms.strict

    asyncio.run(story())


def test_a_settlement_that_the_ledger_cannot_take_is_journalled_and_billed_once(shop):
    async def story():
        one = shop()
        call = await one.open()
        reports_usage(call, 12, 30)
        with one.locked():
            assert await one.meter.settle(call, 200, interrupted=False) is None
        assert one.events() == []
        assert one.standing().reserved > 0  # still held: nobody else may spend it
        await one.meter.tend()
        await one.meter.tend()
        assert [event["billed_tokens"] for event in one.events()] == [42]
        assert (one.standing().balance, one.standing().reserved) == (1_000_000 - 42, 0)
        assert one.sound()

    asyncio.run(story())


def test_a_journalled_call_is_billed_as_it_was_and_not_recovered_as_a_guess(shop):
    async def story():
        one = shop()
        call = await one.open(LONG)
        reports_usage(call, 12, 30)
        with one.locked():
            await one.meter.settle(call, 200, interrupted=False)
        one.now_ms += RESERVATION_LIFE_MS + 1  # its reservation has expired meanwhile
        await one.meter.tend()
        assert [(event["billed_tokens"], event["recovered"]) for event in one.events()] == [(42, 0)]
        assert one.sound()

    asyncio.run(story())


def test_the_journal_outlives_the_process(shop):
    async def story():
        one = shop(owner="before")
        call = await one.open()
        reports_usage(call, 12, 30)
        with one.locked():
            await one.meter.settle(call, 200, interrupted=False)
        one.ledger.close()
        after = shop(owner="after")
        await after.meter.tend()
        assert [event["billed_tokens"] for event in after.events()] == [42]
        assert after.sound()

    asyncio.run(story())


def test_a_void_that_the_ledger_cannot_take_is_recovered_later(shop, caplog):
    async def story():
        one = shop()
        call = await one.open(QUESTION | {"messages": [{"role": "user", "content": ""}], "model": ""})
        with one.locked():
            await one.meter.void(call)
        assert one.meter.running == 0
        assert one.standing().reserved > 0
        one.now_ms += RESERVATION_LIFE_MS + 1
        await one.meter.tend()
        assert one.standing().reserved == 0
        assert one.sound()

    asyncio.run(story())
    assert "keeps its reservation until it is recovered" in caplog.text


def test_running_calls_are_not_recovered_however_long_they_take(shop):
    async def story():
        one = shop()
        call = await one.open(LONG)
        for _ in range(5):
            one.now_ms += RESERVATION_LIFE_MS
            await one.meter.tend()
        assert one.reservations() == {call.id: "pending"}
        with one.reading() as tx:
            assert len(reports.holds(tx)) == 1
        reports_usage(call, 12, 30)
        assert (await one.meter.settle(call, 200, interrupted=False)).repeated is False

    asyncio.run(story())


def test_what_a_dead_process_left_costs_the_floor_and_is_flagged(shop):
    async def story():
        dead = shop(owner="dead")
        call = await dead.open(LONG)
        dead.ledger.close()  # its mark is gone, and its reservation is still there
        alive = shop(owner="alive")
        await alive.meter.tend()
        [event] = alive.events()
        assert (event["id"], event["recovered"], event["basis"]) == (call.id, 1, "estimated")
        assert event["billed_tokens"] == call.request.size.floor
        assert alive.standing().reserved == 0
        assert alive.sound()

    asyncio.run(story())


def test_the_calls_of_another_process_that_lives_are_left_alone(shop):
    async def story():
        one, other = shop(owner="one"), shop(owner="other")
        call = await one.open(LONG)
        await other.meter.tend()
        assert other.reservations() == {call.id: "pending"}

    asyncio.run(story())


def test_a_clock_that_runs_ahead_elsewhere_takes_no_running_call_away(shop):
    async def story():
        one = shop(owner="one")
        call = await one.open(LONG)
        other = shop(owner="other")
        other.now_ms += 10 * RESERVATION_LIFE_MS
        await other.meter.tend()
        reports_usage(call, 12, 3000)
        settled = await one.meter.settle(call, 200, interrupted=False)
        assert not settled.repeated
        assert settled.standing.balance == 1_000_000 - 3012
        assert one.sound()

    asyncio.run(story())


def test_what_a_call_cost_is_kept(shop):
    async def story():
        prices = Prices(640_000)
        one = shop(prices=prices)
        call = await one.open(QUESTION | {"model": "gpt-4o-mini"})
        report = {"prompt_tokens": 12, "completion_tokens": 30, "cost": 0.00064}
        chunk = {"model": "gpt-4o-mini-2024", "choices": [], "service_tier": "flex", "usage": report}
        call.feed(f"data: {json.dumps(chunk)}\n\n".encode())
        await one.meter.settle(call, 200, interrupted=False)
        assert [event["cost_nano_usd"] for event in one.events()] == [640_000]
        terms = PriceTerms(model="gpt-4o-mini-2024", service_tier="flex", reported_usd=0.00064)
        assert prices.asked == [("openai", "gpt-4o-mini", Usage(12, 30, "reported"), terms)]
        assert one.sound()

    asyncio.run(story())


def test_a_cost_that_nobody_knows_is_none(shop):
    async def story():
        one = shop(prices=Prices(None))
        call = await one.open()
        reports_usage(call, 12, 30)
        await one.meter.settle(call, 200, interrupted=False)
        assert [event["cost_nano_usd"] for event in one.events()] == [None]

    asyncio.run(story())


def test_a_journalled_call_keeps_its_cost(shop):
    async def story():
        one = shop(prices=Prices(77))
        call = await one.open()
        reports_usage(call, 12, 30)
        with one.locked():
            await one.meter.settle(call, 200, interrupted=False)
        await one.meter.tend()
        assert [event["cost_nano_usd"] for event in one.events()] == [77]

    asyncio.run(story())


def test_the_first_calls_do_not_wait_for_the_prices(shop):
    async def story():
        counter = Backstage(loaded=False)
        one = shop(prices=Prices(77), counter=counter)
        for _ in range(2):
            call = await one.open()
            reports_usage(call, 12, 30)
            assert await one.meter.settle(call, 200, interrupted=False) is not None
        assert [event["cost_nano_usd"] for event in one.events()] == [None, None]
        counter.work()
        await one.meter.tend()  # waits behind the prices
        assert [event["cost_nano_usd"] for event in one.events()] == [77, 77]
        assert one.sound()

    asyncio.run(story())


def audits(one):
    with one.reading() as tx:
        return [
            (row["usage_event_id"], row["counted_input"], row["counted_output"])
            for row in tx.rows("SELECT * FROM audits")
        ]


def test_a_sampled_call_is_counted_as_well(shop):
    async def story():
        counter = Backstage()
        one = shop(counter=counter, audit_sample=1.0)
        call = await one.open()
        call.feed(says("Olá"))
        reports_usage(call, 12, 30)
        await one.meter.settle(call, 200, interrupted=False)
        assert audits(one) == []  # nobody waits for it
        counter.work()
        await one.meter.tend()
        assert audits(one) == [(call.id, len("Olá, tudo bem?".encode()), len("Olá".encode()))]
        assert [event["input_tokens"] for event in one.events()] == [12]

    asyncio.run(story())


def test_without_a_sample_nothing_is_counted_besides(shop):
    async def story():
        counter = Backstage()
        one = shop(counter=counter, audit_sample=0.0)
        call = await one.open()
        reports_usage(call, 12, 30)
        await one.meter.settle(call, 200, interrupted=False)
        assert counter.tasks == []

    asyncio.run(story())


def test_what_was_counted_itself_is_no_audit(shop):
    async def story():
        counter = Backstage()
        one = shop(counter=counter, audit_sample=1.0)
        call = await one.open()
        call.feed(says("Olá"))
        await one.meter.settle(call, 200, interrupted=True)
        assert [event["basis"] for event in one.events()] == ["counted"]
        assert counter.tasks == []

    asyncio.run(story())


def test_a_sample_takes_its_share(shop):
    async def story():
        counter = Backstage()
        one = shop(counter=counter, audit_sample=0.3)
        for _ in range(100):
            call = await one.open()
            reports_usage(call, 1, 1)
            await one.meter.settle(call, 200, interrupted=False)
        assert 15 <= len(counter.tasks) <= 45

    asyncio.run(story())


RESPONSES = dialect_called("openai-responses")
ASKED = {"model": "gpt-5", "background": True, "input": "Era uma vez"}
QUEUED = {"id": "resp_1", "background": True, "status": "queued", "output": []}
DONE = QUEUED | {"status": "completed", "usage": {"input_tokens": 12, "output_tokens": 30}}


def answers(call, body):
    call.begin({}, None)
    call.read_body(json.dumps(body).encode())


async def deferred(one):
    """A call whose answer is still being made."""
    call = await one.open(ASKED, dialect=RESPONSES)
    answers(call, QUEUED)
    assert call.background_id == "resp_1"
    await one.meter.defer(call, "resp_1")
    return call


def poll(one, answer_id="resp_1"):
    return one.meter.polled("openai", answer_id)


def test_a_background_answer_is_charged_when_it_is_polled(shop):
    async def story():
        one = shop()
        call = await deferred(one)
        assert one.meter.running == 0  # a stop of the sidecar waits for nobody
        assert one.standing().reserved > 0
        for _ in range(2):
            early = poll(one)
            answers(early, QUEUED)
            assert not early.is_over
        last = poll(one)
        answers(last, DONE)
        assert last.is_over
        assert last.id == call.id
        await one.meter.settle(last, 200, interrupted=False)
        assert [event["billed_tokens"] for event in one.events()] == [42]
        assert one.standing().reserved == 0
        assert poll(one) is None
        assert one.meter.running == 0
        assert one.sound()

    asyncio.run(story())


def test_two_who_poll_at_once_do_not_pay_twice(shop):
    async def story():
        one = shop()
        await deferred(one)
        polls = [poll(one), poll(one)]
        for call in polls:
            answers(call, DONE)
        await asyncio.gather(*[one.meter.settle(call, 200, interrupted=False) for call in polls])
        assert [event["billed_tokens"] for event in one.events()] == [42]
        assert one.sound()

    asyncio.run(story())


def test_a_poll_for_another_answer_gets_nothing(shop):
    async def story():
        one = shop()
        await deferred(one)
        assert poll(one, "resp_2") is None
        assert one.meter.polled("azure", "resp_1") is None  # another server's answer may have the same id

    asyncio.run(story())


def test_an_answer_whose_id_was_taken_over_is_charged_its_input(shop):
    # Nobody can poll for the first any more.
    async def story():
        one = shop(counter=ByteCounter())
        first, second = await deferred(one), await deferred(one)
        assert [event["id"] for event in one.events()] == [first.id]
        assert poll(one).id == second.id
        assert one.meter.running == 0

    asyncio.run(story())


def test_what_was_settled_is_not_deferred(shop):
    async def story():
        one = shop()
        call = await one.open(ASKED, dialect=RESPONSES)
        await one.meter.void(call)
        await one.meter.defer(call, "resp_1")
        assert poll(one) is None
        assert one.meter.running == 0

    asyncio.run(story())


def test_a_deferred_call_keeps_its_reservation_while_it_lives(shop):
    async def story():
        one = shop()
        call = await deferred(one)
        for _ in range(3):
            one.now_ms += RESERVATION_LIFE_MS
            await one.meter.tend()
        assert one.reservations() == {call.id: "pending"}

    asyncio.run(story())


def test_what_nobody_came_for_is_charged_its_input(shop):
    async def story():
        one = shop(counter=ByteCounter())
        await deferred(one)
        one.now_ms += DEFERRED_LIFE_MS
        await one.meter.tend()
        assert one.events() == []
        one.now_ms += 1
        await one.meter.tend()
        [event] = one.events()
        assert (event["input_tokens"], event["output_tokens"]) == (len("Era uma vez"), 0)
        assert event["interrupted"] == 1
        assert one.standing().reserved == 0
        assert poll(one) is None
        assert one.meter.running == 0

    asyncio.run(story())


def test_at_the_end_of_the_process_all_that_is_deferred_is_charged(shop):
    async def story():
        one = shop(counter=ByteCounter())
        await deferred(one)
        await one.meter.settle_deferred()
        assert [event["input_tokens"] for event in one.events()] == [len("Era uma vez")]

    asyncio.run(story())


def test_a_call_that_nothing_could_be_reserved_for_is_billed(shop):
    # A session's server went on by itself.
    async def story():
        one = shop()
        one.leave(5)
        request = OPENAI.read_request("/v1/realtime", {"model": "gpt-realtime", "stream": True}, 10)
        details = CallDetails("openai", "gpt-realtime", "openai-realtime", "/v1/realtime", stream=True)
        call = one.meter.uncovered(Caller("ana"), details, OPENAI, request)
        assert call.terms.reserved is None
        assert one.meter.running == 1
        assert one.standing().reserved == 0
        reports_usage(call, 12, 30)
        settled = await one.meter.settle(call, 101, interrupted=False)
        assert settled.standing.balance == 5 - 42
        assert one.meter.running == 0
        assert one.sound()

    asyncio.run(story())


def test_an_uncovered_call_that_owes_nothing_is_forgotten(shop):
    async def story():
        one = shop()
        request = OPENAI.read_request("/", QUESTION, 10)
        call = one.meter.uncovered(Caller("ana"), CallDetails("openai", "m", "d", "/", stream=True), OPENAI, request)
        assert await one.meter.settle(call, 200, interrupted=False) is None
        assert one.events() == []
        assert one.meter.running == 0

    asyncio.run(story())


def test_a_stopped_claude_stream_is_counted_by_the_measure_of_its_input(shop):
    async def story():
        counter = ByteCounter()
        one = shop(counter=counter)
        call = await one.open(QUESTION | {"model": "claude-sonnet-4-5"}, dialect=dialect_called("anthropic"))
        call.feed(payload("anthropic_stream_aborted.sse"))
        await one.meter.settle(call, 200, interrupted=True, client_left=True)
        assert [told.reported_input for told in counter.calibrations if told] == [25]
        assert [event["input_tokens"] for event in one.events()] == [25]

    asyncio.run(story())


def test_pictures_and_sound_are_held_and_billed(shop):
    async def story():
        one = shop()
        images = dialect_called("openai-images")
        call = await one.open({"model": "dall-e-3", "prompt": "um gato", "n": 3}, dialect=images)
        assert call.terms.ask.images == 3
        answers(call, {"data": [{}, {}]})
        await one.meter.settle(call, 200, interrupted=False)
        [event] = one.events()
        assert (event["images"], event["billed_tokens"]) == (2, 2)
        assert one.sound()

    asyncio.run(story())
