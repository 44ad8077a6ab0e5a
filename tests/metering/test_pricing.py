"""Prices are read from LiteLLM's map in the test and added up by hand, so that an upgrade of the map breaks nothing."""

import math
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solaris_meter.metering import pricing
from solaris_meter.metering.pricing import Pricing
from solaris_meter.metering.tokens import import_litellm
from solaris_meter.models import PriceTerms, Usage
from solaris_meter.settings import Price

PLAIN = PriceTerms()
LISTED = Pricing({})
PREFIXES = {
    "anthropic": ("anthropic", ""),
    "azure": ("azure", "azure/"),
    "bedrock": ("bedrock", ""),
    "bedrock_converse": ("bedrock", ""),
    "cerebras": ("cerebras", "cerebras/"),
    "cohere_chat": ("cohere", ""),
    "deepseek": ("deepseek", "deepseek/"),
    "fireworks_ai": ("fireworks", "fireworks_ai/"),
    "gemini": ("google", "gemini/"),
    "groq": ("groq", "groq/"),
    "mistral": ("mistral", "mistral/"),
    "moonshot": ("moonshot", "moonshot/"),
    "openai": ("openai", ""),
    "together_ai": ("together", "together_ai/"),
    "vertex_ai-anthropic_models": ("vertex_ai", "vertex_ai/"),
    "vertex_ai-mistral_models": ("vertex_ai", "vertex_ai/"),
    "voyage": ("voyage", "voyage/"),
    "xai": ("xai", "xai/"),
}
"""What LiteLLM calls a provider → what it is called here, and how LiteLLM's keys begin."""


@pytest.fixture(autouse=True, scope="module")
def no_network():
    def refuse(*args, **kwargs):
        raise AssertionError(f"pricing looks for the network: {args[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            patch.setattr(socket, name, refuse)
        yield


@pytest.fixture(scope="module")
def price_map():
    return import_litellm().model_cost


def reported(read, written=0, **parts):
    return Usage(read, written, "reported", **parts)


def nano(*amounts):
    """Σ count · USD in nano-USD, exact to the digits in which the map writes its prices, then rounded up."""
    usd = sum((Decimal(str(count)) * Decimal(repr(price)) for count, price in amounts), Decimal(0))
    return math.ceil(usd * 10**9)


# Tokens


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "gpt-4o-2099-12-31", "gpt-4o"),
        ("openai", "ft:gpt-4o-2024-08-06:acme:suporte:AbC1", "ft:gpt-4o-2024-08-06"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::AbC1", "ft:gpt-4o-2024-08-06"),
        ("openai", "gpt-3.5-turbo-instruct", "gpt-3.5-turbo-instruct"),
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("google", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("google", "models/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("google", "gemini-2.5-flash-001", "gemini/gemini-2.5-flash"),
        ("vertex_ai", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("vertex_ai", "google/gemini-2.5-flash", "gemini-2.5-flash"),
        ("vertex_ai", "publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("vertex_ai", "claude-sonnet-4-5@20250929", "vertex_ai/claude-sonnet-4-5@20250929"),
        ("vertex_ai", "claude-sonnet-4-6@default", "vertex_ai/claude-sonnet-4-6@default"),
        ("vertex_ai", "publishers/anthropic/models/claude-opus-4-7@20991231", "vertex_ai/claude-opus-4-7"),
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (
            "bedrock",
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0",
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("bedrock", "amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        ("mistral", "mistral-medium-latest", "mistral/mistral-medium-latest"),
        ("groq", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
        ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
        ("xai", "grok-4.3", "xai/grok-4.3"),
        ("cohere", "command-a-03-2025", "command-a-03-2025"),
        ("together", "deepseek-ai/DeepSeek-V3", "together_ai/deepseek-ai/DeepSeek-V3"),
        (
            "fireworks",
            "accounts/fireworks/models/gpt-oss-120b",
            "fireworks_ai/accounts/fireworks/models/gpt-oss-120b",
        ),
        ("moonshot", "kimi-k2.6", "moonshot/kimi-k2.6"),
        ("cerebras", "gpt-oss-120b", "cerebras/gpt-oss-120b"),
        ("huggingface", "openai/gpt-oss-120b:groq", "groq/openai/gpt-oss-120b"),
        ("huggingface", "openai/gpt-oss-120b:cerebras", "cerebras/gpt-oss-120b"),
        ("huggingface", "deepseek-ai/DeepSeek-V3:together", "together_ai/deepseek-ai/DeepSeek-V3"),
        ("openrouter", "openai/gpt-4o", "gpt-4o"),
        ("openrouter", "google/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("openrouter", "x-ai/grok-4.3", "xai/grok-4.3"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
    ],
)
def test_a_model_is_found_under_the_provider_that_was_called(price_map, provider, model, key):
    entry = price_map[key]
    expected = nano((1000, entry["input_cost_per_token"]), (300, entry["output_cost_per_token"]))
    assert LISTED.cost_nano_usd(provider, model, reported(1000, 300), PLAIN) == expected > 0


def test_every_text_model_of_the_map_costs_what_the_map_says(price_map):
    checked = 0
    for key, entry in price_map.items():
        provider, prefix = PREFIXES.get(str(entry.get("litellm_provider")), ("", ""))
        read, written = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
        twice = prefix and not key.startswith(prefix) and f"{prefix}{key}" in price_map
        if entry.get("mode") not in {"chat", "embedding"} or not provider or not read or written is None or twice:
            continue
        if "off_peak_pricing" in entry or (prefix and not key.startswith(prefix)) or "/*/" in key:
            continue
        name = key.removeprefix(prefix).removeprefix("bedrock/")
        usage = reported(1000, 500 if written else 0)
        terms = PriceTerms(model=name)
        assert LISTED.cost_nano_usd(provider, name, usage, terms) == nano((1000, read), (usage.output_tokens, written))
        checked += 1
    assert checked > 1000


def test_what_was_cached_is_cheaper(price_map):
    entry = price_map["gpt-4o"]
    expected = nano(
        (400, entry["input_cost_per_token"]),
        (600, entry["cache_read_input_token_cost"]),
        (50, entry["output_cost_per_token"]),
    )
    usage = reported(1000, 50, cached_input_tokens=600, reasoning_tokens=20)
    assert LISTED.cost_nano_usd("openai", "gpt-4o", usage, PLAIN) == expected


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("vertex_ai", "claude-sonnet-4-5@20250929", "vertex_ai/claude-sonnet-4-5@20250929"),
        (
            "bedrock",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
    ],
)
def test_cache_writes_cost_by_how_long_they_live(price_map, provider, model, key):
    entry = price_map[key]
    usage = reported(10_000, 500, cached_input_tokens=4000, cache_write_tokens=3000)
    expected = nano(
        (3000, entry["input_cost_per_token"]),
        (4000, entry["cache_read_input_token_cost"]),
        (2000, entry["cache_creation_input_token_cost"]),
        (1000, entry["cache_creation_input_token_cost_above_1hr"]),
        (500, entry["output_cost_per_token"]),
    )
    assert LISTED.cost_nano_usd(provider, model, usage, PriceTerms(hour_cache_write_tokens=1000)) == expected


def test_litellm_comes_to_the_same_sum():
    litellm = import_litellm()
    usage = litellm.Usage(
        prompt_tokens=10_000,
        completion_tokens=500,
        total_tokens=10_500,
        cache_read_input_tokens=4000,
        cache_creation_input_tokens=3000,
    )
    parts = litellm.cost_per_token(model="claude-sonnet-4-5", custom_llm_provider="anthropic", usage_object=usage)
    ours = reported(10_000, 500, cached_input_tokens=4000, cache_write_tokens=3000)
    assert LISTED.cost_nano_usd("anthropic", "claude-sonnet-4-5", ours, PLAIN) == round(sum(parts) * 1e9)


@pytest.mark.parametrize(
    ("word", "suffix"),
    [
        ("flex", "_flex"),
        ("priority", "_priority"),
        ("ON_DEMAND_PRIORITY", "_priority"),
        ("default", ""),
        ("auto", ""),
        ("standard", ""),
        ("on_demand", ""),
        ("", ""),
    ],
)
def test_a_service_tier_has_its_own_prices(price_map, word, suffix):
    entry = price_map["gpt-5-mini"]
    expected = nano(
        (700, entry[f"input_cost_per_token{suffix}"]),
        (300, entry[f"cache_read_input_token_cost{suffix}"]),
        (100, entry[f"output_cost_per_token{suffix}"]),
    )
    usage = reported(1000, 100, cached_input_tokens=300)
    assert LISTED.cost_nano_usd("openai", "gpt-5-mini", usage, PriceTerms(service_tier=word)) == expected


def test_the_tier_of_a_batch_is_not_guessed():
    assert LISTED.cost_nano_usd("openai", "gpt-5-mini", reported(1000, 10), PriceTerms(service_tier="batch")) is None


def test_fast_claude_costs_its_multiple(price_map):
    entry = price_map["claude-opus-5"]
    once = nano((1000, entry["input_cost_per_token"]), (100, entry["output_cost_per_token"]))
    cost = LISTED.cost_nano_usd("anthropic", "claude-opus-5", reported(1000, 100), PriceTerms(service_tier="fast"))
    assert cost == once * entry["provider_specific_entry"]["fast"] > once


@pytest.mark.parametrize(
    ("provider", "model", "key", "step"),
    [
        ("google", "gemini-2.5-pro", "gemini/gemini-2.5-pro", "200k"),
        ("xai", "grok-4.3", "xai/grok-4.3", "200k"),
        ("openai", "gpt-5.5", "gpt-5.5", "272k"),
    ],
)
def test_a_long_request_costs_more_for_each_token(price_map, provider, model, key, step):
    entry = price_map[key]
    usage = reported(300_000, 1000, cached_input_tokens=100_000)
    expected = nano(
        (200_000, entry[f"input_cost_per_token_above_{step}_tokens"]),
        (100_000, entry[f"cache_read_input_token_cost_above_{step}_tokens"]),
        (1000, entry[f"output_cost_per_token_above_{step}_tokens"]),
    )
    assert LISTED.cost_nano_usd(provider, model, usage, PLAIN) == expected


def test_sound_and_pictures_in_tokens_have_their_own_prices(price_map):
    entry = price_map["gpt-audio"]
    expected = nano(
        (200, entry["input_cost_per_token"]),
        (800, entry["input_cost_per_audio_token"]),
        (100, entry["output_cost_per_token"]),
        (400, entry["output_cost_per_audio_token"]),
    )
    terms = PriceTerms(audio_input_tokens=800, audio_output_tokens=400)
    assert LISTED.cost_nano_usd("openai", "gpt-audio", reported(1000, 500), terms) == expected

    entry = price_map["gpt-image-1"]
    expected = nano(
        (50, entry["input_cost_per_token"]),
        (300, entry["input_cost_per_image_token"]),
        (4160, entry["output_cost_per_image_token"]),
    )
    terms = PriceTerms(image_input_tokens=300, image_output_tokens=4160)
    assert LISTED.cost_nano_usd("openai", "gpt-image-1", reported(350, 4160), terms) == expected


def test_parts_that_exceed_their_whole_are_cut(price_map):
    entry = price_map["gpt-audio"]
    usage = reported(100, 10, cached_input_tokens=70, cache_write_tokens=90, reasoning_tokens=99)
    terms = PriceTerms(audio_input_tokens=90, audio_output_tokens=40, hour_cache_write_tokens=500)
    # The model has no cache price: all of what was cached costs as input.
    expected = nano((100, entry["input_cost_per_token"]), (10, entry["output_cost_per_audio_token"]))
    assert LISTED.cost_nano_usd("openai", "gpt-audio", usage, terms) == expected


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "text-embedding-3-small", "text-embedding-3-small"),
        ("mistral", "mistral-embed", "mistral/mistral-embed"),
        ("voyage", "voyage-3.5", "voyage/voyage-3.5"),
        ("voyage", "rerank-2.5", "voyage/rerank-2.5"),
        ("cohere", "embed-v4.0", "cohere/embed-v4.0"),
    ],
)
def test_vectors_and_token_priced_reranks_cost_their_input(price_map, provider, model, key):
    expected = nano((1234, price_map[key]["input_cost_per_token"]))
    assert LISTED.cost_nano_usd(provider, model, reported(1234), PLAIN) == expected > 0


# Azure, and other names in the answer


def test_an_azure_deployment_costs_what_the_model_in_its_answer_costs(price_map):
    entry = price_map["azure/gpt-4o-2024-11-20"]
    expected = nano((1000, entry["input_cost_per_token"]), (100, entry["output_cost_per_token"]))
    terms = PriceTerms(model="gpt-4o-2024-11-20")
    assert LISTED.cost_nano_usd("azure", "producao", reported(1000, 100), terms) == expected
    # The deployment may be called after another model.
    assert LISTED.cost_nano_usd("azure", "gpt-4o-mini", reported(1000, 100), terms) == expected
    assert LISTED.cost_nano_usd("azure", "gpt-4o-mini", reported(1000, 100), PLAIN) is None


def test_claude_on_azure_is_found_without_its_date(price_map):
    entry = price_map["azure_ai/claude-sonnet-4-5"]
    expected = nano((1000, entry["input_cost_per_token"]), (100, entry["output_cost_per_token"]))
    terms = PriceTerms(model="claude-sonnet-4-5-20250929")
    assert LISTED.cost_nano_usd("azure", "claude", reported(1000, 100), terms) == expected


def test_the_name_in_the_answer_helps_where_the_name_asked_for_is_unknown(price_map):
    entry = price_map["gpt-4o"]
    expected = nano((1000, entry["input_cost_per_token"]))
    assert (
        LISTED.cost_nano_usd("openrouter", "openrouter/auto", reported(1000), PriceTerms("openai/gpt-4o")) == expected
    )
    assert LISTED.cost_nano_usd("openai", "gpt-4o", reported(1000), PriceTerms(model="gpt-5-mini")) == expected


# Pieces, seconds, characters


def test_a_transcription_costs_by_the_second(price_map):
    usage = reported(0, 0, audio_ms=12_345)
    expected = nano(("12.345", price_map["whisper-1"]["input_cost_per_second"]))
    assert LISTED.cost_nano_usd("openai", "whisper-1", usage, PLAIN) == expected
    expected = nano(("12.345", price_map["groq/whisper-large-v3"]["input_cost_per_second"]))
    assert LISTED.cost_nano_usd("groq", "whisper-large-v3", usage, PLAIN) == expected
    assert LISTED.cost_nano_usd("openai", "whisper-1", reported(30, 20), PLAIN) is None
    assert LISTED.cost_nano_usd("openai", "gpt-4o", usage, PLAIN) is None


def test_reading_aloud_costs_by_the_character_or_by_the_second(price_map):
    usage = reported(25, 0, audio_ms=4000)
    expected = nano((100, price_map["tts-1"]["input_cost_per_character"]))
    assert LISTED.cost_nano_usd("openai", "tts-1", usage, PriceTerms(characters=100)) == expected

    entry = price_map["gpt-4o-mini-tts"]
    expected = nano((25, entry["input_cost_per_token"]), (4, entry["output_cost_per_second"]))
    assert LISTED.cost_nano_usd("openai", "gpt-4o-mini-tts", usage, PriceTerms(characters=100)) == expected
    expected = nano((25, entry["input_cost_per_token"]), (80, entry["output_cost_per_audio_token"]))
    by_token = reported(25, 80)
    assert LISTED.cost_nano_usd("openai", "gpt-4o-mini-tts", by_token, PriceTerms(characters=100)) == expected
    unmeasured = reported(25, 0)
    assert LISTED.cost_nano_usd("openai", "gpt-4o-mini-tts", unmeasured, PriceTerms(characters=100)) is None


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("google", "imagen-3.0-generate-001", "gemini/imagen-3.0-generate-001"),
        ("bedrock", "stability.sd3-5-large-v1:0", "stability.sd3-5-large-v1:0"),
    ],
)
def test_pictures_cost_by_the_piece(price_map, provider, model, key):
    expected = nano((3, price_map[key]["output_cost_per_image"]))
    assert LISTED.cost_nano_usd(provider, model, reported(0, images=3), PLAIN) == expected
    # The words that asked for them were counted, and have no price.
    assert LISTED.cost_nano_usd(provider, model, reported(40, images=3), PLAIN) == expected
    assert LISTED.cost_nano_usd(provider, model, reported(40, 900), PLAIN) is None


@pytest.mark.parametrize("size", ["1536x1024", "1536-x-1024", " 1536X1024 "])
def test_pictures_cost_by_size_and_quality(price_map, size):
    terms = PriceTerms(image_size=size, image_quality="medium")
    expected = nano((2, price_map["medium/1536-x-1024/gpt-image-1"]["input_cost_per_image"]))
    assert LISTED.cost_nano_usd("openai", "gpt-image-1", reported(0, images=2), terms) == expected

    per_pixel = price_map["azure/hd/1024-x-1792/dall-e-3"]["input_cost_per_pixel"]
    terms = PriceTerms(model="dall-e-3", image_size="1024x1792", image_quality="hd")
    cost = LISTED.cost_nano_usd("azure", "imagens", reported(0, images=1), terms)
    assert cost == nano((1024 * 1792, per_pixel))


@pytest.mark.parametrize(
    "terms",
    [
        PLAIN,
        PriceTerms(image_size="1024x1024"),
        PriceTerms(image_size="1024x1024", image_quality="auto"),
        PriceTerms(image_size="auto", image_quality="ultra"),
        PriceTerms(image_size="640x480", image_quality="low"),
    ],
)
def test_a_picture_of_unknown_make_has_no_price(terms):
    assert LISTED.cost_nano_usd("openai", "gpt-image-1", reported(0, images=1), terms) is None


def test_web_searches_cost_by_the_piece(price_map):
    entry = price_map["claude-sonnet-4-5"]
    each = entry["search_context_cost_per_query"]["search_context_size_medium"]
    expected = nano((1000, entry["input_cost_per_token"]), (3, each))
    terms = PriceTerms(web_searches=3)
    assert LISTED.cost_nano_usd("anthropic", "claude-sonnet-4-5", reported(1000), terms) == expected
    assert LISTED.cost_nano_usd("openai", "gpt-3.5-turbo", reported(1000), terms) is None


def test_google_search_costs_by_the_prompt_or_by_the_query(price_map):
    for model, times in (("gemini-2.5-flash", 1), ("gemini-3-flash-preview", 3)):
        entry = price_map[f"gemini/{model}"]
        each = entry["search_context_cost_per_query"]["search_context_size_medium"]
        expected = nano((1000, entry["input_cost_per_token"]), (times, each))
        assert LISTED.cost_nano_usd("google", model, reported(1000), PriceTerms(web_searches=3)) == expected


def test_each_answer_of_sonar_is_paid_as_a_search(price_map):
    entry = price_map["perplexity/sonar"]
    each = entry["search_context_cost_per_query"]["search_context_size_low"]
    expected = nano((1000, entry["input_cost_per_token"]), (100, entry["output_cost_per_token"]), (1, each))
    assert LISTED.cost_nano_usd("perplexity", "sonar", reported(1000, 100), PLAIN) == expected


# What the provider says it charged


def test_what_the_provider_charged_is_the_cost():
    for provider, model in (("openrouter", "openai/gpt-4o"), ("perplexity", "sonar"), ("gateway", "unknown")):
        cost = LISTED.cost_nano_usd(provider, model, reported(9_999, 99), PriceTerms(reported_usd=0.00064))
        assert cost == 640_000
    assert LISTED.cost_nano_usd("openrouter", "free/model", reported(10, 10), PriceTerms(reported_usd=0.0)) == 0


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -0.01, 1e7, 1e300])
def test_an_impossible_charge_is_passed_over(nonsense):
    usage, terms = reported(1000, 100), PriceTerms(reported_usd=nonsense)
    expected = LISTED.cost_nano_usd("openai", "gpt-4o", usage, PLAIN)
    assert LISTED.cost_nano_usd("openrouter", "openai/gpt-4o", usage, terms) == expected
    assert LISTED.cost_nano_usd("openrouter", "acme/unknown", usage, terms) is None


@pytest.mark.parametrize(
    ("usd", "cost"),
    [
        (0.00064, 640_000),
        (0.1 + 0.2, 300_000_000),
        (1.1e-9, 2),
        (1e-9, 1),
        (1e-11, 1),
        (0.0000033, 3300),
        (1234.567890123, 1_234_567_890_123),
    ],
)
def test_a_fraction_of_a_nano_dollar_is_rounded_up_but_binary_noise_is_not(usd, cost):
    assert LISTED.cost_nano_usd("openrouter", "x/y", reported(1), PriceTerms(reported_usd=usd)) == cost


# What has no price


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-opus-4-1-20250805"),
        ("anthropic", "claude-newfamily-9"),
        ("openrouter", "anthropic/claude-sonnet-4.99"),
        ("openrouter", "openrouter/auto"),
        ("openrouter", "openai/gpt-4o:free"),
        ("openrouter", "gpt-4o"),
        ("openai", "gpt-99"),
        ("openai", "claude-sonnet-4-5"),
        ("openai", ""),
        ("openai", "unknown"),
        ("openai", "gpt-4o" * 1000),
        ("google", "gemini-99-pro"),
        ("vertex_ai", "claude-opus-99@20991231"),
        ("vertex_ai", "claude-opus-4-99"),
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"),
        ("bedrock", "xx.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("together", "acme/llama-99-8b"),
        ("fireworks", "accounts/acme/models/llama-8b"),
        ("huggingface", "openai/gpt-oss-120b"),
        ("huggingface", "openai/gpt-oss-120b:fastest"),
        ("writer", "palmyra-x5"),
        ("ollama", "llama3"),
        ("ollama", "gpt-4o"),
        ("vllm", "gpt-4o"),
        ("gpu.example.org", "claude-sonnet-4-5"),
        ("", "gpt-4o"),
    ],
)
def test_an_unknown_model_has_no_price(provider, model, caplog, capfd):
    for usage in (reported(1000, 100), reported(1000), reported(0), reported(0, images=1), reported(0, audio_ms=5)):
        assert LISTED.cost_nano_usd(provider, model, usage, PLAIN) is None
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("cohere", "rerank-v3.5"), ("bedrock", "cohere.rerank-v3-5:0"), ("mistral", "mistral-ocr-4-0")],
)
def test_a_model_paid_in_units_that_are_not_known_here_has_no_price(provider, model):
    for usage in (reported(0), reported(500), reported(500, 1)):
        assert LISTED.cost_nano_usd(provider, model, usage, PLAIN) is None


def test_a_free_model_is_free_only_where_the_map_says_so(price_map):
    entry = price_map["gemini/gemma-4-31b-it"]
    assert entry["input_cost_per_token"] == entry["output_cost_per_token"] == 0
    assert LISTED.cost_nano_usd("google", "gemma-4-31b-it", reported(1000, 100), PLAIN) == 0
    # No price in tokens is no price of zero.
    assert "input_cost_per_token" not in price_map["perplexity/preset/pro-search"]
    assert LISTED.cost_nano_usd("perplexity", "preset/pro-search", reported(1000, 100), PLAIN) is None


def test_a_call_that_used_nothing_cost_nothing():
    assert LISTED.cost_nano_usd("openai", "gpt-4o", reported(0), PLAIN) == 0


# The operator's own prices


def test_own_prices_override_everything():
    own = Pricing({"gpt-4o": Price(input=2.0, cached_input=0.5, cache_write=3.0, output=8.0)})
    usage = reported(1_000_000, 100_000, cached_input_tokens=200_000, cache_write_tokens=100_000, reasoning_tokens=5000)
    expected = nano((700_000, 2e-6), (200_000, 0.5e-6), (100_000, 3e-6), (100_000, 8e-6))
    for provider in ("openai", "vllm", "gateway.example.org"):
        for terms in (PLAIN, PriceTerms(reported_usd=77.0), PriceTerms(service_tier="priority")):
            hour = replace(terms, hour_cache_write_tokens=50_000)
            assert own.cost_nano_usd(provider, "gpt-4o", usage, hour) == expected


def test_an_own_price_has_no_steps_tiers_or_hours():
    own = Pricing({"*": Price(input=1.0, output=1.0, cached_input=1.0)})
    usage = reported(500_000, 500, cached_input_tokens=1000, reasoning_tokens=100)
    for provider, model in (
        ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-v4-pro"),
        ("anthropic", "claude-opus-5"),
    ):
        for tier in ("", "priority", "fast"):
            assert own.cost_nano_usd(provider, model, usage, PriceTerms(service_tier=tier)) == 500_500_000


def test_the_pattern_with_the_most_literal_characters_wins():
    own = Pricing(
        {
            "*": Price(input=1.0),
            "gpt-*": Price(input=2.0),
            "openai/gpt-*": Price(input=3.0),
            "openai/gpt-4?": Price(input=4.0),
            "gpt-4[op]-mini": Price(input=5.0),
            "*llama*": Price(input=6.0),
        }
    )

    def per_million(provider, model, answered=""):
        return own.cost_nano_usd(provider, model, reported(1_000_000), PriceTerms(model=answered))

    assert per_million("vllm", "qwen") == 1_000_000_000
    assert per_million("vllm", "gpt-oss") == 2_000_000_000
    assert per_million("openai", "gpt-5") == 3_000_000_000
    assert per_million("openai", "GPT-4o") == 4_000_000_000
    assert per_million("vllm", "gpt-4o-mini") == 5_000_000_000
    assert per_million("together", "meta-llama/Llama-99") == 6_000_000_000
    assert per_million("azure", "producao", "gpt-4o-mini") == 5_000_000_000


def test_what_an_own_price_leaves_out_costs_as_the_map_says(price_map):
    own = Pricing({"gpt-4o": Price(output=4.0)})
    entry = price_map["gpt-4o"]
    usage = reported(1000, 100, cached_input_tokens=400)
    expected = nano((600, entry["input_cost_per_token"]), (400, entry["cache_read_input_token_cost"]), (100, 4e-6))
    assert own.cost_nano_usd("openai", "gpt-4o", usage, PLAIN) == expected

    own = Pricing({"gpt-audio": Price(input=1.0)})
    entry = price_map["gpt-audio"]
    expected = nano((600, 1e-6), (400, entry["input_cost_per_audio_token"]), (100, entry["output_cost_per_token"]))
    assert own.cost_nano_usd("openai", "gpt-audio", reported(1000, 100), PriceTerms(audio_input_tokens=400)) == expected


def test_what_an_own_price_of_an_unknown_model_leaves_out_is_not_guessed():
    own = Pricing({"local": Price(input=2.0)})
    cached = reported(1000, 0, cached_input_tokens=300, cache_write_tokens=200)
    assert own.cost_nano_usd("vllm", "local", cached, PLAIN) == nano((1000, 2e-6))
    assert own.cost_nano_usd("vllm", "local", reported(1000, 1), PLAIN) is None
    assert own.cost_nano_usd("vllm", "local", reported(1000, images=1), PLAIN) is None
    assert own.cost_nano_usd("vllm", "local", reported(1000, audio_ms=1), PLAIN) is None
    assert own.cost_nano_usd("vllm", "local", reported(1000), PriceTerms(web_searches=1)) is None
    # What the provider says is still better than nothing.
    assert own.cost_nano_usd("vllm", "local", reported(1000, 1), PriceTerms(reported_usd=0.5)) == 500_000_000
    only_output = Pricing({"local": Price(output=2.0)})
    assert only_output.cost_nano_usd("vllm", "local", reported(1, 1000), PLAIN) is None


def test_own_prices_of_pictures_and_sound():
    own = Pricing({"*": Price(image=0.05, second=0.002)})
    assert own.cost_nano_usd("vllm", "flux", reported(40, images=2), PLAIN) == 100_000_000
    assert own.cost_nano_usd("vllm", "whisper", reported(0, audio_ms=1500), PLAIN) == 3_000_000
    assert own.cost_nano_usd("openai", "whisper-1", reported(0, audio_ms=1500), PLAIN) == 3_000_000
    aloud = PriceTerms(characters=100)
    assert own.cost_nano_usd("openai", "tts-1", reported(25, audio_ms=1500), aloud) == 3_000_000
    assert own.cost_nano_usd("vllm", "flux", reported(40), PLAIN) is None


def test_an_own_price_of_zero_is_a_price():
    own = Pricing({"llama*": Price(input=0, output=0), "mixed": Price(input=0, output=5.0), "paint": Price(image=0)})
    assert own.cost_nano_usd("ollama", "llama3", reported(1000, 100), PLAIN) == 0
    assert own.cost_nano_usd("ollama", "mixed", reported(1000), PLAIN) == 0
    assert own.cost_nano_usd("ollama", "paint", reported(30, images=1), PLAIN) == 0


# Robustness

COUNTS = st.integers(-5, 10**6) | st.integers() | st.just(10**9)
MODELS = st.text(max_size=30) | st.sampled_from(
    [
        "gpt-4o",
        "gpt-image-1",
        "whisper-1",
        "tts-1",
        "claude-opus-5",
        "models/gemini-2.5-pro",
        "sonar",
        "grok-4.3",
        ":",
        "/",
        "openai/gpt-4o",
        "us.anthropic.claude-sonnet-5",
        "rerank-v3.5",
        "ft:gpt-4o:",
        "openai/gpt-oss-20b:groq",
    ]
)
PROVIDERS = st.sampled_from([*pricing._LISTS, "openrouter", "huggingface", "writer", "vllm"]) | st.text(max_size=10)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    output_tokens=COUNTS,
    basis=st.just("reported"),
    cached_input_tokens=COUNTS,
    cache_write_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    images=st.just(0) | COUNTS,
    audio_ms=st.just(0) | COUNTS,
)
TERMS = st.builds(
    PriceTerms,
    model=st.just("") | MODELS,
    service_tier=st.sampled_from(["", "flex", "priority", "fast", "batch", "ON_DEMAND_FLEX"]) | st.text(max_size=8),
    audio_input_tokens=COUNTS,
    audio_output_tokens=COUNTS,
    image_input_tokens=COUNTS,
    image_output_tokens=COUNTS,
    hour_cache_write_tokens=COUNTS,
    characters=st.just(0) | COUNTS,
    web_searches=st.just(0) | COUNTS,
    image_size=st.sampled_from(["", "1024x1024", "0x0", "x"]) | st.text(max_size=8),
    image_quality=st.sampled_from(["", "hd", "low"]) | st.text(max_size=8),
    reported_usd=st.none() | st.floats(),
)
OWN = st.builds(Price, **dict.fromkeys(Price.__struct_fields__, st.none() | st.floats(0, 1e9)))


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(st.text("gpt4o*?[]-", max_size=6), OWN, max_size=2), PROVIDERS, MODELS, USAGES, TERMS)
def test_nothing_raises_and_no_cost_is_negative(overrides, provider, model, usage, terms):
    cost = Pricing(overrides).cost_nano_usd(provider, model, usage, terms)
    assert cost is None or (type(cost) is int and 0 <= cost < 2**63)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_more_tokens_never_cost_less(read, written, data):
    cached, write = data.draw(st.integers(0, read)), data.draw(st.integers(0, read))
    for provider, model in (("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")):
        usage = reported(read, written, cached_input_tokens=cached, cache_write_tokens=min(write, read - cached))
        more = replace(usage, input_tokens=read + 1, output_tokens=written + 1)
        cost, dearer = (LISTED.cost_nano_usd(provider, model, each, PLAIN) for each in (usage, more))
        assert cost is not None
        assert dearer is not None
        assert cost < dearer


def test_threads_get_the_same_costs():
    usages = [reported(n, n, cached_input_tokens=n // 2) for n in range(400)]
    fresh = Pricing({"other": Price(input=1.0)})

    def costs(pricing, usage):
        names = ("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("vllm", "other")
        return [pricing.cost_nano_usd(*name, usage, PLAIN) for name in names]

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda usage: costs(fresh, usage), usages))
    assert together == [costs(Pricing({"other": Price(input=1.0)}), usage) for usage in usages]


def test_a_fault_in_litellm_is_a_cost_that_is_not_known(monkeypatch, caplog):
    def fail(*args):
        raise KeyError("input_cost_per_token")

    monkeypatch.setattr(pricing._Library, "tokens_usd", fail)
    assert Pricing({}).cost_nano_usd("openai", "gpt-4o", reported(10, 10), PLAIN) is None
    assert "a call to 'openai' of 'gpt-4o' could not be priced" in caplog.text


def test_without_litellm_only_what_the_provider_charged_is_known(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "litellm", None)  # what an import of a missing package looks like
    pricing._library.cache_clear()
    try:
        alone = Pricing({})
        assert alone.cost_nano_usd("openai", "gpt-4o", reported(10, 10), PLAIN) is None
        assert alone.cost_nano_usd("openrouter", "x/y", reported(10, 10), PriceTerms(reported_usd=0.5)) == 500_000_000
    finally:
        pricing._library.cache_clear()
    assert "litellm cannot be loaded" in caplog.text
