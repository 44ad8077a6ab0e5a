"""What mitmweb shows of each call besides its bytes: comment, marker, metadata. Nothing of it is written to disk."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import http

from solaris_meter.metering.call import Call
from solaris_meter.models import CallReport
from solaris_meter.proxy.summary import Summary
from solaris_meter.proxy.watch import Watcher


class Inspection(Watcher):
    """Labels the flows of metered calls. `show` is told of the flows whose labels changed.

    A call that is polled for has several flows: each shows how it ended. Flows are held weakly: when they go is
    decided elsewhere.
    """

    def __init__(self, show: Callable[[Sequence[http.HTTPFlow]], None], warned_percent: int) -> None:
        self._show = show
        self._warned_percent = warned_percent
        self._flows: dict[str, WeakSet[http.HTTPFlow]] = {}
        self._summaries: WeakKeyDictionary[http.HTTPFlow, Summary] = WeakKeyDictionary()

    @property
    def running(self) -> int:
        """How many calls with a flow have not ended."""
        return len(self._flows)

    def admitted(self, flow: http.HTTPFlow, call: Call) -> None:
        ask = call.terms.ask
        self._flows.setdefault(call.id, WeakSet()).add(flow)
        before = self._summaries.get(flow, Summary())
        self._label(flow, before.admitted(call.id, ask.caller, ask.details, call.terms.standing))
        self._show([flow])

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        self._over(flow, report)

    def ended(self, report: CallReport) -> None:
        for flow in list(self._flows.pop(report.id, ())):
            self._over(flow, report)

    def forget_gone(self) -> None:
        """Forget the calls whose flows are gone; of a call that could not be settled nothing more is heard."""
        for call_id in [call_id for call_id, flows in self._flows.items() if not flows]:
            del self._flows[call_id]

    def _over(self, flow: http.HTTPFlow, report: CallReport) -> None:
        status = flow.response.status_code if flow.response else 0
        self._label(flow, self._summaries.get(flow, Summary()).over(report, status))
        if not flow.live or flow.websocket is not None:  # else its own `response` is about to show it
            self._show([flow])

    def _label(self, flow: http.HTTPFlow, summary: Summary) -> None:
        for key in self._summaries.get(flow, Summary()).metadata:
            flow.metadata.pop(key, None)
        self._summaries[flow] = summary
        flow.metadata.update(summary.metadata)
        flow.comment = summary.comment
        flow.marked = summary.marker(self._warned_percent)
