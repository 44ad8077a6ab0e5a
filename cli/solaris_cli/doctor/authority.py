"""mitmproxy's folder: the certificate that LibreChat has to trust, its private key, and options that unmeter."""

import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from solaris_cli.doctor.finding import Finding, fault, ok, warning
from solaris_cli.doctor.host import Host
from solaris_cli.doctor.upkeep import WORLD

CERTIFICATE = "mitmproxy-ca-cert.pem"
_KEY = "mitmproxy-ca.pem"
_SOON = timedelta(days=30)
_UNMETERED = {
    "allow_hosts": "hosts beside it, and base-URL requests, are relayed unmetered",
    "ignore_hosts": "these hosts are relayed unmetered",
    "tcp_hosts": "these hosts are relayed unmetered",
    "udp_hosts": "these hosts are relayed unmetered",
}


def examine(folder: Path, now: datetime, *, is_needed: bool) -> Iterator[Finding]:
    """mitmproxy's folder (confdir). `is_needed`: somebody has to trust its certificate."""
    yield from _options(folder / "config.yaml")
    if not is_needed:
        return
    path = folder / CERTIFICATE
    if not path.exists():
        yield fault(
            "CA",
            f"{path} is not there: no client can trust the sidecar as a forward proxy",
            "start the sidecar once, which makes it; name its folder with --ca (mitmproxy's confdir)",
        )
        return
    yield from _certificate(path, now)
    key = folder / _KEY
    if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
        yield warning(
            "CA",
            f"{key}, the private key of the CA, can be read by others: they could read everybody's traffic",
            f"chmod 600 {key}; give LibreChat {CERTIFICATE} alone",
        )


def compare(trusted: Path, folder: Path) -> Iterator[Finding]:
    """Whether the file that LibreChat trusts holds the certificate of the sidecar; nothing where it cannot be seen."""
    ours = folder / CERTIFICATE
    if not trusted.exists() or not ours.exists():
        return
    mine, theirs = _load(ours), _load(trusted)
    if mine is None or theirs is None:
        return
    if not {_fingerprint(one) for one in mine} & {_fingerprint(one) for one in theirs}:
        yield fault(
            "NODE_EXTRA_CA_CERTS",
            f"{trusted} does not hold the sidecar's certificate: every TLS call through it fails",
            f"give LibreChat {ours}, and start it again",
        )


def default_folder(host: Host) -> Path:
    """mitmproxy's confdir unless it is told another."""
    return host.home / ".mitmproxy"


def _certificate(path: Path, now: datetime) -> Iterator[Finding]:
    certificates = _load(path)
    if not certificates:
        yield fault("CA", f"{path} is not a certificate", f"remove {path.parent}/mitmproxy-ca*, and start the sidecar")
        return
    ends: datetime = certificates[0].not_valid_after_utc
    remedy = f"remove {path.parent}/mitmproxy-ca*, start the sidecar, and give LibreChat the new {CERTIFICATE}"
    if ends < now:
        yield fault("CA", f"{path} has expired, on {ends:%Y-%m-%d}: every TLS call through the sidecar fails", remedy)
    elif certificates[0].not_valid_before_utc > now:
        yield fault("CA", f"{path} is not valid yet", "set the machine's clock")
    elif ends < now + _SOON:
        yield warning("CA", f"{path} expires on {ends:%Y-%m-%d}", remedy)
    else:
        yield ok("CA", f"{path}, until {ends:%Y-%m-%d}")


def _load(path: Path) -> list[Any] | None:
    from cryptography import x509

    try:
        return list(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError):
        return None


def _fingerprint(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import hashes

    return bytes(certificate.fingerprint(hashes.SHA256()))


def _options(path: Path) -> Iterator[Finding]:
    if not path.exists():
        return
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        options = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        yield fault(str(path), f"cannot be read: {_first_line(error)}", "correct it, or remove it")
        return
    if not isinstance(options, dict):
        return
    for name, what in _UNMETERED.items():
        if options.get(name):
            yield fault(
                f"{path}: {name}",
                f"{options[name]}: {what}",
                "remove it; policy.hosts and policy.unknown_hosts in solaris.toml say which hosts are metered",
            )
    if options.get("stream_large_bodies"):
        yield warning(
            f"{path}: stream_large_bodies",
            "would send large requests to the provider before they are admitted",
            "remove it; the sidecar turns it off when it starts",
        )
    if options.get("ssl_insecure"):
        yield fault(
            f"{path}: ssl_insecure",
            "the certificates of the providers are not checked: anybody on the way can take the API keys",
            "remove it; for a provider with a CA of its own use ssl_verify_upstream_trusted_ca",
        )
    if str(options.get("web_host", "127.0.0.1")) in WORLD and not options.get("web_password"):
        yield warning(
            f"{path}: web_host",
            "mitmweb listens for the whole network, and its password changes with each start and stands in the log",
            "remove it (127.0.0.1), or set web_password and keep the port private",
        )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
