"""The certificate authority: made once, published without its key, replaced with the old one kept."""

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from mitmproxy.certs import CertStore

from solaris_cli.main import main


@pytest.fixture
def ca(tmp_path):
    def run(action, *arguments, code=0):
        command = ["ca", action, "--confdir", str(tmp_path / "ca"), "--json", *arguments]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if code == 0 else done.stderr

    return run


def test_it_is_made_once_and_is_the_one_mitmproxy_uses(ca, tmp_path):
    first = ca("create")
    assert first["created"] is True
    assert ca("create") == first | {"created": False}
    assert ca("show") == {name: first[name] for name in ("certificate", "sha256", "not_after")}
    store = CertStore.from_store(tmp_path / "ca", "mitmproxy", 2048)
    assert store.default_ca.fingerprint() == bytes.fromhex(first["sha256"].replace(":", ""))
    assert stat.S_IMODE((tmp_path / "ca" / "mitmproxy-ca.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_what_is_published_is_the_certificate_alone_and_readable_by_others(ca, tmp_path):
    published = tmp_path / "ca.pem"
    found = ca("create", "--publish", str(published))
    assert found["certificate"] == str(published)
    assert b"PRIVATE" not in published.read_bytes()
    certificate = x509.load_pem_x509_certificate(published.read_bytes())
    assert certificate.fingerprint(hashes.SHA256()).hex(":").upper() == found["sha256"]
    assert stat.S_IMODE(published.stat().st_mode) == 0o644


def test_rotation_keeps_the_old_one_aside_and_publishes_the_new_one(ca, tmp_path):
    published = tmp_path / "ca.pem"
    before = ca("create", "--publish", str(published))
    after = ca("rotate", "--yes", "--publish", str(published))
    assert after["sha256"] != before["sha256"]
    assert (
        x509.load_pem_x509_certificate(published.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()
        == (after["sha256"])
    )
    kept = Path(after["kept"])
    assert (kept / "mitmproxy-ca.pem").exists()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def test_rotation_asks_first(tmp_path):
    done = CliRunner().invoke(main, ["ca", "rotate", "--confdir", str(tmp_path)], input="n\n")
    assert done.exit_code == 1
    assert os.listdir(tmp_path) == []


def test_what_is_missing_or_cannot_be_written_is_named(ca, tmp_path):
    assert "solaris-cli ca create" in ca("show", code=1)
    (tmp_path / "ca").write_text("a file")
    assert str(tmp_path / "ca") in ca("create", code=1)
