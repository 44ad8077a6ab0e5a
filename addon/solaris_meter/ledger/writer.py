"""The writer: one thread that owns the write connection and commits all waiting operations together.

Durability costs one fsync per batch instead of one per call. Each operation runs in its own savepoint, so that one that
fails takes nothing with it. A future is resolved only after the commit: what it returned is on disk.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from solaris_meter.errors import Contended, Unavailable
from solaris_meter.ledger.database import Connection, Engine

Operation = Callable[[Connection], Any]
MAX_BATCH = 256
"""Operations per commit: enough to fill the time of an fsync, few enough to keep the lock short."""
TRIES = 3
"""Of a job that another transaction stood in the way of."""


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Operation
    future: "Future[Any]"

    def resolve(self, outcome: Any) -> None:
        """Tell what came of it: a result, or an exception."""
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Writer:
    """Runs operations on the ledger in the order in which they were submitted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._closed = False
        # Nothing may be queued behind the end: it would never be answered.
        self._gate = threading.Lock()

    def start(self) -> None:
        """Begin to work. Jobs submitted before wait until then."""
        self._thread.start()

    def submit[T](self, operation: Callable[[Connection], T]) -> "Future[T]":
        """Have an operation run in a transaction; its future resolves after the commit.

        The future raises what the operation raised, or Unavailable when the database could not commit.
        """
        future: Future[T] = Future()
        with self._gate:
            if not self._closed:
                self._jobs.put(_Job(operation, future))
                return future
        future.set_exception(Unavailable("the ledger is closed: the sidecar is stopping"))
        return future

    def close(self) -> None:
        """Finish what was submitted, then stop. Later submissions raise Unavailable."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        ending = False
        while not ending:
            waiting, ending = self._next_batch()
            batch = [job for job in waiting if job.future.set_running_or_notify_cancel()]
            while batch:
                try:
                    connection = connection or self._engine.connect()
                    outcomes = _commit(connection, batch)
                except Exception as error:
                    # Nothing of the rest is on disk. A fresh connection, so that a lost one does not stay lost.
                    outcomes = [error] * len(batch)
                    if connection is not None:
                        connection.close()
                        connection = None
                for job, outcome in zip(batch, outcomes, strict=False):
                    job.resolve(outcome)
                batch = batch[len(outcomes) :]
        if connection is not None:
            connection.close()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """Everything that waits, after waiting for something; whether the end has come."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MAX_BATCH or self._jobs.empty():
                return batch, False
            job = self._jobs.get()
        return batch, True


def _commit(connection: Connection, batch: list[_Job]) -> list[Any]:
    """Run the first jobs of a batch in one transaction, at least one: a result or an exception for each.

    Whoever holds the lock of one account must not wait for another's: two processes would stop each other. Where a job
    cannot go on, what was done before is committed, and the job is the next one's first, which holds nothing and has
    time. Raises when nothing was committed.
    """
    for _ in range(TRIES):
        try:
            return [_commit_one(connection, batch[0])] if len(batch) == 1 else _commit_some(connection, batch)
        except Contended as error:
            contended = error
            batch = batch[:1]
    return [contended]


def _commit_some(connection: Connection, batch: list[_Job]) -> list[Any]:
    outcomes: list[Any] = []
    with connection.transaction():
        for job in batch:
            try:
                with connection.savepoint():
                    result = job.operation(connection)
            except Exception as error:
                if not connection.in_transaction:
                    raise
                if isinstance(error, Contended):
                    if not outcomes:
                        raise
                    break
                result = error
            outcomes.append(result)
            connection.hurry()
    return outcomes


def _commit_one(connection: Connection, job: _Job) -> Any:
    """The transaction is the savepoint."""
    try:
        with connection.transaction():
            return job.operation(connection)
    except Unavailable:
        raise
    except Exception as error:
        return error
