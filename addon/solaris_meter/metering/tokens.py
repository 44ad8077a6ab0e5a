"""Counting with LiteLLM where no usage was reported.

LiteLLM takes seconds to import, so a thread does it while the proxy serves already. Its tokenizers are chosen here and
not by model name: it knows exact names only, and takes cl100k for `openai/gpt-4o`, `ft:gpt-4o-…` and every deployment
name, which is a quarter too many tokens for Portuguese.
"""

import asyncio
import json
import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from solaris_meter.models import Basis

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import fetches a price map from GitHub
    "HF_HUB_OFFLINE": "1",  # else some names ask the hub for a tokenizer on every call
    "TIKTOKEN_ENCODE_CHUNK_SIZE_CHARS": "4096",  # the default of 1024 counts up to 0.5 % too many in long texts
}

_O200K, _CL100K, _CLAUDE = "gpt-4o", "gpt-4", "claude-sonnet-4-5"
_FAMILIES = (
    (re.compile(r"gpt-?4o|gpt-?4\.1|gpt-?4\.5|gpt-?5|gpt-oss|\bo[134]\b|chatgpt"), _O200K, True),
    (re.compile(r"gpt-?4|gpt-?3\.?5|text-embedding|davinci-002|babbage-002"), _CL100K, True),
    (re.compile(r"claude"), _CLAUDE, False),
)
_HIDES_REASONING = re.compile(r"gpt-?5|\bo[134]\b")

ATTACHMENT_ESTIMATE = 765
"""What a picture of a megapixel costs in high detail (https://platform.openai.com/docs/guides/images-vision)."""

BYTES_PER_TOKEN = 3
"""For a rough count while LiteLLM is not there yet: rather a few tokens too many."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of tokens and how sure it is: `counted`, or `estimated` where something had to be assumed."""

    tokens: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in the shape LiteLLM counts: messages of role and text, tools as OpenAI functions.

    `attachments`: pictures, sounds and files, each of which is taken for ATTACHMENT_ESTIMATE.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    schema: str = ""
    attachments: int = 0


class TokenCounter:
    """LiteLLM's counting, off the event loop."""

    def __init__(self) -> None:
        self._count: Callable[..., int] | None = None
        self._loaded = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="token-counter")

    @property
    def ready(self) -> bool:
        """Whether LiteLLM is loaded."""
        return self._count is not None

    def start(self) -> None:
        """Begin to load LiteLLM, in the background."""
        threading.Thread(target=self._load, name="litellm-import", daemon=True).start()

    def close(self) -> None:
        """Let the counting end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def prompt(self, model: str, prompt: Prompt) -> Count:
        """The tokens of a request."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.count_prompt, model, prompt)

    async def answer(self, model: str, text: str) -> Count:
        """The tokens of generated text. Estimated for models that reason unseen."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.count_answer, model, text)

    def count_prompt(self, model: str, prompt: Prompt) -> Count:
        """As `prompt`, in this thread; waits until LiteLLM is loaded."""
        stand_in, known = _family(model)
        pictures = prompt.attachments * ATTACHMENT_ESTIMATE
        count = self._wait()
        if count is None:
            return Count(_roughly(_all_text(prompt)) + pictures, "estimated")
        try:
            tokens = count(model=stand_in, messages=list(prompt.messages), tools=list(prompt.tools) or None)
        except Exception:  # LiteLLM raises whatever its code meets in unusual tools and messages
            log.warning("litellm could not count a request for %s; its plain text is counted", model, exc_info=True)
            return Count(count(model=stand_in, text=_all_text(prompt)) + pictures, "estimated")
        if prompt.schema:
            tokens += count(model=stand_in, text=prompt.schema)
        exact = known and not prompt.attachments and not prompt.tools and not prompt.schema
        return Count(tokens + pictures, "counted" if exact else "estimated")

    def count_answer(self, model: str, text: str) -> Count:
        """As `answer`, in this thread; waits until LiteLLM is loaded."""
        stand_in, known = _family(model)
        count = self._wait()
        if count is None:
            return Count(_roughly(text), "estimated")
        exact = known and not _HIDES_REASONING.search(model.lower())
        return Count(_count_text(count, stand_in, text), "counted" if exact else "estimated")

    def quick(self, model: str, text: str) -> int:
        """The tokens of a piece of a running answer, at once: about 0.2 ms per 1,000 tokens. Rough before the load."""
        if self._count is None:
            return _roughly(text)
        return _count_text(self._count, _family(model)[0], text)

    def _wait(self) -> Callable[..., int] | None:
        self._loaded.wait()
        return self._count

    def _load(self) -> None:
        os.environ.update(_ENVIRONMENT)
        logging.getLogger("LiteLLM").setLevel(logging.WARNING)
        try:
            import litellm

            litellm.token_counter(model=_O200K, text="ready")
            self._count = litellm.token_counter
        except Exception:
            log.exception("litellm cannot be loaded: tokens that no provider reports are estimated from bytes")
        finally:
            self._loaded.set()


def _family(model: str) -> tuple[str, bool]:
    """The name that makes LiteLLM take the right tokenizer, and whether it is the model's own."""
    name = model.lower()
    for pattern, stand_in, known in _FAMILIES:
        if pattern.search(name):
            return stand_in, known
    return _O200K, False


def _count_text(count: Callable[..., int], stand_in: str, text: str) -> int:
    return count(model=stand_in, text=text, count_response_tokens=True) if text else 0


def _roughly(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _all_text(prompt: Prompt) -> str:
    parts = [str(message.get("content") or "") for message in prompt.messages]
    return "\n".join([*parts, *(json.dumps(tool) for tool in prompt.tools), prompt.schema])
