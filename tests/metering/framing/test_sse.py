import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import (
    EXPECTED,
    LINE_ENDS,
    SERVER_SENT,
    cut,
    cut_whole,
    dialect_of,
    follow,
    payload,
    pieces,
    totals,
    with_line_end,
)

from solaris_meter.metering.framing import framing
from solaris_meter.metering.framing.framing import Event
from solaris_meter.metering.framing.sse import ServerSentEvents


def decode(chunks: list[bytes]) -> list[Event]:
    return cut_whole(ServerSentEvents(), chunks)


def payloads_by_the_book(stream: bytes) -> list[bytes]:
    """The data of each event, read line by line as the standard tells it; an event cut off at the end counts too."""
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in [*re.split(rb"\r\n|\n|\r", stream), b""]:
        if line == b"":
            if lines:
                found.append(b"\n".join(lines))
            lines = []
        elif line == b"data" or line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return found


LINES = st.sampled_from(
    [
        b"",
        b"",
        b"data: um",
        b"data:dois",
        b"data:  com espa\xc3\xa7o",
        b"data: \xf0\x9f\x8c\x9e",
        b"data:",
        b"data",
        b"dataset: nada",
        b": comment",
        b":",
        b"event: delta",
        b"id: 7",
        b"retry: 10",
        b"x",
    ]
)


@st.composite
def streams(draw):
    lines = draw(st.lists(st.tuples(LINES, st.sampled_from(LINE_ENDS)), max_size=20))
    return b"".join(line + end for line, end in lines) + draw(LINES)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_stream_in_any_pieces_gives_what_the_standard_says(data):
    stream = data.draw(streams())
    events = decode(data.draw(cut(stream)))
    assert b"".join(event.raw for event in events) == stream
    assert [event.data for event in events if event.data is not None] == payloads_by_the_book(stream)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_bytes_in_any_pieces_come_out_again(data):
    stream = data.draw(st.binary(max_size=60) | st.text(alphabet="\r\nd:", max_size=40).map(str.encode))
    assert b"".join(event.raw for event in decode(data.draw(cut(stream)))) == stream


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("name", SERVER_SENT)
def test_byte_by_byte_a_stream_says_the_same(name, line_end):
    stream = with_line_end(payload(name), line_end)
    whole, by_byte = decode([stream]), decode(pieces(stream, 1))
    assert by_byte == whole
    assert totals(follow(dialect_of(name), by_byte))["text"] == EXPECTED[name]["text"]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_providers_stream_says_the_same_however_it_is_cut(data):
    name = data.draw(st.sampled_from(SERVER_SENT))
    stream = with_line_end(payload(name), data.draw(st.sampled_from(LINE_ENDS)))
    events = decode(data.draw(cut(stream)))
    assert b"".join(event.raw for event in events) == stream
    assert totals(follow(dialect_of(name), events)) == totals(follow(dialect_of(name), decode([payload(name)])))


def test_an_event_is_given_as_soon_as_its_blank_line_is_there():
    decoder = ServerSentEvents()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.pending == b"data: a\n"
    assert decoder.feed(b"\nda") == [Event(b"data: a\n\n", b"a")]
    assert decoder.pending == b"da"


def test_a_cr_at_the_end_of_a_piece_may_be_half_of_a_crlf():
    decoder = ServerSentEvents()
    assert decoder.feed(b"data: a\r\n\r") == []
    assert decoder.feed(b"\ndata: b") == [Event(b"data: a\r\n\r\n", b"a")]


def test_several_data_lines_are_joined():
    assert decode([b'event: x\ndata: {"a":\ndata: 1}\n\n'])[0].data == b'{"a":\n1}'


def test_comments_have_no_data():
    assert decode([b": OPENROUTER PROCESSING\n\n"]) == [Event(b": OPENROUTER PROCESSING\n\n", None)]


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert decode([b"\xef\xbb\xbfdata: a\n\n"]) == [Event(b"\xef\xbb\xbfdata: a\n\n", b"a")]


def test_only_one_space_after_the_colon_is_dropped():
    assert decode([b"data:  a \n\n"])[0].data == b" a "


def test_a_short_line_after_a_lone_cr_is_no_part_of_the_data():
    assert decode([b"data: a\rX\n\n"])[0].data == b"a"


def test_the_beginning_of_a_line_that_was_cut_off_does_not_spoil_the_data():
    assert decode([b'data: {"usage":1}\ni'])[0].data == b'{"usage":1}'


def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(framing, "MAX_EVENT_BYTES", 100)
    decoder = ServerSentEvents()
    decoder.feed(b"data: " + b"x" * 94)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        decoder.feed(b"x")


def test_a_long_event_in_small_pieces_is_searched_once():
    # 2 MB in 20,000 pieces: searching from the start each time would take minutes.
    decoder = ServerSentEvents()
    for _ in range(20_000):
        assert decoder.feed(b"x" * 100) == []
    assert len(decoder.feed(b"\n\n")) == 1


def test_flush_leaves_nothing_behind():
    decoder = ServerSentEvents()
    decoder.feed(b"data: a")
    assert decoder.flush() == [Event(b"data: a", b"a")]
    assert decoder.flush() == []
    assert decoder.feed(b"data: b\n\n") == [Event(b"data: b\n\n", b"b")]


def test_an_encoded_event_is_decoded_again():
    sse = ServerSentEvents()
    assert decode([sse.encode(None, "[DONE]")])[0].data == b"[DONE]"
    encoded = sse.encode("message_stop", '{"a":"é"}')
    assert encoded == 'event: message_stop\ndata: {"a":"é"}\n\n'.encode()
    assert decode([encoded])[0].data == '{"a":"é"}'.encode()
    assert sse.end() == b""
