"""The contentview "Solaris": a metered call's request and answer as a conversation, and what it cost underneath."""

import logging
from collections.abc import Mapping
from typing import Any

from mitmproxy import contentviews, http

from solaris_meter.metering import endpoints
from solaris_meter.metering.dialects.dialect import Dialect
from solaris_meter.proxy import transcript
from solaris_meter.proxy.retention import CUT, MOST_BODY_BYTES

log = logging.getLogger(__name__)

_FIRST = 10.0
"""Above all of mitmproxy's own views, which ask for 1 or 2."""
_DIALECTS = {dialect.name: dialect for dialect in (*endpoints.DIALECTS, endpoints.REALTIME, endpoints.GENERIC)}


class SolarisContentview(contentviews.Contentview):
    """The default of metered flows, and of no others. A body that it cannot read is shown as mitmproxy shows it."""

    @property
    def name(self) -> str:
        return "Solaris"

    def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
        return _FIRST if data and _is_metered(metadata) and metadata.http_message is not None else -1

    def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
        try:
            text = _transcript(data, metadata)
        except Exception:
            log.debug("a body cannot be shown as a conversation", exc_info=True)
            text = None
        return "\n\n".join([self._other(data, metadata) if text is None else text, *_footer(metadata)])

    def _other(self, data: bytes, metadata: contentviews.Metadata) -> str:
        """What another view makes of it."""
        views = [view for view in contentviews.registry.values() if view.name != self.name]
        for view in sorted(views, key=lambda view: _priority(view, data, metadata), reverse=True):
            try:
                return view.prettify(data, metadata)
            except Exception:
                log.debug("%s cannot show it either", view.name, exc_info=True)
        return data.decode("utf-8", "backslashreplace")


def _transcript(data: bytes, metadata: contentviews.Metadata) -> str | None:
    message, dialect = metadata.http_message, _dialect(metadata)
    if message is None or dialect is None:
        return None
    content_type = message.headers.get("content-type", "")
    if data == message.raw_content and (encoding := message.headers.get("content-encoding", "")):
        data = transcript.inflated(data, encoding)  # mitmproxy could not: it was cut, or broke off
    if isinstance(message, http.Request):
        return transcript.request(dialect, endpoints.plain_path(message.path), data, content_type)
    return transcript.answer(dialect, data, content_type)


def _footer(metadata: contentviews.Metadata) -> list[str]:
    """What was kept of the body, and what the ledger says of the call."""
    if metadata.flow is None:
        return []
    about = metadata.flow.metadata
    which = "request" if isinstance(metadata.http_message, http.Request) else "response"
    parts = []
    if which in str(about.get(CUT, "")):
        parts.append(f"[only the first {MOST_BODY_BYTES:,} bytes are kept]")
    lines = [f"{label:11}  {text}" for label, text in _ledger_lines(about).items() if text]
    return [*parts, "\n".join(["── Solaris Meter ──", *lines])] if lines else parts


def _ledger_lines(about: Mapping[Any, Any]) -> dict[str, str]:
    """Label → line; an empty one says nothing."""

    def said(key: str, form: str = "{:,}") -> str:
        value = about.get(f"solaris_{key}")
        return "" if value is None or value == 0 else form.format(value)

    tokens = ""
    if "solaris_tokens" in about:
        tokens = (
            f"{about['solaris_input_tokens']:,} in{said('cached_input_tokens', ' ({:,} cached)')}"
            f" + {about['solaris_output_tokens']:,} out{said('reasoning_tokens', ' ({:,} reasoning)')}"
            f" = {about['solaris_tokens']:,} ({about['solaris_basis']})"
        )
    left = ""
    if "solaris_left" in about:
        left = (
            f"{about['solaris_left']:,} of {about['solaris_limit']:,} · {about['solaris_percent_used']} % used"
            f" · plan {about['solaris_plan']}"
        )
    ending = [said("ending", "{}"), said("denied", "{}"), "interrupted" if "solaris_interrupted" in about else ""]
    calls = about.get("solaris_calls", 0)
    return {
        "user": said("user", "{}") + said("email", " ({})"),
        "chat": said("conversation", "{}"),
        "model": " · ".join(filter(None, (said(key, "{}") for key in ("model", "provider", "dialect")))),
        "calls": f"{calls:,}" if calls > 1 else "",
        "tokens": tokens,
        "billed": said("billed_tokens"),
        "cost": said("cost_usd", "${}"),
        "left": left,
        "ending": " · ".join(filter(None, ending)),
        "usage event": said("request", "{}"),
    }


def _is_metered(metadata: contentviews.Metadata) -> bool:
    return metadata.flow is not None and "solaris_ending" in metadata.flow.metadata


def _dialect(metadata: contentviews.Metadata) -> Dialect | None:
    named = metadata.flow.metadata.get("solaris_dialect") if metadata.flow is not None else None
    return _DIALECTS.get(named) if isinstance(named, str) else None


def _priority(view: contentviews.Contentview, data: bytes, metadata: contentviews.Metadata) -> float:
    try:
        return view.render_priority(data, metadata)
    except Exception:
        return -1
