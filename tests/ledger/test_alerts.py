"""Alerts: a threshold is crossed once a period, with the settlement that crosses it."""

import pytest
from tests.ledger.support import DAY, NOON, moment

from solaris_meter.ledger import alerts

APRIL = moment("2026-04-01T00:00")


@pytest.fixture
def thousand(books):
    books.plan("pro", 1000)
    books.open("ana", "pro")
    return books


def of_period(books):
    return [(alert.threshold, alert.at_ms) for alert in alerts.of_period(books.tx, books.account())]


def test_nothing_is_crossed_below_the_threshold(thousand):
    assert thousand.spend(799).crossed == ()
    assert of_period(thousand) == []


def test_a_threshold_is_crossed_when_it_is_reached_exactly(thousand):
    thousand.spend(799)
    assert thousand.spend(1, now=NOON + 5).crossed == (80,)
    assert of_period(thousand) == [(80, NOON + 5)]


def test_a_crossing_is_told_once(thousand):
    assert thousand.spend(800).crossed == (80,)
    assert thousand.spend(10).crossed == ()
    assert thousand.spend(140).crossed == (95,)
    assert thousand.spend(500).crossed == ()
    assert [threshold for threshold, _ in of_period(thousand)] == [80, 95]


def test_one_call_may_cross_several_thresholds_lowest_first(thousand):
    thousand.thresholds = (95, 80, 50)
    assert thousand.spend(2000).crossed == (50, 80, 95)


def test_a_new_period_can_be_crossed_anew(thousand):
    thousand.spend(900)
    assert thousand.spend(900, now=APRIL).crossed == (80,)
    assert of_period(thousand) == [(80, APRIL)]
    assert thousand.count("alerts") == 2


def test_a_top_up_raises_the_limit_that_is_measured_against(thousand):
    thousand.give(1000)
    assert thousand.spend(1599).crossed == ()
    assert thousand.spend(1).crossed == (80,)


def test_a_top_up_within_a_period_does_not_repeat_an_alert(thousand):
    thousand.spend(900)
    thousand.give(1000)
    assert thousand.spend(1000).crossed == (95,)


def test_a_top_up_of_a_prepaid_account_begins_anew(books):
    books.open_with(1000)
    assert books.spend(900).crossed == (80,)
    books.give(900, now=NOON + DAY)
    assert books.spend(100, now=NOON + DAY).crossed == ()
    assert books.spend(700, now=NOON + DAY).crossed == (80,)


def test_a_call_that_cost_nothing_crosses_nothing(books):
    books.open()
    assert books.spend(0).crossed == ()


def test_an_account_that_never_had_anything_crosses_everything_with_its_first_debt(books):
    books.open()
    assert books.spend(1).crossed == (80, 95)


def test_no_thresholds_are_never_crossed(thousand):
    thousand.thresholds = ()
    assert thousand.spend(2000).crossed == ()


def test_a_recovered_call_sets_off_its_alerts(thousand):
    thousand.hold("left", 900, floor=900, owner="dead")
    thousand.recover()
    assert [threshold for threshold, _ in of_period(thousand)] == [80]


def test_an_alert_names_the_call_that_set_it_off(thousand):
    thousand.hold("culprit", 900)
    thousand.settle("culprit", 900)
    assert thousand.tx.value("SELECT usage_event_id FROM alerts") == "culprit"


def test_accounts_are_alerted_each_for_itself(thousand):
    thousand.open("bruno", "pro")
    assert thousand.spend(900).crossed == (80,)
    assert thousand.spend(900, "bruno").crossed == (80,)
