"""Which call is which: the dialect behind a method and a path, and what costs nothing."""

import re
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import unquote

from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages
from solaris_meter.metering.dialects.bedrock import BedrockConverse, BedrockInvoke
from solaris_meter.metering.dialects.cohere import Cohere
from solaris_meter.metering.dialects.dialect import Dialect, Json
from solaris_meter.metering.dialects.embeddings import Embeddings
from solaris_meter.metering.dialects.generic import Generic
from solaris_meter.metering.dialects.google import Google, GoogleEmbeddings
from solaris_meter.metering.dialects.ollama import Ollama
from solaris_meter.metering.dialects.openai_audio import OpenAISpeech, OpenAITranscription
from solaris_meter.metering.dialects.openai_chat import OpenAIChat
from solaris_meter.metering.dialects.openai_completions import OpenAICompletions
from solaris_meter.metering.dialects.openai_images import OpenAIImages
from solaris_meter.metering.dialects.openai_realtime import OpenAIRealtime
from solaris_meter.metering.dialects.openai_responses import OpenAIResponses

FREE: Final = "free"
Endpoint = Dialect | Literal["free", "unknown", "unmeterable"]

GENERIC: Final = Generic()
REALTIME: Final = OpenAIRealtime()
"""Spoken over a WebSocket, which begins as a GET: no path of a POST leads to it."""
DIALECTS: Final[tuple[Dialect, ...]] = (
    Cohere(),
    OpenAIChat(),
    OpenAICompletions(),
    OpenAIResponses(),
    AnthropicMessages(),
    Google(),
    GoogleEmbeddings(),
    BedrockConverse(),
    BedrockInvoke(),
    Ollama(),
    Embeddings(),
    OpenAIImages(),
    OpenAITranscription(),
    OpenAISpeech(),
)
"""The first whose path matches, and who claims the request, is the one that is spoken."""

# No model runs here, whatever the method. (Lists are read with GET.)
_FREE = re.compile(
    r"(^|/)v\d[a-z0-9]*/(files|uploads|vector_stores)(/[A-Za-z0-9_-]+)*$"
    r"|/moderations$|/(de)?tokenize$|/check-api-key$"
    r"|/messages/count_tokens$|/responses/input_tokens$|:countTokens$|/count-tokens:rawPredict$|/count-tokens$"
    r"|/responses/[^/]+/cancel$"
    r"|/threads(/(?!runs$)[^/]+(/messages(/[^/]+)?)?)?$|/assistants(/[^/]+)?$"  # a run is metered
    r"|/api/(show|pull|push|copy|create|blobs/[^/]+)$"
)
# Models run here whose usage is told elsewhere, when nobody is there any more.
_UNMETERABLE = re.compile(
    r"/async/|/batches$|:batch[A-Z]\w*Content$|/realtime/(client_secrets|sessions|transcription_sessions|calls)$",
    re.IGNORECASE,
)
_READING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def classify(method: str, path: str, provider: str | None = None, body: Json | None = None) -> Endpoint:
    """The dialect spoken at a path (see `plain_path`), `free`, `unknown`, or `unmeterable`.

    Models run on POST; what only reads or deletes what is stored is free. A path that climbs (`..`) may lead anywhere.
    `provider` and, once it is read, `body` decide where one path means two dialects.
    """
    if method in _READING:
        return FREE
    path = plain_path(path)
    if not {".", ".."}.isdisjoint(path.split("/")) or _UNMETERABLE.search(path):
        return "unmeterable"
    for dialect in _spoken_at(path):
        if dialect.claims(provider, body):
            return dialect
    return FREE if _FREE.search(path) else "unknown"


def plain_path(path: str) -> str:
    """A path as a server takes it: without query and parameters, percent-encoding undone."""
    return unquote(re.split(r"[?#]", path, maxsplit=1)[0]).partition(";")[0].rstrip("/ ")


def polled(method: str, path: str) -> str | None:
    """The id of the answer that a request asks for, which may have been made in the background."""
    if method != "GET":
        return None
    path = plain_path(path)
    return next((found for dialect in DIALECTS if (found := dialect.polls(path))), None)


def by_body(dialect: Dialect, method: str, path: str, provider: str, body: Json) -> Dialect:
    """The dialect of a request whose body has been read: `dialect`, unless the body is another's."""
    found = classify(method, path, provider, body)
    return dialect if isinstance(found, str) else found


@lru_cache(maxsize=1024)
def _spoken_at(path: str) -> tuple[Dialect, ...]:
    return tuple(dialect for dialect in DIALECTS if dialect.paths.search(path))
