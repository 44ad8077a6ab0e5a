"""db backup, db restore, and the copy before an upgrade, as people and programs see them."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlite_utils import Database
from tests.ledger.support import NOON, ask, outcome

from solaris_meter.ledger import migrations
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.ledger.journal import Journal, Unsettled

NAME = "ledger-20260310T150000Z.db"


def test_a_backup_without_a_name_goes_beside_the_ledger(cli):
    file = cli.folder / "backups" / NAME
    assert cli.ok("db", "backup") == f"{file}: 2 accounts, 2 entries, every sum is right\n"
    assert [path.name for path in file.parent.iterdir()] == [NAME]


def test_a_backup_into_a_folder_is_named_by_the_time(cli):
    (cli.folder / "nas").mkdir()
    assert cli.json("db", "backup", "nas") == {
        "file": f"nas/{NAME}",
        "bytes": (cli.folder / "nas" / NAME).stat().st_size,
        "unsettled_file": None,
        "unsettled": 0,
        "check": {"ok": True, "accounts": 2, "entries": 2, "problems": []},
    }


def test_calls_that_are_not_in_the_ledger_yet_are_named(cli):
    Journal(SqliteEngine(cli.database).journal).append(Unsettled(ask("late"), outcome(40), NOON))
    lines = cli.ok("db", "backup", "monday.db").splitlines()
    assert lines[1] == "monday.db-unsettled.jsonl: 1 calls that are not in the ledger yet; it belongs to the backup"
    assert cli.ok("db", "restore", "monday.db").splitlines()[-1] == (
        "1 unsettled calls are charged when the sidecar starts"
    )


def test_a_backup_comes_back(cli):
    cli.ok("db", "backup", "monday.db")
    cli.ok("credit", "ana", "5K")
    said = cli.refused("db", "restore", "monday.db")
    assert f"1 entries of {cli.database} are not in the backup" in said
    lines = cli.ok("db", "restore", "monday.db", "--force").splitlines()
    previous = f"{cli.database}-before-restore-20260310T150000Z"
    assert lines == [
        f"{cli.database}: restored from monday.db; 2 accounts, 2 entries, every sum is right",
        f"the ledger before: {previous} (1 entries are in it alone)",
    ]
    assert cli.json("balance", "ana")["balance"] == 1_000_000
    assert json.loads(cli.ok("--database", f"sqlite:///{previous}", "balance", "ana", "--json"))["balance"] == 1_005_000


def test_a_restore_as_json(cli):
    cli.ok("db", "backup", "monday.db")
    assert cli.json("db", "restore", "monday.db") == {
        "database": cli.url,
        "file": "monday.db",
        "previous": f"{cli.database}-before-restore-20260310T150000Z",
        "lost_entries": 0,
        "migrations": [],
        "unsettled": 0,
        "check": {"ok": True, "accounts": 2, "entries": 2, "problems": []},
    }


def test_a_backup_makes_no_ledger_and_no_upgrade(empty_cli, cli):
    older(cli.folder / "old.db")
    url = f"sqlite:///{cli.folder / 'old.db'}"
    said = cli.ok("--database", url, "db", "backup", "monday.db")
    assert said == "monday.db: whole; of an older version, so that its sums are checked when it is restored\n"
    assert "no ledger at" in cli.refused("--database", f"sqlite:///{cli.folder / 'none.db'}", "db", "backup")


def test_a_name_that_is_taken_is_refused(cli):
    cli.write("monday.db", "mine")
    assert "monday.db is there already, and is not overwritten; name another file" in (
        cli.refused("db", "backup", "monday.db")
    )
    assert (cli.folder / "monday.db").read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("backup",), "pg_dump --format=custom --file=solaris.dump 'postgresql://solaris@db/solaris'"),
        (("backup", "x.dump"), "pg_dump --format=custom --file=x.dump 'postgresql://solaris@db/solaris'"),
        (
            ("restore", "x.dump"),
            "stop the sidecars, then pg_restore --clean --if-exists --single-transaction"
            " --dbname='postgresql://solaris@db/solaris' x.dump",
        ),
    ],
)
def test_postgresql_has_its_own_tools(cli, command, told):
    said = cli.refused("--database", "postgresql://solaris:secret@db/solaris", "db", *command)
    assert told in said
    assert "secret" not in said


# before an upgrade


def older(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = Database(raw)
        migrations.steps.apply(database, stop_before="m004_notices")
        database.close()


@pytest.fixture
def old_cli(empty_cli):
    older(empty_cli.database)
    return empty_cli


def test_an_upgrade_says_where_the_ledger_before_is(old_cli):
    told = old_cli.json("db", "migrate")
    (copy,) = old_cli.folder.glob("*-before-m004_notices-*.db")
    assert told == {"database": old_cli.url, "migrations": ["m004_notices"], "backup": str(copy)}


def test_an_upgrade_by_any_command_says_so_on_stderr(old_cli):
    result = old_cli.run("users", "list", "--json")
    (copy,) = old_cli.folder.glob("*-before-m004_notices-*.db")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert result.stderr == f"the ledger was upgraded (m004_notices); as it was before: {copy}\n"
    assert old_cli.run("users", "list").stderr == ""


def test_an_upgrade_for_which_there_is_no_room_changes_nothing(old_cli, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 5))
    for command in (("db", "migrate"), ("users", "list"), ("run",)):
        assert "is not upgraded to m004_notices, because no copy could be made of it first" in old_cli.refused(*command)
