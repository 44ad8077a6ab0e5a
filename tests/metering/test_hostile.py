"""Every dialect against what no provider and no client should send.

Nothing is raised, nothing is hidden in the log, and no number comes out of it that could give tokens back.
"""

import base64
import copy
import json
from dataclasses import asdict
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.metering.calls import (
    OTHER_ANSWERS,
    REQUESTS,
    feed,
    nothing_fails,
    open_call,
    open_document,
    usage_at_once,
)
from tests.metering.samples import (
    ALL_DIALECTS,
    cut,
    cut_whole,
    dialect_of,
    framing_of,
    hostile_values,
    nested,
    objects_with,
    payload,
    payloads_of,
    spoiled,
)

from solaris_meter.ledger.rates import Rates
from solaris_meter.metering.dialects.dialect import MAX_CHOICES, MAX_TOKENS, Answer
from solaris_meter.metering.framing.event_stream import EventStream
from solaris_meter.metering.framing.json_array import JsonArray
from solaris_meter.metering.framing.lines import Lines
from solaris_meter.metering.framing.sse import ServerSentEvents
from solaris_meter.models import Basis, PriceTerms

FRAMINGS = (ServerSentEvents, Lines, JsonArray, EventStream)
MOST = 2**53
"""A database takes 64 bits, and spreadsheets take 53."""

every_dialect = pytest.mark.parametrize("dialect", ALL_DIALECTS, ids=lambda dialect: dialect.name)
quick = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def assert_credits_nothing(call, *, client_left=False):
    """The call's usage, if any, and what sets its price are possible ones."""
    assert isinstance(call.background_id, str | None)
    usage = usage_at_once(call, client_left=client_left)
    terms = call.price_terms
    usual = asdict(PriceTerms())
    for name, value in asdict(terms).items():
        if name == "reported_usd":
            assert value is None or type(value) is float
        else:
            assert type(value) is type(usual[name]), name
            assert isinstance(value, str) or 0 <= value < MOST, name
    if usage is None:
        return
    numbers = asdict(usage)
    assert numbers.pop("basis") in get_args(Basis)
    for name, number in numbers.items():
        assert type(number) is int, name
        assert 0 <= number < MOST, name
    assert usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    seconds = -(-usage.audio_ms // 1000)
    assert Rates().billed(usage) == usage.total_tokens + usage.images + seconds


def events_in(name):
    """The JSON events of a payload; a whole answer is one. Those that are wrapped into base64 are unwrapped."""
    framing = framing_of(name)
    datas = [payload(name)] if framing is None else [event.data for event in cut_whole(framing, [payload(name)])]
    events = [json.loads(data) for data in datas if data not in (None, b"[DONE]")]
    if dialect_of(name).name == "bedrock-invoke":
        return [json.loads(base64.b64decode(event["chunk"]["bytes"])) for event in events]
    return events


def answers_of(dialect):
    """Each answer that is known in a dialect, as its events."""
    return [events_in(name) for name in payloads_of(dialect)] + OTHER_ANSWERS.get(dialect.name, [])


EVERY_ANSWER = [answer for dialect in ALL_DIALECTS for answer in answers_of(dialect)]


def one_of(data, dialect):
    """An answer: mostly the dialect's own, now and then another's, which it must bear as well."""
    return data.draw(st.sampled_from(answers_of(dialect) if data.draw(st.integers(0, 9)) else EVERY_ANSWER))


def as_json(value):
    """JSON as a careless server writes it: an infinity stands in it as a number that is too large."""
    return json.dumps(value).replace("Infinity", "1e400")


def written(framing, events, *, wrapped=False):
    """Events as a stream."""
    out = b""
    for event in events:
        name, data = None, as_json(event)
        if wrapped:
            name, data = "chunk", json.dumps({"bytes": base64.b64encode(data.encode()).decode()})
        elif isinstance(framing, EventStream) and isinstance(event, dict) and event:
            name = next(iter(event))
            data = as_json(event[name])
        out += framing.encode(name, data)
    return out + framing.end()


@st.composite
def distorted(draw, events):
    """Events in another order, some twice, some missing, some with other values in them."""
    events = list(events)
    for _ in range(draw(st.integers(0, 3))):
        if not events:
            break
        at = draw(st.integers(0, len(events) - 1))
        match draw(st.sampled_from(["spoil", "spoil", "drop", "repeat", "move", "replace"])):
            case "spoil":
                events[at] = draw(spoiled(events[at]))
            case "drop":
                del events[at]
            case "repeat":
                events.insert(draw(st.integers(0, len(events))), events[at])
            case "move":
                events.insert(draw(st.integers(0, len(events) - 1)), events.pop(at))
            case "replace":
                events[at] = draw(hostile_values)
    return events


def call_of(data, dialect, framing):
    """A call in any of the states in which an answer may be edited."""
    path, body = REQUESTS[dialect.name]
    return open_call(
        dialect,
        path=path,
        body=body,
        framing=framing,
        strict=data.draw(st.booleans()),
        granted=data.draw(st.sampled_from([0, 5, 20, 1_000_000])),
        hides_usage=data.draw(st.booleans()),
        notice=data.draw(st.sampled_from(["", "FIM \u2063"])),
    )


@every_dialect
@quick
@given(st.data())
def test_any_bytes_are_relayed_and_cost_nothing_impossible(dialect, data):
    stream = data.draw(st.binary(max_size=80) | st.text('{}[]":,data \n\\', max_size=80).map(str.encode))
    framing = data.draw(st.sampled_from([*FRAMINGS, None]))
    path, body = REQUESTS[dialect.name]
    call = open_call(dialect, path=path, body=body)
    call.begin({}, framing and framing())
    with nothing_fails():
        assert feed(call, data.draw(cut(stream))) == stream
        assert_credits_nothing(call, client_left=data.draw(st.booleans()))


@every_dialect
@quick
@given(st.data())
def test_any_bytes_may_be_a_whole_answer(dialect, data):
    answer = data.draw(st.binary(max_size=60) | hostile_values.map(lambda value: as_json(value).encode()))
    path, body = REQUESTS[dialect.name]
    with nothing_fails():
        assert_credits_nothing(open_document(dialect, answer, path=path, body=body))


@every_dialect
@settings(quick, max_examples=50)
@given(st.data())
def test_a_distorted_stream_costs_nothing_impossible(dialect, data):
    framing = data.draw(st.sampled_from(FRAMINGS))
    events = data.draw(distorted(one_of(data, dialect)))
    stream = written(framing(), events, wrapped=dialect.name == "bedrock-invoke")
    stream = stream[: data.draw(st.none() | st.integers(0, len(stream)))]
    call = call_of(data, dialect, framing())
    with nothing_fails():
        feed(call, data.draw(cut(stream)))
        assert_credits_nothing(call, client_left=data.draw(st.booleans()))


@every_dialect
@settings(quick, max_examples=30)
@given(st.data())
def test_a_distorted_answer_costs_nothing_impossible(dialect, data):
    events = data.draw(distorted(one_of(data, dialect)))
    answer = events[0] if len(events) == 1 else events
    path, body = REQUESTS[dialect.name]
    with nothing_fails():
        assert_credits_nothing(open_document(dialect, as_json(answer).encode(), path=path, body=body))


@every_dialect
@settings(quick, max_examples=15)
@given(st.data())
def test_a_distorted_message_of_a_session_costs_nothing_impossible(dialect, data):
    call = call_of(data, dialect, ServerSentEvents())
    with nothing_fails():
        for event in data.draw(distorted(one_of(data, dialect))):
            call.read_message(as_json(event).encode())
            call.used_up()
        assert_credits_nothing(call)


WRONG: tuple[Any, ...] = ([], {}, [[]], "x", True, -1, -0.4, 1.5, 10**30, float("nan"), float("inf"))


def members_of(events):
    """The last of each kind of member in some events, as what holds it and its key."""
    found: dict[tuple[Any, ...], tuple[Any, Any]] = {}
    pending: list[tuple[Any, tuple[Any, ...]]] = [(events, ())]
    while pending:
        holder, path = pending.pop(0)
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, inner in pairs:
            where = (*path, key if isinstance(holder, dict) else "")
            found[where] = (holder, key)
            pending.append((inner, where))
    return list(found.values())


@every_dialect
def test_no_member_of_an_answer_may_be_anything_else(dialect):
    # Each member of each answer with each wrong value, one at a time.
    path, body = REQUESTS[dialect.name]
    with nothing_fails():
        for original in answers_of(dialect):
            events = copy.deepcopy(original)
            for holder, key in members_of(events):
                right = holder[key]
                for value in WRONG:
                    holder[key] = value
                    call = open_call(dialect, path=path, body=body)
                    for event in events:
                        call.read_message(as_json(event).encode())
                    dialect.ending(call._answer, "FIM", 1, 2, usage=True)
                    assert_credits_nothing(call)
                    if len(events) == 1:
                        assert_credits_nothing(
                            open_document(dialect, as_json(events[0]).encode(), path=path, body=body)
                        )
                holder[key] = right


@every_dialect
@settings(quick, max_examples=40)
@given(st.data())
def test_a_distorted_report_costs_nothing_impossible(dialect, data):
    # Only numbers are touched, so that every example reaches the arithmetic.
    events = copy.deepcopy(one_of(data, dialect))
    places = [(holder, key) for holder, key in members_of(events) if type(holder[key]) in (int, float)]
    for _ in range(data.draw(st.integers(1, 4)) if places else 0):
        holder, key = data.draw(st.sampled_from(places))
        holder[key] = data.draw(st.integers(0, 200) | hostile_values)
    call = call_of(data, dialect, ServerSentEvents())
    with nothing_fails():
        feed(call, [written(ServerSentEvents(), events, wrapped=dialect.name == "bedrock-invoke")])
        assert_credits_nothing(call)


HEADERS = st.dictionaries(
    st.sampled_from(
        [f"x-amzn-bedrock-{kind}-token-count" for kind in ("input", "output", "cache-read-input", "cache-write-input")]
    ),
    st.sampled_from(["", "0", "7", "-7", "1.5", "9" * 30, "9" * 5000, "²", "٣", "1e9", "0x10", " 7", "nan"]),
)


@every_dialect
@quick
@given(HEADERS)
def test_any_headers_cost_nothing_impossible(dialect, headers):
    with nothing_fails():
        assert_credits_nothing(open_document(dialect, b"{}", headers=headers, body={"model": "m"}))


PATHS = ["", "/", "/model/x/invoke", "/v1/models/m:predict", "/openai/deployments/d/x", "/v1/embed", "/api/embed"]


@every_dialect
@settings(quick, max_examples=60)
@given(st.data())
def test_any_request_can_be_read_counted_and_limited(dialect, data):
    path, body = REQUESTS[dialect.name]
    body = data.draw(spoiled(body) | objects_with(*body))
    path = data.draw(st.sampled_from([path, *PATHS]))
    size = data.draw(st.integers(0, 10**6))
    request = dialect.read_request(path, body, size)
    assert request.body is body
    assert isinstance(request.model, str)
    assert request.model
    assert isinstance(request.user, str | None)
    assert type(request.stream) is bool
    assert request.max_output is None or 0 < request.max_output <= MAX_TOKENS
    assert 0 < request.choices <= MAX_CHOICES
    assert 0 <= request.images <= MAX_TOKENS
    assert 0 <= request.audio_ms <= MAX_TOKENS
    prompt = request.prompt()
    assert all(isinstance(message["content"], str) for message in prompt.messages)
    assert all(isinstance(tool, dict) for tool in prompt.tools)
    assert isinstance(prompt.schema + prompt.text, str)
    assert prompt.token_ids >= 0
    if body.get("file", b"") == b"":
        json.dumps(dialect.limit_output(body, 7))
        asking = dialect.ask_for_usage(json.dumps(body).encode(), request)
        assert asking is None or json.loads(asking)


@every_dialect
def test_no_member_of_a_request_may_be_anything_else(dialect):
    path, original = REQUESTS[dialect.name]
    for body in ({key: value} for key, value in original.items()):
        body = copy.deepcopy(body)
        for holder, key in members_of(body):
            right = holder[key]
            for value in (*WRONG, None, b"\xff"):
                holder[key] = value
                request = dialect.read_request(path, body, 1000)
                assert request.prompt().token_ids >= 0
                dialect.limit_output(body, 7)
                dialect.ask_for_usage(b"{}", request)
            holder[key] = right


@every_dialect
@quick
@given(st.data())
def test_a_form_can_be_read_counted_and_limited(dialect, data):
    # A form has texts and bytes, and nothing else.
    _, body = REQUESTS[dialect.name]
    form = {key: data.draw(st.sampled_from(["", "true", "7", "9" * 5000, "\ud83d", b"", b"\xff\x00"])) for key in body}
    path = data.draw(st.sampled_from(PATHS))
    request = dialect.read_request(path, form, 100)
    assert 0 < request.choices <= MAX_CHOICES
    assert 0 <= request.images <= MAX_TOKENS
    request.prompt()
    if dialect.takes_forms:  # nowhere else is one let through
        assert dialect.limit_output(form, 7) is form
        assert dialect.ask_for_usage(b"--boundary\r\n", request) is None


@every_dialect
def test_a_request_nested_as_deeply_as_json_may_be_is_read(dialect):
    path, body = REQUESTS[dialect.name]
    deep = nested(900, "x")
    for key in body:
        spoilt = body | {key: deep}
        request = dialect.read_request(path, spoilt, 1000)
        request.prompt()
        dialect.limit_output(spoilt, 7)
    for key in ("messages", "contents", "input", "system", "tools", "response_format", "format", "text"):
        for value in ({"content": deep}, {"parts": deep}, {"schema": deep}, {"json_schema": {"schema": deep}}):
            dialect.read_request(path, {key: value}, 1000).prompt()
            dialect.read_request(path, {key: [value]}, 1000).prompt()


@every_dialect
def test_an_ending_can_be_written_wherever_an_answer_stands(dialect):
    for events in answers_of(dialect):
        for count in range(len(events) + 1):
            answer = Answer()
            for event in events[:count]:
                dialect.read_event(answer, event)
            for notice in ("", "FIM"):
                for kind, said in dialect.ending(answer, notice, 1, 2, usage=True):
                    assert isinstance(kind, str | None)
                    assert said == "[DONE]" or isinstance(json.loads(said), dict)
