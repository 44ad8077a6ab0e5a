"""The command bar's commands, against a real ledger."""

from concurrent.futures import Future
from typing import Any, cast

import pytest
from mitmproxy.exceptions import CommandError

from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import open_engine
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.models import Caller
from solaris_meter.proxy.commands import Commands

NOW = 1_773_144_000_000  # 2026-03-10T12:00Z


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(open_engine(f"sqlite:///{tmp_path}/solaris.db"), "here", NewAccount("basico", "UTC"), [100])
    ledger.open()
    for name in ("ana", "bruno"):
        ledger.overview(Caller(name, f"{name}@example.com"), NOW).result(10)
    yield ledger
    ledger.close()


@pytest.fixture
def commands(ledger):
    return Commands(ledger, lambda: NOW)


def refusal(command, *arguments):
    with pytest.raises(CommandError) as caught:
        command(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("user", ["ana", "ana@example.com", "an", "ANA@EX"])
def test_a_balance_is_told_of_whoever_is_meant(commands, user):
    assert commands.balance(user) == (
        "ana (ana@example.com): 1,000,000 left of 1,000,000 · 0.0 % used · plan basico · active"
        " · until 2026-04-01T00:00:00Z"
    )


def test_a_credit_is_booked_once_under_its_reference(commands, caplog):
    caplog.set_level("INFO")
    assert commands.credit("ana", "500K", "pix-17") == "credit +500,000 → ana has 1,500,000 tokens (pix-17)"
    assert "nothing was changed. ana has 1,500,000 tokens" in commands.credit("ana", "500K", "pix-17")
    assert "was used" in refusal(commands.credit, "ana", "1M", "pix-17")
    assert "1,500,000 left" in commands.balance("ana")
    assert "mitmweb: credit +500,000 → ana has 1,500,000 tokens (pix-17)" in caplog.text


def test_a_credit_without_a_reference_gets_one(commands):
    first, second = commands.credit("ana", "1K"), commands.credit("ana", "1K")
    assert "1,001,000 tokens (mitmweb-" in first
    assert "1,002,000 tokens (mitmweb-" in second


def test_an_account_is_blocked_and_may_call_again(commands, caplog):
    caplog.set_level("INFO")
    assert commands.block("bru") == "bruno is blocked"
    assert "· blocked ·" in commands.balance("bruno")
    assert commands.unblock("bruno") == "bruno is active"
    assert "mitmweb: bruno is blocked" in caplog.text


def test_usage_is_told_by_model(commands):
    assert commands.usage("ana") == "nothing was used"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("balance", ["nobody"], "no user 'nobody'; see 'solaris-cli users list'"),
        ("usage", ["anna"], "no user 'anna'; did you mean ana"),
        ("balance", [""], "no user ''"),
        ("block", ["nobody"], "no user 'nobody'"),
        ("credit", ["ana", "lots"], "'lots' is not an amount of tokens"),
        ("credit", ["ana", "0"], "changes nothing"),
        ("credit", ["ana", "250.000"], "can be read in two ways"),
        ("credit", ["nobody", "1K"], "no user 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_words_of_the_command_line(commands, name, arguments, words):
    assert words in refusal(getattr(commands, name), *arguments)
    assert "1,000,000 left" in commands.balance("ana")


class Slow:
    """A ledger whose operations do not end; `begun`: they cannot be taken back either."""

    def __init__(self, begun):
        self.references = []
        self._begun = begun

    def _never(self):
        future: Future[Any] = Future()
        if self._begun:
            future.set_running_or_notify_cancel()
        return future

    def standing(self, user, now_ms):
        return self._never()

    def credit(self, user, amount, now_ms, *, reference, note):
        self.references.append(reference)
        return self._never()


def test_an_operation_that_has_not_begun_is_taken_back(caplog):
    commands = Commands(cast(Ledger, Slow(begun=False)), lambda: NOW, patience_s=0.01)
    assert refusal(commands.credit, "ana", "1K") == "the ledger is busy: nothing was changed, try again"


def test_a_credit_in_doubt_can_be_repeated_without_being_given_twice():
    ledger = Slow(begun=True)
    told = refusal(Commands(cast(Ledger, ledger), lambda: NOW, patience_s=0.01).credit, "ana", "1K")
    assert f"'solaris.credit ana 1K {ledger.references[0]}', which books it once" in told
