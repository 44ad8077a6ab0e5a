"""A LibreChat installation as its files say it: librechat.yaml, .env, and the compose files beside them."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solaris_cli.doctor.finding import Finding, fault
from solaris_cli.doctor.host import Host

_COMPOSE = ("docker-compose.yml", "compose.yaml", "docker-compose.override.yml", "compose.override.yaml")
_IMAGE = re.compile(r"librechat[a-z-]*:v?(\d+)\.(\d+)\.(\d+)")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_INTERPOLATED = re.compile(r"\$\{(?P<name>\w+)(?::?(?P<kind>[-?+])(?P<text>[^}]*))?\}")
_RESET = object()
"""What `!reset` makes of a variable in a compose override: it is taken away."""
_OWN = Path("deploy", "librechat", "librechat.yaml")
"""Where it stands beside this project's own compose.yaml."""


@dataclass(frozen=True, slots=True)
class LibreChat:
    """`config` is librechat.yaml. `real` are the variables of the container itself, `dotenv` those of .env.

    `version` is that of the image in the compose files, None where they do not say. `outside` is this machine's own
    environment. `redirected`: it shares another container's network, which leads it through the sidecar.
    """

    file: Path
    config: Mapping[str, Any]
    dotenv: Mapping[str, str]
    real: Mapping[str, str]
    version: tuple[int, int, int] | None = None
    outside: Mapping[str, str] = field(default_factory=dict)
    redirected: bool = False

    def variable(self, name: str) -> str:
        """What LibreChat sees, empty where it is not set; a variable of the container goes before .env."""
        return self.real.get(name, self.dotenv.get(name, ""))

    def resolve(self, text: str) -> str:
        """A value with `${NAME}` replaced, also from this machine's environment; a name that is nowhere stays."""
        return _VARIABLE.sub(lambda found: self.variable(found[1]) or self.outside.get(found[1], "") or found[0], text)

    def table(self, *names: str) -> Mapping[str, Any]:
        """A mapping inside librechat.yaml, empty where there is none."""
        value: Any = self.config
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value if isinstance(value, Mapping) else {}

    def entries(self, *names: str) -> list[Mapping[str, Any]]:
        """A list of mappings inside librechat.yaml."""
        value = self.table(*names[:-1]).get(names[-1])
        return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def read(path: Path, host: Host) -> LibreChat | list[Finding]:
    """The installation in a folder, or around a librechat.yaml; what is wrong where that cannot be read."""
    folder = path if path.is_dir() else path.parent
    file = folder / "librechat.yaml" if path.is_dir() else path
    if path.is_dir() and not file.exists() and (folder / _OWN).exists():
        file = folder / _OWN
    findings: list[Finding] = []
    config = _yaml(file, findings)
    if config is None:
        return findings
    if not isinstance(config, Mapping):
        return [fault(str(file), "holds no settings", "LibreChat needs at least 'version:' and 'endpoints:' in it")]
    dotenv = _dotenv(folder / ".env", host.environment)
    written: dict[str, Any] = {}
    version, names, redirected = None, {"api"}, False
    for compose in _compose_files(folder, dotenv):
        for name, service in _services(_yaml(compose, findings), names):
            names.add(name)  # an override need not name the image again
            written |= _environment(service.get("environment"))
            redirected = redirected or str(service.get("network_mode", "")).startswith(("service:", "container:"))
            tag = _IMAGE.search(str(service.get("image", "")))
            version = (int(tag[1]), int(tag[2]), int(tag[3])) if tag else version
    if findings:
        return findings
    real = {name: _interpolated(str(value), dotenv) for name, value in written.items() if value is not _RESET}
    return LibreChat(file, config, dotenv, real, version, host.environment, redirected)


def _compose_files(folder: Path, dotenv: Mapping[str, str]) -> list[Path]:
    """The ones that `docker compose` reads here."""
    named = [name for name in dotenv.get("COMPOSE_FILE", "").split(":") if name]
    return [folder / name for name in named or _COMPOSE if named or (folder / name).exists()]


def _interpolated(text: str, dotenv: Mapping[str, str]) -> str:
    """A value as compose reads it: `${NAME}`, with a default behind `-`, an error behind `?`, or another value if it is
    set behind `+`."""

    def value(found: re.Match[str]) -> str:
        known = dotenv.get(found["name"], "")
        if found["kind"] == "+":
            return found["text"] if known else ""
        return known or (found["text"] if found["kind"] == "-" else "")

    return _INTERPOLATED.sub(value, text)


def _yaml(file: Path, findings: list[Finding]) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader = YAML(typ="safe", pure=True)
    reader.constructor.add_constructor("!reset", lambda *_: _RESET)  # compose's own tag
    try:
        return reader.load(file.read_text("utf-8")) or {}
    except FileNotFoundError:
        findings.append(fault(str(file), "is not there", "name the folder of LibreChat, or its librechat.yaml"))
    except OSError as error:
        findings.append(fault(str(file), f"cannot be read: {error.strerror}", "let this user read it"))
    except (UnicodeDecodeError, YAMLError) as error:
        text = " ".join(str(error).split())[:300]
        findings.append(fault(str(file), f"is not valid YAML: {text}", "correct it: LibreChat ignores the whole file"))
    return None


def _services(compose: Any, names: Collection[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """LibreChat's own service, `api` in its compose files, or whatever runs its image."""
    services = compose.get("services") if isinstance(compose, Mapping) else None
    for name, service in services.items() if isinstance(services, Mapping) else ():
        if isinstance(service, Mapping) and (name in names or _IMAGE.search(str(service.get("image", "")))):
            yield name, service


def _environment(value: Any) -> dict[str, Any]:
    """Both forms of compose: a mapping, or a list of NAME=VALUE."""
    if isinstance(value, Mapping):
        return {str(name): "" if one is None else one for name, one in value.items()}
    pairs = (str(one).partition("=") for one in value) if isinstance(value, list) else ()
    return {name: text for name, equals, text in pairs if equals}


def _dotenv(file: Path, outside: Mapping[str, str]) -> dict[str, str]:
    """The variables of .env; of one that only its owner may read, what this program was given of it."""
    from dotenv import dotenv_values

    if not file.exists():
        return {}
    if not os.access(file, os.R_OK):
        return dict(outside)
    return {name: value or "" for name, value in dotenv_values(file, interpolate=False).items()}
