"""The contentview: the default where a call was metered, nowhere else, and never a broken view."""

import json
from types import SimpleNamespace

import pytest
from mitmproxy import contentviews, ctx
from mitmproxy.contentviews import Metadata, prettify_message
from mitmproxy.contentviews._registry import ContentviewRegistry
from mitmproxy.http import Headers
from mitmproxy.test import tflow, tutils
from tests.metering.samples import payload

from solaris_meter.proxy.contentview import SolarisContentview
from solaris_meter.proxy.retention import CUT

ABOUT = {
    "solaris_user": "ana", "solaris_email": "ana@example.com", "solaris_model": "gpt-4o", "solaris_provider": "openai",
    "solaris_dialect": "openai-chat", "solaris_ending": "settled", "solaris_request": "0a1b", "solaris_calls": 1,
    "solaris_tokens": 1290, "solaris_input_tokens": 1234, "solaris_cached_input_tokens": 1000,
    "solaris_output_tokens": 56, "solaris_reasoning_tokens": 0, "solaris_basis": "reported",
    "solaris_billed_tokens": 1290, "solaris_cost_usd": "0.003100", "solaris_plan": "basico", "solaris_left": 250000,
    "solaris_limit": 1000000, "solaris_percent_used": "75.0",
}  # fmt: skip
LEDGER_LINES = """\
── Solaris Meter ──
user         ana (ana@example.com)
model        gpt-4o · openai · openai-chat
tokens       1,234 in (1,000 cached) + 56 out = 1,290 (reported)
billed       1,290
cost         $0.003100
left         250,000 of 1,000,000 · 75.0 % used · plan basico
ending       settled
usage event  0a1b"""
ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Olá"}]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    registry = ContentviewRegistry()
    for view in contentviews.registry.values():
        registry.register(view)
    registry.register(SolarisContentview)
    monkeypatch.setattr(contentviews, "registry", registry)
    monkeypatch.setattr(ctx, "options", SimpleNamespace(protobuf_definitions=None), raising=False)


def call(content=None, content_type="application/json", about=ABOUT, asked=None):
    kind = Headers([(b"content-type", content_type.encode())])
    request = tutils.treq(path=b"/v1/chat/completions", headers=kind, content=json.dumps(asked or ASKED).encode())
    flow = tflow.tflow(req=request, resp=tutils.tresp(headers=kind, content=content))
    flow.metadata.update(about)
    return flow


def shown(message, flow, view="auto"):
    return prettify_message(message, flow, view, contentviews.registry)


def test_a_metered_answer_is_a_conversation_with_its_ledger_lines():
    flow = call(payload("openai_chat_stream_usage.sse"), "text/event-stream")
    result = shown(flow.response, flow)
    assert result.view_name == "Solaris"
    assert result.text == f"── assistant ──\nOlá! Claro, posso ajudar com isso.\n\n{LEDGER_LINES}"


def test_so_is_its_request():
    flow = call()
    result = shown(flow.request, flow)
    assert result.view_name == "Solaris"
    assert result.text == f"gpt-4o · not streamed\n\n── user ──\nOlá\n\n{LEDGER_LINES}"


def test_other_flows_keep_their_views():
    flow = call(payload("openai_chat.json"), about={"solaris_route": "openai"})
    assert shown(flow.request, flow).view_name == "JSON"
    assert shown(flow.response, flow).view_name == "JSON"
    assert SolarisContentview().render_priority(b"{}", Metadata()) < 0


@pytest.mark.parametrize("view", ["auto", "solaris"])
@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (b'{"data": [{"embedding": [0.5]}]}', "application/json", '"embedding"'),
        (b"<html>502</html>", "text/html", "502"),
        (b"\x00\x01\xff binary", "application/octet-stream", "binary"),
        (b'{"broken": ', "application/json", "broken"),
        (b"data: what\n\n", "text/event-stream", "what"),
    ],
)
def test_a_body_that_is_no_conversation_is_shown_as_mitmproxy_shows_it(content, content_type, words, view):
    flow = call(content, content_type)
    result = shown(flow.response, flow, view)
    assert result.view_name == "Solaris"
    assert words in result.text
    assert result.text.endswith(LEDGER_LINES)


def test_a_dialect_that_fails_breaks_no_view(monkeypatch):
    def fail(*_):
        raise RuntimeError("no")

    monkeypatch.setattr("solaris_meter.proxy.transcript.answer", fail)
    flow = call(payload("openai_chat.json"))
    assert '"choices"' in shown(flow.response, flow).text


def test_it_says_that_a_body_was_cut():
    flow = call(payload("openai_chat_stream_aborted.sse"), "text/event-stream", ABOUT | {CUT: "response"})
    assert "[only the first 1,048,576 bytes are kept]" in shown(flow.response, flow).text
    assert "are kept]" not in shown(flow.request, flow).text


def test_a_refusal_shows_its_reason():
    about = {"solaris_ending": "denied", "solaris_denied": "tokens_exhausted", "solaris_user": "ana"}
    flow = call(b'{"error": {"message": "Acabou"}}', about=about)
    result = shown(flow.response, flow).text
    assert "Acabou" in result
    assert "ending       denied · tokens_exhausted" in result
