"""The texts, in Portuguese and beside it in English, with numbers and dates as each language writes them (Babel).

They avoid what LibreChat takes for something else: braces, waiting times ("try again in 20 seconds") and the phrases of
an overlong context.
"""

from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_decimal

from solaris_meter.models import Standing
from solaris_meter.periods import to_datetime
from solaris_meter.settings import Purchase

_TEXTS: dict[str, dict[str, str]] = {
    "pt-BR": {
        "tokens_exhausted": "Seus tokens acabaram: você usou {used} de {limit} e o saldo é {balance}.{renewal} {buy}",
        "tokens_reserved": "Suas respostas em andamento reservam os {balance} tokens que restam; envie de novo quando "
        "elas terminarem.{renewal} {buy}",
        "account_blocked": "Sua conta está bloqueada, e os seus tokens ficam guardados. {ask}",
        "account_unknown": "Ainda não existe uma conta de tokens para você. {ask}",
        "identity_missing": "Este pedido não diz de quem é, por isso não foi enviado ao modelo. Avise o administrador: "
        "falta o cabeçalho {header} no LibreChat.",
        "identity_refused": "A identificação deste pedido foi recusada, por isso ele não foi enviado ao modelo. Avise "
        "o administrador: {detail}.",
        "ledger_unavailable": "O controle de tokens está fora do ar, por isso o pedido não foi enviado ao modelo e "
        "nada foi cobrado. Avise o administrador se isso continuar.",
        "internal_error": "O medidor de tokens falhou, por isso o pedido não foi atendido. Avise o "
        "administrador se isso continuar.",
        "body_unreadable": "O pedido não pôde ser lido ({detail}), por isso não foi enviado ao modelo e nada foi "
        "cobrado.",
        "endpoint_denied": "O endereço {detail} não é medido e está bloqueado pelo administrador.",
        "ended": "*Seus tokens acabaram e a resposta foi encerrada aqui.{renewal} {buy_link}*",
        "renewal": " Ele se renova em {date}.",
        "buy_both": "Para comprar mais, escreva para {email} ou acesse {url}",
        "buy_email": "Para comprar mais, escreva para {email}",
        "buy_url": "Para comprar mais, acesse {url}",
        "buy_nowhere": "Para comprar mais, fale com o administrador",
        "ask_email": "Escreva para {email}",
        "ask_nowhere": "Fale com o administrador",
    },
    "en": {
        "tokens_exhausted": "Your tokens are used up: you used {used} of {limit} and the balance is {balance}."
        "{renewal} {buy}",
        "tokens_reserved": "Your running answers hold the {balance} tokens that are left; send this again when they "
        "have ended.{renewal} {buy}",
        "account_blocked": "Your account is blocked, and your tokens are kept. {ask}",
        "account_unknown": "There is no token account for you yet. {ask}",
        "identity_missing": "This request does not say whose it is, so it was not sent to the model. Tell the "
        "administrator: the header {header} is missing in LibreChat.",
        "identity_refused": "The identification of this request was refused, so it was not sent to the model. Tell the "
        "administrator: {detail}.",
        "ledger_unavailable": "The token ledger is down, so the request was not sent to the model and nothing was "
        "charged. Tell the administrator if this goes on.",
        "internal_error": "The token meter failed, so the request was not served. Tell the "
        "administrator if this goes on.",
        "body_unreadable": "The request cannot be read ({detail}), so it was not sent to the model and nothing was "
        "charged.",
        "endpoint_denied": "The address {detail} is not metered and the administrator has closed it.",
        "ended": "*Your tokens are used up and the answer was ended here.{renewal} {buy_link}*",
        "renewal": " It renews on {date}.",
        "buy_both": "To buy more, write to {email} or go to {url}",
        "buy_email": "To buy more, write to {email}",
        "buy_url": "To buy more, go to {url}",
        "buy_nowhere": "To buy more, ask your administrator",
        "ask_email": "Write to {email}",
        "ask_nowhere": "Ask your administrator",
    },
}
_DATE_FORMAT = {"pt-BR": "short", "en": "medium"}


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts in one language, for people who buy at `purchase`."""

    language: str
    purchase: Purchase

    def sentence(self, name: str, standing: Standing | None, **details: str) -> str:
        """One text, filled in. `standing` gives the numbers where there is an account."""
        texts = _TEXTS[self.language]
        values = details | {"buy": self._buy(markdown=False), "buy_link": self._buy(markdown=True), "ask": self._ask()}
        if standing is not None:
            renews = self._renewal(standing)
            values |= {
                "used": self.number(standing.used),
                "limit": self.number(standing.limit),
                "balance": self.number(standing.balance),
                "renewal": texts["renewal"].format(date=renews) if renews else "",
            }
        return texts[name].format(**values)

    def number(self, amount: int) -> str:
        """A whole number with the language's separators."""
        return str(format_decimal(amount, locale=self._locale))

    def day(self, value: date) -> str:
        """A date as the language writes it."""
        return str(format_date(value, format=_DATE_FORMAT[self.language], locale=self._locale))

    @property
    def _locale(self) -> str:
        return self.language.replace("-", "_")

    def _renewal(self, standing: Standing) -> str:
        end_ms = standing.period.end_ms
        return self.day(to_datetime(end_ms).astimezone(ZoneInfo(standing.timezone)).date()) if end_ms else ""

    def _buy(self, *, markdown: bool) -> str:
        email, url = self.purchase.email, self.purchase.url
        name = "buy_both" if email and url else "buy_email" if email else "buy_url" if url else "buy_nowhere"
        if markdown:
            email, url = email and f"[{email}](mailto:{email})", url and f"[{url}]({url})"
        return _TEXTS[self.language][name].format(email=email, url=url) + "."

    def _ask(self) -> str:
        name = "ask_email" if self.purchase.email else "ask_nowhere"
        return _TEXTS[self.language][name].format(email=self.purchase.email) + "."
