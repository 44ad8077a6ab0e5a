"""Audits: how far what was counted is from what was reported."""

import pytest
from tests.ledger.support import DAY, NOON

from solaris_meter.ledger import audits
from solaris_meter.models import Usage


@pytest.fixture
def rich(books):
    books.open_with(10**9)
    return books


def audit(books, usage, read, written=None, model="gpt", now=NOON):
    """Settle a call and audit it."""
    name = f"call-{books.count('usage_events')}"
    books.reserve(name, model=model, now=now)
    books.end(name, usage, now)
    return books.run(lambda tx: audits.record(tx, name, read, written))


def compared(books, kind="input", **limits):
    return audits.accuracy(books.tx, **limits)["total"][kind]


def test_errors_are_summed_with_their_signs_and_averaged_without(rich):
    audit(rich, Usage(1000, 100, "reported"), 1100, 50)
    audit(rich, Usage(3000, 100, "reported"), 2700, 150)
    assert compared(rich) == {
        "calls": 2,
        "reported_tokens": 4000,
        "counted_tokens": 3800,
        "error_percent": -5.0,
        "mean_error_percent": 10.0,
        "within_percent": 0.0,
    }
    output = compared(rich, "output")
    assert (output["error_percent"], output["mean_error_percent"]) == (0.0, 50.0)


@pytest.mark.parametrize(
    ("reported", "counted", "close"),
    [
        (100, 101, True),
        (100, 99, True),
        (100, 102, False),
        (1000, 1010, True),
        (1000, 989, False),
        (5, 6, True),
        (5, 7, False),
        (0, 0, True),
        (0, 1, True),
        (0, 2, False),
    ],
)
def test_a_count_is_close_within_a_percent_or_a_token(rich, reported, counted, close):
    audit(rich, Usage(reported, 0, "reported"), counted)
    assert compared(rich)["within_percent"] == (100.0 if close else 0.0)


def test_the_share_of_close_counts_is_never_rounded_up(rich):
    for counted in (100, 100, 500):
        audit(rich, Usage(100, 0, "reported"), counted)
    assert compared(rich)["within_percent"] == 66.6


def test_hidden_reasoning_is_not_expected_to_be_counted(rich):
    audit(rich, Usage(10, 500, "reported", reasoning_tokens=400), 10, 100)
    assert compared(rich, "output")["reported_tokens"] == 100
    assert compared(rich, "output")["error_percent"] == 0.0


def test_an_output_that_could_not_be_counted_is_left_out(rich):
    audit(rich, Usage(10, 500, "reported"), 10)
    assert compared(rich)["calls"] == 1
    assert compared(rich, "output") == {
        "calls": 0,
        "reported_tokens": 0,
        "counted_tokens": 0,
        "error_percent": None,
        "mean_error_percent": None,
        "within_percent": None,
    }


def test_a_count_is_compared_with_reports_only(rich):
    audit(rich, Usage(10, 0, "counted"), 99)
    assert audits.accuracy(rich.tx)["models"] == []


def test_models_come_with_the_most_calls_first(rich):
    for model in ("b", "c", "a", "c"):
        audit(rich, Usage(10, 0, "reported"), 10, model=model)
    shown = audits.accuracy(rich.tx)
    assert [(model["model"], model["calls"]) for model in shown["models"]] == [("c", 2), ("a", 1), ("b", 1)]
    assert shown["total"]["calls"] == 4


def test_since_is_within_and_until_is_not(rich):
    for now in (NOON, NOON + 1, NOON + DAY):
        audit(rich, Usage(10, 0, "reported"), 10, now=now)
    assert compared(rich, since_ms=NOON + 1, until_ms=NOON + DAY)["calls"] == 1


def test_nothing_audited_is_an_empty_report(books):
    shown = audits.accuracy(books.tx)
    assert (shown["models"], shown["total"]["calls"]) == ([], 0)


def test_the_first_audit_of_a_call_stays(rich):
    assert audit(rich, Usage(10, 0, "reported"), 10, 5)
    assert not rich.run(lambda tx: audits.record(tx, "call-0", 99, 99))
    assert compared(rich)["counted_tokens"] == 10


def test_a_call_that_is_not_in_the_ledger_has_no_audit(rich):
    assert not rich.run(lambda tx: audits.record(tx, "nobody", 1, 1))
    assert rich.count("audits") == 0
