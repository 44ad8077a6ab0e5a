"""WebSocket sessions (OpenAI Realtime): one handshake, and then a metered call for each response.

A call is admitted when a client speaks and none is open, so that an idle session holds nothing. What a session may not
have is answered with an error event, and the session ends: its server could go on by itself.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mitmproxy import ctx, http
from mitmproxy.websocket import WebSocketMessage

from solaris_meter.chat import denials
from solaris_meter.chat.texts import Texts
from solaris_meter.metering.call import Call
from solaris_meter.metering.dialects import openai_realtime
from solaris_meter.metering.dialects.dialect import Dialect, Request
from solaris_meter.metering.meter import Denied, Meter
from solaris_meter.models import CallDetails, Caller
from solaris_meter.proxy.connections import hang_up
from solaris_meter.settings import Settings

log = logging.getLogger(__name__)

_KEPT_MESSAGES = 200
"""Of each session, for inspection: hours of sound would fill the memory."""
_LAST_WORDS_S = 0.2
_STATUS = 101


@dataclass(slots=True)
class _Session:
    """What is known of one session. `call` is the response that is running or about to."""

    caller: Caller
    details: CallDetails
    dialect: Dialect
    request: Request
    call: Call | None
    over: bool = False


class Sessions:
    """The hooks of a WebSocket whose handshake was admitted."""

    def __init__(self, meter: Meter, texts: Texts, settings: Settings, clock_ms: Callable[[], int]) -> None:
        self._meter = meter
        self._texts = texts
        self._settings = settings
        self._clock_ms = clock_ms
        self._sessions: dict[str, _Session] = {}

    def adopt(self, flow: http.HTTPFlow, call: Call) -> None:
        """The upstream has agreed to a session; `call` is its first response."""
        ask = call.terms.ask
        self._sessions[flow.id] = _Session(ask.caller, ask.details, call.dialect, call.request, call)

    async def websocket_message(self, flow: http.HTTPFlow) -> None:
        session = self._sessions.get(flow.id)
        if session is None or flow.websocket is None:
            return
        message = flow.websocket.messages[-1]
        if message.injected:
            return
        del flow.websocket.messages[:-_KEPT_MESSAGES]
        try:
            if session.over:
                message.drop()
                if session.call is not None and not message.from_client:
                    session.call.read_message(message.content)  # what it cost is still to be known
            elif message.from_client:
                await self._hear_client(flow, session, message)
            else:
                await self._hear_server(flow, session, message)
        except Exception:
            log.exception("a session with %s cannot be metered any more: it ends", session.details.provider)
            message.drop()
            self._end(flow, session, Denied("internal_error"))

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        session = self._sessions.pop(flow.id, None)
        if session is not None:
            await self._settle(session, interrupted=True)

    async def settle_all(self) -> None:
        """Settle what is still running, as interrupted: the sidecar is stopping."""
        for flow_id in list(self._sessions):
            await self._settle(self._sessions.pop(flow_id), interrupted=True)

    async def _hear_client(self, flow: http.HTTPFlow, session: _Session, message: WebSocketMessage) -> None:
        if session.call is None:
            opened = await self._open(flow, session)
            if isinstance(opened, Denied):
                message.drop()
                self._end(flow, session, opened)
                return
            session.call = opened

    async def _hear_server(self, flow: http.HTTPFlow, session: _Session, message: WebSocketMessage) -> None:
        denied = None
        if session.call is None:
            if not _is_of_a_response(message.content):
                return
            # Voice detection and parallel responses begin without a word of the client.
            opened = await self._open(flow, session)
            if isinstance(opened, Denied):
                denied = opened
                session.call = self._meter.uncovered(session.caller, session.details, session.dialect, session.request)
            else:
                session.call = opened
        session.call.read_message(message.content)
        if session.call.finished:
            await self._settle(session, interrupted=False)
        elif session.call.used_up():
            denied = denied or Denied("tokens_exhausted", session.call.terms.standing)
        if denied:
            self._end(flow, session, denied)

    async def _open(self, flow: http.HTTPFlow, session: _Session) -> Call | Denied:
        return await self._meter.open(
            session.caller,
            session.details,
            session.dialect,
            session.request,
            b"",
            lambda: not flow.client_conn.connected,
        )

    async def _settle(self, session: _Session, *, interrupted: bool) -> None:
        call, session.call = session.call, None
        if call is None:
            return
        try:
            await self._meter.settle(call, _STATUS, interrupted=interrupted)
        except Exception:
            log.exception("call %s is left to be recovered", call.id)

    def _end(self, flow: http.HTTPFlow, session: _Session, denied: Denied) -> None:
        """Tell the client why, and hang up on the server; what came until now is settled when the socket closes."""
        session.over = True
        denial = denials.build(denied, session.dialect, self._texts, self._settings.denial.mode, self._clock_ms())
        event: dict[str, Any] = {"type": "error", "event_id": "event_solaris"} | denial.body
        log.info("denied %s: %s, in a session with %s", session.caller.user, denied.reason, session.details.provider)
        ctx.master.commands.call(
            "inject.websocket", flow, True, json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass"), True
        )
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, hang_up, flow)


def _is_of_a_response(content: bytes) -> bool:
    """Whether a server's message belongs to a response, or reports what one cost."""
    try:
        event = json.loads(content)
    except (ValueError, RecursionError):
        return False
    kind = event.get("type") if isinstance(event, dict) else None
    return isinstance(kind, str) and (kind.startswith("response.") or kind == openai_realtime.TRANSCRIBED)
