"""grant, credit, debit, balance, usage and statement."""

import re
from dataclasses import replace
from itertools import count

import pytest
from tests.ledger.support import DAY, NOON, ask, moment

from solaris_cli.context import Context
from solaris_meter.ledger import audits, reservations
from solaris_meter.ledger.reservations import Outcome
from solaris_meter.models import Usage

BALANCE = {
    "user": str,
    "email": str,
    "plan": str,
    "status": str,
    "period": dict,
    "limit": int,
    "used": int,
    "reserved": int,
    "balance": int,
    "available": int,
    "percent_used": float,
    "grants": list,
}
EVENT = {
    "id": str,
    "at": str,
    "user": str,
    "provider": str,
    "model": str,
    "dialect": str,
    "endpoint": str,
    "stream": bool,
    "status": int,
    "interrupted": bool,
    "input_tokens": int,
    "cached_input_tokens": int,
    "cache_write_tokens": int,
    "output_tokens": int,
    "reasoning_tokens": int,
    "total_tokens": int,
    "images": int,
    "audio_seconds": float,
    "billed_tokens": int,
    "cost_usd": float,
    "basis": str,
    "duration_ms": int,
    "conversation": str,
    "recovered": bool,
}
WRONG_AMOUNTS = ["-5", "-5K", "1e9", "abc", "0", "0K", "0.5", "1.0005K", "250.000", "", " ", "1001T", "٣"]
COMMANDS = [("grant",), ("credit",), ("debit", "--note", "mistake")]
"""Each takes USER AMOUNT after these words."""


def types(row):
    return {name: type(value) for name, value in row.items()}


@pytest.fixture
def story(cli):
    """Ana calls three times on two days of UTC, Bruno once; 1,175 tokens in all."""
    calls = [
        ("a1", "ana", "gpt", "one", NOON, Usage(100, 20, "reported", 40, 10, 5, 28, 1500), 1_234_500),
        ("a2", "ana", "claude", "one", NOON + 1, Usage(10, 5, "counted"), None),
        ("a3", "ana", "gpt", None, NOON + DAY, Usage(1000, 0, "reported"), 1),
        ("b1", "bruno", "gpt", "two", NOON + 2, Usage(7, 3, "estimated"), None),
    ]

    def serve(books):
        for name, user, model, conversation, now, usage, cost in calls:
            call = ask(name, user, conversation=conversation)
            call = replace(call, details=replace(call.details, model=model))
            ended = Outcome(usage, 200, name == "a2", 1234, cost_nano_usd=cost)
            books.run(
                lambda tx, call=call, ended=ended, now=now: reservations.bill(tx, call, ended, books.new, (), now, now)
            )

    cli.calls(serve)
    cli.now = NOON + 2 * DAY
    return cli


# grant, credit, debit


def test_a_grant_is_a_bonus(cli):
    assert cli.ok("grant", "ana", "250K", "--note", "welcome") == "bonus +250,000 → ana has 1,250,000 tokens\n"
    assert [(entry["kind"], entry["amount"], entry["note"]) for entry in cli.json("statement", "ana")] == [
        ("allowance", 1_000_000, "plan basico"),
        ("bonus", 250_000, "welcome"),
    ]


def test_a_credit_remembers_what_was_paid(cli):
    assert cli.ok("credit", "ana", "1.5M", "--paid", "49,90") == "credit +1,500,000 → ana has 2,500,000 tokens\n"
    assert cli.json("statement", "ana")[-1]["note"] == "paid 49.90 BRL"


def test_the_note_of_a_credit_can_be_another(cli):
    cli.ok("credit", "ana", "1K", "--paid", "USD 10", "--note", "invoice 7")
    assert cli.json("statement", "ana")[-1]["note"] == "invoice 7"


def test_a_debit_takes_tokens_back(cli):
    assert cli.ok("debit", "ana", "100_000", "--note", "mistake") == "adjust -100,000 → ana has 900,000 tokens\n"


def test_a_debit_of_more_than_there_is_becomes_debt_that_the_next_credit_pays(cli):
    assert cli.json("debit", "ana", "1.2M", "--note", "mistake")["balance"] == -200_000
    assert cli.json("credit", "ana", "500K")["balance"] == 300_000
    assert cli.json("balance", "ana")["grants"] == [{"kind": "credit", "remaining": 300_000, "expires_at": None}]


@pytest.mark.parametrize(
    ("command", "kind", "amount"),
    [(COMMANDS[0], "bonus", 1000), (COMMANDS[1], "credit", 1000), (COMMANDS[2], "adjust", -1000)],
)
def test_what_was_booked_as_json(cli, command, kind, amount):
    booked = cli.json(*command, "ana", "1K", "--reference", "key")
    assert booked == {
        "user": "ana",
        "kind": kind,
        "amount": amount,
        "balance": 1_000_000 + amount,
        "available": 1_000_000 + amount,
        "reference": "key",
        "repeated": False,
    }


def test_what_running_calls_hold_is_not_available(cli):
    cli.calls(lambda books: books.hold("call", 400))
    booked = cli.json("grant", "ana", "1K")
    assert (booked["balance"], booked["available"]) == (1_001_000, 1_000_600)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_reference_twice_changes_nothing_and_says_so(cli, command):
    first = cli.json(*command, "ana", "1K", "--reference", "key")
    before = cli.dump()
    cli.now += 60_000
    assert cli.json(*command, "ana", "1K", "--reference", "key") == first | {"repeated": True}
    said = cli.ok(*command, "ana", "1K", "--reference", "key")
    assert "reference 'key' was used for this at 2026-03-10T15:00:00Z already: nothing was changed" in said
    assert f"ana has {first['balance']:,} tokens" in said
    assert cli.dump() == before


@pytest.mark.parametrize(
    "other",
    [
        ("credit", "ana", "2K"),
        ("credit", "bruno", "1K"),
        ("grant", "ana", "1K"),
        ("debit", "ana", "1K", "--note", "mistake"),
    ],
)
def test_a_reference_for_something_else_is_refused(cli, other):
    cli.ok("credit", "ana", "1K", "--reference", "key")
    said = cli.refused(*other, "--reference", "key")
    assert "reference 'key' was used at 2026-03-10T15:00:00Z for credit of 1,000 tokens to 'ana'" in said
    assert "use another reference" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_reference_is_refused_as_one(cli, command):
    # "$PAYMENT" of a script whose variable is not set
    result = cli.run(*command, "ana", "1K", "--reference", "")
    assert result.exit_code in (1, 2)
    assert "reference" in result.stderr


@pytest.mark.parametrize("amount", WRONG_AMOUNTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_amount_that_is_none_is_refused(cli, command, amount):
    said = cli.misused(*command, "ana", amount)
    assert f"AMOUNT': {amount!r} " in said
    assert "250K, 1.5M or 1_000_000" in said or "the largest amount that is taken at once" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_nobody_knows_is_not_taken_for_an_amount(cli, command):
    assert "--refrence" in cli.misused(*command, "ana", "1K", "--refrence", "key")


def test_a_correction_says_why(cli):
    assert "--note" in cli.misused("debit", "ana", "1K")


@pytest.mark.parametrize("money", ["-1", "abc", "", "49.999", "USD 1 EUR"])
def test_a_sum_of_money_that_is_none_is_refused(cli, money):
    said = cli.misused("credit", "ana", "1K", "--paid", money)
    assert f"--paid': {money!r} is not a sum of money: write 49.90" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("grant", "anna", "1K"),
        ("credit", "anna", "1K"),
        ("debit", "anna", "1K", "--note", "mistake"),
        ("balance", "anna"),
        ("usage", "anna"),
        ("statement", "anna"),
    ],
)
def test_who_is_not_known_is_refused_with_the_closest_names(cli, arguments):
    assert cli.refused(*arguments) == "Error: no user 'anna'; did you mean ana?\n"


def test_where_no_name_is_close_the_list_is_named(cli):
    assert cli.refused("balance", "zzz") == "Error: no user 'zzz'; see 'solaris-cli users list'\n"


def test_a_prefix_of_several_users_is_refused_with_their_names(cli):
    cli.ok("users", "add", "anabela")
    cli.ok("users", "add", "andre")
    assert cli.refused("credit", "an", "1K") == (
        "Error: 'an' fits more than one user (ana, anabela, andre); write the whole id\n"
    )


@pytest.mark.parametrize("text", ["ana", "an", "ana@example.com", "ANA@Example.com", "ana@"])
def test_a_user_is_an_id_an_email_or_a_prefix_of_either(cli, text):
    assert cli.json("balance", text)["user"] == "ana"


def test_an_empty_user_is_nobody(cli):
    assert "no user ''" in cli.refused("credit", "", "1K")


# --expires


@pytest.mark.parametrize("command", ["grant", "credit"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30d", NOON + 30 * DAY),
        ("2026-12-31", moment("2026-12-31T00:00", "Asia/Tokyo")),
        ("2026-12-31T18:30", moment("2026-12-31T18:30", "Asia/Tokyo")),
        ("2026-12-31T18:30Z", moment("2026-12-31T18:30", "UTC")),
        ("2026-12-31T18:30+02:00", moment("2026-12-31T16:30", "UTC")),
    ],
)
def test_an_expiry_is_meant_in_the_time_zone_of_the_accounts(cli, command, written, meant):
    cli.configure('[accounts]\ntimezone = "Asia/Tokyo"\n')
    cli.ok(command, "ana", "1K", "--expires", written)
    cli.now = meant - 1
    before = cli.json("balance", "ana")["grants"]
    cli.now = meant
    after = cli.json("balance", "ana")["grants"]
    assert [grant["remaining"] for grant in before if grant["kind"] != "allowance"] == [1000]
    assert [grant["remaining"] for grant in after if grant["kind"] != "allowance"] == []


@pytest.mark.parametrize("command", ["grant", "credit"])
@pytest.mark.parametrize("written", ["0d", "2020-01-01", "2026-03-10T12:00"])
def test_an_expiry_in_the_past_is_refused(cli, command, written):
    said = cli.refused(command, "ana", "1K", "--expires", written)
    assert "has passed; name a moment to come" in said


def test_now_is_the_past_however_slow_the_machine_is(cli, monkeypatch):
    # The clock must be read once: what is 0 days from a second reading is after the first.
    ticks = count(NOON)
    monkeypatch.setattr(Context, "now_ms", lambda _: next(ticks))
    assert "has passed; name a moment to come" in cli.refused("grant", "ana", "1K", "--expires", "0d")


@pytest.mark.parametrize("written", ["tomorrow", "", "d", "-3d", "1.5d", "31/12/2026", "2026-02-30", "²d"])
def test_an_expiry_that_is_no_time_is_refused(cli, written):
    said = cli.misused("grant", "ana", "1K", f"--expires={written}")
    assert f"--expires': {written!r} is not a time: write 2026-12-31" in said


@pytest.mark.parametrize("written", ["3000000d", "99999999999d", "9999-12-31T23:00"])
def test_an_expiry_beyond_the_calendar_is_refused(cli, written):
    # Taken, it would leave an account whose balance nobody can print any more.
    result = cli.run("grant", "ana", "1K", "--expires", written)
    assert result.exit_code in (1, 2)
    assert written in result.stderr
    assert cli.json("balance", "ana")["balance"] == 1_000_000


# balance


def test_a_balance_as_json(story):
    story.ok("grant", "ana", "5K", "--expires", "2026-03-20T00:00Z")
    story.calls(lambda books: books.hold("running", 500, expires=NOON + 9 * DAY))
    shown = story.json("balance", "ana")
    assert types(shown).items() >= BALANCE.items()
    expected = {
        "user": "ana",
        "email": "ana@example.com",
        "plan": "basico",
        "status": "active",
        "period": {"start": "2026-03-01T03:00:00Z", "end": "2026-04-01T03:00:00Z"},
        "limit": 1_005_000,
        "used": 1165,
        "reserved": 500,
        "balance": 1_003_835,
        "available": 1_003_335,
        "percent_used": 0.1,
        "grants": [
            {"kind": "allowance", "remaining": 998_835, "expires_at": "2026-04-01T03:00:00Z"},
            {"kind": "bonus", "remaining": 5000, "expires_at": "2026-03-20T00:00:00Z"},
        ],
    }
    assert {name: shown[name] for name in expected} == expected


def test_a_balance_without_a_period_or_an_email_says_null(cli):
    cli.ok("plans", "set", "prepago", "--tokens", "0", "--period", "none")
    cli.ok("users", "add", "carla", "--plan", "prepago")
    cli.ok("credit", "carla", "1K")
    shown = cli.json("balance", "carla")
    assert (shown["email"], shown["period"]["end"]) == (None, None)
    assert shown["grants"] == [{"kind": "credit", "remaining": 1000, "expires_at": None}]
    assert "period        2026-03-10T15:00:00Z to no end" in cli.ok("balance", "carla")


def test_a_balance_for_people(story):
    lines = story.ok("balance", "ana").splitlines()
    assert "limit         1,000,000" in lines
    assert "used          1,165" in lines
    assert "available     998,835" in lines
    assert "percent used  0.1 %" in lines
    assert "allowance      998,835  2026-04-01T03:00:00Z" in lines


def test_a_balance_tells_which_thresholds_were_crossed(cli):
    cli.calls(lambda books: books.spend(850_000))
    assert "crossed 80 % of the limit at 2026-03-10T15:00:00Z" in cli.ok("balance", "ana")


def test_the_balance_of_everybody(story):
    shown = story.json("balance")
    assert [account["user"] for account in shown] == ["ana", "bruno"]
    assert all(types(account).items() >= BALANCE.items() for account in shown)
    assert [account["used"] for account in shown] == [1165, 10]
    header, _, *rows = story.ok("balance").splitlines()
    names = ["user", "email", "plan", "status", "limit", "used", "reserved", "available", "percent used"]
    assert re.split(" {2,}", header) == names
    assert [row.split()[0] for row in rows] == ["ana", "bruno"]


def test_nobody_has_a_balance_yet(empty_cli):
    empty_cli.ok("db", "migrate")
    assert empty_cli.ok("balance") == "no accounts yet\n"
    assert empty_cli.json("balance") == []


def test_a_balance_is_of_the_period_that_has_begun(cli):
    cli.calls(lambda books: books.spend(850_000))
    cli.now = moment("2026-04-01T00:00")
    shown = cli.json("balance", "ana")
    assert (shown["period"]["start"], shown["used"], shown["balance"]) == ("2026-04-01T03:00:00Z", 0, 1_000_000)


# usage


def test_usage_events_as_json(story):
    events = story.json("usage", "--events")
    assert [event["id"] for event in events] == ["a1", "a2", "b1", "a3"]
    assert list(events[0]) == list(EVENT)
    assert types(events[0]) == EVENT
    assert events[0] == {
        "id": "a1",
        "at": "2026-03-10T15:00:00Z",
        "user": "ana",
        "provider": "openai",
        "model": "gpt",
        "dialect": "openai_chat",
        "endpoint": "/v1/chat/completions",
        "stream": True,
        "status": 200,
        "interrupted": False,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "cache_write_tokens": 10,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "total_tokens": 120,
        "images": 28,
        "audio_seconds": 1.5,
        "billed_tokens": 150,
        "cost_usd": 0.0012345,
        "basis": "reported",
        "duration_ms": 1234,
        "conversation": "one",
        "recovered": False,
    }
    assert [event["interrupted"] for event in events] == [False, True, False, False]
    assert events[-1]["conversation"] is None
    assert [event["cost_usd"] for event in events] == [0.0012345, None, None, 1e-9]


def test_usage_events_for_people(story):
    header, _, *rows = story.ok("usage", "bruno", "--events").splitlines()
    assert re.split(" {2,}", header.strip()) == [
        *("at", "user", "model", "input", "output", "billed", "cost usd", "basis", "cut off")
    ]
    assert [row.split() for row in rows] == [
        ["2026-03-10T15:00:00.002Z", "bruno", "gpt", "7", "3", "10", "-", "estimated", "no"]
    ]
    # Pictures and sound are shown where there are any.
    header, _, row, *_ = story.ok("usage", "ana", "--events").splitlines()
    assert re.split(" {2,}", header.strip())[3:9] == ["input", "output", "images", "seconds", "billed", "cost usd"]
    assert row.split()[3:9] == ["100", "20", "28", "1.5", "150", "0.001234"]


@pytest.mark.parametrize(
    ("by", "sums"),
    [
        ("user", [("ana", 3, 1165), ("bruno", 1, 10)]),
        ("model", [("gpt", 3, 1160), ("claude", 1, 15)]),
        ("day", [("2026-03-10", 3, 175), ("2026-03-11", 1, 1000)]),
        ("conversation", [(None, 1, 1000), ("one", 2, 165), ("two", 1, 10)]),
    ],
)
def test_usage_is_summed_by_what_is_asked_for(story, by, sums):
    rows = story.json("usage", "--by", by)
    assert [(row[by], row["calls"], row["billed_tokens"]) for row in rows] == sums
    table = story.ok("usage", "--by", by).splitlines()
    assert table[0].split()[0] == by
    assert [line.split()[0] for line in table[2:]] == [name or "-" for name, _, _ in sums]


def test_usage_is_summed_by_model_unless_told_otherwise(story):
    assert story.json("usage") == story.json("usage", "--by", "model")


def test_what_a_sum_holds(story):
    (row,) = story.json("usage", "bruno")
    assert row == {
        "model": "gpt",
        "calls": 1,
        "input_tokens": 7,
        "cached_input_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 3,
        "reasoning_tokens": 0,
        "total_tokens": 10,
        "images": 0,
        "audio_seconds": 0.0,
        "billed_tokens": 10,
        "cost_usd": None,
        "unpriced_calls": 1,
        "reported_percent": 0.0,
        "counted_percent": 0.0,
        "estimated_percent": 100.0,
    }


def test_the_sums_for_people_fit_a_terminal(story):
    header, _, row, *_ = story.ok("usage", "ana").splitlines()
    assert re.split(" {2,}", header.strip()) == [
        *("model", "calls", "input", "cached", "output", "images", "seconds", "billed", "cost usd", "unpriced"),
        "reported %",
    ]
    assert row.split() == ["gpt", "2", "1,100", "40", "20", "28", "1.5", "1,150", "0.001235", "0", "100.0"]
    assert len(header) <= 120
    # Columns in which nothing stands are left out; a cost that is not known is no 0.
    header, _, row, *_ = story.ok("usage", "bruno").splitlines()
    assert re.split(" {2,}", header.strip()) == [
        *("model", "calls", "input", "output", "billed", "cost usd", "unpriced", "reported %")
    ]
    assert row.split() == ["gpt", "1", "7", "3", "10", "-", "1", "0.0"]
    assert len(header) <= 90


def test_the_accuracy_of_counts(story):
    def audit(books):
        for name, read, written in (("a1", 101, 15), ("a3", 990, None), ("b1", 999, 999)):
            assert books.run(lambda tx, name=name, read=read, written=written: audits.record(tx, name, read, written))

    story.calls(audit)
    shown = story.json("usage", "--accuracy")
    assert shown == {
        "models": [
            {
                "model": "gpt",
                "calls": 2,
                "input": {
                    "calls": 2,
                    "reported_tokens": 1100,
                    "counted_tokens": 1091,
                    "error_percent": -0.82,
                    "mean_error_percent": 1.0,
                    "within_percent": 100.0,
                },
                "output": {
                    "calls": 1,
                    "reported_tokens": 15,
                    "counted_tokens": 15,
                    "error_percent": 0.0,
                    "mean_error_percent": 0.0,
                    "within_percent": 100.0,
                },
            }
        ],
        "total": {name: value for name, value in shown["models"][0].items() if name != "model"},
    }
    header, _, *rows = story.ok("usage", "--accuracy").splitlines()
    assert re.split(" {2,}", header.strip()) == [
        *("model", "tokens", "calls", "reported", "counted", "error %", "mean %", "within 1 %")
    ]
    assert [row.split() for row in rows] == [
        ["gpt", "input", "2", "1,100", "1,091", "-0.82", "1.0", "100.0"],
        ["gpt", "output", "1", "15", "15", "0.0", "0.0", "100.0"],
        ["total", "input", "2", "1,100", "1,091", "-0.82", "1.0", "100.0"],
        ["total", "output", "1", "15", "15", "0.0", "0.0", "100.0"],
    ]
    assert story.json("usage", "--accuracy", "--until", "2026-03-11")["total"]["calls"] == 1
    assert story.json("usage", "bruno", "--accuracy")["models"] == []


def test_the_accuracy_of_nothing(story):
    assert "no call was counted beside its report" in story.ok("usage", "--accuracy")
    assert story.json("usage", "--accuracy")["total"]["input"]["error_percent"] is None


@pytest.mark.parametrize("other", [["--events"], ["--by", "model"], ["--by", "user"]])
def test_accuracy_is_a_report_of_its_own(story, other):
    assert "--accuracy is per model" in story.misused("usage", "--accuracy", *other)


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        (["--since", "2026-03-10T15:00:00.001Z"], ["a2", "b1", "a3"]),
        (["--until", "2026-03-10T15:00:00.001Z"], ["a1"]),
        (["--since", "2026-03-10T15:00:00.001Z", "--until", "2026-03-11"], ["a2", "b1"]),
        (["--since", "2026-03-11"], ["a3"]),
        (["--since", "2026-03-12"], []),
    ],
)
def test_usage_is_of_the_time_that_is_asked_for(story, limits, found):
    assert [event["id"] for event in story.json("usage", "--events", *limits)] == found
    assert sum(row["calls"] for row in story.json("usage", *limits)) == len(found)


def test_dates_of_usage_are_meant_in_the_time_zone_of_the_accounts(story):
    # 2026-03-10 15:00 UTC is 2026-03-11 01:00 in Brisbane, where that day began at 14:00 UTC.
    since = ["usage", "--events", "--until", "2026-03-11"]
    assert [event["id"] for event in story.json(*since)] == ["a1", "a2", "b1"]
    story.configure('[accounts]\ntimezone = "Australia/Brisbane"\n')
    assert story.json(*since) == []


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("written", ["yesterday", "", "2026-13-01"])
def test_a_limit_that_is_no_time_is_refused(story, option, written):
    assert f"'{option}': {written!r} is not a time: write 2026-12-31" in story.misused("usage", option, written)


def test_a_limit_before_the_calendar_is_refused(story):
    # Its moment in UTC is in the year 0, which Python does not know.
    result = story.run("usage", "--since", "0001-01-01T00:00+14:00")
    assert result.exit_code in (1, 2)
    assert "0001-01-01T00:00+14:00" in result.stderr


def test_another_grouping_is_refused_with_those_there_are(story):
    said = story.misused("usage", "--by", "week")
    assert all(name in said for name in ("week", "user", "model", "day", "conversation"))


def test_nothing_was_used(cli):
    assert cli.ok("usage") == "nothing was used\n"
    assert cli.ok("usage", "--events") == "nothing was used\n"
    assert cli.json("usage", "ana") == []


# statement


def test_a_statement_lists_the_entries_oldest_first(story):
    story.ok("credit", "ana", "1K", "--reference", "pix-1")
    lines = story.json("statement", "ana")
    assert list(lines[0]) == ["id", "at", "kind", "amount", "balance_after", "reference", "note"]
    assert [(line["kind"], line["amount"], line["balance_after"]) for line in lines] == [
        ("allowance", 1_000_000, 1_000_000),
        ("usage", -150, 999_850),
        ("usage", -15, 999_835),
        ("usage", -1000, 998_835),
        ("credit", 1000, 999_835),
    ]
    assert lines[-1] | {"id": 0} == {
        "id": 0,
        "at": "2026-03-12T15:00:00Z",
        "kind": "credit",
        "amount": 1000,
        "balance_after": 999_835,
        "reference": "pix-1",
        "note": None,
    }


def test_a_statement_for_people(cli):
    cli.ok("credit", "ana", "1K", "--reference", "pix-1")
    assert cli.ok("statement", "ana").splitlines()[-1].split() == [
        "2026-03-10T15:00:00Z",
        "credit",
        "1,000",
        "1,001,000",
        "pix-1",
        "-",
    ]


def test_the_last_entries_of_a_statement(story):
    assert [line["amount"] for line in story.json("statement", "ana", "--last", "2")] == [-15, -1000]


@pytest.mark.parametrize("last", ["0", "-1", "many"])
def test_a_number_of_entries_that_is_none_is_refused(story, last):
    assert "--last" in story.misused("statement", "ana", "--last", last)


# a ledger that is not there


@pytest.mark.parametrize(
    "arguments",
    [
        ("grant", "ana", "1K"),
        ("credit", "ana", "1K"),
        ("debit", "ana", "1K", "--note", "mistake"),
        ("balance",),
        ("balance", "ana"),
        ("usage",),
        ("statement", "ana"),
    ],
)
def test_where_there_is_no_ledger_none_is_made(empty_cli, arguments):
    said = empty_cli.refused(*arguments)
    assert f"no ledger at {empty_cli.database}" in said
    assert "solaris-cli db migrate" in said
    assert not empty_cli.database.exists()
