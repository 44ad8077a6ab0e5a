"""What every wire format can do: read a request, follow an answer, and put what the sidecar says in its own way."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from solaris_meter.metering.prompt import Size, measure
from solaris_meter.metering.tokens import Prompt
from solaris_meter.models import Basis

Json = dict[str, Any]
Said = tuple[str | None, str]
"""An event of our own: its type, where the framing carries one, and its payload."""
_MEMORY_TOOLS = frozenset({"set_memory", "delete_memory"})
MAX_CHOICES = 128
"""The most answers that a provider gives to one request (OpenAI's limit)."""
_PCM_BYTES_PER_MS = 48
_MS_PER_SOUND_TOKEN = 50
_LONGEST_S = 7 * 24 * 3600
MAX_TOKENS = 10**8
"""No call reads or writes more: a larger number in a usage report is a fault."""


@dataclass(frozen=True, slots=True)
class Request:
    """A model call as it was asked for.

    `max_output` is the most output tokens the caller allows for each of `choices` answers. `wants_usage`: the caller
    asked for a usage event in the stream (or the dialect always sends one). `prompt` builds what is needed to count the
    input. `images` are pictures asked for that are paid by the piece, `audio_ms` the length of a sound that was sent,
    as far as its size tells. `later`: the answer is to be fetched elsewhere, where nobody can meter it. `background`:
    it goes on without its caller, who polls for it.
    """

    body: Json
    model: str
    stream: bool
    max_output: int | None
    choices: int
    user: str | None
    wants_usage: bool
    size: Size
    prompt: Callable[[], Prompt]
    images: int = 0
    audio_ms: int = 0
    later: bool = False
    background: bool = False


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far. None: not reported. `text` is what was generated, in order.

    `calls` are the functions that an OpenAI model called, each with its name and arguments (which are in `text` as
    well): they cost more than their text.
    `unseen_tokens` is an estimate of the output that is not text, for an answer that breaks off before its usage.
    `ran`: a model gave something that is not text (vectors, a picture, sound), so that the call owes its input even
    where nothing was reported. `basis` is weaker than `reported` where a number is our own measure. `terms` are the
    fields of PriceTerms. `polled_as` is the id by which a caller may ask for an answer that is still being made, and
    `final` tells that it is not any more.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    audio_ms: int = 0
    text: list[str] = field(default_factory=list)
    calls: dict[Any, tuple[list[str], list[str]]] = field(default_factory=dict)
    unseen_tokens: int = 0
    ran: bool = False
    basis: Basis = "reported"
    refused_usage: bool = False
    polled_as: str | None = None
    final: bool = False
    terms: Json = field(default_factory=dict)
    state: Json = field(default_factory=dict)
    """What the dialect must remember between events."""

    def wrote(self, piece: object) -> None:
        """Note a piece of generated text; anything that is not text is passed over."""
        if isinstance(piece, str) and piece:
            self.text.append(piece)

    def called(self, call: Hashable, name: object, arguments: object) -> None:
        """Note a piece of a call of a function; `call` tells it from the answer's others."""
        for pieces, piece in zip(self.calls.setdefault(call, ([], [])), (name, arguments), strict=True):
            if isinstance(piece, str):
                pieces.append(piece)
                self.wrote(piece)

    def heard(self, sound: object) -> None:
        """Note a piece of sound in base64: 24 kHz samples, of which a token is 50 ms
        (https://platform.openai.com/docs/guides/realtime-costs)."""
        if isinstance(sound, str) and sound:
            self.ran = True
            self.state["sound_ms"] = self.state.get("sound_ms", 0.0) + len(sound) * 3 / 4 / _PCM_BYTES_PER_MS
            self.unseen_tokens = round(self.state["sound_ms"] / _MS_PER_SOUND_TOKEN)

    def number(self, holder: Mapping[str, Any], *names: str) -> int | None:
        """The first of these members that is there, as a token count; an impossible one refuses the report."""
        for name in names:
            if holder.get(name) is not None:
                count = whole(holder[name])
                self.refused_usage = self.refused_usage or count is None
                return count
        return None

    def named(self, model: object) -> None:
        """Note the model's name as the answer gives it."""
        if isinstance(model, str) and model:
            self.terms["model"] = model


@dataclass(frozen=True, slots=True)
class Message:
    """An assistant's message of our own: `events` where an answer is streamed, `body` where it is not."""

    events: list[Said]
    body: Json


@dataclass(frozen=True, slots=True)
class Conversation:
    """Where a chat request has its turns.

    `turns` names the list; a turn has a `role`, and its text stands under `content`, as a string or as parts, each with
    a text of its own.
    """

    turns: str = "messages"
    content: str = "content"
    user: str = "user"
    assistant: str = "assistant"


class Dialect(ABC):
    """A wire format. Stateless: what must be remembered of one answer is in its `Answer`.

    `paths` is searched in a request's path. `usage_at`, `formula` and `source` say where an answer reports its usage,
    how it is added up, and where that is documented.
    """

    name: ClassVar[str]
    paths: ClassVar[re.Pattern[str]]
    usage_at: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    takes_forms: ClassVar[bool] = False
    """Whether a request may be an uploaded form."""
    limits_output: ClassVar[bool] = True
    """Whether `limit_output` can limit an answer."""
    concludes_slowly: ClassVar[bool] = False
    """Whether `conclude` may take long enough to need a thread."""
    counts_input: ClassVar[bool] = True
    """Whether a call costs its input even where nothing was reported."""
    streams_array: ClassVar[bool] = False
    """Whether a stream may be one JSON array whose elements arrive one by one."""
    stream_type: ClassVar[str] = "text/event-stream"
    """The media type of a stream."""
    conversation: ClassVar[Conversation | None] = None
    """Where the turns are; None: this is no chat."""

    def claims(self, provider: str | None, body: Json | None) -> bool:
        """Whether a request to one of the paths is of this dialect; `body` None: it has not been read yet."""
        return True

    @abstractmethod
    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        """What a parsed request body asks for. Never raises for odd values: upstreams say what they do not take.

        An uploaded form comes as a body too: its files are `bytes`.
        """

    def read_headers(self, answer: Answer, headers: Mapping[str, str]) -> None:  # noqa: B027  (most have nothing there)
        """Take in the headers of an answer; their names are in lower case."""

    @abstractmethod
    def read_event(self, answer: Answer, event: Json) -> None:
        """Take in one event of a streamed answer."""

    @abstractmethod
    def read_body(self, answer: Answer, body: Json) -> None:
        """Take in a whole answer that was not streamed."""

    def read_other(self, answer: Answer, data: bytes) -> None:  # noqa: B027  (most answer in JSON alone)
        """Take in a whole answer that is not JSON: text, sound."""

    def conclude(self, answer: Answer, request: Request) -> None:  # noqa: B027  (most report all of it)
        """The answer is over: fill in what it leaves to the request."""

    @abstractmethod
    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        """The body of a refusal. `message` is for a person; `plain`: without the wrapping that LibreChat unpacks."""

    def message(self, request: Request, text: str) -> Message | None:
        """An assistant's message with this text, which nobody pays for; None where the request is no chat."""
        return None

    def polls(self, path: str) -> str | None:
        """The id of the answer that a GET on this path asks for; None where it asks for none."""
        return None

    def takes_notice(self, body: Json) -> bool:
        """Whether the streamed answer to this request may end with a line of ours: it is text that a person reads."""
        return False

    def closing(self, answer: Answer, event: Json) -> bool:
        """Whether, with this event, an answer ends normally that is text: the place for a notice is before it."""
        return False

    def notice(self, answer: Answer, event: Json, text: str) -> list[Said]:
        """The events for a notice before the closing one, and the closing one, which may have to tell of it."""
        return []

    def ask_for_usage(self, raw: bytes, request: Request) -> bytes | None:
        """The request body with a request for usage in the stream; None where nothing is to be asked."""
        return None

    def is_last(self, event: Json) -> bool:
        """Whether an event ends the answer."""
        return False

    def is_usage_only(self, event: Json) -> bool:
        """Whether an event was sent only because usage was asked for."""
        return False

    def limit_output(self, body: Json, tokens: int) -> Json:
        """The request body with at most `tokens` of output allowed for each answer."""
        return body

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        """The events that end a streamed answer here, because its length is used up, with a notice in its text."""
        return []


def make_request(
    body: Json,
    body_bytes: int,
    *,
    model: object,
    prompt: Callable[[], Prompt],
    max_output: object = None,
    user: object = None,
    choices: object = 1,
    stream: object = None,
    wants_usage: bool = True,
    images: int = 0,
    audio_ms: int = 0,
    later: bool = False,
    background: bool = False,
) -> Request:
    """A Request from values as they stand in a body, whatever their types. `stream` None: as the body says."""
    return Request(
        body=body,
        model=model if isinstance(model, str) and model else "unknown",
        stream=(body.get("stream") if stream is None else stream) in (True, "true"),
        max_output=whole(max_output) or None,
        choices=min(MAX_CHOICES, number(choices) or 1),
        user=user if isinstance(user, str) and user else None,
        wants_usage=wants_usage,
        size=measure(body, body_bytes),
        prompt=prompt,
        images=images,
        audio_ms=audio_ms,
        later=later,
        background=background,
    )


def whole(value: object) -> int | None:
    """A token count as an integer; None for what is none: negative, fractional, absurd, boolean or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MAX_TOKENS or value != int(value):
        return None
    return int(value)


def said(event: Json, name: str | None = None) -> Said:
    """An event of our own as it goes into the stream."""
    return name, json.dumps(event)


def number(value: object) -> int | None:
    """A count as JSON has it, or as a form's field does; None for what is none."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[0-9]{1,8}", value) else None
    return whole(value)


def limited(asked: object, tokens: int) -> int:
    """The lower of a limit that was asked for, whatever it is, and ours."""
    return min(tokens, whole(asked) or tokens)


def kind(holder: Json) -> str:
    """The `type` of an object; empty where it has none that is a text."""
    named = holder.get("type")
    return named if isinstance(named, str) else ""


def milliseconds(seconds: object) -> int | None:
    """A length of sound in seconds, as JSON or a form's field has it, in milliseconds; None for what is none."""
    if isinstance(seconds, str):
        seconds = float(seconds) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", seconds) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return round(seconds * 1000) if 0 < seconds <= _LONGEST_S else None


def mapping(value: object) -> Json:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def objects(value: object) -> Iterator[Json]:
    """The JSON objects of a JSON array; none of anything else."""
    return (item for item in items(value) if isinstance(item, dict))


def dump(value: object) -> str:
    """A value as JSON text; empty where it is none, or nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False) if value is not None else ""
    except (RecursionError, TypeError, ValueError):
        return ""


def texts(value: object, *keys: str) -> Iterator[str]:
    """The texts of some content, in order, wherever they are nested: strings, and what stands under these keys."""
    pending = [value]
    while pending:  # not recursive: a body may be nested deeper than Python's stack
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict):
            pending.extend(item[key] for key in reversed(keys) if isinstance(item.get(key), str | list | dict))


def remembers(body: Json) -> bool:
    """Whether a request is LibreChat's own, to keep its memory of a person: nobody reads the answer."""
    names = (mapping(tool.get("function")).get("name") or tool.get("name") for tool in objects(body.get("tools")))
    return any(name in _MEMORY_TOOLS for name in names)


def deployment(path: str) -> str | None:
    """The deployment in an Azure path: the model that runs is its, whatever the body names."""
    found = re.search(r"/deployments/([^/]+)/", path)
    return found[1] if found else None


def for_librechat(message: str) -> str:
    """The form in which LibreChat shows exactly `message`, without a prefix (its error view unpacks `info`)."""
    return json.dumps({"type": "google_error", "info": message}, ensure_ascii=False)
