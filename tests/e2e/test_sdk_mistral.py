"""The `mistralai` package, unchanged, through the sidecar."""

from collections.abc import Iterator
from typing import Any

import pytest
from mistralai.client import Mistral
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.mistral import CHAT, EMBEDDING, TRANSCRIPTION, VECTOR

MODEL = "mistral-large-latest"
MESSAGES: Any = [{"role": "user", "content": "Há café?"}]


@pytest.fixture
def sdk(person: Person) -> Iterator[Mistral]:
    with Mistral(api_key="k", server_url=person.url("mistral")) as client:
        yield client


def _said(chunks: Any) -> str:
    return "".join(chunk.data.choices[0].delta.content or "" for chunk in chunks)


def test_chat(sdk: Mistral, person: Person) -> None:
    answer = sdk.chat.complete(model=MODEL, messages=MESSAGES, http_headers=person.headers)
    assert answer.choices[0].message is not None
    assert answer.choices[0].message.content == WHOLE_TEXT
    person.pays(CHAT, "mistral", MODEL)


def test_chat_stream(sdk: Mistral, person: Person) -> None:
    with sdk.chat.stream(model=MODEL, messages=MESSAGES, http_headers=person.headers) as stream:
        chunks = list(stream)
    assert _said(chunks) == WHOLE_TEXT
    usage = chunks[-1].data.usage
    assert usage is not None
    assert usage.completion_tokens == CHAT.output
    person.pays(CHAT, "mistral", MODEL, stream=True)


def test_fill_in_the_middle(sdk: Mistral, person: Person) -> None:
    answer = sdk.fim.complete(model="codestral-latest", prompt="def f(", suffix="return a", http_headers=person.headers)
    assert answer.choices[0].message is not None
    assert answer.choices[0].message.content == WHOLE_TEXT
    person.pays(CHAT, "mistral", "codestral-latest")


def test_embedding(sdk: Mistral, person: Person) -> None:
    answer = sdk.embeddings.create(model="mistral-embed", inputs=["um", "dois"], http_headers=person.headers)
    assert [item.embedding for item in answer.data] == [VECTOR] * 2
    person.pays(EMBEDDING, "mistral", "mistral-embed")


def test_transcription(sdk: Mistral, person: Person) -> None:
    file: Any = {"file_name": "fala.wav", "content": b"RIFF", "content_type": "audio/wav"}
    answer = sdk.audio.transcriptions.complete(model="voxtral-mini-latest", file=file, http_headers=person.headers)
    assert answer.text == WHOLE_TEXT
    person.pays(TRANSCRIPTION, "mistral", "voxtral-mini-latest")


def test_transcription_stream(sdk: Mistral, person: Person) -> None:
    file: Any = {"file_name": "fala.wav", "content": b"RIFF", "content_type": "audio/wav"}
    with sdk.audio.transcriptions.stream(model="voxtral-mini-latest", file=file, http_headers=person.headers) as stream:
        said = [event.data.text for event in stream if event.data.type == "transcription.text.delta"]
    assert "".join(said) == WHOLE_TEXT
    person.pays(TRANSCRIPTION, "mistral", "voxtral-mini-latest", stream=True)


def test_what_runs_no_model_is_free(sdk: Mistral, person: Person) -> None:
    assert not sdk.models.list(http_headers=person.headers).data
    moderated = sdk.classifiers.moderate(
        model="mistral-moderation-latest", inputs=["Há café?"], http_headers=person.headers
    )
    assert moderated.results == []
    person.pays_nothing()
