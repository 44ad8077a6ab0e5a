"""compose.yaml and its overrides, run for real: metered, denied, no way around, healed, and nothing lost."""

import json
import subprocess
import time

import httpx
import pytest
from cryptography import x509
from tests.deploy.engine import ENVIRONMENT, ROOT, Deployment, absent, lacks
from tests.e2e.certificates import ISSUER, write_certificate

WAYS = ("reverse", "forward", "transparent")
ANA, BIA, CAIO, DORA = ("65f0c1d2e3a4b5c6d7e8f90%d" % number for number in range(1, 5))  # noqa: UP031

pytestmark = [pytest.mark.skipif(bool(absent()), reason=absent() or "-"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A folder with the provider's certificate, `provider.pem` with its key and `ca.pem` without."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder / "provider.pem", ["api.openai.com", "api.anthropic.com", "example.net"])
    for file in (folder, folder.parent, *folder.iterdir()):
        file.chmod(0o755)  # containers read it as other users
    return folder


@pytest.fixture(scope="module", params=WAYS)
def deployment(request, certificate):
    standin = ROOT / "tests/deploy/standin"
    subprocess.run(["docker", "build", "-q", "-t", "solaris-standin:test", str(standin)], check=True, timeout=120)
    one = Deployment(certificate, request.param)
    one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        one.up()
        yield one
    finally:
        one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("profiles", ["", "inspect", "postgres", "monitoring", "inspect,postgres,monitoring"])
def test_every_profile_and_override_is_valid(tmp_path, way, profiles):
    one = Deployment(tmp_path, way, {"COMPOSE_PROFILES": profiles}, more=["deploy/compose.litestream.yaml"])
    services = json.loads(one.compose("config", "--format", "json"))["services"]
    for name, service in services.items():
        if name == "provider":
            continue
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] != "0:0" or service.get("network_mode") == "none" or way == "transparent", name
        assert service["logging"]["options"] == {"max-file": "5", "max-size": "10m"}, name
        assert "mem_limit" in service or service["restart"] == "no", name
        assert (
            (service.get("healthcheck") or {}).get("test")
            or name in ("solaris", "litestream")
            or service["restart"] == "no"
        ), name
        if not service["image"].startswith("solaris-"):
            tag = service["image"].rpartition(":")[2]
            assert tag, name
            assert tag != "latest", name


def test_calls_are_metered_and_the_identity_stays_here(deployment):
    for endpoint in ("openai", "anthropic", "groq"):
        answer = deployment.ask(endpoint, ANA)
        assert answer.get("status") == 200, answer
        assert "Oi do modelo." in answer["body"]
    events = deployment.cli("usage", "--events")
    assert [(event["user"], event["provider"], event["billed_tokens"], event["basis"]) for event in events] == [
        (ANA, provider, 15, "reported") for provider in ("openai", "anthropic", "groq")
    ]
    assert deployment.cli("balance", ANA)["used"] == 45
    arrived = deployment.arrived()
    assert len(arrived) == 3
    assert not [name for call in arrived for name in call["headers"] if name.lower().startswith("x-solaris")]


def test_a_stream_arrives_as_it_comes(deployment):
    answer = deployment.ask("openai", DORA, stream=True, words=5)
    assert answer["body"].count("data: ") >= 8
    assert answer["body"].endswith("data: [DONE]\n\n")
    assert deployment.cli("balance", DORA)["used"] == 15


def test_who_has_nothing_left_is_denied_and_the_provider_never_hears_of_it(deployment):
    deployment.cli("plans", "set", "prepago", "--tokens", "0", "--period", "none")
    deployment.cli("users", "add", BIA, "--plan", "prepago")
    before = len(deployment.arrived())
    for endpoint in ("openai", "anthropic", "groq"):
        answer = deployment.ask(endpoint, BIA)
        assert answer["status"] == 429
        assert answer["headers"]["x-solaris-denied"] == "tokens_exhausted"
        assert "vendas@example.com" in answer["body"]
    assert len(deployment.arrived()) == before
    deployment.cli("credit", BIA, "1000", "--reference", "pix-1")
    assert deployment.ask("openai", BIA)["status"] == 200
    assert deployment.cli("balance", BIA)["available"] == 985


def test_there_is_no_way_around_the_sidecar(deployment):
    address = deployment.address("provider")
    before = len(deployment.arrived())
    for attempt in (
        deployment.reach(address, 8000),
        deployment.reach(address, 443, udp=True),  # QUIC
        deployment.reach(address, 53),
    ):
        assert "error" in attempt, attempt
    direct = deployment.reach(address, 443, tls="api.openai.com")
    if deployment.way == "transparent":
        own = (deployment.inside("librechat", "cat", "/ca-public/solaris-ca.pem")).strip()
        assert "reached" in direct  # the sidecar itself
        assert _issuer(direct["certificate"]) == _issuer(own)
        # What is no provider's passes undecrypted.
        other = deployment.reach(address, 443, tls="example.net")
        assert ISSUER in _issuer(other["certificate"])
    else:
        assert "error" in direct
        assert "error" in deployment.reach("api.openai.com", 443)
    assert len(deployment.arrived()) == before


def test_the_sidecar_has_no_more_rights_than_it_needs(deployment):
    script = (
        "import os, pathlib\n"
        "for status in pathlib.Path('/proc').glob('[0-9]*/status'):\n"
        "    text = status.read_text()\n"
        "    if 'python' in text.splitlines()[0] and status.parent.name != str(os.getpid()):\n"
        "        print([line.split()[1] for line in text.splitlines() if line.startswith(('Uid', 'Cap', 'NoNew'))])"
    )
    said = deployment.compose("exec", "-T", "-u", "10001:10001", "solaris", "python", "-c", script)
    assert said.strip(), "the sidecar was not found"
    for process in said.splitlines():
        assert process == "['10001', '%s', '%s', '%s', '%s', '%s', '1']" % (("0" * 16,) * 5), said
    private = deployment.compose("exec", "-T", "librechat", "sh", "-c", "ls /ca-public; ls /ca 2>&1 || true")
    assert "solaris-ca.pem" in private
    assert "mitmproxy-ca.pem" not in private


def test_doctor_looks_at_all_of_it_and_finds_nothing_broken(deployment):
    said = deployment.doctor()
    assert said["ok"], said
    assert {finding["level"] for finding in said["findings"]} <= {"ok", "warning"}
    subjects = " ".join(finding["subject"] for finding in said["findings"])
    for subject in ("librechat.yaml", "ledger", "http://solaris:8080"):
        assert subject in subjects


def test_a_backup_is_restored_as_the_runbook_says(deployment):
    user = "65f0c1d2e3a4b5c6d7e8f909"
    assert deployment.ask("openai", user)["status"] == 200
    made = deployment.cli("db", "backup")["file"]
    deployment.cli("credit", user, "777")
    assert deployment.cli("balance", user)["available"] == 1_000_000 - 15 + 777
    deployment.compose("stop", "solaris")
    restore = ["run", "--rm", "-T", "--no-deps", "solaris", "solaris-cli", "db", "restore", made]
    with pytest.raises(AssertionError, match=r"entries of /data/solaris\.db are not in the backup"):
        deployment.compose(*restore)
    deployment.compose(*restore, "--force")
    deployment.compose("up", "-d", "--no-build")
    deployment.until_served(ANA)
    assert deployment.cli("balance", user)["available"] == 1_000_000 - 15
    assert deployment.cli("ledger", "check")["ok"]


def test_without_the_sidecar_there_are_no_models_and_it_heals_by_itself(deployment):
    subprocess.run(["docker", "kill", deployment.container("solaris")], check=True, capture_output=True)
    if deployment.way != "transparent":
        assert deployment.page() == 200  # the chat itself is still there
        for endpoint in ("openai", "anthropic", "groq"):
            assert "error" in deployment.ask(endpoint, ANA)
    before = deployment.container("librechat")
    time.sleep(3)
    subprocess.run(["docker", "start", deployment.container("solaris")], check=True, capture_output=True)
    deployment.until_served(ANA)
    assert deployment.container("librechat") == before  # nobody made it anew
    subprocess.run(["docker", "restart", "-t", "5", deployment.container("librechat")], check=True, capture_output=True)
    deployment.until_served(ANA)


def test_a_call_in_flight_survives_a_stop(deployment):
    """SIGTERM: a running answer gets to its end and is settled with what was reported."""
    stop = subprocess.Popen(
        ["sh", "-c", f"sleep 2; docker stop -t 45 {deployment.container('solaris')}"], stdout=subprocess.DEVNULL
    )
    if deployment.way == "transparent":  # LibreChat's own page goes with the namespace, and the answer with the page
        stop.wait(90)
    else:
        answer = deployment.ask("openai", CAIO, stream=True, words=40, delay_s=0.1)
        assert answer["body"].endswith("data: [DONE]\n\n")
        stop.wait(90)
    state = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.ExitCode}}", deployment.container("solaris")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert state.stdout.strip() == "0"
    deployment.compose("up", "-d", "--no-build")
    deployment.until_served(ANA)
    if deployment.way != "transparent":
        [event] = [event for event in deployment.cli("usage", "--events") if event["user"] == CAIO]
        assert (event["billed_tokens"], event["basis"], event["interrupted"]) == (15, "reported", False)


def test_the_ledger_survives_down_and_up(deployment):
    used = deployment.cli("balance", ANA)["used"]
    assert used > 0
    deployment.compose("down", "--timeout", "10")
    deployment.up()
    assert deployment.cli("balance", ANA)["used"] == used
    assert deployment.ask("openai", ANA)["status"] == 200
    assert deployment.cli("balance", ANA)["used"] == used + 15
    report = deployment.cli("ledger", "check")
    assert report["ok"], report
    assert deployment.cli("ledger", "holds") == []


def test_the_ledger_may_be_in_postgresql(certificate):
    if lacks("solaris-postgres:test"):
        pytest.skip(
            "the image solaris-postgres:test is not built: docker build -t … tests/deploy/postgres needs a network"
        )
    database = f"postgresql://solaris:{ENVIRONMENT['POSTGRES_PASSWORD']}@postgres/solaris"
    settings = {"COMPOSE_PROFILES": "postgres", "SOLARIS_LEDGER_DATABASE": database}
    one = Deployment(certificate, "reverse", settings, name="postgres")
    one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        one.up()
        assert one.ask("openai", ANA)["status"] == 200
        one.compose("down", "--timeout", "10")
        one.up()
        assert one.ask("openai", ANA)["status"] == 200
        assert one.cli("balance", ANA)["used"] == 30
        assert one.cli("ledger", "check")["ok"]
        subprocess.run(["docker", "kill", one.container("postgres")], check=True, capture_output=True)
        assert one.ask("openai", ANA)["status"] == 503
        subprocess.run(["docker", "start", one.container("postgres")], check=True, capture_output=True)
        one.until_served(ANA)
        assert one.cli("balance", ANA)["used"] == 45
    finally:
        one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def test_mitmweb_stands_in_with_the_profile(certificate):
    password = "a password of some length"
    settings = {"COMPOSE_PROFILES": "inspect", "INSPECT_PORT": "38081", "SOLARIS_INSPECT_PASSWORD": password}
    one = Deployment(certificate, "reverse", settings, name="inspect")
    one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        one.up()
        assert one.ask("openai", ANA)["status"] == 200
        assert one.cli("balance", ANA)["used"] == 15
        with httpx.Client(base_url="http://127.0.0.1:38081", trust_env=False, timeout=20) as operator:
            assert operator.get("/flows").status_code == 403
            shown = operator.get("/flows", headers={"authorization": f"Bearer {password}"})
            assert shown.status_code == 200
            assert ANA in shown.text
            assert "sk-of-the-operator" not in shown.text
    finally:
        one.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def _issuer(pem):
    return x509.load_pem_x509_certificate(pem.encode()).issuer.rfc4514_string()
