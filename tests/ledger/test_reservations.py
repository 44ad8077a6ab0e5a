"""Reservations: who may go, how much is held, and that each call is charged once whatever happens to it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.support import DAY, LIFE, NOON, ZONE, ask, cells, moment, outcome

from solaris_meter.errors import LedgerError, UnknownName
from solaris_meter.ledger import reservations
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.rates import KINDS, format_rate
from solaris_meter.ledger.reservations import MustCount, MustWait, Refused, Reserved
from solaris_meter.models import Usage

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
        "rates": None,
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
        "images": 0,
        "audio_ms": 0,
        "cost_nano_usd": None,
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
    assert cells(row) == (NOON - 5, "settled")


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


# rates


def test_a_call_holds_billed_tokens_and_is_told_what_of_its_answer_they_pay_for(thousand):
    thousand.rate("gpt-4o", input="0.5", output="2")
    decision = thousand.reserve("one", prompt=301, output=100)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (151 + 200, 100)
    assert thousand.account().reserved == 351


def test_an_input_is_held_at_the_dearest_rate_it_may_have(thousand):
    thousand.rate("gpt-4o", input="1", cached_input="0.1", cache_write="1.25")
    thousand.hold("one", 125, prompt=100)
    assert thousand.end("one", Usage(100, 0, "reported", cached_input_tokens=100)).standing.balance == 990


def test_pictures_and_sound_are_held_with_the_input(thousand):
    thousand.rate("gpt-4o", image="200", second="0.5")
    decision = thousand.reserve("one", prompt=10, output=30, images=2, audio_ms=3001)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (10 + 400 + 2 + 30, 30)
    settled = thousand.end("one", Usage(10, 0, "reported", images=2, audio_ms=3001))
    assert settled.standing.balance == 1000 - 412
    row = thousand.tx.row("SELECT images, audio_ms, billed_tokens FROM usage_events")
    assert cells(row) == (2, 3001, 412)


def test_a_reservation_carries_the_rates_that_are_not_one(thousand):
    thousand.rate("gpt-4o", input="15", cached_input="15", output="1")
    thousand.reserve("one", prompt=1)
    assert thousand.tx.value("SELECT rates FROM reservations") == '{"input":15000000}'


@pytest.mark.parametrize(("rate", "bound", "counts"), [("15", 6, False), ("15", 7, True), ("0.1", 1000, False)])
def test_the_bound_is_measured_in_billed_tokens(thousand, rate, bound, counts):
    thousand.rate("gpt-4o", input=rate)
    assert isinstance(thousand.reserve("one", prompt=bound, exact=False), MustCount) is counts


def test_what_counting_cannot_make_less_is_not_counted(thousand):
    thousand.rate("gpt-4o", input="0", image="300")
    assert isinstance(thousand.reserve("one", prompt=10**6, images=2, exact=False), Reserved)


def test_a_dear_model_waits_where_a_cheap_one_goes(thousand):
    thousand.rate("dear", input="15", output="15")
    thousand.hold("one", 900)
    assert isinstance(thousand.reserve("two", prompt=7, model="dear"), MustWait)
    assert isinstance(thousand.reserve("three", prompt=7), Reserved)


def test_a_strict_account_gets_as_much_of_a_dear_answer_as_is_left(thousand):
    thousand.rate("gpt-4o", input="1", output="15")
    decision = thousand.reserve("one", prompt=900, output=1024, overdraft="strict")
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 6)
    assert thousand.end("one", Usage(900, 6, "reported")).standing.balance == 10


@pytest.mark.parametrize(("prompt", "rate", "goes"), [(985, "15", True), (986, "15", False), (999, "0.1", True)])
def test_a_strict_account_is_refused_where_not_one_token_of_an_answer_is_left(thousand, prompt, rate, goes):
    thousand.rate("gpt-4o", input="1", output=rate)
    decision = thousand.reserve("one", prompt=prompt, output=1024, overdraft="strict")
    assert isinstance(decision, Reserved) is goes


def test_a_strict_account_gets_ten_tokens_for_one_at_a_tenth(thousand):
    thousand.rate("gpt-4o", input="0.1", output="0.1")
    decision = thousand.reserve("one", prompt=9900, output=1024, overdraft="strict")
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 100)
    assert thousand.end("one", Usage(9900, 100, "reported")).standing.balance == 0


def test_a_soft_account_lets_a_dear_call_go_with_what_is_left(thousand):
    thousand.rate("gpt-4o", input="15", output="15")
    decision = thousand.reserve("one", prompt=60, output=1024)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 6)
    assert thousand.end("one", Usage(60, 50, "reported")).standing.balance == -650


@pytest.mark.parametrize("overdraft", ["soft", "strict"])
def test_a_free_answer_gets_what_it_wishes_and_holds_nothing(thousand, overdraft):
    thousand.rate("gpt-4o", output="0")
    decision = thousand.reserve("one", prompt=1000, output=10, wish=5000, overdraft=overdraft)
    assert isinstance(decision, Reserved)
    assert (decision.tokens, decision.output_tokens) == (1000, 5000)
    assert thousand.extend("one", 300) == 300
    assert thousand.account().reserved == 1000
    assert thousand.end("one", Usage(1000, 9999, "reported")).standing.balance == 0


def test_a_free_call_waits_for_nobody(thousand):
    thousand.rate("free", input="0", output="0")
    thousand.hold("one", 1000)
    assert isinstance(thousand.reserve("two", prompt=10**9, output=10, model="free"), Reserved)
    thousand.take(500)
    decision = thousand.reserve("three", prompt=10**9, output=10, model="free")
    assert isinstance(decision, Reserved)
    assert decision.tokens == 0


@pytest.mark.parametrize(
    ("rate", "asked", "held", "granted"),
    [("15", 10, 150, 10), ("15", 100, 700, 46), ("0.1", 1024, 103, 1030), ("0.3", 1, 1, 3), ("1", 900, 700, 700)],
)
def test_an_extension_is_asked_for_in_tokens_of_the_answer_and_held_in_billed_ones(
    thousand, rate, asked, held, granted
):
    thousand.rate("gpt-4o", input="1", output=rate)
    thousand.hold("one", 300)
    assert thousand.extend("one", asked) == granted
    assert thousand.account().reserved == 300 + held


def test_a_rate_that_is_changed_under_a_running_call_is_not_its_own(thousand):
    thousand.rate("gpt-4o", input="2", output="3")
    thousand.hold("one", 2 * 50 + 3 * 10, prompt=50, output=10)
    thousand.rate("gpt-4o", NOON, input="100", output="100")
    assert thousand.extend("one", 10, NOON + 1) == 10
    assert thousand.account().reserved == 160
    assert thousand.end("one", Usage(50, 20, "reported"), NOON + 2).standing.balance == 840
    assert isinstance(thousand.reserve("two", prompt=50, overdraft="strict", now=NOON + 3), Refused)


def test_what_a_dead_process_left_is_charged_at_the_rates_it_began_with(thousand):
    thousand.rate("gpt-4o", input="2.5")
    thousand.hold("left", 250, prompt=100, floor=41, owner="dead")
    thousand.rate("gpt-4o", NOON, input="100")
    thousand.recover(NOON + 7)
    assert thousand.balance() == 1000 - 103


def test_a_bill_is_paid_at_the_rates_of_the_time_it_was_opened(thousand):
    thousand.rate("gpt-4o", NOON, input="2")
    thousand.rate("gpt-4o", NOON + 10, input="15")
    assert bill(thousand, "late", 100, opened=NOON + 9, now=NOON + 20).standing.balance == 800
    assert bill(thousand, "later", 10, opened=NOON + 10, now=NOON + 20).standing.balance == 650
    assert bill(thousand, "early", 10, opened=NOON - 1, now=NOON + 20).standing.balance == 640


def test_a_bill_of_a_call_that_was_reserved_is_paid_at_the_rates_of_its_reservation(thousand):
    thousand.rate("gpt-4o", NOON, input="2")
    thousand.hold("late", 200, prompt=100)
    thousand.rate("gpt-4o", NOON, input="15")
    assert bill(thousand, "late", 100, opened=NOON, now=NOON + 20).standing.balance == 800


def test_thresholds_are_crossed_in_billed_tokens(thousand):
    thousand.rate("gpt-4o", input="8")
    thousand.hold("one", 800, prompt=100)
    assert thousand.settle("one", 100).crossed == (80,)


def test_a_strict_account_is_never_in_debt_while_answers_keep_to_what_they_got(books):
    books.off_the_disk()
    micro = st.sampled_from([0, 1, 100_000, 333_333, 999_999, 10**6, 2_500_001, 15 * 10**6])
    seen: list[str] = []

    @settings(max_examples=60, deadline=None)
    @given(
        rates=st.fixed_dictionaries(dict.fromkeys(KINDS, micro)),
        balance=st.integers(1, 3000),
        prompt=st.integers(0, 2000),
        output=st.integers(1, 1000),
        wish=st.integers(0, 3000),
        images=st.integers(0, 2),
        audio_ms=st.integers(0, 5000),
        extensions=st.lists(st.integers(1, 500), max_size=4),
        cached=st.floats(0, 1),
        written=st.floats(0, 1),
    )
    def run(rates, balance, prompt, output, wish, images, audio_ms, extensions, cached, written):
        name = f"user-{len(seen)}"
        seen.append(name)
        books.open_with(balance, name)
        books.rate(name, **{kind: format_rate(micro) for kind, micro in rates.items()})
        paid = {"images": images, "audio_ms": audio_ms}
        decision = books.reserve(
            name, name, prompt=prompt, output=output, wish=wish, overdraft="strict", model=name, **paid
        )
        if not isinstance(decision, Reserved):
            return
        assert decision.output_tokens >= 1
        written_tokens = decision.output_tokens + sum(books.extend(name, more) for more in extensions)
        parts = {"cached_input_tokens": int(prompt * cached), "cache_write_tokens": int(prompt * written)}
        settled = books.end(name, Usage(prompt, written_tokens, "reported", **parts, **paid))
        assert settled.standing.balance >= 0

    run()
