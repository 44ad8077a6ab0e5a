"""rates: list, set, remove."""

import re

import pytest
from tests.ledger.support import DAY, NOON

from solaris_meter.models import Usage

DEFAULT = "default: 1 for input, output, image and second; cached input and cache write cost what input costs"
SET = ["rates", "set", "OpenAI/gpt-4o*", "--input", "15", "--cached-input", "7.50", "--output", "0.1"]
RULE = {
    "pattern": "openai/gpt-4o*",
    "input": 15,
    "cached_input": 7.5,
    "cache_write": None,
    "output": 0.1,
    "image": None,
    "second": None,
    "note": None,
    "set_at": "2026-03-10T15:00:00Z",
}


def test_without_rules_the_default_is_shown(cli):
    assert cli.ok("rates") == f"no rates are set\n{DEFAULT}\n"
    assert cli.json("rates") == {
        "rules": [],
        "default": {"input": 1, "cached_input": None, "cache_write": None, "output": 1, "image": 1, "second": 1},
    }


def test_a_rate_is_set_for_new_calls_only(cli):
    said = cli.ok(*SET)
    assert said == "openai/gpt-4o*: input 15, cached input 7.5, output 0.1; this applies to new calls only\n"
    assert cli.json("rates", "list")["rules"] == [RULE]
    header, _, row, default = cli.ok("rates").splitlines()
    assert re.split(" {2,}", header) == [
        *("pattern", "input", "cached input", "cache write", "output", "image", "second")
    ]
    assert row.split() == ["openai/gpt-4o*", "15", "7.5", "-", "0.1", "-", "-"]
    assert default == DEFAULT


def test_the_json_of_set_is_all_that_the_pattern_has_now(cli):
    assert cli.json(*SET) == RULE
    cli.now += 1000
    assert cli.json("rates", "set", "openai/gpt-4o*", "--image", "0", "--note", "free pictures") == RULE | {
        "image": 0,
        "note": "free pictures",
        "set_at": "2026-03-10T15:00:01Z",
    }


def test_every_kind_can_be_set(cli):
    options = ["--input", "1.1", "--cached-input", "1.2", "--cache-write", "1.3", "--output", "1.4"]
    row = cli.json("rates", "set", "*", *options, "--image", "1.5", "--second", "1.6")
    kinds = ("input", "cached_input", "cache_write", "output", "image", "second")
    assert [row[kind] for kind in kinds] == [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]


def test_a_call_is_billed_by_it(cli):
    cli.ok(*SET)

    def serve(books):
        books.reserve("one", prompt=10, output=5)
        books.end("one", Usage(10, 5, "reported", cached_input_tokens=4))

    cli.calls(serve)
    assert cli.json("usage", "--events")[0]["billed_tokens"] == 6 * 15 + 30 + 1
    assert cli.json("ledger", "check")["ok"]


def test_setting_a_rate_makes_the_ledger(empty_cli):
    empty_cli.ok(*SET)
    assert len(empty_cli.json("rates")["rules"]) == 1


def test_a_rate_must_be_named(cli):
    assert "name at least one rate: --input, --output" in cli.misused("rates", "set", "gpt-4o", "--note", "x")


@pytest.mark.parametrize("written", ["-1", "cheap", "0,1", "1e3", "", "0.0000001"])
def test_what_is_no_rate_is_refused(cli, written):
    said = cli.misused("rates", "set", "gpt-4o", f"--output={written}")
    assert f"'--output': {written!r} is not a rate: write billed tokens per token such as 15 or 0.1" in said


@pytest.mark.parametrize("pattern", ["", " ", "x" * 257])
def test_a_pattern_that_cannot_be_is_refused(cli, pattern):
    assert "a pattern has 1 to 256 characters" in cli.refused("rates", "set", pattern, "--output", "1")


def test_a_rate_is_removed(cli):
    cli.ok(*SET)
    assert cli.ok("rates", "remove", "openai/GPT-4o*") == (
        "openai/gpt-4o*: no input, cached input, output rate any more; this applies to new calls only\n"
    )
    assert cli.json("rates")["rules"] == []


def test_the_json_of_remove(cli):
    cli.ok(*SET)
    assert cli.json("rates", "remove", "openai/gpt-4o*") == {
        "pattern": "openai/gpt-4o*",
        "removed": ["input", "cached_input", "output"],
    }


def test_a_pattern_without_rates_is_refused_with_those_there_are(cli):
    assert cli.refused("rates", "remove", "gpt") == "Error: no rates for 'gpt'; no rates are set\n"
    cli.ok(*SET)
    assert cli.refused("rates", "remove", "gpt") == "Error: no rates for 'gpt'; there are rates for openai/gpt-4o*\n"


def test_what_one_model_costs_and_why(cli):
    cli.ok(*SET)
    cli.ok("rates", "set", "gpt-4o", "--image", "200")
    cli.ok("rates", "set", "*", "--output", "9", "--second", "3")
    assert cli.json("rates", "list", "--model", "openai/gpt-4o") == {
        "model": "openai/gpt-4o",
        "rates": {
            "input": {"rate": 15, "pattern": "openai/gpt-4o*"},
            "cached_input": {"rate": 7.5, "pattern": "openai/gpt-4o*"},
            "cache_write": {"rate": 15, "pattern": None},
            "output": {"rate": 0.1, "pattern": "openai/gpt-4o*"},
            "image": {"rate": 200, "pattern": "gpt-4o"},
            "second": {"rate": 3, "pattern": "*"},
        },
    }
    assert [re.split(" {2,}", line) for line in cli.ok("rates", "list", "--model", "GPT-4o").splitlines()[2:]] == [
        ["input", "1", "default"],
        ["cached input", "1", "as input"],
        ["cache write", "1", "as input"],
        ["output", "9", "*"],
        ["image", "200", "gpt-4o"],
        ["second", "3", "*"],
    ]


def test_a_model_whose_own_name_has_a_slash(cli):
    cli.ok("rates", "set", "openai/gpt-4o", "--output", "2")
    shown = cli.json("rates", "list", "--model", "openrouter/openai/gpt-4o")
    assert shown["rates"]["output"] == {"rate": 2, "pattern": "openai/gpt-4o"}


def test_the_history_keeps_every_change(cli):
    assert cli.ok("rates", "list", "--history") == "no rates were ever set\n"
    cli.ok("rates", "set", "gpt-4o", "--cached-input", "0.5", "--note", "launch")
    cli.now += DAY
    cli.ok("rates", "remove", "gpt-4o")
    lines = [
        {"at": "2026-03-10T15:00:00Z", "pattern": "gpt-4o", "kind": "cached_input", "rate": 0.5, "note": "launch"},
        {"at": "2026-03-11T15:00:00Z", "pattern": "gpt-4o", "kind": "cached_input", "rate": None, "note": None},
    ]
    assert cli.json("rates", "list", "--history") == lines
    assert cli.json("rates", "list", "--history", "--since", "2026-03-11") == lines[1:]
    _, _, *rows = cli.ok("rates", "list", "--history").splitlines()
    assert [re.split(" {2,}", row.strip()) for row in rows] == [
        ["2026-03-10T15:00:00Z", "gpt-4o", "cached input", "0.5", "launch"],
        ["2026-03-11T15:00:00Z", "gpt-4o", "cached input", "removed", "-"],
    ]


def test_the_models_without_a_price(cli):
    assert cli.ok("rates", "list", "--unpriced") == "the cost of every call is known\n"
    cli.calls(lambda books: (books.spend(5, now=NOON - 3 * DAY), books.spend(1200)))
    assert cli.json("rates", "list", "--unpriced") == [
        {"provider": "openai", "model": "gpt-4o", "calls": 2, "total_tokens": 1205}
    ]
    assert cli.json("rates", "list", "--unpriced", "--since", "1d")[0]["calls"] == 1
    header, _, row = cli.ok("rates", "list", "--unpriced").splitlines()
    assert re.split(" {2,}", header) == ["provider", "model", "calls", "total tokens"]
    assert row.split() == ["openai", "gpt-4o", "2", "1,205"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--history", "--unpriced"], "three different lists: name one"),
        (["--history", "--model", "x"], "three different lists: name one"),
        (["--unpriced", "--model", ""], "three different lists: name one"),
        (["--since", "7d"], "--since goes with --history or --unpriced"),
        (["--since", "7d", "--model", "x"], "--since goes with --history or --unpriced"),
        (["--history", "--since", "yesterday"], "is not a time"),
    ],
)
def test_lists_that_do_not_go_together_are_refused(cli, options, said):
    assert said in cli.misused("rates", "list", *options)


def test_json_is_written_after_the_command(cli):
    assert "write --json after the command" in cli.misused("rates", "--json", "list")


@pytest.mark.parametrize("arguments", [("list",), ("list", "--unpriced"), ("remove", "gpt-4o")])
def test_where_there_is_no_ledger_none_is_made(empty_cli, arguments):
    assert "solaris-cli db migrate" in empty_cli.refused("rates", *arguments)
    assert not empty_cli.database.exists()
