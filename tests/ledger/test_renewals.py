"""What falls due: allowances once a period, rollover, expiry, and changes of plan that give nothing twice."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.ledger.support import DAY, HOUR, NOON, Books, moment

from solaris_meter.ledger import renewals
from solaris_meter.models import Standing

NEW_YORK = "America/New_York"
APRIL = moment("2026-04-01T00:00")
MAY = moment("2026-05-01T00:00")
JULY = moment("2026-07-01T00:00")


@pytest.fixture
def roll(books):
    """On a plan of 1000 a month, of which 300 roll over, since March 10th."""
    books.plan("roll", 1000, rollover_max=300)
    books.open("ana", "roll")
    return books


@pytest.fixture
def plans_of_a_month(books):
    books.plan("small", 1000)
    books.plan("big", 3000)
    books.open("ana", "small")
    return books


def allowances(books):
    return [amount for kind, amount in books.lines() if kind == "allowance"]


@pytest.mark.parametrize(
    ("period", "anchor", "opened", "due", "zone"),
    [
        ("day", "calendar", "2026-03-10T18:00", "2026-03-11T00:00", "America/Sao_Paulo"),
        ("week", "calendar", "2026-03-10T18:00", "2026-03-16T00:00", "America/Sao_Paulo"),
        ("month", "calendar", "2026-03-10T18:00", "2026-04-01T00:00", "America/Sao_Paulo"),
        ("year", "calendar", "2026-03-10T18:00", "2027-01-01T00:00", "America/Sao_Paulo"),
        ("day", "signup", "2026-03-10T18:00", "2026-03-11T00:00", "America/Sao_Paulo"),
        ("week", "signup", "2026-03-10T18:00", "2026-03-17T00:00", "America/Sao_Paulo"),
        ("month", "signup", "2026-01-31T18:00", "2026-02-28T00:00", "America/Sao_Paulo"),
        ("year", "signup", "2024-02-29T18:00", "2025-02-28T00:00", "America/Sao_Paulo"),
        # 23 and 25 hours in New York; São Paulo's last nights on which the clock was moved.
        ("day", "calendar", "2026-03-08T00:00", "2026-03-09T00:00", NEW_YORK),
        ("day", "calendar", "2026-11-01T00:00", "2026-11-02T00:00", NEW_YORK),
        ("month", "calendar", "2026-03-01T00:00", "2026-04-01T00:00", NEW_YORK),
        ("day", "calendar", "2018-11-03T18:00", "2018-11-04T01:00", "America/Sao_Paulo"),
        ("day", "calendar", "2018-02-17T18:00", "2018-02-18T00:00", "America/Sao_Paulo"),
        ("week", "signup", "2018-02-10T18:00", "2018-02-17T00:00", "America/Sao_Paulo"),
    ],
)
def test_the_next_allowance_is_given_at_local_midnight_and_not_before(books, period, anchor, opened, due, zone):
    books.plan("pro", 1000, period=period, anchor=anchor)
    books.open("ana", "pro", moment(opened, zone), zone)
    books.touch(now=moment(due, zone) - 1)
    assert allowances(books) == [1000]
    account = books.touch(now=moment(due, zone))
    assert allowances(books) == [1000, 1000]
    assert account.period.start_ms == moment(due, zone)
    assert account.balance == 1000


def test_a_day_of_daylight_saving_is_23_hours_long(books):
    books.plan("pro", 1000, period="day")
    account = books.open("ana", "pro", moment("2026-03-08T12:00", NEW_YORK), NEW_YORK)
    assert account.period.end_ms is not None
    assert account.period.end_ms - account.period.start_ms == 23 * HOUR


def test_the_allowance_is_given_once_a_period_however_often_the_account_is_touched(books):
    books.open("ana", "basico")
    for now in (NOON, NOON + 1, NOON + DAY, APRIL, APRIL + 1, MAY - 1):
        books.touch(now=now)
    books.hold("one", 100, now=MAY - 1)
    books.settle("one", 100, now=MAY - 1)
    books.give(5, now=MAY - 1)
    assert allowances(books) == [1_000_000] * 2


def test_two_processes_that_touch_a_new_period_at_once_give_one_allowance(books):
    books.open("ana", "basico")

    def touch(_):
        with closing(books.engine.connect()) as tx, tx.transaction():
            return renewals.touch(tx, "ana", APRIL).balance

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(touch, range(8))) == [1_000_000] * 8
    assert allowances(books) == [1_000_000] * 2


def test_nothing_is_given_for_periods_in_which_the_account_was_away(books):
    books.open("ana", "basico")
    assert books.touch(now=JULY).balance == 1_000_000
    assert books.lines() == [("allowance", 1_000_000), ("expire", -1_000_000), ("allowance", 1_000_000)]


def test_what_was_used_starts_again_at_zero(books):
    books.open("ana", "basico")
    books.spend(300_000)
    assert books.account().used == 300_000
    assert books.touch(now=APRIL).standing.percent_used == 0


def test_a_clock_that_goes_back_gives_nothing(books):
    books.open("ana", "basico")
    books.touch(now=APRIL)
    before = books.dump()
    books.touch(now=NOON)
    assert books.dump() == before


def test_a_debt_is_paid_by_the_next_allowance(books):
    books.plan("pro", 1000)
    books.open("ana", "pro")
    books.spend(1200)
    assert books.touch(now=APRIL).balance == 800
    assert books.remaining() == [("allowance", 800)]


def test_a_debt_larger_than_the_allowance_is_carried_on(books):
    books.plan("pro", 1000)
    books.open("ana", "pro")
    books.spend(3500)
    assert books.touch(now=APRIL).balance == -1500
    assert books.touch(now=MAY).balance == -500


def test_a_grant_is_worth_nothing_from_its_expiry_on(books):
    books.open_with(100)
    books.give(500, expires_at_ms=NOON + DAY)
    assert books.touch(now=NOON + DAY - 1).balance == 600
    assert books.touch(now=NOON + DAY).balance == 100
    assert books.lines()[-1] == ("expire", -500)
    assert books.touch(now=NOON + 2 * DAY).balance == 100


def test_only_what_remains_of_a_grant_expires(books):
    books.open()
    books.give(500, expires_at_ms=NOON + DAY)
    books.spend(200)
    assert books.touch(now=NOON + DAY).balance == 0
    assert books.lines()[-1] == ("expire", -300)


def test_a_grant_that_was_used_up_leaves_no_line_when_it_expires(books):
    books.open()
    books.give(500, expires_at_ms=NOON + DAY)
    books.spend(500)
    before = books.lines()
    books.touch(now=NOON + DAY)
    assert books.lines() == before


def test_a_grant_that_expires_does_not_wait_for_the_period(books):
    books.open("ana", "basico")
    books.give(500, expires_at_ms=APRIL + DAY)
    assert books.touch(now=APRIL).balance == 1_000_500
    assert books.touch(now=APRIL + DAY).balance == 1_000_000


def test_grants_burn_by_kind_then_by_expiry_then_by_age(roll):
    books = roll
    books.spend(700)
    books.touch(now=APRIL)
    books.give(10, kind="credit", now=APRIL, expires_at_ms=APRIL + DAY)
    books.give(20, now=APRIL)
    books.give(30, now=APRIL)
    books.give(40, now=APRIL, expires_at_ms=APRIL + 5 * DAY)
    books.give(50, now=APRIL, expires_at_ms=APRIL + 2 * DAY)
    order = [("rollover", 300), ("allowance", 1000)]
    order += [("bonus", 50), ("bonus", 40), ("bonus", 20), ("bonus", 30), ("credit", 10)]
    assert books.remaining() == order
    books.spend(300 + 1000 + 50 + 40 + 5, now=APRIL)
    assert books.remaining() == [("bonus", 15), ("bonus", 30), ("credit", 10)]


def test_what_was_not_used_rolls_over(roll):
    roll.spend(900)
    assert roll.touch(now=APRIL).balance == 1100
    assert roll.remaining() == [("rollover", 100), ("allowance", 1000)]


def test_no_more_than_the_maximum_rolls_over(roll):
    assert roll.touch(now=APRIL).balance == 1300
    assert roll.lines() == [("allowance", 1000), ("expire", -1000), ("rollover", 300), ("allowance", 1000)]


def test_what_rolled_over_does_not_roll_over_again(roll):
    roll.touch(now=APRIL)
    roll.spend(1200, now=APRIL)
    assert roll.remaining() == [("allowance", 100)]
    assert roll.touch(now=MAY).balance == 1100
    roll.spend(1100, now=MAY)
    assert roll.touch(now=moment("2026-06-01T00:00")).balance == 1000


def test_an_unused_rollover_expires_with_its_period(roll):
    roll.touch(now=APRIL)
    assert roll.touch(now=MAY).balance == 1300
    assert roll.remaining() == [("rollover", 300), ("allowance", 1000)]


def test_nothing_rolls_over_where_nothing_was_left(roll):
    roll.spend(1000)
    assert roll.touch(now=APRIL).balance == 1000
    assert roll.remaining() == [("allowance", 1000)]


def test_an_absence_rolls_over_one_period_and_no_more(roll):
    # Nobody issued June's allowance, and nobody used it either.
    roll.spend(1000)
    assert roll.touch(now=JULY).balance == 1300
    assert roll.remaining() == [("rollover", 300), ("allowance", 1000)]


def test_a_debt_leaves_nothing_to_roll_over(roll):
    roll.spend(1100)
    assert roll.touch(now=APRIL).balance == 900
    assert roll.remaining() == [("allowance", 900)]


def test_bonus_and_credit_do_not_roll_over_and_stay(roll):
    roll.give(50, kind="credit")
    roll.spend(1000)
    assert roll.touch(now=APRIL).balance == 1050
    assert roll.remaining() == [("allowance", 1000), ("credit", 50)]


def test_a_prepaid_account_has_what_it_was_given_and_nothing_else(books):
    account = books.open("ana", "livre")
    assert (account.balance, account.period.end_ms) == (0, None)
    assert books.lines() == []
    books.give(500)
    assert books.touch(now=NOON + 4000 * DAY).balance == 500


def test_a_plan_without_periods_gives_its_tokens_once(books):
    books.plan("trial", 500, period="none")
    books.open("ana", "trial")
    books.spend(500)
    assert books.touch(now=NOON + 4000 * DAY).balance == 0
    books.change_plan("livre", now=NOON + 4001 * DAY)
    assert books.change_plan("trial", now=NOON + 4002 * DAY).balance == 0


def test_a_plan_of_no_tokens_gives_none_and_renews_all_the_same(books):
    books.plan("empty", 0)
    books.open("ana", "empty")
    account = books.touch(now=APRIL)
    assert (account.balance, account.period.start_ms) == (0, APRIL)
    assert books.lines() == []


def test_a_top_up_of_a_prepaid_account_starts_the_count_of_what_was_used(books):
    books.open_with(1000)
    books.spend(900)
    assert books.account().standing.percent_used == 90.0
    standing: Standing = books.give(900, now=NOON + DAY).standing
    assert (standing.used, standing.limit, standing.percent_used) == (0, 1000, 0.0)


def test_top_ups_and_changes_of_plan_within_a_moment_keep_the_count_right(books):
    # Two windows that begin in the same millisecond are one: what was used in it is not forgotten.
    books.open_with(1000, now=NOON)
    later = NOON + DAY
    books.give(100, now=later)
    books.spend(50, now=later)
    books.change_plan("livre", now=later)
    books.give(100, now=later)
    assert books.check().problems == []


def test_a_larger_plan_gives_the_difference_at_once(plans_of_a_month):
    books = plans_of_a_month
    books.spend(400)
    account = books.change_plan("big")
    assert (account.plan, account.balance, account.used) == ("big", 2600, 400)
    assert books.lines()[-1] == ("adjust", 2000)
    assert account.standing.limit == 3000


def test_a_smaller_plan_takes_the_difference_at_once(plans_of_a_month):
    books = plans_of_a_month
    books.change_plan("big")
    books.spend(400)
    assert books.change_plan("small").balance == 600


def test_a_smaller_plan_that_is_used_up_already_leaves_nothing_and_no_debt(plans_of_a_month):
    books = plans_of_a_month
    books.change_plan("big")
    books.spend(1800)
    assert books.change_plan("small").balance == 0


def test_no_sequence_of_changes_gives_tokens_twice(plans_of_a_month):
    books = plans_of_a_month
    books.spend(1000)
    for plan, balance in (("big", 2000), ("small", 0), ("big", 2000), ("big", 2000)):
        assert books.change_plan(plan).balance == balance
    books.spend(2000)
    for plan in ("small", "big", "livre", "big", "small", "big"):
        assert books.change_plan(plan).balance == 0


def test_a_change_to_the_plan_it_is_on_changes_no_balance(plans_of_a_month):
    books = plans_of_a_month
    books.spend(100)
    before = books.lines()
    assert books.change_plan("small").balance == 900
    assert books.lines() == before


def test_a_change_in_debt_pays_the_debt_first(plans_of_a_month):
    books = plans_of_a_month
    books.spend(1300)
    account = books.change_plan("big")
    assert account.balance == 1700
    assert books.remaining() == [("allowance", 1700)]
    assert books.change_plan("small").balance == 0
    assert books.change_plan("big").balance == 1700


def test_a_change_of_plan_leaves_other_grants_alone(plans_of_a_month):
    books = plans_of_a_month
    books.give(50, kind="credit")
    books.give(70)
    books.change_plan("livre")
    assert books.remaining() == [("bonus", 70), ("credit", 50)]
    books.change_plan("big")
    assert books.remaining() == [("allowance", 3000), ("bonus", 70), ("credit", 50)]


def test_a_change_counts_in_the_next_period_as_well(plans_of_a_month):
    books = plans_of_a_month
    books.change_plan("big")
    assert books.touch(now=APRIL).balance == 3000


def test_a_change_at_the_end_of_a_period_first_finishes_it(plans_of_a_month):
    books = plans_of_a_month
    account = books.change_plan("big", now=APRIL)
    assert account.balance == 3000
    assert books.lines() == [("allowance", 1000), ("expire", -1000), ("allowance", 1000), ("adjust", 2000)]


def test_a_change_of_period_ends_the_old_allowance(plans_of_a_month):
    books = plans_of_a_month
    books.plan("daily", 100, period="day")
    account = books.change_plan("daily")
    assert account.balance == 100
    assert account.period.end_ms == moment("2026-03-11T00:00")


def test_changes_between_kinds_of_period_give_each_allowance_once(plans_of_a_month):
    books = plans_of_a_month
    books.plan("daily", 100, period="day")
    books.plan("since signup", 1000, anchor="signup")
    for plan in ("daily", "since signup"):
        books.spend(books.balance())
        books.change_plan(plan)
    books.spend(books.balance())
    for plan in ("small", "daily", "since signup", "livre", "small", "since signup", "daily"):
        assert books.change_plan(plan).balance == 0


def test_what_was_used_in_the_running_period_counts_against_a_plan_with_another_anchor(plans_of_a_month):
    # `change_plan` promises it: the tokens of the month were used up, whichever day the next month begins on.
    books = plans_of_a_month
    books.plan("since signup", 1000, anchor="signup")
    books.spend(1000)
    assert books.change_plan("since signup").balance == 0


def test_a_renewal_does_not_read_the_whole_history(path):
    """What it must know of the past is found through an index, however long the account has been there."""
    books = Books(path)
    books.open("ana", "basico")
    for query in (
        "SELECT sum(amount) FROM entries WHERE account_id = 1 AND kind = 'usage' AND period_start_ms = 5",
        "SELECT sum(amount) FROM entries WHERE account_id = 1 AND at_ms >= 5 AND grant_id IS NULL",
    ):
        [step] = books.tx.rows("EXPLAIN QUERY PLAN " + query)
        assert "SEARCH entries USING INDEX" in step["detail"]
        assert "entries_by_account" not in step["detail"]
    books.close()
