"""Reservations: reserve → settle | void, extended while an answer streams, recovered when its process died.

Each function is one transaction's work and takes the account's row first. All but `reserve`, whose id is new, may be
repeated: a reservation that was settled or voided stays what it is.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from solaris_meter.channels import Channel
from solaris_meter.errors import LedgerError
from solaris_meter.ledger import accounts, alerts, entries, grants, notices, rates, renewals
from solaris_meter.ledger.accounts import Account, NewAccount
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.ledger.rates import Rates
from solaris_meter.models import CallDetails, Caller, Overdraft, Standing, Usage


@dataclass(frozen=True, slots=True)
class Ask:
    """What a call asks for. Token counts are the model's tokens; the rates in force make billed tokens of them.

    `input_tokens` is exact or, with `exact` false, an upper bound. `output_tokens` is what must be free for the answer
    to begin; up to `output_wish` is taken where it is free (a call whose answer cannot be extended). `input_floor` is
    the input that is charged if the call's process dies. `images` pictures and `audio_ms` milliseconds of sound will
    be paid besides the tokens; they are held with the input.
    """

    id: str
    caller: Caller
    details: CallDetails
    input_tokens: int
    exact: bool
    output_tokens: int
    output_wish: int
    input_floor: int
    overdraft: Overdraft
    owner: str
    expires_at_ms: int
    images: int = 0
    audio_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reserved:
    """The call may go: `tokens` billed tokens are held for it.

    What they leave after the input pays for `output_tokens` tokens of the model's answer, which may be more than was
    asked for where a billed token pays for several. Where output is free: what was wished for. `unshown` are the
    thresholds that the person was not told of in the chat yet.
    """

    id: str
    tokens: int
    output_tokens: int
    standing: Standing
    rates: Rates
    unshown: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not go, and waiting does not help. No standing: the user is unknown and accounts are not created."""

    reason: Literal["account_blocked", "tokens_exhausted", "account_unknown"]
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class MustWait:
    """There is a balance, but running calls hold what this one needs."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class MustCount:
    """The bound on the input is too coarse for what is available: count it and ask again."""

    standing: Standing


Decision = Reserved | Refused | MustWait | MustCount


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `status` is the upstream's HTTP status.

    `cost_nano_usd` is what the provider takes for it, in thousand-millionths of a US dollar; None where that is not
    known.
    """

    usage: Usage
    status: int
    interrupted: bool
    duration_ms: int
    recovered: bool = False
    cost_nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A settled call. `crossed`: the thresholds it was the first to cross. `repeated`: it had been settled before, and
    `billed_tokens`, what it was charged, is 0."""

    standing: Standing
    billed_tokens: int = 0
    crossed: tuple[int, ...] = ()
    repeated: bool = False


def reserve(tx: Connection, ask: Ask, new: NewAccount, now_ms: int, thresholds: Iterable[int] = ()) -> Decision:
    """Decide whether a call may go, and hold the tokens for it if so (design of admission: see metering.admission).

    The rates that are in force now become the call's own.
    """
    caller = ask.caller
    if not new.create and accounts.lock(tx, caller.user) is None:
        return Refused("account_unknown", None)
    account = renewals.touch(tx, caller.user, now_ms, new, caller.email)
    if caller.email and caller.email != account.email:
        accounts.set_email(tx, account, caller.email)
        account = replace(account, email=caller.email)
    standing = account.standing
    if account.status == "blocked":
        return Refused("account_blocked", standing)
    if account.balance <= 0:
        return Refused("tokens_exhausted", standing)
    own = _rates(tx, ask, now_ms)
    wish = max(ask.output_tokens, ask.output_wish)
    read = own.billed_input(ask.input_tokens, ask.images, ask.audio_ms)
    available = max(0, standing.available)  # an allowance that expired under running calls leaves less than nothing
    if not ask.exact and own.billed_input(ask.input_tokens) * 10 > available:
        return MustCount(standing)
    if available >= read + own.billed_output(ask.output_tokens):
        tokens = min(available, read + own.billed_output(wish))
    elif account.reserved > 0:
        return MustWait(standing)
    elif ask.overdraft == "strict" and (read > available or own.output_for(available - read, wish) == 0):
        return Refused("tokens_exhausted", standing)
    else:
        tokens = available
    _insert(tx, account, ask, own, tokens, now_ms)
    standing = replace(standing, reserved=standing.reserved + tokens)
    unshown = notices.unshown(tx, account, thresholds)
    return Reserved(ask.id, tokens, own.output_for(tokens - read, wish), standing, own, unshown)


def claim_notice(
    tx: Connection, reservation_id: str, usage: Usage, thresholds: Iterable[int], now_ms: int
) -> tuple[int, Standing] | None:
    """Claim a threshold for a running call that is going to have used so much: it and how the account will stand.

    None where none is reached that was not shown before, by whichever call.
    """
    pending = _lock_pending(tx, reservation_id)
    if pending is None:
        return None
    account, row = pending
    billed = Rates.decode(row["rates"]).billed(usage)
    account = replace(account, used=account.used + billed, balance=account.balance - billed)
    threshold = notices.claim(tx, account, thresholds, reservation_id, now_ms)
    return None if threshold is None else (threshold, account.standing)


def extend(tx: Connection, reservation_id: str, tokens: int, expires_at_ms: int) -> int:
    """Hold what `tokens` more of the answer cost, as far as it is there; for how many that pays (0: nothing is left).

    They may be more than was asked for where a billed token pays for several.
    """
    pending = _lock_pending(tx, reservation_id)
    if pending is None:
        return 0
    account, row = pending
    own = Rates.decode(row["rates"])
    granted = max(0, min(own.billed_output(tokens), account.standing.available))
    tx.execute(
        "UPDATE reservations SET reserved = reserved + :tokens, expires_at_ms = :expires WHERE id = :id",
        tokens=granted,
        expires=expires_at_ms,
        id=reservation_id,
    )
    _change_reserved(tx, account, granted)
    return own.output_for(granted, tokens)


def settle(
    tx: Connection,
    reservation_id: str,
    outcome: Outcome,
    thresholds: Iterable[int],
    now_ms: int,
    channels: Sequence[Channel] = (),
) -> Settled:
    """Charge a call at the rates it began with: its usage event, its usage entry, and the alerts it sets off.

    The alerts are written for each of the channels.

    Debt is possible. Raises LedgerError for a reservation that never was, or that was voided.
    """
    pending = _lock_pending(tx, reservation_id)
    if pending is None:
        return _settled_before(tx, reservation_id)
    account, row = pending
    account = renewals.up_to_date(tx, account, now_ms)
    return _charge(tx, account, row, outcome, thresholds, now_ms, channels)


def price(tx: Connection, reservation_id: str, cost_nano_usd: int) -> None:
    """Note what a settled call cost, which was not known when it was settled. What was known stays."""
    tx.execute(
        "UPDATE usage_events SET cost_nano_usd = :cost WHERE id = :id AND cost_nano_usd IS NULL",
        cost=cost_nano_usd,
        id=reservation_id,
    )


def void(tx: Connection, reservation_id: str, now_ms: int) -> Standing | None:
    """Give back what was held for a call that owes nothing. None where it was not pending any more."""
    pending = _lock_pending(tx, reservation_id)
    if pending is None:
        return None
    account, row = pending
    return _close(tx, account, row, "void", now_ms).standing


def renew(tx: Connection, reservation_ids: Sequence[str], expires_at_ms: int) -> None:
    """Keep the reservations of running calls from expiring."""
    for reservation_id in reservation_ids:
        tx.execute(
            "UPDATE reservations SET expires_at_ms = :expires WHERE id = :id AND state = 'pending'",
            expires=expires_at_ms,
            id=reservation_id,
        )


def recover(
    tx: Connection,
    me: str,
    running: Collection[str],
    is_alive: Callable[[str], bool],
    thresholds: Iterable[int],
    now_ms: int,
    channels: Sequence[Channel] = (),
) -> list[str]:
    """Settle what was left behind; the ids.

    Left behind is what belongs to a dead owner, and what belongs to this one (`me`), is not among its `running` calls
    and has expired. Another owner's calls are its own for as long as it lives. What is left behind is charged its input
    floor, basis `estimated`, flagged `recovered`; with a floor of 0 it is voided.
    """
    living: dict[str, bool] = {me: True}
    found = []
    for row in tx.rows(
        "SELECT id, owner, expires_at_ms FROM reservations WHERE state = 'pending' ORDER BY created_at_ms, id"
    ):
        if row["owner"] not in living:
            living[row["owner"]] = is_alive(row["owner"])
        lost = row["owner"] == me and row["id"] not in running and row["expires_at_ms"] <= now_ms
        if not lost and living[row["owner"]]:
            continue
        pending = _lock_pending(tx, row["id"])
        if pending is not None:
            _recover_one(tx, *pending, thresholds, now_ms, channels)
            found.append(row["id"])
    return found


def owner(tx: Connection, reservation_id: str) -> str | None:
    """The owner of a pending reservation; None where it is not pending."""
    row = tx.row("SELECT owner FROM reservations WHERE id = :id AND state = 'pending'", id=reservation_id)
    return str(row["owner"]) if row else None


def bill(
    tx: Connection,
    ask: Ask,
    outcome: Outcome,
    new: NewAccount,
    thresholds: Iterable[int],
    opened_ms: int,
    now_ms: int,
    channels: Sequence[Channel] = (),
) -> Settled:
    """Charge a call that was served while the ledger was away, at the rates that were in force when it was opened.

    Nothing is reserved. Repeating is harmless.
    """
    if not _is_known(tx, ask.id):
        account = renewals.touch(tx, ask.caller.user, now_ms, new, ask.caller.email)
        if not _is_known(tx, ask.id):  # a reservation whose commit nobody heard of may have held the lock
            _insert(tx, account, ask, _rates(tx, ask, opened_ms), 0, opened_ms)
    return settle(tx, ask.id, outcome, thresholds, now_ms, channels)


def _is_known(tx: Connection, reservation_id: str) -> bool:
    return tx.row("SELECT 1 AS known FROM reservations WHERE id = :id", id=reservation_id) is not None


def _rates(tx: Connection, ask: Ask, at_ms: int) -> Rates:
    return rates.resolve(tx, ask.details.provider, ask.details.model, at_ms)


def _insert(tx: Connection, account: Account, ask: Ask, own: Rates, tokens: int, now_ms: int) -> None:
    details = ask.details
    tx.execute(
        "INSERT INTO reservations (id, account_id, state, reserved, input_floor, owner, provider, model, dialect,"
        " endpoint, stream, conversation, created_at_ms, expires_at_ms, rates) VALUES (:id, :account, 'pending',"
        " :tokens, :floor, :owner, :provider, :model, :dialect, :endpoint, :stream, :conversation, :now, :expires,"
        " :rates)",
        id=ask.id,
        account=account.id,
        tokens=tokens,
        floor=ask.input_floor,
        owner=ask.owner,
        provider=details.provider,
        model=details.model,
        dialect=details.dialect,
        endpoint=details.endpoint,
        stream=int(details.stream),
        conversation=ask.caller.conversation,
        now=now_ms,
        expires=ask.expires_at_ms,
        rates=own.encode(),
    )
    _change_reserved(tx, account, tokens)


def _lock_pending(tx: Connection, reservation_id: str) -> tuple[Account, Row] | None:
    """The account's row, locked, and then its reservation: what was read before the lock may have changed."""
    locked = tx.row(
        "UPDATE accounts SET reserved = reserved WHERE id ="
        " (SELECT account_id FROM reservations WHERE id = :id) RETURNING *",
        id=reservation_id,
    )
    row = tx.row("SELECT * FROM reservations WHERE id = :id AND state = 'pending'", id=reservation_id)
    return (Account.from_row(locked), row) if locked and row else None


def _change_reserved(tx: Connection, account: Account, tokens: int) -> Account:
    tx.execute("UPDATE accounts SET reserved = reserved + :tokens WHERE id = :id", tokens=tokens, id=account.id)
    return replace(account, reserved=account.reserved + tokens)


def _close(tx: Connection, account: Account, row: Row, state: Literal["settled", "void"], now_ms: int) -> Account:
    tx.execute(
        "UPDATE reservations SET state = :state, closed_at_ms = :now WHERE id = :id",
        state=state,
        now=now_ms,
        id=row["id"],
    )
    return _change_reserved(tx, account, -row["reserved"])


def _charge(
    tx: Connection,
    account: Account,
    row: Row,
    outcome: Outcome,
    thresholds: Iterable[int],
    now_ms: int,
    channels: Sequence[Channel],
) -> Settled:
    usage = outcome.usage
    billed = Rates.decode(row["rates"]).billed(usage)
    account = _close(tx, account, row, "settled", now_ms)
    tx.execute(
        "INSERT INTO usage_events (id, account_id, at_ms, status, interrupted, recovered, input_tokens,"
        " cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, images, audio_ms, billed_tokens,"
        " cost_nano_usd, basis, duration_ms) VALUES (:id, :account, :now, :status, :interrupted, :recovered, :input,"
        " :cached, :cache_write, :output, :reasoning, :images, :audio, :billed, :cost, :basis, :duration)",
        id=row["id"],
        account=account.id,
        now=now_ms,
        status=outcome.status,
        interrupted=int(outcome.interrupted),
        recovered=int(outcome.recovered),
        input=usage.input_tokens,
        cached=usage.cached_input_tokens,
        cache_write=usage.cache_write_tokens,
        output=usage.output_tokens,
        reasoning=usage.reasoning_tokens,
        images=usage.images,
        audio=usage.audio_ms,
        billed=billed,
        cost=outcome.cost_nano_usd,
        basis=usage.basis,
        duration=outcome.duration_ms,
    )
    split = grants.burn(tx, account, billed)
    account, _ = entries.post(tx, account, "usage", split, now_ms, usage_event_id=row["id"])
    tx.execute("UPDATE accounts SET used = used + :billed WHERE id = :id", billed=billed, id=account.id)
    account = replace(account, used=account.used + billed)
    return Settled(account.standing, billed, alerts.record(tx, account, thresholds, row["id"], now_ms, channels))


def _recover_one(
    tx: Connection,
    account: Account,
    row: Row,
    thresholds: Iterable[int],
    now_ms: int,
    channels: Sequence[Channel],
) -> None:
    floor = row["input_floor"]
    if floor == 0:
        _close(tx, account, row, "void", now_ms)
        return
    outcome = Outcome(
        Usage(floor, 0, "estimated"),
        status=0,
        interrupted=True,
        duration_ms=max(0, now_ms - row["created_at_ms"]),
        recovered=True,
    )
    _charge(tx, renewals.up_to_date(tx, account, now_ms), row, outcome, thresholds, now_ms, channels)


def _settled_before(tx: Connection, reservation_id: str) -> Settled:
    row = tx.row("SELECT account_id, state FROM reservations WHERE id = :id", id=reservation_id)
    if row is None or row["state"] != "settled":
        state = "unknown" if row is None else row["state"]
        raise LedgerError(f"reservation {reservation_id} cannot be settled: it is {state}")
    return Settled(accounts.lock_by_id(tx, row["account_id"]).standing, repeated=True)
