"""What LibreChat does for a person: asks with the SDKs of OpenAI and Anthropic, and shows what comes back."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import anthropic
import openai
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionUserMessageParam

from solaris_cli.demo.programs import Failed

Provider = Literal["openai", "anthropic"]

_NO_KEY = "no-key-needed"
_MAX_OUTPUT = 1024


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of whom. `cost` is what the demo's upstream will report for it, in tokens."""

    text: str
    provider: Provider
    cost: int
    stream: bool = False

    @property
    def model(self) -> str:
        """The upstream reads the cost from this name."""
        return f"demo-{self.cost}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person sees, and the HTTP answer behind it. `attempts`: how often the SDK sent the request."""

    text: str
    status: int
    headers: Mapping[str, str]
    attempts: int


@dataclass(slots=True)
class Person:
    """A person in a LibreChat whose base URLs lead to the sidecar at `sidecar`; `key` is what the sidecar wants to see.

    The SDKs are used as they come: they send a failed request twice more, unless its answer tells them not to.
    """

    name: str
    sidecar: str
    key: str
    _attempts: int = field(default=0, init=False)

    def ask(self, question: Question) -> Reply:
        """Ask, and wait for the end of the answer. A refusal is a reply too. Raises Failed where there is none."""
        self._attempts = 0
        try:
            if question.provider == "openai":
                raw, text = self._ask_openai(question)
            else:
                raw, text = self._ask_anthropic(question)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return Reply(_shown(error), error.status_code, error.response.headers, self._attempts)
        except (openai.APIError, anthropic.APIError) as error:
            raise Failed(f"{self.name} gets no answer: {error}") from error
        return Reply(text, raw.status_code, raw.headers, self._attempts)

    def _ask_openai(self, question: Question) -> tuple[Any, str]:
        http_client = openai.DefaultHttpxClient(trust_env=False, event_hooks=self._hooks)
        base_url = f"{self.sidecar}/openai/v1"
        message: ChatCompletionUserMessageParam = {"role": "user", "content": question.text}
        with openai.OpenAI(
            api_key=_NO_KEY, base_url=base_url, default_headers=self._headers, http_client=http_client
        ) as client:
            create = client.chat.completions.with_raw_response.create
            if not question.stream:
                raw = create(model=question.model, messages=[message])
                return raw, raw.parse().choices[0].message.content or ""
            streamed = create(model=question.model, messages=[message], stream=True)
            return streamed, "".join(chunk.choices[0].delta.content or "" for chunk in streamed.parse())

    def _ask_anthropic(self, question: Question) -> tuple[Any, str]:
        # Without the mount this SDK takes a proxy from the environment all the same.
        http_client = anthropic.DefaultHttpxClient(
            trust_env=False, mounts={"http://127.0.0.1": None}, event_hooks=self._hooks
        )
        base_url = f"{self.sidecar}/anthropic"
        message: MessageParam = {"role": "user", "content": question.text}
        with anthropic.Anthropic(
            api_key=_NO_KEY, base_url=base_url, default_headers=self._headers, http_client=http_client
        ) as client:
            create = client.messages.with_raw_response.create
            if not question.stream:
                raw = create(model=question.model, max_tokens=_MAX_OUTPUT, messages=[message])
                return raw, _text(raw.parse().content)
            streamed = create(model=question.model, max_tokens=_MAX_OUTPUT, messages=[message], stream=True)
            return streamed, _text(event.delta for event in streamed.parse() if event.type == "content_block_delta")

    @property
    def _headers(self) -> dict[str, str]:
        """As librechat.yaml would set them, from the placeholders of LibreChat's user id and e-mail."""
        return {
            "X-Solaris-User": self.name,
            "X-Solaris-Email": f"{self.name}@example.com",
            "X-Solaris-Key": self.key,
        }

    @property
    def _hooks(self) -> dict[str, list[Callable[..., Any]]]:
        def count(_: object) -> None:
            self._attempts += 1

        return {"request": [count]}


def _text(blocks: Iterable[object]) -> str:
    return "".join(getattr(block, "text", "") for block in blocks)


def _shown(error: openai.APIStatusError | anthropic.APIStatusError) -> str:
    """A refusal as LibreChat v0.8.7 shows it: where its message holds JSON, `info` alone."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    try:
        return str(json.loads(message or error.message)["info"])
    except (ValueError, KeyError, TypeError):
        return str(message or error.message)
