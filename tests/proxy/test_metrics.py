"""Metrics: every call is counted once, under labels that nobody can multiply."""

from dataclasses import replace

import pytest
from mitmproxy.test import tflow
from prometheus_client.parser import text_string_to_metric_families

from solaris_meter.chat import denials
from solaris_meter.ledger.backlog import Backlog
from solaris_meter.models import CallDetails, Caller, CallReport, Usage
from solaris_meter.proxy import metrics
from solaris_meter.proxy.metrics import Metrics, Moment

NOW = 1_800_000_000_000
DETAILS = CallDetails("openai", "gpt-4o", "openai-chat", "/v1/chat/completions", stream=True)
USAGE = Usage(100, 40, "reported", cached_input_tokens=30, cache_write_tokens=20, reasoning_tokens=10)
SETTLED = CallReport(
    id="call-1",
    ending="settled",
    caller=Caller("ana", "ana@example.com", "fio"),
    details=DETAILS,
    at_ms=NOW,
    duration_ms=1500,
    status=200,
    usage=USAGE,
    billed_tokens=140,
    cost_nano_usd=2_500_000,
    settle_ms=4,
)
FREE = replace(SETTLED, ending="free", status=502, usage=None, billed_tokens=0, cost_nano_usd=None)
DENIED = replace(FREE, id="", ending="denied", status=429, reason="tokens_exhausted")
QUIET = Moment(NOW, 0, 0, True, {}, Backlog(0, 0, None, 0, 0, None), 0, 10**9)


def samples(counted, moment=QUIET):
    """Every sample of the output by name and labels; the ones of this process apart."""
    text = counted.render(moment)[0].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def value(counted, name, moment=QUIET, **labels):
    return samples(counted, moment)[(name, *sorted(labels.items()))]


def total(counted, name, **labels):
    return sum(
        number for key, number in samples(counted).items() if key[0] == name and set(labels.items()) <= set(key[1:])
    )


def test_a_settled_call_is_counted_with_its_tokens_its_price_and_its_times():
    counted = Metrics()
    counted.ended(SETTLED)
    of = {"provider": "openai", "model": "gpt-4o"}
    assert value(counted, "solaris_calls_total", **of, dialect="openai-chat", ending="settled", status="2xx") == 1
    kinds = {"input": 50, "cached_input": 30, "cache_write": 20, "output": 30, "reasoning": 10}
    for kind, tokens in kinds.items():
        assert value(counted, "solaris_tokens_total", **of, kind=kind, basis="reported") == tokens
    assert total(counted, "solaris_tokens_total") == USAGE.total_tokens
    assert value(counted, "solaris_billed_tokens_total", **of, basis="reported") == 140
    assert value(counted, "solaris_cost_usd_total", **of) == pytest.approx(0.0025)
    assert value(counted, "solaris_call_duration_seconds_sum", provider="openai") == 1.5
    assert value(counted, "solaris_settlement_duration_seconds_sum") == 0.004
    assert value(counted, "solaris_interrupted_calls_total", **of) == 0


def test_an_interrupted_call_is_counted_as_both():
    counted = Metrics()
    counted.ended(SETTLED)
    counted.ended(replace(SETTLED, interrupted=True))
    assert total(counted, "solaris_calls_total", ending="settled") == 2
    assert total(counted, "solaris_interrupted_calls_total") == 1


def test_what_is_billed_later_counts_its_tokens_now_and_no_charge():
    counted = Metrics()
    counted.ended(replace(SETTLED, ending="journalled", billed_tokens=0, settle_ms=0))
    assert total(counted, "solaris_tokens_total") == 140
    assert total(counted, "solaris_billed_tokens_total") == 0
    assert value(counted, "solaris_settlement_duration_seconds_count") == 0
    assert value(counted, "solaris_ledger_errors_total", operation="settle") == 1


def test_a_call_that_the_ledger_refuses_to_charge_counts_no_tokens():
    counted = Metrics()
    counted.ended(replace(SETTLED, ending="uncharged", billed_tokens=0))
    assert total(counted, "solaris_tokens_total") == 0
    assert value(counted, "solaris_ledger_errors_total", operation="charge") == 1


def test_a_failure_of_the_provider_is_a_free_call_with_its_status():
    counted = Metrics()
    counted.ended(SETTLED)
    counted.ended(FREE)
    counted.ended(replace(FREE, status=0))
    assert total(counted, "solaris_calls_total", ending="free", status="5xx", model="gpt-4o") == 1
    assert total(counted, "solaris_calls_total", ending="free", status="none") == 1


def test_denials_are_counted_by_reason_and_every_reason_begins_at_nothing():
    counted = Metrics()
    assert {reason: value(counted, "solaris_denials_total", reason=reason) for reason in denials.REASONS} == (
        dict.fromkeys(denials.REASONS, 0)
    )
    counted.denied(tflow.tflow(), DENIED)
    counted.denied(tflow.tflow(), replace(DENIED, details=None, caller=None, reason="identity_missing"))
    assert value(counted, "solaris_denials_total", reason="tokens_exhausted") == 1
    assert value(counted, "solaris_denials_total", reason="identity_missing") == 1
    assert total(counted, "solaris_calls_total") == 0


def test_a_call_refused_for_the_ledger_is_an_error_of_it_unless_the_sidecar_stops():
    counted = Metrics()
    away = replace(DENIED, status=503, reason="ledger_unavailable")
    counted.denied(tflow.tflow(), away)
    counted.stop()
    counted.denied(tflow.tflow(), away)
    assert value(counted, "solaris_denials_total", reason="ledger_unavailable") == 2
    assert value(counted, "solaris_ledger_errors_total", operation="reserve") == 1


def test_upkeep_that_fails_is_an_error_of_the_ledger():
    counted = Metrics()
    counted.tending_failed()
    assert value(counted, "solaris_ledger_errors_total", operation="tend") == 1


def test_models_that_cost_nothing_get_no_label_of_their_own():
    """Anybody can ask for a model that does not exist."""
    counted = Metrics()
    counted.ended(SETTLED)
    for number in range(20):
        counted.ended(replace(FREE, status=404, details=replace(DETAILS, model=f"made-up-{number}")))
    assert total(counted, "solaris_calls_total", ending="free", model="other", provider="openai") == 20
    assert not [key for key in samples(counted) if "made-up" in str(key)]


def test_beyond_so_many_models_and_providers_stands_other(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_MODELS", 3)
    monkeypatch.setattr(metrics, "MOST_PROVIDERS", 2)
    counted = Metrics()
    for number in range(10):
        details = replace(DETAILS, provider=f"host-{number}", model=f"model-{number}")
        for _ in range(2):
            counted.ended(replace(SETTLED, details=details))
    seen = {key[3][1] for key in samples(counted) if key[0] == "solaris_calls_total"}
    assert seen == {"model-0", "model-1", "model-2", "other"}
    assert {key[-2][1] for key in samples(counted) if key[0] == "solaris_calls_total"} == {"host-0", "host-1", "other"}
    assert total(counted, "solaris_calls_total") == 20
    assert total(counted, "solaris_tokens_total") == 20 * 140


def test_nobody_is_named_unless_the_operator_wants_it():
    counted, named = Metrics(), Metrics(users=True)
    for one in (counted, named):
        one.ended(SETTLED)
        one.denied(tflow.tflow(), DENIED)
    assert "ana" not in counted.render(QUIET)[0].decode()
    assert value(named, "solaris_user_billed_tokens_total", user="ana") == 140


def test_beyond_so_many_users_stands_other(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_USERS", 2)
    named = Metrics(users=True)
    for user in ("ana", "bia", "caio", "davi", "ana"):
        named.ended(replace(SETTLED, caller=Caller(user)))
    assert value(named, "solaris_user_billed_tokens_total", user="other") == 280
    assert value(named, "solaris_user_billed_tokens_total", user="ana") == 280


@pytest.mark.parametrize("model", ["half \ud800 of a pair", 'a "quoted"\nname\\', "", "é" * 256])
def test_whatever_somebody_calls_a_model_the_output_can_be_read(model):
    counted = Metrics(users=True)
    counted.ended(replace(SETTLED, details=replace(DETAILS, model=model), caller=Caller("\udcff")))
    assert total(counted, "solaris_calls_total") == 1
    assert total(counted, "solaris_calls_total", model="unnamed") == (model == "")


def test_gauges_are_those_of_the_moment():
    backlog = Backlog(3, 4500, NOW - 90_000, 2, 1, NOW - 5_000)
    moment = Moment(NOW, 7, 2, False, {}, backlog, 4, 123)
    counted = Metrics()
    expected = {
        "solaris_running_calls": 7,
        "solaris_waiting_calls": 2,
        "solaris_litellm_ready": 0,
        "solaris_ledger_up": 1,
        "solaris_pending_reservations": 3,
        "solaris_reserved_tokens": 4500,
        "solaris_oldest_reservation_age_seconds": 90,
        "solaris_alert_outbox_overdue_seconds": 5,
        "solaris_journalled_calls": 4,
        "solaris_disk_free_bytes": 123,
    }
    assert {name: value(counted, name, moment) for name in expected} == expected
    assert value(counted, "solaris_alert_outbox_messages", moment, state="pending") == 2
    assert value(counted, "solaris_alert_outbox_messages", moment, state="dead") == 1


def test_an_alert_that_is_due_later_is_not_overdue():
    moment = replace(QUIET, backlog=Backlog(0, 0, None, 1, 0, NOW + 60_000))
    assert value(Metrics(), "solaris_alert_outbox_overdue_seconds", moment) == 0


def test_what_the_ledger_does_not_say_is_left_out():
    away = replace(QUIET, backlog=None, journalled=None, disk_free=None)
    found = {key[0] for key in samples(Metrics(), away)}
    assert value(Metrics(), "solaris_ledger_up", away) == 0
    assert found.isdisjoint({"solaris_pending_reservations", "solaris_journalled_calls", "solaris_disk_free_bytes"})


def test_unmetered_endpoints_are_listed_up_to_a_number(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_ENDPOINTS", 2)
    counts = {"openai /v1/a b": 3, "openai /v1/c": 1, "cohere /v1/d": 4, "others": 5}
    moment = replace(QUIET, unmetered=counts)
    of = "solaris_unmetered_calls_total"
    assert value(Metrics(), of, moment, provider="openai", endpoint="/v1/a b") == 3
    assert value(Metrics(), of, moment, provider="openai", endpoint="/v1/c") == 1
    assert value(Metrics(), of, moment, provider="other", endpoint="other") == 9


def test_openmetrics_is_written_for_those_who_ask_for_it():
    body, content_type = Metrics().render(QUIET, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert Metrics().render(QUIET, "*/*")[1].startswith("text/plain")
