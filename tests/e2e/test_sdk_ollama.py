"""The `ollama` package, unchanged, through the sidecar."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.ollama import CHAT, EMBEDDING, VECTOR

MODEL = "llama3.2"
MESSAGES: Any = [{"role": "user", "content": "Há café?"}]


@pytest.fixture
def sdk(person: Person) -> Iterator[ollama.Client]:
    with ollama.Client(host=person.url("ollama"), headers=person.headers) as client:
        yield client


def test_chat(sdk: ollama.Client, person: Person) -> None:
    answer = sdk.chat(model=MODEL, messages=MESSAGES)
    assert answer.message.content == WHOLE_TEXT
    person.pays(CHAT, "ollama", MODEL)


def test_chat_stream(sdk: ollama.Client, person: Person) -> None:
    chunks = list(sdk.chat(model=MODEL, messages=MESSAGES, stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == WHOLE_TEXT
    assert chunks[-1].eval_count == CHAT.output
    person.pays(CHAT, "ollama", MODEL, stream=True)


def test_generate(sdk: ollama.Client, person: Person) -> None:
    assert sdk.generate(model=MODEL, prompt="Há café?").response == WHOLE_TEXT
    person.pays(CHAT, "ollama", MODEL)


def test_generate_stream(sdk: ollama.Client, person: Person) -> None:
    chunks = list(sdk.generate(model=MODEL, prompt="Há café?", stream=True))
    assert "".join(chunk.response or "" for chunk in chunks) == WHOLE_TEXT
    person.pays(CHAT, "ollama", MODEL, stream=True)


def test_embedding(sdk: ollama.Client, person: Person) -> None:
    answer = sdk.embed(model="all-minilm", input=["um", "dois"])
    assert [list(vector) for vector in answer.embeddings] == [VECTOR] * 2
    person.pays(EMBEDDING, "ollama", "all-minilm")


def test_embedding_that_reports_nothing(sdk: ollama.Client, person: Person) -> None:
    assert list(sdk.embeddings(model="all-minilm", prompt="Há café aqui?").embedding) == VECTOR
    [event] = person.events()
    assert (event["model"], event["output_tokens"], event["stream"]) == ("all-minilm", 0, False)
    assert event["basis"] in ("counted", "estimated")
    assert 3 <= event["input_tokens"] <= 12


def test_what_runs_no_model_is_free(sdk: ollama.Client, person: Person) -> None:
    assert [model.model for model in sdk.list().models] == [MODEL]
    assert sdk.show(MODEL).details is not None
    person.pays_nothing()
