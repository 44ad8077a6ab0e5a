"""Help: every command and option says what it is for, and everything printed can be had as JSON."""

import json
import shlex

import click
import pytest

from solaris_cli.main import main

NO_JSON = {"run", "demo", "ledger export", "users export"}
"""The first two become other programs; the exports are JSON already."""

SAMPLES = {
    "doctor": [],
    "grant": ["ana", "1K"],
    "credit": ["ana", "1K"],
    "debit": ["ana", "1K", "--note", "mistake"],
    "balance": ["ana"],
    "usage": ["ana"],
    "statement": ["ana"],
    "plans list": [],
    "plans show": ["basico"],
    "plans set": ["pro", "--tokens", "5M", "--period", "month"],
    "plans retire": ["basico"],
    "plans apply": ["plans.toml"],
    "rates list": [],
    "rates set": ["gpt-4o", "--output", "15"],
    "rates remove": ["gpt*"],
    "users list": [],
    "users show": ["ana"],
    "users add": ["carla"],
    "users set-plan": ["ana", "basico"],
    "users block": ["ana"],
    "users unblock": ["ana"],
    "users rename": ["ana", "anna"],
    "users erase": ["ana", "--yes"],
    "alerts list": [],
    "alerts resend": ["--dead"],
    "alerts test": [],
    "messages show": [],
    "messages check": [],
    "ledger check": [],
    "ledger holds": [],
    "ledger release": ["running"],
    "db migrate": [],
    "db backup": [],
    "db restore": ["monday.db"],
    "db path": [],
    "ca create": ["--confdir", "ca"],
    "ca show": ["--confdir", "ca"],
    "ca rotate": ["--confdir", "ca", "--yes"],
}
"""Arguments with which each command succeeds."""


def walk(group, words=()):
    """Every command with its words, groups included."""
    for name, command in group.commands.items():
        yield " ".join((*words, name)), command
        if isinstance(command, click.Group):
            yield from walk(command, (*words, name))


COMMANDS = dict(walk(main))
LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}
LISTERS = [name for name, command in COMMANDS.items() if getattr(command, "invoke_without_command", False)]


def options(command):
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def examples():
    for command in COMMANDS.values():
        for line in map(str.strip, (command.help or "").splitlines()):  # Python 3.12 keeps a docstring's indent
            if line.startswith("solaris-cli "):
                yield line


def test_the_tree_has_every_command_that_is_tested_here():
    assert set(LEAVES) == set(SAMPLES) | NO_JSON


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_is_for(name):
    command = COMMANDS[name]
    assert command.help
    assert command.help.strip()[0].isupper()
    # what the list of commands shows of it must be whole
    assert not command.get_short_help_str(limit=200).endswith("...")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    for option in options(COMMANDS[name]):
        # an option with a choice shows what there is to choose
        assert option.help or isinstance(option.type, click.Choice), option.name


def test_the_options_of_the_program_itself_say_what_they_are_for():
    assert main.help
    assert all(option.help for option in options(main))


@pytest.mark.parametrize("name", sorted(set(LEAVES) - NO_JSON))
def test_every_command_that_prints_has_json(name):
    assert "--json" in [spelling for option in options(LEAVES[name]) for spelling in option.opts]


@pytest.mark.parametrize("name", LISTERS)
def test_a_group_that_prints_a_list_by_itself_has_json_too(cli, name):
    assert json.loads(cli.ok(*name.split(), "--json")) == cli.json(*name.split(), "list")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_json_of_every_command_is_one_document(cli, name):
    cli.ok("db", "backup", "monday.db")
    cli.write("plans.toml", '[pro]\ntokens = "5M"\nperiod = "month"\n')
    cli.calls(lambda books: (books.hold("running", 100), books.rate("gpt*", output="2")))
    if name == "ca show":
        cli.ok("ca", "create", "--confdir", "ca")
    assert cli.json(*name.split(), *SAMPLES[name]) is not None


@pytest.mark.parametrize("name", SAMPLES)
def test_every_command_prints_something_for_people(cli, name):
    cli.ok("db", "backup", "monday.db")
    cli.write("plans.toml", '[pro]\ntokens = "5M"\nperiod = "month"\n')
    cli.calls(lambda books: (books.hold("running", 100), books.rate("gpt*", output="2")))
    if name == "ca show":
        cli.ok("ca", "create", "--confdir", "ca")
    assert cli.ok(*name.split(), *SAMPLES[name]).strip()


@pytest.mark.parametrize("spelling", ["-h", "--help"])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed_without_settings_or_a_ledger(empty_cli, name, spelling):
    result = empty_cli.run_bare("--config", "nowhere.toml", *name.split(), spelling)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")
    assert f" {name} " in result.stdout.splitlines()[0]
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_help_lists_every_command(empty_cli):
    shown = empty_cli.ok("--help")
    assert [name for name in main.commands if f"\n  {name} " not in shown] == []


@pytest.mark.parametrize("group", ["messages", "ledger", "db"])
def test_a_group_alone_shows_its_help(empty_cli, group):
    result = empty_cli.run(group)
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_there_are_examples():
    assert len(list(examples())) >= 4


@pytest.mark.parametrize("line", list(examples()))
def test_the_examples_of_the_help_can_be_written_like_that(line):
    words = shlex.split(line)[1:]
    name = " ".join(words[: 2 if isinstance(COMMANDS[words[0]], click.Group) else 1])
    # reads every argument as its type, and runs nothing
    LEAVES[name].make_context(name, words[name.count(" ") + 1 :], parent=click.Context(main)).close()


def test_a_command_that_is_not_known_is_wrong_usage(cli):
    assert "No such command 'balances'" in cli.misused("balances")
    assert "No such command 'lst'" in cli.misused("users", "lst")
