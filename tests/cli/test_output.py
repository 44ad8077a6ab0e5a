"""What commands print, and on which terminals."""

import json

import pytest

from solaris_cli.output import number, print_fields, print_json, print_rows


def test_json_is_one_document_with_its_letters_as_they_are(capsys):
    print_json({"user": "José", "balance": 1_000_000, "email": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"user": "José", "balance": 1_000_000, "email": None}
    assert "José" in out
    assert out.endswith("}\n")


def test_rows_are_a_table_of_the_columns_that_were_asked_for(capsys):
    rows = [{"user": "ana", "percent_used": 85.0, "x": 1}, {"user": "bruno", "percent_used": 7.5, "x": 2}]
    print_rows(rows, ("user", "percent_used"), empty="nobody")
    assert capsys.readouterr().out.splitlines() == [
        "user      percent used",
        "------  --------------",
        "ana               85.0",
        "bruno              7.5",
    ]


def test_no_row_is_said_in_words(capsys):
    print_rows(iter(()), ("user",), empty="nobody")
    assert capsys.readouterr().out == "nobody\n"


def test_what_is_missing_is_a_dash_and_does_not_move_the_numbers(capsys):
    print_rows([{"n": None}, {"n": 1_000_000}, {"n": -5}], ("n",), empty="")
    assert capsys.readouterr().out.splitlines()[2:] == ["        -", "1,000,000", "       -5"]


def test_a_column_of_nothing_is_no_column_of_numbers(capsys):
    print_rows([{"note": None, "n": 1}], ("note", "n"), empty="")
    assert capsys.readouterr().out.splitlines()[2] == "-         1"


def test_an_id_of_digits_is_printed_as_it_is(capsys):
    # tabulate would make a number of it: 1e5 and 0012 are user ids here.
    print_rows([{"user": "1e5"}, {"user": "0012"}], ("user",), empty="")
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[2:]] == ["1e5", "0012"]


def test_yes_and_no(capsys):
    print_rows([{"done": True}, {"done": False}], ("done",), empty="")
    assert capsys.readouterr().out.splitlines()[2:] == ["yes", "no"]


def test_fields_are_one_a_line(capsys):
    print_fields({"user": "ana", "percent_used": "85.0 %", "email": None, "limit": 1_000_000})
    assert capsys.readouterr().out.splitlines() == [
        "user          ana",
        "percent used  85.0 %",
        "email         -",
        "limit         1,000,000",
    ]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (999, "999"), (1_000_000, "1,000,000"), (-1234, "-1,234")])
def test_a_number_has_thousands_separators(value, text):
    assert number(value) == text


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
@pytest.mark.parametrize(
    "arguments", [["credit", "ana", "1K"], ["grant", "ana", "1K"], ["debit", "ana", "1K", "--note", "mistake"]]
)
def test_on_every_terminal_what_was_booked_is_exit_0(cli, program, encoding, arguments):
    # Exit 1 means that nothing was changed: whoever books again after it would book twice.
    done = program(*arguments, PYTHONIOENCODING=encoding)
    assert cli.json("balance", "ana")["balance"] != 1_000_000
    assert (done.returncode, done.stderr) == (0, "")
    assert "ana has" in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_that_a_terminal_does_not_have_are_printed_somehow(cli, program, encoding):
    cli.ok("users", "add", "太郎", "--email", "taro@example.com")
    for arguments in (["users", "list"], ["balance"], ["users", "show", "taro@"], ["ledger", "export"]):
        done = program(*arguments, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_coloured(cli, program):
    for arguments in (["balance"], ["doctor"], ["plans"], ["balance", "nobody"]):
        done = program(*arguments, FORCE_COLOR="1")
        assert "\x1b" not in done.stdout + done.stderr
