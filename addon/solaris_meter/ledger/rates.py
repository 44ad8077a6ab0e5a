"""Rates: how many billed tokens one token, picture or second of sound of a model costs.

A *rule* gives one kind of one pattern its rate; rules are only ever appended, so that what was in force at any time can
be told. A pattern is a glob (`*`, `?`; upper and lower case are the same) over the model's name as the caller wrote it
and over `provider/model`. For each kind the most specific pattern that matches counts. A call keeps the rates it began
with: they are written on its reservation.
"""

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal, get_args
from weakref import WeakKeyDictionary

from solaris_meter.errors import AmountError, LedgerError
from solaris_meter.ledger.database import Connection, Row
from solaris_meter.models import Usage

Kind = Literal["input", "cached_input", "cache_write", "output", "image", "second"]
KINDS: tuple[Kind, ...] = get_args(Kind)
READ_KINDS: tuple[Kind, ...] = ("cached_input", "cache_write")
"""Kinds of input: where no rule names them they cost what input costs."""

ONE = 1_000_000
"""The micro-rate of what costs one billed token. Micro-rates are billed tokens per million units."""
MAX_MICRO = 100_000_000 * ONE
"""What a picture or a second may cost at most, in a unit as small as the cheapest model's token; sums fit 64 bits."""
MAX_PATTERN_LENGTH = 256

_RATE = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rates:
    """What a call is billed by: one micro-rate for each kind. `second` is paid per millisecond, in proportion."""

    input: int = ONE
    cached_input: int = ONE
    cache_write: int = ONE
    output: int = ONE
    image: int = ONE
    second: int = ONE

    @classmethod
    def of(cls, micros: Mapping[Kind, int]) -> "Rates":
        """The rates with these micro-rates, and the default of every kind that is not among them."""
        return cls(**{**dict.fromkeys(READ_KINDS, micros.get("input", ONE)), **micros})

    @classmethod
    def decode(cls, text: str | None) -> "Rates":
        """What `encode` wrote. Raises ValueError for anything else."""
        return _decode(text)

    def encode(self) -> str | None:
        """The micro-rates that are not the default, as canonical JSON; None where all are."""
        usual = asdict(Rates.of({"input": self.input})) | {"input": ONE}
        special = {kind: micro for kind, micro in asdict(self).items() if micro != usual[kind]}
        return json.dumps(special, sort_keys=True, separators=(",", ":")) if special else None

    def billed(self, usage: Usage) -> int:
        """What a call costs in billed tokens, rounded up once. Parts of the input never exceed it."""
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - cached)
        micro = (
            (usage.input_tokens - cached - written) * self.input
            + cached * self.cached_input
            + written * self.cache_write
            + usage.output_tokens * self.output
            + usage.images * self.image
        )
        return _round_up(micro, usage.audio_ms * self.second)

    def billed_input(self, tokens: int, images: int = 0, audio_ms: int = 0) -> int:
        """What an input costs at most, whatever of it is cached, with the pictures and the sound of the call."""
        dearest = max(self.input, self.cached_input, self.cache_write)
        return _round_up(tokens * dearest + images * self.image, audio_ms * self.second)

    def billed_output(self, tokens: int) -> int:
        """What so many output tokens cost, rounded up."""
        return _round_up(tokens * self.output)

    def output_for(self, billed: int, wish: int) -> int:
        """How many output tokens `billed` pays for, rounded down; `wish` where output is free."""
        return wish if self.output == 0 else max(0, billed) * ONE // self.output


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the history: from `at_ms` on a kind of a pattern has this micro-rate. None: the rule was removed."""

    id: int
    at_ms: int
    pattern: str
    kind: Kind
    micro: int | None
    note: str | None

    @classmethod
    def from_row(cls, row: Row) -> "Rule":
        return cls(row["id"], row["at_ms"], row["pattern"], row["kind"], row["micro"], row["note"])


@dataclass(frozen=True, slots=True)
class _Read:
    """What a connection has read: the rules from `since_ms` on, up to line `last_id`, and what they made of models.

    Every call is resolved, on the thread that commits; a price list has thousands of lines.
    """

    last_id: int
    since_ms: int
    rules: list[Rule]
    resolved: dict[tuple[str, str], Rates]


_reads: WeakKeyDictionary[Connection, _Read] = WeakKeyDictionary()
_MAX_RESOLVED = 1024


def parse_rate(text: str) -> int:
    """Read a rate as people write it (`15`, `0.1`); its micro-rate. Raises AmountError."""
    remedy = "write billed tokens per token such as 15 or 0.1, with at most six decimals"
    if not _RATE.fullmatch(text.strip()):
        raise AmountError(f"{text!r} is not a rate: {remedy}")
    micro = int(Decimal(text.strip()) * ONE)
    if micro > MAX_MICRO:
        raise AmountError(f"{text!r} is more than {MAX_MICRO // ONE:,}, the highest rate there can be")
    return micro


def format_rate(micro: int) -> str:
    """A micro-rate as people write it, without trailing zeros."""
    whole, fraction = divmod(micro, ONE)
    return f"{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def resolve(tx: Connection, provider: str, model: str, at_ms: int) -> Rates:
    """The rates of a model as of a time."""
    read = _read(tx)
    if at_ms < read.since_ms:
        return _resolve(in_force(tx, at_ms), provider, model)
    found = read.resolved.get((provider, model))
    if found is None:
        if len(read.resolved) == _MAX_RESOLVED:  # names are the callers' to invent
            read.resolved.clear()
        found = read.resolved[provider, model] = _resolve(read.rules, provider, model)
    return found


def best(rules: Iterable[Rule], names: Iterable[str]) -> dict[Kind, Rule]:
    """For each kind the most specific rule whose pattern matches one of a model's names.

    Most specific: the most literal characters, then the fewest `*`, then the fewest `?`, then the newest.
    """
    names = [name.lower() for name in names]
    found: dict[Kind, Rule] = {}
    for rule in rules:
        kept = found.get(rule.kind)
        if kept is not None and _rank(kept) > _rank(rule):
            continue
        if any(_matcher(rule.pattern).match(name) for name in names):
            found[rule.kind] = rule
    return found


def in_force(tx: Connection, at_ms: int) -> list[Rule]:
    """The rules as of a time: the newest line of each pattern and kind that was not removed, by pattern."""
    rows = tx.rows(
        "SELECT * FROM rates WHERE micro IS NOT NULL AND id IN"
        " (SELECT max(id) FROM rates WHERE at_ms <= :at GROUP BY pattern, kind) ORDER BY pattern, id",
        at=at_ms,
    )
    return [Rule.from_row(row) for row in rows]


def history(tx: Connection, since_ms: int | None = None) -> list[Rule]:
    """Every line, oldest first."""
    rows = tx.rows(
        "SELECT * FROM rates WHERE CAST(:since AS BIGINT) IS NULL OR at_ms >= :since ORDER BY id", since=since_ms
    )
    return [Rule.from_row(row) for row in rows]


def put(tx: Connection, pattern: str, micros: Mapping[Kind, int], now_ms: int, note: str | None = None) -> str:
    """Set kinds of a pattern, for calls that begin from now on; the pattern as it is kept. Other kinds stay.

    Raises LedgerError for a pattern or a rate that cannot be.
    """
    pattern = pattern.strip().lower()
    if not 0 < len(pattern) <= MAX_PATTERN_LENGTH:
        raise LedgerError(f"a pattern has 1 to {MAX_PATTERN_LENGTH} characters, such as gpt-4o*; '*' is every model")
    for kind, micro in micros.items():
        if not 0 <= micro <= MAX_MICRO:
            raise LedgerError(f"the rate of {kind} of {pattern!r} is between 0 and {MAX_MICRO // ONE:,}")
        _append(tx, pattern, kind, micro, now_ms, note)
    return pattern


def remove(tx: Connection, pattern: str, now_ms: int) -> tuple[str, list[Kind]]:
    """End every rule of a pattern, for calls that begin from now on; the pattern and the kinds it had.

    Raises LedgerError, with the patterns there are, where it has none.
    """
    pattern = pattern.strip().lower()
    rules = in_force(tx, now_ms)
    removed = [rule.kind for rule in rules if rule.pattern == pattern]
    if not removed:
        known = sorted({rule.pattern for rule in rules})
        there_are = f"there are rates for {', '.join(known)}" if known else "no rates are set"
        raise LedgerError(f"no rates for {pattern!r}; {there_are}")
    for kind in removed:
        _append(tx, pattern, kind, None, now_ms, None)
    return pattern, removed


def _read(tx: Connection) -> _Read:
    """The rules that are in force when every line is; read again where lines were added."""
    last = tx.row("SELECT id FROM rates ORDER BY id DESC LIMIT 1")
    last_id = last["id"] if last else 0
    read = _reads.get(tx)
    if read is None or read.last_id != last_id:
        since_ms = tx.value("SELECT coalesce(max(at_ms), 0) FROM rates")
        read = _reads[tx] = _Read(last_id, since_ms, in_force(tx, since_ms), {})
    return read


def _resolve(rules: list[Rule], provider: str, model: str) -> Rates:
    found = best(rules, (model, f"{provider}/{model}"))
    return Rates.of({kind: rule.micro for kind, rule in found.items() if rule.micro is not None})


def _append(tx: Connection, pattern: str, kind: Kind, micro: int | None, now_ms: int, note: str | None) -> None:
    # Lines appear in the order of their ids: who has read up to one has missed none before it.
    tx.lock("rates")
    _reads.pop(tx, None)  # were this rolled back, another line could get its id
    tx.execute(
        "INSERT INTO rates (at_ms, pattern, kind, micro, note) VALUES (:now, :pattern, :kind, :micro, :note)",
        now=now_ms,
        pattern=pattern,
        kind=kind,
        micro=micro,
        note=note,
    )


def _round_up(micro: int, micro_ms: int = 0) -> int:
    """Millionths of a billed token, and thousandths of those, as whole billed tokens."""
    return -(-(micro * 1000 + micro_ms) // (1000 * ONE))


def _rank(rule: Rule) -> tuple[int, int, int, int]:
    stars, marks = rule.pattern.count("*"), rule.pattern.count("?")
    return len(rule.pattern) - stars - marks, -stars, -marks, rule.id


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> re.Pattern[str]:
    # fnmatch knows sets of characters as well; a bracket in a model's name is a bracket.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


@lru_cache(maxsize=4096)
def _decode(text: str | None) -> Rates:
    if text is None:
        return Rates()
    micros = json.loads(text)
    known = isinstance(micros, dict) and micros.keys() <= set(KINDS)
    if not known or not all(type(micro) is int and micro >= 0 for micro in micros.values()):
        raise ValueError(f"{text!r} is not the rates of a reservation")
    return Rates.of(micros)
