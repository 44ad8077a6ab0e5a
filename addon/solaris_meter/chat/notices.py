"""Notices: what the sidecar adds to an assistant's text, marked so that it can be taken out of later requests.

The marker is three U+2063 (invisible separator) on either side: LibreChat shows nothing of it, stores it, and sends it
back in the history.
"""

import re
from typing import Any

MARK = "\u2063" * 3
_MARKED = re.compile(f"{MARK}.*?{MARK}", re.DOTALL)


def notice(line: str) -> str:
    """One line of Markdown as it stands at the end of an answer: marked, below a rule."""
    return f"{MARK}\n\n---\n{line}{MARK}"


def scrub(body: dict[str, Any]) -> dict[str, Any] | None:
    """A chat request without the notices in its assistant messages; None where there are none.

    Messages of anybody else are not touched, whatever they hold.
    """
    messages = body.get("messages")
    if not isinstance(messages, list):
        return None
    cleaned = [_clean(message) for message in messages]
    return body | {"messages": cleaned} if cleaned != messages else None


def _clean(message: Any) -> Any:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    content = message.get("content")
    if isinstance(content, str):
        return message | {"content": _MARKED.sub("", content)}
    if isinstance(content, list):
        return message | {"content": [_clean_part(part) for part in content]}
    return message


def _clean_part(part: Any) -> Any:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part | {"text": _MARKED.sub("", part["text"])}
    return part
