import json
import re
from dataclasses import replace

import pytest

from solaris_meter.chat import denials
from solaris_meter.chat.texts import Texts
from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages
from solaris_meter.metering.dialects.dialect import for_librechat
from solaris_meter.metering.dialects.generic import Generic
from solaris_meter.metering.dialects.openai_chat import OpenAIChat
from solaris_meter.metering.meter import Denied
from solaris_meter.models import Standing
from solaris_meter.periods import Period
from solaris_meter.settings import Purchase

OPENAI, ANTHROPIC, GENERIC = OpenAIChat(), AnthropicMessages(), Generic()
START_MS, END_MS = 1_793_502_000_000, 1_796_094_000_000  # November 2026 in São Paulo
STANDING = Standing(
    "ana",
    None,
    "basico",
    "active",
    "America/Sao_Paulo",
    Period(START_MS, END_MS),
    used=1_000_000,
    reserved=0,
    balance=0,
)
PURCHASE = Purchase(email="vendas@example.com")
TEXTS = {"pt-BR": Texts("pt-BR", PURCHASE), "en": Texts("en", PURCHASE)}
HUMAN = {
    "pt-BR": "Seus tokens acabaram: você usou 1.000.000 de 1.000.000 e o saldo é 0. Ele se renova em 01/12/2026. "
    "Para comprar mais, escreva para vendas@example.com.",
    "en": "Your tokens are used up: you used 1,000,000 of 1,000,000 and the balance is 0. It renews on Dec 1, 2026. "
    "To buy more, write to vendas@example.com.",
}
EXHAUSTED = Denied("tokens_exhausted", STANDING)
DAY_S = 86_400
REASONS = {
    "tokens_exhausted": 429,
    "tokens_reserved": 429,
    "account_blocked": 429,
    "account_unknown": 403,
    "identity_missing": 401,
    "identity_refused": 401,
    "ledger_unavailable": 503,
    "internal_error": 503,
    "body_unreadable": 400,
    "endpoint_denied": 403,
}
DETAILS = {"header": "X-Solaris-User", "detail": "line 1 column 2"}


def build(denied=EXHAUSTED, dialect=OPENAI, language="pt-BR", mode="http_429", before_end_s=DAY_S, **details):
    return denials.build(denied, dialect, TEXTS[language], mode, END_MS - before_end_s * 1000, **details)


@pytest.mark.parametrize("language", ["pt-BR", "en"])
def test_an_openai_refusal_is_exactly_this(language):
    denial = build(language=language)
    wrapped = json.dumps({"type": "google_error", "info": HUMAN[language]}, ensure_ascii=False)
    assert denial.status == 429
    assert denial.headers == {
        "x-should-retry": "false",
        "x-solaris-denied": "tokens_exhausted",
        "retry-after": str(DAY_S),
    }
    assert denial.body == {
        "error": {"message": wrapped, "type": "insufficient_quota", "code": "insufficient_quota", "param": None}
    }


@pytest.mark.parametrize("language", ["pt-BR", "en"])
def test_an_anthropic_refusal_is_exactly_this(language):
    denial = build(dialect=ANTHROPIC, language=language)
    wrapped = json.dumps({"type": "google_error", "info": HUMAN[language]}, ensure_ascii=False)
    assert denial.status == 429
    assert denial.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": wrapped},
        "code": "insufficient_quota",
        "message": wrapped,
    }


def test_with_http_402_an_openai_refusal_is_plain():
    denial = build(mode="http_402")
    assert denial.status == 402
    assert denial.headers["x-solaris-denied"] == "tokens_exhausted"
    assert denial.body == {
        "error": {
            "message": HUMAN["pt-BR"],
            "type": "insufficient_quota",
            "code": "insufficient_quota",
            "param": None,
        }
    }


def test_with_http_402_an_anthropic_refusal_is_plain():
    denial = build(dialect=ANTHROPIC, mode="http_402")
    assert denial.status == 402
    assert denial.body == {
        "type": "error",
        "error": {"type": "billing_error", "message": HUMAN["pt-BR"]},
        "code": "insufficient_quota",
        "message": HUMAN["pt-BR"],
    }


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, GENERIC])
@pytest.mark.parametrize("reason", REASONS)
def test_what_an_assistant_cannot_say_is_refused_as_usual(reason, dialect):
    denied = Denied(reason, STANDING)
    assert build(denied, dialect, mode="assistant_message", **DETAILS) == build(denied, dialect, **DETAILS)


def test_an_unknown_endpoint_gets_the_plain_sentence():
    assert build(dialect=GENERIC).body["error"]["message"] == HUMAN["pt-BR"]


def test_librechat_unpacks_exactly_the_sentence():
    message = build().body["error"]["message"]
    assert json.loads(message) == {"type": "google_error", "info": HUMAN["pt-BR"]}
    assert message.count("{") == message.count("}") == 1  # it takes the first balanced pair of braces


def test_quotation_marks_survive_the_wrapping():
    assert json.loads(for_librechat('ele disse "não"\\')) == {"type": "google_error", "info": 'ele disse "não"\\'}


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, GENERIC])
@pytest.mark.parametrize("language", ["pt-BR", "en"])
@pytest.mark.parametrize("mode", ["http_429", "http_402"])
@pytest.mark.parametrize("reason", REASONS)
def test_every_refusal_has_its_status_and_a_harmless_text(reason, mode, language, dialect):
    denial = build(Denied(reason, STANDING), dialect, language, mode, **DETAILS)
    paid_for = REASONS[reason] == 429
    assert denial.status == (402 if paid_for and mode == "http_402" else REASONS[reason])
    assert denial.headers["x-should-retry"] == "false"
    assert denial.headers["x-solaris-denied"] == reason
    message = denial.body["error"]["message"]
    human = json.loads(message)["info"] if message.startswith("{") else message
    assert human
    assert not set("{}\n") & set(human)
    assert not re.search(r"try again|retry|\d+ ?(s|ms|second|segundo)s?\b", human, re.IGNORECASE)
    json.dumps(denial.body).encode()


@pytest.mark.parametrize(
    ("reason", "status", "openai", "anthropic"),
    [
        ("identity_missing", 401, "authentication_error", "authentication_error"),
        ("identity_refused", 401, "authentication_error", "authentication_error"),
        ("ledger_unavailable", 503, "server_error", "api_error"),
        ("internal_error", 503, "server_error", "api_error"),
        ("body_unreadable", 400, "invalid_request_error", "invalid_request_error"),
        ("account_unknown", 403, "account_unknown", "permission_error"),
    ],
)
def test_other_refusals_name_their_reason_in_each_shape(reason, status, openai, anthropic):
    denied = Denied(reason)
    as_openai, as_anthropic = build(denied, **DETAILS), build(denied, ANTHROPIC, **DETAILS)
    assert as_openai.status == as_anthropic.status == status
    assert (as_openai.body["error"]["type"], as_openai.body["error"]["code"]) == (openai, reason)
    assert (as_anthropic.body["error"]["type"], as_anthropic.body["code"]) == (anthropic, reason)
    assert json.loads(as_openai.body["error"]["message"])["type"] == "google_error"


@pytest.mark.parametrize(
    ("before_end_s", "retry_after"), [(3600, "3600"), (61, "61"), (60, None), (59, None), (0, None), (-10, None)]
)
def test_retry_after_is_told_only_above_a_minute(before_end_s, retry_after):
    # LibreChat's client stack retries by itself, up to seven times, where it is a minute or less.
    assert build(before_end_s=before_end_s).headers.get("retry-after") == retry_after


def test_a_part_of_a_second_counts_as_a_whole_one():
    denial = denials.build(EXHAUSTED, OPENAI, TEXTS["en"], "http_429", END_MS - 3_600_001)
    assert denial.headers["retry-after"] == "3601"


def test_a_plan_without_periods_has_no_retry_after():
    prepaid = replace(STANDING, period=Period(START_MS, None))
    assert "retry-after" not in build(Denied("tokens_exhausted", prepaid)).headers


@pytest.mark.parametrize("reason", sorted(set(REASONS) - {"tokens_exhausted"}))
def test_what_the_next_period_does_not_change_has_no_retry_after(reason):
    assert "retry-after" not in build(Denied(reason, STANDING), **DETAILS).headers


def test_rate_limit_headers_say_what_there_is_and_until_when():
    standing = replace(STANDING, used=250_000, balance=750_000, reserved=50_000)
    assert denials.rate_limit_headers(standing, END_MS - 90_500) == {
        "RateLimit-Policy": f'"tokens";q=1000000;w={(END_MS - START_MS) // 1000}',
        "RateLimit": '"tokens";r=700000;t=91',
    }


def test_a_plan_without_periods_has_no_times():
    prepaid = replace(STANDING, period=Period(START_MS, None), used=0, balance=500)
    assert denials.rate_limit_headers(prepaid, END_MS) == {
        "RateLimit-Policy": '"tokens";q=500',
        "RateLimit": '"tokens";r=500',
    }


def test_a_debt_is_nothing_left():
    in_debt = replace(STANDING, used=1_000_500, balance=-500)
    headers = denials.rate_limit_headers(in_debt, END_MS + 5000)
    assert headers["RateLimit"] == '"tokens";r=0;t=0'
    assert headers["RateLimit-Policy"].startswith('"tokens";q=1000000;')
