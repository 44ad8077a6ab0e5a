"""OpenAI's legacy completions, which vLLM, Together, Writer and many local servers speak too.

Request and answer: https://platform.openai.com/docs/api-reference/completions.
"""

import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    MAX_CHOICES,
    Answer,
    Json,
    Message,
    Request,
    Said,
    deployment,
    limited,
    make_request,
    mapping,
    objects,
    said,
    whole,
)
from solaris_meter.metering.dialects.openai_chat import OpenAIChat


class OpenAICompletions(OpenAIChat):
    """`/completions`: chat completions with a prompt in place of messages, and texts in place of deltas."""

    name = "openai-completions"
    conversation = None
    paths = re.compile(r"/completions$", re.IGNORECASE)
    usage_at = "`usage`, streamed in a last chunk without choices that is asked for"
    source = "https://platform.openai.com/docs/api-reference/completions/object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        prompts = body.get("prompt")
        many = len(prompts) if isinstance(prompts, list) and not all(isinstance(part, int) for part in prompts) else 1
        return make_request(
            body,
            body_bytes,
            model=deployment(path) or body.get("model"),
            max_output=body.get("max_tokens"),
            choices=min(MAX_CHOICES, (whole(body.get("best_of")) or whole(body.get("n")) or 1) * max(1, many)),
            user=body.get("user"),
            wants_usage=mapping(body.get("stream_options")).get("include_usage") is True,
            prompt=lambda: openai_style.plain_prompt(prompts),
        )

    def limit_output(self, body: Json, tokens: int) -> Json:
        return body | {"max_tokens": limited(body.get("max_tokens"), tokens)}

    def message(self, request: Request, text: str) -> Message | None:
        return None

    def takes_notice(self, body: Json) -> bool:
        return False

    def read_event(self, answer: Answer, event: Json) -> None:
        super().read_event(answer, event)
        for choice in objects(event.get("choices")):
            answer.wrote(choice.get("text"))

    def read_body(self, answer: Answer, body: Json) -> None:
        super().read_body(answer, body)
        for choice in objects(body.get("choices")):
            answer.wrote(choice.get("text"))

    def ending(self, answer: Answer, notice: str, input_tokens: int, output_tokens: int, *, usage: bool) -> list[Said]:
        state = answer.state
        base = {
            "id": state.get("id", "cmpl-solaris"),
            "object": "text_completion",
            "created": state.get("created", 0),
            "model": state.get("model", ""),
        }
        indices = list(state.get("indices", [0]))
        chunks: list[Json] = [
            base | {"choices": [{"index": index, "text": "", "logprobs": None, "finish_reason": "length"}]}
            for index in indices
        ]
        if notice:
            choice = {"index": indices[0], "text": notice, "logprobs": None, "finish_reason": None}
            chunks.insert(0, base | {"choices": [choice]})
        if usage:
            chunks.append(base | {"choices": [], "usage": openai_style.prompt_completion(input_tokens, output_tokens)})
        return [*map(said, chunks), (None, "[DONE]")]
