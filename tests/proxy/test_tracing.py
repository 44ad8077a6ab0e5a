"""Tracing: what a collector gets, decoded from its own wire format."""

import time
from dataclasses import replace

import pytest
from mitmproxy.test import tflow
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.proxy.collector import Collector, attributes
from tests.proxy.test_metrics import DENIED, DETAILS, FREE, NOW, SETTLED

from solaris_meter.proxy.tracing import Tracing


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.stop()


def spans(collector, *reports, **options):
    tracing = Tracing(collector.url, **options)
    for report in reports:
        if report.ending == "denied":
            tracing.denied(tflow.tflow(), report)
        else:
            tracing.ended(report)
    tracing.close()
    assert len(collector.spans) == len(reports)
    return collector.spans


def test_a_call_is_a_client_span_with_its_true_times_and_tokens(collector):
    [span] = spans(collector, SETTLED)
    assert (span.name, span.kind) == ("chat gpt-4o", Span.SPAN_KIND_CLIENT)
    assert span.end_time_unix_nano == NOW * 1_000_000
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "fio",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "solaris.request.id": "call-1",
        "solaris.dialect": "openai-chat",
        "solaris.ending": "settled",
        "solaris.interrupted": False,
        "solaris.usage.basis": "reported",
        "solaris.billed_tokens": 140,
        "solaris.cost_usd": pytest.approx(0.0025),
        "solaris.settle_ms": 4,
    }
    assert span.status.code == 0
    [resource] = collector.requests[0].resource_spans
    assert attributes(resource.resource)["service.name"] == "solaris-meter"
    assert collector.paths == ["/v1/traces"]


def test_a_failure_of_the_provider_is_an_error(collector):
    [span] = spans(collector, FREE)
    assert attributes(span)["error.type"] == "502"
    assert span.status.code == 2
    assert "gen_ai.usage.input_tokens" not in attributes(span)


def test_a_denial_is_an_error_named_by_its_reason_even_where_nothing_is_known(collector):
    known, unknown = spans(collector, DENIED, replace(DENIED, reason="identity_refused", details=None, caller=None))
    assert (known.name, attributes(known)["error.type"]) == ("chat gpt-4o", "tokens_exhausted")
    assert (unknown.name, attributes(unknown)["error.type"]) == ("unknown", "identity_refused")


def test_the_user_is_named_only_where_the_operator_wants_it(collector):
    [span] = spans(collector, SETTLED)
    assert "user.id" not in attributes(span)
    assert "ana" not in str(collector.requests[0])
    collector.requests.clear()
    [span] = spans(collector, SETTLED, users=True)
    assert attributes(span)["user.id"] == "ana"


@pytest.mark.parametrize(
    ("changes", "operation", "provider"),
    [
        ({"provider": "google", "dialect": "google"}, "generate_content", "gcp.gemini"),
        ({"provider": "bedrock", "dialect": "bedrock-converse"}, "chat", "aws.bedrock"),
        ({"provider": "azure", "dialect": "openai-responses"}, "chat", "azure.ai.openai"),
        ({"provider": "cohere", "dialect": "cohere", "endpoint": "/v2/embed"}, "embeddings", "cohere"),
        ({"provider": "mistral", "dialect": "embeddings"}, "embeddings", "mistral_ai"),
        ({"provider": "vllm", "dialect": "openai-completions"}, "text_completion", "vllm"),
    ],
)
def test_operations_and_providers_have_the_names_of_the_conventions(collector, changes, operation, provider):
    [span] = spans(collector, replace(SETTLED, details=replace(DETAILS, **changes)))
    found = attributes(span)
    assert (found["gen_ai.operation.name"], found["gen_ai.provider.name"]) == (operation, provider)


def test_whatever_somebody_calls_a_model_the_span_arrives(collector):
    [span] = spans(collector, replace(SETTLED, details=replace(DETAILS, model="half \ud800 of a pair")))
    assert attributes(span)["gen_ai.request.model"] == "half ? of a pair"


def test_a_whole_address_is_taken_as_it_is(collector):
    collector.url += "/v1/traces"
    spans(collector, SETTLED)
    assert collector.paths == ["/v1/traces"]


def test_a_collector_that_hangs_does_not_hold_up_the_end(collector):
    collector.wait_s = 5
    tracing = Tracing(collector.url)
    tracing.ended(SETTLED)
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < 2
