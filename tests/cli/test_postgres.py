"""The command line on a ledger in PostgreSQL: it says what it says on SQLite, and never the password."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tests.cli.conftest import SOLARIS_CLI
from tests.ledger.support import HOUR, NOON, Books, ask, outcome

from solaris_meter.ledger import reservations

PLANS = '[pro]\ntokens = "2M"\nperiod = "month"\nrollover = "100K"\n'

SETTING_UP = [
    "users add ana --email ana@example.com",
    "users add bruno --email bruno@example.com",
    "users add Ágata",
    "users add zoe --email Zoé@example.com",
    "users add Zeno",
    "plans set mini --tokens 10K --period week --anchor signup",
    "plans apply plans.toml",
    "users set-plan bruno mini",
    "users set-plan Zeno pro",
    "rates set gpt-4o* --input 2 --output 8.5 --note dear",
    "rates set claude* --input 3",
    "rates set * --image 100",
    "rates remove claude*",
    "credit ana 500K --paid 49.90BRL --reference pix-1",
    "credit ana 500K --paid 49.90BRL --reference pix-1",
    "credit bruno 500K --paid 49.90BRL --reference pix-1",
    "grant bruno 1M --expires 30d --note sorry",
    "debit bruno 200K --note mistake --reference fix-1",
    "debit nobody 200K --note mistake",
    "credit ana 0",
]
LOOKING = [
    *("users list", "users show AN", "users show zoé@", "users show z", "users export ana", "plans list"),
    *("plans show pro", "plans show prp", "rates list", "balance", "balance bruno@", "statement ana"),
    *("statement bruno", "usage", "usage ana", "usage --by user", "usage --by day", "usage --by conversation"),
    *("usage --events", "usage --events --since 2026-03-10T12:00 --until 2026-03-11", "usage --accuracy"),
    *("usage --accuracy --since 2026-03-01", "usage --until 2026-03-01", "ledger check", "ledger holds"),
    *("alerts list", "alerts list --state pending"),
]
CHANGING = [
    *("users block ana", "users block ana", "users unblock ana", "users rename ana anna", "users rename anna bruno"),
    *("plans retire mini", "ledger release running --force", "ledger release running", "users erase bruno --yes"),
    *("users list", "balance", "ledger check"),
]


def calls(books):
    """What a sidecar left: settled, audited, void, recovered and running calls, with alerts crossed."""
    for number in range(9):
        name, user = f"call-{number}", ("ana", "bruno", "zoe")[number % 3]
        asked = ask(
            name, user, prompt=20, floor=5, conversation=f"fio-{number % 2}", model=f"gpt-4{'o' * (number % 2)}"
        )
        asked = replace(asked, expires_at_ms=NOON + HOUR)
        books.run(lambda tx, asked=asked: reservations.reserve(tx, asked, books.new, NOON))
        how = replace(outcome(30_000 + number, "counted" if number % 4 else "reported"), cost_nano_usd=number or None)
        books.end(name, how, NOON + number)
    books.hold("void", 10, model="llama")
    books.void("void")
    books.hold("left", 40, "zoe", owner="dead", floor=30, model="llama")
    books.recover(NOON + 20)
    books.hold("running", 77, model="llama")


def test_it_says_what_it_says_on_sqlite(cli, postgres):
    cli.database.unlink()
    cli.write("plans.toml", PLANS)
    engines = {"sqlite": cli.url, "postgres": postgres}
    said: dict[str, list[tuple[str, int, str, str]]] = {}
    for name, url in engines.items():
        lines = said[name] = []

        def say(command, url=url, lines=lines):
            for form in ([], ["--json"]):
                result = cli.run("--database", url, *command.split(), *form)
                lines.append((command, result.exit_code, result.stdout, result.stderr))
                if not command.startswith(("usage", "balance", "statement", "users list", "users show", "plans list")):
                    break

        cli.now = NOON
        for command in SETTING_UP:
            say(command)
        books = Books(cli.database if name == "sqlite" else url)
        calls(books)
        books.close()
        cli.now = NOON + HOUR
        for command in [*LOOKING, *CHANGING]:
            say(command)
    assert len(said["sqlite"]) > 60
    for sqlite, postgresql in zip(said["sqlite"], said["postgres"], strict=True):
        assert postgresql == sqlite
    exits = {command: code for command, code, *_ in said["postgres"]}
    assert [command for command, code in exits.items() if code] == [
        *("credit bruno 500K --paid 49.90BRL --reference pix-1", "debit nobody 200K --note mistake", "credit ana 0"),
        *("plans show prp", "users rename anna bruno", "ledger release running"),
    ]


def test_migrating_makes_the_ledger_and_then_has_nothing_to_do(cli, empty_postgres):
    steps = cli.json("--database", empty_postgres, "db", "migrate")["migrations"]
    assert steps == cli.json("--database", f"sqlite:///{cli.folder}/new.db", "db", "migrate")["migrations"]
    assert cli.ok("--database", empty_postgres, "db", "migrate").endswith(": up to date\n")


def test_a_command_that_reads_makes_no_ledger(cli, empty_postgres):
    said = cli.refused("--database", empty_postgres, "balance")
    assert said.startswith("Error: no ledger in postgresql://")
    assert "start the sidecar, or make one with 'solaris-cli db migrate'" in said
    assert cli.json("--database", empty_postgres, "db", "migrate")["migrations"]


def test_a_ledger_of_a_newer_version_is_refused(cli, postgres_server):
    url = postgres_server.database()
    postgres_server.run(
        "INSERT INTO _migrations (migration_set, name, applied_at) VALUES ('solaris', 'm099', now())", url
    )
    for command in (("balance",), ("db", "migrate"), ("credit", "ana", "1K")):
        assert "is from a newer version (it has m099); upgrade Solaris Meter" in cli.refused(
            "--database", url, *command
        )
    postgres_server.drop(url)


@pytest.mark.parametrize(
    "command", [("db", "path"), ("db", "migrate"), ("doctor",), ("balance",), ("ledger", "check"), ("run",)]
)
def test_no_command_prints_the_password(cli, postgres, command):
    # The test's server asks nobody for one; the other is not there at all.
    local = postgres.replace("postgres:@", "postgres:s3cret@")
    assert local != postgres
    for url in (local, "postgresql://ana:s3cret@127.0.0.1:1/solaris"):
        if command == ("run",) and url == local:
            continue
        for form in ((), ("--json",)) if command != ("run",) else ((),):
            result = cli.run("--database", url, *command, *form)
            assert "s3cret" not in result.output + result.stderr
            assert command not in {("db", "path"), ("db", "migrate"), ("doctor",)} or "***" in result.output


def test_a_server_that_is_not_there_is_an_error_of_one_line(cli):
    began = time.monotonic()
    said = cli.refused("--database", "postgresql://ana:s3cret@127.0.0.1:1/solaris", "balance")
    assert said.startswith("Error: the ledger postgresql://ana:***@127.0.0.1:1/solaris cannot be used: ")
    assert said.count("\n") == 1
    assert time.monotonic() - began < 5


def test_the_url_can_come_from_the_settings(cli, postgres):
    cli.config.write_text(f'[ledger]\ndatabase = "{postgres}"\n')
    cli.ok("users", "add", "carla")
    assert [user["user"] for user in cli.json("users", "list")] == ["carla"]


def test_a_command_on_sqlite_does_not_load_psycopg(cli):
    program = (
        "import sys; from solaris_cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in {'psycopg', 'psycopg_binary'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--config", str(cli.config), "balance", "ana", "--json"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    *printed, loaded = done.stdout.splitlines()
    assert json.loads("".join(printed))["user"] == "ana"
    assert loaded == "[]"


def test_the_installed_program_works_on_it(cli, postgres):
    def run(*arguments):
        return subprocess.run(
            [SOLARIS_CLI, "--config", cli.config, "--database", postgres, *arguments],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip

    run("users", "add", "ana")
    assert json.loads(run("balance", "ana", "--json"))["balance"] == 1_000_000
    assert json.loads(run("ledger", "check", "--json"))["ok"]
