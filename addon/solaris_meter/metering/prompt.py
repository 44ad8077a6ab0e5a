"""How large a request is, without tokenising it: bounds that cost one walk over the parsed body."""

from dataclasses import dataclass
from typing import Any

ATTACHMENT_BOUND = 1600
"""Set aside for each picture, sound or file: what a large picture costs with the dearest of the big providers."""

TOOL_TOKENS = 512
"""Set aside for the hidden instructions that providers add when a request brings tools (Anthropic: 313 to 403)."""

_SHORTEST_DATA = 256
_ATTACHMENTS = frozenset(
    {"image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url"}
)


@dataclass(frozen=True, slots=True)
class Size:
    """`bound`: more tokens than the text can have, and a fixed number for each attachment (a long PDF can exceed it).
    `floor`: a deliberately low estimate, a quarter of the text."""

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
    extra = tally.attachments * ATTACHMENT_BOUND + (TOOL_TOKENS if body.get("tools") or body.get("functions") else 0)
    return Size(max(1, body_bytes - tally.data_bytes) + extra, tally.text_bytes // 4)


def count_attachments(body: dict[str, Any]) -> int:
    """How many pictures, sounds or files the request brings; their tokens cannot be counted here."""
    tally = _Tally()
    _walk(body, tally)
    return tally.attachments


_DATA_KEYS = frozenset({"data", "url", "image_url", "file_data", "b64_json", "bytes"})
_HOLDERS = frozenset({"inlineData", "inline_data", "fileData", "file_data", "image", "document", "video", "audio"})
"""Where Gemini and Bedrock put a file, instead of giving its part a type …"""
_HELD = frozenset({"data", "source", "fileUri", "file_uri", "bytes"})
"""… if one of these is in it: a tool's schema may have a property of the same name."""
_BASE64 = str.maketrans("", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")


def _walk(value: Any, tally: _Tally) -> None:
    pending = [(value, False)]  # not recursive: a body may be nested deeper than Python's stack
    while pending:
        item, in_attachment = pending.pop()
        if isinstance(item, str):
            tally.text_bytes += len(item.encode("utf-8", "surrogatepass"))
        elif isinstance(item, list):
            pending.extend((inner, in_attachment) for inner in item)
        elif isinstance(item, bytes):  # an uploaded file
            tally.attachments += 1
            tally.data_bytes += len(item)
        elif isinstance(item, dict):
            kind = item.get("type")
            if isinstance(kind, str) and kind in _ATTACHMENTS:  # in a JSON schema a type may be a list
                tally.attachments += 1
                in_attachment = True
            for key, inner in item.items():
                # Only where a provider reads a file: anywhere else base64 is text, and is tokenised as text.
                if in_attachment and key in _DATA_KEYS and kind != "text" and _is_data(inner):
                    tally.data_bytes += len(inner)
                elif key == "images" and isinstance(inner, list):  # Ollama
                    pictures = [picture for picture in inner if _is_data(picture)]
                    tally.attachments += len(pictures)
                    tally.data_bytes += sum(map(len, pictures))
                else:
                    holds = key in _HOLDERS and isinstance(inner, dict) and not _HELD.isdisjoint(inner)
                    tally.attachments += holds and not in_attachment
                    pending.append((inner, in_attachment or holds))


def _is_data(value: Any) -> bool:
    """Whether a value is an encoded file: a data URL, or long base64."""
    if not isinstance(value, str):
        return False
    head = value[:_SHORTEST_DATA]
    return value.startswith("data:") or (len(head) == _SHORTEST_DATA and head.isascii() and not head.translate(_BASE64))
