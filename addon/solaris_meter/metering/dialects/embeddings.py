"""Embeddings as OpenAI has them, and Azure, Mistral, Voyage, Together, vLLM and others after it.

Request and answer: https://platform.openai.com/docs/api-reference/embeddings.
"""

import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    Answer,
    Json,
    Request,
    deployment,
    items,
    make_request,
    mapping,
)


class Embeddings(openai_style.OpenAIStyle):
    """`/embeddings`."""

    name = "embeddings"
    limits_output = False
    paths = re.compile(r"/embeddings$", re.IGNORECASE)
    usage_at = "`usage`"
    formula = "IN = prompt_tokens, or total_tokens where that is all there is (Voyage); OUT = 0"
    source = "https://platform.openai.com/docs/api-reference/embeddings"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            max_output=1,  # there is none to hold tokens for
            user=body.get("user"),
            prompt=lambda: openai_style.plain_prompt(body.get("input")),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        self.read_body(answer, event)

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.ran = answer.ran or bool(items(body.get("data")))
        answer.named(body.get("model"))
        openai_style.read_prompt_completion(answer, mapping(body.get("usage")))

    def conclude(self, answer: Answer, request: Request) -> None:
        if answer.ran:
            answer.output_tokens = answer.output_tokens or 0
