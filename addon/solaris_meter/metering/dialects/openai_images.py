"""OpenAI's pictures: generation, edits, variations.

Request and answer: https://platform.openai.com/docs/api-reference/images, and /images-streaming beside it. The models
of the gpt-image family are paid in tokens, the dall-e models by the picture.
"""

import re

from solaris_meter.metering.dialects import openai_style
from solaris_meter.metering.dialects.dialect import (
    MAX_CHOICES,
    Answer,
    Json,
    Request,
    deployment,
    items,
    kind,
    make_request,
    mapping,
    number,
)
from solaris_meter.metering.prompt import count_attachments
from solaris_meter.metering.tokens import Prompt

_PAID_IN_TOKENS = re.compile(r"gpt-image|chatgpt-image")


class OpenAIImages(openai_style.OpenAIStyle):
    """`/images/generations`, `/images/edits`, `/images/variations`; edits come as an uploaded form."""

    name = "openai-images"
    limits_output = False
    takes_forms = True
    paths = re.compile(r"/images/(generations|edits|variations)$", re.IGNORECASE)
    usage_at = "`usage`, streamed in `image_generation.completed` and `image_edit.completed`; dall-e: none"
    formula = "IN = input_tokens; OUT = output_tokens; without usage: the pictures in `data`"
    source = "https://platform.openai.com/docs/api-reference/images/object"

    def read_request(self, path: str, body: Json, body_bytes: int) -> Request:
        model = deployment(path) or body.get("model") or "dall-e-2"  # the API's default
        count = min(MAX_CHOICES, number(body.get("n")) or 1)
        return make_request(
            body,
            body_bytes,
            model=model,
            choices=count,
            max_output=openai_style.DEAREST_PICTURE_TOKENS if _PAID_IN_TOKENS.search(str(model)) else 1,
            user=body.get("user"),
            images=0 if _PAID_IN_TOKENS.search(str(model)) else count,
            prompt=lambda: Prompt(messages=(), text=str(body.get("prompt") or ""), attachments=count_attachments(body)),
        )

    def read_event(self, answer: Answer, event: Json) -> None:
        if kind(event).endswith(".partial_image"):
            answer.ran = True
        elif kind(event).endswith(".completed"):
            answer.state["pictures"] = answer.state.get("pictures", 0) + 1
            self._read_usage(answer, event)

    def is_last(self, event: Json) -> bool:
        return kind(event).endswith(".completed")

    def read_body(self, answer: Answer, body: Json) -> None:
        answer.state["pictures"] = len(items(body.get("data")))
        self._read_usage(answer, body)

    def conclude(self, answer: Answer, request: Request) -> None:
        for key, term in (("size", "image_size"), ("quality", "image_quality")):
            if isinstance(request.body.get(key), str):
                answer.terms.setdefault(term, request.body[key])
        if answer.input_tokens is None and answer.output_tokens is None and answer.state.get("pictures"):
            answer.images = answer.state["pictures"]
            answer.input_tokens = answer.output_tokens = 0
        if answer.ran and answer.output_tokens is None:
            # What was shown on the way is nearly the picture.
            quality = str(answer.terms.get("image_quality"))
            answer.unseen_tokens = (
                openai_style.PICTURE_TOKENS.get(quality, openai_style.PICTURE_TOKENS["medium"]) * request.choices
            )

    def _read_usage(self, answer: Answer, holder: Json) -> None:
        usage = mapping(holder.get("usage"))
        openai_style.read_input_output(answer, usage)
        if answer.output_tokens and "image_output_tokens" not in answer.terms:
            answer.terms["image_output_tokens"] = answer.output_tokens
        for key, term in (("size", "image_size"), ("quality", "image_quality")):
            if isinstance(holder.get(key), str):
                answer.terms[term] = holder[key]
