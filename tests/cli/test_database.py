"""db migrate and db path, and what every command says of a database or settings that cannot be used."""

import json

import pytest

READERS = [
    ("balance",),
    ("balance", "ana"),
    ("usage",),
    ("statement", "ana"),
    ("plans", "list"),
    ("users", "list"),
    ("ledger", "check"),
    ("ledger", "export"),
    ("ledger", "holds"),
]


def test_migrating_makes_the_ledger_and_then_has_nothing_to_do(empty_cli):
    assert empty_cli.ok("db", "migrate") == f"{empty_cli.url}: m001_ledger, m002_rates, m003_outbox, m004_notices\n"
    assert empty_cli.ok("db", "migrate") == f"{empty_cli.url}: up to date\n"


def test_migrating_as_json(empty_cli):
    assert empty_cli.json("db", "migrate") == {
        "database": empty_cli.url,
        "migrations": ["m001_ledger", "m002_rates", "m003_outbox", "m004_notices"],
        "backup": None,
    }
    assert empty_cli.json("db", "migrate") == {"database": empty_cli.url, "migrations": [], "backup": None}


def test_the_path_is_told_without_making_anything(empty_cli):
    assert empty_cli.ok("db", "path") == f"{empty_cli.url}\n"
    assert empty_cli.json("db", "path") == {"database": empty_cli.url}
    assert not empty_cli.database.exists()


def test_the_database_of_the_command_line_is_used_instead_of_the_settings_one(cli):
    other = f"sqlite:///{cli.folder / 'other.db'}"
    assert cli.ok("--database", other, "db", "path") == f"{other}\n"
    cli.ok("--database", other, "users", "add", "carla")
    assert [user["user"] for user in cli.json("--database", other, "users", "list")] == ["carla"]
    assert [user["user"] for user in cli.json("users", "list")] == ["ana", "bruno"]


def test_the_database_can_come_from_the_environment(cli, monkeypatch):
    monkeypatch.setenv("SOLARIS_LEDGER_DATABASE", "sqlite:///setting.db")
    assert cli.ok("db", "path") == "sqlite:///setting.db\n"
    assert cli.ok("--database", "sqlite:///written.db", "db", "path") == "sqlite:///written.db\n"


def test_without_settings_the_ledger_is_in_the_current_folder(empty_cli):
    assert empty_cli.run_bare("db", "path").stdout == "sqlite:///solaris.db\n"
    assert empty_cli.run_bare("users", "add", "ana").exit_code == 0
    assert (empty_cli.folder / "solaris.db").exists()


def test_settings_in_the_current_folder_are_found(empty_cli):
    empty_cli.config.rename(empty_cli.folder / "solaris.toml")
    assert empty_cli.run_bare("db", "path").stdout == f"{empty_cli.url}\n"


def test_settings_can_be_named_by_the_environment(empty_cli, monkeypatch):
    monkeypatch.setenv("SOLARIS_CONFIG", str(empty_cli.config))
    assert empty_cli.run_bare("db", "path").stdout == f"{empty_cli.url}\n"


# a database that cannot be used


@pytest.mark.parametrize("command", READERS)
def test_a_command_that_reads_makes_no_ledger(empty_cli, command):
    assert empty_cli.refused(*command) == (
        f"Error: no ledger at {empty_cli.database}; start the sidecar, or make one with 'solaris-cli db migrate'\n"
    )
    assert list(empty_cli.folder.iterdir()) == [empty_cli.config]


@pytest.mark.parametrize("command", [*READERS, ("db", "migrate"), ("users", "add", "ana"), ("credit", "ana", "1K")])
def test_a_database_that_is_a_folder_is_refused(empty_cli, command):
    empty_cli.database.mkdir()
    assert f"the ledger {empty_cli.database} cannot be used: " in empty_cli.refused(*command)
    assert list(empty_cli.database.iterdir()) == []


@pytest.mark.parametrize("command", [*READERS, ("db", "migrate"), ("users", "add", "ana"), ("credit", "ana", "1K")])
def test_a_database_that_is_something_else_is_refused_and_kept(empty_cli, command):
    empty_cli.database.write_text("my novel\n" * 1000)
    result = empty_cli.run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"the ledger {empty_cli.database} cannot be used: file is not a database" in result.stderr
    assert empty_cli.database.read_text() == "my novel\n" * 1000


def test_a_database_in_a_folder_that_is_not_there_is_refused(empty_cli):
    url = f"sqlite:///{empty_cli.folder / 'nowhere' / 'ledger.db'}"
    result = empty_cli.run("--database", url, "db", "migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert str(empty_cli.folder / "nowhere" / "ledger.db") in result.stderr


@pytest.mark.parametrize("url", ["ledger.db", "sqlite://ledger.db", "sqlite:///", "sqlite:///:memory:", "mysql:///x"])
def test_a_database_that_is_no_url_is_refused(cli, url):
    said = cli.refused("--database", url, "balance")
    assert f"{url!r} is not a database; write sqlite:///solaris.db or sqlite:////abs/path.db" in said


def test_a_ledger_of_a_newer_version_is_refused(cli):
    cli.tamper("INSERT INTO _sqlite_migrations SELECT 99, migration_set, 'm099_later', applied_at"
               " FROM _sqlite_migrations LIMIT 1")  # fmt: skip
    for command in (("balance",), ("db", "migrate"), ("credit", "ana", "1K")):
        said = cli.refused(*command)
        assert "is from a newer version (it has m099_later); upgrade Solaris Meter" in said


# settings that cannot be used


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ledger", "is not valid TOML: "),
        ("[ledgr]\n", "unknown key 'ledgr'; there are ledger, identity, accounts"),
        ("[ledger]\npath = 1\n", "unknown key 'ledger.path'; there are database, on_error"),
        ("[admission]\nslice = '1K'\n", "admission.slice: "),
        ("[accounts]\ntimezone = 'Brasilia'\n", "accounts.timezone: no time zone 'Brasilia'; write one like"),
    ],
)
@pytest.mark.parametrize("command", [("balance",), ("credit", "ana", "1K"), ("run",), ("db", "path")])
def test_settings_that_are_wrong_stop_every_command(cli, command, text, said):
    cli.config.write_text(text)
    message = cli.refused(*command)
    assert message.startswith(f"Error: {cli.config}")
    assert said in message


@pytest.mark.parametrize("command", [("balance",), ("credit", "ana", "1K"), ("run",), ("db", "path")])
def test_settings_that_cannot_be_read_stop_every_command(cli, command):
    before = cli.dump()
    for path, reason in (("nowhere.toml", "No such file or directory"), (str(cli.folder), "Is a directory")):
        result = cli.run_bare("--config", path, *command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"Error: {path}: {reason}; name a readable file with --config\n"
    assert cli.dump() == before


def test_settings_that_were_named_but_cannot_be_read_are_not_passed_over_for_the_sake_of_a_database(cli):
    # An expiry would be meant in another time zone than the one somebody set.
    result = cli.run_bare("--config", "nowhere.toml", "--database", cli.url, "balance")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nowhere.toml" in result.stderr


def test_an_environment_variable_that_is_no_setting_stops_every_command(cli, monkeypatch):
    monkeypatch.setenv("SOLARIS_LEGDER_DATABASE", "sqlite:///x.db")
    assert "the environment variable SOLARIS_LEGDER_DATABASE is not a setting" in cli.refused("balance")


# as a program


def test_errors_go_to_stderr_with_exit_1(program):
    done = program("balance", "anna")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: no user 'anna'; did you mean ana?\n"


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["credit", "ana", "abc"], ["credit", "ana"], ["balance", "--nosuch"]]
)
def test_wrong_usage_goes_to_stderr_with_exit_2(program, arguments):
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: solaris-cli")
    assert "Error: " in done.stderr


def test_the_version_is_told(program):
    done = program("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("solaris-cli, version ")


def test_what_a_program_prints_as_json_is_one_document(program):
    done = program("balance", "ana", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["user"] == "ana"
