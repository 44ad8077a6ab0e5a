"""The log as JSON: each line can be read, and none holds what somebody wrote or must keep."""

import io
import json
import logging
import threading
import warnings
from dataclasses import replace

import pytest
from mitmproxy.test import tflow
from tests.proxy.test_metrics import DENIED, DETAILS, FREE, SETTLED

from solaris_meter.errors import Unavailable
from solaris_meter.proxy import json_log
from solaris_meter.proxy.json_log import CallLog, JsonLog, Lines

CALL = "17f00250-7ce2-433e-a4bb-e975878ce1d6"
KEY = "0123456789abcdef"
PROMPT = "my secret diary"


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def lines(out):
    return Lines(out, [KEY, "", "web"])


@pytest.fixture
def logger(lines):
    """A logger of its own whose only handler is ours."""
    logger = logging.Logger("solaris_meter.proxy.some")
    logger.addHandler(JsonLog(lines))
    return logger


def read(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_record_is_an_object_on_a_line(logger, out):
    logger.info("two\nlines, %d “ção” %s", 7, "\ud800")
    [line] = read(out)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "solaris_meter.proxy.some",
        "message": "two\nlines, 7 “ção” \ud800",
    }


def test_what_is_below_the_level_is_not_written(logger, out):
    logger.debug("detail")
    assert read(out) == []


def test_mitmproxy_s_own_level_is_one_that_others_know(logger, out):
    logger.log(logging.INFO + 1, "look")
    logging.addLevelName(logging.INFO + 1, "ALERT")
    logger.log(logging.INFO + 1, "look")
    assert read(out)[1]["level"] == "info"


def test_arguments_that_do_not_fit_cost_nobody_the_line(logger, out):
    logger.info("%d apples", "some")
    assert read(out)[0]["message"] == "%d apples"


def test_a_message_about_a_call_has_its_id(logger, out):
    logger.warning("openai answered 500 to call %s", CALL)
    logger.warning("call 12 is no id")
    first, second = read(out)
    assert first["request"] == CALL
    assert "request" not in second


def test_an_exception_comes_with_its_type_and_frames_but_not_with_what_it_quotes(logger, out):
    def choke(prompt):
        raise ValueError(f"cannot read {prompt}")

    try:
        try:
            choke(PROMPT)
        except ValueError as error:
            raise Unavailable("the disk is full") from error
    except Unavailable:
        logger.exception("call %s failed", CALL)
    [line] = read(out)
    assert (line["level"], line["exception"]) == ("error", "Unavailable")
    assert "in choke" in line["traceback"]
    assert "Unavailable: the disk is full" in line["traceback"]
    assert "ValueError: (withheld" in line["traceback"]
    assert PROMPT not in out.getvalue()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("key sk-proj-abcdefghijklmnop was refused", "abcdefghijklmnop"),
        ("AIzaSyA1234567890abcdef", "SyA1234567890"),
        ("GET /v1beta/models?key=hush&alt=sse failed", "hush"),
        ("ledger postgresql://solaris:hush@db/solaris", "hush"),
        (f"key {KEY} is wrong", KEY),
    ],
)
def test_what_looks_like_a_key_is_not_written(logger, out, text, secret):
    logger.warning("%s", text)
    [line] = read(out)
    assert secret not in out.getvalue()
    assert "[redacted]" in line["message"]


@pytest.mark.parametrize("text", ["is it so? yes=no", "settings /app/solaris.toml", "the web is wide", "basic text"])
def test_ordinary_text_stays_as_it_is(logger, out, text):
    logger.info("%s", text)
    assert read(out)[0]["message"] == text


def test_libraries_that_quote_what_they_choke_on_are_named_only(lines, out):
    logger = logging.Logger("LiteLLM")
    logger.addHandler(JsonLog(lines))
    logger.warning("cannot count: %s", PROMPT)
    assert PROMPT not in out.getvalue()
    assert "test_json_log.py" in read(out)[0]["message"]


def test_python_s_warnings_are_lines_too(lines, out):
    handler = JsonLog(lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            json_log.install(handler)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
    assert [line["logger"] for line in read(out)] == ["py.warnings"]


def test_a_settled_call_is_a_line_with_its_id_and_its_numbers(lines, out):
    CallLog(lines).ended(replace(SETTLED, id=CALL))
    [line] = read(out)
    expected = {
        "event": "call",
        "request": CALL,
        "user": "ana",
        "conversation": "fio",
        "provider": "openai",
        "model": "gpt-4o",
        "dialect": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "ending": "settled",
        "interrupted": False,
        "duration_ms": 1500,
        "settle_ms": 4,
        "input_tokens": 100,
        "cached_input_tokens": 30,
        "output_tokens": 40,
        "reasoning_tokens": 10,
        "total_tokens": 140,
        "billed_tokens": 140,
        "basis": "reported",
        "cost_usd": 0.0025,
    }
    assert expected.items() <= line.items()
    assert "ana@example.com" not in out.getvalue()


def test_a_denial_is_a_line_with_its_reason(lines, out):
    CallLog(lines).denied(tflow.tflow(), DENIED)
    CallLog(lines).denied(
        tflow.tflow(), replace(DENIED, caller=None, details=None, reason="identity_missing", status=401)
    )
    first, second = read(out)
    assert (first["event"], first["reason"], first["user"], first["status"]) == (
        "denial",
        "tokens_exhausted",
        "ana",
        429,
    )
    assert (second["reason"], second["user"], second["model"]) == ("identity_missing", None, None)
    assert first["request"] is None


def test_a_call_that_nobody_is_charged_for_is_an_error_only_where_it_should_have_been(lines, out):
    CallLog(lines).ended(FREE)
    CallLog(lines).ended(replace(SETTLED, ending="uncharged"))
    assert [line["level"] for line in read(out)] == ["info", "error"]


def test_half_a_surrogate_pair_in_a_model_s_name_can_be_written(lines, out):
    CallLog(lines).ended(replace(SETTLED, details=replace(DETAILS, model="\ud800")))
    assert read(out)[0]["model"] == "\ud800"
    assert out.getvalue().isascii()


def test_lines_of_many_threads_are_whole(lines, out):
    def write(number):
        for _ in range(200):
            lines.write({"number": number, "text": "x" * 50})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(out)) == 800


def test_where_nobody_reads_any_more_calls_go_on(lines, out):
    out.close()
    CallLog(lines).ended(SETTLED)
