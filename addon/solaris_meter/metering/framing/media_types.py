"""Which framing a media type announces."""

from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.framing import Framing
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


def essence(content_type: str) -> str:
    """The media type of a content-type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def framing_of(media_type: str) -> Framing | None:
    """A fresh framing for a stream of this media type; None where it is not one of events."""
    framing = _FRAMINGS.get(media_type)
    return framing() if framing else None


def is_json(media_type: str) -> bool:
    """Whether a body of this media type is one JSON document."""
    return media_type == "application/json" or (media_type.endswith("+json") and media_type not in _FRAMINGS)
