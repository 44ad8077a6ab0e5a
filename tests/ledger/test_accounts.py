"""Accounts: opened once, found by what a person types, renamed and forgotten without losing their numbers."""

import pytest
from tests.ledger.support import NOON, ZONE

from solaris_meter.errors import Conflict, LedgerError, UnknownName
from solaris_meter.ledger import accounts, renewals
from solaris_meter.ledger.accounts import MAX_USER_LENGTH, NewAccount


@pytest.fixture
def people(books):
    for user, email in (("ana", "ana@example.com"), ("anabel", "Bel@Example.com"), ("bruno", None)):
        books.open(user)
        if email:
            books.run(lambda tx, user=user, email=email: accounts.set_email(tx, accounts.get(tx, user), email))
    return books


def found(books, text):
    return accounts.find(books.tx, text).user


def test_an_account_opens_with_its_plan_s_allowance(books):
    account = books.open("ana", "basico")
    assert account.standing.balance == 1_000_000
    assert account.status == "active"
    assert books.account() == account
    assert books.lines() == [("allowance", 1_000_000)]


def test_an_account_is_opened_once(books):
    books.open_with(1000)
    before = books.dump()
    with pytest.raises(Conflict, match="'ana' has an account already"):
        books.open()
    assert books.dump() == before


@pytest.mark.parametrize("user", ["", "   ", "x" * (MAX_USER_LENGTH + 1)])
def test_a_user_id_without_or_with_too_many_characters_is_refused(books, user):
    with pytest.raises(LedgerError, match="1 to 256 characters"):
        books.open(user)


def test_a_user_id_of_the_greatest_length_is_taken(books):
    assert books.open("x" * MAX_USER_LENGTH).user == "x" * MAX_USER_LENGTH


def test_a_user_id_is_taken_as_it_is_written(books):
    for user in ("Ana", "ana", "ana'; DROP TABLE accounts --", "用户"):
        assert books.open(user).user == user
    assert books.count("accounts") == 4


def test_an_account_on_an_unknown_plan_is_refused_with_the_closest_name(books):
    with pytest.raises(UnknownName, match="did you mean basico"):
        books.open("ana", "basic")
    assert books.count("accounts") == 0


def test_a_user_is_found_by_id(people):
    assert found(people, "ana") == "ana"


def test_a_whole_id_wins_over_a_longer_one_that_begins_like_it(people):
    assert found(people, "anabel") == "anabel"
    assert found(people, "anab") == "anabel"


@pytest.mark.parametrize("text", ["bel@example.com", "BEL@EXAMPLE.COM", "bel@", "Bel"])
def test_a_user_is_found_by_email_whatever_its_case(people, text):
    assert found(people, text) == "anabel"


def test_a_prefix_of_several_users_is_refused_with_their_ids(people):
    with pytest.raises(Conflict, match=r"more than one user \(ana, anabel\)"):
        accounts.find(people.tx, "an")


def test_many_users_are_not_all_listed(books):
    for number in range(8):
        books.open(f"user-{number}")
    with pytest.raises(Conflict, match=r"user-4, …\)"):
        accounts.find(books.tx, "user")


@pytest.mark.parametrize("text", ["", "%", "_na", "a%", "nobody"])
def test_what_fits_nobody_is_unknown_and_no_character_is_a_wildcard(people, text):
    with pytest.raises(UnknownName, match="no user"):
        accounts.find(people.tx, text)


def test_an_unknown_user_is_told_with_the_closest(people):
    with pytest.raises(UnknownName) as caught:
        accounts.get(people.tx, "brunno")
    assert caught.value.closest == ["bruno"]
    assert "did you mean bruno?" in str(caught.value)


def test_an_unknown_user_like_no_other_is_told_where_to_look(people):
    with pytest.raises(UnknownName, match="see 'solaris-cli users list'"):
        accounts.get(people.tx, "zzzzzzzz")


def test_all_accounts_are_listed_by_user_id(people):
    assert [account.user for account in accounts.all_accounts(people.tx)] == ["ana", "anabel", "bruno"]


def test_locking_nobody_gives_nothing(books):
    assert books.run(lambda tx: accounts.lock(tx, "nobody")) is None


def test_touching_an_unknown_user_opens_an_account_only_where_that_is_allowed(books):
    with pytest.raises(UnknownName):
        books.touch("ana")
    with pytest.raises(UnknownName):
        books.run(lambda tx: renewals.touch(tx, "ana", NOON, NewAccount("livre", ZONE, create=False)))
    assert books.count("accounts") == 0
    opened = books.run(lambda tx: renewals.touch(tx, "ana", NOON, NewAccount("livre", ZONE), "ana@example.com"))
    assert (opened.user, opened.email) == ("ana", "ana@example.com")


def test_a_renamed_account_keeps_its_history(books):
    books.open_with(1000)
    books.spend(300)
    books.run(lambda tx: accounts.rename(tx, accounts.get(tx, "ana"), "ana.maria"))
    assert books.lines("ana.maria") == [("bonus", 1000), ("usage", -300)]
    with pytest.raises(UnknownName):
        books.account("ana")


def test_a_taken_id_is_refused(people):
    with pytest.raises(Conflict, match="choose another id"):
        people.run(lambda tx: accounts.rename(tx, accounts.get(tx, "ana"), "bruno"))


@pytest.mark.parametrize("user", ["", " ", "x" * (MAX_USER_LENGTH + 1)])
def test_a_new_id_must_be_an_id(people, user):
    with pytest.raises(LedgerError, match="1 to 256 characters"):
        people.run(lambda tx: accounts.rename(tx, accounts.get(tx, "ana"), user))


def test_an_erased_account_keeps_its_numbers_and_nothing_about_the_person(books):
    books.open_with(1000)
    books.hold("one", 100, email="ana@example.com", conversation="secret-thread")
    books.settle("one", 100)
    erased = books.run(lambda tx: accounts.erase(tx, accounts.get(tx, "ana")))
    account = books.account(erased)
    assert (account.email, account.status, account.balance, account.used) == (None, "blocked", 900, 100)
    assert not any("ana" in str(row) or "secret" in str(row) for rows in books.dump().values() for row in rows)


def test_a_person_who_comes_back_after_the_erasure_gets_a_new_account(books):
    books.open_with(1000)
    books.run(lambda tx: accounts.erase(tx, accounts.get(tx, "ana")))
    books.open("ana")
    assert books.balance("ana") == 0
    assert books.count("accounts") == 2


def test_an_erasure_that_meets_its_own_name_still_works(books):
    # User ids come from a header: somebody may be called like that.
    account = books.open("ana")
    books.open(f"erased-{account.id}")
    erased = books.run(lambda tx: accounts.erase(tx, accounts.get(tx, "ana")))
    assert books.account(erased).id == account.id
