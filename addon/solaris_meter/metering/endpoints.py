"""Which call is which: the dialect behind a method and a path, and what costs nothing."""

import re
from typing import Final, Literal
from urllib.parse import unquote

from solaris_meter.metering.dialects.anthropic_messages import AnthropicMessages
from solaris_meter.metering.dialects.dialect import Dialect
from solaris_meter.metering.dialects.generic import Generic
from solaris_meter.metering.dialects.openai_chat import OpenAIChat

FREE: Final = "free"
Endpoint = Dialect | Literal["free", "unknown"]

GENERIC: Final = Generic()
_DIALECTS: tuple[tuple[re.Pattern[str], Dialect], ...] = (
    (re.compile(r"/chat/completions$"), OpenAIChat()),
    (re.compile(r"/v1/messages$"), AnthropicMessages()),
)

# No model runs here: files, counting, moderation. (Lists are read with GET.)
_FREE = re.compile(
    r"(^|/)v\d[a-z0-9]*/(files|uploads|vector_stores)(/[A-Za-z0-9_-]+)*$|/moderations$|/(de)?tokenize$"
    r"|/messages/count_tokens$|/responses/input_tokens$|:countTokens$"
)
_READING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def classify(method: str, path: str) -> Endpoint:
    """The dialect spoken at a path (without its query), `free`, or `unknown`.

    Models run on POST; what only reads or deletes what is stored is free. A path is taken as a server takes it:
    percent-encoding undone, and one that climbs (`..`) is not known, whatever it looks like.
    """
    if method in _READING:
        return FREE
    path = unquote(path).rstrip("/")
    if method != "POST" or not {".", ".."}.isdisjoint(path.split("/")):
        return "unknown"
    for pattern, dialect in _DIALECTS:
        if pattern.search(path):
            return dialect
    return FREE if _FREE.search(path) else "unknown"
