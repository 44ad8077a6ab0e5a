"""What a call cost the operator in USD: LiteLLM's price map, and the operator's own prices over it.

LiteLLM is asked for its map and its arithmetic, never to look a name up: its own look-up prices unknown Claude names at
zero, and asks the Hugging Face hub about others. A price is known only where the map has the model, under the provider
that was called, and names a price for everything that was used.
"""

import functools
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, TypeGuard

from solaris_meter.metering.tokens import import_litellm
from solaris_meter.models import PriceTerms, Usage
from solaris_meter.settings import Price

log = logging.getLogger(__name__)

Entry = Mapping[str, Any]
"""A model's prices in USD per unit, as LiteLLM's map has them (`input_cost_per_token`, …)."""

_MOST_USD = 1e6
"""No call costs more: a larger sum is a fault, of a report or of a setting."""

_REMEMBERED = 1024
_LONGEST_NAME = 512
"""A model's name comes from a caller: what is longer than any real one is not remembered."""

_LISTS: Mapping[str, tuple[str, ...]] = {
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "google": ("gemini",),
    "vertex_ai": ("vertex_ai",),
    "azure": ("azure", "azure_ai"),
    "bedrock": ("bedrock",),
    "mistral": ("mistral",),
    "groq": ("groq",),
    "deepseek": ("deepseek",),
    "xai": ("xai",),
    "perplexity": ("perplexity",),
    "cohere": ("cohere",),
    "together": ("together_ai",),
    "fireworks": ("fireworks_ai",),
    "moonshot": ("moonshot",),
    "cerebras": ("cerebras",),
    "voyage": ("voyage",),
}
"""Provider → the price lists it sells by. A route or host of the operator has none, whatever its models are called."""

_SAME_LIST = {
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
}
_DIVIDED_LIST = re.compile(r"(vertex_ai|fireworks_ai)-.*")

_VENDORS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "mistralai": "mistral",
    "x-ai": "xai",
    "deepseek": "deepseek",
    "moonshotai": "moonshot",
    "cohere": "cohere",
    "perplexity": "perplexity",
}
"""The vendors in OpenRouter's `vendor/model` whose price OpenRouter passes on, and their names here."""

_HUB_SELLERS = {
    "together": "together_ai",
    "fireworks-ai": "fireworks_ai",
    "groq": "groq",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "novita": "novita",
    "nebius": "nebius",
    "sambanova": "sambanova",
    "nscale": "nscale",
    "hyperbolic": "hyperbolic",
}
"""The sellers in the Hugging Face router's `org/model:seller`, and the price lists they sell by."""

_FOUNDATION_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/(.+)")
_DATE = re.compile(r"-\d{4}-\d\d-\d\d$|[-@]\d{8}$|@default$")
_GOOGLE_REVISION = re.compile(r"-00\d$")
_SIZE = re.compile(r"(\d{1,5})\s*x\s*(\d{1,5})")

_USUAL_TIERS = frozenset({"", "default", "standard", "auto"})
_STEPS = re.compile(r"above_|tiered|threshold|off_peak")
_KINDS = ("text_in", "cached", "written_5m", "text_out", "reasoning")

_OVERLAID = (
    ("input", ("input_cost_per_token",)),
    ("cached_input", ("cache_read_input_token_cost",)),
    ("cache_write", ("cache_creation_input_token_cost",)),
    ("output", ("output_cost_per_token", "output_cost_per_reasoning_token")),
)


class Pricing:
    """Costs of calls. `overrides`: the operator's prices by a pattern on `model` or `provider/model`.

    Of the patterns that match, in any case, the one with the most literal characters wins. Loads LiteLLM with the first
    call that needs its map, which takes seconds where nobody has loaded it yet. Thread-safe.
    """

    def __init__(self, overrides: Mapping[str, Price]) -> None:
        ranked = sorted(overrides.items(), key=lambda item: _literals(item[0]), reverse=True)
        self._overrides = [(re.compile(translate(pattern.lower())), price) for pattern, price in ranked]
        self._own_price = functools.lru_cache(maxsize=_REMEMBERED)(self._find_own)
        self._tariff = functools.lru_cache(maxsize=_REMEMBERED)(self._find_tariff)

    def cost_nano_usd(self, provider: str, model: str, usage: Usage, terms: PriceTerms) -> int | None:
        """What the call cost, in nano-USD (1e-9), rounded up once; None where no price is known. Never raises."""
        try:
            usd = self._usd(provider, _bounded(model), _bounded(terms.model), usage, terms)
            return None if usd is None or usd > _MOST_USD else _nano(usd)
        except Exception:
            log.warning("a call to %.100r of %.100r could not be priced", provider, model, exc_info=True)
            return None

    def _usd(self, provider: str, asked: str, answered: str, usage: Usage, terms: PriceTerms) -> float | None:
        reported = terms.reported_usd
        if reported is not None and not 0 <= reported <= _MOST_USD:  # not a number is neither
            reported = None
        if reported is not None and self._own_price(provider, asked, answered) is None:
            return reported
        tariff = self._tariff(provider, asked, answered)
        usd = None if tariff is None else _charge(tariff, usage, terms)
        return reported if usd is None else usd

    def _find_own(self, provider: str, asked: str, answered: str) -> Price | None:
        names = [name.lower() for model in (asked, answered) if model for name in (model, f"{provider}/{model}")]
        matching = (price for pattern, price in self._overrides if any(map(pattern.match, names)))
        return next(matching, None)

    def _find_tariff(self, provider: str, asked: str, answered: str) -> "_Tariff | None":
        library = _library()
        if library is None:
            return None
        own = self._own_price(provider, asked, answered)
        # The name in an Azure request is its deployment's, which may be that of another model.
        for model in (answered,) if provider == "azure" else (asked, answered):
            for price_list, name in _spellings(provider, model):
                entry = library.entries.get((price_list, name))
                if entry is not None:
                    return _Tariff(library, price_list, name, entry, own)
        return None if own is None else _Tariff(library, "", "", {}, own)


class _Tariff:
    """The prices of one model: its entry in a price list, empty where it is in none, with our own laid over it.

    `by_token`: what it reads costs something. `free`: a sum of zero is to be believed.
    """

    __slots__ = ("_each", "by_token", "free", "library", "mode", "name", "own", "price_list", "prices")

    def __init__(self, library: "_Library", price_list: str, name: str, entry: Entry, own: Price | None) -> None:
        self.library = library
        self.price_list = price_list
        self.name = name
        self.own = own or Price()
        self.prices = _overlay(entry, self.own)
        self.mode = entry.get("mode")
        self.by_token = _positive(self.prices, "input_cost_per_token") is not None
        named = [getattr(self.own, field) for field in self.own.__struct_fields__]
        listed = [value for key, value in self.prices.items() if "cost" in key and _is_number(value)]
        self.free = 0 in named or (bool(listed) and not any(listed))

        self._each: tuple[float, ...] | None = None

    def usd(self, tier: str, tokens: "_Tokens") -> float:
        """What tokens cost. Where prices have no steps, tiers or hours, what one of each kind costs is remembered:
        LiteLLM takes longer for a sum than the ledger for a settlement."""
        counts = (tokens.text_in, tokens.cached, tokens.written_5m, tokens.text_out, tokens.reasoning)
        if tier not in _USUAL_TIERS or sum(counts) != tokens.read + tokens.generated:
            return self.library.tokens_usd(self.prices, self.price_list, tier, tokens)
        if self._each is None:
            self._each = () if any(map(_STEPS.search, self.prices)) else tuple(map(self._one, _KINDS))
        if not self._each:
            return self.library.tokens_usd(self.prices, self.price_list, tier, tokens)
        return math.fsum(count * each for count, each in zip(counts, self._each, strict=True))

    def _one(self, kind: str) -> float:
        """What one token of a kind costs."""
        million = _Tokens(**dict.fromkeys(_Tokens.__dataclass_fields__, 0) | {kind: 1_000_000})
        return self.library.tokens_usd(self.prices, self.price_list, "", million) / 1_000_000

    def has(self, key: str, tier: str) -> bool:
        """Whether there is a price of this kind, be it zero; `tier` may have one of its own."""
        return _is_number(self.prices.get(key)) or _is_number(self.prices.get(f"{key}_{tier}"))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a call, each in one part."""

    text_in: int
    cached: int
    written_5m: int
    written_1h: int
    audio_in: int
    image_in: int
    text_out: int
    reasoning: int
    audio_out: int
    image_out: int

    @property
    def read(self) -> int:
        return self.text_in + self.cached + self.written_5m + self.written_1h + self.audio_in + self.image_in

    @property
    def generated(self) -> int:
        return self.text_out + self.reasoning + self.audio_out + self.image_out


class _Library:
    """LiteLLM: its price map by (price list, lower-case model name), and the cost of tokens."""

    def __init__(self) -> None:
        litellm = import_litellm()
        from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token
        from litellm.types.utils import (
            CacheCreationTokenDetails,
            CompletionTokensDetailsWrapper,
            PromptTokensDetailsWrapper,
        )

        self._usage, self._cost_per_token = litellm.Usage, generic_cost_per_token
        self._prompt_details, self._completion_details = PromptTokensDetailsWrapper, CompletionTokensDetailsWrapper
        self._write_details = CacheCreationTokenDetails
        self.entries = _by_name(litellm.model_cost)

    def tokens_usd(self, prices: Entry, price_list: str, tier: str, tokens: _Tokens) -> float:
        """What tokens cost by these prices, in USD. LiteLLM knows steps by length, tiers and hours of the day."""
        read, generated = tokens.read, tokens.generated
        written = tokens.written_5m + tokens.written_1h
        usage = self._usage(
            prompt_tokens=read,
            completion_tokens=generated,
            total_tokens=read + generated,
            prompt_tokens_details=self._prompt_details(
                text_tokens=tokens.text_in,
                cached_tokens=tokens.cached,
                audio_tokens=tokens.audio_in,
                image_tokens=tokens.image_in,
                cache_write_tokens=written,
                cache_creation_token_details=self._write_details(
                    ephemeral_5m_input_tokens=tokens.written_5m, ephemeral_1h_input_tokens=tokens.written_1h
                )
                if written
                else None,
            ),
            completion_tokens_details=self._completion_details(
                text_tokens=tokens.text_out,
                reasoning_tokens=tokens.reasoning,
                audio_tokens=tokens.audio_out,
                image_tokens=tokens.image_out,
            ),
        )
        # Not litellm.cost_per_token: that one takes a name, and would look it up.
        into, out = self._cost_per_token(
            model="", usage=usage, custom_llm_provider=price_list, service_tier=tier or None, model_info=prices
        )
        return float(into + out)


@functools.cache
def _library() -> _Library | None:
    try:
        return _Library()
    except Exception:
        log.exception("litellm cannot be loaded: the cost of a call is known only where the provider reports it")
        return None


def _by_name(price_map: Mapping[str, Any]) -> dict[tuple[str, str], Entry]:
    entries: dict[tuple[str, str], Entry] = {}
    shortened: dict[tuple[str, str], Entry] = {}
    for key, entry in price_map.items():
        if not isinstance(entry, dict):
            continue
        seller = str(entry.get("litellm_provider"))
        price_list = _SAME_LIST.get(seller) or _DIVIDED_LIST.sub(r"\1", seller)
        own_key = key.lower().startswith(f"{seller}/") or key.lower().startswith(f"{price_list}/")
        name = key.lower().partition("/")[2] if own_key else key.lower()
        # Where there is a model with and without the seller's name, the first is LiteLLM's choice as well.
        if own_key or (price_list, name) not in entries:
            entries[price_list, name] = entry
        if price_list == "vertex_ai":  # its paths name the publisher apart from the model
            shortened[price_list, name.rpartition("/")[2]] = entry
        elif "-x-" in name:  # dall-e may have prices by quality and size alone
            shortened[price_list, name.rpartition("/")[2]] = {"mode": "image_generation"}
    return shortened | entries


def _spellings(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """The price lists and names that may hold a model, best first."""
    name = model.strip().lower()
    if provider == "openrouter":
        vendor, _, name = name.partition("/")
        provider = _VENDORS.get(vendor, "")
        if provider == "anthropic":
            name = name.replace(".", "-")  # claude-sonnet-4.5
    lists, names = _LISTS.get(provider, ()), [name]
    if provider == "huggingface":
        name, _, seller = name.rpartition(":")
        lists = tuple(filter(None, [_HUB_SELLERS.get(seller)]))
        names = [name, name.rpartition("/")[2]]
    elif provider in {"google", "vertex_ai"}:
        names = [name.rpartition("models/")[2].removeprefix("google/")]
        names.append(_GOOGLE_REVISION.sub("", names[0]))
    elif provider == "bedrock" and (arn := _FOUNDATION_ARN.fullmatch(name)):
        names = [arn[1]]
    elif name.startswith("ft:"):
        names = [":".join(name.split(":")[:2])]  # ft:gpt-4o-2024-08-06:organisation:suffix:id
    for name in [*names, *(_DATE.sub("", name) for name in names)]:
        yield from ((price_list, name) for price_list in lists)


def _overlay(entry: Entry, own: Price) -> Entry:
    """The prices with our own in the place of what they name: a price of ours has no tiers, steps or hours."""
    prices = dict(entry)
    off_peak = dict(prices.get("off_peak_pricing") or {})
    for field, kinds in _OVERLAID:
        price = getattr(own, field)
        if price is None:
            continue
        for table in (prices, off_peak):
            for key in [key for key in table if key.startswith(kinds)]:
                del table[key]
        prices[kinds[0]] = price / 1e6
        prices.pop("tiered_pricing", None)
        prices.pop("provider_specific_entry", None)
    if off_peak:
        prices["off_peak_pricing"] = off_peak
    return prices


def _charge(tariff: _Tariff, usage: Usage, terms: PriceTerms) -> float | None:
    """USD; None where something was used that has no price."""
    tokens = _split(usage, terms, all_sound=tariff.mode == "audio_speech")
    sound = _sound(tariff, usage, terms)
    pictures = _pictures(tariff, usage.images, terms)
    searches = _searches(tariff, terms.web_searches, ran=tokens.read + tokens.generated > 0)
    if sound is None or pictures is None or searches is None:
        return None
    paid_otherwise = sound > 0 or usage.audio_ms > 0 or usage.images > 0
    by_token = _by_token(tariff, tokens, terms.service_tier, paid_otherwise=paid_otherwise)
    if by_token is None:
        return None
    per_call = (_positive(tariff.prices, "input_cost_per_request") or 0.0) if tokens.read + tokens.generated else 0.0
    usd = math.fsum((sound, pictures, searches, by_token, per_call))
    used = max(tokens.read, tokens.generated, usage.images, usage.audio_ms, terms.characters, terms.web_searches) > 0
    if usd == 0 and not tariff.free and (used or not tariff.by_token):
        return None  # paid by something that is not known here, such as the search units of a rerank
    return usd


def _split(usage: Usage, terms: PriceTerms, *, all_sound: bool) -> _Tokens:
    """The parts of a usage; where the parts reported are more than their whole, what is cached comes first."""
    read, generated = max(0, usage.input_tokens), max(0, usage.output_tokens)
    cached = _part(usage.cached_input_tokens, read)
    written = _part(usage.cache_write_tokens, read - cached)
    written_1h = _part(terms.hour_cache_write_tokens, written)
    # A sound that was cached is counted as sound and as cached, and is paid as cached.
    rest = read - cached - written
    audio_in = _part(terms.audio_input_tokens, rest)
    image_in = _part(terms.image_input_tokens, rest - audio_in)
    audio_out = generated if all_sound else _part(terms.audio_output_tokens, generated)
    image_out = _part(terms.image_output_tokens, generated - audio_out)
    reasoning = _part(usage.reasoning_tokens, generated - audio_out - image_out)
    return _Tokens(
        text_in=rest - audio_in - image_in,
        cached=cached,
        written_5m=written - written_1h,
        written_1h=written_1h,
        audio_in=audio_in,
        image_in=image_in,
        text_out=generated - audio_out - image_out - reasoning,
        reasoning=reasoning,
        audio_out=audio_out,
        image_out=image_out,
    )


def _by_token(tariff: _Tariff, tokens: _Tokens, service_tier: str, *, paid_otherwise: bool) -> float | None:
    tier = service_tier.lower().removeprefix("on_demand_")  # Vertex AI says ON_DEMAND_PRIORITY
    if not tariff.has("input_cost_per_token", tier):
        covered = tokens.audio_in if tariff.has("input_cost_per_audio_token", tier) else 0
        covered += tokens.image_in if tariff.has("input_cost_per_image_token", tier) else 0
        if tokens.read > covered:
            if not paid_otherwise:
                return None
            # The words that ask for a picture have no price where the picture has one.
            tokens = _Tokens(0, 0, 0, 0, 0, 0, tokens.text_out, tokens.reasoning, tokens.audio_out, tokens.image_out)
    if not tariff.has("output_cost_per_token", tier) and not tariff.has("output_cost_per_image_token", tier):
        covered = tokens.audio_out if tariff.has("output_cost_per_audio_token", tier) else 0
        if tokens.generated > covered:
            return None
    if not tokens.read and not tokens.generated:
        return 0.0
    if tier == "batch":  # no call that is answered at once is one
        return None
    usd = tariff.usd(tier, tokens)
    if tier == "fast" and tariff.price_list == "anthropic":
        usd *= _positive(tariff.prices.get("provider_specific_entry") or {}, "fast") or 1
    return usd


def _sound(tariff: _Tariff, usage: Usage, terms: PriceTerms) -> float | None:
    """Sound that is paid by its length, or by the characters that were read aloud."""
    seconds, characters = max(0, usage.audio_ms) / 1000, max(0, terms.characters)
    if seconds and tariff.own.second is not None:
        return seconds * tariff.own.second
    per_character = _positive(tariff.prices, "input_cost_per_character")
    if characters and per_character is not None:
        return characters * per_character
    if seconds and tariff.mode != "video_generation":
        # Where both are given (whisper-1) they are the same price, not two.
        per_second = _positive(tariff.prices, "output_cost_per_second", "input_cost_per_second")
        return None if per_second is None else seconds * per_second
    unmeasured = seconds or (characters and usage.output_tokens <= 0)
    return None if unmeasured else 0.0


def _pictures(tariff: _Tariff, count: int, terms: PriceTerms) -> float | None:
    """Pictures that are paid by the piece."""
    if count <= 0:
        return 0.0
    if tariff.own.image is not None:
        return count * tariff.own.image
    size = _SIZE.fullmatch(terms.image_size.strip().lower().replace("-x-", "x"))
    width, height = (int(size[1]), int(size[2])) if size else (1024, 1024)  # the default of dall-e
    for prices in _picture_prices(tariff, f"{width}-x-{height}", terms.image_quality.strip().lower()):
        per_picture = _positive(prices, "output_cost_per_image", "input_cost_per_image")
        if per_picture is not None:
            return count * per_picture
        per_pixel = _positive(prices, "input_cost_per_pixel")
        if per_pixel is not None and size:
            return count * per_pixel * width * height
    return None


def _picture_prices(tariff: _Tariff, size: str, quality: str) -> Iterator[Entry]:
    """The entries that may price a picture, best first: some models have one for each quality and size."""
    # A gpt-image chooses its quality itself where none was asked for; dall-e takes the standard one.
    quality = quality or ("auto" if "gpt-image" in tariff.name else "standard")
    names = [f"{quality}/{size}/{tariff.name}"]
    if quality == "standard":
        names.append(f"{size}/{tariff.name}")
    yield from filter(None, (tariff.library.entries.get((tariff.price_list, name)) for name in names))
    if tariff.mode in {"image_generation", "image_edit"}:  # a chat model's price per image is for one that it sees
        yield tariff.prices


def _searches(tariff: _Tariff, count: int, *, ran: bool) -> float | None:
    """Web searches, which are paid by the piece."""
    is_sonar = tariff.price_list == "perplexity"
    table = tariff.prices.get("search_context_cost_per_query")
    if is_sonar and ran and table:
        count = max(1, count)  # each of its answers is paid as a search
    if count <= 0:
        return 0.0
    if tariff.price_list in {"gemini", "vertex_ai"} and "claude" not in tariff.name:
        count = count if tariff.prices.get("web_search_billing_unit") == "per_query" else 1
    # How much of what was found is read is not known here: Perplexity's default is low, the others' medium.
    price = (table or {}).get(f"search_context_size_{'low' if is_sonar else 'medium'}")
    return count * float(price) if _is_number(price) else None


def _part(count: int, whole: int) -> int:
    return min(max(0, count), whole)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(prices: Entry, *keys: str) -> float | None:
    """The first of these prices that is there and more than zero."""
    return next((float(prices[key]) for key in keys if _is_number(prices.get(key)) and prices[key] > 0), None)


def _bounded(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else ""


def _literals(pattern: str) -> int:
    return len(re.sub(r"\[[^\]]*\]|[*?]", "", pattern))


def _nano(usd: float) -> int:
    # Binary fractions put 0.00064 USD a trifle above 640,000: that is no reason to round up.
    return math.ceil(round(usd * 1e9, 3))
