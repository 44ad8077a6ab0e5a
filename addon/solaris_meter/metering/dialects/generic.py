"""Any other endpoint of a host that is metered: whatever recognisable usage object its answer carries is charged.

Recognised: OpenAI's two spellings (prompt/completion and input/output tokens), Google's usageMetadata and Cohere's
billed units, at the top level or inside `response`, `message`, `meta` or `usage`.
"""

import json
import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import Answer, Json, Request, make_request, mapping, whole
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

Names = tuple[str, ...]

_SPELLINGS: tuple[tuple[str, Names, Names, str], ...] = (
    ("usage", ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), "total_tokens"),
    ("usageMetadata", ("promptTokenCount",), ("candidatesTokenCount",), "totalTokenCount"),
    ("billed_units", ("input_tokens",), ("output_tokens",), "total_tokens"),
)


class Generic(openai_style.OpenAIStyle):
    """An endpoint that no other dialect knows."""

    name = "generic"
    paths = re.compile(r"(?!)")
    usage_at = "any `usage`, `usageMetadata` or `billed_units`, also inside `response`, `message`, `meta` or `usage`"
    formula = "IN = what was read; OUT = what was written, or the rest of the total where that is more"
    source = "https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/"
    counts_input = False
    limits_output = False

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        limits = (whole(body.get(key)) for key in ("max_tokens", "max_output_tokens", "max_completion_tokens"))
        return make_request(
            body,
            body_bytes,
            model=body.get("model"),
            max_output=next((limit for limit in limits if limit), None),
            user=body.get("user"),
            prompt=lambda: Prompt(
                ({"role": "user", "content": json.dumps(body, default=str)},), attachments=count_attachments(body)
            ),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        self.read_body(answer, event)

    def read_body(self, answer: Answer, body: Json) -> None:
        holders = (body, *(mapping(body.get(name)) for name in ("response", "message", "meta", "usage")))
        for holder in holders:
            for name, reads, writes, total in _SPELLINGS:
                if self._take(answer, mapping(holder.get(name)), reads, writes, total):
                    return

    def _take(self, answer: Answer, usage: Json, reads: Names, writes: Names, total: str) -> bool:
        """Take a usage object, if it is one with counts."""
        read = next((whole(usage[key]) for key in reads if key in usage), None)
        written = next((whole(usage[key]) for key in writes if key in usage), None)
        whole_total = whole(usage.get(total))
        if read is None and written is None:
            if whole_total is None:
                return False
            read = whole_total  # embeddings that report a total only: all of it is input
        if read is not None:
            answer.input_tokens = read
        # What the total holds beyond both is output that the other field leaves out (hidden reasoning).
        hidden = whole_total - (answer.input_tokens or 0) if whole_total is not None else 0
        if written is not None or hidden > 0 or answer.output_tokens is None:
            answer.output_tokens = max(written or 0, hidden)
        return bool(answer.input_tokens or answer.output_tokens)

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        return super().denial(status, code, message, plain=True)
