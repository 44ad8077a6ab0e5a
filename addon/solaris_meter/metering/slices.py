"""Slices: a running answer's reservation is kept ahead of it, one slice of output tokens at a time."""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from solaris_meter.errors import LedgerError

EXTENSION_TIMEOUT_S = 5.0
"""Strict mode: how long an answer that used up its slice waits for the ledger before it is ended."""


class Slices:
    """Counts what an answer wrote and extends its reservation when half a slice is left.

    Tokenising is put off as long as it cannot matter: N bytes of text are at most N tokens. `count` counts a text at
    once; `extend` asks the ledger for so many tokens and gives a future of how many there were.
    """

    def __init__(
        self,
        granted_tokens: int,
        slice_tokens: int,
        *,
        strict: bool,
        count: Callable[[str], int],
        extend: Callable[[int], "Future[int]"],
    ) -> None:
        self.counted_tokens = 0
        self._granted = granted_tokens
        self._slice = slice_tokens
        self._strict = strict
        self._count = count
        self._extend = extend
        self._uncounted: list[str] = []
        self._uncounted_bytes = 0
        self._extension: Future[int] | None = None
        self._look_at = self._next_look()

    def wrote(self, text: str) -> bool:
        """Note generated text; whether the answer must end here, because nothing is left to pay for more (strict)."""
        self._uncounted.append(text)
        self._uncounted_bytes += len(text.encode("utf-8", "surrogatepass"))
        if self._uncounted_bytes < self._look_at:
            return False
        self.counted_tokens += self._count("".join(self._uncounted))
        self._uncounted.clear()
        self._uncounted_bytes = 0
        self._collect(0)
        self._ask()
        while self._left <= 0 and self._strict:
            # The event loop waits here, for one commit: a chunk more would be a chunk that nobody pays for.
            before = self._granted
            self._collect(EXTENSION_TIMEOUT_S)
            if self._granted == before:
                return True
            self._ask()
        self._look_at = self._next_look()
        return False

    def _ask(self) -> None:
        """Ask for another slice, and for what a large piece took beyond the last one."""
        if self._left <= self._slice // 2 and self._extension is None:
            self._extension = self._extend(self._slice + max(0, -self._left))

    @property
    def _left(self) -> int:
        return self._granted - self.counted_tokens

    def _next_look(self) -> int:
        """After how many bytes it is worth counting again."""
        if self._left <= 0:
            return 1 if self._strict else self._slice
        half = self._slice // 2
        return max(1, self._left - half if self._left > half else self._left)

    def _collect(self, timeout_s: float) -> None:
        """Take what the ledger granted, if it has answered (within `timeout_s`)."""
        extension = self._extension
        if extension is None or not (timeout_s or extension.done()):
            return
        self._extension = None
        try:
            self._granted += extension.result(timeout_s)
        except (LedgerError, FutureTimeoutError):
            return
