"""The `google-genai` package, unchanged, through the sidecar: with an API key, and on Vertex."""

from collections.abc import Iterator

import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.google import GENERATED, PICTURE, STREAMED, VECTOR, VERTEX_EMBEDDING

MODEL = "gemini-2.5-pro"


def _options(person: Person, route: str) -> types.HttpOptions:
    return types.HttpOptions(
        base_url=person.url(route), headers=person.headers, retry_options=types.HttpRetryOptions(attempts=1)
    )


@pytest.fixture
def sdk(person: Person) -> Iterator[genai.Client]:
    client = genai.Client(api_key="k", http_options=_options(person, "google"))
    yield client
    client.close()


@pytest.fixture
def vertex(person: Person) -> Iterator[genai.Client]:
    client = genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token="t"),
        http_options=_options(person, "vertex"),
    )
    yield client
    client.close()


def test_content(sdk: genai.Client, person: Person) -> None:
    answer = sdk.models.generate_content(model=MODEL, contents="Há café?")
    assert answer.text == WHOLE_TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.total_token_count == GENERATED.input + GENERATED.output
    person.pays(GENERATED, "google", MODEL)


def test_content_stream(sdk: genai.Client, person: Person) -> None:
    chunks = list(sdk.models.generate_content_stream(model=MODEL, contents="Há café?"))
    assert "".join(chunk.text or "" for chunk in chunks) == WHOLE_TEXT
    person.pays(STREAMED, "google", MODEL, stream=True)


def test_chat(sdk: genai.Client, person: Person) -> None:
    chat = sdk.chats.create(model=MODEL)
    assert chat.send_message("Há café?").text == WHOLE_TEXT
    person.pays(GENERATED, "google", MODEL)


def test_embedding_that_reports_nothing(sdk: genai.Client, person: Person) -> None:
    answer = sdk.models.embed_content(model="gemini-embedding-001", contents=["Há café?", "Não há café."])
    assert [embedding.values for embedding in answer.embeddings or []] == [VECTOR] * 2
    [event] = person.events()
    assert event["model"] == "gemini-embedding-001"
    assert event["basis"] in ("counted", "estimated")
    assert 4 <= event["input_tokens"] <= 30
    assert event["output_tokens"] == 0


def test_pictures_paid_by_the_piece(sdk: genai.Client, person: Person) -> None:
    config = types.GenerateImagesConfig(number_of_images=2)
    answer = sdk.models.generate_images(model="imagen-4.0-generate-001", prompt="Um gato", config=config)
    assert [made.image.image_bytes for made in answer.generated_images or [] if made.image] == [PICTURE] * 2
    [event] = person.events()
    assert (event["model"], event["images"], event["basis"]) == ("imagen-4.0-generate-001", 2, "reported")
    assert event["input_tokens"] == event["output_tokens"] == 0


def test_what_runs_no_model_is_free(sdk: genai.Client, person: Person) -> None:
    assert sdk.models.count_tokens(model=MODEL, contents="Há café?").total_tokens == 4711
    assert [model.name for model in sdk.models.list()] == ["models/gemini-2.5-pro"]
    person.pays_nothing()


def test_content_stream_through_the_forward_proxy(person: Person) -> None:
    options = types.HttpOptions(
        headers=person.headers,
        client_args={"proxy": person.url(""), "verify": person.trust(), "trust_env": False},
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    with genai.Client(api_key="k", http_options=options) as sdk:
        chunks = list(sdk.models.generate_content_stream(model=MODEL, contents="Há café?"))
    assert "".join(chunk.text or "" for chunk in chunks) == WHOLE_TEXT
    [arrival] = person.providers.requests
    assert arrival.headers["host"] == "generativelanguage.googleapis.com"
    person.pays(STREAMED, "google", MODEL, stream=True)


def test_content_on_vertex(vertex: genai.Client, person: Person) -> None:
    assert vertex.models.generate_content(model=MODEL, contents="Há café?").text == WHOLE_TEXT
    assert "/projects/p/locations/us-central1/publishers/google/models/" in person.providers.requests[-1].path
    person.pays(GENERATED, "vertex", MODEL)


def test_content_stream_on_vertex(vertex: genai.Client, person: Person) -> None:
    chunks = list(vertex.models.generate_content_stream(model=MODEL, contents="Há café?"))
    assert "".join(chunk.text or "" for chunk in chunks) == WHOLE_TEXT
    person.pays(STREAMED, "vertex", MODEL, stream=True)


def test_embedding_on_vertex(vertex: genai.Client, person: Person) -> None:
    answer = vertex.models.embed_content(model="text-embedding-005", contents="Há café?")
    assert [embedding.values for embedding in answer.embeddings or []] == [VECTOR]
    person.pays(VERTEX_EMBEDDING, "vertex", "text-embedding-005")


def test_counting_tokens_on_vertex_is_free(vertex: genai.Client, person: Person) -> None:
    assert vertex.models.count_tokens(model=MODEL, contents="Há café?").total_tokens == 4711
    person.pays_nothing()
