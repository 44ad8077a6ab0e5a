"""Fixtures of the tests of notify: what listens is real, the clock and chance are the test's own."""

from collections.abc import Iterator

import pytest
from tests.notify.mailbox import Hook, Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    opened = Mailbox().start()
    yield opened
    opened.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    opened = Hook().start()
    yield opened
    opened.stop()
