"""Tokens by hand: given, sold, taken back; a reference makes each of them happen once."""

import pytest
from tests.ledger.support import DAY, NOON

from solaris_meter.amounts import Money
from solaris_meter.errors import Conflict, LedgerError, UnknownName
from solaris_meter.ledger import accounts


def test_a_credit_is_added_to_the_balance(books):
    books.open()
    applied = books.give(500, kind="credit", paid=Money(4990, "BRL"), reference="order-1", note="top-up")
    assert not applied.repeated
    assert (applied.entry.kind, applied.entry.amount, applied.entry.balance_after) == ("credit", 500, 500)
    assert (applied.entry.reference, applied.entry.note) == ("order-1", "top-up")
    assert applied.standing.balance == 500
    paid = books.tx.row("SELECT paid_minor, paid_currency FROM grants WHERE kind = 'credit'")
    assert (paid["paid_minor"], paid["paid_currency"]) == (4990, "BRL")


def test_a_credit_pays_the_debt_first(books):
    books.open_with(100)
    books.spend(130)
    assert books.balance() == -30
    assert books.give(100, kind="credit").standing.balance == 70
    assert books.remaining() == [("credit", 70)]


def test_a_credit_smaller_than_the_debt_leaves_nothing_to_burn(books):
    books.open_with(100)
    books.spend(150)
    assert books.give(20).standing.balance == -30
    assert books.remaining() == []
    assert books.give(30).standing.balance == 0
    assert books.give(1).standing.balance == 1
    assert books.remaining() == [("bonus", 1)]


def test_an_expired_credit_that_paid_a_debt_takes_back_only_what_was_left(books):
    books.open_with(100)
    books.spend(130)
    books.give(100, expires_at_ms=NOON + DAY)
    assert books.touch(now=NOON + DAY).balance == 0


def test_a_debit_takes_tokens_back(books):
    books.open_with(500)
    applied = books.take(200, note="given by mistake")
    assert (applied.entry.kind, applied.entry.amount, applied.entry.note) == ("adjust", -200, "given by mistake")
    assert applied.standing.balance == 300


def test_a_debit_of_more_than_there_is_becomes_debt(books):
    books.open_with(500)
    assert books.take(700).standing.balance == -200
    assert books.remaining() == []


def test_a_debit_does_not_count_as_used(books):
    books.open_with(500)
    assert books.take(200).standing.used == 0


def test_the_same_reference_changes_nothing_the_second_time(books):
    books.open()
    first = books.give(500, kind="credit", reference="order-1")
    before = books.dump()
    again = books.give(500, kind="credit", reference="order-1", now=NOON + 5)
    assert again.repeated
    assert again.entry == first.entry
    assert again.standing.balance == 500
    assert books.dump() == before


def test_a_repeated_reference_tells_where_the_account_stands_now(books):
    books.open()
    books.give(500, reference="order-1")
    books.spend(200)
    again = books.give(500, reference="order-1")
    assert (again.entry.balance_after, again.standing.balance) == (500, 300)


def test_a_reference_is_known_for_ever_although_its_expiry_has_passed_since(books):
    books.open()
    books.give(500, reference="order-1", expires_at_ms=NOON + DAY)
    assert books.give(500, reference="order-1", expires_at_ms=NOON + DAY, now=NOON + 2 * DAY).repeated


def test_a_debit_s_reference_changes_nothing_the_second_time(books):
    books.open_with(500)
    books.take(200, reference="fix-1")
    before = books.dump()
    assert books.take(200, reference="fix-1").repeated
    assert books.dump() == before


def test_a_reference_goes_with_a_renamed_user(books):
    books.open()
    books.give(500, reference="order-1")
    books.run(lambda tx: accounts.rename(tx, accounts.get(tx, "ana"), "maria"))
    assert books.give(500, "maria", reference="order-1").repeated


@pytest.mark.parametrize(
    "repeat",
    [
        lambda books: books.give(501, reference="key"),
        lambda books: books.give(500, kind="credit", reference="key"),
        lambda books: books.give(500, "bruno", reference="key"),
        lambda books: books.take(500, reference="key"),
    ],
    ids=["amount", "kind", "user", "direction"],
)
def test_a_reference_used_for_something_else_is_refused(books, repeat):
    books.open("bruno")
    books.open()
    books.give(500, reference="key")
    before = books.dump()
    with pytest.raises(Conflict, match=r"'key' was used at 2026-03-10T15:00:00Z for bonus of 500 tokens to 'ana'"):
        repeat(books)
    assert books.dump() == before


def test_grants_without_a_reference_add_up(books):
    books.open()
    books.give(500)
    assert books.give(500).standing.balance == 1000


@pytest.mark.parametrize("expiry", [NOON, NOON - 1, 0])
def test_an_expiry_that_has_passed_is_refused(books, expiry):
    books.open()
    with pytest.raises(LedgerError, match="has passed"):
        books.give(500, expires_at_ms=expiry)
    assert books.lines() == []


def test_an_expiry_a_moment_away_is_taken(books):
    books.open()
    assert books.give(500, expires_at_ms=NOON + 1).standing.balance == 500
    assert books.touch(now=NOON + 1).balance == 0


@pytest.mark.parametrize("give", [lambda books: books.give(1, "nobody"), lambda books: books.take(1, "nobody")])
def test_nobody_gets_tokens(books, give):
    with pytest.raises(UnknownName, match="nobody"):
        give(books)


def test_a_blocked_account_can_still_be_given_tokens(books):
    books.open()
    books.block()
    assert books.give(500).standing.balance == 500
