"""One JSON array whose elements arrive one by one, as Gemini streams without `alt=sse`."""

import re

from solaris_meter.metering.framing.framing import Event, Framing

_STRUCTURE = re.compile(rb'["\\{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')


class JsonArray(Framing):
    """Each object in the array is an event; what stands between two belongs to the later one.

    A document that is one object (an error) is one event.
    """

    def __init__(self) -> None:
        super().__init__()
        self._at = 0
        self._depth = 0
        self._start: int | None = None
        self._start_depth = 0
        self._in_string = False
        self._passed = False

    def _cut(self) -> list[Event]:
        events = []
        taken = 0
        buffer = self._buffer
        while found := (_IN_STRING if self._in_string else _STRUCTURE).search(buffer, self._at):
            mark = found[0]
            if mark == b"\\":
                if found.end() == len(buffer):
                    break  # what it escapes has not arrived
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark in b"{[":
                if mark == b"{" and self._start is None:
                    self._start, self._start_depth = found.start(), self._depth
                self._depth += 1
            else:
                self._depth -= 1
                if mark == b"}" and self._start is not None and self._depth <= self._start_depth:
                    events.append(Event(bytes(buffer[taken : self._at]), bytes(buffer[self._start : self._at])))
                    taken, self._start = self._at, None
        else:
            self._at = len(buffer)
        if taken:
            self._passed = True
            del buffer[:taken]
            self._at -= taken
            if self._start is not None:
                self._start -= taken
        return events

    def flush(self) -> list[Event]:
        """The end of the array, or of one that was cut short."""
        self._at, self._depth, self._start, self._in_string = 0, 0, None, False
        rest = self._take()
        return [Event(rest, None)] if rest else []

    def encode(self, name: str | None, payload: str) -> bytes:
        before, self._passed = b",\n" if self._passed else b"[", True
        return before + payload.encode()

    def end(self) -> bytes:
        return b"]"
