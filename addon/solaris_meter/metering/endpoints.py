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
Endpoint = Dialect | Literal["free", "unknown"]

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
    r"|/threads(/[^/]+(/messages(/[^/]+)?)?)?$|/assistants(/[^/]+)?$"  # a run is another path, and is metered
    r"|/api/(show|pull|push|copy|create|blobs/[^/]+)$"
)
_READING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def classify(method: str, path: str, provider: str | None = None, body: Json | None = None) -> Endpoint:
    """The dialect spoken at a path (without its query), `free`, or `unknown`.

    Models run on POST; what only reads or deletes what is stored is free. A path is taken as a server takes it:
    percent-encoding undone, and one that climbs (`..`) is not known, whatever it looks like. `provider` and, once it
    is read, `body` decide where one path means two dialects.
    """
    if method in _READING:
        return FREE
    path = unquote(path).rstrip("/")
    if method != "POST" or not {".", ".."}.isdisjoint(path.split("/")):
        return "unknown"
    for dialect in _spoken_at(path):
        if dialect.claims(provider, body):
            return dialect
    return FREE if _FREE.search(path) else "unknown"


def by_body(dialect: Dialect, method: str, path: str, provider: str, body: Json) -> Dialect:
    """The dialect of a request whose body has been read: `dialect`, unless the body is another's."""
    found = classify(method, path, provider, body)
    return dialect if isinstance(found, str) else found


@lru_cache(maxsize=1024)
def _spoken_at(path: str) -> tuple[Dialect, ...]:
    return tuple(dialect for dialect in DIALECTS if dialect.paths.search(path))
