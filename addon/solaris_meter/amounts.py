"""Amounts as people write them: tokens (`250K`, `1.5M`, `1_000_000`) and money (`49.90`, `USD 10`)."""

import re
from dataclasses import dataclass
from decimal import Decimal

from solaris_meter.errors import AmountError

MAX_TOKENS = 10**15
"""The largest amount the ledger takes at once; sums of thousands of these still fit a 64-bit integer."""

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_TOKENS = re.compile(
    r"(?P<digits>\d+(?:[_,]\d{3})*|\d+)(?P<fraction>\.\d+)?\s*(?P<suffix>[KMBT]?)", re.IGNORECASE | re.ASCII
)
_MONEY = re.compile(
    r"(?P<before>[A-Z]{3}|R\$)?\s*(?P<whole>\d+)(?:[.,](?P<fraction>\d{1,2}))?\s*(?P<after>[A-Z]{3})?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Money:
    """A sum of money: `minor` hundredths of `currency` (ISO 4217)."""

    minor: int
    currency: str

    def __str__(self) -> str:
        return f"{self.minor // 100:,}.{self.minor % 100:02d} {self.currency}"


def parse_tokens(text: str, *, zero: bool = False) -> int:
    """Read an amount of tokens: `250K`, `1M`, `1_000_000`, `1.5M`.

    `zero` allows 0. Raises AmountError for anything else, negative and fractional amounts included.
    """
    remedy = "write a whole number of tokens such as 250K, 1.5M or 1_000_000"
    found = _TOKENS.fullmatch(text.strip())
    if not found:
        raise AmountError(f"{text!r} is not an amount of tokens: {remedy}")
    if len(found["fraction"] or "") == len(".000") and not found["suffix"]:
        # 250.000 is 250 thousand in Brazil and 250 elsewhere: nobody's tokens hang on a guess.
        raise AmountError(f"{text!r} can be read in two ways: {remedy}")
    digits = re.sub("[_,]", "", found["digits"])
    exact = Decimal(digits + (found["fraction"] or "")) * _SUFFIXES[found["suffix"].upper()]
    if exact != exact.to_integral_value():
        raise AmountError(f"{text!r} is a fraction of a token: {remedy}")
    amount = int(exact)
    if amount == 0 and not zero:
        raise AmountError(f"{text!r} changes nothing: {remedy}")
    if amount > MAX_TOKENS:
        raise AmountError(f"{text!r} is more than {MAX_TOKENS:,} tokens, the largest amount that is taken at once")
    return amount


def parse_money(text: str, default_currency: str = "BRL") -> Money:
    """Read a sum of money: `49.90`, `49,90`, `USD 10`, `R$ 5`. Raises AmountError."""
    found = _MONEY.fullmatch(text.strip())
    currency = (found["before"] or found["after"] or default_currency).upper() if found else ""
    if not found or (found["before"] and found["after"]) or len(found["whole"]) > 12:
        raise AmountError(f"{text!r} is not a sum of money: write 49.90, or with its currency USD 49.90")
    cents = int(found["whole"]) * 100 + int((found["fraction"] or "0").ljust(2, "0"))
    return Money(cents, "BRL" if currency == "R$" else currency)
