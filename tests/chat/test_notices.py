import copy

from hypothesis import given
from hypothesis import strategies as st
from tests.metering.samples import json_objects, json_values

from solaris_meter.chat.notices import MARK, notice, scrub

NOTICE = notice("*Seus tokens acabaram.*")


def assistant(content):
    return {"role": "assistant", "content": content}


def test_a_notice_stands_below_a_rule_between_invisible_marks():
    assert NOTICE == "\u2063\u2063\u2063\n\n---\n*Seus tokens acabaram.*\u2063\u2063\u2063"


def test_a_notice_is_taken_out_of_what_the_assistant_said():
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Oi"}, assistant(f"Olá!{NOTICE}")]}
    assert scrub(body) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "Oi"}, assistant("Olá!")]}


def test_a_notice_is_taken_out_of_parts():
    parts = [{"type": "text", "text": f"Olá!{NOTICE}", "cache_control": {"type": "ephemeral"}}, {"type": "tool_use"}]
    cleaned = [{"type": "text", "text": "Olá!", "cache_control": {"type": "ephemeral"}}, {"type": "tool_use"}]
    assert scrub({"messages": [assistant(parts)]}) == {"messages": [assistant(cleaned)]}


def test_every_notice_goes_and_what_is_between_them_stays():
    assert scrub({"messages": [assistant(f"a{NOTICE}b{NOTICE}c"), assistant(NOTICE)]}) == {
        "messages": [assistant("abc"), assistant("")]
    }


def test_a_notice_of_several_lines_goes():
    assert scrub({"messages": [assistant(f"a{notice('um' + chr(10) + 'dois')}")]}) == {"messages": [assistant("a")]}


def test_what_others_say_is_not_touched():
    for role in ("user", "system", "developer", "tool", None):
        assert scrub({"messages": [{"role": role, "content": f"cite: {NOTICE}"}]}) is None


def test_fewer_marks_are_text():
    assert scrub({"messages": [assistant(f"a{MARK[:2]}b{MARK[:2]}"), assistant(f"só um {MARK}")]}) is None


def test_a_request_without_notices_is_left_alone():
    assert scrub({"messages": [assistant("Olá!"), assistant(None), assistant([])]}) is None
    assert scrub({"input": "Oi"}) is None
    assert scrub({"messages": "odd"}) is None


def test_the_request_itself_is_not_changed():
    body = {"messages": [assistant([{"type": "text", "text": f"Olá!{NOTICE}"}])]}
    before = copy.deepcopy(body)
    scrub(body)
    assert body == before


def test_scrubbing_twice_changes_nothing_more():
    once = scrub({"messages": [assistant(f"Olá!{NOTICE}")]})
    assert once is not None
    assert scrub(once) is None


@given(st.text().filter(lambda text: MARK[0] not in text), st.text().filter(lambda text: MARK[0] not in text))
def test_any_answer_comes_back_as_it_was(answer, line):
    found = scrub({"messages": [assistant(answer + notice(line))]})
    assert found == {"messages": [assistant(answer)]}


@given(st.fixed_dictionaries({"messages": json_values | st.lists(json_objects | json_values, max_size=3)}))
def test_any_values_can_be_scrubbed(body):
    assert scrub(body) is None
