"""Billing periods: half-open intervals of UTC milliseconds, cut at midnights of the account's time zone.

A calendar anchor starts periods on the 1st (month), Monday (week) or 1 January (year). A signup anchor repeats the day
on which the account signed up; where a month has no such day its last day stands in.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

PeriodKind = Literal["day", "week", "month", "year", "none"]
Anchor = Literal["calendar", "signup"]


@dataclass(frozen=True, slots=True)
class Period:
    """`start_ms` belongs to the period, `end_ms` does not. No end: the period of a prepaid plan."""

    start_ms: int
    end_ms: int | None


def to_datetime(ms: int) -> datetime:
    """UTC milliseconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_iso(ms: int) -> str:
    """UTC milliseconds as ISO 8601, whole seconds where there are no milliseconds."""
    whole = ms % 1000 == 0
    return to_datetime(ms).isoformat(timespec="seconds" if whole else "milliseconds").replace("+00:00", "Z")


def to_ms(moment: datetime) -> int:
    """An aware datetime as UTC milliseconds. A naive one is a programming error."""
    assert moment.tzinfo is not None, "naive datetime"
    return round(moment.timestamp() * 1000)


def midnight_ms(day: date, timezone: ZoneInfo) -> int:
    """The moment `day` begins in `timezone`; where the clock skips midnight, the moment it skips to."""
    return to_ms(datetime.combine(day, time(0), timezone))


def period_at(kind: PeriodKind, anchor: Anchor, signup_ms: int, timezone: ZoneInfo, now_ms: int) -> Period:
    """The period of `kind` that holds `now_ms`. For `none`: from the signup on, without an end."""
    if kind == "none":
        return Period(signup_ms, None)
    today = to_datetime(now_ms).astimezone(timezone).date()
    since = to_datetime(signup_ms).astimezone(timezone).date() if anchor == "signup" else date(2024, 1, 1)  # a Monday
    start, end = _dates(kind, since, today)
    return Period(midnight_ms(start, timezone), midnight_ms(end, timezone))


def previous_period(kind: PeriodKind, anchor: Anchor, signup_ms: int, timezone: ZoneInfo, current: Period) -> Period:
    """The period just before `current`."""
    return period_at(kind, anchor, signup_ms, timezone, current.start_ms - 1)


def _dates(kind: PeriodKind, since: date, today: date) -> tuple[date, date]:
    if kind == "day":
        return today, today + timedelta(days=1)
    if kind == "week":
        start = today - timedelta(days=(today - since).days % 7)
        return start, start + timedelta(days=7)
    months = 12 if kind == "year" else 1
    elapsed = (today.year - since.year) * 12 + today.month - since.month
    count = elapsed // months * months
    if _plus_months(since, count) > today:
        count -= months
    return _plus_months(since, count), _plus_months(since, count + months)


def _plus_months(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
