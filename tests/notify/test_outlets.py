"""Outlets: which way out a channel is, and errors without secrets."""

import subprocess
import sys

import pytest
from tests.ledger.support import NOON
from tests.notify.samples import composed

from solaris_meter.channels import parse_channel
from solaris_meter.errors import SettingsError
from solaris_meter.notify.outlets import Outlets
from solaris_meter.notify.sender import NotDelivered


def test_each_channel_has_its_way_out(mailbox, hook):
    channels = [parse_channel(url) for url in (mailbox.url(), hook.url(), f"json://127.0.0.1:{hook.port}/x")]
    outlets = Outlets(channels)
    outlets.check()
    for channel in channels:
        outlets.send(channel.id, "ana@example.com" if channel.personal else None, composed(), NOON)
    assert mailbox.recipients == [["ana@example.com"]]
    assert [path for path, _, _ in hook.requests] == ["/alerts", "/x"]


def test_an_address_is_one_address_whatever_it_holds(mailbox):
    channel = parse_channel(mailbox.url())
    Outlets([channel]).send(channel.id, "ana+x&cc=eve@example.com", composed(), NOON)
    assert mailbox.recipients == [["ana+x&cc=eve@example.com"]]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("slack://s3same", r"slack://\*\*\*\*"),
        ("nope://s3same", r"nope://\*\*\*\*"),
        ("mailto://robot:s3same@x", "mailto://x"),
        ("mailto://robot:s3same@smtp.example.com?to=nobody", r"mailto://smtp\.example\.com\?to=nobody"),
    ],
)
def test_a_channel_that_can_never_be_sent_to(url, name):
    with pytest.raises(SettingsError, match=rf"^alerts\.channels: {name}: .+") as refused:
        Outlets([parse_channel(url)]).check()
    assert "s3same" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:9/s3same",
        "tgram://123456789:s3same_hijklmnop/12315544/",
        "webhook+http://127.0.0.1:9/s3same?secret=s3same",
    ],
)
def test_no_secret_is_in_an_error(url, caplog):
    channel = parse_channel(url)
    with pytest.raises(NotDelivered) as failed:
        Outlets([channel]).send(channel.id, None, composed(), NOON)
    assert "s3same" not in str(failed.value) + caplog.text
    assert failed.value.__suppress_context__


def test_what_a_server_repeats_is_masked(mailbox):
    mailbox.answers = ["550 robot:s3same? no"]
    channel = parse_channel(mailbox.url().replace("//", "//robot:s3same@"))
    mailbox.answers = ["550 your password s3same is known to everybody"]
    with pytest.raises(NotDelivered) as failed:
        Outlets([channel]).send(channel.id, "ana@example.com", composed(), NOON)
    assert "s3same" not in str(failed.value)


@pytest.mark.parametrize("module", ["solaris_meter.notify.__main__", "solaris_meter.proxy.addons"])
def test_apprise_is_not_loaded_before_a_channel_is_read(module):
    program = f"import sys, {module}; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
