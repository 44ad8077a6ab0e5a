"""ledger: check, export, holds, release."""

import json

import pytest

TAMPERING = [
    ("UPDATE accounts SET balance = balance + 1 WHERE user_id = 'ana'", "balance"),
    ("UPDATE accounts SET reserved = 7 WHERE user_id = 'ana'", "reserved"),
    ("UPDATE accounts SET used = 7 WHERE user_id = 'ana'", "used in the period"),
    ("UPDATE grants SET remaining = 5 WHERE account_id = 1", "remaining of grant 1"),
    ("INSERT INTO postings SELECT id, grant_id, 3 FROM entries WHERE account_id = 1", "postings of entry 1"),
]


# check


def test_a_ledger_that_adds_up(cli):
    assert cli.ok("ledger", "check") == "ok: 2 accounts, 2 entries\n"
    assert cli.json("ledger", "check") == {"ok": True, "accounts": 2, "entries": 2, "problems": []}


def test_a_new_ledger_adds_up(empty_cli):
    empty_cli.ok("db", "migrate")
    assert empty_cli.json("ledger", "check") == {"ok": True, "accounts": 0, "entries": 0, "problems": []}


@pytest.mark.parametrize(("statement", "what"), TAMPERING)
def test_what_somebody_changed_by_hand_is_found_and_the_account_named(cli, statement, what):
    cli.tamper(statement)
    result = cli.run("ledger", "check")
    assert result.exit_code == 1
    assert "ana" in result.stdout
    assert "bruno" not in result.stdout
    assert what in result.stdout


@pytest.mark.parametrize(("statement", "what"), TAMPERING)
def test_what_somebody_changed_by_hand_as_json(cli, statement, what):
    cli.tamper(statement)
    result = cli.run("ledger", "check", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["ok"], report["accounts"], report["entries"]) == (False, 2, 2)
    assert {problem["user"] for problem in report["problems"]} == {"ana"}
    assert what in [problem["what"] for problem in report["problems"]]
    assert all(set(problem) == {"user", "what", "found", "expected"} for problem in report["problems"])


def test_an_entry_that_was_changed_in_spite_of_its_triggers_is_found(cli):
    cli.tamper("DROP TRIGGER entries_keep", "UPDATE entries SET amount = 2000000 WHERE account_id = 2")
    result = cli.run("ledger", "check", "--json")
    assert result.exit_code == 1
    assert {problem["user"] for problem in json.loads(result.stdout)["problems"]} == {"bruno"}


def test_the_exit_code_of_a_check_is_the_program_s_own(cli, program):
    assert program("ledger", "check").returncode == 0
    cli.tamper(TAMPERING[0][0])
    done = program("ledger", "check")
    assert (done.returncode, done.stderr) == (1, "")
    assert "ana" in done.stdout


# export


def test_every_entry_is_exported_one_a_line_oldest_first(cli):
    cli.ok("credit", "ana", "1K", "--reference", "pix-1", "--note", "José ☀")
    cli.ok("debit", "bruno", "2K", "--note", "mistake")
    lines = [json.loads(line) for line in cli.ok("ledger", "export").splitlines()]
    assert [(line["id"], line["user"], line["kind"], line["amount"]) for line in lines] == [
        (1, "ana", "allowance", 1_000_000),
        (2, "bruno", "allowance", 1_000_000),
        (3, "ana", "credit", 1000),
        (4, "bruno", "adjust", -2000),
    ]
    assert lines[2] == {
        "id": 3,
        "at": "2026-03-10T15:00:00Z",
        "user": "ana",
        "kind": "credit",
        "amount": 1000,
        "balance_after": 1_001_000,
        "reference": "pix-1",
        "note": "José ☀",
    }
    assert "José ☀" in cli.ok("ledger", "export")


def test_a_new_ledger_exports_nothing(empty_cli):
    empty_cli.ok("db", "migrate")
    assert empty_cli.ok("ledger", "export") == ""


# holds, release


@pytest.fixture
def held(cli):
    """Two calls that run: 500 tokens of ana, 300 of bruno."""

    def work(books):
        books.hold("first", 500)
        books.hold("second", 300, user="bruno")

    cli.calls(work)
    return cli


def test_what_running_calls_hold(held):
    first, second = held.json("ledger", "holds")
    assert {name: first[name] for name in ("id", "user", "reserved", "created_at", "expires_at")} == {
        "id": "first",
        "user": "ana",
        "reserved": 500,
        "created_at": "2026-03-10T15:00:00Z",
        "expires_at": "2026-03-10T15:02:00Z",
    }
    assert (second["id"], second["user"], second["reserved"]) == ("second", "bruno", 300)
    rows = held.ok("ledger", "holds").splitlines()[2:]
    assert [row.split()[:4] for row in rows] == [
        ["first", "ana", "gpt-4o", "500"],
        ["second", "bruno", "gpt-4o", "300"],
    ]


def test_nothing_is_held(cli):
    assert cli.ok("ledger", "holds") == "nothing is held\n"
    assert cli.json("ledger", "holds") == []


def test_a_reservation_that_is_released_costs_nothing(held):
    assert held.json("balance", "ana")["available"] == 999_500
    assert held.json("ledger", "release", "first") == {"id": "first", "user": "ana", "available": 1_000_000}
    assert [hold["id"] for hold in held.json("ledger", "holds")] == ["second"]
    assert held.ok("ledger", "release", "second") == "released; bruno has 1,000,000 tokens available\n"
    assert held.json("usage", "--events") == []
    assert held.json("ledger", "check")["ok"]


@pytest.mark.parametrize("reservation", ["nothing", "", "done", "firs"])
def test_what_is_not_pending_cannot_be_released(held, reservation):
    def work(books):
        books.hold("done", 10)
        books.settle("done", 10)

    held.calls(work)
    said = held.refused("ledger", "release", reservation)
    assert said == f"Error: no pending reservation {reservation!r}; see 'solaris-cli ledger holds'\n"


@pytest.mark.parametrize("arguments", [["check"], ["export"], ["holds"], ["release", "first"]])
def test_where_there_is_no_ledger_none_is_made(empty_cli, arguments):
    assert "solaris-cli db migrate" in empty_cli.refused("ledger", *arguments)
    assert not empty_cli.database.exists()
