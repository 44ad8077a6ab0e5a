"""Reservations: who may go, how much is held, and that each call is charged once whatever happens to it."""

import pytest
from tests.ledger.support import DAY, LIFE, NOON, ZONE, ask, moment, outcome

from solaris_meter.errors import LedgerError, UnknownName
from solaris_meter.ledger import reservations
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.reservations import MustCount, MustWait, Refused, Reserved

APRIL = moment("2026-04-01T00:00")


@pytest.fixture
def thousand(books):
    books.open_with(1000)
    return books


def test_a_call_that_fits_holds_what_it_needs(thousand):
    decision = thousand.reserve("one", prompt=300, output=200)
    assert isinstance(decision, Reserved)
    assert (decision.id, decision.tokens, decision.output_tokens) == ("one", 500, 200)
    assert (decision.standing.reserved, decision.standing.available, decision.standing.balance) == (500, 500, 1000)
    assert thousand.account().reserved == 500


def test_a_call_that_fits_exactly_may_go(thousand):
    assert isinstance(thousand.reserve("one", prompt=800, output=200), Reserved)
    assert thousand.account().standing.available == 0


def test_a_wish_is_granted_as_far_as_there_is_something_free(thousand):
    decision = thousand.reserve("one", prompt=300, output=100, wish=400)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (700, 400)
    thousand.void("one")
    decision = thousand.reserve("two", prompt=300, output=100, wish=4000)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 700)


def test_a_blocked_account_is_refused_whatever_it_has(thousand):
    thousand.block()
    decision = thousand.reserve("one")
    assert isinstance(decision, Refused)
    assert decision.reason == "account_blocked"
    assert decision.standing is not None
    assert decision.standing.balance == 1000
    assert thousand.count("reservations") == 0


@pytest.mark.parametrize("overdraft", ["soft", "strict"])
@pytest.mark.parametrize("spent", [1000, 1200])
def test_an_account_without_a_balance_is_refused(thousand, overdraft, spent):
    thousand.spend(spent)
    decision = thousand.reserve("one", prompt=0, overdraft=overdraft)
    assert isinstance(decision, Refused)
    assert decision.reason == "tokens_exhausted"
    assert thousand.account().reserved == 0


def test_a_refusal_comes_before_counting_or_waiting(thousand):
    thousand.hold("one", 1000)
    thousand.take(1000)
    assert isinstance(thousand.reserve("two", prompt=10_000, exact=False), Refused)


def test_a_soft_account_lets_the_last_call_have_what_is_left(thousand):
    decision = thousand.reserve("one", prompt=900, output=1024)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 100)


def test_a_soft_account_lets_the_last_call_go_although_its_input_does_not_fit(thousand):
    decision = thousand.reserve("one", prompt=5000, output=1024)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 0)


def test_a_strict_account_serves_the_last_call_with_what_is_left_after_its_input(thousand):
    decision = thousand.reserve("one", prompt=999, output=1024, overdraft="strict")
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 1)


@pytest.mark.parametrize("tokens", [1000, 1001])
def test_a_strict_account_refuses_a_call_whose_input_leaves_no_answer(thousand, tokens):
    decision = thousand.reserve("one", prompt=tokens, output=1024, overdraft="strict")
    assert isinstance(decision, Refused)
    assert decision.reason == "tokens_exhausted"


@pytest.mark.parametrize("overdraft", ["soft", "strict"])
@pytest.mark.parametrize("held", [1, 999, 1000])
def test_a_call_waits_while_others_hold_what_it_needs(thousand, overdraft, held):
    thousand.hold("one", held)
    before = thousand.dump()
    decision = thousand.reserve("two", prompt=1000, output=1, overdraft=overdraft)
    assert isinstance(decision, MustWait)
    assert (decision.standing.balance, decision.standing.reserved) == (1000, held)
    assert thousand.dump() == before


def test_a_call_that_fits_beside_others_does_not_wait(thousand):
    thousand.hold("one", 600)
    thousand.hold("two", 400)
    assert thousand.account().standing.available == 0


def test_a_call_that_waited_goes_when_the_other_has_settled(thousand):
    thousand.hold("one", 1000)
    assert isinstance(thousand.reserve("two", prompt=400), MustWait)
    thousand.settle("one", 500)
    assert isinstance(thousand.reserve("two", prompt=400), Reserved)


def test_calls_of_others_are_nothing_to_wait_for(thousand):
    thousand.open_with(1000, "bruno")
    thousand.hold("one", 1000, "bruno")
    thousand.hold("two", 1000, "ana")


@pytest.mark.parametrize(("bound", "counts"), [(100, False), (101, True)])
def test_a_bound_of_more_than_a_tenth_must_be_counted(thousand, bound, counts):
    decision = thousand.reserve("one", prompt=bound, output=5000, exact=False)
    assert isinstance(decision, MustCount) is counts
    assert thousand.count("reservations") == (0 if counts else 1)


def test_the_bound_is_measured_against_what_is_available(thousand):
    thousand.hold("one", 500)
    assert isinstance(thousand.reserve("two", prompt=51, exact=False), MustCount)
    assert isinstance(thousand.reserve("two", prompt=50, exact=False), Reserved)


def test_an_exact_count_is_not_asked_for_again(thousand):
    assert isinstance(thousand.reserve("one", prompt=1000, exact=True), Reserved)


def test_the_first_call_of_a_user_opens_the_account(books):
    books.new = NewAccount("basico", ZONE)
    decision = books.reserve("one", "new", prompt=10, email="new@example.com")
    assert isinstance(decision, Reserved)
    assert decision.standing.balance == 1_000_000
    assert (books.account("new").email, books.account("new").timezone) == ("new@example.com", ZONE)


def test_a_user_who_is_unknown_where_accounts_are_not_created_is_refused(books):
    books.new = NewAccount("basico", ZONE, create=False)
    assert books.reserve("one", "new") == Refused("account_unknown", None)
    assert books.count("accounts") == 0


def test_a_known_user_is_served_where_accounts_are_not_created(thousand):
    thousand.new = NewAccount("basico", ZONE, create=False)
    assert isinstance(thousand.reserve("one"), Reserved)


def test_a_request_s_email_is_kept_and_one_without_does_not_remove_it(thousand):
    thousand.hold("one", 1, email="old@example.com")
    thousand.hold("two", 1, email="new@example.com")
    thousand.hold("three", 1, email=None)
    assert thousand.account().email == "new@example.com"


def test_a_reservation_in_a_new_period_has_its_allowance(books):
    books.open("ana", "basico")
    books.spend(1_000_000)
    assert isinstance(books.reserve("one", now=APRIL - 1), Refused)
    assert isinstance(books.reserve("one", now=APRIL), Reserved)


def test_what_expired_cannot_be_reserved(books):
    books.open()
    books.give(1000, expires_at_ms=NOON + DAY)
    assert isinstance(books.reserve("one", now=NOON + DAY), Refused)


def test_a_reservation_keeps_what_the_call_was(thousand):
    thousand.hold("one", 10, floor=3, conversation="thread")
    row = thousand.tx.row("SELECT * FROM reservations")
    assert dict(row) == {
        "id": "one",
        "account_id": thousand.account().id,
        "state": "pending",
        "reserved": 10,
        "input_floor": 3,
        "owner": "here",
        "provider": "openai",
        "model": "gpt-4o",
        "dialect": "openai_chat",
        "endpoint": "/v1/chat/completions",
        "stream": 1,
        "conversation": "thread",
        "created_at_ms": NOON,
        "expires_at_ms": NOON + LIFE,
        "closed_at_ms": None,
    }


def test_an_extension_is_held_while_there_is_something(thousand):
    thousand.hold("one", 300)
    assert thousand.extend("one", 400) == 400
    assert thousand.account().reserved == 700
    assert thousand.extend("one", 400) == 300
    assert thousand.account().reserved == 1000
    assert thousand.extend("one", 400) == 0
    assert thousand.account().reserved == 1000


def test_an_extension_takes_nothing_that_another_call_holds(thousand):
    thousand.hold("one", 300)
    thousand.hold("two", 600)
    assert thousand.extend("one", 400) == 100


def test_an_extension_in_debt_holds_nothing_and_releases_nothing(thousand):
    thousand.hold("one", 300)
    thousand.take(2000)
    assert thousand.extend("one", 400) == 0
    assert thousand.account().reserved == 300


def test_an_extension_renews_the_reservation_although_nothing_is_left(thousand):
    thousand.hold("one", 1000)
    assert thousand.extend("one", 10, now=NOON + DAY) == 0
    assert thousand.tx.value("SELECT expires_at_ms FROM reservations") == NOON + DAY + LIFE


def test_an_extension_of_what_is_closed_or_unknown_holds_nothing(thousand):
    thousand.hold("settled", 100)
    thousand.settle("settled", 100)
    thousand.hold("void", 100)
    thousand.void("void")
    before = thousand.dump()
    assert [thousand.extend(name, 10) for name in ("settled", "void", "unknown")] == [0, 0, 0]
    assert thousand.dump() == before


def test_a_settlement_charges_what_was_used_and_gives_back_the_rest(thousand):
    thousand.hold("one", 800)
    settled = thousand.settle("one", 250, now=NOON + 5)
    assert not settled.repeated
    standing = settled.standing
    assert (standing.balance, standing.reserved, standing.used) == (750, 0, 250)
    assert thousand.account().standing == standing
    assert thousand.lines() == [("bonus", 1000), ("usage", -250)]


def test_a_settlement_of_nothing_is_still_an_event(thousand):
    thousand.hold("one", 800)
    assert thousand.settle("one", 0).standing.balance == 1000
    assert thousand.lines()[-1] == ("usage", 0)
    assert thousand.count("usage_events") == 1


def test_a_settlement_is_charged_once(thousand):
    thousand.hold("one", 800)
    first = thousand.settle("one", 250)
    before = thousand.dump()
    again = thousand.settle("one", 999, now=NOON + 5)
    assert again.repeated
    assert again.crossed == ()
    assert again.standing == first.standing
    assert thousand.dump() == before


def test_a_settlement_may_take_more_than_was_held(thousand):
    thousand.hold("one", 100)
    assert thousand.settle("one", 400).standing.balance == 600


def test_a_settlement_of_more_than_there_is_becomes_debt(thousand):
    thousand.hold("one", 1000)
    settled = thousand.settle("one", 1300)
    assert (settled.standing.balance, settled.standing.limit) == (-300, 1000)
    assert thousand.remaining() == []
    assert thousand.settle("one", 1300).standing.balance == -300


def test_a_settlement_in_debt_adds_to_the_debt(thousand):
    thousand.hold("one", 500)
    thousand.hold("two", 500)
    thousand.settle("one", 1100)
    assert thousand.settle("two", 50).standing.balance == -150


def test_a_settlement_is_charged_to_the_period_in_which_it_ends(books):
    books.open("ana", "basico")
    books.hold("one", 5000, now=APRIL - 1)
    standing = books.settle("one", 5000, now=APRIL).standing
    assert (standing.balance, standing.used, standing.period.start_ms) == (995_000, 5000, APRIL)


def test_an_allowance_that_expires_under_a_running_call_leaves_its_reservation(books):
    books.open("ana", "basico")
    books.hold("one", 1_000_000, now=APRIL - 1)
    books.plan("basico", 100)
    standing = books.touch(now=APRIL).standing
    assert (standing.balance, standing.available) == (100, 100 - 1_000_000)
    assert isinstance(books.reserve("two", now=APRIL, prompt=1), MustWait)
    assert books.extend("one", 10, now=APRIL) == 0
    assert books.settle("one", 60, now=APRIL).standing.available == 40


def test_a_blocked_account_is_charged_for_what_ran(thousand):
    thousand.hold("one", 100)
    thousand.block()
    assert thousand.settle("one", 100).standing.balance == 900


def test_a_voided_call_cannot_be_charged(thousand):
    thousand.hold("one", 100)
    thousand.void("one")
    before = thousand.dump()
    with pytest.raises(LedgerError, match="one cannot be settled: it is void"):
        thousand.settle("one", 100)
    assert thousand.dump() == before


def test_a_call_that_never_was_cannot_be_charged(thousand):
    with pytest.raises(LedgerError, match="never cannot be settled: it is unknown"):
        thousand.settle("never", 100)


def test_a_void_gives_everything_back_and_charges_nothing(thousand):
    thousand.hold("one", 800)
    standing = thousand.void("one")
    assert standing is not None
    assert (standing.balance, standing.reserved) == (1000, 0)
    assert thousand.lines() == [("bonus", 1000)]
    assert thousand.count("usage_events") == 0


def test_a_void_is_done_once(thousand):
    thousand.hold("one", 800)
    thousand.void("one")
    before = thousand.dump()
    assert thousand.void("one", now=NOON + 5) is None
    assert thousand.dump() == before


def test_a_settled_call_is_not_voided(thousand):
    thousand.hold("one", 800)
    thousand.settle("one", 100)
    before = thousand.dump()
    assert thousand.void("one") is None
    assert thousand.void("unknown") is None
    assert thousand.dump() == before


def test_running_calls_are_renewed_and_closed_ones_are_not(thousand):
    thousand.hold("running", 10)
    thousand.hold("closed", 10)
    thousand.void("closed")
    thousand.run(lambda tx: reservations.renew(tx, ["running", "closed", "unknown"], NOON + DAY))
    rows = thousand.tx.rows("SELECT id, expires_at_ms FROM reservations")
    assert {row["id"]: row["expires_at_ms"] for row in rows} == {"running": NOON + DAY, "closed": NOON + LIFE}


def test_what_a_dead_process_left_is_charged_at_its_floor(thousand):
    thousand.hold("left", 500, floor=40, owner="dead", conversation="thread")
    assert thousand.recover(NOON + 7) == ["left"]
    account = thousand.account()
    assert (account.balance, account.reserved, account.used) == (960, 0, 40)
    event = thousand.tx.row("SELECT * FROM usage_events")
    assert dict(event) == {
        "id": "left",
        "account_id": account.id,
        "at_ms": NOON + 7,
        "status": 0,
        "interrupted": 1,
        "recovered": 1,
        "input_tokens": 40,
        "cached_input_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 0,
        "reasoning_tokens": 0,
        "billed_tokens": 40,
        "basis": "estimated",
        "duration_ms": 7,
    }


def test_what_another_living_process_holds_is_left_alone_whatever_the_clock_says(thousand):
    thousand.hold("held", 500, floor=40, owner="there")
    assert thousand.recover(NOON + DAY, alive=["there"]) == []
    assert thousand.recover(NOON, alive=[]) == ["held"]


def test_a_call_that_this_process_forgot_is_recovered_when_it_expires(thousand):
    thousand.hold("forgotten", 500, floor=40)
    assert thousand.recover(NOON + LIFE - 1) == []
    assert thousand.recover(NOON + LIFE) == ["forgotten"]


def test_calls_known_to_run_are_kept_although_they_expired(thousand):
    thousand.hold("running", 500, floor=40)
    assert thousand.recover(NOON + DAY, keep=["running"]) == []
    assert thousand.recover(NOON + DAY, alive=(), keep=["running"]) == []


def test_what_left_nothing_to_show_is_voided(thousand):
    thousand.hold("left", 500, floor=0, owner="dead")
    assert thousand.recover() == ["left"]
    assert thousand.tx.value("SELECT state FROM reservations") == "void"
    assert (thousand.balance(), thousand.count("usage_events")) == (1000, 0)


def test_a_recovery_is_done_once(thousand):
    thousand.hold("left", 500, floor=40, owner="dead")
    thousand.recover()
    before = thousand.dump()
    assert thousand.recover() == []
    assert thousand.dump() == before


def test_a_recovery_takes_every_account_s_calls_and_asks_once_for_each_owner(thousand):
    thousand.open_with(1000, "bruno")
    thousand.hold("a1", 10, owner="dead", now=NOON)
    thousand.hold("b1", 10, "bruno", owner="dead", now=NOON + 1)
    thousand.hold("a2", 10, owner="there", now=NOON + 2)
    asked = []

    def is_alive(owner):
        asked.append(owner)
        return owner == "there"

    found = thousand.run(lambda tx: reservations.recover(tx, "here", (), is_alive, (), NOON + 3))
    assert found == ["a1", "b1"]
    assert sorted(asked) == ["dead", "there"]


def test_a_recovery_in_a_new_period_is_charged_there(books):
    books.open("ana", "basico")
    books.hold("left", 500, floor=40, owner="dead", now=APRIL - 1)
    books.recover(APRIL)
    account = books.account()
    assert (account.balance, account.used) == (999_960, 40)


def test_a_recovered_call_that_ends_after_all_is_not_charged_again(thousand):
    thousand.hold("left", 500, floor=40, owner="dead")
    thousand.recover()
    settled = thousand.settle("left", 300)
    assert settled.repeated
    assert settled.standing.balance == 960


def bill(books, reservation, billed, user="ana", opened=NOON, now=NOON):
    call = ask(reservation, user, prompt=77)
    return books.run(lambda tx: reservations.bill(tx, call, outcome(billed), books.new, books.thresholds, opened, now))


def test_a_call_served_without_the_ledger_is_billed_as_it_was(thousand):
    settled = bill(thousand, "late", 300, opened=NOON - 5)
    assert (settled.standing.balance, settled.standing.reserved, settled.repeated) == (700, 0, False)
    row = thousand.tx.row("SELECT created_at_ms, state FROM reservations")
    assert tuple(row) == (NOON - 5, "settled")


def test_a_bill_is_paid_once(thousand):
    bill(thousand, "late", 300)
    before = thousand.dump()
    assert bill(thousand, "late", 300, now=NOON + 5).repeated
    assert thousand.dump() == before


def test_a_bill_of_a_call_that_was_reserved_ends_its_reservation(thousand):
    thousand.hold("late", 500)
    settled = bill(thousand, "late", 300)
    assert (settled.standing.balance, settled.standing.reserved) == (700, 0)
    assert thousand.count("reservations") == 1


def test_a_bill_may_exceed_the_balance(thousand):
    assert bill(thousand, "late", 1300).standing.balance == -300


def test_a_bill_of_a_voided_call_is_refused(thousand):
    thousand.hold("late", 500)
    thousand.void("late")
    with pytest.raises(LedgerError, match="it is void"):
        bill(thousand, "late", 300)


def test_a_bill_of_a_new_user_opens_the_account(books):
    books.new = NewAccount("basico", ZONE)
    assert bill(books, "late", 300, "new").standing.balance == 999_700


def test_a_bill_of_nobody_is_refused_where_accounts_are_not_created(books):
    books.new = NewAccount("basico", ZONE, create=False)
    with pytest.raises(UnknownName, match="nobody"):
        bill(books, "late", 300, "nobody")
    assert books.count("reservations") == 0
