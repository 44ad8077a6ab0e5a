"""The journal: settlements that the database could not take, kept in a file until it can.

One JSON object a line, synced to disk before `append` returns. Draining bills each line (`reservations.bill`, which may
be repeated) and empties the file only when every line is in the ledger. A lock on the file keeps processes apart.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from solaris_meter.ledger.reservations import Ask, Outcome


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A finished call that is not in the ledger: what it asked for when it began, and how it ended."""

    ask: Ask
    outcome: Outcome
    opened_ms: int


class Journal:
    """The journal file of one ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._decoder = msgspec.json.Decoder(Unsettled)

    def append(self, call: Unsettled) -> None:
        """Keep a settlement. Raises OSError when that is impossible as well."""
        with self._locked(os.O_CREAT | os.O_APPEND | os.O_WRONLY) as file:
            os.write(file, msgspec.json.encode(call) + b"\n")
            os.fsync(file)

    def drain(self, bill: Callable[[Unsettled], None]) -> int:
        """Bill every line, oldest first, then empty the file; how many there were.

        What `bill` raises ends the draining and leaves the file as it was.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            return 0
        with self._locked(os.O_RDWR) as file:
            lines = self.path.read_bytes().splitlines()
            for line in lines:
                bill(self._decoder.decode(line))
            os.ftruncate(file, 0)
            os.fsync(file)
        return len(lines)

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        file = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)
