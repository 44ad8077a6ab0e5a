"""The events of the Responses API that the sidecar writes itself, in the order in which the API sends them
(https://platform.openai.com/docs/api-reference/responses-streaming)."""

from typing import Any, Literal

from solaris_meter.metering.dialects.dialect import Json, Said, mapping, said

_EMPTY: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
_OURS = "msg_solaris"

Status = Literal["completed", "incomplete"]


class ResponseWriter:
    """Goes on where a stream is: `number` is its last sequence number, `output` the items that are finished.

    `output` grows with what is written; the last event of a stream holds it.
    """

    def __init__(self, number: int, output: list[Json]) -> None:
        self.output = [item for item in output if isinstance(item, dict)]
        self._number = number
        self._events: list[Json] = []

    def add(self, kind: str, **members: Any) -> None:
        """One event."""
        self._number += 1
        self._events.append({"type": kind, "sequence_number": self._number} | members)

    def end(self, kind: str, response: Json) -> list[Said]:
        """The last event, with the whole response; everything that was written."""
        self.add(kind, response=response | {"output": self.output})
        return [said(event, event["type"]) for event in self._events]

    def speak(self, text: str, status: Status = "completed") -> None:
        """A message of its own."""
        index = len(self.output)
        item: Json = {"id": _OURS, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        place = {"item_id": _OURS, "output_index": index, "content_index": 0}
        self.add("response.output_item.added", output_index=index, item=item)
        self.add("response.content_part.added", **place, part=_EMPTY)
        self.add("response.output_text.delta", **place, delta=text, logprobs=[])
        self._finish_text(item, place, text, status)

    def close_item(self, opened: Json) -> None:
        """End an item that is no message, as far as it came; `opened` is the event that began it."""
        item = mapping(opened.get("item")) | {"status": "incomplete"}
        self.add("response.output_item.done", output_index=opened.get("output_index", 0), item=item)
        self.output.append(item)

    def close_message(self, opened: Json, part: Json | None, begun: str, notice: str) -> None:
        """End a message that holds `begun`, with a notice where its part is text; `part` began that part."""
        item, index = mapping(opened.get("item")), opened.get("output_index", 0)
        place = {"item_id": item.get("id"), "output_index": index, "content_index": 0}
        if part is not None:
            place["content_index"] = part.get("content_index", 0)
        is_text = part is None or mapping(part.get("part")).get("type") == "output_text"
        if not is_text or (part is None and not notice):
            self._finish_message(item, index, [], "incomplete")
            return
        if part is None:
            self.add("response.content_part.added", **place, part=_EMPTY)
        if notice:
            self.add("response.output_text.delta", **place, delta=notice, logprobs=[])
        self._finish_text(item, place, begun + notice, "incomplete")

    def _finish_text(self, item: Json, place: Json, text: str, status: Status) -> None:
        part = _EMPTY | {"text": text}
        self.add("response.output_text.done", **place, text=text, logprobs=[])
        self.add("response.content_part.done", **place, part=part)
        self._finish_message(item, place["output_index"], [part], status)

    def _finish_message(self, item: Json, index: Any, content: list[Json], status: Status) -> None:
        closed = item | {"status": status, "content": content}
        self.add("response.output_item.done", output_index=index, item=closed)
        self.output.append(closed)


def response_usage(input_tokens: int, output_tokens: int) -> Json:
    """A usage object, for an answer that was ended or made here."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
