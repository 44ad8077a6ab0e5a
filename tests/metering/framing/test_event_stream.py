import json
import struct
import zlib
from contextlib import suppress

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import cut, cut_whole, json_objects, payload, pieces

from solaris_meter.metering.framing import event_stream
from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.framing import Event

RECORDED = ["bedrock_converse_stream.bin", "bedrock_invoke_stream.bin"]


def message(headers: bytes, body: bytes, **wrong: int) -> bytes:
    """A message by the book; `wrong` names what it says of itself otherwise."""
    total, head = wrong.get("total", 16 + len(headers) + len(body)), wrong.get("head", len(headers))
    lengths = struct.pack(">II", total, head)
    data = lengths + struct.pack(">I", wrong.get("crc", zlib.crc32(lengths))) + headers + body
    return data + struct.pack(">I", zlib.crc32(data))


def text(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()


def decode(chunks):
    return cut_whole(EventStream(), chunks)


def as_amazon_reads(stream):
    """The type and the payload of each message, as botocore reads it, which checks every checksum."""
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return [(found.headers[":event-type"], json.loads(found.payload)) for found in buffer]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_stream_says_the_same_however_it_is_cut(data):
    stream = payload(data.draw(st.sampled_from(RECORDED)))
    events = decode(data.draw(cut(stream)))
    assert b"".join(event.raw for event in events) == stream
    assert events == decode([stream])


@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_is_read_as_amazon_reads_it(name):
    found = [json.loads(event.data) for event in decode(pieces(payload(name), 1))]
    assert found == [{kind: body} for kind, body in as_amazon_reads(payload(name))]


@pytest.mark.parametrize("name", RECORDED)
def test_a_stream_that_was_cut_off_gives_what_came_whole(name):
    stream = payload(name)
    whole = decode([stream])
    ends = [sum(len(event.raw) for event in whole[: count + 1]) for count in range(len(whole))]
    for length in range(0, len(stream), 13):
        events = decode([stream[:length]])
        complete = sum(end <= length for end in ends)
        assert events[:complete] == whole[:complete]
        assert b"".join(event.raw for event in events) == stream[:length]
        assert all(event.data is None for event in events[complete:])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.text(max_size=20), json_objects), max_size=3), st.integers(1, 50))
def test_what_is_encoded_is_decoded_again_and_amazon_takes_it(said, size):
    stream = b"".join(EventStream().encode(kind, json.dumps(body)) for kind, body in said)
    found = decode(pieces(stream, size))
    assert [json.dumps(json.loads(event.data)) for event in found] == [json.dumps({kind: body}) for kind, body in said]
    assert json.dumps(as_amazon_reads(stream)) == json.dumps([list(one) for one in said])
    assert EventStream().end() == b""


def test_every_type_of_header_is_passed_over():
    headers = b"".join(
        [
            b"\x01t\x00",
            b"\x01f\x01",
            b"\x01b\x02\x01",
            b"\x01s\x03\x00\x01",
            b"\x01i\x04\x00\x00\x00\x01",
            b"\x01l\x05" + bytes(8),
            b"\x01y\x06\x00\x03abc",
            b"\x01d\x08" + bytes(8),
            b"\x01u\x09" + bytes(16),
            text(":event-type", "metadata"),
        ]
    )
    [event] = decode([message(headers, b'{"a":1}')])
    assert event.data == b'{"metadata":{"a":1}}'


def test_an_exception_is_an_event_of_its_type():
    headers = text(":message-type", "exception") + text(":exception-type", "throttlingException")
    [event] = decode([message(headers, b'{"message":"slow down"}')])
    assert json.loads(event.data) == {"throttlingException": {"message": "slow down"}}


@pytest.mark.parametrize(("headers", "body"), [(b"", b'{"a":1}'), (text(":event-type", "x"), b""), (b"", b"")])
def test_a_message_without_type_or_payload_says_nothing(headers, body):
    raw = message(headers, body)
    assert decode([raw]) == [Event(raw, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"total": 0},
        {"total": 15},
        {"total": 2**32 - 1},
        {"head": 2**32 - 1},
        {"head": 1000},
        {"crc": 1},
    ],
)
def test_lengths_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="a message"):
        EventStream().feed(message(text(":event-type", "x"), b"{}", **wrong))


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05a",
        b"\x01a",
        b"\x01a\x0a",
        b"\x01a\xff\x00",
        b"\x01a\x07",
        b"\x01a\x07\x00",
        b"\x02\xff\xfe\x00",
        b"\x01a\x07\x00\x02\xff\xfe",
    ],
)
def test_headers_that_cannot_be_read_are_refused(headers):
    with pytest.raises(ValueError, match=r".+"):
        EventStream().feed(message(headers, b"{}"))


def test_what_stands_before_a_broken_message_is_read_first():
    good, stream = EventStream().encode("a", "{}"), EventStream()
    assert [event.raw for event in stream.feed(good + bytes(12))] == [good]
    with pytest.raises(ValueError, match="a message"):
        stream.feed(b"")
    assert stream.pending == bytes(12)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_stream_that_was_tampered_with_is_refused_or_read(data):
    stream = bytearray(payload("bedrock_converse_stream.bin")[:600])
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ValueError):
        decode(data.draw(cut(bytes(stream))))


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.binary(max_size=30), st.integers(0, 40))
def test_any_headers_are_refused_or_read(headers, body, head):
    with suppress(ValueError):
        decode([message(headers, body, head=head)])


def test_a_message_that_is_too_long_is_refused_at_its_first_bytes(monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_EVENT_BYTES", 100)
    with pytest.raises(ValueError, match="a message of 120 bytes"):
        EventStream().feed(message(b"", bytes(104))[:12])
    assert len(EventStream().feed(message(b"", bytes(84)))) == 1
