"""The package with which LibreChat talks to model APIs, through the sidecar: what people read, and what they pay.

3.9 is the package of the LibreChat 0.8.8 line; 3.0 is that of 0.8.2, on a LangChain core that repeats more calls.
"""

import json
import re
from pathlib import Path

import pytest
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.librechat.person import ENDPOINTS, texts_of

pytestmark = pytest.mark.timeout(900)  # the first test of a version installs it

SENTENCE = re.compile(
    r"Seus tokens acabaram: você usou ([\d.]+) de \1 e o saldo é 0\. [^{}\n]*vendas@example\.com[^{}\n]*"
)
MARK = "\u2063" * 3
HTTP_402 = '[denial]\nmode = "http_402"\n'
AS_MESSAGE = '[denial]\nmode = "assistant_message"\n'
ATTEMPT_S = 2
TYPED_S = 10
"""The package types out what it is given at once: 3.0 takes its time for Anthropic."""
OLD_GOOGLE = ("3.0", "google")
"""Tries a 429 three times, whatever it says, within 3 to 6 seconds; everybody else tries once."""

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS)


@pytest.mark.parametrize(
    "lock", sorted(Path(__file__).parent.glob("*/package-lock.json")), ids=lambda lock: lock.parent.name
)
def test_a_lock_pins_what_is_installed_and_names_no_address(lock):
    packages = json.loads(lock.read_text())["packages"]
    del packages[""]
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


# ----------------------------------------------------------------------------------------------------------- answers


@each_endpoint
def test_an_answer_is_shown_and_metered(chatter, endpoint):
    person = chatter(endpoint)
    turn = person.say("Há café?")
    assert (turn.shown, turn.error) == (WHOLE_TEXT, None)
    assert (len(person.arrivals), turn.requests) == (1, 1)
    [event] = person.events()
    about = {"model": person.endpoint.model, "stream": True, "basis": "reported", "interrupted": False}
    about |= person.endpoint.bill.event | {"conversation": f"conversa-{person.user}"}
    assert {name: event.get(name) for name in about} == about
    account = person.cli("balance", person.user)
    assert account["email"] == person.email
    assert account["used"] == person.endpoint.bill.input + person.endpoint.bill.output


@each_endpoint
def test_the_next_turn_brings_back_what_was_said(chatter, endpoint):
    person = chatter(endpoint)
    person.say("Há café?")
    assert person.say("E chá?").shown == WHOLE_TEXT
    assert texts_of(person.arrivals[-1]) == [("user", "Há café?"), ("assistant", WHOLE_TEXT), ("user", "E chá?")]
    assert len(person.events()) == 2


@each_endpoint
def test_a_title_is_metered(chatter, endpoint):
    person = chatter(endpoint)
    turn = person.say("Há café?", title=True)
    assert (turn.shown, turn.error) == (WHOLE_TEXT, None)
    [event] = person.events()
    about = {"model": person.endpoint.model, "stream": False, "basis": "reported"} | person.endpoint.title.event
    assert {name: event.get(name) for name in about} == about


# ---------------------------------------------------------------------------------------------------------- refusals


@each_endpoint
def test_a_refusal_is_shown_and_not_repeated(chatter, endpoint):
    person = chatter(endpoint)
    person.exhaust()
    turn = person.say("Há café?")
    assert turn.shown == ""
    assert turn.error is not None
    if endpoint == "google":  # LangChain puts the URL before it
        assert SENTENCE.search(turn.error), turn.error
    else:
        assert SENTENCE.fullmatch(turn.error), turn.error
    old_google = (person.librechat.version, endpoint) == OLD_GOOGLE
    assert (person.arrivals, turn.requests) == ([], 3 if old_google else 1)
    assert turn.seconds < (10 if old_google else ATTEMPT_S)
    assert len(person.events()) == 1


@each_endpoint
def test_a_refused_title_costs_nothing_and_names_nothing(chatter, endpoint):
    """The package asks twice for a title: again in a simpler way where it did not come."""
    person = chatter(endpoint, HTTP_402)
    person.exhaust()
    turn = person.say("Há café?", title=True)
    assert turn.error is not None
    assert (turn.shown, person.arrivals, turn.requests) == ("", [], 2)
    assert len(person.events()) == 1


@each_endpoint
def test_a_402_is_never_repeated_and_no_version_puts_its_own_sentence_there(chatter, endpoint):
    """Of a 429 the package says that it is a rate limit, which newer LibreChats show instead of the text."""
    person = chatter(endpoint, HTTP_402)
    person.exhaust()
    turn = person.say("Há café?")
    assert turn.shown == ""
    assert turn.error is not None
    found = SENTENCE.search(turn.error)
    assert found, turn.error
    assert turn.error.endswith(found[0])
    assert not turn.replaced
    assert (person.arrivals, turn.requests) == ([], 1)
    assert turn.seconds < ATTEMPT_S


@each_endpoint
def test_a_refusal_is_no_part_of_the_next_turn(chatter, endpoint):
    person = chatter(endpoint, HTTP_402)
    person.exhaust()
    person.say("Há café?")
    person.cli("credit", person.user, "100K")
    assert person.say("E chá?").shown.startswith(WHOLE_TEXT)
    [arrival] = person.arrivals
    assert "Seus tokens" not in str(arrival.body)
    assert texts_of(arrival)[-1] == ("user", "E chá?")


# ----------------------------------------------------------------------------------------------------------- notices


@each_endpoint
def test_a_notice_in_the_history_does_not_reach_the_provider(chatter, endpoint):
    person = chatter(endpoint)
    said = f"{WHOLE_TEXT}{MARK}\n\n---\n*Você usou 85 % dos seus tokens.*{MARK}"
    person.history = [
        {"role": "user", "content": "Há café?"},
        {"role": "assistant", "content": [{"type": "text", "text": said}]},
    ]
    person.say("E chá?")
    [arrival] = person.arrivals
    assert texts_of(arrival) == [("user", "Há café?"), ("assistant", WHOLE_TEXT), ("user", "E chá?")]
    assert MARK not in str(arrival.body)


@each_endpoint
def test_the_answer_that_crosses_80_percent_ends_with_a_notice(chatter, endpoint):
    person = chatter(endpoint)
    person.give_so_that_one_answer_is(85)
    turn = person.say("Há café?")
    assert turn.error is None
    found = re.fullmatch(f"{re.escape(WHOLE_TEXT)}{MARK}\n\n---\n(.*)\n?{MARK}", turn.shown)
    assert found, turn.shown
    assert "85" in found[1]
    assert "vendas@example.com" in found[1]
    [event] = person.events()
    assert event["output_tokens"] == person.endpoint.bill.output

    person.cli("credit", person.user, "100K")
    assert person.say("E chá?").shown == WHOLE_TEXT
    assert texts_of(person.arrivals[-1]) == [("user", "Há café?"), ("assistant", WHOLE_TEXT), ("user", "E chá?")]
    assert MARK not in str(person.arrivals[-1].body)


@each_endpoint
def test_a_title_never_carries_a_notice(chatter, endpoint):
    person = chatter(endpoint)
    person.give_so_that_one_answer_is(85, title=True)
    assert person.say("Há café?", title=True).shown == WHOLE_TEXT


# ---------------------------------------------------------------------------------------------------------- commands


@each_endpoint
@pytest.mark.parametrize("exhausted", [False, True], ids=["with-tokens", "exhausted"])
def test_a_command_is_answered_here(chatter, endpoint, exhausted):
    person = chatter(endpoint)
    if exhausted:
        person.exhaust()
    else:
        person.give(1_000_000)
        assert person.say("Há café?").shown == WHOLE_TEXT
    charged = len(person.events())
    person.providers.requests.clear()
    turn = person.say("/saldo")
    assert turn.error is None
    found = re.fullmatch(f"{MARK}([^{MARK[0]}]+){MARK}", turn.shown)
    assert found, turn.shown
    used = person.endpoint.bill.input + person.endpoint.bill.output
    assert f"{used:,}".replace(",", ".") in found[1]
    assert (person.arrivals, turn.requests) == ([], 1)
    assert turn.seconds < TYPED_S
    assert len(person.events()) == charged

    person.cli("credit", person.user, "100K")
    before = [] if exhausted else [("user", "Há café?"), ("assistant", WHOLE_TEXT)]
    assert person.say("E chá?").shown.startswith(WHOLE_TEXT)
    [arrival] = person.arrivals
    assert texts_of(arrival) == [*before, ("user", "E chá?")]
    assert "saldo" not in str(arrival.body)
    assert MARK not in str(arrival.body)


# ----------------------------------------------------------------------------------------------- refusals as messages


@each_endpoint
def test_a_refusal_as_a_message(chatter, endpoint):
    person = chatter(endpoint, AS_MESSAGE)
    person.exhaust()
    turn = person.say("Há café?")
    assert turn.error is None
    found = re.fullmatch(f"{MARK}(.*){MARK}", turn.shown, re.DOTALL)
    assert found, turn.shown
    assert found[1].startswith("Seus tokens acabaram")
    assert "](mailto:vendas@example.com" in found[1]
    assert (person.arrivals, turn.requests) == ([], 1)
    assert turn.seconds < TYPED_S
    assert len(person.events()) == 1

    person.cli("credit", person.user, "100K")
    assert person.say("E chá?").shown.startswith(WHOLE_TEXT)
    [arrival] = person.arrivals
    said = texts_of(arrival)
    assert said[-1] == ("user", "E chá?")
    assert [text for role, text in said if role == "assistant"] == []
    assert MARK not in str(arrival.body)
    assert "Seus tokens" not in str(arrival.body)


@each_endpoint
def test_a_title_is_not_named_after_a_refusal(chatter, endpoint):
    person = chatter(endpoint, AS_MESSAGE)
    person.exhaust()
    turn = person.say("Há café?", title=True)
    assert (turn.shown, person.arrivals) == ("", [])
    assert turn.error is not None
