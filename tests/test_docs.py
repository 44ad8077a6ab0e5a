"""What the documents say is so."""

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from tests.dialect_table import PAGE, page

from solaris_cli.main import main
from solaris_meter.metering.dialects import dialect
from solaris_meter.metering.tokens import Prompt
from solaris_meter.settings import NOT_BUILT_YET, Settings, load_settings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "deploy" / "solaris.toml"
READMES = [ROOT / "README.md", ROOT / "README.pt-BR.md"]


def test_the_reference_holds_every_setting_with_its_default():
    assert load_settings(REFERENCE, {}) == Settings()
    written = {(table, key) for table, values in tomllib.loads(REFERENCE.read_text()).items() for key in values}
    known = {(table, key) for table, values in msgspec.to_builtins(Settings()).items() for key in values}
    assert written == known


def test_the_reference_marks_what_has_no_effect_yet():
    table = ""
    marked = set()
    for line in REFERENCE.read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            table = header[1]
        if "(later)" in line and not line.startswith("#"):
            marked.add(table if header else f"{table}.{line.split(' ')[0]}")
    assert marked == set(NOT_BUILT_YET)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_command_is_named(readme):
    text = readme.read_text()
    names = [name for name in main.commands if name not in {"run", "demo", "db"}]
    assert [name for name in names if f"solaris-cli {name}" not in text] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_command_line_in_the_readme_is_one(readme):
    """Each `solaris-cli …` of the tour names a command that exists, and only options that it has."""
    block = re.search(r"```sh\n(solaris-cli plans.*?)```", readme.read_text(), re.DOTALL)
    assert block
    for line in block[1].splitlines():
        words = line.split("#")[0].split()[1:]
        command: click.Command = main
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not isinstance(command, click.Group), line
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_page_of_dialects_says_what_the_code_says():
    assert PAGE.read_text() == page(), "run: make docs"


def test_the_dialect_in_the_guide_works():
    code = re.search(r"```python\n(class Thinker.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {"re": re, "Prompt": Prompt} | vars(dialect)
    exec(code[1], names)
    thinker = names["Thinker"]()
    body = {"model": "deep", "question": "?", "stream": True}
    asked = thinker.read_request("/v9/think", body, 50)
    answer = dialect.Answer()
    thinker.read_event(answer, {"said": "So"})
    thinker.read_event(answer, {"said": ".", "cost": {"in": 12, "out": 34}})
    assert (asked.model, asked.stream, asked.prompt().messages[0]["content"]) == ("deep", True, "?")
    assert (answer.input_tokens, answer.output_tokens, "".join(answer.text)) == (12, 34, "So.")


def test_both_readmes_have_the_same_sections_and_the_same_code():
    one, other = (path.read_text() for path in READMES)
    assert one.count("\n## ") == other.count("\n## ")
    assert one.count("```") == other.count("```")
    assert re.findall(r"^X-Solaris.*|[A-Z_]+_PROXY=.*", one) == re.findall(r"^X-Solaris.*|[A-Z_]+_PROXY=.*", other)
