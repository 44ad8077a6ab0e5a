"""Those who watch the calls: inspection, metrics, logs. They see what happened and change nothing."""

import logging
from collections.abc import Callable, Sequence

from mitmproxy import http

from solaris_meter.metering.call import Call
from solaris_meter.models import CallReport

log = logging.getLogger(__name__)


class Watcher:
    """What a watcher may want to hear; each method does nothing unless it is overridden."""

    def admitted(self, flow: http.HTTPFlow, call: Call) -> None:
        """A call goes upstream, on `flow`; a WebSocket's flow has many, one after another."""

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        """A request is refused, or one message of a WebSocket."""

    def ended(self, report: CallReport) -> None:
        """The books of an admitted call are closed; its flow may be over for long (a background answer)."""


class Watch(Watcher):
    """Tells all watchers. One that fails is logged, and costs nobody an answer."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def admitted(self, flow: http.HTTPFlow, call: Call) -> None:
        self._tell(lambda watcher: watcher.admitted(flow, call))

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        self._tell(lambda watcher: watcher.denied(flow, report))

    def ended(self, report: CallReport) -> None:
        self._tell(lambda watcher: watcher.ended(report))

    def _tell(self, tell: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            try:
                tell(watcher)
            except Exception:
                log.exception("%s failed; the call goes on", type(watcher).__name__)
