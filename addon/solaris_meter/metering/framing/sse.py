"""Server-sent events (WHATWG HTML, 9.2: https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re

from solaris_meter.metering.framing.framing import Event, Framing

# CR, LF and CRLF all end a line; a CR at the end of the buffer may be half of a CRLF, so it ends nothing yet.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_BLANK = 4


class ServerSentEvents(Framing):
    """Events end at a blank line. `data` is the joined `data:` lines, None for mere comments."""

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0

    def _cut(self) -> list[Event]:
        events = []
        start = 0
        while found := _BLANK_LINE.search(self._buffer, max(start, self._searched)):
            events.append(_event(bytes(self._buffer[start : found.end()])))
            start = found.end()
        if start:
            del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _LONGEST_BLANK)
        return events

    def flush(self) -> list[Event]:
        """The last event of a stream that ended without a blank line."""
        self._searched = 0
        rest = self._take()
        return [_event(rest)] if rest else []

    def encode(self, name: str | None, payload: str) -> bytes:
        head = f"event: {name}\n" if name else ""
        return f"{head}data: {payload}\n\n".encode()


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
