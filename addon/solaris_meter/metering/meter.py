"""The meter: opens calls, settles them, and tends what runs in between. It owns neither sockets nor the clock."""

import asyncio
import json
import logging
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace

from solaris_meter.errors import LedgerError, Unavailable
from solaris_meter.ledger.journal import Unsettled
from solaris_meter.ledger.ledger import RESERVATION_LIFE_MS, Ledger
from solaris_meter.ledger.overview import Overview
from solaris_meter.ledger.reservations import Ask, Decision, Outcome, Refused, Reserved, Settled
from solaris_meter.metering.admission import Admission, TimedOut
from solaris_meter.metering.call import Call, Terms
from solaris_meter.metering.dialects.dialect import Dialect, Request
from solaris_meter.metering.pricing import Pricing
from solaris_meter.metering.tokens import Count, TokenCounter
from solaris_meter.models import CallDetails, Caller, CallReport, Ending, Standing, Usage
from solaris_meter.settings import Settings

log = logging.getLogger(__name__)

UNSTREAMED_OUTPUT = 16_384
"""Strict mode: output tokens held for an answer that is not streamed and names no limit. Where less is left, that is
its limit; where there is enough it gets none, because models differ in the limits they accept."""


LONGEST_ANSWER = 65_536
"""Output tokens that an answer without a limit may have, when it is asked whether it could cross a threshold."""

NEAR_PERCENT = 10
"""How near a threshold the ledger is asked whether it was reached, in percent of the limit."""

CLAIM_TIMEOUT_S = 0.25
"""How long the end of an answer waits for the ledger to say whether it carries a notice."""

MOST_REMEMBERED = 10_000

STOPPING_PATIENCE_S = 2.0
"""How long a settlement may wait for the ledger once the process stops; then it is journalled, and billed at the next
start. Less than what Docker leaves between the time of grace and the end."""

DEFERRED_LIFE_MS = 2 * 3600 * 1000
"""How long a background answer may be in the making before its input alone is charged."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A call that may not go. `reason` is the machine's word for it (header `X-Solaris-Denied`)."""

    reason: str
    standing: Standing | None = None


class Meter:
    """Admits calls against the ledger and charges them.

    `clock_ms` gives UTC milliseconds, `new_id` a fresh id for each call, `notice` the text for an answer that is ended
    because everything is used up, `warning` the one for an answer that crosses a threshold. `ended` is told of each
    admitted call when its books are closed; it must not raise.
    """

    def __init__(
        self,
        ledger: Ledger,
        counter: TokenCounter,
        pricing: Pricing,
        settings: Settings,
        *,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
        notice: Callable[[Standing], str],
        warning: Callable[[Standing], str] = lambda _: "",
        ended: Callable[[CallReport], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._counter = counter
        self._pricing = pricing
        self._settings = settings
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._notice = notice
        self._warning = warning
        self._ended = ended
        self._latest: OrderedDict[str, Standing] = OrderedDict()
        self._admission = Admission(self._reserve, settings.admission.admission_wait)
        self._running: dict[str, Call] = {}
        self._closing: set[str] = set()
        self._doubtful: set[str] = set()
        self._deferred: dict[tuple[str, str], Call] = {}
        self._unpriced: deque[tuple[Call, Usage]] = deque()
        self._stopping = False

    @property
    def running(self) -> int:
        """How many calls wait, are admitted, or are being settled. Deferred ones end whenever they do."""
        return len(self._running) - len(self._deferred) + len(self._closing) + self._admission.waiting

    @property
    def waiting(self) -> int:
        """How many calls wait for others to settle."""
        return self._admission.waiting

    def stop(self) -> None:
        """Admit nobody any more: what waits is refused, what runs may end."""
        self._stopping = True
        self._admission.close()

    async def open(
        self,
        caller: Caller,
        details: CallDetails,
        dialect: Dialect,
        request: Request,
        raw: bytes,
        is_gone: Callable[[], bool],
        *,
        editable: bool = True,
    ) -> Call | Denied:
        """Admit a call: the reservation is committed when this returns. `raw` is the body as it came.

        `is_gone` tells that the caller has left, `editable` whether the body may be changed (it is not signed). Raises
        what is a fault of ours; nothing stays reserved then.
        """
        if self._stopping:
            return Denied("ledger_unavailable")
        opened_ms = self._clock_ms()
        ask = self._ask(caller, details, request, opened_ms)
        try:
            decision, ask = await self._admission.admit(ask, lambda: self._count_input(request), is_gone)
        except Unavailable as error:
            log.error("call %s of %s: %s", ask.id, caller.user, error)
            if self._settings.ledger.on_error == "deny":
                # A commit whose answer was lost may have been one: nobody may pay for a call that was refused.
                self._doubtful.add(ask.id)
                return Denied("ledger_unavailable")
            decision = None
        except LedgerError as error:
            log.error("%s has no account and gets none: %s", caller.user, error)
            return Denied("account_unknown")
        except BaseException:
            # The ledger may have taken the reservation although nobody waits for it any more; the queue keeps order.
            self._ledger.void(ask.id, opened_ms)
            raise
        if isinstance(decision, Refused):
            return Denied(decision.reason, decision.standing)
        if isinstance(decision, TimedOut):
            return Denied("tokens_reserved", decision.standing)
        if decision is not None and self._is_too_little(ask, decision, dialect, request, editable=editable):
            await asyncio.wrap_future(self._ledger.void(ask.id, opened_ms))
            return Denied("tokens_exhausted", decision.standing)
        try:
            call = self._admitted(ask, decision, dialect, request, raw, opened_ms)
        except BaseException:
            self._ledger.void(ask.id, opened_ms)
            raise
        self._running[call.id] = call
        return call

    async def overview(self, caller: Caller) -> Overview:
        """How whoever calls stands, and what they used. Raises LedgerError."""
        return await asyncio.wrap_future(self._ledger.overview(caller, self._clock_ms()))

    def uncovered(self, caller: Caller, details: CallDetails, dialect: Dialect, request: Request) -> Call:
        """A call that runs although nothing could be reserved for it: it is billed all the same when it is settled."""
        opened_ms = self._clock_ms()
        ask = self._ask(caller, details, request, opened_ms)
        call = self._running[ask.id] = self._admitted(ask, None, dialect, request, b"", opened_ms)
        return call

    def _is_too_little(
        self, ask: Ask, reserved: Reserved, dialect: Dialect, request: Request, *, editable: bool
    ) -> bool:
        """Strict mode: whether the answer could cost more than is there, and nothing could keep it from that."""
        if self._settings.admission.overdraft != "strict":
            return False
        if reserved.output_tokens < request.choices:
            return True
        limits = request.stream or (dialect.limits_output and editable)
        return not limits and reserved.output_tokens < ask.output_wish

    async def settle(self, call: Call, status: int, *, interrupted: bool, client_left: bool = False) -> Settled | None:
        """Charge a call for what it used; committed when this returns. None where it owes nothing, or was closed.

        What the ledger cannot take goes to the journal and is billed later. Raises what is a fault of ours.
        """
        if self._running.pop(call.id, None) is None:
            return None
        self._forget(call)
        self._closing.add(call.id)
        try:
            return await self._settle(call, status, interrupted, client_left)
        finally:
            self._closing.discard(call.id)
            self._admission.wake(call.terms.ask.caller.user)

    async def void(self, call: Call, status: int = 0) -> None:
        """Release what a call holds that owes nothing. `status` is what the upstream answered, 0: nothing.

        Repeating is harmless.
        """
        if self._running.pop(call.id, None) is None:
            return
        self._forget(call)
        self._closing.add(call.id)
        try:
            await self._void(call, status)
        finally:
            self._closing.discard(call.id)
            self._admission.wake(call.terms.ask.caller.user)

    async def defer(self, call: Call, answer_id: str) -> None:
        """The answer of a call is still being made: it stays reserved until it is polled, or for DEFERRED_LIFE_MS."""
        if call.id not in self._running:
            return
        key = (call.terms.ask.details.provider, answer_id)
        before = self._deferred.get(key)
        if before is not None and before.id != call.id:  # nobody can poll for it any more
            await self.settle(before, 200, interrupted=True, client_left=True)
        self._deferred[key] = call

    def polled(self, provider: str, answer_id: str) -> Call | None:
        """The deferred call whose answer is asked for, to be read anew: polls may run in parallel.

        The first that sees the end of the answer settles it; the others owe nothing.
        """
        call = self._deferred.get((provider, answer_id))
        return call.again() if call is not None else None

    async def settle_deferred(self, opened_before_ms: int | None = None) -> None:
        """Charge what nobody came for: its input is owed, its output is not known."""
        due = [
            call
            for call in self._deferred.values()
            if opened_before_ms is None or call.terms.opened_ms < opened_before_ms
        ]
        await asyncio.gather(*(self.settle(call, 200, interrupted=True, client_left=True) for call in due))

    def _forget(self, call: Call) -> None:
        for key in [key for key, deferred in self._deferred.items() if deferred.id == call.id]:
            del self._deferred[key]

    async def tend(self) -> None:
        """One round of upkeep: renew running reservations, bill the journal, recover what dead processes left."""
        now_ms = self._clock_ms()
        running = [*self._running, *self._closing]
        if running:
            await asyncio.wrap_future(self._ledger.renew(running, now_ms))
        for refused in list(self._doubtful):
            await asyncio.wrap_future(self._ledger.void(refused, now_ms))
            self._doubtful.discard(refused)
        billed = await asyncio.to_thread(self._ledger.drain, now_ms)
        if billed:
            log.warning("%d journalled calls are in the ledger now", billed)
        recovered = await asyncio.wrap_future(self._ledger.recover(running, now_ms))
        if recovered:
            log.warning("%d calls of a process that is gone were settled: %s", len(recovered), ", ".join(recovered))
        await self.settle_deferred(now_ms - DEFERRED_LIFE_MS)

    async def _settle(self, call: Call, status: int, interrupted: bool, client_left: bool) -> Settled | None:
        usage = await self._usage(call, client_left)
        if usage is None:
            if call.dialect.counts_input and status:
                log.warning("call %s: its answer held neither usage nor text; it is not charged", call.id)
            await self._void(call, status)
            return None
        now_ms = self._clock_ms()
        priced = self._counter.ready
        outcome = Outcome(
            usage=usage,
            status=status,
            interrupted=interrupted,
            duration_ms=max(0, now_ms - call.terms.opened_ms),
            cost_nano_usd=self._cost(call, usage) if priced else None,
        )
        unsettled = Unsettled(call.terms.ask, outcome, call.terms.opened_ms)
        try:
            if call.terms.reserved is None:
                settling = self._ledger.bill(unsettled, now_ms)
            else:
                settling = self._ledger.settle(call.id, outcome, now_ms)
            settled = await self._in_time(settling)
        except Unavailable as error:
            log.error("call %s is journalled, to be billed later: %s", call.id, error)
            await asyncio.to_thread(self._ledger.keep, unsettled)
            self._report(call, "journalled", outcome)
            return None
        except LedgerError as error:
            log.error("call %s is not charged: %s", call.id, error)
            self._report(call, "uncharged", outcome)
            return None
        except asyncio.CancelledError:
            # The process ends. The ledger may have taken it or not; billing it again is harmless.
            self._ledger.keep(unsettled)
            raise
        self._note(settled.standing)
        if settled.repeated:
            log.warning("call %s had been settled before; it is not charged again", call.id)
        else:
            self._report(call, "settled", outcome, settled, settle_ms=max(0, self._clock_ms() - now_ms))
        for threshold in settled.crossed:
            log.info("%s crossed %d %% of the limit", settled.standing.user, threshold)
        if not priced:
            self._unpriced.append((call, usage))
            self._counter.in_background(self._price_unpriced)
        if usage.basis == "reported" and not settled.repeated and self._is_sampled(call):
            self._counter.in_background(lambda: self._audit(call))
        return settled

    async def _in_time(self, settling: "Future[Settled]") -> Settled:
        """Wait for a commit; while the process stops, only STOPPING_PATIENCE_S. Raises Unavailable then.

        What is not committed by then is not lost, and if it is after all, then billing it again is harmless.
        """
        waiting = asyncio.wrap_future(settling)
        if not self._stopping:
            return await waiting
        try:
            return await asyncio.wait_for(waiting, STOPPING_PATIENCE_S)
        except TimeoutError as error:
            raise Unavailable("the ledger does not answer, and the sidecar is stopping") from error

    async def _usage(self, call: Call, client_left: bool) -> Usage | None:
        try:
            return await call.usage(client_left=client_left)
        except Exception:
            log.exception("call %s: its usage cannot be told; a low estimate of its input is charged", call.id)
            return Usage(call.terms.ask.input_floor, 0, "estimated")

    def _cost(self, call: Call, usage: Usage) -> int | None:
        """In nano-USD."""
        details = call.terms.ask.details
        return self._pricing.cost_nano_usd(details.provider, details.model, usage, call.price_terms)

    def _price_unpriced(self) -> None:
        """The first calls after a start do not wait for the price map: they are priced when it is there."""
        while self._unpriced:
            call, usage = self._unpriced.popleft()
            cost = self._cost(call, usage)
            if cost is not None:
                self._ledger.price(call.id, cost)

    def _is_sampled(self, call: Call) -> bool:
        """Whether a call is counted besides what was reported; which ones is a matter of their ids."""
        share = self._settings.metering.audit_sample
        return share > 0 and zlib.crc32(call.id.encode()) < share * 2**32

    def _audit(self, call: Call) -> None:
        counted = call.counted()
        if counted is not None:
            self._ledger.audit(call.id, *counted)

    def _ask(self, caller: Caller, details: CallDetails, request: Request, now_ms: int) -> Ask:
        admission = self._settings.admission
        strict = admission.overdraft == "strict"
        first = min(request.max_output or admission.slice, admission.slice) * request.choices
        unstreamed = (request.max_output or UNSTREAMED_OUTPUT) * request.choices
        wish = unstreamed if strict and not request.stream else first
        return Ask(
            id=self._new_id(),
            caller=caller,
            details=details,
            input_tokens=request.size.bound,
            exact=False,
            output_tokens=first,
            output_wish=wish,
            input_floor=request.size.floor,
            overdraft=admission.overdraft,
            owner=self._ledger.owner,
            expires_at_ms=now_ms + RESERVATION_LIFE_MS,
            images=request.images,
            audio_ms=request.audio_ms,
        )

    async def _reserve(self, ask: Ask) -> Decision:
        now_ms = self._clock_ms()
        ask = replace(ask, expires_at_ms=now_ms + RESERVATION_LIFE_MS)  # it may have waited
        return await asyncio.wrap_future(self._ledger.reserve(ask, now_ms))

    async def _count_input(self, request: Request) -> int:
        return max(1, (await self._counter.prompt(request.model, request.prompt())).tokens)

    def _admitted(
        self, ask: Ask, reserved: Reserved | None, dialect: Dialect, request: Request, raw: bytes, opened_ms: int
    ) -> Call:
        """The call, with the body that goes upstream for it."""
        strict = self._settings.admission.overdraft == "strict" and reserved is not None
        body = None
        if strict and reserved is not None and reserved.output_tokens < ask.output_wish:
            limited = dialect.limit_output(request.body, max(1, reserved.output_tokens // request.choices))
            if limited is not request.body:
                request = replace(request, body=limited)
                body = raw = json.dumps(limited).encode()
        asking = dialect.ask_for_usage(raw, request)
        terms = Terms(
            ask=ask,
            reserved=reserved,
            opened_ms=opened_ms,
            slice_tokens=self._settings.admission.slice,
            strict=strict,
            body=asking if asking is not None else body,
            hides_usage=asking is not None,
            notice=self._notice(reserved.standing) if strict and reserved else "",
        )
        tell = self._teller(ask, dialect, request, reserved) if reserved is not None else None
        near = tell is not None and reserved is not None and _is_near(reserved, request)
        call = Call(
            terms, dialect, request, self._counter, lambda tokens: self._extend(ask.id, tokens), tell, near=near
        )
        if near:
            counting = asyncio.ensure_future(self._counter.prompt(request.model, request.prompt()))
            counting.add_done_callback(lambda done: _note_input(call, done))
        return call

    def _teller(
        self, ask: Ask, dialect: Dialect, request: Request, reserved: Reserved
    ) -> Callable[[Usage], str] | None:
        """What tells an answer, when it ends, which notice it is to carry; None where it cannot come to that."""
        standing, unshown = reserved.standing, reserved.unshown
        self._note(standing)
        if not (self._settings.alerts.in_chat and unshown and request.stream and standing.limit > 0):
            return None
        if not dialect.takes_notice(request.body):
            return None

        def tell(usage: Usage) -> str:
            latest = self._latest.get(ask.caller.user, standing)
            others = max(0, latest.reserved - reserved.tokens)
            used = max(latest.used, standing.used) + others + reserved.rates.billed(usage)
            # Other processes may have settled calls of this account that this one has not seen.
            if used * 100 < (unshown[0] - NEAR_PERCENT) * standing.limit:
                return ""
            claim = self._ledger.claim_notice(ask.id, usage, self._clock_ms())
            try:
                # The event loop waits here for one commit, and only where a threshold is near.
                claimed = claim.result(CLAIM_TIMEOUT_S)
            except (LedgerError, FutureTimeoutError) as error:
                log.warning("call %s: its notice is left to the next answer: %s", ask.id, error)
                claim.add_done_callback(lambda _: self._ledger.release_notice(ask.id))
                return ""
            return self._warning(claimed[1]) if claimed else ""

        return tell

    def _note(self, standing: Standing) -> None:
        """Remember how an account stands, as this process last saw it."""
        self._latest[standing.user] = standing
        self._latest.move_to_end(standing.user)
        if len(self._latest) > MOST_REMEMBERED:
            self._latest.popitem(last=False)

    def _extend(self, call_id: str, tokens: int) -> "Future[int]":
        return self._ledger.extend(call_id, tokens, self._clock_ms())

    async def _void(self, call: Call, status: int) -> None:
        now_ms = self._clock_ms()
        try:
            if call.terms.reserved is not None:
                await asyncio.wrap_future(self._ledger.void(call.id, now_ms))
        except LedgerError as error:
            log.error("call %s keeps its reservation until it is recovered: %s", call.id, error)
        terms = call.terms
        self._ended(
            CallReport(
                call.id, "free", terms.ask.caller, terms.ask.details, now_ms, max(0, now_ms - terms.opened_ms), status
            )
        )

    def _report(
        self, call: Call, ending: Ending, outcome: Outcome, settled: Settled | None = None, *, settle_ms: int = 0
    ) -> None:
        terms = call.terms
        self._ended(
            CallReport(
                id=call.id,
                ending=ending,
                caller=terms.ask.caller,
                details=terms.ask.details,
                at_ms=terms.opened_ms + outcome.duration_ms,
                duration_ms=outcome.duration_ms,
                status=outcome.status,
                interrupted=outcome.interrupted,
                usage=outcome.usage,
                billed_tokens=settled.billed_tokens if settled else 0,
                cost_nano_usd=outcome.cost_nano_usd,
                standing=settled.standing if settled else None,
                settle_ms=settle_ms,
            )
        )


def _is_near(reserved: Reserved, request: Request) -> bool:
    """Whether a call may cross a threshold by what can be seen of it: then it is worth counting its input ahead."""
    standing = reserved.standing
    longest = reserved.rates.billed_output((request.max_output or LONGEST_ANSWER) * request.choices)
    return (standing.used + standing.reserved + longest) * 100 >= reserved.unshown[0] * standing.limit


def _note_input(call: Call, counting: "asyncio.Future[Count]") -> None:
    if not counting.cancelled() and counting.exception() is None:
        call.counted_input(counting.result().tokens)
