"""The machine as the doctor sees it, read once: file systems, listeners, environment."""

import os
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Host:
    """`mounts`: kind by mount point. `listeners`: address and port of each TCP listener.

    `temporary`: folders that are emptied, by a restart or by age.
    """

    mounts: Mapping[str, str]
    listeners: frozenset[tuple[str, int]]
    environment: Mapping[str, str]
    in_container: bool
    temporary: tuple[Path, ...]
    home: Path

    @classmethod
    def read(cls) -> "Host":
        """This machine, as far as it lets itself be read."""
        return cls(
            mounts=_mounts(_text("/proc/mounts")),
            listeners=frozenset(_listeners(_text("/proc/net/tcp")) | _listeners(_text("/proc/net/tcp6"))),
            environment=dict(os.environ),
            in_container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
            temporary=(Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run")),  # noqa: S108  (they are named)
            home=Path.home(),
        )

    def file_system(self, path: Path) -> tuple[str, str]:
        """The mount point on which a path is, and its kind; two empty texts where that cannot be told."""
        for place in (path, *path.parents):
            if str(place) in self.mounts:
                return str(place), self.mounts[str(place)]
        return "", ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:  # not Linux
        return ""


def _mounts(text: str) -> dict[str, str]:
    """The lines of /proc/mounts: device, mount point, kind, …; a space in a name is \\040."""
    fields = [line.split() for line in text.splitlines()]
    return {_unescape(field[1]): field[2] for field in fields if len(field) > 2}


def _unescape(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _listeners(text: str) -> set[tuple[str, int]]:
    """The lines of /proc/net/tcp: number, address:port in hexadecimal, peer, state, …"""
    found = set()
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            found.add((_address(address), int(port, 16)))
    return found


def _address(written: str) -> str:
    """Words of 32 bits, each in the byte order of the machine."""
    words = [int(written[start : start + 8], 16) for start in range(0, len(written), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET6 if len(words) == 4 else socket.AF_INET, packed)
