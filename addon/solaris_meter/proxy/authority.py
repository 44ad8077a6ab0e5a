"""The certificate authority that clients trust: `python -m solaris_meter.proxy.authority show|create|rotate FOLDER`.

A program, because the command line starts the other edges and never imports them. FOLDER is mitmproxy's `confdir`; with
a second argument the certificate alone is copied there, for clients: FOLDER holds the private key as well. Prints JSON:
`{"certificate", "sha256", "not_after", "created", "kept"}`; `kept` is the folder to which `rotate` moved the old one.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from mitmproxy.certs import CertStore

_BASENAME = "mitmproxy"  # the name under which mitmproxy looks for it
_KEY_BITS = 2048
CERTIFICATE = f"{_BASENAME}-ca-cert.pem"


def main(arguments: list[str]) -> int:
    """The exit code; what went wrong goes to stderr."""
    action, folder = arguments[0], Path(arguments[1])
    published = Path(arguments[2]) if len(arguments) > 2 else None
    try:
        if action == "show" and not (folder / CERTIFICATE).exists():
            sys.stderr.write(f"no certificate authority in {folder}: make one with 'solaris-cli ca create'\n")
            return 1
        kept = _set_aside(folder) if action == "rotate" else None
        created = action != "show" and not (folder / f"{_BASENAME}-ca.pem").exists()
        if created:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            CertStore.create_store(folder, _BASENAME, _KEY_BITS)
        found = describe(folder / CERTIFICATE)
        if published is not None:
            publish(folder / CERTIFICATE, published)
            found["certificate"] = str(published)
    except OSError as error:
        sys.stderr.write(f"{error.filename or folder}: {error.strerror or error}; name a folder that can be written\n")
        return 1
    sys.stdout.write(json.dumps(found | {"created": created, "kept": str(kept) if kept else None}))
    return 0


def describe(certificate: Path) -> dict[str, Any]:
    """Where a certificate is, its fingerprint, and when it ends (ISO 8601)."""
    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    return {
        "certificate": str(certificate),
        "sha256": parsed.fingerprint(hashes.SHA256()).hex(":").upper(),
        "not_after": parsed.not_valid_after_utc.isoformat(),
    }


def publish(certificate: Path, target: Path) -> None:
    """Copy a certificate to where clients read it: a whole one at every moment, readable by everybody."""
    content = certificate.read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)
    Path(file.name).replace(target)


def _set_aside(folder: Path) -> Path | None:
    """Move what an authority consists of into a folder beside it; None where there is none."""
    files = sorted(folder.glob(f"{_BASENAME}-ca*"))
    if not files:
        return None
    kept = folder / time.strftime("before-%Y%m%dT%H%M%SZ", time.gmtime())
    kept.mkdir(mode=0o700)
    for file in files:
        file.rename(kept / file.name)
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
