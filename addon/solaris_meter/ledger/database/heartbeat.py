"""Heartbeats: how processes on one PostgreSQL tell that they are alive.

Each keeps a connection of its own that holds an advisory lock, and renews a row every few seconds. An owner is alive
while its lock is held *or* its row is fresh. The lock alone would be lost with every short loss of the network, and
what is taken for dead has its running calls charged at their lowest: so a process has `GRACE_S` to come back. The row
alone would be stale in a process that was halted for a while. All times are the server's, and nobody is dead sooner
than `GRACE_S` after the server itself started.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.database.engine import Connection

log = logging.getLogger(__name__)

BEAT_S = 5.0
GRACE_S = 30
_STOPPING_S = 2.0


class Heartbeat:
    """The heartbeat of one owner, in a thread of its own. `key` is the number of its advisory lock."""

    def __init__(self, connect: Callable[[], Connection], owner: str, key: int) -> None:
        self._connect = connect
        self._owner = owner
        self._key = key
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Be heard, and go on. Raises Unavailable."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Be dead. Where the database is away, that is seen later."""
        self._stopping.set()
        self._thread.join(_STOPPING_S)
        if self._thread.is_alive():  # it waits for a server that does not answer
            return
        with suppress(Unavailable):
            if self._connection is not None:
                self._connection.execute("DELETE FROM _alive WHERE owner = :owner", owner=self._owner)
        self._let_go()

    @staticmethod
    def is_heard(connection: Connection, owner: str, key: int) -> bool:
        """Whether the owner holds its lock, or was heard lately."""
        return bool(
            connection.value(
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND CAST(classid AS BIGINT) = :high AND CAST(objid AS BIGINT) = :low)"
                " OR EXISTS (SELECT 1 FROM _alive WHERE owner = :owner AND"
                " greatest(heard_at, pg_postmaster_start_time()) > clock_timestamp() - make_interval(secs => :grace))"
                " AS alive",
                high=key >> 32 & 0xFFFFFFFF,
                low=key & 0xFFFFFFFF,
                owner=owner,
                grace=GRACE_S,
            )
        )

    @staticmethod
    def sweep(connection: Connection) -> None:
        """Remove the rows of owners that nobody asks for any more; one that lives comes back by itself."""
        connection.execute("DELETE FROM _alive WHERE heard_at < clock_timestamp() - make_interval(days => 1)")

    def _run(self) -> None:
        silent = False
        while not self._stopping.wait(BEAT_S):
            try:
                self._beat()
            except Exception as error:
                if not silent:
                    log.warning("the ledger does not hear this process: %s", error)
                silent = True
                # A fresh connection, so that a lost one does not stay lost.
                self._let_go()
            else:
                if silent:
                    log.warning("the ledger hears this process again")
                silent = False

    def _beat(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
        # Not waiting: after a loss the server may still hold it for the connection that was lost. Held once by this
        # connection it is not taken again, for it would have to be given back as often.
        self._connection.rows(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
            " THEN TRUE ELSE pg_try_advisory_lock(:key) END",
            key=self._key,
        )
        self._connection.execute(
            "INSERT INTO _alive (owner, heard_at) VALUES (:owner, clock_timestamp())"
            " ON CONFLICT (owner) DO UPDATE SET heard_at = excluded.heard_at",
            owner=self._owner,
        )

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
