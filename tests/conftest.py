"""What every test needs: litellm must never look for the network, and what listens is real."""

import os
from collections.abc import Iterator

import pytest
from tests.notify.mailbox import Hook, Mailbox

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["HF_HUB_OFFLINE"] = "1"


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
