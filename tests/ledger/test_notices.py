"""Notices: who may show which threshold."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.support import NOON, Books, ask, moment, usage

from solaris_meter.ledger import notices, reservations
from solaris_meter.ledger.reservations import Reserved

THRESHOLDS = (100, 80, 95)


@pytest.fixture
def shop(books):
    books.plan("basico", 1000)
    books.open("ana", plan="basico")
    return books


def claim(books, reservation, tokens, now=NOON, thresholds=THRESHOLDS):
    return books.run(lambda tx: reservations.claim_notice(tx, reservation, usage(tokens), thresholds, now))


def unshown(books, user="ana"):
    account = books.account(user)
    return books.run(lambda tx: notices.unshown(tx, account, THRESHOLDS))


def claimed(books, name, tokens, now=NOON):
    """The threshold that a call of so many tokens gets; it is settled afterwards."""
    books.hold(name, 1, now=now)
    found = claim(books, name, tokens, now)
    books.settle(name, tokens, now)
    return found and found[0]


def test_a_threshold_is_shown_once(shop):
    assert [claimed(shop, f"c{number}", 100) for number in range(10)] == [
        *[None] * 7, 80, None, 100,
    ]  # fmt: skip
    assert unshown(shop) == ()


def test_exactly_the_threshold_is_enough_and_less_is_not(shop):
    shop.hold("c", 1)
    assert claim(shop, "c", 799) is None
    found = claim(shop, "c", 800)
    assert found is not None
    threshold, standing = found
    assert threshold == 80
    assert (standing.used, standing.balance, standing.percent_used) == (800, 200, 80.0)
    shop.settle("c", 800)


def test_the_highest_that_is_reached_is_shown_and_no_lower_one_after_it(shop):
    assert claimed(shop, "a", 960) == 95
    assert unshown(shop) == (100,)
    assert claimed(shop, "b", 1) is None
    assert claimed(shop, "c", 100) == 100


def test_a_claim_charges_nothing(shop):
    shop.hold("c", 1)
    before = shop.account()
    assert claim(shop, "c", 900) is not None
    assert shop.account() == before
    shop.void("c")


def test_the_same_call_gets_nothing_twice(shop):
    shop.hold("c", 1)
    assert claim(shop, "c", 900) is not None
    assert claim(shop, "c", 900) is None
    assert claim(shop, "c", 960) is not None
    shop.void("c")


def test_a_call_that_is_over_or_was_never_there_gets_none(shop):
    shop.hold("c", 1)
    shop.settle("c", 900)
    assert claim(shop, "c", 900) is None
    assert claim(shop, "none such", 900) is None
    assert unshown(shop) == (80, 95, 100)


def test_each_period_begins_anew(shop):
    assert claimed(shop, "a", 850) == 80
    april = moment("2026-04-02T12:00")
    assert claimed(shop, "b", 100, april) is None
    assert unshown(shop) == (80, 95, 100)
    assert claimed(shop, "c", 750, april) == 80


def test_each_person_has_their_own(shop):
    shop.open("bia", plan="basico")
    assert claimed(shop, "a", 850) == 80
    assert unshown(shop, "bia") == (80, 95, 100)


def test_a_reservation_says_what_was_not_shown_yet(shop):
    def offered(name):
        decision = shop.run(lambda tx: reservations.reserve(tx, ask(name, prompt=1), shop.new, NOON, THRESHOLDS))
        assert isinstance(decision, Reserved)
        shop.void(name)
        return decision.unshown

    assert offered("a") == (80, 95, 100)
    assert claimed(shop, "b", 850) == 80
    assert offered("c") == (95, 100)


def test_the_rates_of_the_call_count(shop):
    shop.rate("gpt-4o", input="0.5")
    shop.hold("c", 1, prompt=2)
    assert claim(shop, "c", 1598) is None
    assert claim(shop, "c", 1600) is not None
    shop.void("c")


def test_of_two_connections_one_gets_it(shop, place):
    names = [f"c{number}" for number in range(8)]
    for name in names:
        shop.hold(name, 1)
    barrier = Barrier(len(names))

    def at_once(name):
        with closing(Books(place)) as own:
            barrier.wait(10)
            return claim(own, name, 820)

    with ThreadPoolExecutor(len(names)) as threads:
        found = list(threads.map(at_once, names))
    assert sorted(one[0] for one in found if one) == [80]
    for name in names:
        shop.void(name)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12))
def test_what_is_shown_only_rises(tmp_path_factory, amounts):
    with closing(Books(tmp_path_factory.mktemp("notices") / "solaris.db")) as books:
        books.plan("basico", 1000)
        books.open("ana", plan="basico")
        shown, used = [], 0
        for number, amount in enumerate(amounts):
            if used >= 1000:
                break
            found = claimed(books, f"c{number}", amount)
            used += amount
            reached = [one for one in (80, 95, 100) if used >= one * 10]
            if found:
                shown.append(found)
                assert found == reached[-1]
            elif reached:
                assert shown[-1] == reached[-1]
        assert shown == sorted(set(shown))


def test_what_could_not_be_shown_is_shown_by_the_next(shop):
    shop.hold("c", 1)
    assert claim(shop, "c", 800) is not None
    shop.run(lambda tx: notices.release(tx, "c"))
    shop.settle("c", 800)
    assert claimed(shop, "d", 10) == 80
