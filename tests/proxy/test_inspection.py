"""What the flows of metered calls are labelled with."""

import gc
from dataclasses import replace

import pytest
from mitmproxy import flowfilter, http
from mitmproxy.test import tflow
from mitmproxy.utils.emoji import emoji
from mitmproxy.websocket import WebSocketData
from tests.metering.calls import STANDING, open_payload

from solaris_meter.models import CallDetails, Caller, CallReport, Usage
from solaris_meter.proxy import summary
from solaris_meter.proxy.inspection import Inspection

DETAILS = CallDetails("openai", "gpt-4o", "openai-chat", "/v1/chat/completions", stream=True)
CALLER = Caller("ana", "ana@example.com", "chat-7")
LEFT = replace(STANDING, email="ana@example.com", used=1_290, balance=250_000)
USAGE = Usage(1_234, 56, "reported", cached_input_tokens=1_000)


def report(ending="settled", **changes):
    usual = CallReport(
        "call-1", ending, CALLER, DETAILS, at_ms=0, duration_ms=5, status=200, usage=USAGE, billed_tokens=1_290,
        cost_nano_usd=3_100_000, standing=LEFT,
    )  # fmt: skip
    return replace(usual, **changes)


class World:
    def __init__(self):
        self.shown: list[http.HTTPFlow] = []
        self.inspection = Inspection(self.shown.extend, warned_percent=80)
        self.call = open_payload("openai_chat.json")
        self.flow = tflow.tflow(resp=True)

    def admit(self, flow=None):
        self.inspection.admitted(flow or self.flow, self.call)

    def end(self, ending="settled", **changes):
        self.inspection.ended(report(ending, **({"id": self.call.id} | changes)))

    @property
    def label(self):
        return self.flow.marked, self.flow.comment


@pytest.fixture
def world():
    return World()


def test_a_call_on_its_way_says_who_asks_what(world):
    world.flow.response = None
    world.admit()
    ask = world.call.terms.ask
    assert world.label == (summary.RUNNING, f"{ask.caller.user} · {ask.details.model} · running · 100 left")
    assert world.shown == [world.flow]


def test_a_served_call_says_what_it_cost_and_what_is_left(world):
    world.admit()
    world.end()
    assert world.label == (
        summary.SERVED,
        "ana@example.com · gpt-4o · 1,234 in + 56 out = 1,290 tokens (reported) · $0.0031 · 250,000 left",
    )
    assert world.inspection.running == 0


@pytest.mark.parametrize(
    ("changes", "marker", "words"),
    [
        ({"standing": replace(LEFT, used=80, balance=20)}, summary.WARNED, "· 20 left"),
        ({"interrupted": True}, summary.INTERRUPTED, "· interrupted"),
        ({"ending": "journalled", "standing": None}, summary.FAILED, "to be billed later"),
        ({"ending": "uncharged", "standing": None}, summary.FAILED, "not charged"),
        ({"ending": "free", "usage": None, "status": 500}, summary.FAILED, "nothing was owed (500)"),
        ({"ending": "free", "usage": None, "status": 204}, summary.SERVED, "nothing was owed (204)"),
        ({"billed_tokens": 2_580}, summary.SERVED, "tokens (reported), 2,580 billed ·"),
        ({"cost_nano_usd": None}, summary.SERVED, "(reported) · 250,000 left"),
        ({"cost_nano_usd": 12_000}, summary.SERVED, "· $0.000012 ·"),
        ({"usage": Usage(0, 0, "reported", images=2), "billed_tokens": 0}, summary.SERVED, "2 images (reported)"),
        ({"usage": Usage(0, 0, "counted", audio_ms=1500), "billed_tokens": 0}, summary.SERVED, "1.5 s of sound (count"),
    ],
)  # fmt: skip
def test_each_ending_has_its_mark_and_its_words(world, changes, marker, words):
    world.admit()
    world.end(**changes)
    assert world.flow.marked == marker
    assert words in world.flow.comment


def test_a_call_to_which_no_answer_came_has_failed(world):
    world.flow.response = None
    world.admit()
    world.end("free", usage=None, status=0)
    assert world.label[0] == summary.FAILED
    assert "no answer came" in world.flow.comment


def test_a_refused_call_says_why(world):
    denied = report("denied", id="", status=429, reason="tokens_exhausted", usage=None, standing=LEFT)
    world.inspection.denied(world.flow, denied)
    assert world.label == (
        summary.DENIED,
        "ana@example.com · gpt-4o · denied: tokens_exhausted (429) · 250,000 left",
    )
    assert world.flow.metadata["solaris_denied"] == "tokens_exhausted"


def test_nobody_known_is_nobody(world):
    unknown = report(
        "denied", caller=None, details=None, status=401, reason="identity_missing", usage=None, standing=None
    )
    world.inspection.denied(world.flow, unknown)
    assert world.label == (summary.DENIED, "nobody · denied: identity_missing (401)")


@pytest.mark.parametrize(
    "filter_",
    [
        '~meta "solaris_user: ana$"', '~meta "solaris_email: ana@example.com"', '~meta "solaris_model: gpt-4o"',
        '~meta "solaris_provider: openai"', '~meta "solaris_tokens: 1290"', '~meta "solaris_basis: reported"',
        '~meta "solaris_cost_usd: 0.0031"', '~meta "solaris_left: 250000"', '~meta "solaris_request: "',
        '~meta "solaris_ending: settled"', '~meta "solaris_conversation: chat-7"', '~comment "250,000 left"',
        "~marker green",
    ],
)  # fmt: skip
def test_calls_are_found_with_mitmproxys_own_filters(world, filter_):
    world.admit()
    world.end()
    assert flowfilter.match(filter_, world.flow)
    assert not flowfilter.match(filter_, tflow.tflow(resp=True))


def test_the_metadata_is_plain_and_leaves_that_of_others_alone(world):
    world.flow.metadata["solaris_route"] = "openai"
    world.admit()
    world.end()
    assert world.flow.metadata["solaris_route"] == "openai"
    assert {type(value) for value in world.flow.metadata.values()} <= {str, int}
    world.flow.copy()
    world.flow.get_state()


def test_the_calls_of_a_session_are_added_up(world):
    world.flow.websocket = WebSocketData()
    for number, more in enumerate(
        ({}, {"usage": Usage(6, 4, "counted"), "billed_tokens": 10, "cost_nano_usd": 900_000})
    ):
        world.call = open_payload("openai_chat.json")
        world.admit()
        assert world.flow.marked == summary.RUNNING
        world.end(**more)
        assert world.flow.metadata["solaris_calls"] == number + 1
    assert world.flow.comment == (
        "ana@example.com · gpt-4o · 2 calls · 1,240 in + 60 out = 1,300 tokens (counted) · $0.0040 · 250,000 left"
    )
    world.inspection.denied(world.flow, report("denied", usage=None, reason="tokens_exhausted", status=429))
    assert "2 calls" in world.flow.comment
    assert "denied: tokens_exhausted (429)" in world.flow.comment
    world.admit()
    assert "solaris_denied" not in world.flow.metadata


def test_a_call_that_is_polled_for_shows_its_end_on_every_flow(world):
    poll = tflow.tflow(resp=True)
    world.admit()
    world.flow.live = False
    world.admit(poll)
    world.shown.clear()
    world.end()
    assert world.flow.comment == poll.comment
    assert world.shown == [world.flow], "the poll's own response is about to be shown"


def test_flows_that_are_gone_are_forgotten(world):
    world.admit()
    assert world.inspection.running == 1
    world.flow = None
    world.shown.clear()
    gc.collect()
    world.inspection.forget_gone()
    assert world.inspection.running == 0


@pytest.mark.parametrize("name", ["RUNNING", "SERVED", "WARNED", "DENIED", "INTERRUPTED", "FAILED"])
def test_mitmproxy_knows_the_markers(name):
    assert getattr(summary, name) in emoji
