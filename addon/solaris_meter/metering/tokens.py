"""Counting with LiteLLM where no usage was reported.

LiteLLM takes seconds to import, so a thread does it while the proxy serves already. It counts text by text, with a
tokenizer that is chosen here and not by model name: it knows exact names only, and takes cl100k for `openai/gpt-4o`,
`ft:gpt-4o-…` and every deployment name, which is a quarter too many tokens for Portuguese. Its count of whole messages
raises for unusual parts, may fetch pictures, takes ids of calls for text and leaves out their names. So what OpenAI
adds around the texts is added here:

- 3 tokens a message besides role and text, 1 more for a name, 3 to begin the answer
  (https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken); reasoning models begin it with 2, as in
  https://cookbook.openai.com/articles/openai-harmony.
- From the same page: a call is addressed (` to=functions.NAME`), a tool answers under its name (`functions.NAME`),
  functions and schemas are sections of the system message, which is added where there is none.
- From what gpt-3.5-turbo-0125, gpt-4, gpt-4o and gpt-4.1 reported: arguments are read without spaces, several calls at
  once are one call of `multi_tool_use.parallel`, and _TOOLS, _SCHEMA, _CALLED and their like are the same for tools,
  schemas and calls of every size.
"""

import asyncio
import functools
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from solaris_meter.metering import typescript
from solaris_meter.models import Basis

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import fetches a price map from GitHub
    "HF_HUB_OFFLINE": "1",  # else some names ask the hub for a tokenizer on every call
    "TIKTOKEN_ENCODE_CHUNK_SIZE_CHARS": "4096",  # LiteLLM cuts texts there, blindly: `_pieces` cuts them before
}
_PIECE = 4096
_LONGEST_NAME = 256

ATTACHMENT_ESTIMATE = 765
"""What a picture of a megapixel costs in high detail (https://platform.openai.com/docs/guides/images-vision)."""

BYTES_PER_TOKEN = 3
"""For a rough count while LiteLLM is not there yet: rather a few tokens too many."""

MAX_WAITING = 64
"""How many tasks may wait in the background before the next one is dropped."""

_MESSAGE, _NAMED, _BEGINNING = 3, 1, 3
_ADDRESS, _AUTHOR = 4, 2  # " to=functions." and "functions."
_PARALLEL = 6  # " to=multi_tool_use.parallel"
_TOOLS, _SCHEMA, _RESPONSES = -1, 4, -3  # beside the text of the section
_FORCED_NAME = 7  # beside the name of the function that must be called
_OFFERED, _CALLED, _CALLED_BY_GPT4, _CALLED_SEVERAL = 1, 7, 4, 10  # in an answer: beside its text, names and arguments
_CHANNELS, _RESPONSES_CHANNELS = 9, 6  # `<|channel|>analysis<|message|>…<|end|>…<|channel|>final<|message|>`
_END = 1  # of an answer that was written to its end; chat completions leave it out

_LEAST_CALIBRATING = 50
_RATIOS = (0.5, 2.5)

Surface = Literal["chat", "azure", "responses"]
ToolCall = tuple[str, str]
"""A function's name and its arguments in JSON, as far as they came."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of tokens and how sure it is: `counted`, or `estimated` where something had to be assumed."""

    tokens: int
    basis: Basis


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in OpenAI's shape: messages of role and text (with `tool_calls`, `tool_call_id`), tools as functions.

    `schema` is the text of a response format (openai_prompt.schema_text). `attachments`: pictures, sounds and files,
    each of which is taken for ATTACHMENT_ESTIMATE. `text` is counted as it is, without a message around it, and
    `token_ids` is how many tokens came as numbers. `choice`: the function that must be called. `opaque`: the model
    reads or writes what is not seen here (web search, sound). `surface`: where an OpenAI model was asked; they count
    tools and the end of an answer differently.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    schema: str = ""
    attachments: int = 0
    text: str = ""
    token_ids: int = 0
    choice: str = ""
    opaque: bool = False
    surface: Surface = "chat"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the provider reported as the input of a call, and the same input as a Prompt."""

    reported_input: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class _Family:
    """Models that count alike.

    `stand_in` makes LiteLLM take the right tokenizer; `known`: it is the models' own. `reasons`: unseen, in channels of
    the answer. `opaque`: they read more than the request holds (web pages, a server's own system message). `called`:
    what a call of a function costs besides its name and arguments.
    """

    stand_in: str
    known: bool
    reasons: bool = False
    opaque: bool = False
    called: int = _CALLED


_O200K, _CL100K, _CLAUDE = "gpt-4o", "gpt-4", "claude-sonnet-4-5"
_FAMILIES = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"gpt-?3[.-]?5|(davinci|babbage)-002|text-embedding-(3|ada)", _Family(_CL100K, True)),
        (r"^((text|code)-)?(davinci|curie|babbage|ada)(?![a-z])", _Family(_CL100K, False)),
        (r"(?<![a-z0-9])gpt-?(4o|4[.-]?[15](?!\d)|audio|realtime)|chatgpt", _Family(_O200K, True)),
        (r"gpt-?oss", _Family(_O200K, True, reasons=True, opaque=True)),
        (r"^o[1-9]\b|^codex-|(?<![a-z0-9])gpt-?([5-9]|[1-9]\d)", _Family(_O200K, True, reasons=True)),
        (r"(?<![a-z0-9])gpt-?4(-32k)?(-0[36]\d\d)?$", _Family(_CL100K, True, called=_CALLED_BY_GPT4)),
        (r"(?<![a-z0-9])gpt-?4(?!all)", _Family(_CL100K, True)),
        (r"claude", _Family(_CLAUDE, False)),
    )
)
_UNKNOWN = _Family(_O200K, False)
_FINE_TUNED = re.compile(r"(?:^|[/:])ft:([^:]+)")
_SEARCHES = re.compile(r"(?<![a-z])search|deep-research")


class TokenCounter:
    """LiteLLM's counting, off the event loop. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._count: Callable[..., int] | None = None
        self._loaded = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="token-counter")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="token-audit", initializer=_step_back)
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)

    @property
    def ready(self) -> bool:
        """Whether LiteLLM is loaded."""
        return self._count is not None

    @property
    def failed(self) -> bool:
        """Whether LiteLLM cannot be loaded; tokens that no provider reports are estimated then."""
        return self._loaded.is_set() and self._count is None

    def start(self) -> None:
        """Begin to load LiteLLM, in the background."""
        threading.Thread(target=self._load, name="litellm-import", daemon=True).start()

    def close(self) -> None:
        """Let the counting end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._background.shutdown(wait=False, cancel_futures=True)

    async def prompt(self, model: str, prompt: Prompt) -> Count:
        """The tokens of a request."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.count_prompt, model, prompt)

    async def answer(
        self,
        model: str,
        text: str,
        calibration: Calibration | None = None,
        *,
        calls: Sequence[ToolCall] = (),
        prompt: Prompt | None = None,
    ) -> Count:
        """The tokens of an answer.

        `text` is all that was generated, in order; the names and arguments of `calls` may stand in it. `prompt` is what
        it answers: tools that are offered cost a token even when none is called. With a `calibration` the count of an
        unknown tokenizer is scaled by what it was wrong by for the input. Estimated for models that reason or read
        unseen, for calls, and for unknown tokenizers.
        """
        count = functools.partial(self.count_answer, model, text, calibration, calls=calls, prompt=prompt)
        return await asyncio.get_running_loop().run_in_executor(self._threads, count)

    def in_background(self, task: Callable[[], object]) -> Future[None] | None:
        """Run something that nobody waits for in a thread of its own; None: too much is waiting, and it is dropped.

        An exception is logged.
        """
        if not self._waiting.acquire(blocking=False):
            return None
        try:
            future = self._background.submit(_quietly, task)
        except RuntimeError:  # closed
            self._waiting.release()
            return None
        future.add_done_callback(lambda _: self._waiting.release())
        return future

    def count_prompt(self, model: str, prompt: Prompt) -> Count:
        """As `prompt`, in this thread; waits until LiteLLM is loaded."""
        family = _family(model)
        beside = prompt.attachments * ATTACHMENT_ESTIMATE + prompt.token_ids
        litellm = self._wait()
        if litellm is None:
            return Count(_roughly("\n".join(_strings(prompt))) + beside, "estimated")
        count = functools.partial(_count_text, litellm, family.stand_in)
        try:
            tokens = _count_prompt(count, family, prompt)
        except Exception:
            log.warning("a request for %s cannot be counted as such; its plain text is", model, exc_info=True)
            return Count(_attempt(count, "\n".join(_strings(prompt))) + beside, "estimated")
        exact = family.known and not family.opaque and _is_text(prompt)
        return Count(tokens + beside, "counted" if exact else "estimated")

    def count_answer(
        self,
        model: str,
        text: str,
        calibration: Calibration | None = None,
        *,
        calls: Sequence[ToolCall] = (),
        prompt: Prompt | None = None,
    ) -> Count:
        """As `answer`, in this thread; waits until LiteLLM is loaded."""
        family = _family(model)
        litellm = self._wait()
        if litellm is None:
            return Count(_roughly(text), "estimated")
        count = functools.partial(_attempt, functools.partial(_count_text, litellm, family.stand_in))
        tokens = count(_outside(text, calls)) + _around_answer(count, family, calls, prompt) if text or calls else 0
        if not family.known:
            return Count(round(tokens * self._ratio(model, calibration)), "estimated")
        seen = not (family.reasons or family.opaque or calls or (prompt and prompt.opaque))
        return Count(tokens, "counted" if seen else "estimated")

    def quick(self, model: str, text: str) -> int:
        """The tokens of a piece of a running answer, at once: about 0.2 ms per 1,000 tokens. Rough before the load."""
        if self._count is None:
            return _roughly(text)
        return _attempt(functools.partial(_count_text, self._count, _family(model).stand_in), text)

    def _ratio(self, model: str, calibration: Calibration | None) -> float:
        if calibration is None or not _is_text(calibration.prompt):
            return 1.0
        counted = self.count_prompt(model, calibration.prompt).tokens
        least, most = _RATIOS
        return min(most, max(least, calibration.reported_input / counted)) if counted >= _LEAST_CALIBRATING else 1.0

    def _wait(self) -> Callable[..., int] | None:
        self._loaded.wait()
        return self._count

    def _load(self) -> None:
        try:
            litellm = import_litellm()
            litellm.token_counter(model=_O200K, text="ready")
            self._count = litellm.token_counter
        except Exception:
            log.exception("litellm cannot be loaded: tokens that no provider reports are estimated from bytes")
        finally:
            self._loaded.set()


def import_litellm() -> Any:
    """LiteLLM, imported without network access. Takes seconds the first time."""
    os.environ.update(_ENVIRONMENT)
    logging.getLogger("LiteLLM").setLevel(logging.WARNING)
    import litellm

    for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
        logging.getLogger(name).handlers.clear()  # its records reach whoever writes ours, once and in the same form
    return litellm


def knows(model: str) -> bool:
    """Whether the tokenizer of this model is here. False for a deployment's name that does not tell its model."""
    return _family(model).known


def _family(model: str) -> _Family:
    return _family_of(model[:_LONGEST_NAME])


@functools.lru_cache(maxsize=1024)
def _family_of(model: str) -> _Family:
    name = model.lower().rstrip("/")
    tuned = _FINE_TUNED.search(name)  # the organisation after it may be called anything
    name = (tuned[1] if tuned else name).rsplit("/", 1)[-1]
    family = next((family for pattern, family in _FAMILIES if pattern.search(name)), _UNKNOWN)
    return replace(family, opaque=True) if _SEARCHES.search(name) else family


def _is_text(prompt: Prompt) -> bool:
    """Whether a prompt is nothing but messages of text, which are counted exactly."""
    unsure = prompt.attachments or prompt.tools or prompt.schema or prompt.opaque
    return not unsure and not any(_calls(message) or _is_result(message) for message in prompt.messages)


def _count_prompt(count: Callable[[str], int], family: _Family, prompt: Prompt) -> int:
    messages = [dict(message) for message in prompt.messages]
    tokens = count(prompt.text)
    if messages:
        tokens += _BEGINNING - family.reasons
    functions = typescript.namespace(prompt.tools)
    sections = [section for section in (functions, prompt.schema) if section]
    if sections:
        tokens += (_TOOLS if functions else 0) + (_SCHEMA if prompt.schema else 0)
        told = next((message for message in messages if message.get("role") in ("system", "developer")), None)
        if told is None:
            told = {"role": "system"}
            messages.append(told)
            tokens -= _MESSAGE + 1 if prompt.surface == "responses" else 0
        tokens += _RESPONSES if prompt.surface == "responses" else 0
        told["content"] = "\n\n".join([*filter(None, [_string(told.get("content"))]), *sections])
    if prompt.choice:
        tokens += _FORCED_NAME + count(prompt.choice)
    if prompt.surface == "responses":
        tokens += sum(map(_is_result, messages))
    names: dict[str, str] = {}
    return tokens + sum(_count_message(count, message, names) for message in messages)


def _count_message(count: Callable[[str], int], message: dict[str, Any], names: dict[str, str]) -> int:
    """`names`: the functions that were called so far, by the id of the call."""
    role, name, content = (_string(message.get(key)) for key in ("role", "name", "content"))
    if _is_result(message):
        author = names.get(_string(message.get("tool_call_id")), name)
        return _MESSAGE + (_AUTHOR + count(author) if author else count(role)) + count(content)
    calls = _calls(message)
    names.update((identity, function) for identity, function, _ in calls)
    tokens = 0
    if content or not calls:
        tokens += _MESSAGE + count(role) + count(content) + (_NAMED + count(name) if name else 0)
    if len(calls) == 1:
        [(_, function, arguments)] = calls
        tokens += _MESSAGE + count(role) + _ADDRESS + count(function) + count(_compact(arguments))
    elif calls:
        several = _in_parallel([(function, arguments) for _, function, arguments in calls])
        tokens += _MESSAGE + count(role) + _PARALLEL + count(several)
    return tokens


def _outside(text: str, calls: Sequence[ToolCall]) -> str:
    for name, arguments in calls:
        text = text.replace(name + arguments, "", 1)
    return text


def _around_answer(
    count: Callable[[str], int], family: _Family, calls: Sequence[ToolCall], prompt: Prompt | None
) -> int:
    """What an answer holds besides its text."""
    surface = prompt.surface if prompt else "chat"
    if family.reasons:
        tokens = _RESPONSES_CHANNELS if surface == "responses" else _CHANNELS
    elif surface == "responses" or (surface == "azure" and family.stand_in == _O200K and not calls):
        tokens = _END
    else:
        tokens = 0
    if len(calls) > 1:
        return tokens + _CALLED_SEVERAL + count(_in_parallel(calls))
    if calls:
        [(name, arguments)] = calls
        forced = prompt is not None and prompt.choice == name
        return tokens + count(arguments) + (0 if forced else family.called + count(name))
    return tokens + (_OFFERED if prompt and prompt.tools else 0)


def _is_result(message: dict[str, Any]) -> bool:
    return message.get("role") in ("tool", "function")


def _calls(message: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of the calls in a message, whatever it holds."""
    called = message.get("tool_calls")
    entries = [*called] if isinstance(called, list | tuple) else []
    if message.get("function_call"):
        entries.append({"function": message["function_call"]})
    calls = []
    for entry in entries:
        if isinstance(entry, dict):
            function = entry.get("function") or entry.get("custom")
            function = function if isinstance(function, dict) else {}
            arguments = function.get("arguments", function.get("input"))
            written = arguments if isinstance(arguments, str) else _dump(arguments) if arguments else ""
            calls.append((_string(entry.get("id")), _string(function.get("name")), written))
    return calls


def _compact(arguments: str) -> str:
    try:
        return _dump(json.loads(arguments))
    except (RecursionError, ValueError):  # cut short, or no JSON
        return arguments


def _in_parallel(calls: Sequence[ToolCall]) -> str:
    uses = ",".join(
        f'{{"recipient_name":"functions.{name}","parameters":{_compact(arguments)}}}' for name, arguments in calls
    )
    return f'{{"tool_uses":[{uses}]}}'


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count_text(litellm: Callable[..., int], stand_in: str, text: str) -> int:
    return sum(litellm(model=stand_in, text=piece) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that LiteLLM does not cut, each ending where a word ends if there is one."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.rfind(" ", start + 1, start + _PIECE)
        while end > start and text[end - 1].isspace():
            end = text.rfind(" ", start + 1, end)
        end = end if end > start else start + _PIECE
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _attempt(count: Callable[[str], int], text: str) -> int:
    try:
        return count(text)
    except Exception:
        log.exception("litellm cannot count a text; it is estimated from its bytes")
        return _roughly(text)


def _roughly(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _strings(prompt: Prompt) -> list[str]:
    """Every text in a prompt, whatever it holds."""
    found = []
    pending: list[object] = [prompt.schema, prompt.text, *reversed(prompt.tools), *reversed(prompt.messages)]
    while pending:  # not recursive: a tool may be nested deeper than Python's stack
        value = pending.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            pending += [part for pair in reversed(value.items()) for part in reversed(pair)]
        elif isinstance(value, list | tuple):
            pending += reversed(value)
    return found


def _quietly(task: Callable[[], object]) -> None:
    try:
        task()
    except Exception:
        log.exception("a task in the background failed")


def _step_back() -> None:
    """Let this thread run after all others, where the system can (elsewhere a priority is the whole process's)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
