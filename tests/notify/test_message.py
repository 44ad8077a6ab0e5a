"""What an alert says."""

import html
import re
from dataclasses import replace

import pytest
from tests.ledger.support import NOON
from tests.notify.samples import EN, PT, STANDING, composed, event, message

from solaris_meter.chat.texts import Texts
from solaris_meter.notify.message import as_json, compose, compose_test
from solaris_meter.settings import Purchase

KINDS = ["threshold", "exhausted", "credited", "blocked"]


def links(text):
    return [html.unescape(target) for target in re.findall(r'href="([^"]*)"', text)]


def test_a_warning_names_plan_numbers_day_and_shop():
    mail = composed()
    assert mail.subject == "Você já usou 85 % dos seus tokens"
    for part in ("plano pro", "850.000", "1.000.000", "150.000", "01/04/2026", "vendas@example.com"):
        assert part in mail.text
        assert part in mail.html


def test_the_language_is_that_of_the_texts():
    mail = composed(texts=EN)
    assert mail.subject == "You have used 85% of your tokens"
    assert "1,000,000" in mail.text
    assert (mail.language, '<html lang="en">' in mail.html) == ("en", True)


@pytest.mark.parametrize("recipient", ["ana@example.com", None], ids=["user", "operator"])
@pytest.mark.parametrize("texts", [PT, EN], ids=["pt-BR", "en"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_for_both(kind, texts, recipient):
    mail = composed(kind, recipient, texts)
    assert mail.subject
    assert "\n" not in mail.subject
    assert mail.text
    assert not re.search(r"[{}]", mail.subject + mail.text)


def test_an_operator_reads_who_it_is():
    mail = composed(recipient=None)
    assert "ana@example.com" in mail.subject
    assert "ana-1" in mail.text


def test_the_links_name_user_and_plan():
    assert links(composed().html) == [
        "mailto:vendas@example.com?subject=Comprar%20tokens%3A%20ana-1%2C%20plano%20pro",
        "https://example.com/comprar?origem=chat&user=ana-1&plan=pro",
    ]
    assert "https://example.com/comprar?origem=chat&user=ana-1&plan=pro" in composed().text


@pytest.mark.parametrize(
    ("purchase", "count"),
    [(Purchase(), 0), (Purchase(email="vendas@example.com"), 1), (Purchase(url="https://example.com"), 1)],
)
def test_there_are_links_to_what_there_is(purchase, count):
    assert len(links(composed(texts=Texts("pt-BR", purchase)).html)) == count


def test_a_page_whose_address_begins_like_another_s_is_linked_by_itself():
    texts = Texts("pt-BR", Purchase(url="https://example.com/comprar"), base_url="https://example.com")
    assert "https://example.com/comprar?user=ana-1&plan=pro" in links(composed(texts=texts).html)
    assert "<a" not in "".join(re.findall(r">([^<]*)</a>", composed(texts=texts).html))


def test_what_a_user_is_called_is_only_text():
    standing = replace(STANDING, user='<img src="x">&"', plan="a&b")
    mail = compose(message(recipient=None, standing=standing), PT)
    assert "<img" not in mail.html
    assert "&lt;img" in mail.html


def test_warnings_to_people_can_be_unsubscribed():
    for kind in ("threshold", "exhausted"):
        assert composed(kind).unsubscribe == "mailto:vendas@example.com?subject=unsubscribe%20ana-1"
        assert composed(kind, recipient=None).unsubscribe == ""
    assert composed("credited").unsubscribe == composed("blocked").unsubscribe == ""
    assert composed(texts=Texts("pt-BR", Purchase())).unsubscribe == ""


def test_the_json_is_as_documented():
    assert as_json("alert-12-1", event()) == {
        "id": "alert-12-1",
        "kind": "threshold",
        "at": "2026-03-10T15:00:00Z",
        "threshold": 80,
        "amount": None,
        "paid": None,
        "entry": None,
        "account": {
            "user": "ana-1",
            "email": "ana@example.com",
            "plan": "pro",
            "status": "active",
            "period": {"start": "2026-03-01T03:00:00Z", "end": "2026-04-01T03:00:00Z"},
            "limit": 1_000_000,
            "used": 850_000,
            "reserved": 0,
            "balance": 150_000,
            "available": 150_000,
            "percent_used": 85.0,
        },
    }
    credited = as_json("x", event("credited"))
    assert (credited["amount"], credited["paid"], credited["entry"]) == (500_000, "49.90 BRL", 7)


def test_the_reference_is_that_of_the_message():
    assert composed().reference == message().reference == composed().json["id"] == f"alert-12-{NOON}"


@pytest.mark.parametrize(("texts", "word"), [(PT, "teste"), (EN, "test")])
def test_a_test_says_what_it_is(texts, word):
    mail = compose_test("test-1", NOON, texts)
    assert word in mail.subject.lower()
    assert word in mail.text
    assert mail.json == {"id": "test-1", "kind": "test", "at": "2026-03-10T15:00:00Z"}
