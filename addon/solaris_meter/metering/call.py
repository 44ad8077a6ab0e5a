"""One metered call: its answer is followed piece by piece, and in the end it says what it used."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from solaris_meter.ledger.reservations import Ask, Reserved
from solaris_meter.metering import sse
from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json, Request
from solaris_meter.metering.encodings import Decode
from solaris_meter.metering.slices import Slices
from solaris_meter.metering.tokens import Count, TokenCounter
from solaris_meter.models import Basis, Standing, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call was admitted on.

    `reserved` None: the ledger was down, and calls are let through then. `body` is what goes upstream where it differs
    from what the caller sent. `notice` is what an answer says that had to be ended.
    """

    ask: Ask
    reserved: Reserved | None
    opened_ms: int
    slice_tokens: int
    strict: bool
    body: bytes | None
    hides_usage: bool
    notice: str

    @property
    def standing(self) -> Standing | None:
        return self.reserved.standing if self.reserved else None


class Call:
    """The answer of one admitted call, as it passes.

    `feed` gives back what the caller gets: the same bytes, except for a usage event that the caller did not ask for
    and, in strict mode, for the end of an answer that used up everything (`ended`). `finished`: the answer's own last
    event has passed.
    """

    def __init__(
        self,
        terms: Terms,
        dialect: Dialect,
        request: Request,
        counter: TokenCounter,
        extend: "Callable[[int], Future[int]]",
    ) -> None:
        self.terms = terms
        self.dialect = dialect
        self.request = request
        self.ended = False
        self.finished = False
        self._answer = Answer()
        self._counter = counter
        self._events = sse.Decoder()
        self._decode: Decode | None = None
        self._lost = False
        self._taken = 0
        self._slices: Slices | None = None
        if terms.reserved is not None:
            self._slices = Slices(
                terms.reserved.output_tokens,
                terms.slice_tokens,
                strict=terms.strict,
                count=lambda text: counter.quick(request.model, text),
                extend=extend,
            )

    @property
    def id(self) -> str:
        """The id of the reservation, and of the usage event it becomes."""
        return self.terms.ask.id

    @property
    def edits_answer(self) -> bool:
        """Whether a streamed answer may have to be changed on its way; a compressed one is inflated for that."""
        return self.terms.hides_usage or self.terms.strict

    def inflate(self, decode: Decode) -> None:
        """The answer comes compressed; `feed` gives it back inflated where `edits_answer` is true."""
        self._decode = decode

    def feed(self, data: bytes) -> bytes:
        """Take in a piece of a streamed answer; what to relay for it. Never raises."""
        if self.ended:
            return b""
        if self._lost:
            return data
        hides = self.terms.hides_usage
        try:
            plain = self._decode(data) if self._decode else data
        except Exception:
            return self._lose_track(self._events.pending + data if hides else data)
        passed = plain if self.edits_answer else data
        try:
            events = self._events.feed(plain)
        except ValueError:
            return self._lose_track(self._events.pending if hides else passed)
        relayed = self._read(events)
        if not hides:
            relayed = passed
        if self.finished or not self._used_up():
            return relayed
        # What is relayed ends with the beginning of the next event, which must not come before the ending.
        return (relayed if hides else relayed.removesuffix(self._events.pending)) + self._end()

    def finish(self) -> bytes:
        """The stream has ended; what is still to be relayed. Never raises."""
        if self.ended or self._lost:
            return b""
        relayed = self._read(self._events.flush())
        return relayed if self.terms.hides_usage else b""

    def read_body(self, data: bytes) -> None:
        """Take in a whole answer that was not streamed. What is neither a JSON object nor events says nothing."""
        body = _parse(data)
        if body is not None:
            self.dialect.read_body(self._answer, body)
        else:
            self._read([*self._events.feed(data), *self._events.flush()])  # some servers stream and say it is JSON

    async def usage(self, *, client_left: bool) -> Usage | None:
        """What the call used: as reported, and counted where nothing was. None: nothing is owed.

        Nothing is owed for an answer without usage and without text, unless it was the caller who left.
        """
        answer = self._answer
        text = "".join(answer.text)
        read, written = answer.input_tokens, answer.output_tokens
        if answer.refused_usage:
            log.warning(
                "call %s: %s reported an impossible usage; it is counted", self.id, self.terms.ask.details.provider
            )
        if read == 0 and written == 0 and text:
            read = written = None
        if read is None and written is None and not text and not (client_left and self.dialect.counts_input):
            return None
        counts: list[Count] = []
        if read is None:
            counts.append(await self._counter.prompt(self.request.model, self.request.prompt()))
            read = counts[-1].tokens
        if written is None:
            counts.append(await self._counter.answer(self.request.model, text))
            written = counts[-1].tokens
        return Usage(
            input_tokens=read,
            output_tokens=written,
            basis=_weakest(counts),
            cached_input_tokens=min(read, answer.cached_input_tokens),
            cache_write_tokens=min(read, answer.cache_write_tokens),
            reasoning_tokens=min(written, answer.reasoning_tokens),
        )

    def _read(self, events: list[sse.Event]) -> bytes:
        """Take in events; their bytes, less what the caller must not see."""
        return b"".join([event.raw for event in events if event.data is None or not self._is_hidden(event.data)])

    def _is_hidden(self, data: bytes) -> bool:
        """Take in the payload of one event; whether the caller must not see it."""
        if data == b"[DONE]":
            self.finished = True
            return False
        event = _parse(data)
        if event is None:
            return False
        try:
            self.dialect.read_event(self._answer, event)
            self.finished = self.finished or self.dialect.is_last(event)
            return self.terms.hides_usage and self.dialect.is_usage_only(event)
        except Exception:
            # Our own failure must not cost the person the answer; it is settled on what could be read.
            log.exception("call %s: an event of its answer cannot be read", self.id)
            return False

    def _lose_track(self, relayed: bytes) -> bytes:
        """The stream is not what it says it is: from here on it is relayed as it comes, unread."""
        log.exception("call %s: its answer cannot be followed any more, and is relayed as it comes", self.id)
        self._lost = True
        return relayed

    def _used_up(self) -> bool:
        """Whether the text that came is more than the account can pay for (strict). Never raises."""
        text = self._answer.text
        if self._slices is None or self._taken == len(text):
            return False
        new, self._taken = "".join(text[self._taken :]), len(text)
        try:
            return self._slices.wrote(new)
        except Exception:
            log.exception("call %s: its reservation cannot be extended", self.id)
            self._slices = None
            return False

    def _end(self) -> bytes:
        """The events that end the answer here."""
        assert self._slices is not None
        self.ended = True
        reserved = self.terms.reserved
        read = self._answer.input_tokens or (reserved.tokens - reserved.output_tokens if reserved else 0)
        log.info("call %s: ended after %d output tokens, nothing is left", self.id, self._slices.counted_tokens)
        return self.dialect.ending(
            self._answer,
            self.terms.notice,
            read,
            self._slices.counted_tokens,
            usage=self.request.wants_usage,
        )


def _parse(data: bytes) -> Json | None:
    """A JSON object; None for anything else, in which nothing could be metered.

    msgspec is three times as fast as Python's parser; what only that one takes (NaN, half a surrogate) goes there.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _weakest(counts: list[Count]) -> Basis:
    bases = {count.basis for count in counts}
    return "estimated" if "estimated" in bases else "counted" if bases else "reported"
