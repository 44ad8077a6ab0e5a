"""Admission: may a call go, and what is held for it.

| case | decision |
|---|---|
| blocked account | refused, `account_blocked` |
| balance ≤ 0 | refused, `tokens_exhausted` |
| available ≥ needed | reserved |
| balance > 0, nothing of the account in flight | soft: what is left is reserved; strict: only if the input fits |
| balance > 0, the rest held by calls in flight | wait for a settlement, first come first served, then decide again |

`needed` is the input and one slice of output. The input is counted only where it matters: its bound is reserved while
that is at most a tenth of what is available.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from solaris_meter.ledger.reservations import Ask, Decision, MustCount, MustWait, Refused, Reserved
from solaris_meter.models import Standing

RECHECK_S = 0.5
"""How often a waiting call looks again without being woken: other processes settle and credit too."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Calls in flight held the rest for as long as a call may wait."""

    standing: Standing


class Admission:
    """The queues of waiting calls, one per user. `decide` asks the ledger; the clock is the event loop's."""

    def __init__(self, decide: Callable[[Ask], Awaitable[Decision]], wait_s: float) -> None:
        self._decide_in_ledger = decide
        self._wait_s = wait_s
        self._queues: dict[str, deque[asyncio.Event]] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many calls wait now."""
        return sum(len(queue) for queue in self._queues.values())

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        for queue in self._queues.values():
            for turn in queue:
                turn.set()

    def wake(self, user: str) -> None:
        """Something of the user's was settled or freed: let the first in line look again."""
        queue = self._queues.get(user)
        if queue:
            queue[0].set()

    async def admit(
        self, ask: Ask, count_input: Callable[[], Awaitable[int]], is_gone: Callable[[], bool]
    ) -> tuple[Reserved | Refused | TimedOut, Ask]:
        """Decide, waiting where that helps; the decision and the ask it was made on (its input may have been counted).

        `is_gone` tells that nobody waits for the answer any more.
        """
        user = ask.caller.user
        if user not in self._queues:
            decision, ask = await self._decide(ask, count_input)
            if not isinstance(decision, MustWait):
                return decision, ask
        queue = self._queues.setdefault(user, deque())
        turn = asyncio.Event()
        queue.append(turn)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        try:
            while True:
                turn.clear()
                left = 0 if self._closed else deadline - loop.time()
                if queue[0] is turn or left <= 0:
                    decision, ask = await self._decide(ask, count_input)
                    if not isinstance(decision, MustWait):
                        return decision, ask
                    if left <= 0 or is_gone():
                        return TimedOut(decision.standing), ask
                with suppress(TimeoutError):
                    await asyncio.wait_for(turn.wait(), min(left, RECHECK_S))
        finally:
            queue.remove(turn)
            if queue:
                queue[0].set()
            else:
                self._queues.pop(user, None)

    async def _decide(
        self, ask: Ask, count_input: Callable[[], Awaitable[int]]
    ) -> tuple[Reserved | Refused | MustWait, Ask]:
        decision = await self._decide_in_ledger(ask)
        if isinstance(decision, MustCount):
            ask = replace(ask, input_tokens=await count_input(), exact=True)
            decision = await self._decide_in_ledger(ask)
        assert not isinstance(decision, MustCount)
        return decision, ask
