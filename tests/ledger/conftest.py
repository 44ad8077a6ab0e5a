"""Fixtures of the ledger's tests. Each works on a real database, so that locks and crashes are the engine's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ledger.support import Books, Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "solaris.db"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, path: Path) -> Place:
    """Where a ledger is, once for each engine: a SQLite file, or the URL of a PostgreSQL database."""
    found: Place = path if request.param == "sqlite" else request.getfixturevalue("postgres")
    return found


@pytest.fixture
def books(place: Place) -> Iterator[Books]:
    """A ledger that must still add up when the test is over, whatever the test was about."""
    opened = Books(place)
    yield opened
    problems = opened.check().problems
    opened.close()
    assert problems == []
