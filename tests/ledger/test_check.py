"""The check: whatever is changed behind the ledger's back is found, and named with its account."""

import pytest
from tests.ledger.support import Books, tampered


@pytest.fixture
def story(place):
    """Two accounts with everything in them: grants, debt paid, a settled call, a pending one and a void one."""
    books = Books(place)
    for user in ("ana", "bruno"):
        books.open_with(1000, user)
        books.hold(f"{user}-settled", 300, user)
        books.settle(f"{user}-settled", 200)
        books.hold(f"{user}-pending", 50, user)
        books.hold(f"{user}-void", 50, user)
        books.void(f"{user}-void")
    books.close()
    return place


@pytest.fixture
def rated(place):
    """One call of 200 tokens at a rate of its own for each kind."""
    books = Books(place)
    books.rate("gpt-4o", input="2", cached_input="0.5", cache_write="3", output="4", image="5", second="6")
    books.open_with(1000)
    books.hold("call", 600, prompt=200)
    books.settle("call", 200)
    books.close()
    return place


def problems(report):
    return {(problem["user"], problem["what"]) for problem in report.problems}


def test_an_untouched_ledger_is_right(story):
    report = tampered(story)
    assert report.ok
    assert report.as_dict() == {"ok": True, "accounts": 2, "entries": 4, "problems": []}


def test_a_ledger_in_debt_is_right(books):
    books.open_with(100)
    books.spend(500)
    books.give(150)
    assert books.check().ok


def test_an_empty_ledger_is_right(books):
    assert books.check().as_dict() == {"ok": True, "accounts": 0, "entries": 0, "problems": []}


def test_a_changed_balance_is_found_with_what_it_should_be(story):
    report = tampered(story, "UPDATE accounts SET balance = 9999 WHERE user_id = 'ana'")
    assert not report.ok
    assert {"user": "ana", "what": "balance", "found": 9999, "expected": 800} in report.problems
    assert {problem["user"] for problem in report.problems} == {"ana"}


def test_a_changed_reserve_is_found(story):
    report = tampered(story, "UPDATE accounts SET reserved = 0 WHERE user_id = 'ana'")
    assert report.problems == [{"user": "ana", "what": "reserved", "found": 0, "expected": 50}]


def test_a_changed_count_of_what_was_used_is_found(story):
    report = tampered(story, "UPDATE accounts SET used = 7 WHERE user_id = 'bruno'")
    assert report.problems == [{"user": "bruno", "what": "used in the period", "found": 7, "expected": 200}]


def test_a_changed_reservation_is_found(story):
    report = tampered(story, "UPDATE reservations SET reserved = 1 WHERE id = 'ana-pending'")
    assert problems(report) == {("ana", "reserved")}


def test_a_changed_grant_is_found(story):
    report = tampered(story, "UPDATE grants SET remaining = 801 WHERE id = (SELECT grant_id FROM entries LIMIT 1)")
    found = problems(report)
    assert ("ana", "balance against what remains in its grants") in found
    assert any(user == "ana" and what.startswith("remaining of grant") for user, what in found)


def test_tokens_moved_from_one_grant_to_another_are_found(story):
    # The sums stay as they were; only the grants themselves tell.
    report = tampered(
        story,
        "UPDATE grants SET remaining = remaining + CASE kind WHEN 'bonus' THEN -5 ELSE 5 END"
        " WHERE account_id = (SELECT id FROM accounts WHERE user_id = 'ana')",
    )
    assert len(report.problems) == 2
    assert all(user == "ana" and what.startswith("remaining of grant") for user, what in problems(report))


def test_a_changed_entry_is_found(story):
    report = tampered(
        story,
        "DROP TRIGGER entries_keep",
        "UPDATE entries SET amount = -100 WHERE usage_event_id = 'ana-settled'",
    )
    assert {what.rstrip("0123456789") for user, what in problems(report) if user == "ana"} == {
        "balance",
        "used in the period",
        "running balance after entry ",
        "postings of entry ",
        "usage entry of event ana-settled",
    }


def test_a_changed_running_balance_is_found(story):
    report = tampered(
        story,
        "DROP TRIGGER entries_keep",
        "UPDATE entries SET balance_after = 5 WHERE usage_event_id = 'ana-settled'",
    )
    (problem,) = report.problems
    assert problem["what"].startswith("running balance after entry")
    assert (problem["user"], problem["found"], problem["expected"]) == ("ana", 5, 800)


def test_an_entry_moved_to_another_account_is_found(story):
    report = tampered(
        story,
        "DROP TRIGGER entries_keep",
        "UPDATE entries SET account_id = (SELECT id FROM accounts WHERE user_id = 'bruno')"
        " WHERE usage_event_id = 'ana-settled'",
    )
    assert {("ana", "balance"), ("bruno", "balance")} <= problems(report)


def test_a_removed_entry_is_found(story):
    report = tampered(
        story,
        "DROP TRIGGER entries_stay",
        "DROP TRIGGER postings_stay",
        "DELETE FROM postings WHERE entry_id = (SELECT id FROM entries WHERE usage_event_id = 'ana-settled')",
        "DELETE FROM entries WHERE usage_event_id = 'ana-settled'",
    )
    assert {("ana", "balance"), ("ana", "usage entry of event ana-settled")} <= problems(report)


def test_a_changed_posting_is_found(story):
    report = tampered(story, "DROP TRIGGER postings_keep", "UPDATE postings SET amount = amount + 1 WHERE amount < 0")
    assert {user for user, _ in problems(report)} == {"ana", "bruno"}
    assert any(what.startswith("postings of entry") for _, what in problems(report))


def test_an_invented_entry_is_found(story):
    report = tampered(
        story,
        "INSERT INTO entries (account_id, at_ms, period_start_ms, kind, amount, balance_after)"
        " SELECT id, 0, 0, 'bonus', 500, balance + 500 FROM accounts WHERE user_id = 'ana'",
        "UPDATE accounts SET balance = balance + 500 WHERE user_id = 'ana'",
    )
    found = problems(report)
    assert ("ana", "balance against what remains in its grants") in found
    assert any(what.startswith("postings of entry") for _, what in found)


def test_a_changed_event_is_found(story):
    report = tampered(story, "UPDATE usage_events SET billed_tokens = 0 WHERE id = 'bruno-settled'")
    assert report.problems == [
        {"user": "bruno", "what": "usage entry of event bruno-settled", "found": -200, "expected": 0},
        {"user": "bruno", "what": "billed tokens of event bruno-settled", "found": 0, "expected": 200},
    ]


@pytest.mark.parametrize(
    "change",
    [
        *("input_tokens = 199", "output_tokens = 10", "cached_input_tokens = 200", "cache_write_tokens = 1"),
        *("images = 1", "audio_ms = 1"),
    ],
)
def test_a_usage_that_does_not_make_what_was_billed_is_found(rated, change):
    report = tampered(rated, f"UPDATE usage_events SET {change}")
    (problem,) = report.problems
    assert (problem["user"], problem["what"], problem["found"]) == ("ana", "billed tokens of event call", 400)
    assert problem["expected"] != 400


@pytest.mark.parametrize(
    ("rates", "expected"), [("NULL", 200), ("'{\"input\":15000000}'", 3000), ("'{}x'", None), ("'[]'", None)]
)
def test_rates_that_were_changed_afterwards_are_found(rated, rates, expected):
    report = tampered(rated, f"UPDATE reservations SET rates = {rates}")
    assert report.problems == [
        {"user": "ana", "what": "billed tokens of event call", "found": 400, "expected": expected}
    ]


@pytest.mark.parametrize("change", ["reasoning_tokens = 9", "cost_nano_usd = 5", "basis = 'counted'"])
def test_what_is_not_billed_is_not_compared(rated, change):
    assert tampered(rated, f"UPDATE usage_events SET {change}").ok


def test_an_event_moved_to_another_account_is_found(story):
    # Reports would show Bruno's call as Ana's while Bruno has paid for it.
    report = tampered(
        story,
        "UPDATE usage_events SET account_id = (SELECT id FROM accounts WHERE user_id = 'ana')"
        " WHERE id = 'bruno-settled'",
    )
    assert not report.ok


def test_a_removed_event_is_found(story):
    report = tampered(story, "DELETE FROM usage_events WHERE id = 'ana-settled'")
    assert ("ana", "usage events of reservation ana-settled") in problems(report)


def test_a_settled_call_made_void_is_found(story):
    report = tampered(story, "UPDATE reservations SET state = 'void' WHERE id = 'ana-settled'")
    assert report.problems == [
        {"user": "ana", "what": "usage events of reservation ana-settled", "found": 1, "expected": 0}
    ]


def test_a_void_call_made_settled_is_found(story):
    report = tampered(story, "UPDATE reservations SET state = 'settled' WHERE id = 'ana-void'")
    assert problems(report) == {("ana", "usage events of reservation ana-void")}
