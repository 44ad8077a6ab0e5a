"""The ledger in mitmweb's command bar: `solaris.balance ana`, `solaris.credit ana 500K pix-17`, `solaris.block ana`.

mitmproxy runs a command on the event loop and shows what it returns, so each waits for the ledger, but not for long.
"""

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import cast

from mitmproxy import command
from mitmproxy.exceptions import CommandError

from solaris_meter.amounts import parse_tokens
from solaris_meter.errors import SolarisError
from solaris_meter.ledger.credits import Applied
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.models import Standing, Status
from solaris_meter.periods import to_iso

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
"""Every stream stands still meanwhile. An operation takes milliseconds, unless another process holds the database."""


def _command[F](name: str) -> Callable[[F], F]:
    """mitmproxy's decorator, which says nothing of types."""
    return cast(Callable[[F], F], command.command(name))


class Commands:
    """USER is an id, an e-mail, or a unique prefix of either; amounts are written as for solaris-cli."""

    def __init__(self, ledger: Ledger, clock_ms: Callable[[], int], patience_s: float = _PATIENCE_S) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._patience_s = patience_s

    @_command("solaris.balance")
    def balance(self, user: str) -> str:
        """What USER has left."""
        standing = self._wait(self._ledger.standing(user, self._clock_ms()))
        return _balance(standing)

    @_command("solaris.usage")
    def usage(self, user: str) -> str:
        """What USER used, by model."""
        rows = self._wait(self._ledger.usage(user))
        lines = [
            f"{row['model']}: {row['calls']:,} calls, {row['input_tokens']:,} in + {row['output_tokens']:,} out,"
            f" {row['billed_tokens']:,} billed" + (f", ${row['cost_usd']:,.4f}" if row["cost_usd"] is not None else "")
            for row in rows
        ]
        return "; ".join(lines) or "nothing was used"

    @_command("solaris.credit")
    def credit(self, user: str, amount: str, reference: str = "") -> str:
        """Add tokens that USER bought; the same REFERENCE twice changes nothing the second time."""
        tokens = self._parsed(amount)
        # So that a credit of which nothing is known after a while can be repeated without being given twice.
        reference = reference or f"mitmweb-{uuid.uuid4().hex[:12]}"
        booking = self._ledger.credit(user, tokens, self._clock_ms(), reference=reference, note="mitmweb")
        result = _applied(
            self._wait(
                booking,
                f"it is not known yet whether it was booked: look with solaris.balance {user}, or repeat it as"
                f" 'solaris.credit {user} {amount} {reference}', which books it once",
            )
        )
        log.info("mitmweb: %s", result)
        return result

    @_command("solaris.block")
    def block(self, user: str) -> str:
        """Refuse every call of USER; the balance stays."""
        return self._set_status(user, "blocked")

    @_command("solaris.unblock")
    def unblock(self, user: str) -> str:
        """Let USER call again."""
        return self._set_status(user, "active")

    def _set_status(self, user: str, status: Status) -> str:
        standing = self._wait(
            self._ledger.set_status(user, status, self._clock_ms()),
            f"it is not known yet whether it was done: look with solaris.balance {user}",
        )
        log.info("mitmweb: %s is %s", standing.user, standing.status)
        return f"{standing.user} is {standing.status}"

    def _parsed(self, amount: str) -> int:
        try:
            return parse_tokens(amount)
        except SolarisError as error:
            raise CommandError(str(error)) from error

    def _wait[T](self, future: "Future[T]", doubt: str = "try again") -> T:
        """The result of an operation. Raises CommandError, with `doubt` where it may still happen."""
        try:
            return future.result(self._patience_s)
        except (FutureTimeoutError, CancelledError) as error:
            if future.cancel():
                raise CommandError("the ledger is busy: nothing was changed, try again") from error
            raise CommandError(f"the ledger is busy: {doubt}") from error
        except SolarisError as error:
            raise CommandError(str(error)) from error


def _balance(standing: Standing) -> str:
    who = f"{standing.user} ({standing.email})" if standing.email else standing.user
    end_ms = standing.period.end_ms
    parts = [
        f"{who}: {standing.available:,} left of {standing.limit:,}",
        f"{standing.percent_used} % used",
        f"plan {standing.plan}",
        standing.status,
        f"until {to_iso(end_ms)}" if end_ms is not None else "no end",
    ]
    if standing.reserved:
        parts.insert(1, f"{standing.reserved:,} reserved")
    return " · ".join(parts)


def _applied(applied: Applied) -> str:
    entry, standing = applied.entry, applied.standing
    if applied.repeated:
        return (
            f"reference {entry.reference!r} was used for this at {to_iso(entry.at_ms)} already: nothing was changed. "
            f"{standing.user} has {standing.balance:,} tokens."
        )
    return f"{entry.kind} {entry.amount:+,} → {standing.user} has {standing.balance:,} tokens ({entry.reference})"
