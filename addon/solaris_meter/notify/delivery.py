"""Delivery: one thread that leases what is due in the outbox, sends it, and notes how that went.

Any number of processes may do this on one ledger: a message belongs to whoever leased it, and nobody waits for a
process that died. Sending happens outside of any transaction, each message in a thread of its own, so that a mail
server that hangs keeps nobody else waiting for long.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from solaris_meter.chat.texts import Texts
from solaris_meter.errors import LedgerError
from solaris_meter.ledger import outbox
from solaris_meter.ledger.database import Connection, Engine
from solaris_meter.ledger.outbox import Message
from solaris_meter.notify.message import compose
from solaris_meter.notify.outlets import Outlets
from solaris_meter.notify.sender import NotDelivered

log = logging.getLogger(__name__)

POLL_S = 1.0
AT_ONCE = 8
LEASE_MS = 180_000
"""Longer than any sending takes, all its waiting included."""
FIRST_WAIT_MS = 5_000
LONGEST_WAIT_MS = 3_600_000
MAX_TRIES = 24
"""A server may be away for ten hours or so."""
STOPPING_S = 0.8
_ERROR_LENGTH = 500
_FREE_EVERY = 20


@dataclass(frozen=True, slots=True)
class _Done:
    """How a try went: no error, or why it failed."""

    message: Message
    error: str | None


class Delivery:
    """Empties the outbox for as long as it runs.

    `owner` is this process's name on its leases, which the engine must know to be alive. `clock_ms` and `chance` (a
    number from 0 to 1 for each delay) are passed in.
    """

    def __init__(
        self,
        engine: Engine,
        owner: str,
        outlets: Outlets,
        texts: Texts,
        clock_ms: Callable[[], int],
        chance: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._owner = owner
        self._outlets = outlets
        self._texts = texts
        self._clock_ms = clock_ms
        self._chance = chance
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._unnoted: deque[_Done] = deque()

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being sent has a moment to arrive. What does not, is sent by the next process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOPPING_S)

    def deliver(self, connection: Connection) -> int:
        """Lease what is due, up to AT_ONCE messages, send it, and note how it went; how many were tried.

        Raises Unavailable. What was sent then is noted by the next call, before anything else.
        """
        self._note(connection)
        now_ms = self._clock_ms()
        if not outbox.is_due(connection, self._outlets.ids, now_ms):
            return 0
        with connection.transaction():
            leased = outbox.claim(connection, self._owner, self._outlets.ids, now_ms, LEASE_MS, AT_ONCE)
        results: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        for message in leased:
            threading.Thread(target=self._send, args=(message, results), name="alert", daemon=True).start()
        for _ in leased:
            self._unnoted.append(results.get())
            self._note(connection)
        return len(leased)

    def free(self, connection: Connection) -> None:
        """Take back what processes had leased that died since. Raises Unavailable."""
        if all(self._engine.is_alive(owner) for owner in outbox.lease_owners(connection)):
            return
        with connection.transaction():
            outbox.free(connection, self._engine.is_alive)

    def _run(self) -> None:
        connection: Connection | None = None
        turn = 0
        while not self._stopping.is_set():
            tried = 0
            try:
                connection = connection or self._engine.connect()
                if turn % _FREE_EVERY == 0:
                    self.free(connection)
                turn += 1
                tried = self.deliver(connection)
            except Exception as error:
                # A fresh connection, so that a lost one does not stay lost.
                log.warning("alerts wait: %s", error, exc_info=not isinstance(error, LedgerError))
                if connection is not None:
                    connection.close()
                    connection = None
                self._stopping.wait(POLL_S * 5)
            if tried == 0:
                self._stopping.wait(POLL_S)
        if connection is not None:
            connection.close()

    def _send(self, message: Message, results: "queue.SimpleQueue[_Done]") -> None:
        try:
            composed = compose(message, self._texts)
            self._outlets.send(message.channel_id, message.recipient, composed, self._clock_ms())
        except NotDelivered as error:
            results.put(_Done(message, str(error)))
        except Exception as error:
            log.warning("alert %d cannot be written", message.id, exc_info=True)
            results.put(_Done(message, f"{type(error).__name__}: {error}"))
        else:
            results.put(_Done(message, None))

    def _note(self, connection: Connection) -> None:
        while self._unnoted:
            done = self._unnoted[0]
            with connection.transaction():
                self._note_one(connection, done)
            self._unnoted.popleft()

    def _note_one(self, tx: Connection, done: _Done) -> None:
        message, now_ms = done.message, self._clock_ms()
        if done.error is None:
            outbox.sent(tx, message, self._owner, now_ms)
            log.info("alert %d (%s) went to %s", message.id, message.event.kind, message.channel)
            return
        error = done.error[:_ERROR_LENGTH]
        again_ms = wait_ms(message.tries, self._chance()) if message.tries < MAX_TRIES else None
        outbox.failed(tx, message, self._owner, error, None if again_ms is None else now_ms + again_ms)
        what = (
            "nobody tries again: 'solaris-cli alerts resend'" if again_ms is None else f"again in {again_ms // 1000} s"
        )
        log.warning(
            "alert %d did not go to %s (try %d; %s): %s", message.id, message.channel, message.tries, what, error
        )


def wait_ms(tries: int, chance: float) -> int:
    """How long to wait after so many tries: twice as long each time, less up to a half by `chance` (0 to 1), so that
    messages that failed together do not come back together."""
    longest: int = min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(tries - 1, 30))
    return round(longest * (1 - chance / 2))
