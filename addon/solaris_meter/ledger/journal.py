"""The journal: settlements that the database could not take, kept in a file until it can.

One JSON object a line, synced to disk before `append` returns. Draining bills each line (`reservations.bill`, which may
be repeated) and empties the file only when every line is in the ledger. A lock on the file keeps processes apart.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from solaris_meter.errors import Unavailable
from solaris_meter.ledger.reservations import Ask, Outcome

log = logging.getLogger(__name__)


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
        """Keep a settlement. Raises OSError when that is impossible as well; the file is then as it was."""
        self.add(msgspec.json.encode(call) + b"\n")

    def add(self, lines: bytes) -> None:
        """Keep lines of another journal, each ended. Raises OSError; the file is then as it was."""
        with self._locked() as file:
            size = os.fstat(file).st_size
            # A line that a crash left unfinished is ended first: this one must not be glued to it.
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            try:
                _write(file, b"\n" * torn + lines)
                os.fsync(file)
            except OSError:
                os.ftruncate(file, size)
                raise

    def waiting(self) -> int:
        """How many calls wait to be billed; 0 also where the file cannot be read."""
        try:
            return self.path.read_bytes().count(b"\n")
        except OSError:
            return 0

    @contextmanager
    def held(self) -> Iterator[bytes]:
        """The whole lines of the journal, while nobody adds to them or bills them. It makes no file."""
        if not self.path.exists():
            yield b""
            return
        with self._locked():
            content = self.path.read_bytes()
            yield content[: content.rfind(b"\n") + 1]

    def drain(self, bill: Callable[[Unsettled], object]) -> int:
        """Bill every line, oldest first, then empty the file; how many were billed.

        An Unavailable that `bill` raises ends the draining and leaves the file as it was. A line that cannot be read,
        because a crash tore it, or that the ledger refuses for another reason is moved to a file beside the journal.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            return 0
        with self._locked() as file:
            refused = []
            billed = 0
            for line in self.path.read_bytes().splitlines():
                try:
                    bill(self._decoder.decode(line))
                except Unavailable:
                    raise
                except Exception as error:
                    log.error("a journalled call cannot be billed: %s", error)
                    refused.append(line)
                else:
                    billed += 1
            if refused:
                self._set_aside(refused)
            os.ftruncate(file, 0)
            os.fsync(file)
        return billed

    def _set_aside(self, lines: list[bytes]) -> None:
        aside = self.path.with_suffix(".refused.jsonl")
        with aside.open("ab") as rest:
            rest.write(b"\n".join(lines) + b"\n")
            rest.flush()
            os.fsync(rest.fileno())
        log.error("%d journalled calls were not billed; they are in %s", len(lines), aside)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _write(file: int, data: bytes) -> None:
    """All of it: a nearly full disk takes a part and says so only by the count."""
    while data:
        data = data[os.write(file, data) :]
