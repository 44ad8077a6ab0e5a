"""Uploaded forms (RFC 7578), as transcriptions and image edits come."""

from typing import Any

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

_MOST_FIELDS = 256


def is_form(content_type: str) -> bool:
    """Whether a body of this content type is a form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def read(content_type: str, raw: bytes) -> dict[str, Any]:
    """A form as a body: its fields are texts, its files `bytes`; of several fields of one name the last counts.

    Raises ValueError for what is not a form.
    """
    boundary = parse_options_header(content_type)[1].get("boundary")
    if not boundary:
        raise ValueError("its content type names no boundary")
    body: dict[str, Any] = {}
    segment: MultipartSegment | None = None
    pieces: list[bytes] = []
    try:
        with PushMultipartParser(boundary, max_segment_count=_MOST_FIELDS) as parser:
            for event in parser.parse(raw):
                if isinstance(event, MultipartSegment):
                    segment, pieces = event, []
                elif event:
                    pieces.append(bytes(event))
                elif segment is not None:
                    data = b"".join(pieces)
                    body[segment.name] = data if segment.filename else data.decode("utf-8", "replace")
    except MultipartError as error:
        raise ValueError(f"its form is broken: {error}") from error
    return body
