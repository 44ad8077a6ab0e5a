"""How OpenAI shows the functions of a request to its models: as a TypeScript namespace in the system message.

The layout is the one of https://github.com/openai/harmony (src/encoding.rs, `template_tools_section`), which OpenAI
published for gpt-oss. Two details differ on the hosted models and follow from what these report as prompt tokens: an
object none of whose properties has a comment is written on one line, and nested lines are not indented. gpt-3.5, gpt-4,
gpt-4o and gpt-4.1 all count this text, with their own tokenizer.
"""

import json
from collections.abc import Sequence
from typing import Any

_MAX_CHARACTERS = 4_000_000
_MAX_DEPTH = 50


def namespace(tools: Sequence[dict[str, Any]]) -> str:
    """The text of all functions among `tools` (OpenAI's shape, `{"function": {"name": …}}`); "" without any.

    Never raises, whatever a tool holds.
    """
    blocks = [block for tool in tools if (block := _declaration(tool))]
    if not blocks:
        return ""
    lines = ["# Tools", "", "## functions", "", "namespace functions {", "", *blocks, "} // namespace functions"]
    return "\n".join(lines)


def _declaration(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    custom = tool.get("custom")
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        parameters = function.get("parameters")
        described = [function.get("description")]
        signature = _Writer(parameters).signature() if isinstance(parameters, dict) else "()"
    elif isinstance(custom, dict) and isinstance(custom.get("name"), str):
        function, signature = custom, "(FREEFORM)"
        described = [custom.get("description"), *_grammar(custom.get("format"))]
    else:
        return ""
    comments = [f"// {text}" for text in described if isinstance(text, str) and text]
    return "\n".join([*comments, f"type {function['name']} = {signature} => any;", ""])


def _grammar(form: object) -> list[object]:
    grammar = form.get("grammar") if isinstance(form, dict) else None
    return [grammar.get("definition")] if isinstance(grammar, dict) else []


class _Writer:
    """Writes one JSON schema. Its budget ends what refers to itself, or was made to grow without bounds."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []
        self._left = _MAX_CHARACTERS
        self._depth = 0

    def signature(self) -> str:
        properties = self._root.get("properties")
        if not isinstance(properties, dict) or not properties:
            return "()"
        return f"(_: {self._headed(self._root)})"

    def _type(self, schema: object, *, headed: bool = True) -> str:
        """`headed`: the object's own title and description are still to be written."""
        if not isinstance(schema, dict) or self._left < 0 or self._depth > _MAX_DEPTH:
            return "any"
        self._depth += 1
        reference = schema.get("$ref")
        if isinstance(reference, str):
            text = self._referred(reference)
        else:
            text = self._alternatives(schema) or self._of_kind(schema, schema.get("type"), headed=headed)
        self._depth -= 1
        self._left -= len(text)
        return text

    def _referred(self, reference: str) -> str:
        if reference in self._open:
            return "any"
        target: object = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            target = target.get(step) if isinstance(target, dict) else None
        self._open.append(reference)
        text = self._type(target)
        self._open.pop()
        return text

    def _alternatives(self, schema: dict[str, Any]) -> str:
        choices = schema.get("enum")
        if isinstance(choices, list) and choices:
            return " | ".join(_literal(choice) for choice in choices)
        if "const" in schema:
            return _literal(schema["const"])
        for key in ("anyOf", "oneOf", "allOf"):
            variants = schema.get(key)
            if isinstance(variants, list) and variants:
                return " | ".join(self._type(variant) for variant in variants)
        return ""

    def _of_kind(self, schema: dict[str, Any], kind: object, *, headed: bool) -> str:
        if isinstance(kind, list) and kind:
            return " | ".join(self._of_kind(schema, one, headed=headed) for one in kind if isinstance(one, str))
        if kind == "array":
            return f"{self._type(schema.get('items'))}[]"
        properties = schema.get("properties")
        if isinstance(properties, dict) and properties and kind in ("object", None):
            return self._headed(schema) if headed else self._object(schema)
        if kind in ("integer", "number"):
            return "number"
        return kind if kind in ("string", "boolean", "null", "object") else "any"

    def _headed(self, schema: dict[str, Any]) -> str:
        return "".join(f"{line}\n" for line in _comments(schema)) + self._object(schema)

    def _object(self, schema: dict[str, Any]) -> str:
        properties, required = schema["properties"], schema.get("required")
        needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        fields = []
        comments = [_comments(value) if isinstance(value, dict) else [] for value in properties.values()]
        defaults = [
            f" // default: {_literal(value['default'])}" if isinstance(value, dict) and "default" in value else ""
            for value in properties.values()
        ]
        for name, value in properties.items():
            fields.append(f"{name}{'' if name in needed else '?'}: {self._type(value, headed=False)}")
        if not any(comments) and not any(defaults):
            return "{ " + ", ".join(fields) + " }"
        lines = ["{"]
        for comment, field, default in zip(comments, fields, defaults, strict=True):
            lines += [*comment, f"{field},{default}"]
        return "\n".join([*lines, "}"])


def _comments(schema: dict[str, Any]) -> list[str]:
    title, description = (
        [f"// {schema[key]}"] if isinstance(schema.get(key), str) and schema[key] else []
        for key in ("title", "description")
    )
    return [*title, "//", *description] if title and description else [*title, *description]


def _literal(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "any"
