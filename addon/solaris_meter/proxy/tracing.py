"""Tracing: each call as an OpenTelemetry span, sent to a collector (OTLP over HTTP).

Spans follow the semantic conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/): kind
CLIENT, named by operation and model, with the tokens of the call. What those have no word for is called `solaris.…`. A
span is made when a call has ended, with its true times, and holds no text of anybody. `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_RESOURCE_ATTRIBUTES` and the other variables of OpenTelemetry are heeded.
"""

import threading

from mitmproxy import http
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from solaris_meter import __version__
from solaris_meter.models import CallReport, Usage
from solaris_meter.proxy.watch import Watcher

_EXPORT_TIMEOUT_S = 5.0
_FLUSH_S = 1.0
"""How long the last spans may take to leave when the sidecar stops."""
_PATH = "/v1/traces"
_CHAT = "chat"
_OPERATIONS = {
    "google": "generate_content",
    "openai-completions": "text_completion",
    "embeddings": "embeddings",
    "google-embeddings": "embeddings",
    "openai-images": "image_generation",
    "openai-speech": "speech",
    "openai-transcription": "transcription",
    "openai-realtime": "realtime",
    "generic": "unknown",
}
"""Dialect → operation where it is not a chat; the conventions have words for the first four only."""
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""Our name → that of the conventions, where they differ."""


class Tracing(Watcher):
    """Sends a span for each call that ended or was denied. `endpoint` is the collector's base URL.

    `users`: spans say whose call it was.
    """

    def __init__(self, endpoint: str, *, users: bool = False) -> None:
        self._users = users
        base = endpoint.rstrip("/")
        exporter = OTLPSpanExporter(base if base.endswith(_PATH) else base + _PATH, timeout=_EXPORT_TIMEOUT_S)
        service = Resource({"service.name": "solaris-meter", "service.version": __version__})
        self._provider = TracerProvider(resource=service.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("solaris_meter", __version__)

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        self._span(report)

    def ended(self, report: CallReport) -> None:
        self._span(report)

    def close(self) -> None:
        """Send what is left, for a moment; a collector that does not answer holds nobody up."""
        # A thread that nobody waits for at exit: the exporter may be in the middle of a try.
        closing = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(_FLUSH_S)

    def _span(self, report: CallReport) -> None:
        attributes = self._attributes(report)
        name = [attributes[key] for key in ("gen_ai.operation.name", "gen_ai.request.model") if key in attributes]
        span = self._tracer.start_span(
            " ".join(map(str, name)),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=(report.at_ms - report.duration_ms) * 1_000_000,
        )
        failure = _failure(report)
        if failure:
            span.set_attribute("error.type", failure)
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(report.at_ms * 1_000_000)

    def _attributes(self, report: CallReport) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "unknown",
            "solaris.ending": report.ending,
            "solaris.interrupted": report.interrupted,
        }
        if report.id:
            found["solaris.request.id"] = report.id
        if report.status:
            found["http.response.status_code"] = report.status
        details, caller = report.details, report.caller
        if details is not None:
            provider = _PROVIDERS.get(details.provider, details.provider)
            found |= {
                "gen_ai.operation.name": _operation(details.dialect, details.endpoint),
                "gen_ai.provider.name": provider,
                "gen_ai.system": provider,  # its name until version 1.36, which many backends know only
                "gen_ai.request.stream": details.stream,
                "solaris.dialect": details.dialect,
                "url.path": details.endpoint,
            }
            if details.model:
                found["gen_ai.request.model"] = details.model
        if caller is not None and caller.conversation:
            found["gen_ai.conversation.id"] = caller.conversation
        if caller is not None and self._users:
            found["user.id"] = caller.user
        if report.usage is not None:
            found |= _usage(report, report.usage)
        return {name: _clean(value) if isinstance(value, str) else value for name, value in found.items()}


def _usage(report: CallReport, usage: Usage) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "solaris.usage.basis": usage.basis,
        "solaris.billed_tokens": report.billed_tokens,
        "solaris.settle_ms": report.settle_ms,
    }
    if report.cost_nano_usd is not None:
        found["solaris.cost_usd"] = report.cost_nano_usd / 1e9
    return found


def _operation(dialect: str, endpoint: str) -> str:
    if dialect == "cohere" and endpoint.lower().endswith("/embed"):
        return "embeddings"
    return _OPERATIONS.get(dialect, _CHAT)


def _failure(report: CallReport) -> str:
    """What went wrong with the call itself; empty where the caller got an answer."""
    if report.reason:
        return report.reason
    return str(report.status) if report.status >= 400 else ""


def _clean(text: str) -> str:
    """Text as UTF-8 can have it, which protobuf demands."""
    return text.encode("utf-8", "replace").decode("utf-8")
