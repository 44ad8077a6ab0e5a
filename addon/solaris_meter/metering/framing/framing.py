"""What every framing can do: cut a byte stream into events, however the network cut it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""A stream that sends more than this without ending an event is not what it says it is."""


class Event(NamedTuple):
    """One event. `raw` is its bytes as they came, with what divides it from the next; `data` its payload, None where
    it carries none."""

    raw: bytes
    data: bytes | None


class Framing(ABC):
    """The state of one stream. `pending` is the beginning of the next event."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises ValueError for a stream that is not of this framing."""
        self._buffer += data
        events = self._cut()
        # What came before the fault is read first: it is told with the next bytes.
        if not events and len(self._buffer) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    @abstractmethod
    def flush(self) -> list[Event]:
        """What is left of a stream that ended."""

    @abstractmethod
    def encode(self, name: str | None, payload: str) -> bytes:
        """An event as it stands in the stream; `name` is its type, where the framing has such a thing."""

    def end(self) -> bytes:
        """What stands after the last event."""
        return b""

    @abstractmethod
    def _cut(self) -> list[Event]:
        """Take the complete events out of the buffer."""

    def _take(self) -> bytes:
        """Everything in the buffer, which is empty then."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest
