"""The observatory: where operators and their machines look in. `/metrics`, `/healthz` and `/readyz` over HTTP.

It shares the proxy's event loop, so that `/healthz` says whether that one still turns. What takes time (the ledger, the
disk, writing thousands of series) is done in threads, each only once at a time, and waited for with a bound.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from solaris_meter.errors import LedgerError
from solaris_meter.ledger import backlog
from solaris_meter.ledger.backlog import Backlog
from solaris_meter.ledger.database import Connection, Engine
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.metering.meter import Meter
from solaris_meter.metering.tokens import TokenCounter
from solaris_meter.proxy.metrics import Metrics, Moment
from solaris_meter.proxy.readiness import Readiness, Recent, free_space
from solaris_meter.settings import Observe

log = logging.getLogger(__name__)

_WITHIN_S = 2.0
"""A scrape does without the ledger's numbers where they take longer."""
_KEPT_S = 5.0
_CLOSING_S = 0.5
_MOST_BODY = 1024


class Observatory:
    """The server on `observe.listen`. `unmetered` are the calls that could not be metered, by `provider path`."""

    def __init__(
        self,
        settings: Observe,
        metrics: Metrics,
        meter: Meter,
        ledger: Ledger,
        engine: Engine,
        counter: TokenCounter,
        unmetered: Mapping[str, int],
        clock_ms: Callable[[], int],
        *,
        serves_without_ledger: bool = False,
    ) -> None:
        self._address = settings.address
        self._listen = settings.listen
        self._metrics = metrics
        self._meter = meter
        self._counter = counter
        self._unmetered = unmetered
        self._clock_ms = clock_ms
        self._reader = _Reader(engine, ledger)
        self._reading = Recent(lambda: asyncio.wrap_future(self._reader.read()), _KEPT_S)
        folder = engine.journal.absolute().parent
        self._readiness = Readiness(ledger, counter, folder, serves_without=serves_without_ledger)
        self._server: HTTPServer | None = None

    def open(self) -> None:
        """Begin to answer. A port that cannot be had is a warning: calls are served all the same."""
        if self._address is None:
            return
        host, port = self._address
        answers: list[tuple[str, type[RequestHandler], dict[str, Any]]] = [
            ("/metrics", _Page, {"answer": self._answer_metrics}),
            ("/healthz", _Page, {"answer": _answer_health}),
            ("/readyz", _Page, {"answer": self._answer_readiness}),
        ]
        # tornado logs a 503 as an error, and mitmproxy ends a start at any error.
        application = Application(answers, log_function=lambda _: None)
        server = HTTPServer(application, max_body_size=_MOST_BODY, idle_connection_timeout=75)
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            log.warning(
                "neither metrics nor health are served: cannot listen on %s: %s; choose another address with "
                "observe.listen (empty: none), as for a second sidecar on one machine",
                self._listen,
                error.strerror or error,
            )
            return
        listener.setblocking(False)
        server.add_socket(listener)
        self._server = server
        log.info("metrics and health are served on http://%s/metrics, /healthz and /readyz", self._listen)

    def started(self) -> None:
        """The sidecar takes calls now."""
        self._readiness.started = True

    def stopping(self) -> None:
        """The sidecar takes no calls any more; what is asked here is answered until `close`."""
        self._readiness.stopping = True
        self._metrics.stop()

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_S):
                    await self._server.close_all_connections()
        self._reader.close()

    async def _answer_metrics(self, request: RequestHandler) -> "_Answer":
        try:
            found = await self._reading.get(_WITHIN_S)
        except TimeoutError:
            found = _Found(None, None, None)
        moment = Moment(
            now_ms=self._clock_ms(),
            running=self._meter.running,
            waiting=self._meter.waiting,
            litellm_ready=self._counter.ready,
            unmetered=dict(self._unmetered),
            backlog=found.backlog,
            journalled=found.journalled,
            disk_free=found.disk_free,
        )
        accept = request.request.headers.get("Accept", "")
        body, content_type = await asyncio.to_thread(self._metrics.render, moment, accept)
        return 200, content_type, body

    async def _answer_readiness(self, request: RequestHandler) -> "_Answer":
        checks = await self._readiness.examine()
        ready = all(check.ok for check in checks)
        body = json.dumps({"ready": ready, "checks": [asdict(check) for check in checks]}) + "\n"
        return 200 if ready else 503, "application/json", body.encode()


_Answer = tuple[int, str, bytes]
"""Status, content type, body."""


async def _answer_health(_: RequestHandler) -> _Answer:
    return 200, "text/plain; charset=utf-8", b"ok\n"


class _Page(RequestHandler):
    """One page. Its failures are warnings of ours: tornado's own would be errors."""

    def initialize(self, answer: Callable[[RequestHandler], Awaitable[_Answer]]) -> None:
        self._answer = answer

    async def get(self) -> None:
        try:
            status, content_type, body = await self._answer(self)
        except Exception:
            log.warning("%s could not be answered", self.request.path, exc_info=True)
            status, content_type, body = 500, "text/plain; charset=utf-8", b"internal error; the log has the reason\n"
        self.set_status(status)
        self.set_header("Content-Type", content_type)
        self.set_header("Cache-Control", "no-store")
        self.finish(body)

    head = get


class _Reader:
    """A thread with a connection of its own, so that a slow ledger keeps neither calls nor settlements waiting."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="observatory")
        self._connection: Connection | None = None

    def read(self) -> "Future[_Found]":
        """Ask the ledger, its journal and its disk. Raises what is a fault of ours."""
        return self._thread.submit(self._read)

    def close(self) -> None:
        self._thread.submit(self._let_go)
        self._thread.shutdown(wait=False)

    def _read(self) -> "_Found":
        found = None
        try:
            self._connection = self._connection or self._engine.connect()
            found = backlog.read(self._connection)
        except LedgerError:
            self._let_go()  # a fresh connection, so that a lost one does not stay lost
        try:
            free = free_space(self._engine.journal.absolute().parent)
        except OSError:
            free = None
        return _Found(found, self._ledger.journalled(), free)

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class _Found:
    """`backlog` None: the ledger did not answer. `disk_free` in bytes, None: the folder cannot be written."""

    backlog: Backlog | None
    journalled: int | None
    disk_free: int | None
