"""Real processes: an upstream for the whole session, a sidecar for each test that asks for one."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from tests.e2e.sidecar import Sidecar
from tests.e2e.upstream import Upstream


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    upstream.start()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.requests.clear()
    return shared_upstream


@pytest.fixture
def start(tmp_path: Path, upstream: Upstream) -> Iterator[Callable[..., Sidecar]]:
    """Start a sidecar; `extra` is appended to its settings, `arguments` go to mitmproxy."""
    started: list[Sidecar] = []

    def start(extra: str = "", arguments: Sequence[str] = ()) -> Sidecar:
        folder = tmp_path / f"sidecar-{len(started)}"
        folder.mkdir()
        sidecar = Sidecar(folder, upstream.url, extra)
        sidecar.mitmproxy_args += arguments
        started.append(sidecar)
        sidecar.start()
        return sidecar

    yield start
    for sidecar in started:
        sidecar.kill()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False) as client:
        yield client
