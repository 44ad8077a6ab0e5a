"""Plans: made, changed from the next period on, retired without hurting who is on them."""

import pytest
from tests.ledger.support import NOON, moment

from solaris_meter.amounts import Money
from solaris_meter.errors import LedgerError, UnknownName
from solaris_meter.ledger import plans
from solaris_meter.ledger.plans import Plan


def put(books, plan):
    return books.run(lambda tx: plans.put(tx, plan, NOON))


def retire(books, name, now=NOON):
    return books.run(lambda tx: plans.retire(tx, name, now))


def test_a_plan_is_kept_whole(books):
    plan = Plan("pro", 5_000_000, "week", "signup", 250_000, Money(9990, "BRL"))
    assert put(books, plan) is True
    assert plans.get(books.tx, "pro") == plan


def test_a_change_says_that_the_plan_was_there_already(books):
    put(books, Plan("pro", 1, "month"))
    assert put(books, Plan("pro", 2, "day", price=Money(100, "USD"))) is False
    assert plans.get(books.tx, "pro") == Plan("pro", 2, "day", price=Money(100, "USD"))
    assert put(books, Plan("pro", 2, "day")) is False
    assert plans.get(books.tx, "pro").price is None


def test_plans_are_listed_by_name(books):
    assert [plan.name for plan in plans.all_plans(books.tx)] == ["basico", "livre"]


@pytest.mark.parametrize(
    "plan",
    [
        Plan("", 1, "month"),
        Plan("  ", 1, "month"),
        Plan("pro", 1, "none", rollover_max=1),
        Plan("pro", -1, "month"),
        Plan("pro", 1, "month", rollover_max=-1),
    ],
)
def test_a_plan_that_cannot_be_is_refused(books, plan):
    with pytest.raises(LedgerError):
        put(books, plan)
    assert books.count("plans") == 2


def test_an_unknown_plan_is_told_with_the_closest(books):
    with pytest.raises(UnknownName, match="no plan 'basicco'; did you mean basico"):
        plans.get(books.tx, "basicco")


def test_a_retired_plan_is_given_to_nobody_new(books):
    retire(books, "basico")
    with pytest.raises(LedgerError, match="plan 'basico' is retired"):
        books.open("ana", "basico")
    with pytest.raises(LedgerError, match="retired"):
        plans.get(books.tx, "basico", usable=True)
    assert plans.get(books.tx, "basico").retired_at_ms == NOON


def test_who_is_on_a_retired_plan_stays_on_it(books):
    books.open("ana", "basico")
    books.open("bruno", "basico")
    assert retire(books, "basico") == 2
    assert books.touch("ana", moment("2026-04-01T00:00")).balance == 1_000_000


def test_retiring_twice_keeps_the_first_moment(books):
    retire(books, "basico", NOON)
    retire(books, "basico", NOON + 1)
    assert plans.get(books.tx, "basico").retired_at_ms == NOON


def test_an_unknown_plan_cannot_be_retired(books):
    with pytest.raises(UnknownName):
        retire(books, "nothing")


def test_setting_a_retired_plan_brings_it_back(books):
    retire(books, "basico")
    put(books, Plan("basico", 500, "month"))
    assert books.open("ana", "basico").balance == 500


def test_a_changed_plan_counts_from_the_next_period_on(books):
    books.open("ana", "basico")
    books.plan("basico", 200)
    assert books.touch("ana", NOON).balance == 1_000_000
    assert books.touch("ana", moment("2026-04-01T00:00")).balance == 200


def test_a_changed_period_counts_from_the_next_period_on(books):
    books.open("ana", "basico")
    books.plan("basico", 200, period="day")
    period = books.touch("ana", moment("2026-04-01T12:00")).period
    assert (period.start_ms, period.end_ms) == (moment("2026-04-01T00:00"), moment("2026-04-02T00:00"))


def test_a_period_that_begins_like_a_shorter_one_before_still_gives_its_allowance(books):
    # The day of the 1st and its month begin at the same moment; the month's allowance is not the day's.
    books.plan("pro", 100, period="day")
    books.open("ana", "pro", moment("2026-05-01T09:00"))
    books.plan("pro", 3000, period="month")
    account = books.touch("ana", moment("2026-05-02T09:00"))
    assert account.period.end_ms == moment("2026-06-01T00:00")
    assert account.balance == 3000


def test_a_prepaid_plan_that_gets_a_period_gives_its_allowance(books):
    books.open("ana", "livre")
    books.plan("livre", 1000, period="month")
    assert books.touch("ana", moment("2026-04-01T09:00")).balance == 1000
