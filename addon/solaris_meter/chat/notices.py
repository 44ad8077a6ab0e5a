"""What the sidecar says in a chat, marked so that it can be taken out of later requests, and how it is taken out.

The marker is three U+2063 (invisible separator) on either side: LibreChat shows nothing of it, stores it, and sends it
back in the history.
"""

import re
from collections.abc import Collection
from typing import Any

from solaris_meter.metering.dialects.dialect import Conversation

MARK = "\u2063" * 3
_MARKED = re.compile(f"{MARK}.*?{MARK}", re.DOTALL)  # white space in it may have been changed on the way

Json = dict[str, Any]


def notice(line: str) -> str:
    """One line of Markdown as it stands at the end of an answer: marked, below a rule.

    The line feed after it lets emphasis end there: Markdown takes the marker for a letter.
    """
    return f"{MARK}\n\n---\n{line}\n{MARK}"


def message(text: str) -> str:
    """A whole message of ours, marked."""
    return f"{MARK}{text}\n{MARK}"


def last_text(body: Json, conversation: Conversation) -> str | None:
    """What the user said last, if that is the last turn of a request and nothing but text; else None."""
    turns = body.get(conversation.turns)
    if isinstance(turns, str):
        return turns.strip()
    turn = turns[-1] if isinstance(turns, list) and turns else None
    return _user_text(turn, conversation)


def is_command(text: str | None, commands: Collection[str]) -> bool:
    """Whether what a person said is one of the commands, in upper or lower case."""
    return text is not None and text.casefold() in {command.casefold() for command in commands}


def scrub(body: Json, conversation: Conversation, commands: Collection[str]) -> Json | None:
    """A chat request without what we said in it; None where there is nothing of ours.

    Taken out of the assistant's turns is what is marked. A turn of which nothing is left goes, and with it the command
    that it answered. What anybody else said is not touched, whatever it holds.
    """
    turns = body.get(conversation.turns)
    if not isinstance(turns, list):
        return None
    kept: list[Any] = []
    for turn in turns:
        cleaned = _clean(turn, conversation)
        if cleaned is None and turn is not None:
            if kept and is_command(_user_text(kept[-1], conversation), commands):
                kept.pop()
            continue
        kept.append(cleaned)
    return body | {conversation.turns: kept} if kept != turns else None


def _user_text(turn: Any, conversation: Conversation) -> str | None:
    if not isinstance(turn, dict) or turn.get("role", conversation.user) != conversation.user:
        return None
    content = turn.get(conversation.content)
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    whole = len(texts) == len(parts) and all(isinstance(text, str) for text in texts)
    return "".join(map(str, texts)).strip() if texts and whole else None


def _clean(turn: Any, conversation: Conversation) -> Any:
    """A turn without what we said; None where there was nothing else in it."""
    if not isinstance(turn, dict) or turn.get("role") != conversation.assistant:
        return turn
    content = turn.get(conversation.content)
    if isinstance(content, str):
        text = _MARKED.sub("", content)
        return None if _is_emptied(content, text) and not _says_more(turn) else turn | {conversation.content: text}
    if isinstance(content, list):
        left = [cleaned for part in content for cleaned in _clean_part(part)]
        emptied = len(left) < len(content) and all(_is_blank(part) for part in left)
        return None if emptied and not _says_more(turn) else turn | {conversation.content: left}
    return turn


def _clean_part(part: Any) -> list[Any]:
    """A part without what we said; nothing where there was nothing else in it."""
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return [part]
    text = _MARKED.sub("", part["text"])
    return [] if _is_emptied(part["text"], text) else [part | {"text": text}]


def _is_blank(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str) and not part["text"].strip()


def _is_emptied(before: str, after: str) -> bool:
    return before != after and not after.strip()


def _says_more(turn: Json) -> bool:
    return bool(turn.get("tool_calls") or turn.get("function_call"))
