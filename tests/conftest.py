"""What every test needs: litellm must never look for the network, and what listens is real."""

import os
from collections.abc import Iterator

import pytest
from tests.notify.mailbox import Hook, Mailbox
from tests.postgres import PostgresServer

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the session; the tests that need it are skipped where none can run."""
    try:
        server = PostgresServer()
    except Exception as error:
        pytest.skip(f"no PostgreSQL can run here: {type(error).__name__}: {error}")
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of a new ledger. Its schema must stay what it is."""
    return postgres_server.ledger()


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database without a ledger."""
    url = postgres_server.database(empty=True)
    yield url
    postgres_server.drop(url)
