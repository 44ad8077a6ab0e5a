"""Reports: shapes that other programs rely on, and sums that agree with the calls they sum."""

from dataclasses import replace

import pytest
from tests.ledger.support import DAY, NOON, ask, moment, outcome

from solaris_meter.ledger import accounts, reports, reservations
from solaris_meter.ledger.reservations import Outcome
from solaris_meter.models import Usage


@pytest.fixture
def story(books):
    """Ana calls three times on two UTC days, Bruno once."""
    books.open("ana", "basico")
    books.open("bruno", "basico")
    calls = [
        ("a1", "ana", "gpt", "one", NOON, Usage(100, 20, "reported", 40, 10, 5, 28, 1500), 1_234_500),
        ("a2", "ana", "claude", "one", NOON + 1, Usage(10, 5, "counted"), None),
        ("a3", "ana", "gpt", None, NOON + DAY, Usage(1000, 0, "reported"), 1),
        ("b1", "bruno", "gpt", "two", NOON + 2, Usage(7, 3, "estimated"), None),
    ]
    for name, user, model, conversation, now, usage, cost in calls:
        call = ask(name, user, conversation=conversation)
        call = replace(call, details=replace(call.details, model=model))
        ended = Outcome(usage, 200, name == "a2", 1234, cost_nano_usd=cost)
        books.run(
            lambda tx, call=call, ended=ended, now=now: reservations.bill(tx, call, ended, books.new, (), now, now)
        )
    return books


def test_a_standing_is_written_like_this(books):
    books.open("ana", "basico")
    books.run(lambda tx: accounts.set_email(tx, accounts.get(tx, "ana"), "ana@example.com"))
    books.spend(850_001)
    books.hold("one", 1000)
    assert reports.standing(books.account().standing) == {
        "user": "ana",
        "email": "ana@example.com",
        "plan": "basico",
        "status": "active",
        "period": {"start": "2026-03-01T03:00:00Z", "end": "2026-04-01T03:00:00Z"},
        "limit": 1_000_000,
        "used": 850_001,
        "reserved": 1000,
        "balance": 149_999,
        "available": 148_999,
        "percent_used": 85.0,
    }


def test_a_balance_adds_the_grants_in_their_order_and_the_alerts(books):
    books.open("ana", "basico")
    books.give(50, kind="credit")
    books.spend(900_000, now=NOON + 7)
    report = reports.balance(books.tx, books.account())
    assert report["grants"] == [
        {"kind": "allowance", "remaining": 100_000, "expires_at": "2026-04-01T03:00:00Z"},
        {"kind": "credit", "remaining": 50, "expires_at": None},
    ]
    assert report["alerts"] == [{"threshold": 80, "at": "2026-03-10T15:00:00.007Z"}]


def test_a_prepaid_balance_has_no_end_and_no_limit_but_what_is_there(books):
    books.open()
    report = reports.balance(books.tx, books.account())
    assert report["period"] == {"start": "2026-03-10T15:00:00Z", "end": None}
    assert (report["limit"], report["percent_used"], report["grants"]) == (0, 0.0, [])


def test_a_debt_is_more_than_all_of_the_limit(books):
    books.open_with(1000)
    books.spend(1250)
    report = reports.balance(books.tx, books.account())
    assert (report["balance"], report["limit"], report["percent_used"]) == (-250, 1000, 125.0)


def test_the_share_used_is_never_rounded_up(books):
    books.open_with(100_000)
    books.spend(79_999)
    assert reports.balance(books.tx, books.account())["percent_used"] == 79.9


def test_an_event_is_written_like_this(story):
    assert reports.usage_events(story.tx)[0] == {
        "id": "a1",
        "at": "2026-03-10T15:00:00Z",
        "user": "ana",
        "provider": "openai",
        "model": "gpt",
        "dialect": "openai_chat",
        "endpoint": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "interrupted": False,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "cache_write_tokens": 10,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "total_tokens": 120,
        "images": 28,
        "audio_seconds": 1.5,
        "billed_tokens": 150,
        "cost_usd": 0.0012345,
        "basis": "reported",
        "duration_ms": 1234,
        "conversation": "one",
        "recovered": False,
    }


def test_events_come_oldest_first(story):
    assert [event["id"] for event in reports.usage_events(story.tx)] == ["a1", "a2", "b1", "a3"]
    assert reports.usage_events(story.tx)[1]["interrupted"] is True


def test_events_can_be_one_account_s(story):
    ids = [event["id"] for event in reports.usage_events(story.tx, story.account("bruno").id)]
    assert ids == ["b1"]


def test_since_is_within_and_until_is_not(story):
    ids = [event["id"] for event in reports.usage_events(story.tx, since_ms=NOON + 1, until_ms=NOON + DAY)]
    assert ids == ["a2", "b1"]


def test_a_group_sums_its_calls(story):
    first, second = reports.usage(story.tx, "user")
    assert first == {
        "user": "ana",
        "calls": 3,
        "input_tokens": 1110,
        "cached_input_tokens": 40,
        "cache_write_tokens": 10,
        "output_tokens": 25,
        "reasoning_tokens": 5,
        "total_tokens": 1135,
        "images": 28,
        "audio_seconds": 1.5,
        "billed_tokens": 1165,
        "cost_usd": 0.001234501,
        "unpriced_calls": 1,
        "reported_percent": 98.6,
        "counted_percent": 1.3,
        "estimated_percent": 0.0,
    }
    assert (second["user"], second["billed_tokens"], second["estimated_percent"]) == ("bruno", 10, 100.0)
    # What is not known is not nothing.
    assert (second["cost_usd"], second["unpriced_calls"]) == (None, 1)


@pytest.mark.parametrize(
    ("by", "sums"),
    [
        ("user", [("ana", 1165), ("bruno", 10)]),
        ("model", [("gpt", 1160), ("claude", 15)]),
        ("conversation", [(None, 1000), ("one", 165), ("two", 10)]),
        ("day", [("2026-03-10", 175), ("2026-03-11", 1000)]),
    ],
)
def test_usage_is_grouped_largest_first_and_days_in_their_order(story, by, sums):
    assert [(row[by], row["billed_tokens"]) for row in reports.usage(story.tx, by)] == sums


@pytest.mark.parametrize("by", ["user", "model", "conversation", "day"])
def test_every_grouping_sums_to_the_same(story, by):
    rows = reports.usage(story.tx, by, until_ms=NOON + DAY)
    assert (sum(row["calls"] for row in rows), sum(row["billed_tokens"] for row in rows)) == (3, 175)


def test_usage_can_be_one_account_s(story):
    assert [row["model"] for row in reports.usage(story.tx, "model", story.account("bruno").id)] == ["gpt"]


def test_nothing_used_is_an_empty_report(books):
    assert reports.usage(books.tx, "user") == []
    assert reports.usage_events(books.tx) == []


def test_calls_without_tokens_have_no_share(books):
    books.open()
    books.spend(0)
    (row,) = reports.usage(books.tx, "user")
    assert (row["reported_percent"], row["counted_percent"], row["estimated_percent"]) == (0.0, 0.0, 0.0)


def test_the_shares_are_of_the_tokens_also_where_they_are_free(books):
    books.open()
    books.rate("*", input="0", output="0")
    books.spend(100)
    (row,) = reports.usage(books.tx, "user")
    assert (row["billed_tokens"], row["reported_percent"]) == (0, 100.0)


@pytest.mark.parametrize(
    ("nano", "usd"), [(None, None), (0, 0.0), (1, 1e-9), (123_456_789_012, 123.456789012), (3 * 10**9, 3.0)]
)
def test_a_cost_is_exact_to_the_ninth_decimal_and_unknown_is_not_free(books, nano, usd):
    books.open_with(1000)
    books.hold("one", 10)
    books.end("one", replace(outcome(10), cost_nano_usd=nano))
    assert reports.usage_events(books.tx)[0]["cost_usd"] == usd
    assert reports.usage(books.tx, "user")[0]["cost_usd"] == usd


def test_models_without_a_price_are_listed_the_most_calls_first(story):
    story.spend(5)
    story.spend(6)
    assert reports.unpriced(story.tx) == [
        {"provider": "openai", "model": "gpt-4o", "calls": 2, "total_tokens": 11},
        {"provider": "openai", "model": "claude", "calls": 1, "total_tokens": 15},
        {"provider": "openai", "model": "gpt", "calls": 1, "total_tokens": 10},
    ]
    assert [row["model"] for row in reports.unpriced(story.tx, NOON + 1, NOON + 2)] == ["claude"]


def test_holds_are_the_pending_reservations_oldest_first(books):
    books.open_with(1000)
    books.hold("later", 10, now=NOON + 5)
    books.hold("first", 20, now=NOON)
    books.hold("closed", 30, now=NOON)
    books.void("closed")
    assert reports.holds(books.tx) == [
        {
            "id": "first",
            "user": "ana",
            "reserved": 20,
            "created_at": "2026-03-10T15:00:00Z",
            "expires_at": "2026-03-10T15:02:00Z",
            "model": "gpt-4o",
        },
        {
            "id": "later",
            "user": "ana",
            "reserved": 10,
            "created_at": "2026-03-10T15:00:00.005Z",
            "expires_at": "2026-03-10T15:02:00.005Z",
            "model": "gpt-4o",
        },
    ]


def test_times_of_a_report_are_utc_whatever_the_account_s_zone(books):
    books.open("ana", "basico", moment("2026-03-10T22:30"), "America/Sao_Paulo")
    books.spend(5, now=moment("2026-03-10T22:30"))
    assert reports.usage(books.tx, "day")[0]["day"] == "2026-03-11"
