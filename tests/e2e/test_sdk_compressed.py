"""Answers that come compressed although nobody asked for it: the client reads them, and they are metered exactly."""

import json
from collections.abc import Iterator
from typing import Any, cast

import anthropic
import httpx
import ollama
import openai
import pytest
from tests.e2e.person import Person
from tests.e2e.wire import anthropic as claude
from tests.e2e.wire import ollama as llama
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.openai import CHAT

MESSAGES: Any = [{"role": "user", "content": "Há café?"}]

pytestmark = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(params=["gzip", "deflate", "br", "zstd"])
def headers(request: pytest.FixtureRequest, person: Person) -> Iterator[dict[str, str]]:
    yield person.headers | {"x-encode": request.param}
    assert [arrival.headers["x-encode"] for arrival in person.providers.requests] == [request.param]


def test_openai(headers: dict[str, str], person: Person, stream: bool) -> None:
    url = person.url("openai/v1")
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0, default_headers=headers) as sdk:
        if stream:
            with sdk.chat.completions.create(model="gpt-5-mini", messages=MESSAGES, stream=True) as chunks:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        else:
            answer = sdk.chat.completions.create(model="gpt-5-mini", messages=MESSAGES)
            text = answer.choices[0].message.content or ""
    assert text == WHOLE_TEXT
    person.pays(CHAT, "openai", "gpt-5-mini", stream=stream)


def test_openai_with_the_usage_asked_for(headers: dict[str, str], person: Person, stream: bool) -> None:
    """Nothing is edited here, so that the bytes pass as they came."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    url = person.url("openai/v1")
    with openai.OpenAI(api_key="k", base_url=url, max_retries=0, default_headers=headers) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(model="gpt-5-mini", messages=MESSAGES, **options)
        answer: Any = raw.parse()
        usage = list(answer)[-1].usage if stream else answer.usage
    assert usage.to_dict() == CHAT.wire
    assert raw.headers["content-encoding"] == headers["x-encode"]
    person.pays(CHAT, "openai", "gpt-5-mini", stream=stream)


def test_anthropic(headers: dict[str, str], person: Person, stream: bool) -> None:
    asked: Any = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "messages": MESSAGES}
    with anthropic.Anthropic(
        api_key="k", base_url=person.url("anthropic"), max_retries=0, default_headers=headers
    ) as sdk:
        if headers["x-encode"] not in sdk._client.headers["accept-encoding"]:
            text = _text_without_the_sdk(person, headers, asked | {"stream": stream})
        elif stream:
            with sdk.messages.stream(**asked) as events:
                text = cast(Any, events.get_final_message().content[-1]).text
        else:
            text = sdk.messages.create(**asked).content[-1].text
    assert text == WHOLE_TEXT
    person.pays(claude.STREAM if stream else claude.MESSAGE, "anthropic", "claude-sonnet-4-6", stream=stream)


def _text_without_the_sdk(person: Person, headers: dict[str, str], asked: Any) -> str:
    """Before Python 3.14 this SDK cannot read zstd; httpx can."""
    url = person.url("anthropic/v1/messages")
    answer = httpx.post(url, headers=headers, json=asked, timeout=30, trust_env=False)
    if not asked["stream"]:
        return str(answer.json()["content"][-1]["text"])
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")


def test_ollama(headers: dict[str, str], person: Person, stream: bool) -> None:
    with ollama.Client(host=person.url("ollama"), headers=headers) as sdk:
        answer: Any = sdk.chat(model="llama3.2", messages=MESSAGES, stream=stream)
        text = "".join(part.message.content for part in (answer if stream else [answer]))
    assert text == WHOLE_TEXT
    person.pays(llama.CHAT, "ollama", "llama3.2", stream=stream)
