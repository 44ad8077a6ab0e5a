"""What a person who asks for the balance is told: the day is that of the account's zone."""

import pytest
from tests.ledger.support import DAY, NOON, moment, usage

from solaris_meter.errors import UnknownName
from solaris_meter.ledger import overview
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.overview import Used
from solaris_meter.models import Caller


def look(books, user="ana", now=NOON, new=None):
    return books.run(lambda tx: overview.of_caller(tx, Caller(user), new or books.new, now))


def call(books, name, model, tokens, now, user="ana"):
    books.hold(name, 1, user, now, model=model)
    books.end(name, usage(tokens), now)


def test_use_is_summed_by_model_the_most_first(books):
    books.open_with(10_000, now=moment("2026-03-01T00:00"))
    call(books, "a", "gpt-4o", 100, moment("2026-03-08T10:00"))
    call(books, "b", "claude-sonnet-4-6", 700, moment("2026-03-09T23:59"))
    call(books, "c", "gpt-4o", 50, moment("2026-03-10T00:00"))
    call(books, "d", "gpt-4o", 30, moment("2026-03-10T11:00"))
    call(books, "e", "o3", 80, moment("2026-03-10T11:30"))
    found = look(books)
    assert found.today == (Used("gpt-4o", 80, 2), Used("o3", 80, 1))
    assert found.period == (Used("claude-sonnet-4-6", 700, 1), Used("gpt-4o", 180, 3), Used("o3", 80, 1))
    assert (found.standing.used, found.standing.balance) == (960, 9040)


@pytest.mark.parametrize(("zone", "today"), [("America/Sao_Paulo", 0), ("UTC", 100), ("Asia/Tokyo", 100)])
def test_the_day_is_that_of_the_account(books, zone, today):
    # In São Paulo midnight is between the two, in UTC and in Tokyo it is not.
    books.open("ana", now=NOON - DAY, zone=zone)
    books.give(1000, now=NOON - DAY)
    call(books, "a", "gpt-4o", 100, moment("2026-03-09T22:30"))
    found = look(books, now=moment("2026-03-10T01:00"))
    assert sum(used.billed_tokens for used in found.today) == today
    assert found.period == (Used("gpt-4o", 100, 1),)


def test_a_new_period_begins_with_nothing(books):
    books.plan("basico", 1000)
    books.open("ana", plan="basico")
    call(books, "a", "gpt-4o", 100, NOON)
    found = look(books, now=moment("2026-04-01T00:00"))
    assert (found.today, found.period) == ((), ())
    assert (found.standing.used, found.standing.balance) == (0, 1000)


def test_what_others_used_and_what_still_runs_is_not_in_it(books):
    books.open_with(1000)
    books.open_with(1000, "bia")
    call(books, "a", "gpt-4o", 100, NOON, "bia")
    books.hold("b", 30)
    found = look(books)
    assert (found.today, found.period) == ((), ())
    assert found.standing.reserved == 30
    books.void("b")


def test_who_asks_first_gets_an_account_where_that_is_allowed(books):
    assert look(books, "nova").standing.balance == 0
    with pytest.raises(UnknownName):
        look(books, "outra", new=NewAccount("livre", "UTC", create=False))
