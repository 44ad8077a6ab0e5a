"""alerts: list, resend, test; what doctor says of channels; what credit, block, export and erase do to the outbox."""

import json

import pytest
from tests.ledger.support import NOON
from tests.notify.mailbox import Hook, Mailbox

from solaris_meter.ledger import outbox

CHANNELS = ["mailto://robot:s3same@127.0.0.1:9?from=a@example.com&to={email}", "slack://s3same/s3same/s3same"]
MAIL = "mailto://127.0.0.1:9?to={email}"


def configure(cli, *channels):
    cli.configure(f"[alerts]\nchannels = {json.dumps(channels)}\n")


@pytest.fixture
def told(cli):
    """Two messages wait: of a credit, for ana and for the operator."""
    configure(cli, *CHANNELS)
    cli.ok("credit", "ana", "500K", "--paid", "49.90")
    return cli


def fail(cli, *, dead):
    again = None if dead else NOON + 60_000

    def work(books):
        ids = [message.channel_id for message in outbox.messages(books.tx)]
        for message in books.run(lambda tx: outbox.claim(tx, "here", ids, NOON, 1000, 9)):
            books.run(lambda tx, message=message: outbox.failed(tx, message, "here", "550\n  no", again))

    cli.calls(work)


def test_nothing_happened_yet(cli):
    assert cli.ok("alerts") == "no alerts\n"
    assert cli.json("alerts", "list", "--state", "dead") == []


def test_a_credit_waits_for_its_delivery(told):
    assert told.json("alerts") == [
        {
            "id": 1,
            "at": "2026-03-10T15:00:00Z",
            "kind": "credited",
            "threshold": None,
            "user": "ana",
            "to": "ana@example.com",
            "channel": MAIL,
            "state": "pending",
            "tries": 0,
            "next_try_at": "2026-03-10T15:00:00Z",
            "sent_at": None,
            "last_error": None,
        },
        {
            "id": 2,
            "at": "2026-03-10T15:00:00Z",
            "kind": "credited",
            "threshold": None,
            "user": "ana",
            "to": None,
            "channel": "slack://****",
            "state": "pending",
            "tries": 0,
            "next_try_at": "2026-03-10T15:00:00Z",
            "sent_at": None,
            "last_error": None,
        },
    ]


def test_no_secret_is_shown(told):
    fail(told, dead=True)
    for command in (["alerts"], ["alerts", "--json"], ["doctor", "--json"], ["alerts", "resend", "1"]):
        result = told.run(*command)
        assert "s3same" not in result.output


def test_the_list_for_people_has_one_line_each(told):
    fail(told, dead=False)
    header, _, first, _ = told.ok("alerts").splitlines()
    assert header.split()[:3] == ["id", "at", "kind"]
    for cell in ("credited", "ana@example.com", MAIL, "pending", "1", "2026-03-10T15:01:00Z", "550 no"):
        assert cell in first


@pytest.mark.parametrize(("state", "count"), [("pending", 0), ("dead", 2), ("sent", 0)])
def test_the_list_of_one_state(told, state, count):
    fail(told, dead=True)
    assert len(told.json("alerts", "list", "--state", state)) == count


def test_a_block_is_told_once(told):
    told.ok("users", "block", "bruno")
    told.ok("users", "block", "bruno")
    told.ok("users", "unblock", "bruno")
    assert [(row["kind"], row["to"]) for row in told.json("alerts")[2:]] == [
        ("blocked", "bruno@example.com"),
        ("blocked", None),
    ]


def test_a_gift_and_a_repeated_credit_are_not_told(told):
    told.ok("grant", "ana", "1K")
    told.ok("credit", "ana", "1K", "--reference", "pix-1")
    told.ok("credit", "ana", "1K", "--reference", "pix-1")
    assert len(told.json("alerts")) == 4


def test_one_alert_is_resent(told):
    fail(told, dead=True)
    told.now += 5000
    assert told.ok("alerts", "resend", "2") == "1 alert will be sent again\n"
    (row,) = told.json("alerts", "list", "--state", "pending")
    assert (row["id"], row["tries"], row["next_try_at"]) == (2, 0, "2026-03-10T15:00:05Z")
    assert [row["id"] for row in told.json("alerts", "resend", "1")] == [1]


def test_all_dead_alerts_are_resent(told):
    fail(told, dead=True)
    assert told.ok("alerts", "resend", "--dead") == "2 alerts will be sent again\n"
    assert told.json("alerts", "resend", "--dead") == []


def test_the_dead_of_a_channel_that_is_gone_stay(told):
    fail(told, dead=True)
    configure(told, CHANNELS[1])
    said = told.ok("alerts", "resend", "--dead")
    assert said == "1 alert will be sent again\n1 dead stay: their channels are not in alerts.channels any more\n"
    assert f"alert 1 goes to {MAIL}, which is not in alerts.channels any more" in told.refused("alerts", "resend", "1")


def test_what_cannot_be_resent(told):
    assert "no alert '99'; see 'solaris-cli alerts list'" in told.refused("alerts", "resend", "99")
    assert "name one alert by its ID" in told.misused("alerts", "resend")
    assert "name one alert by its ID" in told.misused("alerts", "resend", "1", "--dead")


def test_an_export_has_the_alerts_and_an_erased_user_none(told):
    assert [row["kind"] for row in json.loads(told.ok("users", "export", "ana"))["alerts"]] == ["credited"] * 2
    told.ok("users", "erase", "ana", "--yes")
    assert told.json("alerts") == []
    assert "ana@example.com" not in "".join(told.dump())


# test


def test_a_test_goes_to_every_channel(cli):
    mailbox, hook = Mailbox().start(), Hook().start()
    configure(cli, mailbox.url(), hook.url())
    rows = cli.json("alerts", "test", "--email", "ana@example.com")
    assert [(row["to"], row["ok"], row["error"]) for row in rows] == [
        ("ana@example.com", True, None),
        (None, True, None),
    ]
    said = cli.ok("alerts", "test").splitlines()
    assert "left out" in said[2]
    assert "--email" in said[2]
    assert "sent" in said[3]
    assert (len(mailbox.letters), len(hook.requests)) == (1, 2)
    mailbox.stop()
    hook.stop()


def test_a_test_that_fails_is_exit_1(cli):
    configure(cli, CHANNELS[0])
    result = cli.run("alerts", "test", "--email", "ana@example.com", "--json")
    (row,) = json.loads(result.stdout)
    assert (result.exit_code, row["ok"], row["channel"]) == (1, False, MAIL)
    assert row["error"] == "127.0.0.1:9: Connection refused"


def test_a_test_of_nothing(cli):
    assert cli.ok("alerts", "test") == "alerts.channels is empty: nobody is told of anything\n"


# doctor


def findings(cli):
    report = json.loads(cli.run("doctor", "--json").stdout)
    return [
        (row["level"], row["text"]) for row in report["findings"] if row["subject"] in {"alerts", "alerts.channels"}
    ]


def test_doctor_says_which_channels_can_be_used(cli):
    configure(cli, CHANNELS[0], "slack://s3same")
    (good, bad) = findings(cli)
    assert good == ("ok", MAIL)
    assert bad[0] == "fault"
    assert bad[1].startswith("slack://****: ")
    assert "s3same" not in bad[1]


def test_doctor_counts_what_did_not_leave(told):
    configure(told, CHANNELS[0])
    assert ("warning", "1 wait for channels that are not in alerts.channels any more") in findings(told)
    configure(told, *CHANNELS)
    fail(told, dead=True)
    assert ("warning", "2 could not be sent") in findings(told)


def test_a_url_that_is_none_is_refused_with_its_setting(cli):
    configure(cli, "s3same")
    said = cli.refused("balance")
    assert "alerts.channels: a channel that is not a URL" in said
    assert "s3same" not in said


def test_a_balance_does_not_load_apprise(cli, program):
    configure(cli, *CHANNELS)
    done = program("balance", "ana", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "solaris_meter.ledger" in done.stderr
    assert "apprise" not in done.stderr
    assert "solaris_meter.notify" not in done.stderr
