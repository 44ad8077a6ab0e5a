import re
from dataclasses import replace
from datetime import date

import pytest

from solaris_meter.chat.texts import _TEXTS, Texts
from solaris_meter.models import Standing
from solaris_meter.periods import Period
from solaris_meter.settings import Purchase

# 2026-11-01 to 2026-12-01, midnight in São Paulo (UTC-3).
NOVEMBER = Period(1_793_502_000_000, 1_796_094_000_000)
STANDING = Standing(
    "ana", "ana@example.com", "basico", "active", "America/Sao_Paulo", NOVEMBER, used=1_000_000, reserved=0, balance=0
)
BOTH = Purchase(email="vendas@example.com", url="https://example.com/comprar")
PT, EN = Texts("pt-BR", BOTH), Texts("en", BOTH)
DETAILS = {"header": "X-Solaris-User", "detail": "X-Solaris-Key is wrong"}


def test_both_languages_have_the_same_texts():
    assert set(_TEXTS["pt-BR"]) == set(_TEXTS["en"])
    for name in _TEXTS["en"]:
        fields = [set(re.findall(r"\{(\w+)\}", _TEXTS[language][name])) for language in _TEXTS]
        assert fields[0] == fields[1]


@pytest.mark.parametrize(
    ("amount", "portuguese", "english"),
    [(0, "0", "0"), (999, "999", "999"), (1_000_000, "1.000.000", "1,000,000"), (-1_234, "-1.234", "-1,234")],
)
def test_numbers_are_written_as_each_language_writes_them(amount, portuguese, english):
    assert PT.number(amount) == portuguese
    assert EN.number(amount) == english


def test_dates_are_written_as_each_language_writes_them():
    assert PT.day(date(2026, 12, 1)) == "01/12/2026"
    assert EN.day(date(2026, 12, 1)) == "Dec 1, 2026"


def test_who_has_used_everything_reads_what_when_and_where():
    assert PT.sentence("tokens_exhausted", STANDING) == (
        "Seus tokens acabaram: você usou 1.000.000 de 1.000.000 e o saldo é 0. Ele se renova em 01/12/2026. "
        "Para comprar mais, escreva para vendas@example.com ou acesse https://example.com/comprar."
    )
    assert EN.sentence("tokens_exhausted", STANDING) == (
        "Your tokens are used up: you used 1,000,000 of 1,000,000 and the balance is 0. It renews on Dec 1, 2026. "
        "To buy more, write to vendas@example.com or go to https://example.com/comprar."
    )


def test_a_debt_is_shown_as_it_is():
    in_debt = replace(STANDING, used=1_002_500, balance=-2_500)
    assert "você usou 1.002.500 de 1.000.000 e o saldo é -2.500." in PT.sentence("tokens_exhausted", in_debt)


def test_the_day_of_renewal_is_that_of_the_accounts_own_time_zone():
    # 2026-12-01 03:00 UTC is still 30 November in Los Angeles, and already the 1st in Tokyo.
    for zone, day in (("America/Los_Angeles", "30/11/2026"), ("Asia/Tokyo", "01/12/2026"), ("UTC", "01/12/2026")):
        assert day in PT.sentence("tokens_exhausted", replace(STANDING, timezone=zone))


def test_a_plan_without_periods_does_not_renew():
    prepaid = replace(STANDING, period=Period(NOVEMBER.start_ms, None))
    assert "renova" not in PT.sentence("tokens_exhausted", prepaid)
    assert "renews" not in EN.sentence("tokens_exhausted", prepaid)
    assert "  " not in PT.sentence("tokens_exhausted", prepaid)


@pytest.mark.parametrize(
    ("purchase", "portuguese", "english"),
    [
        (
            Purchase(email="v@x.com"),
            "Para comprar mais, escreva para v@x.com.",
            "To buy more, write to v@x.com.",
        ),
        (
            Purchase(url="https://x.com"),
            "Para comprar mais, acesse https://x.com.",
            "To buy more, go to https://x.com.",
        ),
        (Purchase(), "Para comprar mais, fale com o administrador.", "To buy more, ask your administrator."),
    ],
)
def test_the_text_names_what_there_is_to_buy_at(purchase, portuguese, english):
    assert Texts("pt-BR", purchase).sentence("tokens_exhausted", STANDING).endswith(portuguese)
    assert Texts("en", purchase).sentence("tokens_exhausted", STANDING).endswith(english)


def test_a_blocked_person_is_told_whom_to_ask():
    assert PT.sentence("account_blocked", STANDING).endswith(" Escreva para vendas@example.com.")
    assert Texts("en", Purchase()).sentence("account_blocked", STANDING).endswith(" Ask your administrator.")


def test_the_ending_inside_an_answer_has_links():
    assert PT.sentence("ended", STANDING) == (
        "*Seus tokens acabaram e a resposta foi encerrada aqui. Ele se renova em 01/12/2026. Para comprar mais, "
        "escreva para [vendas@example.com](mailto:vendas@example.com) ou acesse "
        "[https://example.com/comprar](https://example.com/comprar).*"
    )


@pytest.mark.parametrize("language", ["pt-BR", "en"])
@pytest.mark.parametrize("name", [name for name in _TEXTS["en"] if not name.startswith(("buy", "ask", "renewal"))])
def test_no_text_is_taken_for_something_else_by_librechat(language, name):
    text = Texts(language, BOTH).sentence(name, STANDING, **DETAILS)
    assert not set("{}\n") & set(text)
    # Waiting times make its client stack retry; the others make it take the error for an overlong context.
    assert not re.search(r"(try again|retry|tente).{0,12}\d|retry[- ]after|\d+ ?(s|ms|sec|seg)\b", text, re.IGNORECASE)
    assert not re.search(
        r"context_length_exceeded|maximum context length|exceeds the context window|prompt is too long"
        r"|reduce the length of the messages",
        text,
        re.IGNORECASE,
    )
    assert len(text) < 512  # where LibreChat cuts
