"""The rules of the layout: who may import what, what a start-up loads, what the wheel and the lock hold."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "addon").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])

ALLOWED = {
    "mitmproxy": {"addon/solaris_addon.py", "addon/solaris_meter/proxy/"},
    "litellm": {"addon/solaris_meter/metering/tokens.py", "addon/solaris_meter/metering/pricing.py"},
    "apprise": {"addon/solaris_meter/notify/gateway.py"},
    "click": {"cli/solaris_cli/"},
    "sqlite_utils": {"addon/solaris_meter/ledger/database/", "addon/solaris_meter/ledger/migrations.py"},
    "psycopg": {"addon/solaris_meter/ledger/database/"},
    "prometheus_client": {"addon/solaris_meter/proxy/metrics.py"},
    "tornado": {"addon/solaris_meter/proxy/observatory.py"},
    "opentelemetry": {"addon/solaris_meter/proxy/tracing.py"},
    "sqlite3": {
        "addon/solaris_meter/ledger/database/",
        "addon/solaris_meter/ledger/migrations.py",
        "addon/solaris_meter/ledger/copies.py",
        "addon/solaris_meter/ledger/backup.py",
    },
}
"""Foreign package → where it may be imported: files, and folders with a slash at their end."""

STOLEN = [Version("1.82.7"), Version("1.82.8"), Version("1.107.0")]
"""Releases of litellm that were not made by its makers, or that anybody could have signed."""


def imported(source):
    """Every module that a source text imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(file):
    return file.relative_to(ROOT).as_posix()


def is_in(file, places):
    return any(place(file) == allowed or (allowed[-1] == "/" and place(file).startswith(allowed)) for allowed in places)


def locked():
    """Each requirement of the lock with its hashes, as `pip` reads them."""
    text = (ROOT / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = line.split("--hash=")
            yield Requirement(requirement.strip()), [value.strip() for value in hashes]


# imports


def test_the_contracts_of_import_linter_are_kept():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", ALLOWED)
def test_a_foreign_package_is_imported_in_its_one_place_only(package):
    users = [file for file in SOURCES if package in {name.partition(".")[0] for name in imported(file.read_text())}]
    assert users, f"nobody imports {package}: is this test still about something?"
    assert [place(file) for file in users if not is_in(file, ALLOWED[package])] == []


def test_no_module_is_imported_by_a_name_that_is_hidden_from_this_test():
    hidden = re.compile(r"__import__\(|import_module\(|\bexec\(")
    assert [place(file) for file in SOURCES if hidden.search(file.read_text())] == []


def test_the_values_import_nothing_of_the_rest():
    values = {"settings", "models", "periods", "amounts", "channels", "errors"}
    for name in values:
        file = ROOT / "addon" / "solaris_meter" / f"{name}.py"
        own = {module.split(".")[1] for module in imported(file.read_text()) if module.startswith("solaris_meter.")}
        assert own <= values, name


def test_the_command_line_uses_the_ledger_and_values_only():
    allowed = {"ledger", "settings", "models", "periods", "amounts", "errors", "__version__"}
    for file in (ROOT / "cli").rglob("*.py"):
        own = {name.split(".")[1] for name in imported(file.read_text()) if name.startswith("solaris_meter.")}
        texts = {"chat"} if file.name == "messages.py" else set()
        assert own <= allowed | texts, place(file)


def test_the_ledger_knows_no_text_and_no_http():
    for file in (ROOT / "addon" / "solaris_meter" / "ledger").rglob("*.py"):
        roots = {name.partition(".")[0] for name in imported(file.read_text())}
        assert roots.isdisjoint({"http", "urllib", "httpx", "aiohttp", "babel", "gettext", "mitmproxy"}), place(file)


def test_the_proxy_writes_no_sql():
    for file in (ROOT / "addon" / "solaris_meter" / "proxy").rglob("*.py"):
        assert not re.search(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s", file.read_text()), place(file)


@pytest.mark.parametrize("module", ["solaris_cli.main", "solaris_meter.ledger.ledger"])
def test_a_start_of_the_command_line_loads_nothing_heavy(module):
    heavy = {
        "apprise",
        "psycopg",
        "litellm",
        "mitmproxy",
        "aiohttp",
        "openai",
        "anthropic",
        "tiktoken",
        "httpx",
        "babel",
    }
    program = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "solaris_meter" in loaded
    assert loaded.isdisjoint(heavy)


# the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def test_the_wheel_holds_the_packages_the_addon_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    info = {name for name in tops if re.fullmatch(r"solaris_meter-[0-9][0-9a-z.]*\.dist-info", name)}
    assert len(info) == 1
    assert tops - info == {"solaris_meter", "solaris_cli", "solaris_addon.py"}


def test_the_wheel_holds_every_source_file(wheel):
    expected = {file.relative_to(ROOT / place(file).partition("/")[0]).as_posix() for file in SOURCES}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected


def test_the_wheel_holds_the_texts_of_every_language(wheel):
    packed = {name for name in wheel.namelist() if name.endswith(".toml")}
    assert packed == {f"solaris_meter/chat/catalogues/{language}.toml" for language in ("pt-BR", "en")}


def test_the_wheel_installs_the_command(wheel):
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "solaris-cli = solaris_cli.main:main" in wheel.read(entry_points).decode()


# the lock


def test_every_locked_requirement_is_one_version_with_its_hashes():
    requirements = list(locked())
    assert len(requirements) > 20
    for requirement, hashes in requirements:
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), requirement


@pytest.mark.parametrize("name", ["litellm", "mitmproxy"])
def test_what_the_metering_hangs_on_is_locked_to_one_version_everywhere(name):
    found = [requirement for requirement, _ in locked() if requirement.name == name]
    assert len(found) == 1
    assert found[0].marker is None


def test_no_stolen_release_is_locked():
    (litellm,) = [requirement for requirement, _ in locked() if requirement.name == "litellm"]
    assert not any(litellm.specifier.contains(version) for version in STOLEN)
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert not [version for version in STOLEN if f"litellm=={version}" in text]


def test_the_lock_names_no_address():
    # an index, a proxy or a folder of the machine on which it was made
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-e|--(?!hash=))", text, re.MULTILINE)
    assert not [requirement for requirement, _ in locked() if requirement.url]


def test_the_project_refuses_stolen_releases_by_their_numbers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (litellm,) = [wanted for wanted in map(Requirement, project["project"]["dependencies"]) if wanted.name == "litellm"]
    excluded = {specifier.version for specifier in litellm.specifier if specifier.operator == "!="}
    assert {str(version) for version in STOLEN} <= excluded
    assert not any(litellm.specifier.contains(version) for version in STOLEN)


def test_what_is_locked_is_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = {canonicalize_name(requirement.name): requirement for requirement, _ in locked()}
    for wanted in map(Requirement, project["dependencies"]):
        (pin,) = pins[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(pin.version), wanted
