import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metering.samples import cut, cut_whole, payload, pieces

from solaris_meter.metering.framing import framing
from solaris_meter.metering.framing.framing import Event
from solaris_meter.metering.framing.json_array import JsonArray

# Everything that a string may hold and that means something outside of one.
TEXTS = st.text('ab"\\{}[],:\n\té🙂', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def decode(chunks):
    return cut_whole(JsonArray(), chunks)


def objects_in(events):
    return [json.loads(event.data) for event in events if event.data is not None]


@settings(deadline=None, max_examples=200)
@given(st.lists(OBJECTS, max_size=4), st.sampled_from([None, 1, "\t"]), st.booleans(), st.data())
def test_the_objects_of_an_array_are_its_events_however_they_came(objects, indent, is_ascii, data):
    stream = json.dumps(objects, indent=indent, ensure_ascii=is_ascii).encode()
    events = decode(data.draw(cut(stream)))
    assert b"".join(event.raw for event in events) == stream
    assert objects_in(events) == objects


@settings(deadline=None, max_examples=100)
@given(st.lists(OBJECTS, min_size=1, max_size=3), st.sampled_from([None, 2]))
def test_byte_by_byte_an_array_says_the_same(objects, indent):
    stream = json.dumps(objects, indent=indent).encode()
    assert decode(pieces(stream, 1)) == decode([stream])


@settings(deadline=None, max_examples=150)
@given(st.lists(OBJECTS, min_size=1, max_size=3), st.sampled_from([None, 2]), st.data())
def test_an_array_that_was_cut_off_gives_what_came_whole(objects, indent, data):
    stream = json.dumps(objects, indent=indent).encode()
    whole = stream[: data.draw(st.integers(0, len(stream)))]
    events = decode(data.draw(cut(whole)))
    assert b"".join(event.raw for event in events) == whole
    found = objects_in(events)
    assert found == objects[: len(found)]
    ends = [len(json.dumps(objects[: count + 1], indent=indent).encode()) for count in range(len(objects))]
    last_end = 2 if indent else 1  # "\n]": what stands behind the last object
    assert len(found) == sum(end - last_end <= len(whole) for end in ends)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=40) | st.text('{}[]"\\,:a ', max_size=40).map(str.encode), st.data())
def test_any_bytes_in_any_pieces_come_out_again(stream, data):
    assert b"".join(event.raw for event in decode(data.draw(cut(stream)))) == stream


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_an_array_of_gemini_is_its_chunks(size):
    stream = payload("gemini_stream_array.json")
    assert objects_in(decode(pieces(stream, size))) == json.loads(stream)


def test_an_object_is_given_as_soon_as_it_ends():
    array = JsonArray()
    assert array.feed(b'[{"a":{"b":[1') == []
    assert array.pending == b'[{"a":{"b":[1'
    assert array.feed(b']}}\n,{"c"') == [Event(b'[{"a":{"b":[1]}}', b'{"a":{"b":[1]}}')]
    assert array.pending == b'\n,{"c"'


@pytest.mark.parametrize("size", [1, 100])
def test_a_single_object_is_one_event(size):
    # An error comes without an array around it.
    stream = b'{\n "error": {"code": 429, "message": "a \\"quota\\" {"}\n}\n'
    events = decode(pieces(stream, size))
    assert objects_in(events) == [json.loads(stream)]
    assert b"".join(event.raw for event in events) == stream


def test_an_error_may_be_an_array_of_one():
    assert objects_in(decode([b'[{"error":{"code":400}}\n]'])) == [{"error": {"code": 400}}]


def test_what_is_no_object_says_nothing():
    assert objects_in(decode([b'[1,"{",null,[2],{"a":1},true]'])) == [{"a": 1}]


def test_an_array_may_be_empty():
    assert decode([b"[", b"]"]) == [Event(b"[]", None)]


def test_closing_more_than_was_opened_ends_nothing_and_begins_again():
    assert objects_in(decode([b']]}{"a":1}']))[-1:] == [{"a": 1}]


def test_flush_leaves_nothing_behind():
    array = JsonArray()
    array.feed(b'[{"a":"[')
    assert array.flush() == [Event(b'[{"a":"[', None)]
    assert array.flush() == []
    assert objects_in(array.feed(b'[{"b":1}')) == [{"b": 1}]


@settings(deadline=None, max_examples=50)
@given(st.lists(OBJECTS, min_size=1, max_size=3), st.lists(OBJECTS, max_size=3), st.booleans())
def test_what_is_encoded_goes_on_where_the_stream_stands(sent, ours, is_pretty):
    array = JsonArray()
    before = json.dumps(sent, indent=1 if is_pretty else None).rstrip("]\n").encode()
    array.feed(before)
    stream = before + b"".join(array.encode(None, json.dumps(one)) for one in ours) + array.end()
    assert json.loads(stream) == sent + ours


def test_what_is_encoded_may_be_all_there_is():
    array = JsonArray()
    assert array.encode(None, '{"a":1}') + array.end() == b'[{"a":1}]'


def test_an_object_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(framing, "MAX_EVENT_BYTES", 100)
    array = JsonArray()
    array.feed(b'[{"a":"' + b"x" * 93)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        array.feed(b"x")


def test_a_long_object_in_small_pieces_is_searched_once():
    # 2 MB in 20,000 pieces: searching from the start each time would take minutes.
    array = JsonArray()
    array.feed(b'[{"a":"')
    for _ in range(20_000):
        assert array.feed(b"x" * 100) == []
    assert len(array.feed(b'"}')) == 1


def test_nesting_as_deep_as_it_comes_is_followed():
    depth = 100_000
    stream = b'[{"a":' + b"[" * depth + b"]" * depth + b"}]"
    assert [event.data for event in decode(pieces(stream, 4096))] == [stream[1:-1], None]
