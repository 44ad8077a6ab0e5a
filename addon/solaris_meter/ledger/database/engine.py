"""What the rest of the ledger knows of a database: an engine, and connections that run SQL with `:name` parameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


class Connection(ABC):
    """One connection, owned by one thread. Every method raises Unavailable when the database cannot answer."""

    @abstractmethod
    def rows(self, sql: str, **values: object) -> list[Row]:
        """All rows of a SELECT, or of a change with RETURNING."""

    @abstractmethod
    def execute(self, sql: str, **values: object) -> int:
        """Run a change; the number of rows it touched."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A write transaction: committed at the end of the block, rolled back by an exception."""

    @abstractmethod
    def savepoint(self) -> AbstractContextManager[None]:
        """A part of a transaction that an exception rolls back alone."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """A read transaction: everything read in the block is of one moment."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Let no other transaction pass here with this name until this one has ended, and see what those before did.

        For what no row stands for: a name that may not be taken yet, a table that is only appended to.
        """

    @abstractmethod
    def hurry(self) -> None:
        """From here to its end this transaction, which holds locks, waits hardly for others: it raises Contended."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether a transaction is open. An error such as a full disk can end one without being asked."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""

    def row(self, sql: str, **values: object) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, **values)
        return found[0] if found else None

    def value(self, sql: str, **values: object) -> Any:
        """The single value of a query that always has one row, such as a count."""
        row = self.row(sql, **values)
        assert row is not None
        return row[next(iter(row.keys()))]


class Engine(ABC):
    """A database that holds a ledger. `journal` is the file for settlements that the database could not take.

    `copied_to` is the copy that `migrate` made of a ledger of an older version before it changed that.
    """

    journal: Path
    copied_to: Path | None = None

    @abstractmethod
    def connect(self) -> Connection:
        """A new connection for the calling thread. Raises Unavailable."""

    @abstractmethod
    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the migrations that ran. Raises Unavailable for a newer schema."""

    @abstractmethod
    def claim(self, owner: str) -> None:
        """Mark `owner` as alive for as long as this process lives, or until `release`. Raises Unavailable."""

    @abstractmethod
    def release(self, owner: str) -> None:
        """Take the mark away."""

    @abstractmethod
    def sweep(self) -> None:
        """Clear away what the marks of dead owners have left behind."""

    @abstractmethod
    def is_alive(self, owner: str) -> bool:
        """Whether a process holds the mark of `owner`. Raises Unavailable where that cannot be told."""
