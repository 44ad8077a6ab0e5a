"""Account rows: one per user, each the lock of everything that happens to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from solaris_meter.channels import Channel
from solaris_meter.errors import Conflict, LedgerError, UnknownName
from solaris_meter.ledger import outbox, plans
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.ledger.outbox import Event
from solaris_meter.models import Standing, Status
from solaris_meter.periods import Period, period_at

MAX_USER_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Account:
    """One row of `accounts`. `used` counts the billed tokens of the period; `reserved` those of running calls."""

    id: int
    user: str
    email: str | None
    plan: str
    status: Status
    timezone: str
    created_at_ms: int
    period: Period
    balance: int
    reserved: int
    used: int

    @classmethod
    def from_row(cls, row: Row) -> "Account":
        return cls(
            id=row["id"],
            user=row["user_id"],
            email=row["email"],
            plan=row["plan"],
            status=row["status"],
            timezone=row["timezone"],
            created_at_ms=row["created_at_ms"],
            period=Period(row["period_start_ms"], row["period_end_ms"]),
            balance=row["balance"],
            reserved=row["reserved"],
            used=row["used"],
        )

    @property
    def standing(self) -> Standing:
        return Standing(
            user=self.user,
            email=self.email,
            plan=self.plan,
            status=self.status,
            timezone=self.timezone,
            period=self.period,
            used=self.used,
            reserved=self.reserved,
            balance=self.balance,
        )


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account gets that is created at first sight. `create` false: it is not."""

    plan: str
    timezone: str
    create: bool = True


def lock(tx: Connection, user: str) -> Account | None:
    """Take the account's row for this transaction; None where the user has no account."""
    row = tx.row("UPDATE accounts SET reserved = reserved WHERE user_id = :user RETURNING *", user=user)
    return Account.from_row(row) if row else None


def lock_by_id(tx: Connection, account_id: int) -> Account:
    """Take the row of an account that is known to exist."""
    row = tx.row("UPDATE accounts SET reserved = reserved WHERE id = :id RETURNING *", id=account_id)
    assert row is not None
    return Account.from_row(row)


def create(tx: Connection, user: str, new: NewAccount, now_ms: int, email: str | None = None) -> Account:
    """Open an account, without its first allowance (`renewals.touch` issues it).

    Raises UnknownName or LedgerError for a plan that cannot be given out, Conflict where the user has an account.
    """
    if not user.strip() or len(user) > MAX_USER_LENGTH:
        raise LedgerError(f"a user id has 1 to {MAX_USER_LENGTH} characters; this one has {len(user)}")
    plan = plans.get(tx, new.plan, usable=True)
    tx.lock(f"user {user}")
    period = period_at(plan.period, plan.anchor, now_ms, ZoneInfo(new.timezone), now_ms)
    row = tx.row(
        "INSERT INTO accounts (user_id, email, plan, status, timezone, created_at_ms, period_start_ms, period_end_ms,"
        " balance, reserved, used) VALUES (:user, :email, :plan, 'active', :timezone, :now, :start, :end, 0, 0, 0)"
        " ON CONFLICT (user_id) DO NOTHING RETURNING *",
        user=user,
        email=email,
        plan=plan.name,
        timezone=new.timezone,
        now=now_ms,
        start=period.start_ms,
        end=period.end_ms,
    )
    if row is None:
        raise Conflict(
            f"user {user!r} has an account already; 'solaris-cli users set-plan {user} PLAN' changes its plan"
        )
    return Account.from_row(row)


def get(tx: Connection, user: str) -> Account:
    """The account of a user id. Raises UnknownName."""
    row = tx.row("SELECT * FROM accounts WHERE user_id = :user", user=user)
    if row is None:
        raise UnknownName("user", user, names(tx))
    return Account.from_row(row)


def find(tx: Connection, text: str) -> Account:
    """The account meant by an id, an e-mail, or a unique prefix of either. Raises UnknownName, Conflict."""
    exact = tx.rows("SELECT * FROM accounts WHERE user_id = :text", text=text)
    exact = exact or tx.rows("SELECT * FROM accounts WHERE lower(email) = lower(:text)", text=text)
    found = exact or tx.rows(
        "SELECT * FROM accounts WHERE substr(user_id, 1, CAST(:length AS INTEGER)) = :text"
        " OR lower(substr(email, 1, CAST(:length AS INTEGER))) = lower(:text) ORDER BY user_id LIMIT 6",
        text=text,
        length=len(text),
    )
    if not text or not found:
        raise UnknownName("user", text, names(tx))
    if len(found) > 1:
        some = ", ".join(row["user_id"] for row in found[:5])
        raise Conflict(
            f"{text!r} fits more than one user ({some}{', …' if len(found) > 5 else ''}); write the whole id"
        )
    return Account.from_row(found[0])


def names(tx: Connection) -> list[str]:
    """Every user id and e-mail, for suggestions."""
    rows = tx.rows("SELECT user_id, email FROM accounts")
    return [name for row in rows for name in (row["user_id"], row["email"]) if name]


def all_accounts(tx: Connection) -> list[Account]:
    """Every account, by user id."""
    return [Account.from_row(row) for row in tx.rows("SELECT * FROM accounts ORDER BY user_id")]


def due(tx: Connection, now_ms: int) -> list[str]:
    """The users whose period has ended or who hold a grant past its time: what they have is not what is written."""
    rows = tx.rows(
        "SELECT user_id FROM accounts WHERE period_end_ms <= :now OR id IN"
        " (SELECT account_id FROM grants WHERE remaining > 0 AND expires_at_ms <= :now) ORDER BY user_id",
        now=now_ms,
    )
    return [row["user_id"] for row in rows]


def set_email(tx: Connection, account: Account, email: str) -> None:
    """Keep the e-mail that a request showed."""
    tx.execute("UPDATE accounts SET email = :email WHERE id = :id", email=email, id=account.id)


def set_status(tx: Connection, account: Account, status: Status) -> None:
    """Block the account, or let it call again."""
    tx.execute("UPDATE accounts SET status = :status WHERE id = :id", status=status, id=account.id)


def block(tx: Connection, account: Account, now_ms: int, channels: Sequence[Channel] = ()) -> None:
    """Block the account, and tell the channels where it was not blocked before."""
    row = tx.row(
        "UPDATE accounts SET status = 'blocked' WHERE id = :id AND status <> 'blocked' RETURNING *", id=account.id
    )
    if row is not None:
        event = Event("blocked", now_ms, Account.from_row(row).standing)
        outbox.put(tx, account.id, event, str(now_ms), channels)


def rename(tx: Connection, account: Account, user: str) -> None:
    """Give the account another user id; its history goes with it. Raises Conflict where the id is taken."""
    if not user.strip() or len(user) > MAX_USER_LENGTH:
        raise LedgerError(f"a user id has 1 to {MAX_USER_LENGTH} characters; this one has {len(user)}")
    tx.lock(f"user {user}")
    if tx.row("SELECT 1 AS taken FROM accounts WHERE user_id = :user", user=user):
        raise Conflict(f"user {user!r} has an account already; choose another id")
    tx.execute("UPDATE accounts SET user_id = :user WHERE id = :id", user=user, id=account.id)


def erase(tx: Connection, account: Account) -> str:
    """Forget who the account belonged to (its numbers stay) and block it; the id it now has."""
    anonymous = f"erased-{account.id}"
    while tx.row("SELECT 1 AS taken FROM accounts WHERE user_id = :user", user=anonymous):
        anonymous += "-"  # somebody's id looks like that
    tx.execute(
        "UPDATE accounts SET user_id = :user, email = NULL, status = 'blocked' WHERE id = :id",
        user=anonymous,
        id=account.id,
    )
    tx.execute("UPDATE reservations SET conversation = NULL WHERE account_id = :id", id=account.id)
    outbox.forget(tx, account.id)
    return anonymous
