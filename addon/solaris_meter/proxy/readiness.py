"""Readiness: may this sidecar be sent calls, and if not, what is wrong and what to do."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from solaris_meter.errors import LedgerError
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.metering.tokens import TokenCounter

log = logging.getLogger(__name__)

WITHIN_S = 2.0
"""How long the ledger may take to commit; whoever probes usually waits for a few seconds."""
KEPT_S = 1.0
"""For how long a finding holds: probing costs a commit, and whoever reaches the port may ask."""
LEAST_FREE = 100 * 1024 * 1024
"""Bytes. SQLite and the journal need room to end what is running."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one thing. `remedy` says what to do where it is not ok."""

    subject: str
    ok: bool
    text: str
    remedy: str = ""


class Readiness:
    """Examines what serving calls needs. `folder` is where ledger and journal are written.

    `serves_without`: calls are served, and journalled, while the ledger is away (`ledger.on_error`).
    """

    def __init__(
        self,
        ledger: Ledger,
        counter: TokenCounter,
        folder: Path,
        *,
        within_s: float = WITHIN_S,
        serves_without: bool = False,
    ) -> None:
        self._counter = counter
        self._folder = folder
        self._within_s = within_s
        self._serves_without = serves_without
        self._ledger = Recent(lambda: asyncio.wrap_future(ledger.probe()), KEPT_S)
        self._disk = Recent(lambda: asyncio.ensure_future(asyncio.to_thread(free_space, folder)), KEPT_S)
        self.started = False
        self.stopping = False

    async def examine(self) -> list[Check]:
        """Every check, within `within_s` or little more."""
        if self.stopping:
            return [
                Check("serving", False, "stopping: running calls may end, new ones are refused", "wait, or start it")
            ]
        ledger, disk = await asyncio.gather(self._examine_ledger(), self._examine_disk())
        if self._serves_without and not ledger.ok:
            ledger = replace(ledger, ok=True, text=f"{ledger.text}; calls are journalled meanwhile")
        return [self._examine_start(), ledger, self._examine_litellm(), disk]

    def _examine_start(self) -> Check:
        if self.started:
            return Check("serving", True, "calls are taken")
        return Check("serving", False, "starting: calls wait until the ledger is in order", "wait a moment")

    async def _examine_ledger(self) -> Check:
        try:
            await self._ledger.get(self._within_s)
        except TimeoutError:
            text = f"did not commit a write within {self._within_s:g} s"
            return Check("ledger", False, text, "is another program holding its lock, or is the disk too slow?")
        except LedgerError as error:
            return Check("ledger", False, str(error), "solaris-cli doctor, and mend what it names")
        except Exception as error:
            log.warning("the ledger cannot be probed", exc_info=True)
            return Check("ledger", False, f"{type(error).__name__} while writing", "the log has the reason")
        return Check("ledger", True, "can be written")

    def _examine_litellm(self) -> Check:
        if self._counter.ready:
            return Check("litellm", True, "is loaded")
        if self._counter.failed:
            text = "cannot be loaded: tokens that no provider reports are estimated from bytes"
            return Check("litellm", False, text, "the log has the reason; install it again: pip install litellm")
        return Check("litellm", False, "is being loaded", "wait some seconds")

    async def _examine_disk(self) -> Check:
        try:
            free = await self._disk.get(self._within_s)
        except (TimeoutError, OSError) as error:
            text = f"{self._folder}: {error or 'no answer'}"
            return Check("disk", False, text, "make the folder of ledger.database one that can be written")
        text = f"{free // 2**20} MiB free in {self._folder}"
        if free < LEAST_FREE:
            return Check("disk", False, text, f"free some: at least {LEAST_FREE // 2**20} MiB are needed")
        return Check("disk", True, text)


class Recent[T]:
    """What a work gives, shared by all who ask while it runs and for `kept_s` after."""

    def __init__(self, work: "Callable[[], asyncio.Future[T]]", kept_s: float) -> None:
        self._work = work
        self._kept_s = kept_s
        self._running: asyncio.Future[T] | None = None
        self._began = 0.0

    async def get(self, within_s: float) -> T:
        """Raises TimeoutError where it takes longer; the work goes on and is not begun a second time. Raises what it
        raised."""
        now = asyncio.get_running_loop().time()
        if self._running is None or (self._running.done() and now - self._began > self._kept_s):
            self._began = now
            self._running = self._work()
            self._running.add_done_callback(_heed)
        async with asyncio.timeout(within_s):
            return await asyncio.shield(self._running)


def _heed(done: "asyncio.Future[Any]") -> None:
    """What it raised may be nobody's any more: asyncio would log that as an error."""
    if not done.cancelled():
        done.exception()


def free_space(folder: Path) -> int:
    """Bytes that this user can still write into a folder. Raises OSError where it cannot write there."""
    if not os.access(folder, os.W_OK):
        raise PermissionError("it cannot be written by this user")
    return shutil.disk_usage(folder).free
