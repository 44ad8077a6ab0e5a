import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import cut, cut_whole, pieces

from solaris_meter.metering.framing import framing
from solaris_meter.metering.framing.framing import Event
from solaris_meter.metering.framing.lines import Lines

TEXTS = st.lists(st.sampled_from([b"", b" ", b"\r", b'{"a":1}', b'{"b":"\xc3\xa9"}\r', b"[", b"x\ry", b'  {"c":2} ']))


@settings(deadline=None, max_examples=150)
@given(TEXTS, st.booleans(), st.data())
def test_each_line_is_an_event_however_it_came(lines, is_ended, data):
    stream = b"\n".join(lines) + (b"\n" if is_ended else b"")
    events = cut_whole(Lines(), data.draw(cut(stream)))
    assert b"".join(event.raw for event in events) == stream
    assert [event.data for event in events if event.data] == [line.strip() for line in lines if line.strip()]


def test_a_line_is_given_as_soon_as_it_ends():
    lines = Lines()
    assert lines.feed(b'{"a":') == []
    assert lines.pending == b'{"a":'
    assert lines.feed(b'1}\n\n{"b"') == [Event(b'{"a":1}\n', b'{"a":1}'), Event(b"\n", None)]
    assert lines.pending == b'{"b"'


def test_the_last_line_needs_no_line_feed():
    lines = Lines()
    assert lines.feed(b'{"done":true}') == []
    assert lines.flush() == [Event(b'{"done":true}', b'{"done":true}')]
    assert lines.flush() == []
    assert lines.feed(b"a\n") == [Event(b"a\n", b"a")]


def test_a_carriage_return_before_the_line_feed_is_no_part_of_the_data():
    assert cut_whole(Lines(), [b'{"a":1}\r\n']) == [Event(b'{"a":1}\r\n', b'{"a":1}')]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("ab\u2028é{}", min_size=1).filter(str.strip), max_size=5), st.integers(1, 4))
def test_an_encoded_line_is_decoded_again(payloads, size):
    lines = Lines()
    stream = b"".join(lines.encode("ignored", payload) for payload in payloads) + lines.end()
    assert [event.data for event in cut_whole(lines, pieces(stream, size))] == [text.encode() for text in payloads]


def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(framing, "MAX_EVENT_BYTES", 100)
    lines = Lines()
    lines.feed(b"x" * 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        lines.feed(b"x")


def test_a_long_line_in_small_pieces_is_searched_once():
    # 2 MB in 20,000 pieces: searching from the start each time would take minutes.
    lines = Lines()
    for _ in range(20_000):
        assert lines.feed(b"x" * 100) == []
    assert len(lines.feed(b"\n")) == 1
