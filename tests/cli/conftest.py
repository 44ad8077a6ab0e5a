"""The command line in one process, on a ledger and a clock of the test's own; and as the program that is installed."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.ledger.support import NOON, Books

from solaris_cli.context import Context
from solaris_cli.doctor.host import Host
from solaris_cli.main import main

SOLARIS_CLI = Path(sys.executable).with_name("solaris-cli")


class Cli:
    """`solaris-cli --config FILE …`. `now` is the clock; `database` is named in the settings file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "settings.toml"
        self.database = folder / "ledger.db"
        self.now = NOON
        self.configure("")

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    def configure(self, text: str) -> None:
        """Settings besides the ledger's place."""
        self.config.write_text(f'[ledger]\ndatabase = "{self.url}"\n{text}', "utf-8")

    def write(self, name: str, text: str) -> str:
        """A file for a command to read; its path."""
        (self.folder / name).write_text(text, "utf-8")
        return str(self.folder / name)

    def run(self, *arguments: str, answer: str | None = None) -> Result:
        """Whatever comes. An exception that is no exit is the test's failure, with its traceback."""
        return self.run_bare("--config", str(self.config), *arguments, answer=answer)

    def run_bare(self, *arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=answer, catch_exceptions=False)

    def ok(self, *arguments: str, answer: str | None = None) -> str:
        """What a command prints that must succeed, without a word on stderr."""
        result = self.run(*arguments, answer=answer)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, *arguments: str, code: int = 1, answer: str | None = None) -> str:
        """What a command says on stderr that must fail, print nothing else and leave the ledger as it was."""
        before = self.dump()
        result = self.run(*arguments, answer=answer)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert self.dump() == before
        return result.stderr

    def misused(self, *arguments: str) -> str:
        """The same for wrong usage, which is exit 2."""
        return self.refused(*arguments, code=2)

    def dump(self) -> list[str] | None:
        """All that the ledger holds: more than `ledger export` prints, which has the entries only."""
        if not self.database.is_file():
            return None
        with closing(sqlite3.connect(self.database)) as raw:
            return list(raw.iterdump())

    def tamper(self, *statements: str) -> None:
        """What somebody does who opens the file by hand."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as raw:
            for statement in statements:
                raw.execute(statement)

    def calls(self, work: Callable[[Books], None]) -> None:
        """Do what the sidecar does: reserve, settle. The books have the plan `livre` (no allowance) too."""
        books = Books(self.database)
        try:
            work(books)
        finally:
            books.close()


@pytest.fixture
def empty_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Where there is no ledger yet. The folder of the test is the current one."""
    for name in os.environ:
        if name.startswith("SOLARIS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    cli = Cli(tmp_path)
    monkeypatch.setattr(Context, "now_ms", lambda _: cli.now)
    # One disk on which nothing is emptied, wherever the tests run.
    host = Host({"/": "ext4"}, frozenset(), {}, in_container=False, temporary=(), home=tmp_path / "home")
    monkeypatch.setattr(Host, "read", lambda: host)
    return cli


@pytest.fixture
def cli(empty_cli: Cli) -> Cli:
    """With a ledger that has ana and bruno on the plan `basico`: a million tokens each."""
    empty_cli.ok("db", "migrate")
    empty_cli.ok("users", "add", "ana", "--email", "ana@example.com")
    empty_cli.ok("users", "add", "bruno", "--email", "bruno@example.com")
    return empty_cli


@pytest.fixture
def program(cli: Cli) -> "Callable[..., subprocess.CompletedProcess[str]]":
    """The installed console script on that ledger."""

    def run(*arguments: str | bytes, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SOLARIS_CLI, "--config", cli.config, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )

    return run
