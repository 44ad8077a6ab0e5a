"""Amounts: what people write is read exactly, or refused with the reason."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solaris_meter.amounts import MAX_TOKENS, Money, parse_money, parse_tokens
from solaris_meter.errors import AmountError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1", 1),
        ("250K", 250_000),
        ("250k", 250_000),
        ("1M", 1_000_000),
        ("1.5M", 1_500_000),
        ("0.25 M", 250_000),
        ("1_000_000", 1_000_000),
        ("1,000,000", 1_000_000),
        ("  7  ", 7),
        ("2B", 2_000_000_000),
        ("1T", 10**12),
        ("0.000001M", 1),
        ("1.234567M", 1_234_567),
        ("1000T", MAX_TOKENS),
    ],
)
def test_an_amount_is_read_exactly(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "K",
        "-5",
        "+5",
        "1e6",
        "1.5.5",
        "1 000",
        "12_34_567",
        "1,5M",
        "1.000.000",
        "0x10",
        "1MM",
        "M1",
        "1K 5",
        "١٢",
    ],
)
def test_what_is_no_amount_is_refused_with_an_example(text):
    with pytest.raises(AmountError, match="250K"):
        parse_tokens(text)


@pytest.mark.parametrize("text", ["0.5", "1.0001K", "1.0000001M"])
def test_a_fraction_of_a_token_is_refused(text):
    with pytest.raises(AmountError, match="fraction of a token"):
        parse_tokens(text)


@pytest.mark.parametrize("text", ["0", "0K", "0.0M"])
def test_zero_is_refused_unless_it_is_asked_for(text):
    with pytest.raises(AmountError, match="changes nothing"):
        parse_tokens(text)
    assert parse_tokens(text, zero=True) == 0


@pytest.mark.parametrize("text", ["1000.001T", "1_000_000_000_000_001", "9" * 400])
def test_more_than_the_ledger_takes_at_once_is_refused(text):
    with pytest.raises(AmountError, match="1,000,000,000,000,000"):
        parse_tokens(text)


def test_a_brazilian_thousands_point_is_not_read_as_a_fraction():
    # "250.000" is 250 thousand to the person who writes it; 250 would be a silent factor of a thousand.
    with pytest.raises(AmountError):
        parse_tokens("250.000")


@given(st.integers(1, MAX_TOKENS))
def test_an_amount_that_the_program_prints_reads_back(tokens):
    assert parse_tokens(f"{tokens:,}") == parse_tokens(f"{tokens:_}") == parse_tokens(str(tokens)) == tokens


@given(st.text(st.sampled_from("0123456789.,_KkMmBbTt R$BRLſ\u212a-+"), max_size=12))
def test_any_text_is_an_amount_or_an_amount_error(text):
    for parse in (parse_tokens, parse_money):
        with suppress(AmountError):
            parse(text)


def test_the_kelvin_sign_is_not_a_suffix():
    # It matches K where case is ignored, and is not K.
    with pytest.raises(AmountError):
        parse_tokens("5\u212a")


@pytest.mark.parametrize(
    ("text", "money"),
    [
        ("49.90", Money(4990, "BRL")),
        ("49,90", Money(4990, "BRL")),
        ("49,9", Money(4990, "BRL")),
        ("49", Money(4900, "BRL")),
        ("0", Money(0, "BRL")),
        ("USD 10", Money(1000, "USD")),
        ("10 usd", Money(1000, "USD")),
        ("EUR10.05", Money(1005, "EUR")),
        ("R$ 5", Money(500, "BRL")),
        ("r$5,01", Money(501, "BRL")),
    ],
)
def test_money_is_read_to_the_cent(text, money):
    assert parse_money(text) == money


def test_the_default_currency_is_the_caller_s():
    assert parse_money("3", "USD") == Money(300, "USD")


@pytest.mark.parametrize("text", ["", "-1", "1.234", "1.234,56", "USD 1 EUR", "$5", "ten", "1" * 13, "5 US"])
def test_what_is_no_money_is_refused_with_an_example(text):
    with pytest.raises(AmountError, match=r"USD 49\.90"):
        parse_money(text)


def test_money_prints_with_its_currency():
    assert str(Money(123_456_705, "BRL")) == "1,234,567.05 BRL"
