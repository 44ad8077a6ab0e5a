"""Which call is which: the dialect behind a method and a path, and what costs nothing."""

import re
from typing import Final, Literal

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

# No model runs here: lists, files, counting, moderation.
_FREE = re.compile(
    r"/models(/[^/:]+)?$|/files(/|$)|/uploads(/|$)|/vector_stores(/|$)|/moderations$|/tokenize$|/detokenize$"
    r"|/messages/count_tokens$|/responses/input_tokens$|:countTokens$"
)


def classify(method: str, path: str) -> Endpoint:
    """The dialect spoken at a path (without its query), `free`, or `unknown`.

    Models run on POST only; everything else reads or deletes what is stored.
    """
    if method != "POST":
        return FREE
    path = path.rstrip("/")
    for pattern, dialect in _DIALECTS:
        if pattern.search(path):
            return dialect
    return FREE if _FREE.search(path) else "unknown"
