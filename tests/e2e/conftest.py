"""Real processes: an upstream for the whole session, a sidecar for each test that asks for one.

The tests of the SDKs (`providers`, `metered`, `person`) share a sidecar per module; each test calls as somebody else.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from tests.e2e.mitmweb import Mitmweb
from tests.e2e.person import Person
from tests.e2e.providers import TLS_HOSTS, ProviderUpstream
from tests.e2e.sidecar import Sidecar
from tests.e2e.upstream import Upstream

_REDIRECT = """
def server_connect(data):
    host, _ = data.server.address
    if host in {hosts}:
        data.server.address = ("127.0.0.1", {port})
"""
"""A mitmproxy script that leads the connections to real hosts to this machine; names, TLS and headers stay theirs."""


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
    """Start a sidecar; `arguments` go to mitmproxy, the rest to its settings (see Sidecar)."""
    started: list[Sidecar] = []

    def start(
        extra: str = "", arguments: Sequence[str] = (), *, database: str | None = None, ledger: str = ""
    ) -> Sidecar:
        folder = tmp_path / f"sidecar-{len(started)}"
        folder.mkdir()
        sidecar = Sidecar(folder, upstream.url, extra, database=database, ledger=ledger)
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


# -------------------------------------------------------------------------------------------------------------- SDKs


@pytest.fixture(scope="session")
def shared_providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderUpstream]:
    providers = ProviderUpstream(certificate=tmp_path_factory.mktemp("tls") / "providers.pem")
    providers.start()
    yield providers
    providers.stop()


@pytest.fixture
def providers(shared_providers: ProviderUpstream) -> ProviderUpstream:
    shared_providers.requests.clear()
    return shared_providers


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory, shared_providers: ProviderUpstream) -> Iterator[Sidecar]:
    """A sidecar before every provider; after the last test nothing is held and the ledger is in order."""
    folder = tmp_path_factory.mktemp("metered")
    sidecar = Sidecar(folder, shared_providers.url, routes=shared_providers.routes())
    _lead_here(sidecar, shared_providers)
    try:
        sidecar.start()
        yield sidecar
        sidecar.no_holds()
        sidecar.check()
    finally:
        sidecar.kill()


def _lead_here(sidecar: Sidecar, providers: ProviderUpstream) -> None:
    """Have the connections to real providers end on this machine."""
    script = sidecar.folder / "redirect.py"
    script.write_text(_REDIRECT.format(hosts=sorted(TLS_HOSTS), port=providers.tls_port))
    trusted = f"ssl_verify_upstream_trusted_ca={providers.certificate}"
    sidecar.mitmproxy_args += ["-s", str(script), "--set", trusted]


@pytest.fixture(scope="module")
def _callers() -> list[str]:
    return []


@pytest.fixture
def person(
    request: pytest.FixtureRequest, metered: Sidecar, providers: ProviderUpstream, _callers: list[str]
) -> Person:
    name = f"{len(_callers)}-{request.node.originalname}"
    others = list(_callers)
    _callers.append(name)
    return Person(name, metered, providers, others)


# ------------------------------------------------------------------------------------------------------------ mitmweb


@pytest.fixture(scope="module")
def module_web(tmp_path_factory: pytest.TempPathFactory, shared_providers: ProviderUpstream) -> Iterator[Mitmweb]:
    """A sidecar under mitmweb before the real names of providers, which are led to this machine."""
    folder = tmp_path_factory.mktemp("mitmweb")
    routes = {"openai": "https://api.openai.com", "anthropic": "https://api.anthropic.com"}
    routes["google"] = "https://generativelanguage.googleapis.com"
    web = Mitmweb(folder, shared_providers.url, routes=shared_providers.routes() | routes)
    _lead_here(web, shared_providers)
    try:
        web.start()
        web.prices_are_known()
        yield web
        web.no_holds()
        web.check()
    finally:
        web.kill()


@pytest.fixture
def web(module_web: Mitmweb, providers: ProviderUpstream) -> Mitmweb:
    """The same, without what was called before."""
    module_web.post("/clear")
    return module_web
