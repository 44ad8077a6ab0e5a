"""What mitmweb says of a call: its metadata, its comment and its marker, from the reports of the calls on one flow."""

from dataclasses import dataclass, replace

from solaris_meter.models import CallDetails, Caller, CallReport, Standing, Usage

Metadata = dict[str, str | int]

_NANO = 1_000_000_000

RUNNING = ":hourglass_flowing_sand:"
SERVED = ":green_circle:"
WARNED = ":yellow_circle:"
DENIED = ":no_entry:"
INTERRUPTED = ":scissors:"
FAILED = ":boom:"

_SUCCESSES, _ERRORS = 100, 400
_LEFTOVERS = {
    "journalled": "the ledger is down: journalled, to be billed later",
    "uncharged": "the ledger refused it: not charged",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The calls of one flow: one, or those of a WebSocket session one after another.

    Token counts, `billed_tokens` and `cost_nano_usd` are sums over the `calls` that are over and used something; of the
    rest the last one is meant. `cost_nano_usd` None: not known of one of them. `ending` empty: a call is running.
    """

    caller: Caller | None = None
    details: CallDetails | None = None
    id: str = ""
    ending: str = ""
    status: int = 0
    reason: str = ""
    interrupted: bool = False
    calls: int = 0
    usage: Usage | None = None
    billed_tokens: int = 0
    cost_nano_usd: int | None = None
    standing: Standing | None = None

    def admitted(self, call_id: str, caller: Caller, details: CallDetails, standing: Standing | None) -> "Summary":
        """One more call runs on the flow."""
        return replace(
            self, id=call_id, caller=caller, details=details, ending="", reason="", standing=standing or self.standing
        )

    def over(self, report: CallReport, status: int) -> "Summary":
        """A call of the flow has ended, or was denied; `status` is that of the flow, 0 where no answer came."""
        summed = replace(
            self,
            id=report.id or self.id,
            caller=report.caller or self.caller,
            details=report.details or self.details,
            ending=report.ending,
            status=report.status or status,
            reason=report.reason,
            interrupted=report.interrupted,
            standing=report.standing or self.standing,
        )
        if report.usage is None:
            return summed
        return replace(
            summed,
            calls=self.calls + 1,
            usage=_sum(self.usage, report.usage),
            billed_tokens=self.billed_tokens + report.billed_tokens,
            cost_nano_usd=_plus(self.cost_nano_usd if self.usage else 0, report.cost_nano_usd),
        )

    def marker(self, warned_percent: int) -> str:
        """The name of an emoji. `warned_percent`: from which share of the limit on a person was warned."""
        if not self.ending:
            return RUNNING
        if self.ending == "denied":
            return DENIED
        if self.interrupted and self.ending not in _LEFTOVERS:
            return INTERRUPTED
        if self.ending in _LEFTOVERS or not _SUCCESSES <= self.status < _ERRORS:
            return FAILED
        warned = self.standing is not None and self.standing.percent_used >= warned_percent
        return WARNED if warned else SERVED

    @property
    def comment(self) -> str:
        """One line for the list of flows."""
        parts = [(self.caller.email or self.caller.user) if self.caller else "nobody"]
        if self.details:
            parts.append(self.details.model)
        if self.calls > 1:
            parts.append(f"{self.calls} calls")
        if self.usage is not None:
            parts += [_tokens(self.usage, self.billed_tokens), *_cost(self.cost_nano_usd)]
        if not self.ending:
            parts.append("running")
        elif self.ending == "denied":
            parts.append(f"denied: {self.reason} ({self.status})")
        elif self.ending == "free" and self.usage is None:
            parts.append(f"nothing was owed ({self.status})" if self.status else "nothing was owed, no answer came")
        elif self.ending in _LEFTOVERS:
            parts.append(_LEFTOVERS[self.ending])
        if self.interrupted:
            parts.append("interrupted")
        if self.standing:
            parts.append(f"{self.standing.available:,} left")
        return " · ".join(parts)

    @property
    def metadata(self) -> Metadata:
        """Plain values, each under its own key, so that the filter `~meta "solaris_user: ana"` finds them."""
        found: Metadata = {"solaris_ending": self.ending or "running"}
        if self.caller:
            found["solaris_user"] = self.caller.user
            found |= _present(solaris_email=self.caller.email, solaris_conversation=self.caller.conversation)
        if self.details:
            details = self.details
            found |= {
                "solaris_provider": details.provider,
                "solaris_model": details.model,
                "solaris_dialect": details.dialect,
                "solaris_endpoint": details.endpoint,
            }
        found |= _present(solaris_request=self.id or None, solaris_denied=self.reason or None)
        if self.interrupted:
            found["solaris_interrupted"] = "yes"
        if self.usage is not None:
            usage = self.usage
            found |= {
                "solaris_calls": self.calls,
                "solaris_tokens": usage.total_tokens,
                "solaris_input_tokens": usage.input_tokens,
                "solaris_cached_input_tokens": usage.cached_input_tokens,
                "solaris_output_tokens": usage.output_tokens,
                "solaris_reasoning_tokens": usage.reasoning_tokens,
                "solaris_basis": usage.basis,
                "solaris_billed_tokens": self.billed_tokens,
            }
            if self.cost_nano_usd is not None:
                found["solaris_cost_usd"] = f"{self.cost_nano_usd / _NANO:.6f}"
        if self.standing:
            standing = self.standing
            found |= {
                "solaris_plan": standing.plan,
                "solaris_left": standing.available,
                "solaris_limit": standing.limit,
                "solaris_percent_used": str(standing.percent_used),
            }
        return found


def _present(**values: str | None) -> Metadata:
    return {name: value for name, value in values.items() if value is not None}


def _tokens(usage: Usage, billed: int) -> str:
    text = (
        f"{usage.input_tokens:,} in + {usage.output_tokens:,} out = {usage.total_tokens:,} tokens ({usage.basis})"
        if usage.total_tokens or not (usage.images or usage.audio_ms)
        else f"({usage.basis})"
    )
    if usage.images:
        text = f"{usage.images:,} images {text}"
    if usage.audio_ms:
        text = f"{usage.audio_ms / 1000:,.1f} s of sound {text}"
    return text if billed in {0, usage.total_tokens} else f"{text}, {billed:,} billed"


def _cost(nano_usd: int | None) -> list[str]:
    """Four decimals, or as many as a cost needs to be seen."""
    if nano_usd is None:
        return []
    usd = nano_usd / _NANO
    return [f"${usd:,.4f}" if usd >= 0.0001 or not usd else f"${usd:.9f}".rstrip("0")]


def _sum(one: Usage | None, other: Usage) -> Usage:
    if one is None:
        return other
    order = ("reported", "counted", "estimated")
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        basis=max(one.basis, other.basis, key=order.index),
        cached_input_tokens=one.cached_input_tokens + other.cached_input_tokens,
        cache_write_tokens=one.cache_write_tokens + other.cache_write_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
        images=one.images + other.images,
        audio_ms=one.audio_ms + other.audio_ms,
    )


def _plus(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
