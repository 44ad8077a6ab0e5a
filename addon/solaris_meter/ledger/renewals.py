"""What falls due by time or by plan: expired grants, new periods with their allowance and rollover, changes of plan."""

from dataclasses import replace
from zoneinfo import ZoneInfo

from solaris_meter.errors import Conflict
from solaris_meter.ledger import accounts, grants, plans
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.ledger.database import Connection
from solaris_meter.ledger.plans import Plan
from solaris_meter.periods import Period, period_at, previous_period


def touch(tx: Connection, user: str, now_ms: int, new: NewAccount | None = None, email: str | None = None) -> Account:
    """Lock the account and bring it up to date; with `new`, open it where there is none.

    Raises UnknownName where there is no account and none may be opened.
    """
    account = accounts.lock(tx, user)
    if account is None and new is not None and new.create:
        try:
            return open_account(tx, user, new, now_ms, email)
        except Conflict:  # another process opened it in this moment
            account = accounts.lock(tx, user)
    if account is None:
        return accounts.get(tx, user)
    return up_to_date(tx, account, now_ms)


def open_account(tx: Connection, user: str, new: NewAccount, now_ms: int, email: str | None = None) -> Account:
    """Open an account with its first allowance. Raises Conflict where the user has one."""
    account = accounts.create(tx, user, new, now_ms, email)
    plan = plans.get(tx, account.plan)
    return _allow(tx, account, plan, _period(account, plan, now_ms), now_ms)


def up_to_date(tx: Connection, account: Account, now_ms: int) -> Account:
    """Expire what is past its time and issue the current period, in a locked account."""
    left_of_allowance = 0
    for grant in grants.live(tx, account):
        if grant.expires_at_ms is not None and grant.expires_at_ms <= now_ms:
            if grant.kind == "allowance":
                left_of_allowance = grant.remaining
            account = grants.expire(tx, account, grant, now_ms)
    end_ms = account.period.end_ms
    if end_ms is not None and now_ms < end_ms:
        return account
    plan = plans.get(tx, account.plan)
    if end_ms is None and plan.period == "none":
        return account
    return _renew(tx, account, plan, left_of_allowance, now_ms)


def change_plan(tx: Connection, account: Account, plan: Plan, now_ms: int) -> Account:
    """Put a locked, up-to-date account on another plan, at once.

    What allowances lost since the new plan's running period began counts against it, and each period is given once: no
    sequence of changes gives tokens twice. Other grants stay.
    """
    period = _period(account, plan, now_ms)
    for grant in grants.live(tx, account):
        if grant.kind == "allowance" and grant.period_start_ms != period.start_ms:
            account = grants.expire(tx, account, grant, now_ms)
    account = _open(tx, account, plan, period, now_ms)
    return _allow(tx, account, plan, period, now_ms)


def start_window(tx: Connection, account: Account, now_ms: int) -> Account:
    """On a plan without a period, a top-up starts the count of what was used: the share used is of what is there."""
    if account.period.end_ms is not None:
        return account
    return _place(tx, account, account.plan, Period(max(now_ms, account.period.start_ms), None))


def _renew(tx: Connection, account: Account, plan: Plan, left_of_allowance: int, now_ms: int) -> Account:
    finished = account.period
    period = _period(account, plan, now_ms)
    account = _open(tx, account, plan, period, now_ms)
    if plan.rollover_max:
        # An account that was away for a whole period left that period's allowance untouched, though nobody issued it.
        zone = ZoneInfo(account.timezone)
        before = previous_period(plan.period, plan.anchor, account.created_at_ms, zone, period)
        left = left_of_allowance if finished.start_ms >= before.start_ms else plan.tokens
        if left:
            account, _ = grants.issue(
                tx,
                account,
                "rollover",
                min(left, plan.rollover_max),
                now_ms,
                expires_at_ms=period.end_ms,
                period_start_ms=period.start_ms,
            )
    return _allow(tx, account, plan, period, now_ms)


def _allow(tx: Connection, account: Account, plan: Plan, period: Period, now_ms: int) -> Account:
    """Give the period's allowance, less what allowances lost since it began.

    Where one was given for this start before (the plan changed, or its period grew), that grant is brought to the
    amount.
    """
    due = max(0, plan.tokens - grants.consumed(tx, account, "allowance", period.start_ms))
    existing = grants.of_period(tx, account, "allowance", period.start_ms)
    if existing is None:
        account, _ = grants.issue(
            tx,
            account,
            "allowance",
            due,
            now_ms,
            expires_at_ms=period.end_ms,
            period_start_ms=period.start_ms,
            note=f"plan {plan.name}",
        )
        return account
    grants.set_expiry(tx, existing, period.end_ms)
    return grants.adjust(tx, account, existing, due - existing.remaining, now_ms, note=f"plan {plan.name}")


def _period(account: Account, plan: Plan, now_ms: int) -> Period:
    return period_at(plan.period, plan.anchor, account.created_at_ms, ZoneInfo(account.timezone), now_ms)


def _open(tx: Connection, account: Account, plan: Plan, period: Period, now_ms: int) -> Account:
    """Move the account into a period of a plan. Without a period the count begins now, or goes on where it was."""
    if period.end_ms is None:
        period = account.period if account.period.end_ms is None else Period(now_ms, None)
    return _place(tx, account, plan.name, period)


def _place(tx: Connection, account: Account, plan: str, period: Period) -> Account:
    """Write plan and period. What was used is read from the entries: the account may have been there before."""
    used = tx.value(
        "SELECT coalesce(-sum(amount), 0) FROM entries"
        " WHERE account_id = :id AND kind = 'usage' AND period_start_ms = :start",
        id=account.id,
        start=period.start_ms,
    )
    tx.execute(
        "UPDATE accounts SET plan = :plan, period_start_ms = :start, period_end_ms = :end, used = :used WHERE id = :id",
        plan=plan,
        start=period.start_ms,
        end=period.end_ms,
        used=used,
        id=account.id,
    )
    return replace(account, plan=plan, period=period, used=used)
