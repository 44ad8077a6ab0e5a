"""The ledger as a running process uses it: every operation a future that resolves after its commit."""

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from solaris_meter.channels import Channel
from solaris_meter.ledger import accounts, audits, backlog, credits, notices, overview, renewals, reports, reservations
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.credits import Applied
from solaris_meter.ledger.database import Connection, Engine
from solaris_meter.ledger.journal import Journal, Unsettled
from solaris_meter.ledger.overview import Overview
from solaris_meter.ledger.reservations import Ask, Decision, Outcome, Settled
from solaris_meter.ledger.writer import Writer
from solaris_meter.models import Caller, Standing, Status, Usage

RESERVATION_LIFE_MS = 120_000
"""How long a reservation lives without being renewed or extended; six times the interval of renewal."""


class Ledger:
    """One process's hold on a ledger. `owner` is the process's name on its reservations, unique for ever.

    Alerts are written for each of the `channels`; delivering them is somebody else's work.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        new: NewAccount,
        thresholds: Sequence[int],
        channels: Sequence[Channel] = (),
    ) -> None:
        self.owner = owner
        self._engine = engine
        self._new = new
        self._thresholds = tuple(thresholds)
        self._channels = tuple(channels)
        self._writer = Writer(engine)
        self._journal = Journal(engine.journal)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ledger-reader")

    def open(self) -> None:
        """Bring the schema up to date, mark this process as alive, and begin. Raises Unavailable."""
        self._engine.migrate()
        self._engine.claim(self.owner)
        self._engine.sweep()
        self._writer.start()

    def close(self) -> None:
        """Finish what was begun and let go."""
        self._reader.shutdown(cancel_futures=True)
        self._writer.close()
        self._engine.release(self.owner)

    def reserve(self, ask: Ask, now_ms: int) -> "Future[Decision]":
        """See `reservations.reserve`."""
        return self._writer.submit(lambda tx: reservations.reserve(tx, ask, self._new, now_ms, self._thresholds))

    def claim_notice(self, reservation_id: str, usage: Usage, now_ms: int) -> "Future[tuple[int, Standing] | None]":
        """See `reservations.claim_notice`."""
        return self._writer.submit(
            lambda tx: reservations.claim_notice(tx, reservation_id, usage, self._thresholds, now_ms)
        )

    def release_notice(self, reservation_id: str) -> "Future[None]":
        """See `notices.release`."""
        return self._writer.submit(lambda tx: notices.release(tx, reservation_id))

    def overview(self, caller: Caller, now_ms: int) -> "Future[Overview]":
        """See `overview.of_caller`."""
        return self._writer.submit(lambda tx: overview.of_caller(tx, caller, self._new, now_ms))

    def standing(self, user: str, now_ms: int) -> "Future[Standing]":
        """How the account stands that an id, an e-mail or a unique prefix means. Raises UnknownName, Conflict."""
        return self._writer.submit(lambda tx: _touched(tx, user, now_ms).standing)

    def credit(
        self, user: str, amount: int, now_ms: int, *, reference: str | None, note: str | None = None
    ) -> "Future[Applied]":
        """See `credits.give`; `user` as for `standing`."""

        def give(tx: Connection) -> Applied:
            name = accounts.find(tx, user).user
            return credits.give(
                tx, name, "credit", amount, now_ms, reference=reference, note=note, channels=self._channels
            )

        return self._writer.submit(give)

    def set_status(self, user: str, status: Status, now_ms: int) -> "Future[Standing]":
        """Block an account, or let it call again; `user` as for `standing`."""

        def change(tx: Connection) -> Standing:
            account = _touched(tx, user, now_ms)
            if status == "blocked":
                accounts.block(tx, account, now_ms, self._channels)
            else:
                accounts.set_status(tx, account, status)
            return accounts.get(tx, account.user).standing

        return self._writer.submit(change)

    def usage(self, user: str) -> "Future[list[dict[str, Any]]]":
        """See `reports.usage`, by model; `user` as for `standing`. It is read beside the writer, which goes on."""

        def read() -> list[dict[str, Any]]:
            connection = self._engine.connect()
            try:
                with connection.snapshot():
                    return reports.usage(connection, "model", accounts.find(connection, user).id)
            finally:
                connection.close()

        return self._reader.submit(read)

    def extend(self, reservation_id: str, tokens: int, now_ms: int) -> "Future[int]":
        """See `reservations.extend`."""
        expires = now_ms + RESERVATION_LIFE_MS
        return self._writer.submit(lambda tx: reservations.extend(tx, reservation_id, tokens, expires))

    def settle(self, reservation_id: str, outcome: Outcome, now_ms: int) -> "Future[Settled]":
        """See `reservations.settle`."""
        return self._writer.submit(
            lambda tx: reservations.settle(tx, reservation_id, outcome, self._thresholds, now_ms, self._channels)
        )

    def bill(self, call: Unsettled, now_ms: int) -> "Future[Settled]":
        """See `reservations.bill`."""
        return self._writer.submit(
            lambda tx: reservations.bill(
                tx, call.ask, call.outcome, self._new, self._thresholds, call.opened_ms, now_ms, self._channels
            )
        )

    def price(self, reservation_id: str, cost_nano_usd: int) -> "Future[None]":
        """See `reservations.price`."""
        return self._writer.submit(lambda tx: reservations.price(tx, reservation_id, cost_nano_usd))

    def void(self, reservation_id: str, now_ms: int) -> "Future[Standing | None]":
        """See `reservations.void`."""
        return self._writer.submit(lambda tx: reservations.void(tx, reservation_id, now_ms))

    def renew(self, reservation_ids: Sequence[str], now_ms: int) -> "Future[None]":
        """See `reservations.renew`."""
        return self._writer.submit(lambda tx: reservations.renew(tx, reservation_ids, now_ms + RESERVATION_LIFE_MS))

    def recover(self, running: Collection[str], now_ms: int) -> "Future[list[str]]":
        """See `reservations.recover`; `running` are this process's own calls."""
        return self._writer.submit(
            lambda tx: reservations.recover(
                tx, self.owner, running, self._engine.is_alive, self._thresholds, now_ms, self._channels
            )
        )

    def audit(self, usage_event_id: str, counted_input: int, counted_output: int | None) -> "Future[bool]":
        """See `audits.record`."""
        return self._writer.submit(lambda tx: audits.record(tx, usage_event_id, counted_input, counted_output))

    def probe(self) -> "Future[None]":
        """See `backlog.probe`."""
        return self._writer.submit(backlog.probe)

    def journalled(self) -> int:
        """How many calls wait in the journal."""
        return self._journal.waiting()

    def keep(self, call: Unsettled) -> None:
        """Journal a call that the database could not take. Raises OSError."""
        self._journal.append(call)

    def drain(self, now_ms: int) -> int:
        """Bill what the journal holds, waiting for each; how many calls. Raises Unavailable, OSError: it stays."""
        return self._journal.drain(lambda call: self.bill(call, now_ms).result())


def _touched(tx: Connection, user: str, now_ms: int) -> accounts.Account:
    return renewals.touch(tx, accounts.find(tx, user).user, now_ms)
