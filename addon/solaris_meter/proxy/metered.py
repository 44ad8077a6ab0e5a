"""Each model call: identified, admitted, relayed, settled. Every hook fails closed.

`response` or `error` fires once per flow, and only there a call is closed. mitmproxy sends the end of an answer after
the `response` hook: the settlement is committed before the client sees it.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mitmproxy import http

from solaris_meter.chat import denials, notices
from solaris_meter.errors import LedgerError
from solaris_meter.metering import encodings, endpoints
from solaris_meter.metering.call import Call
from solaris_meter.metering.dialects.dialect import Dialect, Request
from solaris_meter.metering.framing import media_types
from solaris_meter.metering.framing.framing import Framing
from solaris_meter.metering.meter import Denied, Meter
from solaris_meter.metering.providers import Providers
from solaris_meter.models import CallDetails, Caller, CallReport
from solaris_meter.proxy import bodies, destination, identity
from solaris_meter.proxy.bodies import Unreadable
from solaris_meter.proxy.connections import hang_up
from solaris_meter.proxy.replies import Replies
from solaris_meter.proxy.sessions import Sessions
from solaris_meter.proxy.watch import Watcher
from solaris_meter.settings import Settings

log = logging.getLogger(__name__)

_MOST_UNMETERED = 1000
_SIGNED = "AWS4-HMAC-SHA256"
_CLIENT_LEFT = ("Client disconnected", "stream reset by client")  # mitmproxy's words, HTTP/1 and HTTP/2


@dataclass(slots=True)
class _Visit:
    """What is known of one flow on its way. `call` once it is admitted, `sent` once it may be on its way upstream.
    `caller` and `details` as soon as they are known.

    `polls`: the flow asks for the answer of a call that was made before.
    """

    flow: http.HTTPFlow
    identified: identity.Identified | None = None
    refused: str = ""
    dialect: Dialect = endpoints.GENERIC
    caller: Caller | None = None
    details: CallDetails | None = None
    call: Call | None = None
    asked: Request | None = None
    sent: bool = False
    broken: bool = False
    polls: bool = False


class Metered:
    """The hooks of a model call."""

    def __init__(
        self,
        meter: Meter,
        sessions: Sessions,
        providers: Providers,
        replies: Replies,
        watch: Watcher,
        settings: Settings,
        clock_ms: Callable[[], int],
    ) -> None:
        self._meter = meter
        self._sessions = sessions
        self._providers = providers
        self._replies = replies
        self._watch = watch
        self._settings = settings
        self._clock_ms = clock_ms
        self._visits: dict[str, _Visit] = {}
        self._abandoned: set[str] = set()
        self.unmetered: Counter[str] = Counter()
        """Calls of unknown endpoints that reported no usage, by provider and path."""
        self._started = asyncio.Event()

    # ------------------------------------------------------------------------------------------------------- hooks

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.response:
            return
        visit = self._visits[flow.id] = _Visit(flow)
        try:
            visit.identified = identity.read(flow.request.headers, self._settings.identity)
        except identity.Refused as error:
            visit.refused = str(error)
        except Exception:
            self._break_down(flow, visit, "requestheaders")
        finally:
            identity.strip(flow.request.headers, self._settings.identity)

    def start(self) -> None:
        """The ledger is open: calls that came before go on now."""
        self._started.set()

    async def request(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.response:
            return
        visit = self._visits.setdefault(flow.id, _Visit(flow))
        try:
            await self._started.wait()
            await self._open(flow, visit)
        except Exception:
            self._break_down(flow, visit, "request")
            await self._release(visit)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        if self._is_abandoned(flow):
            return
        visit = self._visits.get(flow.id)
        if visit is None or visit.call is None or flow.response is None:
            if flow.live and flow.response is not None and flow.response.raw_content is None:
                flow.response.stream = True  # not metered: nothing is gained by holding it back
            return
        try:
            if _is_success(flow):
                self._follow(flow, flow.response, visit.call)
        except Exception:
            # The answer is held back now; `response` replaces it.
            flow.response.stream = False
            visit.broken = True
            log.exception("%s: its answer cannot be metered", _where(flow))

    async def response(self, flow: http.HTTPFlow) -> None:
        if self._is_abandoned(flow):
            return
        visit = self._visits.pop(flow.id, None)
        if visit is None or visit.call is None or flow.response is None:
            return
        try:
            if visit.broken:
                raise Unreadable("its answer could not be followed")
            await self._close(flow, flow.response, visit, visit.call)
        except Exception:
            streamed = bool(flow.response.stream)
            self._break_down(flow, visit, "response")
            if not streamed:
                await self._release(visit)

    async def error(self, flow: http.HTTPFlow) -> None:
        visit = self._visits.pop(flow.id, None)
        if visit is None or visit.call is None:
            return
        try:
            message = flow.error.msg if flow.error else ""
            client_left = message.startswith(_CLIENT_LEFT) or not flow.client_conn.connected
            if visit.sent and not client_left:
                log.warning("%s failed on call %s: %s", visit.call.terms.ask.details.provider, visit.call.id, message)
            await self._abort(visit, visit.call, client_left=client_left)
        except Exception:
            log.exception("%s: an interrupted call cannot be settled", _where(flow))

    async def settle_all(self) -> None:
        """Settle what is still running, as interrupted: the sidecar is stopping, and relays nothing of it any more."""
        visits = [self._visits.pop(flow_id) for flow_id in list(self._visits)]
        running = [(visit, visit.call) for visit in visits if visit.call is not None]
        self._abandoned.update(visit.flow.id for visit, _ in running)
        # At once: one after the other, each would wait for a ledger that is locked.
        ends = [self._abort(visit, call, client_left=True) for visit, call in running]
        for (_, call), end in zip(running, await asyncio.gather(*ends, return_exceptions=True), strict=True):
            if isinstance(end, Exception):
                log.error("call %s is left to be recovered", call.id, exc_info=end)
        await self._sessions.settle_all()

    def _is_abandoned(self, flow: http.HTTPFlow) -> bool:
        """Whether a call was settled because the sidecar stops: what still comes for it was not charged, and is cut."""
        if flow.id not in self._abandoned:
            return False
        if flow.killable:
            flow.kill()
        return True

    # ------------------------------------------------------------------------------------------------------ request

    async def _open(self, flow: http.HTTPFlow, visit: _Visit) -> None:
        request = flow.request
        target = self._target(flow)
        if target is None:
            self._take_up(flow, visit)
            return
        provider, endpoint, path = target
        visit.dialect = endpoints.GENERIC if isinstance(endpoint, str) else endpoint
        visit.details = CallDetails(provider, "", visit.dialect.name, path[:512], stream=False)
        if visit.refused:
            self._deny(flow, visit, Denied("identity_refused"), detail=visit.refused)
            return
        signed = provider == "bedrock" and request.headers.get("authorization", "").startswith(_SIGNED)
        try:
            asked, raw, said = self._read(request, visit, provider, path, editable=not signed)
        except Unreadable as error:
            self._deny(flow, visit, Denied("body_unreadable"), detail=str(error))
            return
        if self._is_closed(endpoint, asked):
            self._deny(flow, visit, Denied("endpoint_denied"), detail=f"{request.host}{path}")
            return
        visit.asked = asked
        details = visit.details = CallDetails(provider, asked.model[:256], visit.dialect.name, path[:512], asked.stream)
        caller = visit.caller = self._caller(visit, asked.user)
        if caller is None:
            self._deny(flow, visit, Denied("identity_missing"), header=self._settings.identity.user_header)
            return
        is_command = notices.is_command(said, self._settings.chat.commands)
        if is_command and await self._tell_balance(flow, visit.dialect, asked, caller):
            return
        opened = await self._meter.open(
            caller,
            details,
            visit.dialect,
            asked,
            raw,
            lambda: not flow.client_conn.connected,
            editable=not signed,
        )
        if isinstance(opened, Denied):
            self._deny(flow, visit, opened)
            return
        if self._visits.get(flow.id) is not visit:
            # The sidecar stopped meanwhile and has closed its books: nothing may be sent that nobody will settle.
            await self._meter.void(opened)
            self._deny(flow, visit, Denied("ledger_unavailable"))
            return
        visit.call = opened
        self._watch.admitted(flow, opened)
        if not signed:
            if visit.dialect is not endpoints.REALTIME:
                request.anticomp()
            if opened.terms.body is not None:
                request.content = opened.terms.body
        # A client that left meanwhile: mitmproxy sends nothing upstream and goes on with `error`.
        visit.sent = flow.client_conn.connected

    def _read(
        self, request: http.Request, visit: _Visit, provider: str, path: str, *, editable: bool
    ) -> tuple[Request, bytes, str | None]:
        """What a request asks for, its body as it is to go on, and what a person said last. Raises Unreadable."""
        raw = bodies.content(request)
        if visit.dialect is endpoints.REALTIME:
            body = bodies.query(request)
        else:
            body = bodies.parse(raw, request.headers.get("content-type", ""), visit.dialect)
        dialect = visit.dialect = endpoints.by_body(visit.dialect, request.method, path, provider, body)
        if dialect.conversation is None:
            return dialect.read_request(path, body, len(raw)), raw, None
        # Looking at the bytes spares the walk where nothing of ours can be in them.
        ours = editable and (notices.MARK[0].encode() in raw or b"\\u2063" in raw)
        edited = notices.scrub(body, dialect.conversation, self._settings.chat.commands) if ours else None
        if edited is not None:
            body = edited
            raw = request.content = json.dumps(edited).encode()
        return dialect.read_request(path, body, len(raw)), raw, notices.last_text(body, dialect.conversation)

    async def _tell_balance(self, flow: http.HTTPFlow, dialect: Dialect, asked: Request, caller: Caller) -> bool:
        """Answer a person who asks for the balance; whether that could be done here."""
        try:
            overview = await self._meter.overview(caller)
        except LedgerError as error:
            log.warning("%s asked for the balance: %s", caller.user, error)
            return False
        return self._replies.balance(flow, dialect, asked, overview)

    def _is_closed(self, endpoint: endpoints.Endpoint, asked: Request) -> bool:
        """Whether a call may not be made because nobody could meter it, or because the operator closed its endpoint."""
        policy = self._settings.policy.unknown_endpoints
        unmeterable = endpoint == "unmeterable" or asked.later
        return (unmeterable and policy != "pass") or (endpoint == "unknown" and policy == "deny")

    def _take_up(self, flow: http.HTTPFlow, visit: _Visit) -> None:
        """Meter a poll for the answer of a background call, which no answer has paid for yet."""
        polled = endpoints.polled(flow.request.method, flow.request.path)
        provider, _ = destination.provider(flow, self._providers)
        if polled is None or provider is None:
            return
        visit.call = self._meter.polled(provider, polled)
        if visit.call is not None:
            self._watch.admitted(flow, visit.call)
            visit.polls = True
            visit.dialect = visit.call.dialect
            visit.sent = flow.client_conn.connected
            flow.request.anticomp()

    def _target(self, flow: http.HTTPFlow) -> tuple[str, endpoints.Endpoint, str] | None:
        """The provider, the endpoint and the path of a call; None for what passes unmetered."""
        path = endpoints.plain_path(flow.request.path)
        provider, host = destination.provider(flow, self._providers)
        if _is_session(flow.request, path):
            endpoint: endpoints.Endpoint = endpoints.REALTIME
        elif _is_disguised(flow.request):
            endpoint = "unmeterable"
        else:
            endpoint = endpoints.classify(flow.request.method, path, provider)
        policy = self._settings.policy
        if endpoint == "free" or (isinstance(endpoint, str) and policy.unknown_endpoints == "pass"):
            return None
        if provider is None and (policy.unknown_hosts != "meter" or isinstance(endpoint, str)):
            # Of an unknown host only what speaks a known dialect can be told from ordinary traffic.
            return None
        return provider or host, endpoint, path

    def _caller(self, visit: _Visit, body_user: str | None) -> Caller | None:
        assert visit.identified is not None
        return visit.identified.caller(self._settings.identity, body_user)

    def _deny(self, flow: http.HTTPFlow, visit: _Visit, denied: Denied, **details: str) -> None:
        self._replies.deny(flow, visit.dialect, visit.asked, denied, **details)
        assert flow.response is not None
        self._watch.denied(
            flow,
            CallReport(
                id=visit.call.id if visit.call else "",
                ending="denied",
                caller=visit.caller,
                details=visit.details,
                at_ms=self._clock_ms(),
                duration_ms=0,
                status=flow.response.status_code,
                reason=denied.reason,
                standing=denied.standing,
            ),
        )

    # ----------------------------------------------------------------------------------------------------- response

    def _follow(self, flow: http.HTTPFlow, response: http.Response, call: Call) -> None:
        """Have the answer relayed as it comes; one JSON document is held until it is settled."""
        headers = response.headers
        headers["X-Solaris-Request"] = call.id
        if call.terms.standing:
            headers.update(denials.rate_limit_headers(call.terms.standing, self._clock_ms()))
        media_type = media_types.essence(headers.get("content-type", ""))
        framing = _framing(call, media_type)
        call.begin({name.lower(): value for name, value in headers.items()}, framing)
        if framing is None and (call.dialect is endpoints.GENERIC or media_types.is_json(media_type)):
            # Sounds and files of unknown endpoints are relayed as they come: there is nothing to read in them.
            response.stream = not media_types.is_json(media_type)
            return
        encoding = headers.get("content-encoding", "")
        if encoding:
            decode = encodings.decoder(encoding)
            if decode is None:
                raise Unreadable(f"content-encoding {encoding!r} cannot be undone")
            call.inflate(decode)
        if call.edits_answer:
            headers.pop("content-encoding", None)
            headers.pop("content-length", None)
        if "content-length" not in headers and flow.request.http_version == "HTTP/1.1":
            # The upstream may speak HTTP/2; without this the client's connection would have to end with the answer.
            headers["transfer-encoding"] = "chunked"
            response.http_version = "HTTP/1.1" if response.http_version == "HTTP/1.0" else response.http_version
        if call.terms.strict:
            # Ending the answer ends the connection, and the client must not send its next call into that.
            headers["connection"] = "close"
        response.stream = self._relay(flow, call)

    def _relay(self, flow: http.HTTPFlow, call: Call) -> Callable[[bytes], Any]:
        """The stream callable. `[]` drops a piece; `b""` inside a list is the end of a chunked body."""

        def relay(data: bytes) -> bytes | list[bytes]:
            if flow.id not in self._visits:
                return []  # settled, because the sidecar stops: nobody would pay for more
            if not data:
                return call.finish()
            already_ended = call.ended
            out = call.feed(data)
            if not call.ended:
                return out or []
            if already_ended:
                return []
            asyncio.get_running_loop().call_soon(hang_up, flow)
            return [out, b""]

        return relay

    async def _close(self, flow: http.HTTPFlow, response: http.Response, visit: _Visit, call: Call) -> None:
        if flow.websocket is not None:
            await self._sessions.adopt(flow, call)
            return
        if not _is_success(flow):
            log.warning("%s answered %d to call %s", call.terms.ask.details.provider, response.status_code, call.id)
            await self._let_go(visit, call, response.status_code)
            return
        if not response.stream:
            call.read_body(response.get_content(strict=False) or b"")
        if visit.polls and not call.is_over:
            return
        answer_id = None if visit.polls else call.background_id
        if answer_id is not None:
            await self._meter.defer(call, answer_id)
            return
        settled = await self._meter.settle(call, response.status_code, interrupted=call.ended)
        if settled is None:
            if call.dialect is endpoints.GENERIC:
                self._note_unmetered(call.terms.ask.details)
        elif not response.stream:
            response.headers.update(denials.rate_limit_headers(settled.standing, self._clock_ms()))

    async def _let_go(self, visit: _Visit, call: Call, status: int = 0) -> None:
        """Close a call that owes nothing now; one that was polled for still does."""
        if not visit.polls:
            await self._meter.void(call, status)

    async def _abort(self, visit: _Visit, call: Call, *, client_left: bool) -> None:
        """Close a call whose exchange broke off: charged for what was relayed, nothing where nothing was owed."""
        response = visit.flow.response
        answered = response is not None
        answer_id = call.background_id
        if visit.polls and not call.is_over:
            return
        if answered and answer_id is not None:
            await self._meter.defer(call, answer_id)
            return
        status = response.status_code if response else 0
        if not visit.sent or (not answered and not client_left) or (answered and not _is_success(visit.flow)):
            await self._meter.void(call, status)
            return
        # A client may hang up at the last event, before the upstream has closed: that answer was whole.
        whole = call.finished and not call.ended
        await self._meter.settle(call, status, interrupted=not whole, client_left=client_left)

    def _note_unmetered(self, details: CallDetails) -> None:
        where = f"{details.provider} {details.endpoint}"
        if where not in self.unmetered:
            if len(self.unmetered) >= _MOST_UNMETERED:  # paths with ids in them have no end
                where = "others"
            else:
                log.warning("%s reported no usage that is known: such calls are not charged", where)
        self.unmetered[where] += 1

    # ------------------------------------------------------------------------------------------------ our own failure

    def _break_down(self, flow: http.HTTPFlow, visit: _Visit, hook: str) -> None:
        """Our code failed: the caller gets a 503 in its dialect, and what it asked for is not served."""
        log.exception("%s %s failed in %s: answered with 503", flow.request.method, _where(flow), hook)
        if flow.response is None or not flow.response.stream:
            self._deny(flow, visit, Denied("internal_error"))

    async def _release(self, visit: _Visit) -> None:
        if visit.call is None:
            return
        call, visit.call = visit.call, None
        try:
            await self._let_go(visit, call)
        except Exception:
            log.exception("call %s keeps its reservation until it is recovered", call.id)


def _where(flow: http.HTTPFlow) -> str:
    """The URL as a log may have it: a query can hold a key."""
    return flow.request.pretty_url.partition("?")[0]


def _is_session(request: http.Request, path: str) -> bool:
    """Whether a request opens a WebSocket whose messages can be metered."""
    is_websocket = request.method == "GET" and request.headers.get("upgrade", "").strip().lower() == "websocket"
    overridden = "x-http-method-override" in request.headers
    return is_websocket and not overridden and endpoints.REALTIME.paths.search(path) is not None


def _is_disguised(request: http.Request) -> bool:
    """Whether a request is not what its method and path say: a WebSocket, or another method inside."""
    return "upgrade" in request.headers or "x-http-method-override" in request.headers


def _is_success(flow: http.HTTPFlow) -> bool:
    return flow.response is not None and 200 <= flow.response.status_code < 300


def _framing(call: Call, media_type: str) -> Framing | None:
    """How an answer is cut into events; None for one document."""
    if not call.request.stream:
        return media_types.framing_of(media_type)
    if media_types.is_json(media_type) and not call.dialect.streams_array:
        return None
    return media_types.stream_framing(media_type)
