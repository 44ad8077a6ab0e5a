"""Metrics in Prometheus' format: counters that are fed as calls end, and gauges that are read when somebody asks.

Names and units follow https://prometheus.io/docs/practices/naming/. What a caller can write (a model, a path) becomes a
label only up to a number of distinct values: beyond it stands `other`. Nobody's name is a label, unless the operator
wants it (`observe.users`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mitmproxy import http
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from solaris_meter import __version__
from solaris_meter.chat.denials import REASONS
from solaris_meter.ledger.backlog import Backlog
from solaris_meter.models import CallDetails, CallReport, Usage
from solaris_meter.proxy.watch import Watcher

MOST_MODELS = 200
MOST_PROVIDERS = 50
MOST_ENDPOINTS = 100
MOST_USERS = 5_000
OTHER = "other"
_UNNAMED = "unnamed"
"""Of a request that names no model: an empty label is none."""
LEDGER_OPERATIONS = ("reserve", "settle", "charge", "tend")
"""Where the ledger can fail: a call is refused for it; its settlement is journalled; it refuses the charge, which is
lost then; upkeep (renewing, recovering, billing the journal)."""

_CALL_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SETTLE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(frozen=True, slots=True)
class Moment:
    """What is read when somebody asks. `unmetered` are counts by `provider path`.

    `backlog` None: the ledger did not answer. `disk_free` is in bytes. None: it cannot be told.
    """

    now_ms: int
    running: int
    waiting: int
    litellm_ready: bool
    unmetered: Mapping[str, int]
    backlog: Backlog | None
    journalled: int | None
    disk_free: int | None


class Metrics(Watcher):
    """Counts what happens to calls."""

    def __init__(self, *, users: bool = False) -> None:
        disable_created_metrics()  # a second series for each one, which nothing here needs
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._calls = Counter(
            "solaris_calls",
            "Admitted calls that ended. ending: settled; free, nothing was owed; journalled, to be billed later;"
            " uncharged, the ledger refused it. status: the class of the upstream's HTTP status.",
            ["provider", "model", "dialect", "ending", "status"],
            registry=registry,
        )
        self._interrupted = Counter(
            "solaris_interrupted_calls", "Charged calls that broke off.", ["provider", "model"], registry=registry
        )
        self._tokens = Counter(
            "solaris_tokens",
            "The models' tokens of settled and journalled calls. The kinds add up: input is without what was cached"
            " and output without reasoning. basis: reported by the provider, counted, or estimated.",
            ["provider", "model", "kind", "basis"],
            registry=registry,
        )
        self._billed = Counter(
            "solaris_billed_tokens", "What settled calls were charged.", ["provider", "model", "basis"],
            registry=registry,
        )  # fmt: skip
        self._cost = Counter(
            "solaris_cost_usd",
            "What the provider takes for settled and journalled calls, where the price is known. Calls of the first"
            " seconds after a start are priced later, in the ledger alone.",
            ["provider", "model"],
            registry=registry,
        )
        self._durations = Histogram(
            "solaris_call_duration_seconds", "Charged calls, from the request to the end of the answer.", ["provider"],
            buckets=_CALL_BUCKETS, registry=registry,
        )  # fmt: skip
        self._settlements = Histogram(
            "solaris_settlement_duration_seconds", "How long the ledger took to commit the settlement of a call.",
            buckets=_SETTLE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._denials = Counter("solaris_denials", "Refused requests.", ["reason"], registry=registry)
        self._errors = Counter(
            "solaris_ledger_errors",
            "reserve: a call was refused because the ledger was away; settle: it was journalled for that; charge: the"
            " ledger refused to charge it; tend: upkeep failed, which is tried again.",
            ["operation"],
            registry=registry,
        )
        self._by_user: Counter | None = None
        if users:
            self._by_user = Counter(
                "solaris_user_billed_tokens", "What settled calls were charged, by user.", ["user"], registry=registry
            )
        self._users: set[str] = set()
        self._names: dict[tuple[str, str], tuple[str, str]] = {}
        self._providers: set[str] = set()
        self._series: dict[tuple[str, ...], _Series] = {}
        self._stopping = False
        # A counter that begins with its first event hides it from `increase`.
        for reason in REASONS:
            self._denials.labels(reason)
        self._failures = {operation: self._errors.labels(operation) for operation in LEDGER_OPERATIONS}

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        self._denials.labels(report.reason).inc()
        if report.reason == "ledger_unavailable" and not self._stopping:
            self._failures["reserve"].inc()

    def ended(self, report: CallReport) -> None:
        if report.details is None:
            return
        usage = report.usage if report.ending in {"settled", "journalled"} else None
        provider, model = self._labels(report.details, charged=usage is not None)
        status = f"{report.status // 100}xx" if report.status else "none"
        basis = usage.basis if usage else ""
        key = (provider, model, report.details.dialect, report.ending, status, basis)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._open(key)
        series.calls.inc()
        if report.ending == "journalled":
            self._failures["settle"].inc()
        elif report.ending == "uncharged":
            self._failures["charge"].inc()
        if usage is not None:
            self._count(series, report, usage)

    def tending_failed(self) -> None:
        """A round of upkeep failed."""
        self._failures["tend"].inc()

    def stop(self) -> None:
        """From now on calls are refused because the sidecar stops: that is no error of the ledger."""
        self._stopping = True

    def render(self, moment: Moment, accept: str = "") -> tuple[bytes, str]:
        """Everything in the format that an Accept header asks for, and its content type. From any thread."""
        encode, content_type = choose_encoder(accept)
        return encode(_All(self._registry, moment)), content_type

    def _count(self, series: "_Series", report: CallReport, usage: Usage) -> None:
        for child, tokens in zip(series.tokens, _kinds(usage), strict=True):
            if tokens:
                child.inc(tokens)
        series.duration.observe(report.duration_ms / 1000)
        if report.interrupted:
            series.interrupted.inc()
        if report.cost_nano_usd is not None:
            series.cost.inc(report.cost_nano_usd / 1e9)
        if report.ending == "settled":
            series.billed.inc(report.billed_tokens)
            self._settlements.observe(report.settle_ms / 1000)
            if self._by_user is not None and report.caller is not None:
                self._by_user.labels(self._user(report.caller.user)).inc(report.billed_tokens)

    def _labels(self, details: CallDetails, *, charged: bool) -> tuple[str, str]:
        """Provider and model as labels. A model gets its own once a call of it was charged: that costs whoever made the
        name up."""
        named = (details.provider, details.model)
        known = self._names.get(named)
        if known is not None:
            return known
        provider = _clean(details.provider)
        if charged and len(self._providers) < MOST_PROVIDERS:
            self._providers.add(provider)
        provider = provider if provider in self._providers else OTHER
        if not charged or len(self._names) >= MOST_MODELS:
            return provider, OTHER
        labels = self._names[named] = (provider, _clean(details.model) or _UNNAMED)
        return labels

    def _user(self, user: str) -> str:
        if user not in self._users and len(self._users) < MOST_USERS:
            self._users.add(user)
        return _clean(user) if user in self._users else OTHER

    def _open(self, key: tuple[str, ...]) -> "_Series":
        """Looking a child up by its labels takes a lock and as long as all of the counting."""
        provider, model, dialect, ending, status, basis = key
        return _Series(
            self._calls.labels(provider, model, dialect, ending, status),
            [self._tokens.labels(provider, model, kind, basis) for kind in _KINDS] if basis else [],
            self._billed.labels(provider, model, basis) if basis else self._billed,
            self._cost.labels(provider, model),
            self._interrupted.labels(provider, model),
            self._durations.labels(provider),
        )


@dataclass(frozen=True, slots=True)
class _Series:
    """The children of one combination of labels. `tokens` in the order of _KINDS; none where no tokens are counted."""

    calls: Counter
    tokens: list[Counter]
    billed: Counter
    cost: Counter
    interrupted: Counter
    duration: Histogram


_KINDS = ("input", "cached_input", "cache_write", "output", "reasoning")


def _kinds(usage: Usage) -> tuple[int, ...]:
    """The tokens of each kind, none counted twice."""
    cached, written, reasoning = usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    plain = max(0, usage.input_tokens - cached - written)
    return plain, cached, written, max(0, usage.output_tokens - reasoning), reasoning


def _clean(text: str) -> str:
    """Text as UTF-8 can have it: half a surrogate pair in somebody's model would make everything unreadable."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _All(Collector):
    """The counters, and the gauges of one moment."""

    def __init__(self, registry: CollectorRegistry, moment: Moment) -> None:
        self._registry = registry
        self._moment = moment

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()
        yield from _gauges(self._moment)
        yield from _unmetered(self._moment.unmetered)


def _gauges(moment: Moment) -> Iterator[Metric]:
    info = GaugeMetricFamily("solaris_build_info", "1; the version is a label.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    backlog = moment.backlog
    values: dict[str, tuple[str, float | None]] = {
        "solaris_running_calls": ("Calls of this process that wait, run, or are being settled.", moment.running),
        "solaris_waiting_calls": ("Calls of this process that wait for their user's others.", moment.waiting),
        "solaris_litellm_ready": (
            "Whether LiteLLM is loaded, which counts what is not reported.",
            moment.litellm_ready,
        ),
        "solaris_ledger_up": ("Whether the ledger could be read just now.", backlog is not None),
        "solaris_journalled_calls": ("Calls that wait in the journal to be billed.", moment.journalled),
        "solaris_disk_free_bytes": ("Free space where ledger and journal are written.", moment.disk_free),
    }
    if backlog is not None:
        values |= {
            "solaris_pending_reservations": (
                "Reservations of all processes that are not settled.",
                backlog.reservations,
            ),
            "solaris_reserved_tokens": ("Billed tokens that pending reservations hold.", backlog.reserved_tokens),
            "solaris_oldest_reservation_age_seconds": (
                "Age of the oldest pending reservation; 0: there is none.",
                _seconds_since(backlog.oldest_at_ms, moment.now_ms),
            ),
            "solaris_alert_outbox_overdue_seconds": (
                "For how long the alert that is due first should have been delivered; 0: none is due.",
                _seconds_since(backlog.alerts_due_at_ms, moment.now_ms),
            ),
        }
    for name, (text, value) in values.items():
        if value is not None:
            yield GaugeMetricFamily(name, text, value=float(value))
    if backlog is not None:
        outbox = GaugeMetricFamily(
            "solaris_alert_outbox_messages",
            "Alerts that must leave yet, and those that were tried too often.",
            labels=["state"],
        )
        outbox.add_metric(["pending"], backlog.alerts_pending)
        outbox.add_metric(["dead"], backlog.alerts_dead)
        yield outbox


def _unmetered(counts: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "solaris_unmetered_calls",
        "Calls of unknown endpoints that reported no usage: they were not charged.",
        labels=["provider", "endpoint"],
    )
    rest = 0
    for number, (where, count) in enumerate(counts.items()):  # in the order of their first call, which never changes
        provider, _, path = where.partition(" ")
        if path and number < MOST_ENDPOINTS:
            family.add_metric([_clean(provider), _clean(path)], count)
        else:
            rest += count
    family.add_metric([OTHER, OTHER], rest)
    yield family


def _seconds_since(at_ms: int | None, now_ms: int) -> float:
    return 0.0 if at_ms is None else max(0, now_ms - at_ms) / 1000
