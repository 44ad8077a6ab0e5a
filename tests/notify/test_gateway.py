"""Apprise, for every other scheme."""

import logging

import pytest
from tests.ledger.support import NOON
from tests.notify.samples import composed

from solaris_meter.notify.gateway import Gateway
from solaris_meter.notify.sender import NotDelivered


def test_a_service_gets_subject_and_text(hook):
    hook.answers = [200]
    Gateway(f"json://127.0.0.1:{hook.port}/x").send(composed(), NOON)
    (body,) = hook.bodies
    assert (body["title"], body["message"]) == (composed().subject, composed().text)


def test_what_the_service_answers_is_the_error(hook):
    hook.answers = [403]
    with pytest.raises(NotDelivered, match="403"):
        Gateway(f"json://127.0.0.1:{hook.port}/x").send(composed(), NOON)


@pytest.mark.parametrize("url", ["nope://s3same", "slack://bad", "discord://"])
def test_a_url_that_apprise_does_not_take(url):
    with pytest.raises(ValueError, match=r".+") as refused:
        Gateway(url)
    assert url not in str(refused.value)


@pytest.fixture
def heard():
    """What reaches the root logger's handlers, as mitmproxy's are. (`caplog` hears what goes nowhere, too.)"""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield records
    root.setLevel(level)
    root.removeHandler(handler)


def test_what_apprise_says_goes_nowhere_else(heard):
    with pytest.raises(ValueError, match=r".+"):
        Gateway("nope://s3same")
    with pytest.raises(NotDelivered):
        Gateway("json://127.0.0.1:9/s3same").send(composed(), NOON)
    assert heard == []
