"""What can go wrong, as a person must hear it.

    SolarisError
    ├── AmountError          an amount that cannot be read
    ├── SettingsError        solaris.toml, an environment variable or an option is wrong
    └── LedgerError          the ledger refused an operation; nothing was changed
        ├── UnknownName      no such user or plan (carries the closest names)
        ├── Conflict         it is there already, or a reference was used for something else
        └── Unavailable      the database cannot be opened, read or written
            └── Contended    another transaction stood in the way; the same again may succeed

Each message says what was wrong, where, and what to do. The edges print it; nobody parses it.
"""

from difflib import get_close_matches


class SolarisError(Exception):
    """Base of everything this program raises on purpose."""


class AmountError(SolarisError, ValueError):
    """An amount of tokens or money that cannot be read."""


class SettingsError(SolarisError):
    """Settings that cannot be used; the start must stop."""


class LedgerError(SolarisError):
    """The ledger refused an operation; nothing was changed."""


class UnknownName(LedgerError):
    """No user or plan has that name. `closest` holds up to three names that look like it."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        self.closest = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(self.closest)}?" if self.closest else f"; see 'solaris-cli {kind}s list'"
        super().__init__(f"no {kind} {name!r}{hint}")


class Conflict(LedgerError):
    """The thing is there already, or a reference was used for something else."""


class Unavailable(LedgerError):
    """The database cannot be opened, read or written."""


class Contended(Unavailable):
    """Another transaction stood in the way; the same again may succeed."""
