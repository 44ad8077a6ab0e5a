"""The scenes: what each person asks and sees, what the command line says of it, and whether that is as it should be."""

import json
import re
import textwrap
from dataclasses import dataclass, replace
from typing import Any

from solaris_cli.demo.clients import Person, Question, Reply
from solaris_cli.demo.programs import Failed, Programs
from solaris_cli.demo.upstream import Upstream

MARK = "\u2063"
"""Stands around what the sidecar adds to an answer; nobody sees it."""
_WIDTH = 110
_INDENT = 14
_SUMMARY = Question("Faça um resumo para a diretoria.", "openai", 20_000)


@dataclass(frozen=True, slots=True)
class Scenes:
    """All that the scenes need. `sidecar` is the sidecar's address, `key` what it wants to see."""

    programs: Programs
    upstream: Upstream
    sidecar: str
    key: str
    buy_at: str

    def play(self) -> None:
        """All of them, in order. Raises Failed where something comes otherwise than it should."""
        self._joao()
        self._maria()
        self._carlos()
        self._books()

    def _joao(self) -> None:
        _title("1. joao has used 75 %: nothing changes for him")
        joao = self._person("joao")
        _ask(joao, Question("Resuma este contrato de 900 páginas.", "openai", 700_000, stream=True))
        last = _ask(joao, Question("Quais são os riscos para nós?", "openai", 50_000))
        balance = self._show_balance(joao, last)
        _expect("joao: percent used", balance["percent_used"], 75.0)
        _expect("joao: tokens left", balance["available"], 250_000)
        _expect("joao: alerts", balance["alerts"], [])

    def _maria(self) -> None:
        _title("2. maria goes from 79 % to 85 %: the answer that crosses 80 % tells her")
        maria = self._person("maria")
        _ask(maria, Question("Traduza este livro para o inglês.", "anthropic", 790_000, stream=True))
        _expect("maria: alerts at 79 %", self._read("balance", maria.name)["alerts"], [])
        told = _ask(maria, Question("Agora escreva o texto da contracapa.", "anthropic", 60_000, stream=True))
        for words in ("85 %", "restam 150 mil tokens", self.buy_at):
            _expect(f"maria: is told {words!r}", words in told.text, True)
        self._wait_for_settlement()
        before = self.upstream.requests
        last = _ask(maria, Question("/saldo", "openai", 0))
        _expect("maria: requests sent upstream for /saldo", self.upstream.requests, before)
        balance = self._show_balance(maria, last)
        _expect("maria: percent used", balance["percent_used"], 85.0)
        _expect("maria: alerts", [alert["threshold"] for alert in balance["alerts"]], [80])

    def _carlos(self) -> None:
        _title("3. carlos uses up everything, is refused, buys more and goes on")
        carlos = self._person("carlos")
        _ask(carlos, Question("Analise três anos de vendas.", "openai", 400_000, stream=True))
        last = _ask(carlos, Question("Compare com os concorrentes.", "anthropic", 600_000))
        _expect("carlos: percent used", self._show_balance(carlos, last)["percent_used"], 100.0)
        self._refuse(carlos)
        self._show("credit", "carlos", "500K", "--paid", "49.90", "--reference", "demo-pix-1")
        last = _ask(carlos, _SUMMARY)
        _expect("carlos: tokens left of the credit", self._show_balance(carlos, last)["available"], 480_000)

    def _refuse(self, carlos: Person) -> None:
        """Streamed or not, in either dialect: refused at once, not sent again, and not sent upstream."""
        before = self.upstream.requests
        for question in (replace(_SUMMARY, stream=True), replace(_SUMMARY, provider="anthropic")):
            reply = _ask(carlos, question, status=429)
            _expect("carlos: reason of the refusal", reply.headers.get("x-solaris-denied"), "tokens_exhausted")
            _expect("carlos: times the SDK sent a refused request", reply.attempts, 1)
            _expect("carlos: is told where to buy", self.buy_at in reply.text, True)
        _expect("carlos: requests sent upstream", self.upstream.requests, before)
        _say("upstream", f"{before} requests before these two, {self.upstream.requests} after them; none was retried")
        print()

    def _books(self) -> None:
        _title("What the operator sees")
        self._show("balance")
        self._show("usage", "--by", "user")
        self._show("ledger", "check")
        _expect("ledger check", self._read("ledger", "check")["ok"], True)
        _expect("requests sent upstream", self.upstream.requests, 7)
        _expect("requests upstream that said who calls", self.upstream.identified, 0)
        _expect("bases of the counts", {call["basis"] for call in self._read("usage", "--events")}, {"reported"})

    def _wait_for_settlement(self) -> None:
        """A client goes on at the last event, a moment before the end of the answer."""
        for _ in range(50):
            if not self._read("ledger", "holds"):
                return
        raise Failed("an answer is over, and its reservation is held")

    def _person(self, name: str) -> Person:
        return Person(name, self.sidecar, self.key)

    def _show_balance(self, person: Person, last: Reply) -> Any:
        """What is left, by the last reply's header and by the command line; the balance."""
        header = last.headers["ratelimit"]
        found = re.search(r";r=(\d+)", header)
        left = int(found[1]) if found else -1
        _say(f"{person.name} has", f"{_short(left)} tokens restantes (RateLimit: {header})")
        print()
        self._show("balance", person.name)
        balance = self._read("balance", person.name)
        _expect(f"{person.name}: tokens left by the header", left, balance["available"])
        return balance

    def _show(self, *arguments: str) -> None:
        print(f"$ solaris-cli {' '.join(arguments)}")
        print(textwrap.indent(self.programs.cli(*arguments), "  "), flush=True)

    def _read(self, *arguments: str) -> Any:
        return json.loads(self.programs.cli(*arguments, "--json"))


def _ask(person: Person, question: Question, *, status: int = 200) -> Reply:
    how = f"{question.provider}{', streamed' if question.stream else ''}: {question.cost:,} tokens"
    _say(f"{person.name} asks", f"{question.text} ({how})")
    reply = person.ask(question)
    refused = reply.headers.get("x-solaris-denied")
    why = f" (HTTP {reply.status} {refused}, as LibreChat v0.8.7 shows it)" if refused else ""
    _say(f"{person.name} sees", " ".join(reply.text.replace(MARK, "").split()) + why)
    _expect(f"{person.name}: HTTP status", reply.status, status)
    return reply


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}\n")


def _say(who: str, what: str) -> None:
    """One line of a scene, broken where it is long."""
    print(textwrap.fill(what, _WIDTH, initial_indent=who.ljust(_INDENT), subsequent_indent=" " * _INDENT), flush=True)


def _short(tokens: int) -> str:
    """An amount as people say it: 250K."""
    return f"{tokens // 1000:,}K" if tokens and tokens % 1000 == 0 else f"{tokens:,}"


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Failed(f"{what}: {found!r}, and it should be {wanted!r}")
