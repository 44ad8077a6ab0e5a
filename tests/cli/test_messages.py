"""Messages: every text as a person sees it, and a check of one's own."""

import json
import subprocess
import sys

import pytest

from solaris_meter.chat import catalogue
from solaris_meter.settings import Settings

OWN = 'until = "ate o dia {date}"\n'


def test_every_text_is_shown_with_its_placeholders_and_filled_in(empty_cli):
    empty_cli.configure('[purchase]\nemail = "vendas@example.com"\n')
    shown = empty_cli.ok("messages", "show")
    heads = [line.split()[0] for line in shown.splitlines() if line and not line.startswith(" ")]
    assert heads == list(catalogue.load("pt-BR"))
    assert (
        "account_blocked {ask}\n    Sua conta está bloqueada, e os seus tokens ficam guardados. Escreva para" in shown
    )
    assert "vendas@example.com" in shown
    assert not any(set("{}") & set(line) for line in shown.splitlines() if line.startswith(" "))


def test_the_language_is_the_one_of_the_settings_or_the_one_named(empty_cli):
    empty_cli.configure('[locale]\nlanguage = "en"\n')
    assert empty_cli.json("messages", "show")["language"] == "en"
    assert "Sua conta está bloqueada" in empty_cli.ok("messages", "show", "--language", "pt-BR")
    assert "not one of pt-BR, en" in empty_cli.misused("messages", "show", "--language", "fr")


def test_own_texts_are_shown_as_such_in_their_own_language(empty_cli):
    file = empty_cli.write("textos.toml", OWN)
    empty_cli.configure(f'[locale]\nmessages = "{file}"\n')
    shown = empty_cli.ok("messages", "show")
    assert "until {date} (own)\n    ate o dia 01/12/2026\n" in shown
    assert "restam 150 mil tokens ate o dia 01/12/2026" in shown
    rows = {row["key"]: row for row in empty_cli.json("messages", "show")["messages"]}
    assert rows["until"] == {
        "key": "until",
        "own": True,
        "template": "ate o dia {date}",
        "text": "ate o dia 01/12/2026",
    }
    assert [key for key, row in rows.items() if row["own"]] == ["until"]
    english = empty_cli.json("messages", "show", "--language", "en")
    assert not any(row["own"] for row in english["messages"])


def test_nothing_is_shown_of_texts_that_cannot_be_used(empty_cli):
    file = empty_cli.write("textos.toml", 'until = "ate"\n')
    empty_cli.configure(f'[locale]\nmessages = "{file}"\n')
    result = empty_cli.run("messages", "show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}: until: {{date}} is missing" in result.stderr
    assert "until {date}\n    até 01/12/2026\n" in empty_cli.ok("messages", "show", "--usual")


def test_a_file_that_can_be_used_is_ok(empty_cli):
    file = empty_cli.write("textos.toml", OWN)
    assert empty_cli.ok("messages", "check", file) == f"{file}: ok\n"
    assert empty_cli.json("messages", "check", file) == {"ok": True, "file": file, "problems": []}
    assert empty_cli.ok("messages", "check") == "no own texts: locale.messages is not set\n"


@pytest.mark.parametrize("named", [True, False])
def test_each_problem_is_named_and_the_exit_is_1(empty_cli, named):
    file = empty_cli.write("textos.toml", 'until = "ate"\nunti = "x"\nrenewal = "Volta em {date}."\n')
    empty_cli.configure("" if named else f'[locale]\nmessages = "{file}"\n')
    arguments = ["messages", "check", *([file] if named else [])]
    result = empty_cli.run(*arguments)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}: until: {{date}} is missing; write it where the value belongs",
        f"{file}: unti: there is no such text; did you mean until?",
    ]
    as_json = empty_cli.run(*arguments, "--json")
    assert as_json.exit_code == 1
    found = json.loads(as_json.stdout)
    assert (found["ok"], [problem["key"] for problem in found["problems"]]) == (False, ["until", "unti"])


def test_a_file_that_is_not_there_is_a_problem(empty_cli):
    result = empty_cli.run("messages", "check", "nowhere.toml")
    assert result.exit_code == 1
    assert "nowhere.toml: it cannot be read (No such file or directory)" in result.stdout


def test_it_loads_no_proxy_and_no_token_counter():
    program = (
        "import sys\nfrom solaris_cli.main import main\n"
        "try:\n    main(['messages', 'show', '--json'])\nexcept SystemExit as done:\n    assert not done.code\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'litellm', 'mitmproxy', 'httpx', 'tiktoken'}, loaded\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["language"] == Settings().locale.language
