"""What falls due by time or by plan: expired grants, new periods with their allowance and rollover, changes of plan."""

from dataclasses import replace
from zoneinfo import ZoneInfo

from solaris_meter.ledger import accounts, entries, grants, plans
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.ledger.database import Connection
from solaris_meter.ledger.plans import Plan
from solaris_meter.periods import Period, period_at, previous_period


def touch(tx: Connection, user: str, now_ms: int, new: NewAccount | None = None, email: str | None = None) -> Account:
    """Lock the account and bring it up to date; with `new`, open it where there is none.

    Raises UnknownName where there is no account and none may be opened.
    """
    account = accounts.lock(tx, user)
    if account is not None:
        return up_to_date(tx, account, now_ms)
    if new is None or not new.create:
        return accounts.get(tx, user)
    return open_account(tx, user, new, now_ms, email)


def open_account(tx: Connection, user: str, new: NewAccount, now_ms: int, email: str | None = None) -> Account:
    """Open an account with its first allowance. Raises Conflict where the user has one."""
    account = accounts.create(tx, user, new, now_ms, email)
    plan = plans.get(tx, account.plan)
    account, _ = grants.issue(
        tx,
        account,
        "allowance",
        plan.tokens,
        now_ms,
        expires_at_ms=account.period.end_ms,
        period_start_ms=account.period.start_ms,
    )
    return account


def up_to_date(tx: Connection, account: Account, now_ms: int) -> Account:
    """Expire what is past its time and issue the current period, in a locked account."""
    end_ms = account.period.end_ms
    left_of_allowance = 0
    for grant in grants.live(tx, account):
        if grant.expires_at_ms is not None and grant.expires_at_ms <= now_ms:
            if grant.kind == "allowance":
                left_of_allowance = grant.remaining
            account = grants.expire(tx, account, grant, now_ms)
    if end_ms is None or now_ms < end_ms:
        return account
    return _renew(tx, account, left_of_allowance, now_ms)


def change_plan(tx: Connection, account: Account, plan: Plan, now_ms: int) -> Account:
    """Put a locked, up-to-date account on another plan, at once.

    Tokens used in the running period count against the new allowance: it is what the new plan gives less what this
    period's allowance has lost already, so that no sequence of changes gives tokens twice. Other grants stay.
    """
    zone = ZoneInfo(account.timezone)
    period = period_at(plan.period, plan.anchor, account.created_at_ms, zone, now_ms)
    for grant in grants.live(tx, account):
        if grant.kind == "allowance" and grant.period_start_ms != period.start_ms:
            account = grants.expire(tx, account, grant, now_ms)
    account = _open(tx, account, plan, period, now_ms)
    note = f"plan {plan.name}"
    existing = tx.row(
        "SELECT grants.id, grants.remaining, coalesce(sum(entries.amount), 0) - grants.remaining AS consumed"
        " FROM grants LEFT JOIN entries ON entries.grant_id = grants.id"
        " WHERE grants.account_id = :account AND grants.kind = 'allowance' AND grants.period_start_ms = :start"
        " GROUP BY grants.id, grants.remaining",
        account=account.id,
        start=period.start_ms,
    )
    if existing is None:
        account, _ = grants.issue(
            tx,
            account,
            "allowance",
            plan.tokens,
            now_ms,
            expires_at_ms=period.end_ms,
            period_start_ms=period.start_ms,
            note=note,
        )
        return account
    tx.execute("UPDATE grants SET expires_at_ms = :end WHERE id = :id", end=period.end_ms, id=existing["id"])
    change = max(0, plan.tokens - existing["consumed"]) - existing["remaining"]
    if change > 0:
        account, _ = grants.fill(tx, account, existing["id"], "adjust", change, now_ms, note=note)
    elif change < 0:
        split = [(existing["id"], change)]
        account, _ = entries.post(tx, account, "adjust", split, now_ms, grant_id=existing["id"], note=note)
    return account


def start_window(tx: Connection, account: Account, now_ms: int) -> Account:
    """On a plan without a period, a top-up starts the count of what was used: the share used is of what is there."""
    if account.period.end_ms is not None:
        return account
    start = max(now_ms, account.period.start_ms + 1)
    tx.execute("UPDATE accounts SET period_start_ms = :start, used = 0 WHERE id = :id", start=start, id=account.id)
    return replace(account, period=Period(start, None), used=0)


def _renew(tx: Connection, account: Account, left_of_allowance: int, now_ms: int) -> Account:
    plan = plans.get(tx, account.plan)
    zone = ZoneInfo(account.timezone)
    finished = account.period
    period = period_at(plan.period, plan.anchor, account.created_at_ms, zone, now_ms)
    account = _open(tx, account, plan, period, now_ms)
    if plan.rollover_max:
        # An account that was away for a whole period left that period's allowance untouched, though nobody issued it.
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
    account, _ = grants.issue(
        tx,
        account,
        "allowance",
        plan.tokens,
        now_ms,
        expires_at_ms=period.end_ms,
        period_start_ms=period.start_ms,
    )
    return account


def _open(tx: Connection, account: Account, plan: Plan, period: Period, now_ms: int) -> Account:
    """Move the account into a period of a plan. What it used there is read from its entries: it may have been there."""
    start_ms = now_ms if period.end_ms is None and account.plan != plan.name else period.start_ms
    used = tx.value(
        "SELECT coalesce(-sum(amount), 0) FROM entries"
        " WHERE account_id = :id AND kind = 'usage' AND period_start_ms = :start",
        id=account.id,
        start=start_ms,
    )
    tx.execute(
        "UPDATE accounts SET plan = :plan, period_start_ms = :start, period_end_ms = :end, used = :used WHERE id = :id",
        plan=plan.name,
        start=start_ms,
        end=period.end_ms,
        used=used,
        id=account.id,
    )
    return replace(account, plan=plan.name, period=Period(start_ms, period.end_ms), used=used)
