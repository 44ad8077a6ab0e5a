"""The `anthropic` package, unchanged, through the sidecar: on Anthropic's own server and on Vertex."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.anthropic import MESSAGE, STREAM, THOUGHT

MODEL = "claude-sonnet-4-6"
VERTEX_MODEL = "claude-sonnet-4-5@20250929"
ASKED: Any = {"max_tokens": 2000, "messages": [{"role": "user", "content": "Há café?"}]}


@pytest.fixture
def sdk(person: Person) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="k", base_url=person.url("anthropic"), max_retries=0, default_headers=person.headers
    ) as client:
        yield client


@pytest.fixture
def vertex(person: Person) -> Iterator[anthropic.AnthropicVertex]:
    with anthropic.AnthropicVertex(
        region="us-east5",
        project_id="p",
        access_token="t",
        base_url=person.url("vertex-anthropic/v1"),
        max_retries=0,
        default_headers=person.headers,
    ) as client:
        yield client


def _said(message: Any) -> list[str]:
    return [block.thinking if block.type == "thinking" else block.text for block in message.content]


def test_message(sdk: anthropic.Anthropic, person: Person) -> None:
    message = sdk.messages.create(model=MODEL, **ASKED)
    assert _said(message) == [THOUGHT, WHOLE_TEXT]
    assert message.usage.to_dict() == MESSAGE.wire
    person.pays(MESSAGE, "anthropic", MODEL, endpoint="/anthropic/v1/messages")


def test_message_stream(sdk: anthropic.Anthropic, person: Person) -> None:
    with sdk.messages.stream(model=MODEL, **ASKED) as stream:
        assert "".join(stream.text_stream) == WHOLE_TEXT
        message = stream.get_final_message()
    assert _said(message) == [THOUGHT, WHOLE_TEXT]
    assert message.usage.output_tokens == STREAM.output
    person.pays(STREAM, "anthropic", MODEL, stream=True)


def test_message_stream_of_raw_events(sdk: anthropic.Anthropic, person: Person) -> None:
    with sdk.messages.create(model=MODEL, stream=True, **ASKED) as stream:
        kinds = [event.type for event in stream]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    person.pays(STREAM, "anthropic", MODEL, stream=True)


def test_message_of_the_beta(sdk: anthropic.Anthropic, person: Person) -> None:
    message = sdk.beta.messages.create(model=MODEL, betas=["context-1m-2025-08-07"], **ASKED)
    assert _said(message) == [THOUGHT, WHOLE_TEXT]
    person.pays(MESSAGE, "anthropic", MODEL)


def test_message_stream_through_the_forward_proxy(person: Person) -> None:
    http = anthropic.DefaultHttpxClient(proxy=person.url(""), verify=person.trust(), trust_env=False)
    with (
        anthropic.Anthropic(api_key="k", http_client=http, max_retries=0, default_headers=person.headers) as sdk,
        sdk.messages.stream(model=MODEL, **ASKED) as stream,
    ):
        assert _said(stream.get_final_message()) == [THOUGHT, WHOLE_TEXT]
    [arrival] = person.providers.requests
    assert arrival.headers["host"] == "api.anthropic.com"
    person.pays(STREAM, "anthropic", MODEL, stream=True)


def test_what_runs_no_model_is_free(sdk: anthropic.Anthropic, person: Person) -> None:
    assert sdk.messages.count_tokens(model=MODEL, messages=ASKED["messages"]).input_tokens == 2095
    assert [model.id for model in sdk.models.list()] == [MODEL]
    person.pays_nothing()


def test_message_on_vertex(vertex: anthropic.AnthropicVertex, person: Person) -> None:
    message = vertex.messages.create(model=VERTEX_MODEL, **ASKED)
    assert _said(message) == [THOUGHT, WHOLE_TEXT]
    assert person.providers.requests[-1].path.endswith(f"/publishers/anthropic/models/{VERTEX_MODEL}:rawPredict")
    person.pays(MESSAGE, "vertex-anthropic", VERTEX_MODEL)


def test_message_stream_on_vertex(vertex: anthropic.AnthropicVertex, person: Person) -> None:
    with vertex.messages.stream(model=VERTEX_MODEL, **ASKED) as stream:
        assert _said(stream.get_final_message()) == [THOUGHT, WHOLE_TEXT]
    person.pays(STREAM, "vertex-anthropic", VERTEX_MODEL, stream=True)


def test_counting_tokens_on_vertex_is_free(vertex: anthropic.AnthropicVertex, person: Person) -> None:
    assert vertex.messages.count_tokens(model=VERTEX_MODEL, messages=ASKED["messages"]).input_tokens == 2095
    person.pays_nothing()
