"""What mitmweb keeps of the flows: the answers as they were streamed, without keys, and only so many for so long.

mitmproxy itself would keep every flow for ever, with its key, and of a streamed answer nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from mitmproxy import flow as any_flow
from mitmproxy import http

from solaris_meter.proxy import masking

log = logging.getLogger(__name__)

MOST_BODY_BYTES = 1024 * 1024
"""Kept of each body: the text of a long answer with everything that its stream wraps around it."""
MOST_BYTES = 64 * 1024 * 1024
"""Kept of all bodies together: the oldest flows go first, however few there are."""
TIDY_EVERY_S = 1.0

CUT = "solaris_cut"
"""The key in a flow's metadata under which stands which bodies are not kept in full."""

Piece = bytes | list[bytes]


class Store(Protocol):
    """mitmproxy's `View`, as far as it is needed. Removing a flow that is live would kill its connection."""

    def resolve(self, flow_spec: str) -> Sequence[any_flow.Flow]: ...

    def remove(self, flows: Sequence[any_flow.Flow]) -> None: ...


class Kept:
    """The beginning of a body that is relayed piece by piece."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.cut = False

    def tee(self, relay: Callable[[bytes], object] | None) -> Callable[[bytes], object]:
        """A stream callable that gives what `relay` gives (None: what comes), and keeps it."""

        def pass_on(data: bytes) -> object:
            out = data if relay is None else relay(data)
            for piece in (out,) if isinstance(out, bytes) else out if isinstance(out, list) else ():
                self._keep(piece)
            return out

        return pass_on

    def _keep(self, piece: bytes) -> None:
        room = MOST_BODY_BYTES - len(self.content)
        self.content += piece[:room]
        self.cut = self.cut or len(piece) > room


class Retention:
    """Masks, cuts and drops flows: those that are over, never one that is live.

    At most `keep` finished flows stay, none longer than `keep_seconds`, and no more than MOST_BYTES of bodies.
    `key_header` is the header of the shared key, `show` is told of flows that changed, `tidied` after each round.
    """

    def __init__(
        self,
        store: Store,
        keep: int,
        keep_seconds: int,
        key_header: str,
        show: Callable[[Sequence[http.HTTPFlow]], None],
        tidied: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keep = keep
        self._keep_seconds = keep_seconds
        self._key_header = key_header
        self._show = show
        self._tidied = tidied
        self._clock_s = clock_s
        self._streamed: WeakKeyDictionary[http.HTTPFlow, Kept] = WeakKeyDictionary()
        self._finished: dict[str, tuple[float, int]] = {}
        self._tidying: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------------- hooks

    def running(self) -> None:
        self._tidying = asyncio.create_task(self._keep_tidying())

    async def done(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying

    def http_connected(self, flow: http.HTTPFlow) -> None:
        masking.mask_request(flow, self._key_header)

    http_connect_error = http_connected

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The request has gone upstream, or never will: its key is needed no more."""
        self._mask(flow)
        stream = flow.response.stream if flow.response else False
        if flow.response is not None and stream:
            kept = self._streamed[flow] = Kept()
            flow.response.stream = kept.tee(stream if callable(stream) else None)  # type: ignore[assignment]
        if flow.live:
            self._show([flow])

    def response(self, flow: http.HTTPFlow) -> None:
        self._put_back(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self._mask(flow)
        self._put_back(flow)

    # ------------------------------------------------------------------------------------------------------- rounds

    async def _keep_tidying(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                self.tidy()
            except Exception:
                log.exception("what mitmweb keeps could not be tidied; it is tried again in %d s", TIDY_EVERY_S)

    def tidy(self) -> None:
        """Take in the flows that have finished since the last round, and drop what is beyond the bounds."""
        now_s = self._clock_s()
        over = {flow.id: flow for flow in self._store.resolve("@all") if not flow.live}
        self._finished = {flow_id: kept for flow_id, kept in self._finished.items() if flow_id in over}
        for flow_id, flow in over.items():
            if flow_id not in self._finished:
                self._finished[flow_id] = (now_s, self._finish(flow))
        for flow_id in self._surplus(now_s):
            del self._finished[flow_id]
            self._store.remove([over[flow_id]])  # one by one: mitmproxy logs each removal of several
            _empty(over[flow_id])
        self._tidied()

    def _surplus(self, now_s: float) -> list[str]:
        """The flows to drop; `_finished` has the oldest first."""
        too_many = len(self._finished) - self._keep
        too_large = sum(size for _, size in self._finished.values()) - MOST_BYTES
        surplus = []
        for flow_id, (finished_s, size) in self._finished.items():
            if too_many <= 0 and too_large <= 0 and now_s - finished_s < self._keep_seconds:
                break
            surplus.append(flow_id)
            too_many -= 1
            too_large -= size
        return surplus

    def _finish(self, flow: any_flow.Flow) -> int:
        """Mask and cut what a flow still has; the bytes of its bodies and messages."""
        if not isinstance(flow, http.HTTPFlow):
            return 0
        masked = masking.mask_response(flow)
        if self._mask(flow) or masked:
            self._show([flow])
        size = _cut(flow, "request", flow.request)
        if flow.response is not None:
            flow.response.stream = bool(flow.response.stream)  # nothing streams any more: let go of who relayed it
            size += _cut(flow, "response", flow.response)
        if flow.websocket is not None:  # whose messages are few, but may be sound
            size += sum(len(message.content) for message in flow.websocket.messages)
        return size

    def _mask(self, flow: http.HTTPFlow) -> bool:
        changed = masking.mask_request(flow, self._key_header)
        if changed:
            masking.forget_backup(flow)
        return changed

    def _put_back(self, flow: http.HTTPFlow) -> None:
        """Let a streamed answer be seen: the client has it already."""
        kept = self._streamed.pop(flow, None)
        if kept is not None and flow.response is not None and flow.response.raw_content is None:
            flow.response.raw_content = bytes(kept.content)
            if kept.cut:
                _note_cut(flow, "response")


def _cut(flow: http.HTTPFlow, name: str, message: http.Message) -> int:
    """Cut a body to what is kept of it; how many bytes that is."""
    content = message.raw_content or b""
    if len(content) > MOST_BODY_BYTES:
        message.raw_content = content[:MOST_BODY_BYTES]
        _note_cut(flow, name)
    return min(len(content), MOST_BODY_BYTES)


def _empty(flow: any_flow.Flow) -> None:
    """Free the bodies of a dropped flow at once: mitmproxy has its flows in cycles, which Python seldom looks for."""
    if isinstance(flow, http.HTTPFlow):
        flow.request.raw_content = None
        if flow.response is not None:
            flow.response.raw_content = None
        if flow.websocket is not None:
            flow.websocket.messages.clear()


def _note_cut(flow: http.HTTPFlow, name: str) -> None:
    flow.metadata[CUT] = ", ".join(sorted({name, *str(flow.metadata.get(CUT, name)).split(", ")}))
