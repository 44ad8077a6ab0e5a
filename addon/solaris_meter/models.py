"""The values that the layers hand to each other: frozen, counts in whole tokens, times in UTC milliseconds."""

from dataclasses import dataclass
from typing import Literal

from solaris_meter.periods import Period

Basis = Literal["reported", "counted", "estimated"]
"""How sure a count is: `reported` by the provider, `counted` with LiteLLM, `estimated` when something was assumed."""

Status = Literal["active", "blocked"]
Ending = Literal["settled", "free", "journalled", "uncharged", "denied"]
"""How a call ended: `settled` in the ledger; `free`, because nothing was owed; `journalled`, because the ledger was
down; `uncharged`, because the ledger refused it; `denied`, and never sent upstream."""
Overdraft = Literal["soft", "strict"]
GrantKind = Literal["allowance", "rollover", "bonus", "credit"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used. `input_tokens` is everything the model read, caches included; `output_tokens` everything
    billed as output, hidden reasoning included; the next three are parts of those two. `images` are pictures paid by
    the piece and `audio_ms` milliseconds of sound paid by their length: both 0 where they are paid in tokens."""

    input_tokens: int
    output_tokens: int
    basis: Basis
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    audio_ms: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """What sets a call's price besides its Usage; nothing of it is billed in tokens.

    `model` is the name the answer gives, empty where it gives none (an Azure deployment's name is not a model's).
    `service_tier` is the provider's word for it (`flex`, `priority`, …), empty for the standard one. The counts are
    parts of the Usage: sound and pictures among input and output, and cache writes that live for an hour.
    `characters` are read aloud, `web_searches` are paid by the piece, `reported_usd` is what the provider says it
    charged.
    """

    model: str = ""
    service_tier: str = ""
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    hour_cache_write_tokens: int = 0
    characters: int = 0
    web_searches: int = 0
    image_size: str = ""
    image_quality: str = ""
    reported_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call. `user` keys the account; the e-mail is for people, the conversation for reports."""

    user: str
    email: str | None = None
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class CallDetails:
    """What is called. `dialect` is the wire format, `provider` the server behind it."""

    provider: str
    model: str
    dialect: str
    endpoint: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands at one moment.

    `limit` is everything there was to use in the period: what was used and what is left (`used + balance`).
    `balance` can be negative (debt); `available` is what no running call has reserved.
    """

    user: str
    email: str | None
    plan: str
    status: Status
    timezone: str
    period: Period
    used: int
    reserved: int
    balance: int

    @property
    def limit(self) -> int:
        return max(0, self.used + self.balance)

    @property
    def available(self) -> int:
        return self.balance - self.reserved

    @property
    def percent_used(self) -> float:
        """Used share of the limit in percent, one decimal, rounded down so that 80.0 is never shown too early."""
        if self.limit == 0:
            return 100.0 if self.used else 0.0
        return self.used * 1000 // self.limit / 10


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call that is over, as those hear of it who watch (logs, metrics, inspection). It holds no text and no key.

    `id` is the usage event's, empty for a denial. `caller` and `details` None: the call was denied before they were
    known. `reason` says why it was denied. `status` is the upstream's HTTP status, or that of the denial. `settle_ms`
    is how long the ledger took to commit the settlement.
    """

    id: str
    ending: Ending
    caller: Caller | None
    details: CallDetails | None
    at_ms: int
    duration_ms: int
    status: int
    reason: str = ""
    interrupted: bool = False
    usage: Usage | None = None
    billed_tokens: int = 0
    cost_nano_usd: int | None = None
    standing: Standing | None = None
    settle_ms: int = 0
