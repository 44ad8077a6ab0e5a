"""The body of a request, as an upstream would take it: inflated, parsed, and meaning one thing only."""

import json
from typing import Any

from mitmproxy import http

from solaris_meter.metering import encodings, endpoints, forms
from solaris_meter.metering.dialects.dialect import Dialect

_MOST_INFLATED = 64 * 1024 * 1024
_INFLATED_AT_ONCE = 64 * 1024
_BOUNDED_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""A few bytes of the others can inflate to gigabytes in one step."""


class Unreadable(Exception):
    """The body is not what its endpoint takes; the message says why."""


def content(request: http.Request) -> bytes:
    """The body, inflated. Raises Unreadable."""
    encoding = request.headers.get("content-encoding", "")
    raw = request.raw_content or b""
    if not encoding.strip():
        return raw
    decode = encodings.decoder(encoding) if encoding.strip().lower() in _BOUNDED_ENCODINGS else None
    if decode is None:
        raise Unreadable(f"its content-encoding {encoding!r} is not taken; send it as it is, or with gzip")
    inflated = b""
    try:
        for at in range(0, len(raw), _INFLATED_AT_ONCE):
            inflated += decode(raw[at : at + _INFLATED_AT_ONCE])
            if len(inflated) > _MOST_INFLATED:
                raise Unreadable(f"it inflates to more than {_MOST_INFLATED} bytes")
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(f"it is not what its content-encoding {encoding!r} says") from error
    return inflated


def query(request: http.Request) -> dict[str, Any]:
    """The query of a handshake. Raises Unreadable where a name stands twice: the server may take the other one."""
    names = [name for name, _ in request.query.fields]
    if len(names) != len(set(names)):
        raise Unreadable("its query names something twice")
    return dict(request.query)


def parse(raw: bytes, content_type: str, dialect: Dialect) -> dict[str, Any]:
    """The body as a JSON object, or as the fields of a form; for an unknown endpoint anything else is an empty one.

    Raises Unreadable.
    """
    try:
        if dialect.takes_forms and forms.is_form(content_type):
            body = forms.read(content_type, raw)
        else:
            body = json.loads(raw, object_pairs_hook=_unambiguous if _may_repeat(raw) else None)
        problem = f"a JSON object is expected, not {type(body).__name__}"
    except RecursionError:
        body, problem = None, "its JSON is nested too deeply"
    except json.JSONDecodeError as error:
        body, problem = None, f"its JSON is broken: {error}"
    except ValueError as error:
        body, problem = None, str(error)
    if isinstance(body, dict):
        return body
    if dialect is endpoints.GENERIC:
        return {}
    raise Unreadable(problem)


def _may_repeat(raw: bytes) -> bool:
    """Whether a body may name its model twice: looking at the bytes spares most bodies the slower reading."""
    return raw.count(b'model"') > 1 or b"\\u00" in raw


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose model is named once: a server might take the other one. Raises ValueError."""
    if sum(name.lower() == "model" for name, _ in pairs) > 1:
        raise ValueError("it names its model twice")
    return dict(pairs)
