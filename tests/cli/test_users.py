"""users: list, show, add, set-plan, block, unblock, rename, export, erase."""

import json

import pytest
from tests.ledger.support import NOON

from solaris_meter.ledger.reservations import Refused

ANA = {
    "user": "ana",
    "email": "ana@example.com",
    "plan": "basico",
    "status": "active",
    "timezone": "America/Sao_Paulo",
    "created_at": "2026-03-10T15:00:00Z",
}
BRUNO = ANA | {"user": "bruno", "email": "bruno@example.com"}


@pytest.fixture
def prepaid(cli):
    """A second plan: no allowance, no period."""
    cli.ok("plans", "set", "prepago", "--tokens", "0", "--period", "none")
    return cli


def test_users_are_listed_by_their_ids(cli):
    assert cli.json("users", "list") == [ANA, BRUNO]


def test_users_alone_lists_them(cli):
    assert cli.ok("users") == cli.ok("users", "list")
    assert [line.split()[0] for line in cli.ok("users").splitlines()[2:]] == ["ana", "bruno"]


def test_nobody_has_an_account_yet(empty_cli):
    empty_cli.ok("db", "migrate")
    assert empty_cli.ok("users", "list") == "no accounts yet\n"
    assert empty_cli.json("users", "list") == []


def test_one_user_is_shown(cli):
    assert cli.json("users", "show", "ana@example.com") == ANA
    assert "email       ana@example.com" in cli.ok("users", "show", "ana").splitlines()


def test_a_user_is_added_with_the_settings_of_new_accounts(cli):
    cli.configure('[accounts]\ntimezone = "Europe/Lisbon"\n')
    assert cli.json("users", "add", "carla") == {
        "user": "carla",
        "email": None,
        "plan": "basico",
        "status": "active",
        "timezone": "Europe/Lisbon",
        "created_at": "2026-03-10T15:00:00Z",
        "balance": 1_000_000,
    }
    assert cli.json("balance", "carla")["period"]["start"] == "2026-03-01T00:00:00Z"


def test_a_user_is_added_on_another_plan(prepaid):
    said = prepaid.ok("users", "add", "carla", "--plan", "prepago", "--email", "c@example.com")
    assert said == "carla has an account on plan prepago with 0 tokens\n"
    assert prepaid.json("users", "show", "c@")["plan"] == "prepago"


def test_the_default_plan_of_the_settings_is_the_one_given(prepaid):
    prepaid.configure('[accounts]\ndefault_plan = "prepago"\n')
    assert prepaid.json("users", "add", "carla")["plan"] == "prepago"


def test_adding_the_first_user_makes_the_ledger(empty_cli):
    assert empty_cli.json("users", "add", "ana", "--email", "ana@example.com") == ANA | {"balance": 1_000_000}


def test_a_user_who_is_there_already_is_refused(cli):
    assert cli.refused("users", "add", "ana") == (
        "Error: user 'ana' has an account already; 'solaris-cli users set-plan ana PLAN' changes its plan\n"
    )


@pytest.mark.parametrize("user", ["", "  ", "a" * 257])
def test_an_id_that_cannot_be_is_refused(cli, user):
    remedy = f"a user id has 1 to 256 characters; this one has {len(user)}"
    assert remedy in cli.refused("users", "add", user)
    assert remedy in cli.refused("users", "rename", "ana", user)


def test_a_user_on_a_plan_that_is_not_known_is_refused(cli):
    assert "no plan 'basic'; did you mean basico?" in cli.refused("users", "add", "carla", "--plan", "basic")


def test_a_default_plan_that_is_not_known_is_refused(cli):
    cli.configure('[accounts]\ndefault_plan = "pro"\n')
    assert "no plan 'pro'" in cli.refused("users", "add", "carla")


def test_another_plan_counts_at_once_and_bought_tokens_stay(prepaid):
    prepaid.ok("credit", "ana", "5K")
    assert prepaid.ok("users", "set-plan", "ana", "prepago") == "ana is on plan prepago with 5,000 tokens\n"
    assert prepaid.json("users", "set-plan", "ana", "basico") == ANA | {"balance": 1_005_000}


def test_the_new_allowance_is_less_by_what_was_used_of_the_old(prepaid):
    prepaid.ok("plans", "set", "pro", "--tokens", "3M", "--period", "month")
    prepaid.calls(lambda books: books.spend(400_000))
    assert prepaid.json("users", "set-plan", "ana", "pro")["balance"] == 2_600_000


def test_a_blocked_user_cannot_call_until_unblocked(cli):
    assert cli.ok("users", "block", "ana") == "ana is blocked\n"
    assert cli.json("balance", "ana")["status"] == "blocked"
    assert cli.json("balance", "ana")["balance"] == 1_000_000
    refusals = []
    cli.calls(lambda books: refusals.append(books.reserve("one")))
    assert isinstance(refusals[0], Refused)
    assert cli.json("users", "unblock", "ana") == {"user": "ana", "status": "active"}
    cli.calls(lambda books: books.hold("two", 100))


def test_blocking_as_json(cli):
    assert cli.json("users", "block", "bru") == {"user": "bruno", "status": "blocked"}
    assert cli.json("users", "block", "bru") == {"user": "bruno", "status": "blocked"}


def test_a_renamed_user_keeps_the_history(cli):
    cli.calls(lambda books: books.spend(150))
    assert cli.json("users", "rename", "ana", "65f0c0ffee") == {"user": "65f0c0ffee", "was": "ana"}
    assert cli.json("balance", "65f0c0ffee")["used"] == 150
    assert [event["user"] for event in cli.json("usage", "--events")] == ["65f0c0ffee"]
    assert [user["user"] for user in cli.json("users", "list")] == ["65f0c0ffee", "bruno"]
    assert cli.ok("users", "rename", "65f", "ana") == "65f0c0ffee is ana now\n"


def test_a_name_that_is_taken_is_refused(cli):
    assert "user 'bruno' has an account already; choose another id" in cli.refused("users", "rename", "ana", "bruno")


def test_everything_about_a_user_is_exported(cli):
    cli.ok("credit", "ana", "1K", "--reference", "pix-1")
    cli.ok("credit", "bruno", "2K", "--reference", "pix-2")

    def call(books):
        books.hold("one", 100, conversation="a chat")
        books.settle("one", 150, now=NOON)

    cli.calls(call)
    exported = json.loads(cli.ok("users", "export", "ana"))
    assert exported["account"] == ANA
    assert exported["balance"] == cli.json("balance", "ana")
    assert exported["usage"] == cli.json("usage", "ana", "--events")
    assert [line["kind"] for line in exported["entries"]] == ["allowance", "credit", "usage"]
    assert exported["entries"][1] == {
        "id": 3,
        "at": "2026-03-10T15:00:00Z",
        "kind": "credit",
        "amount": 1000,
        "balance_after": 1_001_000,
        "reference": "pix-1",
        "note": None,
    }
    assert "bruno" not in json.dumps(exported)


def test_an_export_is_not_cut_where_a_statement_is(cli):
    for number in range(60):
        cli.ok("grant", "ana", str(number + 1))
    assert len(json.loads(cli.ok("users", "export", "ana"))["entries"]) == 61


def test_erasing_asks_first(cli):
    before = cli.dump()
    result = cli.run("users", "erase", "ana", answer="n\n")
    assert result.exit_code == 1
    assert "This cannot be undone" in result.output
    assert cli.dump() == before
    result = cli.run("users", "erase", "ana", answer="y\n")
    assert result.exit_code == 0
    assert "erased; the numbers stay under erased-1" in result.stdout


def test_erasing_without_an_answer_erases_nothing(cli):
    before = cli.dump()
    assert cli.run("users", "erase", "ana", answer="").exit_code == 1
    assert cli.dump() == before


def test_an_erased_user_cannot_be_found_but_the_numbers_stay(cli):
    cli.ok("credit", "ana", "1K")

    def call(books):
        books.hold("one", 100, conversation="a chat")
        books.settle("one", 150, now=NOON)

    cli.calls(call)
    assert cli.json("users", "erase", "ana", "--yes") == {"user": "erased-1"}
    kept = json.loads(cli.ok("users", "export", "erased-1"))
    assert kept["account"]["email"] is None
    assert kept["account"]["status"] == "blocked"
    assert kept["balance"]["balance"] == 1_000_850
    assert kept["usage"][0]["conversation"] is None
    assert cli.json("ledger", "check")["ok"]
    dump = "\n".join(cli.dump() or [])
    assert "'ana'" not in dump
    assert "ana@" not in dump
    assert "a chat" not in dump


def test_the_json_of_an_erasure_that_was_confirmed_is_json_alone(cli):
    result = cli.run("users", "erase", "ana", "--json", answer="y\n")
    assert json.loads(result.stdout) == {"user": "erased-1"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("set-plan", "basico"),
        ("block",),
        ("unblock",),
        ("rename", "carla"),
        ("export",),
        ("erase", "--yes"),
    ],
)
def test_who_is_not_known_or_not_unique_is_refused(cli, arguments):
    command, *rest = arguments
    cli.ok("users", "add", "anabela")
    assert cli.refused("users", command, "anna", *rest).startswith("Error: no user 'anna'; did you mean ana")
    assert "'an' fits more than one user (ana, anabela); write the whole id" in cli.refused(
        "users", command, "an", *rest
    )


@pytest.mark.parametrize(
    "arguments", [[], ["list"], ["show", "ana"], ["block", "ana"], ["rename", "ana", "b"], ["export", "ana"]]
)
def test_where_there_is_no_ledger_none_is_made(empty_cli, arguments):
    assert "solaris-cli db migrate" in empty_cli.refused("users", *arguments)
    assert not empty_cli.database.exists()


def test_an_id_that_is_not_text_is_refused(cli, program):
    # What a terminal in Latin-1 sends for "josé".
    before = cli.dump()
    for arguments in (("users", "add", b"jos\xe9"), ("balance", b"jos\xe9")):
        done = program(*arguments)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith(("Error:", "Usage:"))
    assert cli.dump() == before
