"""The texts, filled in: numbers and dates as the language writes them (Babel), links where Markdown is shown.

`catalogue` holds the texts by key. Which there are:

=========================================  ===========================================================================
`tokens_exhausted`, `tokens_none`, …       refusals, by their reason; one line, shown by LibreChat as plain text (HTTP
                                           429 and 402, `Texts.sentence`) or as Markdown (an assistant message,
                                           `Texts.markdown`). `tokens_none` stands in for the first where there never
                                           were any tokens
`ended`                                    ends an answer that was cut off (strict mode); `Texts.sentence`
`notice_threshold`, `notice_exhausted`     below an answer, one line of Markdown in italics: `Texts.notice`
`balance_active`, `…_exhausted`,           the answer to `/saldo`, Markdown, by how the account stands, with the
`…_none`, `…_blocked`, `usage_…`           `usage_…` table in it: `Texts.balance_answer`
`mail_KIND_subject`, `mail_KIND_body`,     e-mails to the person and to the operator, plain text, by KIND: threshold,
`operator_KIND_subject`, `…_body`          exhausted, credited, blocked: `Texts.mail`
`order_subject`                            the subject of a mail that asks for more tokens
`mail_test_subject`, `mail_test_body`      says that messages arrive
`renewal`, `until`, `remains_…`, `buy_…`   parts that the others hold as placeholders
=========================================  ===========================================================================

What stands in for the placeholders:

=====================================  ===============================================================================
`{used}` `{limit}` `{balance}`         exact numbers of tokens; `{balance}` can be below zero, `{left}` cannot
`{left}`
`{remains}`                            what is left as people say it, with its verb: "restam 1,5 milhão de tokens"
`{percent}` `{bar}`                    the used share, rounded down, at most 100; as ten blocks
`{renewal}` `{renewal_it}` `{until}`   sentences and words with the day the period ends; empty without periods
`{reserved}`                           a sentence on what running calls hold; empty where they hold nothing
`{buy}` `{ask}`                        sentences: where more is bought, whom to ask
`{usage_link}`                         a sentence with the address of the usage page; empty where there is none
`{usage}`                              a table of what was used
`{user}` `{email}` `{who}` `{plan}`    whose account; `{who}` is the e-mail, or the id where there is none
`{amount}`                             a number of tokens; in e-mails with its noun: "500.000 tokens"
`{header}` `{detail}`                  what was wrong with a request
`{date}` `{address}` `{url}`           in the parts
`{count}`
=====================================  ===============================================================================

An empty value takes the space before it along; a line of which nothing else is left goes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_compact_decimal, format_decimal

from solaris_meter.chat import catalogue
from solaris_meter.models import Standing
from solaris_meter.periods import to_datetime
from solaris_meter.settings import Purchase, Settings

MailKind = Literal["threshold", "exhausted", "credited", "blocked"]
Audience = Literal["mail", "operator"]
"""Who an e-mail is for: the person, or whoever runs the sidecar."""

SHORT_FROM = 10_000
"""Amounts below are never shortened."""
MODELS_SHOWN = 8
_MILLION = 1_000_000
_BLOCKS = 10
_LONGEST_NAME = 64
_DATE_FORMAT = {"pt-BR": "short", "en": "medium"}
_COMPACT: dict[str, Literal["short", "long"]] = {"pt-BR": "long", "en": "short"}
_PLACE = re.compile(rf"( ?){catalogue.PLACEHOLDER.pattern}")
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&]|(?<![^\W_])_|_(?![^\W_])|:(?=[A-Za-z])")
"""What Markdown, or LibreChat's directives (`:name`), would read. An underscore inside a word is none of it."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What an account used of one model in some time."""

    model: str
    billed_tokens: int
    calls: int


@dataclass(frozen=True, slots=True)
class Mail:
    """The words of an e-mail: the subject is one line, the body plain text."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts in one language, for people who buy at `purchase`.

    `base_url` is the address of the usage page, empty where there is none. `own` holds the operator's texts by key,
    as `catalogue.own_texts` reads them.
    """

    language: str
    purchase: Purchase
    base_url: str = ""
    own: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Texts":
        """As the settings say. Raises SettingsError where `locale.messages` names a file that cannot be used."""
        locale = settings.locale
        own = catalogue.own_texts(Path(locale.messages)) if locale.messages else {}
        return cls(locale.language, settings.purchase, settings.web.base_url, own)

    def sentence(self, name: str, standing: Standing | None, **details: str) -> str:
        """A refusal, by its reason, as plain text. `standing` gives the numbers where there is an account.

        `ended` is Markdown: it stands in an answer.
        """
        if name == "ended":
            return self.markdown(name, standing, **details)
        shown = {key: harmless(value) for key, value in details.items()}
        values = shown | self._places(markdown=False, usage_url="") | {"usage_link": ""}
        if standing is not None:
            values |= self._numbers(standing, markdown=False)
        return self.fill(_variant(name, standing), values)

    def markdown(self, name: str, standing: Standing | None, usage_url: str = "", **details: str) -> str:
        """The same as Markdown, for an assistant's message: with links, also to the usage page (`usage_url`, else
        `base_url`)."""
        shown = {key: _markdown(value) for key, value in details.items()}
        values = shown | self._places(markdown=True, usage_url=usage_url)
        if standing is not None:
            values |= self._numbers(standing, markdown=True)
        return self.fill(_variant(name, standing), values)

    def notice(self, standing: Standing, usage_url: str = "") -> str:
        """What stands below an answer after which a threshold was crossed: one line of Markdown in italics."""
        name = "notice_threshold" if standing.balance > 0 else "notice_exhausted"
        return self.markdown(name, standing, usage_url)

    def balance_answer(
        self, standing: Standing, today: Sequence[ModelUse], period: Sequence[ModelUse], usage_url: str = ""
    ) -> str:
        """The answer to `/saldo`: several lines of Markdown. `today` and `period` are what was used since midnight and
        since the period began, in any order."""
        if standing.status == "blocked":
            name = "balance_blocked"
        elif standing.balance > 0:
            name = "balance_active"
        else:
            name = "balance_none" if _has_nothing(standing) else "balance_exhausted"
        values = self._places(markdown=True, usage_url=usage_url) | self._numbers(standing, markdown=True)
        return self.fill(name, values | {"usage": self._usage(standing, today, period)})

    def mail(
        self,
        kind: MailKind,
        standing: Standing,
        *,
        audience: Audience = "mail",
        amount: int = 0,
        usage_url: str = "",
    ) -> Mail:
        """An e-mail on an account as plain text; `amount` is what was credited."""
        values = self._places(markdown=False, usage_url=usage_url) | self._numbers(standing, markdown=False)
        values["amount"] = self.tokens(amount)
        name = f"{audience}_{kind}"
        return Mail(self.fill(f"{name}_subject", values), self.fill(f"{name}_body", values))

    def text(self, name: str) -> str:
        """A text with its placeholders: the operator's own, else that of the catalogue."""
        return self.own.get(name) or catalogue.load(self.language)[name]

    def fill(self, name: str, values: Mapping[str, str]) -> str:
        """A text with each placeholder replaced by its value; an empty one takes the space before it along."""
        lines = []
        for line in self.text(name).split("\n"):
            filled = _PLACE.sub(lambda found: _put(found, values), line).rstrip()
            if not line.startswith(" "):
                filled = filled.lstrip()
            if filled or not line.strip():
                lines.append(filled)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")

    def number(self, amount: int) -> str:
        """A whole number with the language's separators: 1.000.000."""
        return str(format_decimal(amount, locale=self._locale))

    def short(self, amount: int) -> str:
        """An amount as people say it, 250 mil or 1,5 milhão, with one decimal at most and never rounded up.

        Amounts below 10,000 are exact.
        """
        if -SHORT_FROM < amount < SHORT_FROM:
            return self.number(amount)
        unit = 10 ** ((len(str(abs(amount))) - 1) // 3 * 3)
        rounded = amount * 10 // unit * unit // 10
        kind = _COMPACT[self.language]
        return str(format_compact_decimal(rounded, format_type=kind, locale=self._locale, fraction_digits=1))

    def tokens(self, amount: int) -> str:
        """An exact amount with its noun: 1 token, 500.000 tokens, 2.000.000 de tokens."""
        name = "millions" if amount and amount % _MILLION == 0 else "one" if amount == 1 else "many"
        return self.fill(f"tokens_{name}", {"amount": self.number(amount)})

    def day(self, value: date) -> str:
        """A date as the language writes it."""
        return str(format_date(value, format=_DATE_FORMAT[self.language], locale=self._locale))

    @property
    def _locale(self) -> str:
        return self.language.replace("-", "_")

    def _numbers(self, standing: Standing, *, markdown: bool) -> dict[str, str]:
        """What an account gives to a text."""
        shown = _markdown if markdown else harmless
        email = standing.email and shown(standing.email)
        used_up = standing.balance <= 0 and not _has_nothing(standing)
        percent = 100.0 if used_up else standing.percent_used
        used_blocks = int(percent * _BLOCKS / 100)
        end_ms = standing.period.end_ms
        dates = {"date": self._day_at(end_ms, standing)} if end_ms is not None else {}
        return {
            "user": shown(standing.user),
            "email": email or self.text("no_email"),
            "who": email or shown(standing.user),
            "plan": shown(standing.plan),
            "used": self.number(standing.used),
            "limit": self.number(standing.limit),
            "balance": self.number(standing.balance),
            "left": self.number(max(0, standing.balance)),
            "remains": self._remains(max(0, standing.balance)),
            "percent": str(format_decimal(percent, format="0.#", locale=self._locale)),
            "bar": "▓" * used_blocks + "░" * (_BLOCKS - used_blocks),
            "reserved": self.fill("reserved", {"amount": self.tokens(standing.reserved)}) if standing.reserved else "",
            **{name: self.fill(name, dates) if dates else "" for name in ("renewal", "renewal_it", "until")},
        }

    def _remains(self, left: int) -> str:
        name = "none" if left == 0 else "one" if left == 1 else "millions" if left >= _MILLION else "many"
        return self.fill(f"remains_{name}", {"amount": self.short(left)})

    def _day_at(self, ms: int, standing: Standing) -> str:
        return self.day(to_datetime(ms).astimezone(ZoneInfo(standing.timezone)).date())

    def _places(self, *, markdown: bool, usage_url: str) -> dict[str, str]:
        """Where to buy, whom to ask and where to look, as sentences."""
        email, url = self.purchase.email, self.purchase.url
        buy = "buy_both" if email and url else "buy_email" if email else "buy_url" if url else "buy_nowhere"
        ask = "ask_email" if email else "ask_nowhere"
        page = usage_url or self.base_url
        links = {"address": email and _mail_link(email), "url": url and _link(url)}
        plain = {"address": harmless(email), "url": harmless(url)}
        values = links if markdown else plain
        link = {"url": _target(page) if markdown else harmless(page)}
        return {
            "buy": self.fill(buy, values),
            "ask": self.fill(ask, values),
            "usage_link": self.fill("usage_link_markdown" if markdown else "usage_link_plain", link) if page else "",
        }

    def _usage(self, standing: Standing, today: Iterable[ModelUse], period: Iterable[ModelUse]) -> str:
        """A table: a line per model, the largest of the period first, what is too much for it summed in one line."""
        since = {"date": self._day_at(standing.period.start_ms, standing)}
        columns = [_by_model(today), _by_model(period)]
        names = sorted({*columns[0], *columns[1]}, key=lambda name: (-columns[1].get(name, (0, 0))[0], name))
        if not names:
            return self.fill("usage_none", since)
        shown = names if len(names) <= MODELS_SHOWN else names[: MODELS_SHOWN - 1]
        rest = names[len(shown) :]
        rows = [(self._model(name), [name]) for name in shown]
        if rest:
            rows.append((self.fill("usage_others", {"count": self.number(len(rest))}), rest))
        if len(names) > 1:
            rows.append((f"**{self.fill('usage_total', {})}**", names))
        heads = [self.fill("usage_model", {}), self.fill("usage_today", {}), self.fill("usage_since", since)]
        lines = [[label, *(self._cell(column, members) for column in columns)] for label, members in rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, ["---", "---:", "---:"], *lines])
        return f"{self.fill('usage_heading', {})}\n\n{table}"

    def _model(self, name: str) -> str:
        """A model's name as code: nothing in it (`llama3:8b`, `a_b_c`) is Markdown then."""
        shown = harmless(name)[:_LONGEST_NAME].replace("`", "'").replace("|", "\\|").strip()
        return f"`{shown}`" if shown else self.fill("usage_unnamed", {})

    def _cell(self, column: Mapping[str, tuple[int, int]], names: Sequence[str]) -> str:
        billed, calls = (sum(column.get(name, (0, 0))[index] for name in names) for index in (0, 1))
        return f"{self.number(billed)} ({self.number(calls)})" if calls or billed else "–"


def harmless(value: str) -> str:
    """A foreign value for a text: one line, without the braces and marks that LibreChat or the sidecar would read."""
    one_line = " ".join("".join(" " if catalogue.is_unprintable(each) else each for each in value).split())
    return one_line.replace("{", "(").replace("}", ")")


def _markdown(value: str) -> str:
    """A foreign value that is shown as it is where Markdown is read."""
    return _SPECIAL.sub(r"\\\g<0>", harmless(value))


def _mail_link(email: str) -> str:
    return f"[{_markdown(email)}](mailto:{quote(harmless(email), safe='@+!$&=')})"


def _link(url: str) -> str:
    return f"[{_markdown(url)}]({_target(url)})"


def _target(url: str) -> str:
    """A URL inside the parentheses of a link."""
    return quote(harmless(url), safe="%/:=&?~#+!$,;'@[]*")


def _has_nothing(standing: Standing) -> bool:
    """No tokens, neither used nor owed: nothing was given or bought yet."""
    return standing.used == 0 and standing.balance == 0


def _variant(name: str, standing: Standing | None) -> str:
    """Who never had a token has used up none."""
    never = name == "tokens_exhausted" and standing is not None and _has_nothing(standing)
    return "tokens_none" if never else name


def _by_model(uses: Iterable[ModelUse]) -> dict[str, tuple[int, int]]:
    """Billed tokens and calls by model."""
    found: dict[str, tuple[int, int]] = {}
    for use in uses:
        billed, calls = found.get(use.model, (0, 0))
        found[use.model] = (billed + use.billed_tokens, calls + use.calls)
    return found


def _put(found: re.Match[str], values: Mapping[str, str]) -> str:
    space, name = found.groups()
    return space + values[name] if values[name] else ""
