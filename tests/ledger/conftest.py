"""Fixtures of the ledger's tests. Each works on a real file, so that locks and crashes are the engine's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ledger.support import Books


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "solaris.db"


@pytest.fixture
def books(path: Path) -> Iterator[Books]:
    """A ledger that must still add up when the test is over, whatever the test was about."""
    opened = Books(path)
    yield opened
    problems = opened.check().problems
    opened.close()
    assert problems == []
