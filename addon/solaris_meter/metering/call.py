"""One metered call: its answer is followed piece by piece, and in the end it says what it used."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from solaris_meter.ledger.reservations import Ask, Reserved
from solaris_meter.metering import tokens
from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json, Request
from solaris_meter.metering.encodings import Decode
from solaris_meter.metering.framing import media_types
from solaris_meter.metering.framing.framing import MAX_EVENT_BYTES, Event, Framing
from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.metering.slices import Slices
from solaris_meter.metering.tokens import Calibration, Count, TokenCounter, ToolCall
from solaris_meter.models import Basis, PriceTerms, Standing, Usage

log = logging.getLogger(__name__)

_UNSEEN = frozenset({"audio_input_tokens", "audio_output_tokens", "image_input_tokens", "image_output_tokens"})


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

    `feed` gives back what the caller gets: the same bytes, except for a usage event that the caller did not ask for, a
    notice before the end, and, in strict mode, the end of an answer that used up everything (`ended`). `finished`: the
    answer's own last event has passed. `tell` is asked once, when an answer that can carry a notice is about to end
    and is going to have used so much; what it gives is the notice, or empty. `near`: it is likely to give
    one.
    """

    def __init__(
        self,
        terms: Terms,
        dialect: Dialect,
        request: Request,
        counter: TokenCounter,
        extend: "Callable[[int], Future[int]]",
        tell: Callable[[Usage], str] | None = None,
        *,
        near: bool = True,
    ) -> None:
        self.terms = terms
        self.dialect = dialect
        self.request = request
        self.ended = False
        self.finished = False
        self._answer = Answer()
        self._counter = counter
        self._extend = extend
        self._tell = tell
        self._near = near
        self._rewrites = terms.hides_usage or tell is not None
        self._counted_input: int | None = None
        self._held: tuple[bytes, Json] | None = None
        self._framing: Framing = ServerSentEvents()
        self._document: bytearray | None = None
        self._decode: Decode | None = None
        self._lost = False
        self._begun = False
        self._concluded = False
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
        return self._rewrites or self.terms.strict

    @property
    def background_id(self) -> str | None:
        """The id by which the caller is going to ask for an answer that goes on without it."""
        if not self.request.background:
            return None
        self._conclude()
        return None if self._answer.final else self._answer.polled_as

    @property
    def is_over(self) -> bool:
        """Whether the answer to a poll is the last: it says so, or what it cost."""
        self._conclude()
        return self._answer.final or self._answer.output_tokens is not None

    def again(self) -> "Call":
        """The same call, for another look at its answer."""
        return Call(self.terms, self.dialect, self.request, self._counter, self._extend)

    @property
    def price_terms(self) -> PriceTerms:
        """What sets the price besides the usage."""
        return PriceTerms(**self._answer.terms)

    def begin(self, headers: Mapping[str, str], framing: Framing | None) -> None:
        """The answer begins; its header names are in lower case. It is fed as `framing` cuts it, or, with None, is
        one document."""
        if framing is None:
            self._document = bytearray()
        else:
            self._framing = framing
        try:
            self.dialect.read_headers(self._answer, headers)
        except Exception:
            log.exception("call %s: the headers of its answer cannot be read", self.id)

    def inflate(self, decode: Decode) -> None:
        """The answer comes compressed; `feed` gives it back inflated where `edits_answer` is true."""
        self._decode = decode
        if not self._near:  # for the mere chance of a notice it stays as it is
            self._tell, self._rewrites = None, self.terms.hides_usage

    def feed(self, data: bytes) -> bytes:
        """Take in a piece of a streamed answer; what to relay for it. Never raises."""
        if self.ended:
            return b""
        if self._lost:
            return data
        rewrites = self._rewrites
        try:
            plain = self._decode(data) if self._decode else data
        except Exception:
            if self._begun:
                return self._lose_track(self._framing.pending + data if rewrites else data)
            self._decode, plain = None, data  # it is not compressed at all
        if not self._begun and plain.strip():
            self._begun = True
            if self._document is None:
                self._framing = media_types.sniffed(self._framing, plain)
        passed = plain if self.edits_answer else data
        if self._document is not None:
            return passed if self._keep(plain) else self._lose_track(passed)
        try:
            events = self._framing.feed(plain)
        except ValueError:
            return self._lose_track(self._framing.pending if rewrites else passed)
        relayed = self._read(events)
        if not rewrites:
            relayed = passed
        if self.finished or self._held or not self.used_up():  # it ends, or is about to, by itself
            return relayed
        # What is relayed ends with the beginning of the next event, which must not come before the ending.
        return (relayed if rewrites else relayed.removesuffix(self._framing.pending)) + self._end()

    def finish(self) -> bytes:
        """The stream has ended; what is still to be relayed. Never raises."""
        if self.ended or self._lost or self._document is not None:
            return b""
        relayed = self._read(self._framing.flush()) + self._release()
        return relayed if self._rewrites else b""

    def read_body(self, data: bytes) -> None:
        """Take in a whole answer that was not streamed."""
        self._document = bytearray(data)

    def read_message(self, data: bytes) -> None:
        """Take in one message of a session; `finished` when it was the answer's last. Never raises."""
        self._relayed(data, data)

    def counted_input(self, tokens: int) -> None:
        """The input was counted meanwhile, for a notice that may come before it is reported."""
        self._counted_input = tokens

    async def usage(self, *, client_left: bool) -> Usage | None:
        """What the call used: as reported, and counted where nothing was. None: nothing is owed.

        Nothing is owed for an answer without usage in which no model gave anything, unless it was the caller who left.
        """
        if self.dialect.concludes_slowly:
            await asyncio.to_thread(self._conclude)
        else:
            self._conclude()
        answer = self._answer
        text = "".join(answer.text)
        read, written = answer.input_tokens, answer.output_tokens
        by_piece = bool(answer.images or answer.audio_ms)
        if answer.refused_usage:
            log.warning(
                "call %s: %s reported an impossible usage; it is counted", self.id, self.terms.ask.details.provider
            )
        if read == 0 and written == 0 and text and not by_piece:
            read = written = None  # zeros beside a full answer are no report
        left = client_left and self.dialect.counts_input
        if read is None and written is None and not (text or answer.ran or by_piece):
            if not left:
                return None
            asked = self.request
            if asked.images or asked.audio_ms:
                # Its answer is on its way to nobody: it is paid by the piece, as it was asked for.
                return Usage(0, 0, "estimated", images=asked.images, audio_ms=asked.audio_ms)
        counts: list[Count] = []
        model = self._counted_as()
        if read is None:
            counts.append(await self._counter.prompt(model, self.request.prompt()))
            read = counts[-1].tokens
            calibration = None
        else:
            calibration = Calibration(read, self.request.prompt()) if written is None and text else None
        if written is None:
            seen = 0
            if text or client_left:
                calls = self._calls()
                count = await self._counter.answer(model, text, calibration, calls=calls, prompt=self.request.prompt())
                counts.append(count)
                seen = count.tokens if text else 0
            if answer.ran:
                counts.append(Count(0, "estimated"))  # something was written that cannot be seen
            written = seen + answer.unseen_tokens
        return Usage(
            input_tokens=read,
            output_tokens=written,
            basis=_weakest([answer.basis, *(count.basis for count in counts)]),
            cached_input_tokens=min(read, answer.cached_input_tokens),
            cache_write_tokens=min(read, answer.cache_write_tokens),
            reasoning_tokens=min(written, answer.reasoning_tokens),
            images=answer.images,
            audio_ms=answer.audio_ms,
        )

    def counted(self) -> tuple[int, int | None] | None:
        """The call as LiteLLM counts it, whatever was reported: input, and output where there is text.

        None where a count says nothing: of pictures, sound, files. Takes a while: not for the event loop.
        """
        answer, prompt = self._answer, self.request.prompt()
        if not self.dialect.counts_input or prompt.attachments or not _UNSEEN.isdisjoint(answer.terms):
            return None
        model = self._counted_as()
        read = self._counter.count_prompt(model, prompt).tokens
        text = "".join(answer.text)
        if not text:
            return read, None
        return read, self._counter.count_answer(model, text, calls=self._calls(), prompt=prompt).tokens

    def _calls(self) -> list[ToolCall]:
        return [("".join(name), "".join(arguments)) for name, arguments in self._answer.calls.values()]

    def _counted_as(self) -> str:
        """The model whose tokenizer counts: an Azure deployment may have any name, but its answer tells the model's."""
        named: str = self._answer.terms.get("model", "")
        return named if named and not tokens.knows(self.request.model) and tokens.knows(named) else self.request.model

    def _conclude(self) -> None:
        """The answer is over, or will not go on: read what was kept, and what the request has to add. Never raises."""
        if self._concluded:
            return
        self._concluded = True
        try:
            if self._document:
                self._read_document(bytes(self._document))
            self.dialect.conclude(self._answer, self.request)
        except Exception:
            log.exception("call %s: its answer cannot be read to the end", self.id)

    def _read_document(self, data: bytes) -> None:
        value = _parse(data)
        if isinstance(value, dict):
            self.dialect.read_body(self._answer, value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    self.dialect.read_event(self._answer, item)
        elif framing := media_types.framing_in(data):
            self._read([*framing.feed(data), *framing.flush()])  # some servers stream and say it is a document
        else:
            self.dialect.read_other(self._answer, data)

    def _keep(self, data: bytes) -> bool:
        """Keep a piece of a document; whether it is not too long for that."""
        assert self._document is not None
        self._document += data
        return len(self._document) <= MAX_EVENT_BYTES

    def _read(self, events: list[Event]) -> bytes:
        """Take in events; their bytes, less what the caller must not see."""
        return b"".join([event.raw if event.data is None else self._relayed(event.raw, event.data) for event in events])

    def _relayed(self, raw: bytes, data: bytes) -> bytes:
        """Take in the payload of one event; what the caller gets for it."""
        if data == b"[DONE]":
            self.finished = True
            return self._release() + raw
        event = _parse(data)
        if not isinstance(event, dict):
            return self._release() + raw
        held = b""
        try:
            self.dialect.read_event(self._answer, event)
            self.finished = self.finished or self.dialect.is_last(event)
            held = self._release()
            if self._tell is not None and self.dialect.closing(self._answer, event):
                self._held = raw, event
                # Some report what it cost in the event after this one; the others have said it.
                return held if self._answer.output_tokens is None else held + self._release()
            hidden = self.terms.hides_usage and self.dialect.is_usage_only(event)
        except Exception:
            # Our own failure must not cost the person the answer; it is settled on what could be read.
            log.exception("call %s: an event of its answer cannot be read", self.id)
            return held + self._release() + raw
        return held if hidden else held + raw

    def _release(self) -> bytes:
        """The closing event that was held, with a notice before it where there is something to tell."""
        if self._held is None:
            return b""
        (raw, event), self._held = self._held, None
        try:
            return self._with_notice(event) or raw
        except Exception:
            log.exception("call %s: its notice cannot be written", self.id)
            return raw

    def _with_notice(self, event: Json) -> bytes:
        """The closing event with a notice before it; empty where there is nothing to tell."""
        assert self._tell is not None
        tell, self._tell = self._tell, None
        answer = self._answer
        read, written = answer.input_tokens, answer.output_tokens
        if read is None:
            read = self.request.size.floor if self._counted_input is None else self._counted_input
        if written is None:
            written = self._counter.quick(self.request.model, "".join(answer.text))
        cached = min(read, answer.cached_input_tokens)
        notice = tell(Usage(read, written, "estimated", cached, min(read - cached, answer.cache_write_tokens)))
        if not notice:
            return b""
        return b"".join(self._framing.encode(*said) for said in self.dialect.notice(answer, event, notice))

    def _lose_track(self, relayed: bytes) -> bytes:
        """The stream is not what it says it is: from here on it is relayed as it comes, unread."""
        log.exception("call %s: its answer cannot be followed any more, and is relayed as it comes", self.id)
        self._lost = True
        return self._release() + relayed

    def used_up(self) -> bool:
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
        read = self._answer.input_tokens or self.terms.ask.input_tokens
        log.info("call %s: ended after %d output tokens, nothing is left", self.id, self._slices.counted_tokens)
        events = self.dialect.ending(
            self._answer,
            self.terms.notice,
            read,
            self._slices.counted_tokens,
            usage=self.request.wants_usage,
        )
        return b"".join(self._framing.encode(*event) for event in events) + self._framing.end()


def _parse(data: bytes) -> object:
    """A JSON document; None for anything else.

    msgspec is three times as fast as Python's parser; what only that one takes (NaN, half a surrogate) goes there.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return None


def _weakest(bases: list[Basis]) -> Basis:
    return "estimated" if "estimated" in bases else "counted" if "counted" in bases else "reported"
