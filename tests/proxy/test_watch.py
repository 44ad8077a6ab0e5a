"""Watchers hear everything, and cannot harm a call."""

import pytest
from mitmproxy.test import tflow
from tests.metering.calls import open_payload

from solaris_meter.models import CallReport
from solaris_meter.proxy.watch import Watch, Watcher

REPORT = CallReport("call-1", "free", None, None, at_ms=0, duration_ms=0, status=200)


class Notes(Watcher):
    def __init__(self):
        self.heard = []

    def admitted(self, flow, call):
        self.heard.append(("admitted", flow, call))

    def denied(self, flow, report):
        self.heard.append(("denied", flow, report))

    def ended(self, report):
        self.heard.append(("ended", report))


class Fails(Watcher):
    def _fail(self, *_):
        raise RuntimeError("no")

    admitted = denied = ended = _fail


@pytest.mark.parametrize("first", [Fails(), Watcher()])
def test_the_one_behind_hears_all_of_it_whatever_the_one_before_does(first, caplog):
    notes = Notes()
    watch = Watch([first, notes])
    flow, call = tflow.tflow(), open_payload("openai_chat.json")
    watch.admitted(flow, call)
    watch.denied(flow, REPORT)
    watch.ended(REPORT)
    assert notes.heard == [("admitted", flow, call), ("denied", flow, REPORT), ("ended", REPORT)]
    assert caplog.text.count("Fails failed; the call goes on") == 3 * isinstance(first, Fails)
