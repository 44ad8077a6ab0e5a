"""The outbox: written with its event or not at all, once, and leased by one process at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from tests.ledger.support import MINUTE, NOON, Books, engine_at, moment, outcome

from solaris_meter.amounts import Money
from solaris_meter.channels import parse_channel
from solaris_meter.errors import Conflict, LedgerError, UnknownName
from solaris_meter.ledger import accounts, credits, outbox, reservations

USER = parse_channel("mailto://robot:s3same@smtp.example.com?to={email}")
OPERATOR = parse_channel("webhook+https://example.com/alerts?secret=s3same")
IDS = [USER.id, OPERATOR.id]
LEASE = 2 * MINUTE
APRIL = moment("2026-04-01T00:00")


@pytest.fixture
def told(books):
    """Ana has 1,000 tokens a month and an e-mail address."""
    books.channels = (USER, OPERATOR)
    books.thresholds = (80, 95, 100)
    books.plan("pro", 1000)
    books.open("ana", "pro")
    books.run(lambda tx: accounts.set_email(tx, books.account(), "ana@example.com"))
    return books


def written(books):
    """What each message is about, and for whom."""
    return [(each.event.kind, each.event.threshold, each.recipient) for each in outbox.messages(books.tx)]


def claim(books, owner="here", now=NOON, limit=10, ids=IDS):
    return books.run(lambda tx: outbox.claim(tx, owner, ids, now, LEASE, limit))


# what is written


def test_a_crossing_writes_one_message_for_each_channel(told):
    told.spend(799)
    assert written(told) == []
    told.spend(1, now=NOON + 5)
    assert written(told) == [("threshold", 80, "ana@example.com"), ("threshold", 80, None)]
    message = outbox.messages(told.tx)[0]
    assert (message.state, message.tries, message.next_try_at_ms) == ("pending", 0, NOON + 5)
    assert message.event.at_ms == NOON + 5
    assert message.event.standing == told.account().standing


def test_the_standing_in_a_message_is_that_of_the_event(told):
    told.spend(800)
    told.spend(100)
    assert [each.event.standing.used for each in outbox.messages(told.tx)] == [800, 800]


def test_nothing_is_written_without_channels(told):
    told.channels = ()
    told.spend(1000)
    told.give(10, kind="credit")
    told.block()
    assert written(told) == []


def test_a_call_that_crosses_several_thresholds_tells_of_the_highest(told):
    told.spend(990)
    assert written(told) == [("threshold", 95, "ana@example.com"), ("threshold", 95, None)]


def test_nobody_is_told_of_less_than_before(told):
    told.spend(900)
    told.thresholds = (50, 80, 95)
    assert told.spend(10).crossed == (50,)
    assert [threshold for _, threshold, _ in written(told)] == [80, 80]


def test_the_whole_limit_is_exhaustion(told):
    told.spend(1000)
    assert written(told) == [("exhausted", 100, "ana@example.com"), ("exhausted", 100, None)]


def test_each_period_has_its_own_messages(told):
    told.spend(800)
    told.spend(800, now=APRIL)
    assert [kind for kind, _, _ in written(told)] == ["threshold"] * 4


def test_a_user_without_an_address_is_not_written_to(told):
    told.open("bruno", "pro")
    told.spend(800, "bruno")
    assert written(told) == [("threshold", 80, None)]


@pytest.mark.parametrize("email", ["nobody", "a@b, c@d", "a@b\r\nBcc: c@d"])
def test_what_is_no_address_is_not_written_to(told, email):
    told.run(lambda tx: accounts.set_email(tx, told.account(), email))
    told.spend(800)
    assert written(told) == [("threshold", 80, None)]


def test_a_credit_is_told_with_its_amount_and_price(told):
    entry = told.give(500, kind="credit", paid=Money(4990, "BRL")).entry
    user, operator = outbox.messages(told.tx)
    for message in (user, operator):
        event = message.event
        assert (event.kind, event.amount, event.paid, event.entry) == ("credited", 500, "49.90 BRL", entry.id)
        assert event.standing.balance == 1500


def test_a_gift_is_not_told(told):
    told.give(500, kind="bonus")
    assert written(told) == []


def test_a_credit_that_is_repeated_is_told_once(told):
    told.give(500, kind="credit", reference="pix-1")
    told.give(500, kind="credit", reference="pix-1")
    assert [kind for kind, _, _ in written(told)] == ["credited", "credited"]


def test_two_credits_are_told_both(told):
    told.give(500, kind="credit")
    told.give(500, kind="credit")
    assert len(written(told)) == 4


def test_a_block_is_told_once_and_again_after_an_unblock(told):
    told.block()
    told.block(now=NOON + 1)
    assert written(told) == [("blocked", None, "ana@example.com"), ("blocked", None, None)]
    assert outbox.messages(told.tx)[0].event.standing.status == "blocked"
    told.run(lambda tx: accounts.set_status(tx, told.account(), "active"))
    told.block(now=NOON + 2)
    assert len(written(told)) == 4


def test_a_settlement_that_is_repeated_writes_nothing_more(told):
    told.hold("one", 900)
    told.settle("one", 900)
    told.settle("one", 900)
    assert len(written(told)) == 2


def test_a_recovered_call_writes_its_messages(told):
    told.hold("left", 900, floor=900, owner="dead")
    told.recover()
    assert [kind for kind, _, _ in written(told)] == ["threshold", "threshold"]


@pytest.mark.parametrize(
    "event",
    [
        lambda tx: reservations.settle(tx, "one", outcome(900), (80,), NOON, (USER, OPERATOR)),
        lambda tx: credits.give(tx, "ana", "credit", 5, NOON, channels=(USER, OPERATOR)),
        lambda tx: accounts.block(tx, accounts.get(tx, "ana"), NOON, (USER, OPERATOR)),
    ],
)
def test_messages_are_of_the_transaction_of_their_event(told, event):
    told.hold("one", 900)
    before = told.dump()

    def fail(tx):
        event(tx)
        assert outbox.messages(tx)
        raise KeyError

    with pytest.raises(KeyError):
        told.run(fail)
    assert told.dump() == before


def test_the_same_event_is_written_once(told):
    event = outbox.Event("blocked", NOON, told.account().standing)
    first = told.run(lambda tx: outbox.put(tx, 1, event, "once", (USER, OPERATOR)))
    again = told.run(lambda tx: outbox.put(tx, 1, event, "once", (USER, OPERATOR)))
    assert (first, again) == (2, 0)


def test_no_secret_is_in_the_ledger(told):
    told.spend(1000)
    assert "s3same" not in repr(told.dump()["outbox"])


def test_an_erased_account_leaves_no_messages(told):
    told.spend(1000)
    told.run(lambda tx: accounts.erase(tx, told.account()))
    assert written(told) == []


# leases


def test_what_is_leased_is_not_leased_again(told):
    told.spend(800)
    leased = claim(told)
    assert [(message.channel_id, message.tries) for message in leased] == [(USER.id, 1), (OPERATOR.id, 1)]
    assert not outbox.is_due(told.tx, IDS, NOON)
    assert claim(told, "there") == []


def test_a_lease_ends_by_itself(told):
    told.spend(800)
    claim(told)
    assert claim(told, "there", NOON + LEASE - 1) == []
    assert outbox.is_due(told.tx, IDS, NOON + LEASE)
    assert [message.tries for message in claim(told, "there", NOON + LEASE)] == [2, 2]


def test_a_lease_of_the_dead_is_freed(told):
    told.spend(800)
    claim(told, "dead")
    assert outbox.lease_owners(told.tx) == ["dead"]
    assert told.run(lambda tx: outbox.free(tx, lambda owner: True)) == 0
    assert told.run(lambda tx: outbox.free(tx, lambda owner: owner == "here")) == 2
    assert len(claim(told)) == 2


def test_the_oldest_are_leased_first(told):
    told.spend(800)
    told.give(5, kind="credit", now=NOON + 1)
    told.block(now=NOON + 2)
    order = [message.event.kind for _ in range(6) for message in claim(told, now=NOON + 5, limit=1)]
    assert order == ["threshold", "threshold", "credited", "credited", "blocked", "blocked"]


def test_only_known_channels_are_leased(told):
    told.spend(800)
    assert [message.channel_id for message in claim(told, ids=[OPERATOR.id])] == [OPERATOR.id]
    assert not outbox.is_due(told.tx, [OPERATOR.id], NOON)
    assert outbox.is_due(told.tx, IDS, NOON)
    assert claim(told, ids=[]) == []


def test_what_was_sent_is_sent(told):
    told.spend(800)
    first, second = claim(told)
    assert told.run(lambda tx: outbox.sent(tx, first, "here", NOON + 7))
    assert outbox.messages(told.tx, "sent")[0].sent_at_ms == NOON + 7
    assert [message.id for message in outbox.messages(told.tx, "pending")] == [second.id]
    assert claim(told, now=NOON + LEASE) != []
    assert claim(told, now=NOON + LEASE * 9, ids=[USER.id]) == []


def test_what_failed_waits_with_its_error(told):
    told.spend(800)
    first, _ = claim(told)
    assert told.run(lambda tx: outbox.failed(tx, first, "here", "421 later", NOON + MINUTE))
    message = outbox.messages(told.tx)[0]
    assert (message.state, message.last_error, message.next_try_at_ms) == ("pending", "421 later", NOON + MINUTE)
    assert claim(told, now=NOON + MINUTE - 1, ids=[USER.id]) == []
    assert [message.tries for message in claim(told, now=NOON + MINUTE, ids=[USER.id])] == [2]


def test_the_dead_are_left_alone(told):
    told.spend(800)
    first, _ = claim(told)
    told.run(lambda tx: outbox.failed(tx, first, "here", "550 no such user", None))
    assert [message.last_error for message in outbox.messages(told.tx, "dead")] == ["550 no such user"]
    assert claim(told, now=NOON + LEASE * 99, ids=[USER.id]) == []


def test_who_lost_the_lease_changes_nothing(told):
    told.spend(800)
    first, _ = claim(told)
    claim(told, "there", NOON + LEASE)
    before = told.dump()
    assert not told.run(lambda tx: outbox.sent(tx, first, "here", NOON))
    assert not told.run(lambda tx: outbox.failed(tx, first, "here", "x", None))
    assert told.dump() == before


def test_the_reference_of_a_message_stays(told):
    told.spend(800)
    first = claim(told)[0]
    again = claim(told, "there", NOON + LEASE)[0]
    assert first.reference == again.reference
    assert len({message.reference for message in outbox.messages(told.tx)}) == 2


# again


@pytest.mark.parametrize("state", ["pending", "sent", "dead"])
def test_a_message_can_be_sent_again(told, state):
    told.spend(800)
    first, _ = claim(told)
    if state == "sent":
        told.run(lambda tx: outbox.sent(tx, first, "here", NOON))
    else:
        error_at = NOON + MINUTE if state == "pending" else None
        told.run(lambda tx: outbox.failed(tx, first, "here", "x", error_at))
    resent = told.run(lambda tx: outbox.resend(tx, first.id, IDS, NOON + 1))
    assert (resent.state, resent.tries, resent.next_try_at_ms) == ("pending", 0, NOON + 1)
    assert [message.id for message in claim(told, now=NOON + 1, ids=[USER.id])] == [first.id]


def test_a_message_that_is_being_sent_is_not_sent_again(told):
    told.spend(800)
    first, _ = claim(told)
    with pytest.raises(Conflict, match=f"alert {first.id} is being delivered"):
        told.run(lambda tx: outbox.resend(tx, first.id, IDS, NOON + 1))


def test_a_message_that_never_was_is_not_sent_again(told):
    with pytest.raises(UnknownName, match="no alert '99'"):
        told.run(lambda tx: outbox.resend(tx, 99, IDS, NOON))


def test_a_message_whose_channel_is_gone_stays_as_it_is(told):
    told.spend(800)
    before = told.dump()
    with pytest.raises(LedgerError, match=r"goes to mailto://smtp\.example\.com\?to=\{email\}, which is not in alerts"):
        told.run(lambda tx: outbox.resend(tx, 1, [OPERATOR.id], NOON))
    assert told.dump() == before


def test_all_the_dead_can_be_sent_again(told):
    told.spend(800)
    for message in claim(told):
        told.run(lambda tx, message=message: outbox.failed(tx, message, "here", "x", None))
    resent = told.run(lambda tx: outbox.resend_dead(tx, [USER.id], NOON + 1))
    assert [message.channel_id for message in resent] == [USER.id]
    assert told.run(lambda tx: outbox.resend_dead(tx, [], NOON + 1)) == []
    assert len(outbox.messages(told.tx, "dead")) == 1


# several at once


def test_threads_that_lease_at_once_get_each_message_once(told):
    for number in range(20):
        told.give(1, kind="credit", now=NOON + number)

    def work(owner):
        with closing(engine_at(told.place).connect()) as tx:
            found = []
            for _ in range(20):
                with tx.transaction():
                    found += outbox.claim(tx, owner, IDS, NOON + 99, LEASE, 3)
            return [message.id for message in found]

    with ThreadPoolExecutor(4) as pool:
        leased = [each for found in pool.map(work, ["a", "b", "c", "d"]) for each in found]
    assert sorted(leased) == [message.id for message in outbox.messages(told.tx)]


def test_processes_that_lease_at_once_get_each_message_once(told):
    for number in range(20):
        told.give(1, kind="credit", now=NOON + number)
    program = (
        "import sys; from solaris_meter.ledger import outbox; from solaris_meter.ledger.database import open_engine\n"
        "tx = open_engine(sys.argv[1]).connect()\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(20):\n"
        "    with tx.transaction():\n"
        f"        for each in outbox.claim(tx, sys.argv[2], {IDS!r}, {NOON + 99}, {LEASE}, 3): print(each.id)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, told.url, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for owner in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    leased = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert sorted(leased) == [message.id for message in outbox.messages(told.tx)]


def test_parallel_calls_that_cross_together_write_one_message(told):
    for number in range(20):
        told.hold(f"call-{number}", 45)

    def settle(number):
        with closing(engine_at(told.place).connect()) as tx, tx.transaction():
            reservations.settle(tx, f"call-{number}", outcome(45), (80, 95, 100), NOON, (USER, OPERATOR))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(settle, range(20)))
    assert written(told) == [("threshold", 80, "ana@example.com"), ("threshold", 80, None)]


def test_a_ledger_opened_again_has_its_messages(told):
    told.spend(800)
    again = Books(told.place)
    assert written(again) == written(told)
    again.close()
