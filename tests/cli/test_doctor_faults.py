"""doctor on a whole deployment: a good one gives no warning, and each seeded fault is found, with its remedy."""

import json
import os
import shutil
import socket
import threading
from collections import namedtuple
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from solaris_cli.doctor.host import Host, _listeners, _mounts
from solaris_cli.doctor.librechat import LibreChat
from solaris_meter.ledger.database import SqliteEngine

Disk = namedtuple("Disk", "total used free")
NOW = datetime(2026, 3, 10, 15, tzinfo=UTC)

HEALTHY = """
[identity]
key = "0123456789abcdef"
[purchase]
email = "vendas@iasolaris.example"
"""
HEADERS = """\
      X-Solaris-User: "{{LIBRECHAT_USER_ID}}"
      X-Solaris-Email: "{{LIBRECHAT_USER_EMAIL}}"
      X-Solaris-Conversation: "{{LIBRECHAT_BODY_CONVERSATIONID}}"
      X-Solaris-Key: "${SOLARIS_IDENTITY_KEY}"
"""
LIBRECHAT = f"""\
version: 1.2.8
endpoints:
  openAI:
    headers: &solaris
{HEADERS}
  anthropic:
    headers: *solaris
  google:
    headers: *solaris
  azureOpenAI:
    groups:
      - group: brasil
        apiKey: "${{AZURE_KEY}}"
        additionalHeaders: *solaris
  custom:
    - name: Groq
      apiKey: "${{GROQ_API_KEY}}"
      baseURL: "http://solaris:8080/groq/openai/v1"
      headers: *solaris
      models: {{ default: [llama-3.3-70b-versatile] }}
balance:
  enabled: false
"""
ENV = """\
SOLARIS_IDENTITY_KEY=0123456789abcdef
OPENAI_API_KEY=sk-1
OPENAI_REVERSE_PROXY=http://solaris:8080/openai/v1
ANTHROPIC_REVERSE_PROXY=http://solaris:8080/anthropic
GOOGLE_REVERSE_PROXY=http://solaris:8080/google
"""
COMPOSE = """\
services:
  api:
    image: ghcr.io/danny-avila/librechat:v0.8.7
    environment:
      - HOST=0.0.0.0
"""
PROXY = "PROXY=http://solaris:8080\n"


class Deployment:
    """LibreChat's folder, mitmproxy's folder, settings and a ledger, all in order until a test seeds a fault."""

    def __init__(self, cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cli = cli
        self.patch = monkeypatch
        self.chat = cli.folder / "librechat"
        self.confdir = cli.folder / "mitmproxy"
        self.chat.mkdir()
        self.confdir.mkdir()
        self.host = Host({"/": "ext4"}, frozenset({("127.0.0.1", 8080)}), {}, False, (), cli.folder / "home")
        cli.configure(HEALTHY)
        (self.chat / "librechat.yaml").write_text(LIBRECHAT)
        (self.chat / ".env").write_text(ENV)
        (self.chat / "docker-compose.override.yml").write_text(COMPOSE)
        self.certify(NOW + timedelta(days=365))

    def certify(self, until: datetime, *, since: datetime = NOW - timedelta(days=400)) -> bytes:
        """A CA as mitmproxy makes it; its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mitmproxy")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        (self.confdir / "mitmproxy-ca-cert.pem").write_bytes(certificate)
        (self.confdir / "mitmproxy-ca.pem").write_bytes(certificate)
        (self.confdir / "mitmproxy-ca.pem").chmod(0o600)
        return certificate

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.chat / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def yaml(self, old: str, new: str) -> None:
        self.edit("librechat.yaml", old, new)

    def env(self, old: str, new: str) -> None:
        self.edit(".env", old, new)

    def more_env(self, text: str) -> None:
        (self.chat / ".env").write_text((self.chat / ".env").read_text() + text)

    def as_proxy(self, more: str = "") -> None:
        """Mode B: the sidecar as a forward proxy, and no base URLs."""
        (self.chat / ".env").write_text("SOLARIS_IDENTITY_KEY=0123456789abcdef\nOPENAI_API_KEY=sk-1\n" + more)
        self.yaml("http://solaris:8080/groq/openai/v1", "https://api.groq.com/openai/v1")
        trusted = (
            f"      - PROXY=http://solaris:8080\n      - NODE_EXTRA_CA_CERTS={self.confdir}/mitmproxy-ca-cert.pem\n"
        )
        (self.chat / "docker-compose.override.yml").write_text(COMPOSE + trusted)

    def settings(self, text: str) -> None:
        self.cli.configure(HEALTHY + text)

    def examine(self, *arguments: str) -> list[dict[str, str]]:
        """What doctor finds besides what is well."""
        self.patch.setattr(Host, "read", lambda: self.host)
        result = self.cli.run("doctor", "--json", "--librechat", str(self.chat), "--ca", str(self.confdir), *arguments)
        assert result.stderr == ""
        report = json.loads(result.stdout)
        found = [finding for finding in report["findings"] if finding["level"] != "ok"]
        assert (result.exit_code == 1) == any(finding["level"] == "fault" for finding in found)
        assert all(finding["remedy"] for finding in found)
        assert "0123456789abcdef" not in result.stdout
        return found


@pytest.fixture
def deployment(cli, monkeypatch):
    return Deployment(cli, monkeypatch)


def test_a_good_deployment_gives_no_warning(deployment):
    assert deployment.examine() == []


def test_a_good_deployment_with_the_sidecar_as_a_proxy_gives_no_warning(deployment):
    deployment.as_proxy("NO_PROXY=localhost,mongodb,rag_api\n")
    assert deployment.examine() == []


def test_a_good_file_alone_is_enough(deployment):
    deployment.chat = deployment.chat / "librechat.yaml"
    assert deployment.examine() == []


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "way", ["", "compose.yaml:deploy/compose.forward.yaml", "compose.yaml:deploy/compose.transparent.yaml"]
)
def test_what_this_project_deploys_gives_no_warning(deployment, way):
    shutil.rmtree(deployment.chat)
    shutil.copytree(ROOT / "deploy", deployment.chat / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "compose.yaml", deployment.chat)
    lines = (
        (ROOT / ".env.example").read_text().replace("SOLARIS_IDENTITY_KEY=", "SOLARIS_IDENTITY_KEY=0123456789abcdef")
    )
    (deployment.chat / ".env").write_text(lines + "OPENAI_API_KEY=sk-1\n" + (f"COMPOSE_FILE={way}\n" if way else ""))
    assert deployment.examine() == []
    deployment.edit(".env", "SOLARIS_IDENTITY_KEY=0123456789abcdef", "SOLARIS_IDENTITY_KEY=another")
    found = deployment.examine()
    assert found
    assert {finding["level"] for finding in found} == {"fault"}


def test_a_private_env_is_read_from_what_the_program_was_given(deployment, monkeypatch):
    monkeypatch.setattr(os, "access", lambda file, mode: Path(file).name != ".env")
    variables = dict(line.split("=", 1) for line in ENV.splitlines())
    deployment.host = replace(deployment.host, environment=variables)
    assert deployment.examine() == []
    deployment.host = replace(deployment.host, environment=variables | {"OPENAI_REVERSE_PROXY": ""})
    assert [finding["subject"] for finding in deployment.examine()] == ["OPENAI_REVERSE_PROXY"]


def _older_events(deployment):
    deployment.cli.now -= 3_600_000


def _config(text):
    return lambda one: (one.confdir / "config.yaml").write_text(text)


def _mounted(kind):
    def seed(one):
        one.host = replace(one.host, mounts={"/": "ext4", str(one.cli.folder): kind})

    return seed


def _unsettled(suffix):
    def seed(one):
        journal = SqliteEngine(one.cli.database).journal
        journal.with_suffix(suffix).write_text("{}\n")

    return seed


def _no_disk(one):
    one.patch.setattr(shutil, "disk_usage", lambda _: Disk(100 << 20, 90 << 20, 10 << 20))


def _foreign_certificate(one):
    ours = one.confdir / "mitmproxy-ca-cert.pem"
    theirs = one.chat / "ca.pem"
    theirs.write_bytes(ours.read_bytes())
    one.certify(NOW + timedelta(days=365))
    one.as_proxy()
    one.edit("docker-compose.override.yml", f"={ours}", f"={theirs}")


def _edited_addon(one):
    addon = one.cli.folder / "solaris_addon.py"
    addon.write_text('"""Doc."""\n\naddons = []\n')
    spec = namedtuple("Spec", "origin")(str(addon))
    one.patch.setattr("importlib.util.find_spec", lambda name: spec)


def _not_writable(one):
    real = os.access
    one.patch.setattr(os, "access", lambda path, mode: Path(path) != one.cli.folder and real(path, mode))


OPENAI, KEY = "endpoints.openAI.headers", "X-Solaris-Key"
GROQ = "endpoints.custom[Groq]"
FIRST = "    headers: &solaris\n"
KEY_LINE = '      X-Solaris-Key: "${SOLARIS_IDENTITY_KEY}"\n'
USER_LINE = '      X-Solaris-User: "{{LIBRECHAT_USER_ID}}"\n'

SEEDED: dict[str, tuple[Any, str, str, str, str]] = {
    # what was done: how, level, subject, part of the text, part of the remedy
    "invalid YAML": (
        lambda o: o.yaml("endpoints:", "endpoints: ["),
        "fault",
        "librechat.yaml",
        "is not valid YAML",
        "correct",
    ),
    "no librechat.yaml": (
        lambda o: (o.chat / "librechat.yaml").unlink(),
        "fault",
        "librechat.yaml",
        "is not there",
        "name",
    ),
    "invalid compose": (
        lambda o: (o.chat / "docker-compose.override.yml").write_text("services: ["),
        "fault",
        "docker-compose.override.yml",
        "is not valid YAML",
        "correct",
    ),
    "no user header": (
        lambda o: o.yaml(USER_LINE, ""),
        "warning",
        OPENAI,
        "has no X-Solaris-User",
        '"{{LIBRECHAT_USER_ID}}"',
    ),
    "no user header, google": (
        lambda o: o.yaml("  google:\n    headers: *solaris", "  google:\n    headers: {}"),
        "fault",
        "endpoints.google.headers",
        "has no X-Solaris-User, and the body has no user either",
        "LIBRECHAT_USER_ID",
    ),
    "no additionalHeaders": (
        lambda o: o.yaml("        additionalHeaders: *solaris\n", ""),
        "warning",
        "endpoints.azureOpenAI.groups[brasil].additionalHeaders",
        "has no X-Solaris-User",
        "add X-Solaris-User",
    ),
    "headers for everything": (
        lambda o: o.yaml("  anthropic:\n", "  all:\n    headers: *solaris\n  anthropic:\n"),
        "warning",
        "endpoints.all",
        "not merged into custom ones",
        "repeat the headers per endpoint",
    ),
    "misspelt placeholder": (
        lambda o: o.yaml("{{LIBRECHAT_USER_ID}}", "{{LIBRECHAT_USER_IDD}}"),
        "fault",
        f"{OPENAI}.X-Solaris-User",
        "{{LIBRECHAT_USER_IDD}} is no placeholder",
        "{{LIBRECHAT_USER_ID}}",
    ),
    "one brace": (
        lambda o: o.yaml("{{LIBRECHAT_USER_ID}}", "{LIBRECHAT_USER_ID}"),
        "fault",
        f"{OPENAI}.X-Solaris-User",
        "two braces",
        '"{{LIBRECHAT_USER_ID}}"',
    ),
    "keyed on the name": (
        lambda o: o.yaml("{{LIBRECHAT_USER_ID}}", "{{LIBRECHAT_USER_NAME}}"),
        "fault",
        f"{OPENAI}.X-Solaris-User",
        "can be changed or taken",
        '"{{LIBRECHAT_USER_ID}}"',
    ),
    "one user for all": (
        lambda o: o.yaml("{{LIBRECHAT_USER_ID}}", "librechat"),
        "fault",
        f"{OPENAI}.X-Solaris-User",
        "is the same for everybody",
        '"{{LIBRECHAT_USER_ID}}"',
    ),
    "headers before 0.8.7": (
        lambda o: o.edit("docker-compose.override.yml", "v0.8.7", "v0.8.6"),
        "fault",
        OPENAI,
        "LibreChat 0.8.6 does not send them",
        "upgrade LibreChat",
    ),
    "no key": (lambda o: o.yaml(KEY_LINE, ""), "fault", OPENAI, "has no X-Solaris-Key", "SOLARIS_IDENTITY_KEY"),
    "another key": (
        lambda o: o.env("0123456789abcdef", "fedcba9876543210"),
        "fault",
        f"{OPENAI}.{KEY}",
        "is not identity.key",
        "SOLARIS_IDENTITY_KEY",
    ),
    "an unset key": (
        lambda o: o.env("SOLARIS_IDENTITY_KEY=0123456789abcdef\n", ""),
        "fault",
        f"{OPENAI}.{KEY}",
        "is set neither in .env nor in the environment",
        "SOLARIS_IDENTITY_KEY",
    ),
    "a base URL past the sidecar": (
        lambda o: o.yaml("http://solaris:8080/groq/openai/v1", "https://api.groq.com/openai/v1"),
        "fault",
        f"{GROQ}.baseURL",
        "go past the sidecar, unmetered",
        "http://solaris:8080/ROUTE",
    ),
    "a base URL without a route": (
        lambda o: o.yaml("8080/groq/openai/v1", "8080/grok/openai/v1"),
        "fault",
        f"{GROQ}.baseURL",
        "names no route of the sidecar",
        "under [routes]",
    ),
    "an unset base URL": (
        lambda o: o.yaml("http://solaris:8080/groq/openai/v1", "${GROQ_URL}"),
        "fault",
        f"{GROQ}.baseURL",
        "is not a URL",
        ".env",
    ),
    "a base URL of people's own": (
        lambda o: o.yaml('"http://solaris:8080/groq/openai/v1"', "user_provided"),
        "fault",
        f"{GROQ}.baseURL",
        "withholds the headers",
        "write the base URL",
    ),
    "a key of people's own": (
        lambda o: o.yaml('"${GROQ_API_KEY}"', "user_provided"),
        "warning",
        f"{GROQ}.apiKey",
        "a key of their own",
        "rates set",
    ),
    "the user dropped from the body": (
        lambda o: o.yaml("      headers: *solaris\n      models", "      dropParams: [user]\n      models"),
        "fault",
        f"{GROQ}.headers",
        "dropParams takes the user out of the body",
        "add X-Solaris-User",
    ),
    "no reverse URL": (
        lambda o: o.env("OPENAI_REVERSE_PROXY=http://solaris:8080/openai/v1\n", ""),
        "fault",
        "OPENAI_REVERSE_PROXY",
        "go past the sidecar to api.openai.com",
        "OPENAI_REVERSE_PROXY=http://solaris:8080",
    ),
    "a reverse URL without a route": (
        lambda o: o.env("8080/google", "8080/gemini"),
        "fault",
        "GOOGLE_REVERSE_PROXY",
        "does not lead to a route",
        "[routes]",
    ),
    "a reverse URL to the provider": (
        lambda o: o.env("http://solaris:8080/openai/v1", "https://api.openai.com/v1"),
        "fault",
        "OPENAI_REVERSE_PROXY",
        "does not lead to a route",
        "http://solaris:8080/openai/v1",
    ),
    "anthropic with /v1": (
        lambda o: o.env("8080/anthropic", "8080/anthropic/v1"),
        "fault",
        "ANTHROPIC_REVERSE_PROXY",
        "/v1 is too much",
        "ANTHROPIC_REVERSE_PROXY=http://solaris:8080/anthropic",
    ),
    "openai without /v1": (
        lambda o: o.env("8080/openai/v1", "8080/openai"),
        "fault",
        "OPENAI_REVERSE_PROXY",
        "/v1 is missing",
        "/openai/v1",
    ),
    "no version": (
        lambda o: o.edit("librechat.yaml", "version: 1.2.8\n", ""),
        "fault",
        "librechat.yaml: version",
        "is missing",
        "version: 1.3.0",
    ),
    "the example's address": (
        lambda o: o.cli.configure(HEALTHY.replace("iasolaris.example", "example.com")),
        "warning",
        "purchase",
        "is the example's",
        "set your own",
    ),
    "PROXY without the CA": (
        lambda o: (o.as_proxy(), o.edit("docker-compose.override.yml", "NODE_EXTRA_CA_CERTS", "NODE_EXTRA_CERTS")),
        "fault",
        "NODE_EXTRA_CA_CERTS",
        "does not trust its certificate",
        "NODE_EXTRA_CA_CERTS=",
    ),
    "the CA in .env only": (
        lambda o: (
            o.as_proxy(f"NODE_EXTRA_CA_CERTS={o.confdir}/mitmproxy-ca-cert.pem\n"),
            o.edit("docker-compose.override.yml", "NODE_EXTRA_CA_CERTS", "NODE_EXTRA_CERTS"),
        ),
        "warning",
        "NODE_EXTRA_CA_CERTS",
        "node reads it before",
        "in the compose file",
    ),
    "both modes": (
        lambda o: o.as_proxy("OPENAI_REVERSE_PROXY=http://solaris:8080/openai/v1\n"),
        "warning",
        "OPENAI_REVERSE_PROXY",
        "PROXY as well",
        "choose one",
    ),
    "a provider in NO_PROXY": (
        lambda o: o.as_proxy("NO_PROXY=localhost,.openai.com\n"),
        "fault",
        "NO_PROXY",
        "api.openai.com",
        "take the providers out",
    ),
    "everything in NO_PROXY": (
        lambda o: o.as_proxy("NO_PROXY=*\n"),
        "fault",
        "NO_PROXY",
        "unmetered",
        "take the providers out",
    ),
    "LibreChat's own balance": (
        lambda o: o.yaml("enabled: false", "enabled: true"),
        "fault",
        "balance.enabled",
        "second, other balance",
        "enabled: false",
    ),
    "LibreChat's own balance, old": (
        lambda o: o.more_env("CHECK_BALANCE=true\n"),
        "fault",
        "CHECK_BALANCE",
        "second, other balance",
        "remove it",
    ),
    "bedrock": (
        lambda o: o.more_env("BEDROCK_AWS_DEFAULT_REGION=us-east-1\n"),
        "fault",
        "endpoints.bedrock",
        "sends Bedrock no identity",
        'identity.anonymous = "account:bedrock"',
    ),
    "assistants": (
        lambda o: o.yaml("  google:\n", "  assistants:\n    disableBuilder: true\n  google:\n"),
        "warning",
        "endpoints.assistants",
        "no identity",
        "remove",
    ),
    "summaries past the sidecar": (
        lambda o: o.yaml("balance:\n", "summarization:\n  provider: openAI\nbalance:\n"),
        "warning",
        "summarization.provider",
        "go to the vendor directly",
        "remove it",
    ),
    "pictures": (
        lambda o: o.more_env("DALLE_API_KEY=x\n"),
        "warning",
        "DALLE_API_KEY",
        "nobody's name",
        "filteredTools",
    ),
    "speech": (
        lambda o: o.yaml("balance:\n", "speech:\n  stt:\n    openai: {model: whisper-1}\nbalance:\n"),
        "warning",
        "speech.stt",
        "without identity",
        "identity.anonymous",
    ),
    "no CA": (
        lambda o: (o.confdir / "mitmproxy-ca-cert.pem").unlink(),
        "fault",
        "CA",
        "is not there",
        "start the sidecar once",
    ),
    "a CA that is none": (
        lambda o: (o.confdir / "mitmproxy-ca-cert.pem").write_text("x"),
        "fault",
        "CA",
        "is not a certificate",
        "remove",
    ),
    "an expired CA": (
        lambda o: o.certify(NOW - timedelta(days=1)),
        "fault",
        "CA",
        "has expired, on 2026-03-09",
        "remove",
    ),
    "a CA of the future": (
        lambda o: o.certify(NOW + timedelta(days=99), since=NOW + timedelta(days=1)),
        "fault",
        "CA",
        "not valid yet",
        "clock",
    ),
    "a CA that expires soon": (
        lambda o: o.certify(NOW + timedelta(days=9)),
        "warning",
        "CA",
        "expires on 2026-03-19",
        "new",
    ),
    "a private key for all": (
        lambda o: (o.confdir / "mitmproxy-ca.pem").chmod(0o644),
        "warning",
        "CA",
        "can be read by others",
        "chmod 600",
    ),
    "another CA is trusted": (
        _foreign_certificate,
        "fault",
        "NODE_EXTRA_CA_CERTS",
        "does not hold the sidecar's",
        "give LibreChat",
    ),
    "time runs backwards": (_older_events, "fault", "clock", "time has run backwards", "set the machine's clock"),
    "another time zone than the accounts": (
        lambda o: o.settings('[accounts]\ntimezone = "Europe/Lisbon"\n'),
        "warning",
        "accounts.timezone",
        "2 in America/Sao_Paulo",
        "another midnight",
    ),
    "another time zone than the machine": (
        lambda o: setattr(o, "host", replace(o.host, environment={"TZ": "Asia/Tokyo"})),
        "warning",
        "accounts.timezone",
        "TZ is Asia/Tokyo",
        "TZ=America/Sao_Paulo",
    ),
    "a ledger among temporary files": (
        lambda o: setattr(o, "host", replace(o.host, temporary=(o.cli.folder,))),
        "fault",
        "ledger.database",
        "which is emptied",
        "named volume",
    ),
    "a ledger in memory": (_mounted("tmpfs"), "fault", "ledger.database", "is in the memory", "volume"),
    "a ledger in the container": (
        _mounted("overlay"),
        "fault",
        "ledger.database",
        "the container's own layer",
        "volume",
    ),
    "a ledger on the network": (_mounted("nfs4"), "fault", "ledger.database", "SQLite's WAL is not safe", "PostgreSQL"),
    "a ledger that cannot be written": (
        _not_writable,
        "fault",
        "ledger.database",
        "cannot be written by this user",
        "chown",
    ),
    "a full disk": (_no_disk, "warning", "ledger.database", "10 MiB left", "make room"),
    "calls that wait": (_unsettled(".jsonl"), "warning", "unsettled calls", "could not take yet", "start the sidecar"),
    "calls set aside": (
        _unsettled(".refused.jsonl"),
        "warning",
        "unsettled calls",
        "could not be charged at all",
        "debit",
    ),
    "an empty key": (
        lambda o: o.cli.configure(HEALTHY.replace("0123456789abcdef", "")),
        "warning",
        "identity.key",
        "as anybody",
        "set it",
    ),
    "the README's key": (
        lambda o: (
            o.cli.configure(HEALTHY.replace("0123456789abcdef", "PUT-openssl-rand-hex-32-HERE")),
            o.env("0123456789abcdef", "PUT-openssl-rand-hex-32-HERE"),
        ),
        "fault",
        "identity.key",
        "everybody can read",
        "openssl rand -hex 32",
    ),
    "everybody in one account": (
        lambda o: o.cli.configure(HEALTHY.replace("[identity]\n", '[identity]\nanonymous = "account:todos"\n')),
        "warning",
        "identity.anonymous",
        "'todos'",
        '"deny"',
    ),
    "metrics for the world": (
        lambda o: o.settings('[observe]\nlisten = "0.0.0.0:9464"\n'),
        "warning",
        "observe.listen",
        "metrics",
        "127.0.0.1:9464",
    ),
    "a route in the clear": (
        lambda o: o.settings('[routes]\nvllm = "http://llm.example.com"\n'),
        "warning",
        "routes.vllm",
        "in the clear",
        "https://",
    ),
    "a route to itself": (
        lambda o: o.settings('[routes]\nvllm = "http://localhost:8080/x"\n'),
        "fault",
        "routes.vllm",
        "the sidecar itself",
        "name",
    ),
    "a retired plan": (
        lambda o: o.cli.ok("plans", "retire", "basico"),
        "fault",
        "accounts.default_plan",
        "is retired",
        "solaris-cli plans set",
    ),
    "an edited addon": (_edited_addon, "fault", "solaris_addon", "is not the one of this version", "remove the mount"),
    "hosts that are ignored": (
        _config("ignore_hosts: [openai]\n"),
        "fault",
        "ignore_hosts",
        "unmetered",
        "policy.hosts",
    ),
    "hosts that alone are looked at": (
        _config("allow_hosts: [openai]\n"),
        "fault",
        "allow_hosts",
        "unmetered",
        "remove",
    ),
    "providers that nobody checks": (_config("ssl_insecure: true\n"), "fault", "ssl_insecure", "not checked", "remove"),
    "bodies sent ahead": (_config("stream_large_bodies: 1m\n"), "warning", "stream_large_bodies", "before", "remove"),
    "mitmweb for the world": (_config("web_host: 0.0.0.0\n"), "warning", "web_host", "whole network", "web_password"),
    "options that are no YAML": (_config("a: ["), "fault", "config.yaml", "cannot be read", "correct"),
}


@pytest.mark.parametrize("seeded", SEEDED)
def test_a_seeded_fault_is_found(deployment, seeded):
    seed, level, subject, text, remedy = SEEDED[seeded]
    seed(deployment)
    found = deployment.examine()
    assert [
        finding
        for finding in found
        if finding["level"] == level
        and finding["subject"].endswith(subject)
        and text in finding["text"]
        and remedy in finding["remedy"]
    ], found


def test_what_is_well_hides_nothing(deployment):
    """Faults of one kind do not keep others from being told."""
    for name in ("another key", "LibreChat's own balance", "an expired CA", "a full disk"):
        SEEDED[name][0](deployment)
    subjects = {finding["subject"] for finding in deployment.examine()}
    assert {"balance.enabled", "CA", "ledger.database", f"{GROQ}.headers.{KEY}"} <= subjects


# a running sidecar


class Answering:
    """Something that listens, and answers as it is told; what it was asked is kept."""

    def __init__(self, answers: Any) -> None:
        self.asked: list[tuple[str, bytes, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                key = self.headers.get("X-Solaris-Key")
                outer.asked.append((self.path, body, key))
                status, headers = answers(key)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port


@pytest.fixture
def answering():
    running = []

    def start(answers: Any) -> Answering:
        running.append(Answering(answers))
        return running[-1]

    yield start
    for one in running:
        one.server.shutdown()
        one.server.server_close()


def _good(key):
    date = "Tue, 10 Mar 2026 15:00:20 GMT"
    if key == "0123456789abcdef":
        return 400, {"x-solaris-denied": "body_unreadable", "date": date}
    return 401, {"x-solaris-denied": "identity_refused", "date": date}


def test_a_sidecar_that_refuses_whom_it_must_gives_no_warning(deployment, answering):
    sidecar = answering(_good)
    assert deployment.examine("--sidecar", f"http://127.0.0.1:{sidecar.port}") == []
    # what it is asked can never reach a provider: the body is none
    assert sidecar.asked == [("/openai/v1/chat/completions", b"{", key) for key in (None, "0123456789abcdef")]


@pytest.mark.parametrize(
    ("answers", "subject", "text"),
    [
        (lambda key: (401, {"x-solaris-denied": "identity_refused"}), "sidecar", "another identity.key"),
        (lambda key: (400, {"x-solaris-denied": "body_unreadable"}), "sidecar", "asks for no key (400)"),
        (lambda key: (404, {}), "sidecar", "but not this sidecar"),
        (lambda key: (503, {"x-solaris-denied": "ledger_unavailable"}), "sidecar", "has no ledger"),
        (
            lambda key: (_good(key)[0], _good(key)[1] | {"date": "Tue, 10 Mar 2026 15:10:00 GMT"}),
            "clock",
            "600 s ahead",
        ),
    ],
)
def test_a_sidecar_with_a_fault(deployment, answering, answers, subject, text):
    url = f"http://127.0.0.1:{answering(answers).port}"
    found = deployment.examine("--sidecar", url)
    assert [one for one in found if one["subject"].startswith(subject) and text in one["text"]], found


def test_a_sidecar_that_does_not_run(deployment):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (found,) = deployment.examine("--sidecar", f"http://127.0.0.1:{port}")
    assert (found["level"], "does not answer" in found["text"]) == ("fault", True)
    (found,) = deployment.examine("--sidecar", "nonsense")
    assert "is not a URL" in found["text"]


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_ports_that_are_bound_to_the_world(deployment, answering, address):
    port = answering(_good).port
    deployment.host = replace(deployment.host, listeners=frozenset({(address, port), (address, 8081)}))
    found = deployment.examine("--sidecar", f"http://127.0.0.1:{port}")
    assert {one["subject"] for one in found} == {"port 8081", f"port {port}"}
    assert all("127.0.0.1" in one["remedy"] for one in found)
    # In a container the address says nothing: what counts is which ports are published.
    deployment.host = replace(deployment.host, in_container=True)
    assert deployment.examine("--sidecar", f"http://127.0.0.1:{port}") == []


# the machine


def test_the_kernel_s_tables_are_read():
    mounts = _mounts("/dev/sda1 / ext4 rw 0 0\ntmpfs /my\\040disk tmpfs rw 0 0\n")
    assert mounts == {"/": "ext4", "/my disk": "tmpfs"}
    head = "  sl  local_address rem_address   st\n"
    listening = _listeners(
        head + "   0: 0100007F:1F90 00000000:0000 0A\n   1: 00000000:1F91 00000000:0000 0A\n"
        "   2: 0100007F:1F92 0100007F:9999 01\n"
    )
    assert listening == {("127.0.0.1", 8080), ("0.0.0.0", 8081)}
    assert _listeners(f"{head}   0: {'0' * 32}:1F90 {'0' * 32}:0000 0A\n") == {("::", 8080)}


def test_a_listener_of_this_machine_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ("127.0.0.1", server.getsockname()[1]) in Host.read().listeners


def test_a_value_is_resolved_as_librechat_does():
    chat = LibreChat(Path("x"), {}, {"A": "env", "B": "env"}, {"A": "real"}, None, {"C": "outside"})
    assert chat.resolve("${A} ${B} ${C} ${D}") == "real env outside ${D}"
