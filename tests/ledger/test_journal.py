"""The journal: what the database could not take is neither lost nor billed twice. And the ledger that uses it."""

import json
import logging
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.ledger.support import NOON, ZONE, Books, ask, engine_at, outcome

from solaris_meter.errors import LedgerError, Unavailable
from solaris_meter.ledger import accounts
from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.journal import Journal, Unsettled
from solaris_meter.ledger.ledger import RESERVATION_LIFE_MS, Ledger
from solaris_meter.ledger.reservations import Outcome, Reserved
from solaris_meter.models import Usage

TIMEOUT = 30


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Where a ledger that is in no file has its journal."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "unsettled.jsonl")


@pytest.fixture
def ledger(place):
    ledger = Ledger(engine_at(place), "here", NewAccount("basico", ZONE), (80, 95))
    ledger.open()
    yield ledger
    ledger.close()


def unsettled(name, user="ana", billed=300):
    return Unsettled(ask(name, user, conversation="fio\n“ã”"), outcome(billed), NOON)


def ledger_journal(place):
    return engine_at(place).journal


def drained(journal):
    calls: list[Unsettled] = []
    assert journal.drain(calls.append) == len(calls)
    return calls


def test_what_waits_is_counted_without_being_touched(journal):
    assert journal.waiting() == 0
    for number in range(3):
        journal.append(unsettled(f"call-{number}"))
    assert journal.waiting() == 3
    assert len(drained(journal)) == 3
    assert journal.waiting() == 0


def balance(place, user="ana"):
    with closing(engine_at(place).connect()) as tx:
        return accounts.get(tx, user).balance


def test_a_journal_that_never_was_is_empty(journal):
    assert drained(journal) == []
    assert not journal.path.exists()


def test_what_was_kept_comes_back_whole_and_in_order(journal):
    calls = [unsettled("one"), unsettled("two")]
    calls.append(Unsettled(ask("three"), Outcome(Usage(1, 2, "counted", 3, 4, 5, 6, 7), 500, True, 8, True, 9), 8))
    for call in calls:
        journal.append(call)
    assert drained(journal) == calls


def test_what_an_older_version_kept_is_billed_as_it_was_meant(ledger, place):
    # It wrote the billed tokens itself, one for each token, and knew neither pictures nor costs.
    ledger.keep(unsettled("old"))
    line = json.loads(ledger_journal(place).read_text())
    for name in ("images", "audio_ms"):
        del line["ask"][name], line["outcome"]["usage"][name]
    del line["outcome"]["cost_nano_usd"]
    line["outcome"]["billed_tokens"] = 300
    ledger_journal(place).write_text(json.dumps(line) + "\n")
    assert ledger.drain(NOON + 5) == 1
    assert balance(place) == 1_000_000 - 300


def test_what_was_drained_is_gone_and_the_journal_can_be_used_again(journal):
    journal.append(unsettled("one"))
    drained(journal)
    assert drained(journal) == []
    journal.append(unsettled("two"))
    assert drained(journal) == [unsettled("two")]


def test_a_bill_that_fails_leaves_the_whole_journal(journal):
    calls = [unsettled("one"), unsettled("two")]
    for call in calls:
        journal.append(call)

    def bill(call):
        if call == calls[1]:
            raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        journal.drain(bill)
    assert drained(journal) == calls


def test_nobody_else_can_read_who_called(journal):
    journal.append(unsettled("one"))
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_what_is_kept_at_once_is_kept_whole(journal):
    calls = [unsettled(f"call-{number:02}") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(journal.append, calls))
    assert sorted(drained(journal), key=lambda call: call.ask.id) == calls


def test_a_directory_that_is_gone_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Journal(tmp_path / "missing" / "unsettled.jsonl").append(unsettled("one"))


def test_a_line_that_did_not_fit_on_the_disk_is_an_os_error(journal):
    # write() may take a part of a line and report no error; the call must not be believed to be kept.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"."):
            journal.append(unsettled("one"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_torn_by_a_crash_holds_up_no_other(journal):
    journal.append(unsettled("one"))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole[: len(whole) // 2])
    journal.append(unsettled("two"))
    calls: list[Unsettled] = []
    journal.drain(calls.append)
    assert calls == [unsettled("one"), unsettled("two")]


def test_a_call_goes_through_the_ledger(ledger, place):
    call = ask("one", prompt=1000)
    decision = ledger.reserve(call, NOON).result(TIMEOUT)
    assert isinstance(decision, Reserved)
    assert ledger.extend("one", 500, NOON).result(TIMEOUT) == 500
    ledger.renew(["one"], NOON + 1).result(TIMEOUT)
    with closing(engine_at(place).connect()) as tx:
        (row,) = tx.rows("SELECT reserved, expires_at_ms FROM reservations")
        assert dict(row) == {"reserved": 1500, "expires_at_ms": NOON + 1 + RESERVATION_LIFE_MS}
    settled = ledger.settle("one", outcome(900_000), NOON + 2).result(TIMEOUT)
    assert settled.crossed == (80,)
    assert balance(place) == 100_000


def test_a_voided_call_costs_nothing(ledger, place):
    ledger.reserve(ask("one", prompt=1000), NOON).result(TIMEOUT)
    ledger.void("one", NOON).result(TIMEOUT)
    assert balance(place) == 1_000_000
    with pytest.raises(LedgerError, match="void"):
        ledger.settle("one", outcome(1), NOON).result(TIMEOUT)


def test_what_a_process_that_ended_left_is_recovered_by_another(place, ledger):
    dead = Ledger(engine_at(place), "dead", NewAccount("basico", ZONE), ())
    dead.open()
    dead.reserve(ask("left", prompt=1000, floor=40, owner="dead"), NOON).result(TIMEOUT)
    ledger.reserve(ask("running", prompt=1000, floor=40), NOON).result(TIMEOUT)
    assert ledger.recover([], NOON).result(TIMEOUT) == []
    dead.close()
    assert ledger.recover([], NOON).result(TIMEOUT) == ["left"]
    assert balance(place) == 1_000_000 - 40


def test_the_journal_is_billed_once_although_it_is_kept_twice(ledger, place):
    ledger.keep(unsettled("one"))
    ledger.keep(unsettled("one"))
    assert ledger.drain(NOON + 5) == 2
    assert ledger.drain(NOON + 6) == 0
    assert balance(place) == 1_000_000 - 300


def test_the_journal_settles_the_reservation_that_was_made_before_the_outage(ledger, place):
    ledger.reserve(ask("one", prompt=1000), NOON).result(TIMEOUT)
    ledger.keep(unsettled("one"))
    ledger.drain(NOON + 5)
    assert balance(place) == 1_000_000 - 300
    with closing(engine_at(place).connect()) as tx:
        assert accounts.get(tx, "ana").reserved == 0


def test_a_journalled_call_is_billed_at_the_rates_of_the_time_it_was_opened(ledger, place):
    books = Books(place)
    books.rate("gpt-4o", NOON, input="2")
    books.rate("gpt-4o", NOON + 1, input="15")
    books.close()
    ledger.keep(unsettled("one"))
    assert ledger.drain(NOON + 5) == 1
    assert balance(place) == 1_000_000 - 600


def test_an_audit_is_kept_once_and_only_of_what_is_in_the_ledger(ledger, place):
    ledger.reserve(ask("one", prompt=1000), NOON).result(TIMEOUT)
    assert ledger.audit("one", 310, 5).result(TIMEOUT) is False
    ledger.settle("one", outcome(300), NOON).result(TIMEOUT)
    assert [ledger.audit("one", counted, None).result(TIMEOUT) for counted in (310, 999)] == [True, False]
    with closing(engine_at(place).connect()) as tx:
        (row,) = tx.rows("SELECT * FROM audits")
        assert dict(row) == {"usage_event_id": "one", "counted_input": 310, "counted_output": None}


def test_a_call_that_can_never_be_billed_holds_up_no_other_and_is_set_aside(ledger, place, tmp_path, caplog):
    ledger.keep(unsettled("refused", user=" "))
    ledger.keep(unsettled("one"))
    with caplog.at_level(logging.ERROR):
        assert ledger.drain(NOON + 5) == 1
    assert "cannot be billed" in caplog.text
    [aside] = tmp_path.glob("*.refused.jsonl")
    assert '"refused"' in aside.read_text()
    assert balance(place) == 1_000_000 - 300


def test_the_journal_stays_while_the_ledger_cannot_take_it(place):
    ledger = Ledger(engine_at(place), "here", NewAccount("basico", ZONE), ())
    ledger.open()
    ledger.keep(unsettled("one"))
    ledger.close()
    with pytest.raises(Unavailable, match="closed"):
        ledger.drain(NOON)
    again = Ledger(engine_at(place), "again", NewAccount("basico", ZONE), ())
    again.open()
    assert again.drain(NOON) == 1
    again.close()
