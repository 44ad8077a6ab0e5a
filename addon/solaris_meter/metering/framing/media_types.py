"""Which framing a media type announces."""

from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.framing import Framing
from solaris_meter.metering.framing.json_array import JsonArray
from solaris_meter.metering.framing.lines import Lines
from solaris_meter.metering.framing.sse import ServerSentEvents

_FRAMINGS: dict[str, type[Framing]] = {
    "text/event-stream": ServerSentEvents,
    "application/vnd.amazon.eventstream": EventStream,
    "application/x-ndjson": Lines,
    "application/ndjson": Lines,
    "application/jsonl": Lines,
    "application/json-lines": Lines,
    "application/jsonlines": Lines,
    "application/stream+json": Lines,
}

_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def essence(content_type: str) -> str:
    """The media type of a content-type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def framing_of(media_type: str) -> Framing | None:
    """A fresh framing for a stream of this media type; None where it is not one of events."""
    framing = _FRAMINGS.get(media_type)
    return framing() if framing else None


def stream_framing(media_type: str) -> Framing:
    """A fresh framing for an answer that was asked for as a stream, whatever its media type says."""
    return framing_of(media_type) or ServerSentEvents()


def array_framing() -> Framing:
    """A fresh framing for a stream that is one JSON array."""
    return JsonArray()


def sniffed(framing: Framing, beginning: bytes) -> Framing:
    """The framing of a stream that begins like this: servers mislabel what they send."""
    if isinstance(framing, EventStream):
        return framing
    found = framing_in(beginning)
    if found is None or isinstance(found, type(framing)):
        return framing
    if isinstance(framing, Lines) and beginning.lstrip().partition(b"\n")[0].rstrip() not in (b"{", b"["):
        return found if isinstance(found, ServerSentEvents) else framing  # whole objects, not one that is laid out
    return found


def framing_in(beginning: bytes) -> Framing | None:
    """A fresh framing for what begins like this; None where it is neither events nor JSON."""
    beginning = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(_SSE_FIELDS):
        return ServerSentEvents()
    return JsonArray() if beginning[:1] in (b"{", b"[") else None


def is_json(media_type: str) -> bool:
    """Whether a body of this media type is one JSON document."""
    return media_type == "application/json" or (media_type.endswith("+json") and media_type not in _FRAMINGS)
