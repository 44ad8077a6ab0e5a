"""How large a request is, without tokenising it: bounds that cost one walk over the parsed body."""

from dataclasses import dataclass
from typing import Any

ATTACHMENT_TOKENS = 1600
"""Set aside for each picture, sound or file: what a large picture costs with the dearest of the big providers."""

TOOL_TOKENS = 512
"""Set aside for the hidden instructions that providers add when a request brings tools (Anthropic: 313 to 403)."""

_SHORTEST_DATA = 256
_ATTACHMENTS = frozenset(
    {"image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url"}
)


@dataclass(frozen=True, slots=True)
class Size:
    """`bound`: no provider reads more tokens than this. `floor`: a deliberately low estimate, a quarter of the text."""

    bound: int
    floor: int


@dataclass(slots=True)
class _Tally:
    text_bytes: int = 0
    data_bytes: int = 0
    attachments: int = 0


def measure(body: dict[str, Any], body_bytes: int) -> Size:
    """The size of a request body. A text of N bytes has at most N tokens, and JSON only makes it longer.

    Encoded pictures and files are taken out of the bytes and counted by number.
    """
    tally = _Tally()
    _walk(body, tally)
    extra = tally.attachments * ATTACHMENT_TOKENS + (TOOL_TOKENS if body.get("tools") or body.get("functions") else 0)
    return Size(max(1, body_bytes - tally.data_bytes) + extra, tally.text_bytes // 4)


def count_attachments(body: dict[str, Any]) -> int:
    """How many pictures, sounds or files the request brings; their tokens cannot be counted here."""
    tally = _Tally()
    _walk(body, tally)
    return tally.attachments


def _walk(value: Any, tally: _Tally) -> None:
    pending = [value]
    while pending:  # not recursive: a body may be nested deeper than Python's stack
        item = pending.pop()
        if isinstance(item, str):
            tally.text_bytes += len(item.encode("utf-8", "surrogatepass"))
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            kind = item.get("type")
            if isinstance(kind, str) and kind in _ATTACHMENTS:  # in a JSON schema a type may be a list
                tally.attachments += 1
            for key, inner in item.items():
                # Only where a provider reads a file: base64 in a plain text is text, and is tokenised as text.
                if key in _DATA_KEYS and item.get("type") != "text" and isinstance(inner, str) and _is_data(inner):
                    tally.data_bytes += len(inner)
                else:
                    pending.append(inner)


def _is_data(text: str) -> bool:
    """Whether a string is an encoded file: a data URL, or long base64."""
    if text.startswith("data:"):
        return True
    head = text[:_SHORTEST_DATA]
    return len(head) == _SHORTEST_DATA and head.isascii() and not head.translate(_BASE64)


_DATA_KEYS = frozenset({"data", "url", "image_url", "file_data", "b64_json"})
_BASE64 = str.maketrans("", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")
