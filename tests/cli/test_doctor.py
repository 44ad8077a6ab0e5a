"""doctor: what it finds, what it advises, and its exit code."""

import json
import tempfile
from pathlib import Path

import pytest

HEALTHY = """
[identity]
key = "0123456789abcdef"
[purchase]
email = "vendas@iasolaris.example"
"""


@pytest.fixture
def examine(cli):
    """Run doctor as JSON; its exit code, and level and remedy by subject."""

    def run(settings=HEALTHY):
        if settings is not None:
            cli.configure(settings)
        result = cli.run("doctor", "--json")
        report = json.loads(result.stdout)
        assert result.stderr == ""
        assert report["ok"] == (result.exit_code == 0)
        assert all(set(finding) == {"level", "subject", "text", "remedy"} for finding in report["findings"])
        assert all(finding["remedy"] for finding in report["findings"] if finding["level"] != "ok")
        return result.exit_code, {finding["subject"]: finding for finding in report["findings"]}

    return run


def levels(found):
    return {subject: finding["level"] for subject, finding in found.items() if finding["level"] != "ok"}


def test_nothing_is_wrong(examine):
    code, found = examine()
    assert (code, levels(found)) == (0, {})
    assert found["ledger"]["text"].endswith("2 accounts, 2 entries, every sum is right")
    assert found["accounts.default_plan"]["text"] == "basico: 1,000,000 tokens per month"
    assert found["clock"]["text"] == "periods in America/Sao_Paulo"
    assert "openai" in found["routes"]["text"]


def test_nothing_is_wrong_for_people(cli):
    cli.configure(HEALTHY)
    lines = cli.ok("doctor").splitlines()
    assert lines[0] == f"ok       settings: {cli.config}"
    assert all(line.startswith("ok ") for line in lines)


def test_an_empty_key_is_a_warning(examine):
    code, found = examine(HEALTHY.replace("0123456789abcdef", ""))
    assert (code, levels(found)) == (0, {"identity.key": "warning"})
    assert "can call as anybody" in found["identity.key"]["text"]


def test_a_short_key_is_a_warning(examine):
    code, found = examine(HEALTHY.replace("0123456789abcdef", "0123456789abcde"))
    assert (code, levels(found)) == (0, {"identity.key": "warning"})
    assert "short" in found["identity.key"]["text"]
    assert found["identity.key"]["remedy"] == "openssl rand -hex 32"


def test_the_key_itself_is_not_told(cli):
    for key in ("0123456789abcdef", "short"):
        cli.configure(HEALTHY.replace("0123456789abcdef", key))
        assert f'"{key}"' not in cli.ok("doctor", "--json")
        assert key not in cli.ok("doctor").replace("short enough", "")


@pytest.mark.parametrize(("key", "level"), [("email", {}), ("url", {}), ("", {"purchase": "warning"})])
def test_nowhere_to_buy_is_a_warning(examine, key, level):
    purchase = f'{key} = "https://iasolaris.example"' if key else ""
    code, found = examine(f'[identity]\nkey = "0123456789abcdef"\n[purchase]\n{purchase}\n')
    assert (code, levels(found)) == (0, level)


def test_settings_without_an_effect_are_warnings(examine):
    more = '[web]\nsecret = "x"\n[locale]\nlanguage = "en"\n'
    code, found = examine(HEALTHY + more)
    assert (code, levels(found)) == (0, {"web": "warning"})


def test_a_default_plan_that_is_missing_is_a_fault(examine):
    code, found = examine(HEALTHY + '[accounts]\ndefault_plan = "pro"\n')
    assert (code, levels(found)) == (1, {"accounts.default_plan": "fault"})
    assert "'pro' is missing" in found["accounts.default_plan"]["text"]
    assert found["accounts.default_plan"]["remedy"] == "solaris-cli plans set pro --tokens 1M --period month"


def test_a_default_plan_that_is_retired_is_a_fault(cli, examine):
    cli.ok("plans", "retire", "basico")
    code, found = examine()
    assert (code, levels(found)) == (1, {"accounts.default_plan": "fault"})
    assert "'basico' is retired" in found["accounts.default_plan"]["text"]


def test_the_remedy_for_a_default_plan_is_one(cli, examine):
    cli.ok("plans", "retire", "basico")
    _, found = examine()
    cli.ok(*found["accounts.default_plan"]["remedy"].split()[1:])
    assert examine()[0] == 0


def test_a_ledger_that_somebody_changed_is_a_fault(cli, examine):
    cli.tamper("UPDATE accounts SET balance = balance + 1 WHERE user_id = 'ana'")
    code, found = examine()
    assert (code, levels(found)) == (1, {"ledger": "fault"})
    assert found["ledger"]["remedy"] == "solaris-cli ledger check"


def test_a_ledger_that_is_not_there_is_a_fault_and_none_is_made(empty_cli):
    result = empty_cli.run("doctor")
    assert result.exit_code == 1
    assert f"fault    ledger: no ledger at {empty_cli.database}" in result.stdout
    assert "'solaris-cli db migrate'" in result.stdout
    assert not empty_cli.database.exists()


def test_a_clock_that_is_wrong_is_a_fault(cli, examine):
    cli.now = 0
    code, found = examine()
    assert (code, found["clock"]["level"]) == (1, "fault")


@pytest.mark.parametrize(
    ("text", "said"), [("[ledger", "is not valid TOML"), ("[nonsense]\n", "unknown key 'nonsense'")]
)
def test_settings_that_are_wrong_are_a_fault_and_the_last_word(cli, examine, text, said):
    cli.config.write_text(text)
    code, found = examine(None)
    assert (code, levels(found)) == (1, {"settings": "fault"})
    assert said in found["settings"]["text"]
    assert set(found) == {"settings"}


def test_settings_that_are_not_there_are_a_fault(cli):
    result = cli.run_bare("--config", "nowhere.toml", "doctor")
    assert result.exit_code == 1
    assert "fault    settings: nowhere.toml: No such file or directory" in result.stdout


def test_findings_for_people_have_their_remedy_below(cli):
    lines = cli.ok("doctor").splitlines()
    place = lines.index("warning  identity.key: is empty: whoever reaches the sidecar can call as anybody")
    assert lines[place + 1] == "         → set it here, and the same in the headers of librechat.yaml"


def test_a_doctor_changes_nothing(cli):
    before = cli.dump()
    cli.ok("doctor")
    assert cli.dump() == before


def test_the_exit_code_is_the_program_s_own(cli, program):
    # The real machine: a ledger in the folder for temporary files is a fault there.
    cli.configure(HEALTHY)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        url = f"sqlite:///{folder}/solaris.db"
        cli.ok("--database", url, "db", "migrate")
        assert program("--database", url, "doctor", "--json").returncode == 0
        cli.ok("--database", url, "plans", "retire", "basico")
        done = program("--database", url, "doctor", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["ok"] is False
