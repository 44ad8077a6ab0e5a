"""Any other endpoint of a host that is metered: whatever recognisable usage object its answer carries is charged.

Recognised: OpenAI's two spellings (prompt/completion and input/output tokens) and Google's usageMetadata, at the top
level or inside `response` or `message`.
"""

import json

from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json, Request, make_request, mapping, whole
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_SPELLINGS = (
    ("usage", ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), "total_tokens"),
    ("usageMetadata", ("promptTokenCount",), ("candidatesTokenCount",), "totalTokenCount"),
)


class Generic(Dialect):
    """An endpoint that no other dialect knows."""

    name = "generic"
    counts_input = False

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        limits = (whole(body.get(key)) for key in ("max_tokens", "max_output_tokens", "max_completion_tokens"))
        return make_request(
            body,
            body_bytes,
            model=body.get("model"),
            max_output=next((limit for limit in limits if limit), None),
            user=body.get("user"),
            wants_usage=True,
            prompt=lambda: Prompt(
                ({"role": "user", "content": json.dumps(body)},), attachments=count_attachments(body)
            ),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        self.read_body(answer, event)

    def read_body(self, answer: Answer, body: Json) -> None:
        for holder in (body, mapping(body.get("response")), mapping(body.get("message"))):
            for name, reads, writes, total in _SPELLINGS:
                usage = mapping(holder.get(name))
                read = next((whole(usage[key]) for key in reads if key in usage), None)
                written = next((whole(usage[key]) for key in writes if key in usage), None)
                whole_total = whole(usage.get(total))
                if read is None and written is None:
                    if whole_total is None:
                        continue
                    read = whole_total  # embeddings that report a total only (Voyage): all of it is input
                answer.input_tokens = read or 0
                # What the total holds beyond both is output that the other field leaves out (hidden reasoning).
                answer.output_tokens = max(written or 0, (whole_total or 0) - answer.input_tokens)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return {"error": {"message": message, "type": code, "code": code, "param": None}}
