import pytest

from solaris_meter.metering.framing import media_types
from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.lines import Lines
from solaris_meter.metering.framing.sse import ServerSentEvents


@pytest.mark.parametrize(
    ("content_type", "essence"),
    [
        ("text/event-stream; charset=utf-8", "text/event-stream"),
        (" Application/JSON ;x=y", "application/json"),
        ("audio/mpeg", "audio/mpeg"),
        ("", ""),
    ],
)
def test_a_media_type_is_freed_of_its_parameters(content_type, essence):
    assert media_types.essence(content_type) == essence


@pytest.mark.parametrize(
    ("media_type", "framing"),
    [
        ("text/event-stream", ServerSentEvents),
        ("application/vnd.amazon.eventstream", EventStream),
        ("application/x-ndjson", Lines),
        ("application/stream+json", Lines),
    ],
)
def test_a_media_type_of_events_has_its_framing(media_type, framing):
    found = media_types.framing_of(media_type)
    assert type(found) is framing
    assert media_types.framing_of(media_type) is not found
    assert not media_types.is_json(media_type)


@pytest.mark.parametrize(
    ("media_type", "is_json"),
    [
        ("application/json", True),
        ("application/problem+json", True),
        ("audio/mpeg", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_any_other_is_a_document(media_type, is_json):
    assert media_types.framing_of(media_type) is None
    assert media_types.is_json(media_type) is is_json
