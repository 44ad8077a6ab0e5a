"""`boto3` and `anthropic.AnthropicBedrock`, unchanged, through the sidecar as a forward proxy.

The upstream signs again what arrives and refuses what differs: one changed byte, or one signed header taken away, and
a test fails. Our headers come after the signature, because the sidecar takes them off.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.e2e.person import Person
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.anthropic import MESSAGE, STREAM
from tests.e2e.wire.bedrock import ACCESS_KEY, API_KEY, CONVERSE, REGION, SECRET_KEY, TITAN, VECTOR

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
MESSAGES: Any = [{"role": "user", "content": [{"text": "Há café?"}]}]
BODY = json.dumps(
    {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Há café?"}],
    },
    ensure_ascii=False,
)

Connect = Callable[..., Any]


@pytest.fixture
def connect(person: Person) -> Iterator[Connect]:
    """A client that signs with `secret`, calls as the person and trusts the proxy's authority."""
    clients = []

    def connect(access_key: str | None = ACCESS_KEY, secret: str | None = SECRET_KEY) -> Any:
        client = boto3.client(
            "bedrock-runtime",
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            verify=str(person.authority),
            config=Config(proxies={"https": person.url("")}, retries={"total_max_attempts": 1}),
        )

        def add_headers(request: Any, **_: Any) -> None:
            for name, value in person.headers.items():
                request.headers[name] = value

        client.meta.events.register("before-send.bedrock-runtime", add_headers)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def sdk(connect: Connect) -> Any:
    return connect()


@pytest.mark.parametrize("model", [MODEL, PROFILE])
def test_converse(sdk: Any, person: Person, model: str) -> None:
    answer = sdk.converse(modelId=model, messages=MESSAGES)
    assert answer["output"]["message"]["content"] == [{"text": WHOLE_TEXT}]
    assert answer["usage"] == CONVERSE.wire
    person.pays(CONVERSE, "bedrock", model)


@pytest.mark.parametrize("model", [MODEL, PROFILE])
def test_converse_stream(sdk: Any, person: Person, model: str) -> None:
    events = list(sdk.converse_stream(modelId=model, messages=MESSAGES)["stream"])
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["text"] for delta in deltas) == WHOLE_TEXT
    assert events[-1]["metadata"]["usage"] == CONVERSE.wire
    person.pays(CONVERSE, "bedrock", model, stream=True)


def test_invoke(sdk: Any, person: Person) -> None:
    answer = json.loads(sdk.invoke_model(modelId=MODEL, body=BODY)["body"].read())
    assert answer["content"][1]["text"] == WHOLE_TEXT
    person.pays(MESSAGE, "bedrock", MODEL)


def test_invoke_stream(sdk: Any, person: Person) -> None:
    stream = sdk.invoke_model_with_response_stream(modelId=MODEL, body=BODY)["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in stream]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == WHOLE_TEXT
    person.pays(STREAM, "bedrock", MODEL, stream=True)


def test_invoke_for_an_embedding(sdk: Any, person: Person) -> None:
    model = "amazon.titan-embed-text-v2:0"
    answer = json.loads(sdk.invoke_model(modelId=model, body=json.dumps({"inputText": "Há café?"}))["body"].read())
    assert answer["embedding"] == VECTOR
    person.pays(TITAN, "bedrock", model)


def test_counting_tokens_is_free(sdk: Any, person: Person) -> None:
    asked = {"converse": {"messages": MESSAGES}}
    assert sdk.count_tokens(modelId=MODEL, input=asked)["inputTokens"] == 4711
    person.pays_nothing()


def test_a_wrong_signature_is_refused_upstream_and_costs_nothing(connect: Connect, person: Person) -> None:
    with pytest.raises(ClientError, match="InvalidSignatureException"):
        connect(secret="another").converse(modelId=MODEL, messages=MESSAGES)
    person.pays_nothing()


@pytest.mark.parametrize("stream", [False, True])
def test_an_api_key(connect: Connect, person: Person, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", API_KEY)
    sdk = connect(access_key=None, secret=None)
    if stream:
        events = list(sdk.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"])
        assert events[-1]["metadata"]["usage"] == CONVERSE.wire
    else:
        assert sdk.converse(modelId=MODEL, messages=MESSAGES)["usage"] == CONVERSE.wire
    assert person.providers.requests[-1].headers["authorization"] == f"Bearer {API_KEY}"
    person.pays(CONVERSE, "bedrock", MODEL, stream=stream)


@pytest.fixture
def claude(person: Person) -> Iterator[anthropic.AnthropicBedrock]:
    def add_headers(request: Any) -> None:
        request.headers.update(person.headers)

    http = anthropic.DefaultHttpxClient(
        proxy=person.url(""), verify=person.trust(), trust_env=False, event_hooks={"request": [add_headers]}
    )
    with anthropic.AnthropicBedrock(
        aws_region=REGION, aws_access_key=ACCESS_KEY, aws_secret_key=SECRET_KEY, http_client=http, max_retries=0
    ) as client:
        yield client


def test_anthropics_own_client(claude: anthropic.AnthropicBedrock, person: Person) -> None:
    message: Any = claude.messages.create(
        model=MODEL, max_tokens=2000, messages=[{"role": "user", "content": "Há café?"}]
    )
    assert message.content[1].text == WHOLE_TEXT
    person.pays(MESSAGE, "bedrock", MODEL)


def test_anthropics_own_client_streamed(claude: anthropic.AnthropicBedrock, person: Person) -> None:
    with claude.messages.stream(
        model=MODEL, max_tokens=2000, messages=[{"role": "user", "content": "Há café?"}]
    ) as stream:
        assert "".join(stream.text_stream) == WHOLE_TEXT
    person.pays(STREAM, "bedrock", MODEL, stream=True)
