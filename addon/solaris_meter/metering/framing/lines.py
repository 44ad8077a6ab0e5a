"""One JSON document a line (https://github.com/ndjson/ndjson-spec), as Ollama and Cohere v1 stream."""

from solaris_meter.metering.framing.framing import Event, Framing


class Lines(Framing):
    """Events end at a line feed; blank lines carry nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._searched = 0

    def _cut(self) -> list[Event]:
        end = self._buffer.rfind(b"\n", self._searched) + 1
        self._searched = 0 if end else len(self._buffer)
        if not end:
            return []
        whole = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = len(self._buffer)
        return [_event(line + b"\n") for line in whole[:-1].split(b"\n")]

    def flush(self) -> list[Event]:
        """The last line of a stream that ended without a line feed."""
        self._searched = 0
        rest = self._take()
        return [_event(rest)] if rest else []

    def encode(self, name: str | None, payload: str) -> bytes:
        return payload.encode() + b"\n"


def _event(raw: bytes) -> Event:
    return Event(raw, raw.strip() or None)
