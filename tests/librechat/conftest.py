"""LibreChat's own npm package beside a sidecar: one node process per version, one sidecar per settings.

They run with `make librechat`, and in CI. The packages are installed from the locks into `.cache/librechat` when they
are first needed (half a minute and half a gigabyte each); their install scripts are never run. To raise a version, edit
its `package.json` and run in that folder

    npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
    npm prune --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.providers import ProviderUpstream
from tests.e2e.sidecar import Sidecar
from tests.librechat.person import Chatter, Librechat

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".cache" / "librechat"
_NPM_CI = [
    "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
    "--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=500",
]  # fmt: skip


@pytest.fixture(scope="session", params=["3.9", "3.0"])
def librechat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Librechat]:
    folder = _installed(_HERE / f"agents-{request.param}")
    log = tmp_path_factory.mktemp("librechat") / "node.log"
    librechat = Librechat(request.param, _HERE / "chat.mjs", folder, log)
    yield librechat
    librechat.stop()


def _installed(locked: Path) -> Path:
    """The folder that holds `node_modules` as `locked` names them. Skips where that cannot be; fails in CI."""
    if not os.environ.get("LIBRECHAT_AGENTS"):
        pytest.skip("downloads a gigabyte from npm: run with LIBRECHAT_AGENTS=1 (make librechat)")
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: LibreChat's own package is not run")
    files = [locked / "package.json", locked / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = _CACHE / f"{locked.name}-{digest}"
    if folder.exists():
        return folder
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix=f"{locked.name}-") as made:
        for file in files:
            shutil.copy(file, made)
        done = subprocess.run(_NPM_CI, cwd=made, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:200]
            reason = f"npm could not install {locked.name}; can it reach its registry? It says: {said}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        if not folder.exists():  # another run may have been faster
            Path(made).rename(folder)
            Path(made).mkdir()
    return folder


@pytest.fixture(scope="session")
def shared_providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderUpstream]:
    providers = ProviderUpstream(certificate=tmp_path_factory.mktemp("tls") / "providers.pem")
    providers.start()
    yield providers
    providers.stop()


@pytest.fixture(scope="session")
def sidecar(
    tmp_path_factory: pytest.TempPathFactory, shared_providers: ProviderUpstream
) -> Iterator[Callable[[str], Sidecar]]:
    """The sidecar with these settings; at the end nothing is held and every ledger is in order."""
    started: dict[str, Sidecar] = {}

    def sidecar(extra: str) -> Sidecar:
        if extra not in started:
            folder = tmp_path_factory.mktemp("sidecar")
            fresh = Sidecar(folder, shared_providers.url, extra, routes=shared_providers.routes())
            started[extra] = fresh
            fresh.start()
        return started[extra]

    try:
        yield sidecar
        for each in started.values():
            each.no_holds()
            each.check()
    finally:
        for each in started.values():
            each.kill()


@pytest.fixture
def chatter(
    librechat: Librechat, sidecar: Callable[[str], Sidecar], shared_providers: ProviderUpstream
) -> Callable[..., Chatter]:
    """Somebody new, who uses one endpoint of LibreChat."""
    shared_providers.requests.clear()

    def chatter(endpoint: str, extra: str = "") -> Chatter:
        return Chatter(endpoint, librechat, sidecar(extra), shared_providers)

    return chatter
