"""The binary messages in which AWS streams
(https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html; the same encoding in every service).

A message: total length, header length and their CRC-32, each four bytes; headers; payload; CRC-32 of it all.
"""

import json
import struct
import zlib

from solaris_meter.metering.framing.framing import MAX_EVENT_BYTES, Event, Framing

_PRELUDE = struct.Struct(">III")
_CRC_BYTES = 4
_LEAST_BYTES = _PRELUDE.size + _CRC_BYTES
_FIXED_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_STRING = 7
_SIZED = (6, _STRING)
_TYPES = (":event-type", ":exception-type", ":error-code")


class EventStream(Framing):
    """`data` is a JSON object with one member: the message's type and its payload, as the API's model has it."""

    def _cut(self) -> list[Event]:
        events: list[Event] = []
        start = 0
        while len(self._buffer) - start >= _PRELUDE.size:
            try:
                event = self._message(start)
            except ValueError:
                if events:
                    break  # what came before is read first
                raise
            if event is None:
                break
            events.append(event)
            start += len(event.raw)
        if start:
            del self._buffer[:start]
        return events

    def _message(self, start: int) -> Event | None:
        """The message that begins there; None where it is not there yet. Raises ValueError."""
        total, head, crc = _PRELUDE.unpack_from(self._buffer, start)
        if not _LEAST_BYTES + head <= total <= MAX_EVENT_BYTES:
            raise ValueError(f"a message of {total} bytes with {head} bytes of headers")
        if zlib.crc32(self._buffer[start : start + 8]) != crc:
            raise ValueError("a message whose beginning has another checksum")
        if len(self._buffer) - start < total:
            return None
        raw = bytes(self._buffer[start : start + total])
        return Event(raw, _data(raw, head))

    def flush(self) -> list[Event]:
        """A message that was cut short says nothing."""
        rest = self._take()
        return [Event(rest, None)] if rest else []

    def encode(self, name: str | None, payload: str) -> bytes:
        headers = b"".join(
            bytes([len(key)]) + key + bytes([_STRING]) + struct.pack(">H", len(value)) + value
            for key, value in (
                (b":event-type", (name or "").encode()),
                (b":content-type", b"application/json"),
                (b":message-type", b"event"),
            )
        )
        body = payload.encode()
        lengths = struct.pack(">II", _LEAST_BYTES + len(headers) + len(body), len(headers))
        message = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + body
        return message + struct.pack(">I", zlib.crc32(message))


def _data(raw: bytes, head: int) -> bytes | None:
    names = _headers(raw[_PRELUDE.size : _PRELUDE.size + head])
    kind = next((names[name] for name in _TYPES if name in names), None)
    payload = raw[_PRELUDE.size + head : -_CRC_BYTES].strip()
    if kind is None or not payload:
        return None
    return b"{" + json.dumps(kind).encode() + b":" + payload + b"}"


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are text. Raises ValueError where they are not what the format says."""
    found = {}
    at = 0
    try:
        while at < len(data):
            end = at + 1 + data[at]
            name, kind = data[at + 1 : end].decode(), data[end]
            at = end + 1
            if kind in _SIZED:
                (size,) = struct.unpack_from(">H", data, at)
                if kind == _STRING:
                    found[name] = data[at + 2 : at + 2 + size].decode()
                at += 2 + size
            else:
                at += _FIXED_BYTES[kind]
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError("a message with headers that cannot be read") from error
    return found
