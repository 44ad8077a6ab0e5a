import copy
import json

from hypothesis import given
from hypothesis import strategies as st
from tests.metering.samples import json_objects, json_values

from solaris_meter.chat import notices
from solaris_meter.chat.notices import MARK, notice
from solaris_meter.metering.dialects.dialect import Conversation

COMMANDS = ("/saldo", "!saldo")
CHAT = Conversation()
GOOGLE = Conversation(turns="contents", content="parts", assistant="model")

NOTICE = notice("*Seus tokens acabaram.*")


def assistant(content):
    return {"role": "assistant", "content": content}


def scrub(body, conversation=CHAT):
    return notices.scrub(body, conversation, COMMANDS)


def test_a_notice_stands_below_a_rule_between_invisible_marks():
    assert NOTICE == "\u2063\u2063\u2063\n\n---\n*Seus tokens acabaram.*\n\u2063\u2063\u2063"


def test_a_notice_is_taken_out_of_what_the_assistant_said():
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Oi"}, assistant(f"Olá!{NOTICE}")]}
    assert scrub(body) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "Oi"}, assistant("Olá!")]}


def test_a_notice_is_taken_out_of_parts():
    parts = [{"type": "text", "text": f"Olá!{NOTICE}", "cache_control": {"type": "ephemeral"}}, {"type": "tool_use"}]
    cleaned = [{"type": "text", "text": "Olá!", "cache_control": {"type": "ephemeral"}}, {"type": "tool_use"}]
    assert scrub({"messages": [assistant(parts)]}) == {"messages": [assistant(cleaned)]}


def test_every_notice_goes_and_what_is_between_them_stays():
    assert scrub({"messages": [assistant(f"a{NOTICE}b{NOTICE}c")]}) == {"messages": [assistant("abc")]}


def test_a_turn_that_was_all_ours_goes_and_the_command_it_answered_with_it():
    ours = assistant(notices.message("**Seu saldo**"))
    asked, question = {"role": "user", "content": " /saldo\n"}, {"role": "user", "content": "Oi"}
    assert scrub({"messages": [question, assistant("Olá!"), asked, ours, question]}) == {
        "messages": [question, assistant("Olá!"), question]
    }
    parts = {"role": "user", "content": [{"type": "text", "text": "/saldo"}]}
    assert scrub({"messages": [parts, ours, question]}) == {"messages": [question]}


def test_a_question_that_was_refused_stays():
    question = {"role": "user", "content": "Oi"}
    refused = assistant(notices.message("Seus tokens acabaram."))
    assert scrub({"messages": [question, refused, question]}) == {"messages": [question, question]}


def test_what_called_a_tool_stays():
    calls = assistant(NOTICE) | {"tool_calls": [{"id": "c1"}]}
    assert scrub({"messages": [calls]}) == {"messages": [calls | {"content": ""}]}


def test_white_space_may_have_been_changed_on_the_way():
    for spaced in (NOTICE.replace("\n", "\r\n"), NOTICE.replace("\n", " "), NOTICE.replace("\n\n", "\n").strip()):
        assert scrub({"messages": [assistant(f"Olá!{spaced}")]}) == {"messages": [assistant("Olá!")]}


def test_the_turns_of_other_dialects():
    said = {"role": "model", "parts": [{"text": f"Olá!{NOTICE}"}]}
    asked = {"role": "user", "parts": [{"text": f"cite: {NOTICE}"}]}
    assert scrub({"contents": [asked, said]}, GOOGLE) == {
        "contents": [asked, {"role": "model", "parts": [{"text": "Olá!"}]}]
    }
    items = [assistant([{"type": "output_text", "text": f"Olá!{NOTICE}"}])]
    assert scrub({"input": items}, Conversation(turns="input")) == {
        "input": [assistant([{"type": "output_text", "text": "Olá!"}])]
    }


def test_what_a_person_said_last():
    def last(turns, conversation=CHAT):
        return notices.last_text({conversation.turns: turns}, conversation)

    assert last([{"role": "user", "content": " /saldo "}]) == "/saldo"
    assert last([{"role": "user", "content": [{"type": "text", "text": "/saldo"}]}]) == "/saldo"
    assert last([{"parts": [{"text": "/saldo"}]}], GOOGLE) == "/saldo"
    assert last("/saldo", Conversation(turns="input")) == "/saldo"
    picture = [{"type": "text", "text": "/saldo"}, {"type": "image_url"}]
    for nothing in ([], None, 5, [assistant("/saldo")], [{"role": "user", "content": picture}], [{"role": "user"}]):
        assert last(nothing) is None


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


UNMARKED = st.text().filter(lambda text: MARK[0] not in text)


@given(UNMARKED.filter(str.strip), UNMARKED)
def test_any_answer_comes_back_as_it_was(answer, line):
    found = scrub({"messages": [assistant(answer + notice(line))]})
    assert found == {"messages": [assistant(answer)]}


@given(st.fixed_dictionaries({"messages": json_values | st.lists(json_objects | json_values, max_size=3)}))
def test_any_values_can_be_scrubbed(body):
    assert scrub(body) is None


TEXTS = st.text(max_size=6) | st.sampled_from([MARK, "/saldo", NOTICE, notices.message("a"), f"{MARK}x{MARK}", " "])
CONTENTS = TEXTS | st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=3)


def dumps(turn):
    return json.dumps(turn, ensure_ascii=False)


TURNS = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "system"]),
        CONTENTS,
    ),
    max_size=8,
)


@given(TURNS)
def test_of_what_others_said_nothing_but_commands_goes(turns):
    found = scrub({"messages": turns}) or {"messages": turns}

    def others(body):
        return [turn for turn in body["messages"] if turn["role"] != "assistant"]

    def is_command(turn):
        return notices.last_text({"messages": [turn]}, CHAT) in COMMANDS

    left = iter(others(found))
    kept = next(left, None)
    for turn in others({"messages": turns}):
        if kept is not None and turn == kept:
            kept = next(left, None)
        else:
            assert is_command(turn)
    assert kept is None


@given(TURNS.filter(lambda turns: all(MARK not in dumps(turn) for turn in turns if turn["role"] == "assistant")))
def test_where_the_assistant_said_nothing_of_ours_all_stays(turns):
    assert scrub({"messages": turns}) is None


@given(st.lists(UNMARKED.filter(str.strip), min_size=1, max_size=4), st.booleans())
def test_a_whole_history_loses_exactly_what_was_ours(answers, as_parts):
    def content(*texts):
        return [{"type": "text", "text": text} for text in texts] if as_parts else "".join(texts)

    spoken, expected = [], []
    for answer in answers:
        question = {"role": "user", "content": content(f"{NOTICE} quoted")}
        command = {"role": "user", "content": content("/saldo")}
        spoken += [question, assistant(content(answer, NOTICE)), command, assistant(content(notices.message("a")))]
        expected += [question, assistant(content(answer))]
    once = scrub({"messages": spoken, "model": "m"})
    assert once == {"messages": expected, "model": "m"}
    assert scrub(once) is None


def test_a_command_is_one_in_upper_case_too():
    ours, question = assistant(notices.message("x")), {"role": "user", "content": "Oi"}
    assert scrub({"messages": [{"role": "user", "content": "/Saldo"}, ours, question]}) == {"messages": [question]}
    assert not notices.is_command(None, COMMANDS)


def test_an_empty_part_beside_ours_is_nothing():
    ours = assistant([{"type": "text", "text": ""}, {"type": "text", "text": notices.message("x")}])
    asked = {"role": "user", "content": "/saldo"}
    assert scrub({"messages": [asked, ours, {"role": "user", "content": "Oi"}]}) == {
        "messages": [{"role": "user", "content": "Oi"}]
    }
