"""WebSocket sessions (OpenAI Realtime): one handshake, and then a metered call for each response.

A call is admitted when a client speaks and none is open, so that an idle session holds nothing. What a session may not
have is answered with an error event, and the session ends: its server could go on by itself.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from mitmproxy import ctx, http
from mitmproxy.websocket import WebSocketMessage

from solaris_meter.chat import denials
from solaris_meter.chat.texts import Texts
from solaris_meter.metering.call import Call
from solaris_meter.metering.dialects import openai_realtime
from solaris_meter.metering.dialects.dialect import Dialect, Request
from solaris_meter.metering.meter import Denied, Meter
from solaris_meter.models import CallDetails, Caller, CallReport
from solaris_meter.proxy.connections import hang_up
from solaris_meter.proxy.watch import Watcher
from solaris_meter.settings import Settings

log = logging.getLogger(__name__)

_KEPT_MESSAGES = 200
"""Of each session, for inspection: hours of sound would fill the memory."""
_LAST_WORDS_S = 0.2
_STATUS = 101


@dataclass(slots=True)
class _Session:
    """What is known of one session. `waiting` is admitted for the response that is to come, `running` are responses
    that have begun, by their ids."""

    caller: Caller
    details: CallDetails
    dialect: Dialect
    request: Request
    waiting: Call | None = None
    running: dict[str, Call] = field(default_factory=dict)
    over: bool = False


class Sessions:
    """The hooks of a WebSocket whose handshake was admitted."""

    def __init__(
        self, meter: Meter, texts: Texts, watch: Watcher, settings: Settings, clock_ms: Callable[[], int]
    ) -> None:
        self._meter = meter
        self._texts = texts
        self._watch = watch
        self._settings = settings
        self._clock_ms = clock_ms
        self._sessions: dict[str, _Session] = {}
        self._cut: set[str] = set()

    async def adopt(self, flow: http.HTTPFlow, call: Call) -> None:
        """The upstream has agreed to a session; `call` was admitted for the handshake, which costs nothing."""
        ask = call.terms.ask
        self._sessions[flow.id] = _Session(ask.caller, ask.details, call.dialect, call.request)
        await self._meter.void(call)

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        if flow.id in self._cut and flow.websocket is not None:
            flow.websocket.messages[-1].drop()
            return
        session = self._sessions.get(flow.id)
        if flow.websocket is None:
            return
        message = flow.websocket.messages[-1]
        del flow.websocket.messages[:-_KEPT_MESSAGES]
        if session is None or message.injected:
            return
        try:
            if message.from_client:
                await self._hear_client(flow, session, message)
            else:
                await self._hear_server(flow, session, message)
        except Exception:
            log.exception("a session with %s cannot be metered any more: it ends", session.details.provider)
            self._end(flow, session, Denied("internal_error"))
        if session.over:
            message.drop()

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        session = self._sessions.pop(flow.id, None)
        if session is not None:
            await self._settle_rest(session)

    async def settle_all(self) -> None:
        """Settle what is still running, as interrupted: the sidecar is stopping, and relays nothing of it any more."""
        self._cut.update(self._sessions)
        await asyncio.gather(*(self._settle_rest(self._sessions.pop(flow_id)) for flow_id in list(self._sessions)))

    async def _hear_client(self, flow: http.HTTPFlow, session: _Session, message: WebSocketMessage) -> None:
        if session.over or session.waiting is not None or session.running:
            return
        opened = await self._open(flow, session)
        if isinstance(opened, Denied):
            self._end(flow, session, opened)
        else:
            session.waiting = opened

    async def _hear_server(self, flow: http.HTTPFlow, session: _Session, message: WebSocketMessage) -> None:
        event = _parse(message.content)
        kind = event.get("type")
        if kind == openai_realtime.TRANSCRIBED:
            # Another model's work, and none of the response that may be running.
            await self._settle(self._uncovered(flow, session), message, interrupted=False)
            return
        answer_id = openai_realtime.response_id(event)
        if answer_id is None:
            return
        call = session.running.get(answer_id)
        if call is None:
            call, denied = await self._begin(flow, session)
            session.running[answer_id] = call
        else:
            denied = None
        if kind == openai_realtime.DONE:
            del session.running[answer_id]
            await self._settle(call, message, interrupted=False)
        else:
            call.read_message(message.content)
            if call.used_up():
                denied = Denied("tokens_exhausted", call.terms.standing)
        if denied and not session.over:
            self._end(flow, session, denied)

    async def _begin(self, flow: http.HTTPFlow, session: _Session) -> tuple[Call, Denied | None]:
        """The call of a response that begins. Voice detection and parallel responses begin without the client."""
        call, session.waiting = session.waiting, None
        if call is not None:
            return call, None
        opened = await self._open(flow, session)
        return (self._uncovered(flow, session), opened) if isinstance(opened, Denied) else (opened, None)

    def _uncovered(self, flow: http.HTTPFlow, session: _Session) -> Call:
        call = self._meter.uncovered(session.caller, session.details, session.dialect, session.request)
        self._watch.admitted(flow, call)
        return call

    async def _open(self, flow: http.HTTPFlow, session: _Session) -> Call | Denied:
        opened = await self._meter.open(
            session.caller,
            session.details,
            session.dialect,
            session.request,
            b"",
            lambda: not flow.client_conn.connected,
        )
        if isinstance(opened, Call):
            self._watch.admitted(flow, opened)
        return opened

    async def _settle_rest(self, session: _Session) -> None:
        rest = [*session.running.values(), *([session.waiting] if session.waiting else [])]
        session.running, session.waiting = {}, None
        for call in rest:
            await self._settle(call, None, interrupted=True)

    async def _settle(self, call: Call, message: WebSocketMessage | None, *, interrupted: bool) -> None:
        if message is not None:
            call.read_message(message.content)
        try:
            await self._meter.settle(call, _STATUS, interrupted=interrupted)
        except Exception:
            log.exception("call %s is left to be recovered", call.id)

    def _end(self, flow: http.HTTPFlow, session: _Session, denied: Denied) -> None:
        """Tell the client why, and hang up on the server; what came until now is settled when the socket closes."""
        session.over = True
        denial = denials.build(denied, session.dialect, self._texts, self._settings.denial.mode, self._clock_ms())
        event: dict[str, Any] = {"type": "error", "event_id": "event_solaris"} | denial.body
        self._watch.denied(
            flow,
            CallReport(
                id="",
                ending="denied",
                caller=session.caller,
                details=session.details,
                at_ms=self._clock_ms(),
                duration_ms=0,
                status=denial.status,
                reason=denied.reason,
                standing=denied.standing,
            ),
        )
        log.info("denied %s: %s, in a session with %s", session.caller.user, denied.reason, session.details.provider)
        ctx.master.commands.call(
            "inject.websocket", flow, True, json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass"), True
        )
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, hang_up, flow)


def _parse(content: bytes) -> dict[str, Any]:
    """A server's message; empty where it is no JSON object."""
    try:
        event = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
