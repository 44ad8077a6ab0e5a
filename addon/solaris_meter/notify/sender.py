"""What all ways out have in common."""

from abc import ABC, abstractmethod

from solaris_meter.notify.message import Composed

TIMEOUT_S = 10.0
"""For a connection, and for each answer of the other side."""


class NotDelivered(Exception):
    """A message did not leave. The text says why, as the other side said it; it may still hold secrets."""


class Sender(ABC):
    """One channel, ready to send to one recipient."""

    @abstractmethod
    def send(self, message: Composed, now_ms: int) -> None:
        """Hand the message over; it waits for the other side. Raises NotDelivered."""
