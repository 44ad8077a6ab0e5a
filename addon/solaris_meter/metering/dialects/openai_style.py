"""What OpenAI's APIs share, and everybody who copied them: the spellings of usage, and of refusals."""

from typing import Any, TypeGuard

from solaris_meter.metering.dialects.dialect import Answer, Dialect, Json, for_librechat, items, mapping, whole
from solaris_meter.metering.tokens import Prompt

_TYPES = {401: "authentication_error", 503: "server_error", 400: "invalid_request_error"}
PICTURE_TOKENS = {"low": 272, "medium": 1056, "high": 4160}
"""Of a square picture, by quality (https://platform.openai.com/docs/guides/image-generation#calculating-costs)."""
DEAREST_PICTURE_TOKENS = 6240

_USD_PER_TICK = 1e-10  # xAI: https://docs.x.ai/docs/guides/cost-tracking


class OpenAIStyle(Dialect):
    """A dialect that refuses as OpenAI does (https://platform.openai.com/docs/guides/error-codes)."""

    def denial(self, status: int, code: str, message: str, *, plain: bool) -> Json:
        text = message if plain else for_librechat(message)
        return {"error": {"message": text, "type": _TYPES.get(status, code), "code": code, "param": None}}


def read_prompt_completion(answer: Answer, usage: Json) -> None:
    """`prompt_tokens`, `completion_tokens`, `total_tokens`: chat, completions, embeddings.

    IN = prompt_tokens; OUT = completion_tokens, or total_tokens - prompt_tokens where that is more: xAI and Gemini's
    OpenAI surface leave hidden reasoning out of completion_tokens. A total alone (Voyage) is all input.
    """
    read, written = answer.number(usage, "prompt_tokens"), answer.number(usage, "completion_tokens")
    total = whole(usage.get("total_tokens"))
    if total is not None and not answer.refused_usage:
        if read is None and written is None:
            if answer.input_tokens is None:
                read, written = total, 0
        elif written is None and read is not None:
            written = max(0, total - read)
    inside, outside = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
    if read is not None:
        answer.input_tokens = read
        # DeepSeek, Mistral and Moonshot have names of their own for what others put into the details.
        cached = [inside, usage.get("prompt_cache_hit_tokens"), usage.get("num_cached_tokens"), usage]
        answer.cached_input_tokens = min(read, next((count for value in cached if (count := _cached(value))), 0))
        rest = read - answer.cached_input_tokens
        answer.cache_write_tokens = min(rest, whole(inside.get("cache_write_tokens")) or 0)
    if written is not None:
        hidden = max(0, total - read - written) if total is not None and read is not None else 0
        answer.output_tokens = written + hidden
        reasoning = whole(outside.get("reasoning_tokens")) or 0
        answer.reasoning_tokens = min(answer.output_tokens, max(reasoning, hidden))
    _read_terms(answer, usage, inside, outside)


def read_input_output(answer: Answer, usage: Json) -> None:
    """`input_tokens`, `output_tokens`: Responses, Realtime, pictures, sound. IN and OUT are these two."""
    read, written = answer.number(usage, "input_tokens"), answer.number(usage, "output_tokens")
    inside = mapping(usage.get("input_tokens_details") or usage.get("input_token_details"))
    outside = mapping(usage.get("output_tokens_details") or usage.get("output_token_details"))
    if read is not None:
        answer.input_tokens = read
        answer.cached_input_tokens = min(read, whole(inside.get("cached_tokens")) or 0)
        rest = read - answer.cached_input_tokens
        answer.cache_write_tokens = min(rest, whole(inside.get("cache_write_tokens")) or 0)
    if written is not None:
        answer.output_tokens = written
        answer.reasoning_tokens = min(written, whole(outside.get("reasoning_tokens")) or 0)
    _read_terms(answer, usage, inside, outside)


def plain_prompt(value: object) -> Prompt:
    """What is completed or embedded: a text, several, or texts that were tokenised already (lists of numbers)."""
    texts: list[str] = []
    ids = 0
    for item in [value] if isinstance(value, str) else items(value):
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, list):
            ids += len(item)
        elif isinstance(item, int):
            ids += 1
    return Prompt(messages=(), text="\n".join(texts), token_ids=ids)


def prompt_completion(input_tokens: int, output_tokens: int) -> Json:
    """A usage object, for an answer that was ended here."""
    total = input_tokens + output_tokens
    return {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": total}


def read_tier(answer: Answer, event: Json) -> None:
    """The service tier that an answer says it was served with."""
    tier = event.get("service_tier")
    if isinstance(tier, str):
        answer.terms["service_tier"] = tier


def _cached(value: Any) -> int | None:
    return whole(value.get("cached_tokens") if isinstance(value, dict) else value)


def _read_terms(answer: Answer, usage: Json, inside: Json, outside: Json) -> None:
    """What the price depends on besides the totals, and the price itself where the provider tells it."""
    for name, holder, key in (
        ("audio_input_tokens", inside, "audio_tokens"),
        ("audio_output_tokens", outside, "audio_tokens"),
        ("image_input_tokens", inside, "image_tokens"),
        ("image_output_tokens", outside, "image_tokens"),
    ):
        if count := whole(holder.get(key)):
            answer.terms[name] = count
    ticks = usage.get("cost_in_usd_ticks")
    cost = usage.get("cost")  # OpenRouter: a number; Perplexity: an object
    price = mapping(cost).get("total_cost") if isinstance(cost, dict) else cost
    if _is_number(ticks):
        price = ticks * _USD_PER_TICK
    if _is_number(price):
        # With the caller's own key (BYOK) OpenRouter's cost is its fee alone.
        upstream = mapping(usage.get("cost_details")).get("upstream_inference_cost") if usage.get("is_byok") else 0
        answer.terms["reported_usd"] = float(price) + (float(upstream) if _is_number(upstream) else 0.0)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
