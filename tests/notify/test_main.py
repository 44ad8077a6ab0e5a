"""`python -m solaris_meter.notify`, as the command line starts it."""

import json
import subprocess
import sys

import pytest

from solaris_meter.notify.__main__ import main


@pytest.fixture
def configure(tmp_path, monkeypatch):
    def write(*channels, more=""):
        config = tmp_path / "settings.toml"
        config.write_text(f"[alerts]\nchannels = {json.dumps(channels)}\n{more}")
        monkeypatch.setenv("SOLARIS_CONFIG", str(config))

    return write


def test_a_test_goes_to_every_channel(configure, mailbox, hook, capsys):
    configure(mailbox.url(), mailbox.url("ops@example.com"), hook.url(), more='[locale]\nlanguage = "en"\n')
    assert main(["test", "ana@example.com"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(row["to"], row["ok"], row["error"]) for row in shown] == [
        ("ana@example.com", True, None),
        (None, True, None),
        (None, True, None),
    ]
    assert [letter["To"] for letter in mailbox.letters] == ["ana@example.com", "ops@example.com"]
    assert {letter["Subject"] for letter in mailbox.letters} == {"Test: alerts reach you"}
    assert [body["kind"] for body in hook.bodies] == ["test"]


def test_a_channel_for_users_needs_an_address(configure, mailbox, capsys):
    configure(mailbox.url())
    assert main(["test"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["ok"], row["error"]) == (None, "it is for users: name an address with --email")
    assert mailbox.letters == []


def test_a_channel_that_fails_says_why_and_the_others_go_on(configure, mailbox, hook, capsys):
    hook.answers = [500]
    configure(hook.url(), mailbox.url("ops@example.com"))
    assert main(["test"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["ok"], first["error"]) == (False, "127.0.0.1 answered HTTP 500")
    assert second["ok"] is True
    assert "s3same" not in json.dumps([first, second])


def test_a_check_sends_nothing(configure, mailbox, capsys):
    configure(mailbox.url(), "slack://s3same")
    assert main(["check"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["ok"], second["ok"], second["channel"]) == (True, False, "slack://****")
    assert (mailbox.tries, "s3same" in second["error"]) == (0, False)


def test_settings_that_are_wrong_are_told_on_stderr(configure):
    configure("s3same")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "solaris_meter.notify", "check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "alerts.channels: a channel that is not a URL" in done.stderr
    assert "s3same" not in done.stderr
