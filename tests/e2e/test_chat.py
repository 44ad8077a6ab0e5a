"""What the sidecar says in a chat: notices in answers, the answer to `/saldo`, refusals as an assistant's message; and
that none of it reaches a model later."""

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anthropic
import httpx
import openai
import pytest
from click.testing import CliRunner
from google import genai
from google.genai import types
from tests.e2e.providers import ProviderUpstream
from tests.e2e.sidecar import Sidecar, free_port
from tests.e2e.upstream import WORD, Upstream
from tests.e2e.wire.answers import WHOLE_TEXT, Bill
from tests.e2e.wire.anthropic import STREAM
from tests.e2e.wire.google import STREAMED
from tests.e2e.wire.openai import CHAT, RESPONSE

from solaris_cli.main import main

MARK = "\u2063" * 3
LIMIT = 1_000_000
BUY = (
    "Para comprar mais, escreva para [vendas@example.com](mailto:vendas@example.com)"
    " ou acesse [https://loja.example.com](https://loja.example.com)."
)
MESSAGES: Any = [{"role": "user", "content": "Há café?"}]
_NO_SETTINGS: dict[str, str | None] = {name: None for name in os.environ if name.startswith("SOLARIS_")}


def _first_of_next_month() -> str:
    now = datetime.now(UTC).astimezone(ZoneInfo("America/Sao_Paulo"))
    return f"01/{now.month % 12 + 1:02}/{now.year + now.month // 12}"


def _notice(line: str) -> str:
    return f"{MARK}\n\n---\n*{line}*\n{MARK}"


def _is_notice(text: str) -> bool:
    return re.fullmatch(re.escape(_notice("@")).replace("@", r"[^*\n]*"), text) is not None


@dataclass
class House:
    """A sidecar before all providers (by their names) and a scripted one (`scripted`)."""

    sidecar: Sidecar
    providers: ProviderUpstream
    scripted: Upstream

    def cli(self, *arguments: str) -> Any:
        """In this process: starting the program takes longer than the rest of a test."""
        result = CliRunner(env=_NO_SETTINGS).invoke(main, ["--config", str(self.sidecar.config), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def give(self, user: str, tokens: int) -> None:
        """An account that holds exactly so many tokens."""
        self.cli("users", "add", user, "--plan", "prepago")
        self.cli("credit", user, str(tokens))

    def events(self, user: str) -> list[dict[str, Any]]:
        """What a person was charged for, once nothing of theirs runs any more."""
        for _ in range(250):
            if not [hold for hold in self.cli("ledger", "holds") if hold["user"] == user]:
                return [event for event in self.cli("usage", "--events") if event["user"] == user]
        raise AssertionError("a call does not end")

    def post(self, path: str, body: Any, user: str) -> httpx.Response:
        return httpx.post(
            self.sidecar.url(path), headers=self.sidecar.headers(user), json=body, timeout=30, trust_env=False
        )

    def ask(self, user: str, read: int, words: int = 2, **more: Any) -> str:
        """What a streamed chat says whose answer costs so many tokens; `script` and `body` say more about it."""
        script = {"input": read - words, "words": words} | more.pop("script", {})
        body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True, "script": script} | more
        answer = self.post("scripted/v1/chat/completions", body, user)
        assert answer.status_code == 200, answer.text
        return _chat_text(_sse(answer.text)) if body["stream"] else answer.json()["choices"][0]["message"]["content"]

    def openai(self, user: str) -> openai.OpenAI:
        return openai.OpenAI(
            api_key="k",
            base_url=self.sidecar.url("openai/v1"),
            max_retries=0,
            default_headers=self.sidecar.headers(user),
        )

    def anthropic(self, user: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            api_key="k",
            base_url=self.sidecar.url("anthropic"),
            max_retries=0,
            default_headers=self.sidecar.headers(user),
        )

    def google(self, user: str) -> genai.Client:
        options = types.HttpOptions(
            base_url=self.sidecar.url("google"),
            headers=self.sidecar.headers(user),
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        return genai.Client(api_key="k", http_options=options)

    def reached(self) -> list[Any]:
        """The bodies of the requests that reached any provider."""
        return [arrival.body for arrival in [*self.providers.requests, *self.scripted.requests]]

    def forget(self) -> None:
        self.providers.requests.clear()
        self.scripted.requests.clear()


def _opened(folder: Path, providers: ProviderUpstream, scripted: Upstream, extra: str = "") -> House:
    routes = providers.routes() | {"scripted": scripted.url}
    more = f'url = "https://loja.example.com"\n{extra}'
    house = House(Sidecar(folder, providers.url, more, routes=routes), providers, scripted)
    house.cli("plans", "set", "basico", "--tokens", str(LIMIT), "--period", "month")
    house.cli("plans", "set", "prepago", "--tokens", "0", "--period", "none")
    house.sidecar.start()
    return house


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory, shared_providers: ProviderUpstream, shared_upstream: Upstream
) -> Iterator[House]:
    house = _opened(tmp_path_factory.mktemp("chat"), shared_providers, shared_upstream)
    try:
        yield house
        house.sidecar.no_holds()
        house.sidecar.check()
    finally:
        house.sidecar.kill()


@pytest.fixture
def house(opened: House) -> House:
    opened.forget()
    return opened


@pytest.fixture(scope="module")
def opened_speaking(
    tmp_path_factory: pytest.TempPathFactory, shared_providers: ProviderUpstream, shared_upstream: Upstream
) -> Iterator[House]:
    mode = '[denial]\nmode = "assistant_message"\n'
    house = _opened(tmp_path_factory.mktemp("speaking"), shared_providers, shared_upstream, mode)
    try:
        yield house
        house.sidecar.no_holds()
        house.sidecar.check()
    finally:
        house.sidecar.kill()


@pytest.fixture
def speaking(opened_speaking: House) -> House:
    """A sidecar that refuses as an assistant; `bia` is blocked, `caio` has used up 1,000 tokens."""
    if not opened_speaking.cli("users", "list"):
        opened_speaking.give("bia", 1000)
        opened_speaking.cli("users", "block", "bia")
        opened_speaking.give("caio", 1000)
        opened_speaking.ask("caio", 1000)
        opened_speaking.events("caio")
    opened_speaking.forget()
    return opened_speaking


# ---------------------------------------------------------------------------------------------------- wire formats


def _sse(text: str) -> list[Any]:
    data = [line[len("data:") :].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(item) for item in data if item != "[DONE]"]


def _chat_text(events: list[Any]) -> str:
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def _google_text(chunks: list[Any]) -> str:
    return "".join(part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"])


def _said_by_responses(body: Any) -> str:
    return "".join(part["text"] for item in body["output"] for part in item.get("content", []))


@dataclass(frozen=True)
class Wire:
    """A chat in one wire format. `turns` makes its history of roles and texts, or lists of texts (parts)."""

    plain: str
    streamed: str
    body: Callable[[list[Any]], Any]
    text: Callable[[Any], str]
    streamed_text: Callable[[str], str]
    parts: bool = True
    switch: bool = True

    def request(self, turns: list[tuple[str, Any]], stream: bool) -> Any:
        return self.body([*turns]) | ({"stream": stream} if self.switch else {})


def _messages(kind: dict[str, str] | None = None, **more: Any) -> Callable[[list[Any]], Any]:
    def body(turns: list[Any]) -> Any:
        def content(role: str, text: Any) -> Any:
            named = {"type": kind.get(role, "text") if kind else "text"}
            return [named | {"text": one} for one in text] if isinstance(text, list) else text

        return more | {"messages": [{"role": role, "content": content(role, text)} for role, text in turns]}

    return body


def _responses(turns: list[Any]) -> Any:
    body = _messages({"user": "input_text", "assistant": "output_text"}, model="gpt-5")(turns)
    return {"model": "gpt-5", "input": body["messages"]}


def _google(turns: list[Any]) -> Any:
    def content(role: str, text: Any) -> Any:
        parts = [{"text": one} for one in (text if isinstance(text, list) else [text])]
        return {"role": "model" if role == "assistant" else "user", "parts": parts}

    return {"contents": [content(role, text) for role, text in turns]}


_GEMINI = "google/v1beta/models/gemini-2.5-pro"
WIRES = {
    "openai-chat": Wire(
        "openai/v1/chat/completions",
        "openai/v1/chat/completions",
        _messages(model="gpt-5-mini"),
        lambda body: body["choices"][0]["message"]["content"],
        lambda text: _chat_text(_sse(text)),
    ),
    "openai-responses": Wire(
        "openai/v1/responses",
        "openai/v1/responses",
        _responses,
        _said_by_responses,
        lambda text: "".join(event["delta"] for event in _sse(text) if event["type"] == "response.output_text.delta"),
    ),
    "anthropic": Wire(
        "anthropic/v1/messages",
        "anthropic/v1/messages",
        _messages(model="claude-sonnet-4-6", max_tokens=100),
        lambda body: "".join(block.get("text", "") for block in body["content"]),
        lambda text: "".join(
            event["delta"].get("text", "") for event in _sse(text) if event["type"] == "content_block_delta"
        ),
    ),
    "google-sse": Wire(
        f"{_GEMINI}:generateContent",
        f"{_GEMINI}:streamGenerateContent?alt=sse",
        _google,
        lambda body: _google_text([body]),
        lambda text: _google_text(_sse(text)),
        switch=False,
    ),
    "google-array": Wire(
        f"{_GEMINI}:generateContent",
        f"{_GEMINI}:streamGenerateContent",
        _google,
        lambda body: _google_text([body]),
        lambda text: _google_text(json.loads(text)),
        switch=False,
    ),
    "cohere": Wire(
        "cohere/v2/chat",
        "cohere/v2/chat",
        _messages(model="command-a-03-2025"),
        lambda body: "".join(part["text"] for part in body["message"]["content"]),
        lambda text: "".join(
            event["delta"]["message"]["content"]["text"] for event in _sse(text) if event["type"] == "content-delta"
        ),
    ),
    "ollama": Wire(
        "ollama/api/chat",
        "ollama/api/chat",
        _messages(model="llama3.2"),
        lambda body: body["message"]["content"],
        lambda text: "".join(json.loads(line)["message"]["content"] for line in text.splitlines() if line.strip()),
        parts=False,
    ),
}


def _say(house: House, wire: Wire, turns: list[tuple[str, Any]], user: str, *, stream: bool) -> str:
    answer = house.post(wire.streamed if stream else wire.plain, wire.request(turns, stream), user)
    assert answer.status_code == 200, answer.text
    return wire.streamed_text(answer.text) if stream else wire.text(answer.json())


# --------------------------------------------------------------------------------------------------------- notices


def test_a_person_is_told_once_at_80_percent_and_once_at_the_end(house: House) -> None:
    assert house.ask("rosa", 750_000) == WORD * 2
    assert house.ask("rosa", 40_000) == WORD * 2
    date = _first_of_next_month()
    warned = f"Você usou 85 % dos seus tokens; restam 150 mil tokens até {date}. {BUY}"
    assert house.ask("rosa", 60_000) == WORD * 2 + _notice(warned)
    assert house.ask("rosa", 1000) == WORD * 2
    last = f"Seus tokens acabaram: esta foi a última resposta até {date}. {BUY}"
    assert house.ask("rosa", 149_000) == WORD * 2 + _notice(last)
    assert [event["billed_tokens"] for event in house.events("rosa")] == [750_000, 40_000, 60_000, 1000, 149_000]
    refused = house.post("scripted/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}, "rosa")
    assert refused.headers["x-solaris-denied"] == "tokens_exhausted"


def test_the_threshold_between_has_its_own_notice(house: House) -> None:
    house.give("davi", 1000)
    assert "81 %" in house.ask("davi", 810)
    assert house.ask("davi", 100) == WORD * 2
    assert "95 %" in house.ask("davi", 40)
    assert house.ask("davi", 10) == WORD * 2


def test_new_tokens_do_not_repeat_a_notice(house: House) -> None:
    assert "82 %" in house.ask("enzo", 820_000)
    house.cli("credit", "enzo", str(LIMIT))
    assert house.ask("enzo", 800_000) == WORD * 2
    assert "95 %" in house.ask("enzo", 280_000)


@pytest.mark.parametrize(
    "more",
    [
        {"stream": False},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
        {"tools": [{"type": "function", "function": {"name": "set_memory", "parameters": {"type": "object"}}}]},
        {"tools": [{"type": "function", "function": {"name": "delete_memory", "parameters": {"type": "object"}}}]},
        {"n": 2},
        {"script": {"finish": "tool_calls"}},
        {"script": {"finish": "length"}},
        {"script": {"finish": "content_filter"}},
    ],
    ids=lambda more: re.sub(r"\W+", "-", json.dumps(more))[1:50],
)
def test_what_cannot_carry_a_notice_leaves_it_to_the_next_answer(
    house: House, more: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    user = request.node.callspec.id
    house.give(user, 1000)
    assert house.ask(user, 850, **more) == WORD * 2
    text = house.ask(user, 10)
    assert text.startswith(WORD * 2)
    assert _is_notice(text.removeprefix(WORD * 2))
    assert "86 %" in text


def _pays(house: House, user: str, bill: Bill) -> None:
    """There is one event, of what the provider reported: a notice costs nothing."""
    [event] = house.events(user)
    expected = bill.event | {"billed_tokens": bill.input + bill.output, "basis": "reported", "interrupted": False}
    assert {name: event[name] for name in expected} == expected


def _give_85_percent(house: House, user: str, bill: Bill) -> None:
    house.give(user, (bill.input + bill.output) * 100 // 85)


def _ends_with_a_notice(text: str) -> None:
    assert text.startswith(WHOLE_TEXT)
    assert _is_notice(text.removeprefix(WHOLE_TEXT)), text
    assert re.search(r"usou 85(,\d)? % dos", text)


@pytest.mark.parametrize("asks", [True, False])
def test_the_openai_sdk_reads_a_chat_with_a_notice(house: House, asks: bool) -> None:
    user = f"chat-{asks}"
    _give_85_percent(house, user, CHAT)
    options: Any = {"stream_options": {"include_usage": True}} if asks else {}
    with (
        house.openai(user) as sdk,
        sdk.chat.completions.stream(model="gpt-5-mini", messages=MESSAGES, **options) as stream,
    ):
        events = list(stream)
        final = stream.get_final_completion()
    text = "".join(event.delta for event in events if event.type == "content.delta")
    _ends_with_a_notice(text)
    assert final.choices[0].message.content == text
    assert final.choices[0].finish_reason == "stop"
    chunks = [event.chunk for event in events if event.type == "chunk"]
    assert [chunk.usage.to_dict() for chunk in chunks if chunk.usage] == ([CHAT.wire] if asks else [])
    assert all(chunk.choices for chunk in chunks[: len(chunks) - asks])
    _pays(house, user, CHAT)


def test_the_openai_sdk_reads_a_response_with_a_notice(house: House) -> None:
    _give_85_percent(house, "resp", RESPONSE)
    with house.openai("resp") as sdk, sdk.responses.stream(model="gpt-5", input="Há café?") as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    _ends_with_a_notice(text)
    assert final.output_text == text
    assert [item.type for item in final.output] == ["reasoning", "message", "message"]
    assert final.usage is not None
    assert final.usage.to_dict() == RESPONSE.wire
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    _pays(house, "resp", RESPONSE)


def test_the_anthropic_sdk_reads_a_message_with_a_notice(house: House) -> None:
    _give_85_percent(house, "msg", STREAM)
    with (
        house.anthropic("msg") as sdk,
        sdk.messages.stream(model="claude-sonnet-4-6", max_tokens=2000, messages=MESSAGES) as stream,
    ):
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    _ends_with_a_notice(text)
    assert [block.type for block in final.content] == ["thinking", "text", "text"]
    assert "".join(block.text for block in final.content if block.type == "text") == text
    assert final.stop_reason == "end_turn"
    reported = (final.usage.input_tokens, final.usage.output_tokens)
    assert reported == (STREAM.wire["input_tokens"], STREAM.wire["output_tokens"])
    _pays(house, "msg", STREAM)


def test_the_google_sdk_reads_content_with_a_notice(house: House) -> None:
    _give_85_percent(house, "gem", STREAMED)
    sdk = house.google("gem")
    chunks = list(sdk.models.generate_content_stream(model="gemini-2.5-pro", contents="Há café?"))
    sdk.close()
    _ends_with_a_notice("".join(chunk.text or "" for chunk in chunks))
    assert [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates][-1] == "STOP"
    usage = chunks[-1].usage_metadata
    assert usage is not None
    assert usage.model_dump(exclude_none=True, by_alias=True) == types.GenerateContentResponseUsageMetadata(
        **STREAMED.wire
    ).model_dump(exclude_none=True, by_alias=True)
    _pays(house, "gem", STREAMED)


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses", "anthropic", "google-sse", "google-array"])
def test_a_notice_is_the_end_of_what_an_ordinary_client_reads(house: House, name: str) -> None:
    bills = {"openai-chat": CHAT, "openai-responses": RESPONSE, "anthropic": STREAM}
    bill = bills.get(name, STREAMED)
    user = f"raw-{name}"
    _give_85_percent(house, user, bill)
    _ends_with_a_notice(_say(house, WIRES[name], [("user", "Há café?")], user, stream=True))
    _pays(house, user, bill)


def test_of_many_answers_at_once_through_two_processes_one_carries_the_notice(house: House) -> None:
    second = copy(house.sidecar)
    second.port = free_port()
    second.start()
    both = (house, House(second, house.providers, house.scripted))
    try:
        assert house.ask("gil", 700_000) == WORD * 2
        with ThreadPoolExecutor(20) as threads:
            asked = [
                threads.submit(both[number % 2].ask, "gil", 10_000, script={"wait_s": 0.3 + 0.05 * number})
                for number in range(20)
            ]
            texts = [one.result() for one in asked]
        texts += [house.ask("gil", 10_000), both[1].ask("gil", 10_000)]
    finally:
        second.stop()
    told = [text.removeprefix(WORD * 2) for text in texts if text != WORD * 2]
    assert len(told) == 1, told
    assert _is_notice(told[0])
    assert sum(event["billed_tokens"] for event in house.events("gil")) == 920_000


def test_answers_that_end_together_leave_the_notice_to_a_later_one_at_most(house: House) -> None:
    house.ask("ines", 700_000)
    with ThreadPoolExecutor(10) as threads:
        script = {"wait_s": 0.3}
        texts = list(threads.map(lambda _: house.ask("ines", 15_000, script=script), range(10)))
    texts.append(house.ask("ines", 1000))
    assert len([text for text in texts if _is_notice(text.removeprefix(WORD * 2))]) == 1


# ---------------------------------------------------------------------------------------------------------- /saldo


@pytest.fixture(scope="module")
def standings(opened: House) -> dict[str, str]:
    """Somebody in each state."""
    opened.give("ativa", 1000)
    opened.ask("ativa", 250)
    opened.give("esgotada", 1000)
    opened.ask("esgotada", 1100)
    opened.give("bloqueada", 1000)
    opened.cli("users", "block", "bloqueada")
    for user in ("ativa", "esgotada"):
        opened.events(user)
    return {
        "ativa": "25 % usados: **restam 750 tokens**",
        "esgotada": "**Seus tokens acabaram** (plano prepago)",
        "bloqueada": "**Sua conta está bloqueada** (plano prepago)",
    }


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("user", ["ativa", "esgotada", "bloqueada"])
def test_who_asks_for_the_balance_gets_it_and_pays_nothing(
    house: House, standings: dict[str, str], user: str, name: str, stream: bool
) -> None:
    wire = WIRES[name]
    before = house.cli("balance", user)
    text = _say(house, wire, [("user", "/saldo")], user, stream=stream)
    assert text.startswith(MARK)
    assert text.endswith(f"\n{MARK}")
    assert text.count(MARK) == 2
    assert standings[user] in text
    assert house.reached() == []
    assert house.cli("balance", user) == before


def test_the_balance_leaves_neither_events_nor_holds(house: House, standings: dict[str, str]) -> None:
    before = house.cli("usage", "--events")
    answer = house.post(
        "scripted/v1/chat/completions", WIRES["openai-chat"].request([("user", "!saldo")], True), "ativa"
    )
    assert answer.headers["ratelimit"] == '"tokens";r=750'
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert house.cli("usage", "--events") == before
    assert house.cli("ledger", "holds") == []


def test_the_answer_to_the_balance_is_exactly_this(house: House) -> None:
    house.ask("exata", 123_456)
    house.events("exata")
    today = datetime.now(UTC).astimezone(ZoneInfo("America/Sao_Paulo"))
    assert _say(house, WIRES["openai-chat"], [("user", " /balance\n")], "exata", stream=False) == (
        f"{MARK}**Seu saldo de tokens** (plano basico)\n\n"
        "▓░░░░░░░░░ 12,3 % usados: **restam 876,5 mil tokens**\n\n"
        f"Você usou 123.456 de 1.000.000; o saldo é 876.544. O saldo se renova em {_first_of_next_month()}.\n\n"
        "Seu consumo por modelo, em tokens (e em chamadas):\n\n"
        f"| Modelo | Hoje | Desde 01/{today.month:02}/{today.year} |\n| --- | ---: | ---: |\n"
        f"| `gpt-4o` | 123.456 (1) | 123.456 (1) |\n\n{BUY}\n{MARK}"
    )


@pytest.mark.parametrize("name", [name for name, wire in WIRES.items() if wire.parts])
def test_a_command_in_parts_is_a_command(house: House, standings: dict[str, str], name: str) -> None:
    text = _say(
        house, WIRES[name], [("user", "Oi"), ("assistant", ["Olá!"]), ("user", ["/saldo"])], "ativa", stream=True
    )
    assert standings["ativa"] in text
    assert house.reached() == []


@pytest.mark.parametrize("text", ["Qual é o meu /saldo?", "/saldo agora", "saldo", "/saldos"])
def test_a_longer_text_is_a_question(house: House, text: str) -> None:
    turns = [("user", text)]
    assert _say(house, WIRES["openai-chat"], turns, f"longa-{text.encode().hex()}", stream=True) == WHOLE_TEXT
    [body] = house.reached()
    assert body["messages"] == [{"role": "user", "content": text}]


def test_a_command_that_is_not_the_last_turn_is_part_of_the_question(house: House) -> None:
    turns = [("user", "/saldo"), ("assistant", "Não sei."), ("user", "Por quê?")]
    assert _say(house, WIRES["openai-chat"], turns, "hugo", stream=True) == WHOLE_TEXT
    [body] = house.reached()
    assert [turn["content"] for turn in body["messages"]] == ["/saldo", "Não sei.", "Por quê?"]


# ------------------------------------------------------------------------------------------------------- the history

OURS = _notice("Você usou 85 % dos seus tokens.")
CHANGED = f"{MARK}\n---\n\n  *Você usou  85 % dos seus tokens.*{MARK}"
ANSWER = f"{MARK}**Seu saldo de tokens**\n\n| a | b |\n{MARK}"
QUOTED = f"cite: {MARK}isto{MARK}"


@pytest.mark.parametrize(
    ("name", "as_parts"), [(name, as_parts) for name in WIRES for as_parts in {False, WIRES[name].parts}]
)
def test_the_model_reads_nothing_of_what_the_sidecar_said(house: House, name: str, as_parts: bool) -> None:
    wire = WIRES[name]

    def several(*texts: str) -> Any:
        return list(texts) if as_parts else "".join(texts)

    spoken = [
        ("user", several("Há café?")),
        ("assistant", several("Há.", OURS)),
        ("user", several("/saldo")),
        ("assistant", several(ANSWER)),
        ("user", several(QUOTED)),
        ("assistant", several("Citei.", CHANGED)),
        ("user", several("E chá?")),
        ("assistant", several(f"{MARK}Seus tokens acabaram.\n{MARK}")),
        ("user", several("E agora?")),
    ]
    left = [
        ("user", several("Há café?")),
        ("assistant", several("Há.")),
        ("user", several(QUOTED)),
        ("assistant", several("Citei.")),
        ("user", several("E chá?")),
        ("user", several("E agora?")),
    ]
    for stream in (True, False):
        house.forget()
        assert _say(house, wire, spoken, f"scrub-{name}-{as_parts}", stream=stream) == WHOLE_TEXT
        [body] = house.reached()
        assert {key: value for key, value in body.items() if key != "stream_options"} == wire.request(left, stream)


def test_a_command_after_a_notice_is_still_a_command(house: House, standings: dict[str, str]) -> None:
    turns = [("user", "Oi"), ("assistant", f"Olá!{OURS}"), ("user", "/saldo")]
    assert standings["ativa"] in _say(house, WIRES["openai-chat"], turns, "ativa", stream=True)


def test_what_a_sidecar_says_it_takes_out_again(house: House) -> None:
    """The real texts, as LibreChat keeps them and sends them back."""
    house.give("ida", 1000)
    turns = [("user", "/saldo")]
    told = _say(house, WIRES["openai-chat"], turns, "ida", stream=True)
    warned = house.ask("ida", 850)
    assert MARK in warned
    house.forget()
    history = [*turns, ("assistant", told), ("user", "Oi"), ("assistant", warned), ("user", "E?")]
    messages = _messages()(history)["messages"]
    house.ask("ida", 10, messages=messages)
    [body] = house.reached()
    assert body["messages"] == _messages()([("user", "Oi"), ("assistant", WORD * 2), ("user", "E?")])["messages"]


# --------------------------------------------------------------------------------------- refusals by the assistant

REFUSALS = {
    "bia": ("account_blocked", "Sua conta está bloqueada, e os seus tokens ficam guardados."),
    "caio": ("tokens_exhausted", "Seus tokens acabaram: você usou 1.000 de 1.000 e o saldo é 0."),
}


@pytest.mark.parametrize("user", REFUSALS)
@pytest.mark.parametrize("name", WIRES)
def test_a_streamed_chat_is_refused_by_the_assistant(speaking: House, name: str, user: str) -> None:
    wire = WIRES[name]
    answer = speaking.post(wire.streamed, wire.request([("user", "Há café?")], True), user)
    assert answer.status_code == 200
    reason, sentence = REFUSALS[user]
    assert answer.headers["x-solaris-denied"] == reason
    text = wire.streamed_text(answer.text)
    assert text.startswith(MARK + sentence)
    assert text.endswith(f"\n{MARK}")
    assert "](mailto:vendas@example.com)" in text
    assert speaking.reached() == []


@pytest.mark.parametrize("user", REFUSALS)
@pytest.mark.parametrize("name", WIRES)
def test_what_is_not_streamed_is_refused_with_a_429(speaking: House, name: str, user: str) -> None:
    wire = WIRES[name]
    answer = speaking.post(wire.plain, wire.request([("user", "Há café?")], False), user)
    assert (answer.status_code, answer.headers["x-solaris-denied"]) == (429, REFUSALS[user][0])
    assert MARK not in answer.text
    assert speaking.reached() == []


def test_what_is_no_chat_is_refused_with_a_429(speaking: House) -> None:
    for path, body in {
        "openai/v1/completions": {"model": "davinci-002", "prompt": "Há café?", "stream": True},
        "openai/v1/embeddings": {"model": "text-embedding-3-small", "input": "Há café?"},
        "ollama/api/generate": {"model": "llama3.2", "prompt": "Há café?"},
    }.items():
        assert speaking.post(path, body, "bia").status_code == 429, path


def test_the_sdks_read_a_refusal_as_an_answer(speaking: House) -> None:
    sentence = MARK + REFUSALS["bia"][1]
    with speaking.openai("bia") as sdk:
        with sdk.chat.completions.stream(model="gpt-5-mini", messages=MESSAGES) as chat:
            completion = chat.get_final_completion()
        with sdk.responses.stream(model="gpt-5", input="Há café?") as response:
            final = response.get_final_response()
    assert (completion.choices[0].message.content or "").startswith(sentence)
    assert final.output_text.startswith(sentence)
    with (
        speaking.anthropic("bia") as claude,
        claude.messages.stream(model="claude-sonnet-4-6", max_tokens=100, messages=MESSAGES) as stream,
    ):
        assert stream.get_final_text().startswith(sentence)
    sdk_of_google = speaking.google("bia")
    chunks = list(sdk_of_google.models.generate_content_stream(model="gemini-2.5-pro", contents="Há café?"))
    sdk_of_google.close()
    assert "".join(chunk.text or "" for chunk in chunks).startswith(sentence)
    assert speaking.reached() == []


def test_the_balance_of_who_is_refused_is_told_all_the_same(speaking: House) -> None:
    assert "**Sua conta está bloqueada**" in _say(
        speaking, WIRES["openai-chat"], [("user", "/saldo")], "bia", stream=True
    )


def test_a_refused_chat_and_its_title_are_one_line_in_the_log(house: House) -> None:
    house.give("joana", 1000)
    house.cli("users", "block", "joana")
    for stream in (True, False):
        answer = house.post(
            "openai/v1/chat/completions", WIRES["openai-chat"].request([("user", "Oi")], stream), "joana"
        )
        assert answer.status_code == 429
    assert house.sidecar.log.read_text().count("denied joana: account_blocked") == 1
