import asyncio
from dataclasses import replace

import pytest

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.rates import Rates
from solaris_meter.ledger.reservations import Ask, MustCount, MustWait, Refused, Reserved
from solaris_meter.metering import admission
from solaris_meter.metering.admission import Admission, TimedOut
from solaris_meter.models import CallDetails, Caller, Standing
from solaris_meter.periods import Period

STANDING = Standing("ana", None, "basico", "active", "UTC", Period(0, None), used=0, reserved=0, balance=10)


def ask(name, user="ana", *, tokens=1):
    details = CallDetails("openai", "gpt-4o", "openai-chat", "/v1/chat/completions", stream=True)
    return Ask(name, Caller(user), details, tokens, False, 0, 0, 0, "soft", "here", 0)


class Till:
    """A ledger of one number: `free` tokens that calls take, and `decided`, who was decided on in which order."""

    def __init__(self, free=0):
        self.free = free
        self.decided = []

    async def decide(self, asked):
        await asyncio.sleep(0)
        self.decided.append(asked.id)
        if self.free < asked.input_tokens:
            return MustWait(STANDING)
        self.free -= asked.input_tokens
        return Reserved(asked.id, asked.input_tokens, 0, STANDING, Rates(), ())


async def no_count():
    raise AssertionError("nothing is to be counted")


def admit(queues, asked, *, gone=lambda: False):
    return asyncio.create_task(queues.admit(asked, no_count, gone))


async def turns():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _no_recheck(monkeypatch):
    # What these tests see happen, happens because somebody was woken.
    monkeypatch.setattr(admission, "RECHECK_S", 1000)


def test_a_call_that_fits_is_reserved_at_once():
    till = Till(free=5)
    queues = Admission(till.decide, 30)
    decision, asked = asyncio.run(queues.admit(ask("a", tokens=5), no_count, lambda: False))
    assert isinstance(decision, Reserved)
    assert asked == ask("a", tokens=5)
    assert till.decided == ["a"]
    assert queues.waiting == 0


def test_a_refused_call_does_not_wait():
    async def refuse(asked):
        return Refused("tokens_exhausted", STANDING)

    queues = Admission(refuse, 30)
    decision, _ = asyncio.run(queues.admit(ask("a"), no_count, lambda: False))
    assert decision == Refused("tokens_exhausted", STANDING)
    assert queues._queues == {}


def test_calls_that_wait_are_served_in_the_order_in_which_they_came():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        tasks = []
        for name in "abc":
            tasks.append(admit(queues, ask(name)))
            await turns()
        assert queues.waiting == 3
        served = []
        for _ in tasks:
            till.free += 1
            queues.wake("ana")
            await turns()
            served.append([task.done() for task in tasks])
        assert served == [[True, False, False], [True, True, False], [True, True, True]]
        assert queues._queues == {}

    asyncio.run(story())


def test_one_settlement_that_frees_much_serves_all_who_wait():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        tasks = [admit(queues, ask(name)) for name in "abc"]
        await turns()
        till.free = 3
        queues.wake("ana")
        await turns()
        assert [type(task.result()[0]) for task in tasks] == [Reserved] * 3

    asyncio.run(story())


def test_a_small_newcomer_queues_behind_a_large_call_that_waits():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        large = admit(queues, ask("large", tokens=10))
        await turns()
        till.free = 5  # enough for the small one, which came later
        small = admit(queues, ask("small", tokens=1))
        await turns()
        assert "small" not in till.decided
        till.free = 10
        queues.wake("ana")
        await turns()
        assert isinstance(large.result()[0], Reserved)
        assert not small.done()
        till.free = 1
        queues.wake("ana")
        await turns()
        assert isinstance(small.result()[0], Reserved)

    asyncio.run(story())


def test_one_users_queue_holds_up_nobody_else():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        waiting = admit(queues, ask("a", tokens=10))
        await turns()
        till.free = 5
        decision, _ = await queues.admit(ask("b", "bia"), no_count, lambda: False)
        assert isinstance(decision, Reserved)
        assert list(queues._queues) == ["ana"]
        waiting.cancel()
        await turns()

    asyncio.run(story())


def test_waking_wakes_the_users_first_only():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        tasks = [admit(queues, ask("a")), admit(queues, ask("b")), admit(queues, ask("c", "bia"))]
        await turns()
        till.decided.clear()
        queues.wake("ana")
        queues.wake("nobody")
        await turns()
        assert till.decided == ["a"]
        for task in tasks:
            task.cancel()
        await turns()
        assert queues._queues == {}

    asyncio.run(story())


def test_what_is_freed_while_the_first_decision_is_made_is_not_missed():
    async def story():
        till = Till()

        async def decide(asked):
            decision = await till.decide(asked)
            if len(till.decided) == 1:
                till.free = 1
                queues.wake("ana")  # nobody is in line yet: this one must look again by itself
            return decision

        queues = Admission(decide, 30)
        decision, _ = await asyncio.wait_for(queues.admit(ask("a"), no_count, lambda: False), 5)
        assert isinstance(decision, Reserved)

    asyncio.run(story())


def test_who_waits_looks_again_without_being_woken(monkeypatch):
    # Another process's settlement wakes nobody here.
    monkeypatch.setattr(admission, "RECHECK_S", 0.01)

    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        task = admit(queues, ask("a"))
        await turns()
        till.free = 1
        decision, _ = await asyncio.wait_for(task, 5)
        assert isinstance(decision, Reserved)

    asyncio.run(story())


def test_waiting_ends_when_the_time_is_over():
    async def story():
        till = Till()
        queues = Admission(till.decide, 0.05)
        loop = asyncio.get_running_loop()
        began = loop.time()
        results = await asyncio.gather(admit(queues, ask("a")), admit(queues, ask("b")))
        assert [decision for decision, _ in results] == [TimedOut(STANDING)] * 2
        assert 0.05 <= loop.time() - began < 5
        assert queues._queues == {}

    asyncio.run(story())


def test_the_last_look_at_the_end_of_the_time_counts():
    async def story():
        till = Till()
        queues = Admission(till.decide, 0.05)
        task = admit(queues, ask("a"))
        await turns()
        till.free = 1  # nobody wakes it
        decision, _ = await task
        assert isinstance(decision, Reserved)

    asyncio.run(story())


def test_with_no_time_to_wait_the_answer_comes_at_once():
    queues = Admission(Till().decide, 0)
    decision, _ = asyncio.run(asyncio.wait_for(queues.admit(ask("a"), no_count, lambda: False), 5))
    assert decision == TimedOut(STANDING)


def test_a_caller_that_is_gone_does_not_hold_up_the_line():
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        left: list[bool] = []
        gone = admit(queues, ask("gone", tokens=10), gone=lambda: bool(left))
        behind = admit(queues, ask("behind"))
        await turns()
        left.append(True)
        till.free = 1
        queues.wake("ana")
        await turns()
        assert gone.result()[0] == TimedOut(STANDING)
        assert isinstance(behind.result()[0], Reserved)
        assert queues._queues == {}

    asyncio.run(story())


@pytest.mark.parametrize("place", [0, 1])
def test_a_cancelled_call_leaves_the_line(place):
    async def story():
        till = Till()
        queues = Admission(till.decide, 30)
        tasks = [admit(queues, ask("a")), admit(queues, ask("b"))]
        await turns()
        tasks.pop(place).cancel()
        await turns()
        assert queues.waiting == 1
        till.free = 1
        queues.wake("ana")
        await turns()
        assert isinstance(tasks[0].result()[0], Reserved)
        assert queues._queues == {}

    asyncio.run(story())


def test_a_ledger_that_fails_leaves_the_line_clean():
    async def story():
        till = Till()

        async def decide(asked):
            if till.decided:
                raise Unavailable("the disk is gone")
            return await till.decide(asked)

        queues = Admission(decide, 30)
        with pytest.raises(Unavailable):
            await queues.admit(ask("a"), no_count, lambda: False)
        assert queues._queues == {}

    asyncio.run(story())


def test_the_input_is_counted_once_and_then_it_is_exact():
    async def story():
        till, seen, counts = Till(), [], []

        async def decide(asked):
            seen.append(asked)
            return await till.decide(asked) if asked.exact else MustCount(STANDING)

        async def count():
            counts.append(1)
            return 7

        queues = Admission(decide, 30)
        task = asyncio.create_task(queues.admit(ask("a", tokens=500), count, lambda: False))
        await turns()
        for _ in range(3):  # it must wait, and is decided on again and again
            queues.wake("ana")
            await turns()
        till.free = 7
        queues.wake("ana")
        decision, asked = await task
        assert isinstance(decision, Reserved)
        assert asked == replace(ask("a"), input_tokens=7, exact=True)
        assert len(counts) == 1
        assert [one.exact for one in seen] == [False] + [True] * (len(seen) - 1)

    asyncio.run(story())


def test_a_call_in_line_is_counted_when_its_turn_comes():
    async def story():
        counts = []

        async def decide(asked):
            if asked.id == "first":
                return MustWait(STANDING)
            return Reserved(asked.id, 7, 0, STANDING, Rates(), ()) if asked.exact else MustCount(STANDING)

        async def count():
            counts.append(1)
            return 7

        queues = Admission(decide, 30)
        first = admit(queues, ask("first"))
        await turns()
        second = asyncio.create_task(queues.admit(ask("second"), count, lambda: False))
        await turns()
        assert counts == []
        first.cancel()
        decision, asked = await second
        assert isinstance(decision, Reserved)
        assert asked.exact
        assert len(counts) == 1

    asyncio.run(story())
