"""Periods: half-open, without a gap, cut at local midnights whatever the clocks do."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solaris_meter.periods import (
    Period,
    PeriodKind,
    midnight_ms,
    period_at,
    previous_period,
    to_datetime,
    to_iso,
    to_ms,
)

SAO_PAULO = "America/Sao_Paulo"
NEW_YORK = "America/New_York"
HOUR = 3_600_000


def at(text, zone="UTC"):
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def local(period, zone):
    """Start and end as a wall clock in `zone` shows them."""
    return tuple(
        to_datetime(ms).astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M") for ms in (period.start_ms, period.end_ms)
    )


def calendar(kind: PeriodKind, now, zone=SAO_PAULO):
    return local(period_at(kind, "calendar", 0, ZoneInfo(zone), at(now, zone)), zone)


def signup(kind: PeriodKind, since, now, zone=SAO_PAULO):
    return local(period_at(kind, "signup", at(since, zone), ZoneInfo(zone), at(now, zone)), zone)


@pytest.mark.parametrize(
    ("kind", "now", "start", "end"),
    [
        ("day", "2026-03-10T00:00", "2026-03-10 00:00", "2026-03-11 00:00"),
        ("day", "2026-12-31T23:59", "2026-12-31 00:00", "2027-01-01 00:00"),
        ("week", "2026-03-08T23:59", "2026-03-02 00:00", "2026-03-09 00:00"),
        ("week", "2026-03-09T00:00", "2026-03-09 00:00", "2026-03-16 00:00"),
        ("month", "2026-02-28T23:59", "2026-02-01 00:00", "2026-03-01 00:00"),
        ("month", "2024-02-29T12:00", "2024-02-01 00:00", "2024-03-01 00:00"),
        ("year", "2026-12-31T23:59", "2026-01-01 00:00", "2027-01-01 00:00"),
        # Before the date from which the calendar anchor counts.
        ("week", "2023-12-31T12:00", "2023-12-25 00:00", "2024-01-01 00:00"),
        ("month", "2019-11-15T12:00", "2019-11-01 00:00", "2019-12-01 00:00"),
        ("year", "2023-06-01T12:00", "2023-01-01 00:00", "2024-01-01 00:00"),
    ],
)
def test_a_calendar_period_starts_where_the_calendar_does(kind, now, start, end):
    assert calendar(kind, now) == (start, end)


@pytest.mark.parametrize(
    ("kind", "since", "now", "start", "end"),
    [
        ("day", "2026-01-15T18:00", "2026-03-10T12:00", "2026-03-10 00:00", "2026-03-11 00:00"),
        ("week", "2026-01-15T18:00", "2026-01-15T18:00", "2026-01-15 00:00", "2026-01-22 00:00"),
        ("week", "2026-01-15T18:00", "2026-03-11T23:59", "2026-03-05 00:00", "2026-03-12 00:00"),
        ("month", "2026-01-15T18:00", "2026-03-14T23:59", "2026-02-15 00:00", "2026-03-15 00:00"),
        ("month", "2026-01-15T18:00", "2026-03-15T00:00", "2026-03-15 00:00", "2026-04-15 00:00"),
        ("month", "2026-12-15T18:00", "2027-01-14T23:59", "2026-12-15 00:00", "2027-01-15 00:00"),
        ("year", "2025-06-30T18:00", "2026-06-29T23:59", "2025-06-30 00:00", "2026-06-30 00:00"),
        ("year", "2024-02-29T18:00", "2026-02-28T00:00", "2026-02-28 00:00", "2027-02-28 00:00"),
        ("year", "2024-02-29T18:00", "2028-02-28T23:59", "2027-02-28 00:00", "2028-02-29 00:00"),
    ],
)
def test_a_signup_period_repeats_the_day_of_the_signup(kind, since, now, start, end):
    assert signup(kind, since, now) == (start, end)


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-02-27T12:00", "2026-01-31 00:00", "2026-02-28 00:00"),
        ("2026-02-28T00:00", "2026-02-28 00:00", "2026-03-31 00:00"),
        ("2026-04-29T12:00", "2026-03-31 00:00", "2026-04-30 00:00"),
        ("2028-02-29T12:00", "2028-02-29 00:00", "2028-03-31 00:00"),
    ],
)
def test_a_signup_on_the_31st_falls_on_the_last_day_of_shorter_months(now, start, end):
    assert signup("month", "2026-01-31T10:00", now) == (start, end)


def test_the_day_of_the_signup_is_the_local_one():
    # 2026-01-15 01:00 UTC is still the 14th in São Paulo.
    period = period_at("month", "signup", at("2026-01-15T01:00"), ZoneInfo(SAO_PAULO), at("2026-02-01T12:00"))
    assert local(period, SAO_PAULO) == ("2026-01-14 00:00", "2026-02-14 00:00")


def test_a_plan_without_periods_runs_from_the_signup_without_an_end():
    assert period_at("none", "calendar", 123, ZoneInfo("UTC"), at("2026-01-01T00:00")) == Period(123, None)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-06-01", 24)])
def test_a_day_in_new_york_is_as_long_as_its_clocks_make_it(day, hours):
    period = period_at("day", "calendar", 0, ZoneInfo(NEW_YORK), at(f"{day}T12:00", NEW_YORK))
    assert period.end_ms is not None
    assert period.end_ms - period.start_ms == hours * HOUR
    assert local(period, NEW_YORK)[0] == f"{day} 00:00"


def test_a_day_whose_midnight_is_skipped_begins_when_the_clock_starts_again():
    # São Paulo, 2018-11-04: 00:00 -03 was 01:00 -02.
    period = period_at("day", "calendar", 0, ZoneInfo(SAO_PAULO), at("2018-11-04T12:00", SAO_PAULO))
    assert to_iso(period.start_ms) == "2018-11-04T03:00:00Z"
    assert local(period, SAO_PAULO) == ("2018-11-04 01:00", "2018-11-05 00:00")
    before = previous_period("day", "calendar", 0, ZoneInfo(SAO_PAULO), period)
    assert before.end_ms == period.start_ms


def test_the_hour_before_midnight_that_happens_twice_belongs_to_the_old_day():
    # São Paulo, 2018-02-18: 00:00 -02 was 23:00 -03 of the 17th.
    zone = ZoneInfo(SAO_PAULO)
    again = at("2018-02-18T02:30")
    period = period_at("day", "calendar", 0, zone, again)
    assert local(period, SAO_PAULO) == ("2018-02-17 00:00", "2018-02-18 00:00")
    assert period.end_ms == at("2018-02-18T03:00")


def test_a_day_that_a_country_skipped_has_no_period():
    # Samoa went from the 29th to the 31st of December 2011.
    zone = ZoneInfo("Pacific/Apia")
    after = period_at("day", "calendar", 0, zone, at("2011-12-31T12:00", "Pacific/Apia"))
    before = previous_period("day", "calendar", 0, zone, after)
    assert local(before, "Pacific/Apia")[0] == "2011-12-29 00:00"
    assert before.end_ms == after.start_ms


@given(
    kind=st.sampled_from(["day", "week", "month", "year"]),
    anchor=st.sampled_from(["calendar", "signup"]),
    zone=st.sampled_from([SAO_PAULO, NEW_YORK, "UTC", "Europe/Lisbon", "Asia/Kolkata", "America/Havana"]),
    signup_ms=st.integers(at("2010-01-01T00:00"), at("2030-01-01T00:00")),
    now_ms=st.integers(at("2010-01-01T00:00"), at("2035-01-01T00:00")),
)
def test_periods_hold_their_moment_and_leave_no_gap(kind, anchor, zone, signup_ms, now_ms):
    place = ZoneInfo(zone)
    period = period_at(kind, anchor, signup_ms, place, now_ms)
    assert period.end_ms is not None
    assert period.start_ms <= now_ms < period.end_ms
    assert period_at(kind, anchor, signup_ms, place, period.start_ms) == period
    assert period_at(kind, anchor, signup_ms, place, period.end_ms - 1) == period
    assert period_at(kind, anchor, signup_ms, place, period.end_ms).start_ms == period.end_ms
    assert previous_period(kind, anchor, signup_ms, place, period).end_ms == period.start_ms


def test_midnight_is_local():
    assert midnight_ms(datetime(2026, 3, 10, tzinfo=UTC).date(), ZoneInfo(SAO_PAULO)) == at("2026-03-10T03:00")


def test_a_moment_is_printed_in_utc_as_short_as_it_can_be():
    assert to_iso(at("2026-03-10T12:00")) == "2026-03-10T12:00:00Z"
    assert to_iso(at("2026-03-10T12:00") + 7) == "2026-03-10T12:00:00.007Z"


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_survive_the_way_through_a_datetime(ms):
    assert to_ms(to_datetime(ms)) == ms
    assert to_ms(datetime.fromisoformat(to_iso(ms))) == ms


def test_a_naive_datetime_is_a_programming_error():
    with pytest.raises(AssertionError, match="naive"):
        to_ms(datetime(2026, 1, 1))  # noqa: DTZ001  (that is the point)
