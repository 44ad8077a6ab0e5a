"""The texts, filled in: numbers and dates of each language, links, and an answer to /saldo."""

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solaris_meter.chat import catalogue
from solaris_meter.chat.texts import Audience, MailKind, ModelUse, Texts
from solaris_meter.models import Standing
from solaris_meter.periods import Period
from solaris_meter.settings import Purchase

# 2026-11-01 to 2026-12-01, midnight in São Paulo (UTC-3).
NOVEMBER = Period(1_793_502_000_000, 1_796_094_000_000)
STANDING = Standing(
    "ana", "ana@example.com", "basico", "active", "America/Sao_Paulo", NOVEMBER, used=1_000_000, reserved=0, balance=0
)
WARNED = replace(STANDING, used=850_000, balance=150_000)
PREPAID = Period(NOVEMBER.start_ms, None)
EMAIL = Purchase(email="vendas@example.com")
BOTH = Purchase(email="vendas@example.com", url="https://example.com/comprar")
PT, EN = Texts("pt-BR", BOTH), Texts("en", BOTH)
BRIEF = {"pt-BR": Texts("pt-BR", EMAIL), "en": Texts("en", EMAIL)}
PAGE = "https://uso.example.com/"
WITH_PAGE = Texts("pt-BR", EMAIL, PAGE)


# numbers and dates


@pytest.mark.parametrize(
    ("amount", "portuguese", "english"),
    [(0, "0", "0"), (999, "999", "999"), (1_000_000, "1.000.000", "1,000,000"), (-1_234, "-1.234", "-1,234")],
)
def test_numbers_are_written_as_each_language_writes_them(amount, portuguese, english):
    assert PT.number(amount) == portuguese
    assert EN.number(amount) == english


@pytest.mark.parametrize(
    ("amount", "portuguese", "english"),
    [
        (0, "0", "0"),
        (9_999, "9.999", "9,999"),
        (10_000, "10 mil", "10K"),
        (12_399, "12,3 mil", "12.3K"),
        (250_000, "250 mil", "250K"),
        (999_999, "999,9 mil", "999.9K"),
        (1_000_000, "1 milhão", "1M"),
        (1_500_000, "1,5 milhão", "1.5M"),
        (1_999_999, "1,9 milhão", "1.9M"),
        (2_000_000, "2 milhões", "2M"),
        (1_000_000_000, "1 bilhão", "1B"),
        (10**15, "1000 trilhões", "1000T"),
        (-9_999, "-9.999", "-9,999"),
        (-12_301, "-12,4 mil", "-12.4K"),
    ],
)
def test_amounts_are_shortened_as_people_say_them_and_never_rounded_up(amount, portuguese, english):
    assert PT.short(amount) == portuguese
    assert EN.short(amount) == english


@given(st.integers(-(10**17), 10**17))
def test_a_short_amount_is_at_most_the_exact_one_and_hardly_less(amount):
    units = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    found = re.fullmatch(r"(-?[\d.]+)([KMBT]?)", EN.short(amount).replace(",", ""))
    assert found
    number, unit = found.groups()
    said = Fraction(Decimal(number)) * units[unit]
    assert said <= amount
    assert amount - said <= abs(amount) * Fraction(1, 10)
    assert abs(amount) >= 10_000 or said == amount


@pytest.mark.parametrize(
    ("amount", "portuguese", "english"),
    [
        (0, "0 tokens", "0 tokens"),
        (1, "1 token", "1 token"),
        (500_000, "500.000 tokens", "500,000 tokens"),
        (2_000_000, "2.000.000 de tokens", "2,000,000 tokens"),
        (2_500_000, "2.500.000 tokens", "2,500,000 tokens"),
    ],
)
def test_an_exact_amount_has_its_noun(amount, portuguese, english):
    assert PT.tokens(amount) == portuguese
    assert EN.tokens(amount) == english


def test_dates_are_written_as_each_language_writes_them():
    assert PT.day(date(2026, 12, 1)) == "01/12/2026"
    assert EN.day(date(2026, 12, 1)) == "Dec 1, 2026"


# refusals


def test_who_has_used_everything_reads_what_when_and_where():
    assert PT.sentence("tokens_exhausted", STANDING) == (
        "Seus tokens acabaram: você usou 1.000.000 de 1.000.000 e o saldo é 0. Ele se renova em 01/12/2026. "
        "Para comprar mais, escreva para vendas@example.com ou acesse https://example.com/comprar."
    )
    assert EN.sentence("tokens_exhausted", STANDING) == (
        "Your tokens are used up: you used 1,000,000 of 1,000,000 and the balance is 0. It renews on Dec 1, 2026. "
        "To buy more, write to vendas@example.com or go to https://example.com/comprar."
    )


def test_as_markdown_a_refusal_has_links():
    assert WITH_PAGE.markdown("tokens_exhausted", STANDING) == (
        "Seus tokens acabaram: você usou 1.000.000 de 1.000.000 e o saldo é 0. Ele se renova em 01/12/2026. "
        "Para comprar mais, escreva para [vendas@example.com](mailto:vendas@example.com). "
        "[Veja o seu consumo](https://uso.example.com/)."
    )
    assert PT.markdown("account_blocked", STANDING) == (
        "Sua conta está bloqueada, e os seus tokens ficam guardados. "
        "Escreva para [vendas@example.com](mailto:vendas@example.com)."
    )


def test_plain_text_has_no_markdown_and_no_usage_page():
    assert WITH_PAGE.sentence("tokens_exhausted", STANDING) == BRIEF["pt-BR"].sentence("tokens_exhausted", STANDING)


def test_a_debt_is_shown_as_it_is():
    in_debt = replace(STANDING, used=1_002_500, balance=-2_500)
    assert "você usou 1.002.500 de 1.000.000 e o saldo é -2.500." in PT.sentence("tokens_exhausted", in_debt)


def test_who_never_had_tokens_has_used_up_none():
    nothing = replace(STANDING, used=0, balance=0)
    assert PT.sentence("tokens_exhausted", nothing).startswith("Sua conta ainda não tem tokens. Para comprar mais,")
    assert "0" not in EN.markdown("tokens_exhausted", nothing)


def test_the_day_of_renewal_is_that_of_the_accounts_own_time_zone():
    # 2026-12-01 03:00 UTC is still 30 November in Los Angeles, and already the 1st in Tokyo.
    for zone, day in (("America/Los_Angeles", "30/11/2026"), ("Asia/Tokyo", "01/12/2026"), ("UTC", "01/12/2026")):
        assert day in PT.sentence("tokens_exhausted", replace(STANDING, timezone=zone))
        assert day in PT.notice(replace(STANDING, timezone=zone))


@pytest.mark.parametrize("texts", [PT, EN])
def test_a_plan_without_periods_does_not_renew(texts):
    prepaid = replace(STANDING, period=PREPAID)
    written = [
        texts.sentence("tokens_exhausted", prepaid),
        texts.notice(prepaid),
        texts.balance_answer(prepaid, [], []),
    ]
    written += [texts.mail(kind, prepaid).body for kind in get_args(MailKind)]
    for text in written:
        assert "2026" not in text.replace("01/11/2026", "").replace("Nov 1, 2026", "")
        assert not re.search(r"renova|renews|  | [.,;:]|\n\n\n", text)


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


def test_a_detail_cannot_bring_braces_lines_or_marks():
    detail = 'got {"a": 1}\r\nat\u2063 line 1\ud800'
    assert PT.sentence("body_unreadable", None, detail=detail) == (
        'O pedido não pôde ser lido (got ("a": 1) at line 1), por isso não foi enviado ao modelo e nada foi cobrado.'
    )
    assert "\\*a\\* \\[b\\]" in PT.markdown("body_unreadable", None, detail="*a* [b]")


# notices


def test_the_ending_inside_an_answer_has_links():
    assert PT.sentence("ended", STANDING) == (
        "*Seus tokens acabaram e a resposta foi encerrada aqui. O saldo se renova em 01/12/2026. Para comprar mais, "
        "escreva para [vendas@example.com](mailto:vendas@example.com) ou acesse "
        "[https://example.com/comprar](https://example.com/comprar).*"
    )


def test_a_notice_says_what_was_used_what_is_left_until_when_and_where_to_buy():
    assert BRIEF["pt-BR"].notice(WARNED) == (
        "*Você usou 85 % dos seus tokens; restam 150 mil tokens até 01/12/2026. "
        "Para comprar mais, escreva para [vendas@example.com](mailto:vendas@example.com).*"
    )
    assert BRIEF["en"].notice(WARNED) == (
        "*You have used 85% of your tokens; 150K tokens are left until Dec 1, 2026. "
        "To buy more, write to [vendas@example.com](mailto:vendas@example.com).*"
    )


def test_a_notice_at_the_end_says_that_it_was_the_last_answer():
    for standing in (STANDING, replace(STANDING, used=1_000_010, balance=-10)):
        assert BRIEF["pt-BR"].notice(standing) == (
            "*Seus tokens acabaram: esta foi a última resposta até 01/12/2026. "
            "Para comprar mais, escreva para [vendas@example.com](mailto:vendas@example.com).*"
        )


def test_without_periods_a_notice_has_no_date():
    notice = BRIEF["pt-BR"].notice(replace(WARNED, period=PREPAID))
    assert notice.startswith("*Você usou 85 % dos seus tokens; restam 150 mil tokens. Para comprar mais,")
    gone = BRIEF["pt-BR"].notice(replace(STANDING, period=PREPAID))
    assert gone.startswith("*Seus tokens acabaram: esta foi a última resposta. Para comprar mais,")


def test_a_notice_links_to_the_usage_page_where_there_is_one():
    assert WITH_PAGE.notice(WARNED).endswith(
        "(mailto:vendas@example.com). [Veja o seu consumo](https://uso.example.com/).*"
    )
    assert WITH_PAGE.notice(WARNED, "https://uso.example.com/ana").endswith("](https://uso.example.com/ana).*")
    assert PT.notice(WARNED, "https://uso.example.com/ana").endswith(
        "[Veja o seu consumo](https://uso.example.com/ana).*"
    )


@pytest.mark.parametrize(
    ("left", "portuguese", "english"),
    [
        (1, "resta 1 token", "1 token is left"),
        (2, "restam 2 tokens", "2 tokens are left"),
        (9_999, "restam 9.999 tokens", "9,999 tokens are left"),
        (150_999, "restam 150,9 mil tokens", "150.9K tokens are left"),
        (1_000_000, "restam 1 milhão de tokens", "1M tokens are left"),
        (1_580_000, "restam 1,5 milhão de tokens", "1.5M tokens are left"),
        (2_000_000, "restam 2 milhões de tokens", "2M tokens are left"),
    ],
)
def test_what_is_left_is_said_as_people_say_it(left, portuguese, english):
    standing = replace(STANDING, used=90_000_000, balance=left)
    assert f"; {portuguese} até" in PT.notice(standing)
    assert f"; {english} until" in EN.notice(standing)


@pytest.mark.parametrize(
    ("used", "left", "percent"), [(853, 147, "85,3 %"), (79_999, 20_001, "79,9 %"), (999_999, 1, "99,9 %")]
)
def test_the_used_share_is_rounded_down_too(used, left, percent):
    assert f"Você usou {percent} dos" in PT.notice(replace(STANDING, used=used, balance=left))


def test_addresses_are_links_whatever_is_in_them():
    purchase = Purchase(email="a_b+c@example.com", url="https://example.com/loja_(nova)?a=1&b=*2*")
    notice = Texts("pt-BR", purchase).notice(WARNED)
    assert "[a_b+c@example.com](mailto:a_b+c@example.com)" in notice
    assert "(https://example.com/loja_%28nova%29?a=1&b=*2*).*" in notice
    assert "_(nova)?a=1\\&b=\\*2\\*](" in notice


# /saldo

USES = [ModelUse("gpt-4o", 600_000, 120), ModelUse("llama3:8b", 250_000, 38)]


def test_the_answer_to_saldo_is_exactly_this():
    standing = replace(WARNED, reserved=2_000)
    assert WITH_PAGE.balance_answer(standing, [ModelUse("llama3:8b", 4_000, 1)], USES) == (
        "**Seu saldo de tokens** (plano basico)\n"
        "\n"
        "▓▓▓▓▓▓▓▓░░ 85 % usados: **restam 150 mil tokens**\n"
        "\n"
        "Você usou 850.000 de 1.000.000; o saldo é 150.000. Suas respostas em andamento reservam 2.000 tokens. "
        "O saldo se renova em 01/12/2026.\n"
        "\n"
        "Seu consumo por modelo, em tokens (e em chamadas):\n"
        "\n"
        "| Modelo | Hoje | Desde 01/11/2026 |\n"
        "| --- | ---: | ---: |\n"
        "| `gpt-4o` | – | 600.000 (120) |\n"
        "| `llama3:8b` | 4.000 (1) | 250.000 (38) |\n"
        "| **Total** | 4.000 (1) | 850.000 (158) |\n"
        "\n"
        "Para comprar mais, escreva para [vendas@example.com](mailto:vendas@example.com). "
        "[Veja o seu consumo](https://uso.example.com/)."
    )


@pytest.mark.parametrize(
    ("changes", "heading", "bar", "ending"),
    [
        ({}, "**Seus tokens acabaram** (plano basico)", "▓▓▓▓▓▓▓▓▓▓ 100 % usados", "Para comprar mais"),
        (
            {"used": 0, "balance": -5},
            "**Seus tokens acabaram** (plano basico)",
            "▓▓▓▓▓▓▓▓▓▓ 100 %",
            "Para comprar mais",
        ),
        ({"used": 0}, "**Sua conta ainda não tem tokens** (plano basico)", "", "Para comprar mais"),
        (
            {"status": "blocked", "used": 5, "balance": 5},
            "**Sua conta está bloqueada** (plano basico)",
            "▓▓▓▓▓░░░░░ 50 % usados: restam 5 tokens",
            "O seu saldo fica guardado, mas não pode ser usado enquanto a conta estiver bloqueada. Escreva para",
        ),
    ],
)
def test_the_answer_says_how_the_account_stands(changes, heading, bar, ending):
    lines = BRIEF["pt-BR"].balance_answer(replace(STANDING, **changes), [], []).split("\n")
    assert lines[0] == heading
    assert any(line.startswith(bar) for line in lines if line)
    assert "Nenhum consumo desde 01/11/2026." in lines
    assert lines[-1].startswith(ending)


@pytest.mark.parametrize(("used", "blocks"), [(0, 0), (1, 0), (99, 0), (100, 1), (999, 9), (1000, 10)])
def test_a_block_is_filled_when_its_tenth_is_used(used, blocks):
    bar = PT.balance_answer(replace(STANDING, used=used, balance=1000 - used, status="blocked"), [], []).split("\n")[2]
    assert bar.startswith("▓" * blocks + "░" * (10 - blocks) + " ")


@pytest.mark.parametrize("count", [1, 2, 8, 9, 40])
def test_at_most_eight_models_are_shown_and_nothing_is_left_out(count):
    uses = [ModelUse(f"m{index}", 10 + index, index) for index in range(count)]
    answer = PT.balance_answer(STANDING, [], uses)
    rows = [line for line in answer.split("\n") if line.startswith(("| `", "| mais"))]
    assert len(rows) == min(count, 8)
    assert (f"| mais {count - 7} modelos |" in answer) == (count > 8)
    assert rows[0].startswith(f"| `m{count - 1}` |")  # the largest first
    assert sum(int(row.split()[-3]) for row in rows) == sum(use.billed_tokens for use in uses)
    assert ("**Total**" in answer) == (count > 1)


def test_rows_of_one_model_are_one_row():
    answer = EN.balance_answer(STANDING, [ModelUse("a", 1, 1), ModelUse("a", 2, 1)], [ModelUse("a", 5, 2)])
    assert "| `a` | 3 (2) | 5 (2) |" in answer
    assert "Total" not in answer


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a_b*c*[d](e):f", "`a_b*c*[d](e):f`"),
        ("a|b`c", "`a\\|b'c`"),
        ("a\nb\u2063{c}", "`a b (c)`"),
        ("", "sem nome"),
        (" \n", "sem nome"),
        ("x" * 300, f"`{'x' * 64}`"),
    ],
)
def test_a_models_name_stays_in_its_cell(name, shown):
    assert f"\n| {shown} | – | 1 (1) |\n" in PT.balance_answer(STANDING, [], [ModelUse(name, 1, 1)])


# e-mails


def test_an_email_says_everything_in_plain_text():
    mail = WITH_PAGE.mail("threshold", WARNED)
    assert mail.subject == "Você já usou 85 % dos seus tokens"
    assert mail.body == (
        "Olá!\n"
        "\n"
        "Você já usou 85 % dos tokens do seu plano basico. Por enquanto nada muda: o chat continua funcionando "
        "normalmente.\n"
        "\n"
        "Usados: 850.000 de 1.000.000\n"
        "Saldo: 150.000\n"
        "O saldo se renova em 01/12/2026.\n"
        "\n"
        "Para comprar mais, escreva para vendas@example.com.\n"
        "Veja o seu consumo em https://uso.example.com/."
    )


def test_a_credit_is_told_with_its_amount():
    assert PT.mail("credited", WARNED, amount=500_000).subject == "Seu crédito chegou: 500.000 tokens"
    assert "Your credit of 500,000 tokens" in EN.mail("credited", WARNED, amount=500_000).body
    assert EN.mail("credited", WARNED, audience="operator", amount=1).subject == "ana@example.com got 1 token"


@pytest.mark.parametrize("kind", get_args(MailKind))
@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_the_operator_is_told_who_it_is(language, kind):
    known = BRIEF[language].mail(kind, STANDING, audience="operator")
    assert "ana@example.com" in known.subject
    assert re.search(r": ana\n.*: ana@example\.com\n", known.body)
    unknown = BRIEF[language].mail(kind, replace(STANDING, email=None), audience="operator")
    assert re.search(r"\bana\b", unknown.subject)
    assert "None" not in unknown.body


def test_a_name_cannot_add_a_header():
    odd = replace(STANDING, user="x\r\nBcc: y", email=None)
    assert PT.mail("blocked", odd, audience="operator").subject == "A conta de x Bcc: y foi bloqueada"


# whatever there is

standings = st.builds(
    Standing,
    user=st.text(max_size=20),
    email=st.none() | st.text(max_size=20),
    plan=st.text(max_size=20),
    status=st.sampled_from(["active", "blocked"]),
    timezone=st.sampled_from(["America/Sao_Paulo", "UTC", "Asia/Tokyo"]),
    period=st.builds(Period, st.integers(0, 2 * 10**12), st.none() | st.integers(2 * 10**12, 4 * 10**12)),
    used=st.integers(0, 10**16),
    reserved=st.integers(0, 10**16),
    balance=st.integers(-(10**16), 10**16) | st.integers(-2, 2),
)
uses = st.lists(st.builds(ModelUse, st.text(max_size=80), st.integers(0, 10**16), st.integers(0, 10**6)), max_size=12)
texts = st.builds(
    Texts,
    st.sampled_from(catalogue.LANGUAGES),
    st.builds(Purchase, email=st.text(max_size=20), url=st.text(max_size=20)),
    st.text(max_size=20),
)


@given(texts, standings, uses, uses, st.text(max_size=40))
def test_any_account_can_be_written_about(texts, standing, today, period, detail):
    lines = [
        texts.notice(standing),
        *(
            texts.sentence(name, standing)
            for name in ("tokens_exhausted", "tokens_reserved", "account_blocked", "ended")
        ),
        *(texts.markdown(name, standing) for name in ("tokens_exhausted", "tokens_reserved", "account_blocked")),
        texts.sentence("body_unreadable", None, detail=detail),
    ]
    bodies = [texts.balance_answer(standing, today, period)]
    for audience in get_args(Audience):
        for kind in get_args(MailKind):
            mail = texts.mail(kind, standing, audience=audience, amount=max(0, standing.balance))
            lines.append(mail.subject)
            bodies.append(mail.body)
    for line in lines:
        assert len(line.splitlines()) == 1
    for text in (*lines, *bodies):
        assert text
        assert not set("{}\u2063\r") & set(text)
        text.encode()
    table = [line for line in bodies[0].split("\n") if line.startswith("| ")]
    assert len(table) <= 2 + 8 + 1
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in table)


@given(standings)
def test_nobody_is_promised_more_than_there_is(standing):
    standing = replace(standing, balance=abs(standing.balance) + 1)
    notice = EN.notice(standing)
    found = re.search(r"used ([\d.]+)% .*?; ([\d.,]+)([KMBT]?) tokens? (?:is|are) left", notice)
    assert found
    percent, amount, unit = found.groups()
    left = Fraction(Decimal(amount.replace(",", ""))) * {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[unit]
    assert left <= standing.balance
    assert Decimal(percent) <= Decimal(standing.used * 100) / standing.limit
