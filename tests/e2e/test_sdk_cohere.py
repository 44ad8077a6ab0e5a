"""The `cohere` package, unchanged, through the sidecar: both versions of its API."""

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import pytest
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.cohere import CHAT, EMBEDDING, VECTOR

MODEL = "command-a-03-2025"
MESSAGES: Any = [{"role": "user", "content": "Há café?"}]


@pytest.fixture
def http(person: Person) -> Iterator[httpx.Client]:
    with httpx.Client(headers=person.headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def v1(person: Person, http: httpx.Client) -> cohere.Client:
    return cohere.Client("k", base_url=person.url("cohere"), httpx_client=http, max_retries=0)


@pytest.fixture
def v2(person: Person, http: httpx.Client) -> cohere.ClientV2:
    return cohere.ClientV2("k", base_url=person.url("cohere"), httpx_client=http, max_retries=0)


def test_chat_v1(v1: cohere.Client, person: Person) -> None:
    assert v1.chat(model=MODEL, message="Há café?").text == WHOLE_TEXT
    person.pays(CHAT, "cohere", MODEL)


def test_chat_v1_without_a_model(v1: cohere.Client, person: Person) -> None:
    assert v1.chat(message="Há café?").text == WHOLE_TEXT
    person.pays(CHAT, "cohere", "unknown")


def test_chat_stream_v1(v1: cohere.Client, person: Person) -> None:
    events = list(v1.chat_stream(model=MODEL, message="Há café?"))
    assert "".join(event.text for event in events if event.event_type == "text-generation") == WHOLE_TEXT
    assert events[-1].event_type == "stream-end"
    person.pays(CHAT, "cohere", MODEL, stream=True)


def test_chat_v2(v2: cohere.ClientV2, person: Person) -> None:
    content: Any = v2.chat(model=MODEL, messages=MESSAGES).message.content
    assert content[0].text == WHOLE_TEXT
    person.pays(CHAT, "cohere", MODEL)


def test_chat_stream_v2(v2: cohere.ClientV2, person: Person) -> None:
    events: list[Any] = list(v2.chat_stream(model=MODEL, messages=MESSAGES))
    assert "".join(e.delta.message.content.text for e in events if e.type == "content-delta") == WHOLE_TEXT
    assert events[-1].delta.usage.billed_units.output_tokens == CHAT.output
    person.pays(CHAT, "cohere", MODEL, stream=True)


def test_embedding_v1(v1: cohere.Client, person: Person) -> None:
    answer = v1.embed(texts=["um", "dois"], model="embed-v4.0", input_type="search_document")
    assert answer.embeddings == [VECTOR] * 2
    person.pays(EMBEDDING, "cohere", "embed-v4.0")


def test_embedding_v2(v2: cohere.ClientV2, person: Person) -> None:
    answer = v2.embed(texts=["um", "dois"], model="embed-v4.0", input_type="search_document", embedding_types=["float"])
    assert answer.embeddings.float_ == [VECTOR] * 2
    person.pays(EMBEDDING, "cohere", "embed-v4.0")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_rerank(version: str, person: Person, request: pytest.FixtureRequest) -> None:
    sdk: Any = request.getfixturevalue(version)
    answer = sdk.rerank(model="rerank-v3.5", query="café", documents=["um", "dois"])
    assert [result.index for result in answer.results] == [0, 1]
    # The provider reports searches and no tokens.
    [event] = person.events()
    assert (event["provider"], event["model"], event["output_tokens"]) == ("cohere", "rerank-v3.5", 0)
    assert event["basis"] in ("counted", "estimated")
    assert 4 <= event["input_tokens"] <= 30


def test_chat_stream_through_the_forward_proxy(person: Person) -> None:
    with httpx.Client(
        proxy=person.url(""), verify=person.trust(), headers=person.headers, trust_env=False, timeout=30
    ) as http:
        sdk = cohere.ClientV2("k", httpx_client=http, max_retries=0)
        events: list[Any] = list(sdk.chat_stream(model=MODEL, messages=MESSAGES))
    assert "".join(e.delta.message.content.text for e in events if e.type == "content-delta") == WHOLE_TEXT
    [arrival] = person.providers.requests
    assert arrival.headers["host"] == "api.cohere.com"
    person.pays(CHAT, "cohere", MODEL, stream=True)


def test_what_runs_no_model_is_free(v1: cohere.Client, person: Person) -> None:
    assert v1.tokenize(text="Há café?", model=MODEL, offline=False).tokens == [1, 2, 3]
    assert v1.models.list().models[0].name == MODEL
    person.pays_nothing()
