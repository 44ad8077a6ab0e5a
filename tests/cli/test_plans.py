"""plans: list, show, set, retire, apply."""

import pytest

BASICO = {
    "name": "basico",
    "tokens": 1_000_000,
    "period": "month",
    "anchor": "calendar",
    "rollover": 0,
    "price": None,
    "retired_at": None,
}
PRO = {
    "name": "pro",
    "tokens": 5_000_000,
    "period": "week",
    "anchor": "signup",
    "rollover": 1_000_000,
    "price": "149.90 BRL",
    "retired_at": None,
}
SET_PRO = ["plans", "set", "pro", "--tokens", "5M", "--period", "week", "--anchor", "signup"]
SET_PRO += ["--rollover", "1M", "--price", "149.90"]


def test_a_new_ledger_has_one_plan(cli):
    assert cli.json("plans", "list") == [BASICO]


def test_plans_alone_lists_them(cli):
    assert cli.ok("plans") == cli.ok("plans", "list")
    assert "basico  1,000,000  month" in cli.ok("plans")


def test_a_plan_is_made_with_everything_it_can_have(cli):
    assert cli.json(*SET_PRO) == PRO | {"new": True}
    assert cli.json("plans", "show", "pro") == PRO
    assert cli.json("plans", "list") == [BASICO, PRO]


def test_a_plan_for_people(cli):
    assert cli.ok(*SET_PRO) == "plan pro made: 5,000,000 tokens, period week\n"
    assert cli.ok("plans", "show", "pro").splitlines() == [
        "name        pro",
        "tokens      5,000,000",
        "period      week",
        "anchor      signup",
        "rollover    1,000,000",
        "price       149.90 BRL",
        "retired at  -",
    ]


@pytest.mark.parametrize("period", ["day", "week", "month", "year", "none"])
def test_every_period_there_is(cli, period):
    cli.ok("plans", "set", "other", "--tokens", "1K", "--period", period)
    assert cli.json("plans", "show", "other")["period"] == period
    cli.ok("users", "add", "carla", "--plan", "other")
    assert cli.json("balance", "carla")["balance"] == 1000


def test_a_plan_without_tokens_gives_none(cli):
    cli.ok("plans", "set", "prepago", "--tokens", "0", "--period", "none")
    cli.ok("users", "add", "carla", "--plan", "prepago")
    assert cli.json("balance", "carla")["grants"] == []
    assert cli.json("statement", "carla") == []


def test_a_plan_that_is_changed_counts_from_the_next_period_on(cli):
    said = cli.ok("plans", "set", "basico", "--tokens", "2M", "--period", "month")
    assert said == (
        "plan basico changed: 2,000,000 tokens, period month; accounts on it get this from their next period on\n"
    )
    assert cli.json("plans", "set", "basico", "--tokens", "3M", "--period", "month")["new"] is False
    assert cli.json("balance", "ana")["balance"] == 1_000_000
    cli.now += 30 * 24 * 3_600_000
    assert cli.json("balance", "ana")["balance"] == 3_000_000


def test_setting_a_plan_makes_the_ledger(empty_cli):
    empty_cli.ok(*SET_PRO)
    assert [plan["name"] for plan in empty_cli.json("plans", "list")] == ["basico", "pro"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--period", "month"], "--tokens"),
        (["x", "--tokens", "1M"], "--period"),
        (["x", "--tokens", "1M", "--period", "hour"], "'hour' is not one of 'day', 'week', 'month', 'year', 'none'"),
        (["x", "--tokens", "1M", "--period", "month", "--anchor", "monday"], "'monday' is not one of"),
        (["x", "--tokens", "-5", "--period", "month"], "'-5' is not an amount"),
        (["x", "--tokens", "250.000", "--period", "month"], "'250.000' can be read in two ways"),
        (["x", "--tokens", "0.5", "--period", "month"], "'0.5' is a fraction of a token"),
        (["x", "--tokens", "", "--period", "month"], "'' is not an amount"),
        (["x", "--tokens", "1M", "--period", "month", "--rollover", "1e9"], "'1e9' is not an amount"),
        (["x", "--tokens", "1M", "--period", "month", "--price", "cheap"], "'cheap' is not a sum of money"),
    ],
)
def test_wrong_usage_of_set_is_refused(cli, arguments, said):
    assert said in cli.misused("plans", "set", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--tokens", "1M", "--period", "none", "--rollover", "1K"], "'x': there is no rollover without a period"),
        (["", "--tokens", "1M", "--period", "month"], "a plan needs a name"),
        (["  ", "--tokens", "1M", "--period", "month"], "a plan needs a name"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(cli, arguments, said):
    assert said in cli.refused("plans", "set", *arguments)


def test_a_retired_plan_goes_to_nobody_new(cli):
    assert cli.ok("plans", "retire", "basico") == "plan basico retired; 2 accounts stay on it\n"
    assert cli.json("plans", "show", "basico")["retired_at"] == "2026-03-10T15:00:00Z"
    remedy = "plan 'basico' is retired; 'solaris-cli plans set basico …' brings it back"
    assert remedy in cli.refused("users", "add", "carla")
    assert remedy in cli.refused("users", "set-plan", "ana", "basico")


def test_whoever_is_on_a_retired_plan_stays_on_it(cli):
    cli.ok("plans", "retire", "basico")
    cli.now += 30 * 24 * 3_600_000
    assert cli.json("balance", "ana")["period"]["start"] == "2026-04-01T03:00:00Z"
    assert cli.json("balance", "ana")["balance"] == 1_000_000


def test_a_plan_that_is_retired_twice_keeps_its_first_date(cli):
    assert cli.json("plans", "retire", "basico") == {"name": "basico", "accounts": 2}
    cli.now += 1000
    cli.ok("plans", "retire", "basico")
    assert cli.json("plans", "show", "basico")["retired_at"] == "2026-03-10T15:00:00Z"


def test_a_retired_plan_that_is_set_comes_back(cli):
    cli.ok("plans", "retire", "basico")
    cli.ok("plans", "set", "basico", "--tokens", "1M", "--period", "month")
    assert cli.json("plans", "show", "basico") == BASICO
    cli.ok("users", "add", "carla")


@pytest.mark.parametrize("arguments", [["plans", "show"], ["plans", "retire"], ["users", "set-plan", "ana"]])
def test_a_plan_that_is_not_known_is_refused_with_the_closest_names(cli, arguments):
    assert cli.refused(*arguments, "basic") == "Error: no plan 'basic'; did you mean basico?\n"
    assert cli.refused(*arguments, "zzz") == "Error: no plan 'zzz'; see 'solaris-cli plans list'\n"


@pytest.mark.parametrize("arguments", [["list"], ["show", "basico"], ["retire", "basico"], []])
def test_where_there_is_no_ledger_none_is_made(empty_cli, arguments):
    assert "solaris-cli db migrate" in empty_cli.refused("plans", *arguments)
    assert not empty_cli.database.exists()


# apply


def test_a_file_of_plans_is_applied(cli):
    file = cli.write(
        "plans.toml",
        """
        [basico]
        tokens = 2_000_000
        period = "month"

        [pro]
        tokens = "5M"
        period = "week"
        anchor = "signup"
        rollover = "1M"
        price = "149.90"
        """,
    )
    assert cli.ok("plans", "apply", file) == f"{file}: 1 plans made, 1 set again\n"
    assert cli.json("plans", "list") == [BASICO | {"tokens": 2_000_000}, PRO]
    assert [plan["new"] for plan in cli.json("plans", "apply", file)] == [False, False]


def test_applying_plans_makes_the_ledger(empty_cli):
    file = empty_cli.write("plans.toml", '[pro]\ntokens = "5M"\nperiod = "week"\n')
    assert empty_cli.json("plans", "apply", file) == [
        PRO | {"anchor": "calendar", "rollover": 0, "price": None, "new": True}
    ]


def test_a_price_may_be_written_as_a_number(cli):
    file = cli.write("plans.toml", '[pro]\ntokens = "5M"\nperiod = "week"\nprice = 149.90\n')
    assert cli.json("plans", "apply", file)[0]["price"] == "149.90 BRL"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('tokens = "5M"', "plan 'other': a plan is a table with tokens and period"),
        ('period = "month"', "plan 'other': a plan is a table with tokens and period"),
        ('tokens = "5M"\nperiod = "month"\nprise = 1', "plan 'other': a plan is a table with tokens and period"),
        ('tokens = "5M"\nperiod = "hour"', "plan 'other': period is one of day, week, month, year, none"),
        ('tokens = "5M"\nperiod = ["month"]', "plan 'other': period is one of day, week, month, year, none"),
        ('tokens = "5M"\nperiod = "month"\nanchor = "monday"', "anchor is calendar or signup"),
        ('tokens = "5M"\nperiod = "none"\nrollover = "1K"', "plan 'other': there is no rollover without a period"),
        ("tokens = ", "is not valid TOML: "),
    ],
)
def test_of_a_file_with_one_wrong_plan_nothing_is_applied(cli, wrong, said):
    file = cli.write("plans.toml", f'[good]\ntokens = "1M"\nperiod = "month"\n\n[other]\n{wrong}\n')
    assert said in cli.refused("plans", "apply", file)


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        ('tokens = "abc"', "abc"),
        ('tokens = "250.000"', "250.000"),
        ("tokens = -5", "-5"),
        ("tokens = 0.5", "0.5"),
        ("tokens = true", "true"),
        ('tokens = "1M"\nrollover = "1e9"', "1e9"),
        ('tokens = "1M"\nprice = "cheap"', "cheap"),
    ],
)
def test_a_wrong_amount_in_a_file_is_named_with_its_plan(cli, wrong, value):
    file = cli.write("plans.toml", f'[good]\ntokens = "1M"\nperiod = "month"\n\n[other]\nperiod = "month"\n{wrong}\n')
    said = cli.refused("plans", "apply", file)
    assert value in said.lower()
    assert "other" in said  # a file may hold a hundred plans


def test_a_number_of_tokens_that_can_be_read_in_two_ways_is_refused_in_a_file_too(cli):
    # Without quotes TOML reads 250.000 as the number 250, which a Brazilian meant as 250 thousand.
    file = cli.write("plans.toml", '[other]\ntokens = 250.000\nperiod = "month"\n')
    assert "other" in cli.refused("plans", "apply", file)


def test_a_file_that_is_not_text_is_refused(cli):
    (cli.folder / "plans.toml").write_bytes(b"\xff\xfe")
    assert "plans.toml is not valid TOML" in cli.refused("plans", "apply", str(cli.folder / "plans.toml"))


def test_a_value_that_is_no_table_is_refused(cli):
    file = cli.write("plans.toml", 'basico = "1M"\n')
    assert "plan 'basico': a plan is a table with tokens and period" in cli.refused("plans", "apply", file)


def test_a_file_that_is_not_there_is_wrong_usage(cli):
    assert "nowhere.toml" in cli.misused("plans", "apply", "nowhere.toml")
    assert str(cli.folder) in cli.misused("plans", "apply", str(cli.folder))
