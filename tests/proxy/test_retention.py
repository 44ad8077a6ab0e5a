"""What mitmweb keeps: never a live flow dropped, never more than the bounds, never a key."""

import asyncio

import pytest
from mitmproxy import http
from mitmproxy.http import Headers
from mitmproxy.test import tflow, tutils
from mitmproxy.websocket import WebSocketData, WebSocketMessage
from wsproto.frame_protocol import Opcode

from solaris_meter.proxy import retention
from solaris_meter.proxy.retention import CUT, Kept, Retention


class View:
    """mitmproxy's, as far as it is used."""

    def __init__(self):
        self.flows = {}

    def add(self, flow):
        self.flows[flow.id] = flow
        return flow

    def resolve(self, spec):
        assert spec == "@all"
        return list(self.flows.values())

    def remove(self, flows):
        for flow in flows:
            assert not flow.killable, "removing it would cut its connection"
            del self.flows[flow.id]


class World:
    def __init__(self, keep=3, keep_seconds=60):
        self.now_s = 0.0
        self.view = View()
        self.shown: list[http.HTTPFlow] = []
        self.rounds = 0
        self.retention = Retention(
            self.view, keep, keep_seconds, "X-Solaris-Key", self.shown.extend, self._tidied, lambda: self.now_s
        )

    def _tidied(self):
        self.rounds += 1

    def flow(self, *, live=False, content=b"", **headers):
        fields = Headers([(name.encode(), value.encode()) for name, value in headers.items()])
        flow = tflow.tflow(req=tutils.treq(headers=fields), resp=tutils.tresp(content=content))
        flow.live = live
        return self.view.add(flow)

    def kept(self):
        self.retention.tidy()
        return list(self.view.flows.values())


def test_the_newest_finished_flows_are_kept():
    world = World(keep=3)
    flows = [world.flow() for _ in range(5)]
    assert world.kept() == flows[2:]
    assert world.rounds == 1


def test_the_order_is_that_in_which_they_finished():
    world = World(keep=2)
    slow = world.flow(live=True)
    first, second = world.flow(), world.flow()
    assert world.kept() == [slow, first, second]
    slow.live = False
    assert world.kept() == [slow, second]


def test_a_live_flow_stays_however_many_there_are():
    world = World(keep=1, keep_seconds=1)
    live = [world.flow(live=True) for _ in range(5)]
    world.now_s = 1000
    assert world.kept() == live


def test_a_flow_goes_when_it_is_old():
    world = World(keep_seconds=60)
    world.flow()
    world.retention.tidy()
    world.now_s = 59
    young = world.flow()
    assert len(world.kept()) == 2
    world.now_s = 60
    assert world.kept() == [young]


def test_large_bodies_push_older_flows_out(monkeypatch):
    monkeypatch.setattr(retention, "MOST_BYTES", 1000)
    world = World(keep=100)
    flows = [world.flow(content=b"x" * 400) for _ in range(4)]
    assert world.kept() == flows[2:]


def test_the_messages_of_a_session_count_as_well(monkeypatch):
    monkeypatch.setattr(retention, "MOST_BYTES", 1000)
    world = World(keep=100)
    sessions = [world.flow() for _ in range(3)]
    for session in sessions:
        session.websocket = WebSocketData(messages=[WebSocketMessage(Opcode.BINARY, True, b"x" * 400)])
    assert world.kept() == sessions[1:]
    assert sessions[0].websocket.messages == []


def test_what_somebody_else_removed_is_forgotten():
    world = World(keep=2)
    gone = world.flow()
    world.retention.tidy()
    world.view.remove([gone])
    flows = [world.flow(), world.flow()]
    assert world.kept() == flows


def test_a_dropped_flow_lets_go_of_its_bodies():
    world = World(keep=1)
    old = world.flow(content=b"long")
    world.flow()
    world.retention.tidy()
    assert (old.request.raw_content, old.response.raw_content) == (None, None)


def test_a_body_is_cut_when_the_flow_is_over(monkeypatch):
    monkeypatch.setattr(retention, "MOST_BODY_BYTES", 10)
    world = World()
    flow = world.flow(live=True, content=b"0123456789abc")
    world.retention.tidy()
    assert flow.response.raw_content == b"0123456789abc"
    assert CUT not in flow.metadata
    flow.live = False
    flow.request.raw_content = b"0123456789abc"
    world.retention.tidy()
    assert (flow.request.raw_content, flow.response.raw_content) == (b"0123456789", b"0123456789")
    assert flow.metadata[CUT] == "request, response"


def test_a_request_keeps_its_key_until_the_answer_begins():
    world = World()
    flow = world.flow(live=True, Authorization="Bearer 1")
    world.retention.tidy()
    assert flow.request.headers["authorization"] == "Bearer 1"
    world.retention.responseheaders(flow)
    assert flow.request.headers["authorization"] == "Bearer [masked]"
    assert world.shown == [flow]


def test_a_call_without_an_answer_is_masked_as_well():
    world = World()
    flow = world.flow(live=True, Authorization="Bearer 1")
    flow.response = None
    world.retention.error(flow)
    assert flow.request.headers["authorization"] == "Bearer [masked]"


def test_a_copy_that_was_made_before_is_masked_in_the_next_round():
    world = World()
    flow = world.flow(live=True, Authorization="Bearer 1")
    copy = world.view.add(flow.copy())
    assert not copy.live
    world.retention.tidy()
    assert copy.request.headers["authorization"] == "Bearer [masked]"
    assert flow.request.headers["authorization"] == "Bearer 1"


def test_going_back_to_what_was_edited_does_not_bring_the_key_back():
    world = World()
    flow = world.flow(live=True, Authorization="Bearer 1")
    flow.backup()
    flow.request.path = "/edited"
    world.retention.responseheaders(flow)
    flow.revert()
    assert flow.request.headers["authorization"] == "Bearer [masked]"
    assert "Bearer 1" not in str(flow.get_state())


def test_cookies_are_masked_only_when_the_client_has_them():
    world = World()
    flow = world.flow(live=True)
    flow.response.headers["set-cookie"] = "a=b"
    world.retention.responseheaders(flow)
    world.retention.response(flow)
    world.retention.tidy()
    assert flow.response.headers["set-cookie"] == "a=b"
    flow.live = False
    world.retention.tidy()
    assert flow.response.headers["set-cookie"] == "[masked]"


@pytest.mark.parametrize("ending", ["response", "error"])
@pytest.mark.parametrize("stream", [True, lambda data: [data, b"+"] if data else b"end"])
def test_a_streamed_answer_can_be_seen_afterwards(stream, ending):
    world = World()
    flow = world.flow(live=True)
    flow.response.raw_content = None
    flow.response.stream = stream
    world.retention.responseheaders(flow)
    relay = flow.response.stream
    out = [relay(b"one"), relay(b"two"), relay(b"")]
    assert out == ([b"one", b"two", b""] if stream is True else [[b"one", b"+"], [b"two", b"+"], b"end"])
    getattr(world.retention, ending)(flow)
    assert flow.response.raw_content == (b"onetwo" if stream is True else b"one+two+end")
    flow.live = False
    world.retention.tidy()
    assert flow.response.stream is True, "who relayed it is let go"


def test_an_answer_that_is_not_streamed_stays_as_it_is():
    world = World()
    flow = world.flow(live=True, content=b"whole")
    world.retention.responseheaders(flow)
    world.retention.response(flow)
    assert (flow.response.stream, flow.response.raw_content) == (False, b"whole")


def test_only_the_beginning_of_a_stream_is_kept_and_all_of_it_relayed(monkeypatch):
    monkeypatch.setattr(retention, "MOST_BODY_BYTES", 5)
    kept = Kept()
    relay = kept.tee(None)
    assert [relay(b"abc"), relay(b"def"), relay(b"ghi")] == [b"abc", b"def", b"ghi"]
    assert (bytes(kept.content), kept.cut) == (b"abcde", True)


def test_a_round_that_fails_is_not_the_last(monkeypatch, caplog):
    monkeypatch.setattr(retention, "TIDY_EVERY_S", 0.01)
    world = World(keep=1)

    async def run():
        monkeypatch.setattr(world.view, "flows", None)
        world.retention.running()
        await asyncio.sleep(0.05)
        monkeypatch.undo()
        monkeypatch.setattr(retention, "TIDY_EVERY_S", 0.01)
        world.flow()
        last = world.flow()
        await asyncio.sleep(0.05)
        await world.retention.done()
        assert list(world.view.flows.values()) == [last]

    asyncio.run(run())
    assert "could not be tidied" in caplog.text
