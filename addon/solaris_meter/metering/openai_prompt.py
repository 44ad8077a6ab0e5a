"""How an OpenAI chat request becomes a Prompt: the texts that its model reads."""

import json
from typing import Any

from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt, Surface

_KEPT = ("role", "name", "tool_call_id", "tool_calls", "function_call")
_TEXTS = ("text", "refusal", "thinking")
_FILES = frozenset({"image_url", "input_audio", "file"})
_UNSAID = frozenset({"required", "additionalProperties", "$schema"})


def chat_prompt(body: dict[str, Any], surface: Surface = "chat") -> Prompt:
    """The prompt of a chat completion (https://platform.openai.com/docs/api-reference/chat), whatever its body."""
    messages, opaque = [], bool(body.get("web_search_options")) or _speaks(body)
    for message in _items(body.get("messages")):
        if isinstance(message, dict):
            text, readable = _text(message.get("content"))
            refusal = message.get("refusal")
            text += refusal if isinstance(refusal, str) else ""
            messages.append({key: message[key] for key in _KEPT if message.get(key) is not None} | {"content": text})
            opaque = opaque or not readable or bool(message.get("audio"))
    tools = [tool for tool in _items(body.get("tools")) if isinstance(tool, dict)]
    functions = [{"function": function} for function in _items(body.get("functions")) if isinstance(function, dict)]
    return Prompt(
        messages=tuple(messages),
        tools=(*tools, *functions),
        schema=_schema(body.get("response_format")),
        attachments=count_attachments(body),
        choice=_forced(body),
        opaque=opaque or any("function" not in tool and "custom" not in tool for tool in tools),
        surface=surface,
    )


def schema_text(name: object, description: object, schema: object) -> str:
    """A response schema as OpenAI puts it after the system message; "" where there is none.

    The heading is the one of https://cookbook.openai.com/articles/openai-harmony; that `required`,
    `additionalProperties` and `$schema` are left out of the JSON was found in
    https://github.com/openai/openai-cookbook/issues/2140. A description in the schema stands above it, like the one of
    the format itself.
    """
    if not isinstance(schema, dict) or not schema:
        return ""
    try:
        said = _without_unsaid(schema)
        if not isinstance(description, str) or not description:
            description = said.pop("description", None)
        written = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, TypeError, ValueError):
        return ""
    comment = f"// {description}\n" if isinstance(description, str) and description else ""
    return f"# Response Formats\n\n## {name if isinstance(name, str) else ''}\n\n{comment}{written}"


def _schema(response_format: object) -> str:
    form = response_format.get("json_schema") if isinstance(response_format, dict) else None
    return schema_text(form.get("name"), form.get("description"), form.get("schema")) if isinstance(form, dict) else ""


def _without_unsaid(value: Any, *, names: bool = False) -> Any:
    """`names`: the keys are names that the caller chose, not words of JSON schema."""
    if isinstance(value, dict):
        return {
            key: _without_unsaid(inner, names=not names and key in ("properties", "$defs", "definitions"))
            for key, inner in value.items()
            if names or key not in _UNSAID
        }
    return [_without_unsaid(inner) for inner in value] if isinstance(value, list) else value


def _text(content: object) -> tuple[str, bool]:
    """The text of a message's content, and whether nothing but text and files is in it."""
    if content is None or isinstance(content, str):
        return content or "", True
    texts, readable = [], isinstance(content, list)
    for part in _items(content):
        said = part if isinstance(part, str) else next(_said(part), None)
        if said is not None:
            texts.append(said)
        elif not isinstance(part, dict) or str(part.get("type")) not in _FILES:
            readable = False
    return "".join(texts), readable


def _said(part: object) -> Any:
    if isinstance(part, dict):
        yield from (part[key] for key in _TEXTS if isinstance(part.get(key), str))


def _forced(body: dict[str, Any]) -> str:
    """The function that must be called, "" if the model chooses."""
    choice = body.get("tool_choice") or body.get("function_call")
    if isinstance(choice, dict):
        named = choice.get("function") if isinstance(choice.get("function"), dict) else choice
        name = named.get("name") if isinstance(named, dict) else None
        return name if isinstance(name, str) else ""
    return ""


def _speaks(body: dict[str, Any]) -> bool:
    return bool(body.get("audio")) or "audio" in _items(body.get("modalities"))


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
