"""Server-sent events, fed in any pieces (WHATWG HTML, 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re
from typing import NamedTuple

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""A stream that sends more than this without ending an event is not one."""

# CR, LF and CRLF all end a line; a CR at the end of the buffer may be half of a CRLF, so it ends nothing yet.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_BLANK = 4


class Event(NamedTuple):
    """One event. `raw` is its bytes as they came, blank line included; `data` its payload, None for mere comments."""

    raw: bytes
    data: bytes | None


class Decoder:
    """Cuts a byte stream into events, however the network cut it. `pending` is the beginning of the next event."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    @property
    def pending(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises ValueError for an event beyond MAX_EVENT_BYTES."""
        self._buffer += data
        events = []
        start = 0
        while found := _BLANK_LINE.search(self._buffer, max(start, self._searched)):
            events.append(_event(bytes(self._buffer[start : found.end()])))
            start = found.end()
        if start:
            del self._buffer[:start]
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        self._searched = max(0, len(self._buffer) - _LONGEST_BLANK)
        return events

    def flush(self) -> list[Event]:
        """The last event of a stream that ended without a blank line."""
        rest, self._buffer, self._searched = bytes(self._buffer), bytearray(), 0
        return [_event(rest)] if rest else []


def _event(raw: bytes) -> Event:
    line = raw.rstrip(b"\r\n")
    if line.startswith(b"data: ") and b"\n" not in line and b"\r" not in line:
        return Event(raw, line[6:])
    lines = []
    for line in _LINE_END.split(raw.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return Event(raw, b"\n".join(lines) if lines else None)


def encode(payload: str, event: str | None = None) -> bytes:
    """One event with a single-line payload."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {payload}\n\n".encode()
