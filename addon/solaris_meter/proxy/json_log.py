"""The log as JSON, one object a line: what programs say, and how each call ended.

A line has `time` (ISO 8601, UTC), `level`, `logger` and `message`; `request` where it is about one call (the id that
the caller got as X-Solaris-Request), `exception` and `traceback` where something was raised. Lines of calls have an
`event` and name things as `solaris-cli usage --events --json` does. No line holds a prompt, an answer, a key, or a
query.
"""

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from mitmproxy import http

from solaris_meter.errors import SolarisError
from solaris_meter.models import CallReport
from solaris_meter.proxy.watch import Watcher

CALLS = "solaris_meter.calls"
"""The `logger` of the lines of calls."""

_WITHHELD = "(withheld: it may quote a request)"
_QUOTING = "LiteLLM"
"""Loggers whose messages may quote what they choked on."""
_MITMWEB = "mitmproxy.tools.web.master"
"""It says under which address, with which random password, mitmweb opens: nobody could get in otherwise."""
_REDACTED = "[redacted]"
_SHORTEST_SECRET = 6
"""What is shorter stands in ordinary words as well."""
_CALL = re.compile(r"\bcall ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
"""How our own messages name a call."""
_SECRETS = (
    (re.compile(r"(://)[^/\s@]+@"), rf"\1{_REDACTED}@"),  # a password in a URL
    (re.compile(r"\?[^\s?\"'<>]*=[^\s\"'<>]*"), f"?{_REDACTED}"),  # a query
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {_REDACTED}"),
    (re.compile(r"\b(sk|pk|rk|gsk|xai|hf|pplx|r8|AIza|AKIA|ASIA)[-_]?[\w-]{12,}"), _REDACTED),
)
"""What looks like a key. Our own messages hold none; those of the libraries below are not ours."""


class Lines:
    """Writes objects as lines. `secrets` are texts that must not stand in any."""

    def __init__(self, out: TextIO, secrets: Iterable[str] = ()) -> None:
        self._out = out
        self._secrets = sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._lock = threading.Lock()

    def write(self, fields: dict[str, Any]) -> None:
        """Write a line. Where nothing can be written any more, calls go on."""
        line = json.dumps(fields, separators=(",", ":"), default=str) + "\n"
        with self._lock:
            try:
                self._out.write(line)
                self._out.flush()
            except (OSError, ValueError):  # a closed pipe, a closed file
                pass

    def redact(self, text: str) -> str:
        """A text without what looks like a secret, or is one."""
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
        return text


class JsonLog(logging.Handler):
    """A logging handler that writes each record as a line."""

    def __init__(self, lines: Lines, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # a library's arguments do not fit its format
            message = str(record.msg)
        fields: dict[str, Any] = {
            "time": _iso(record.created),
            "level": "info" if record.levelname == "ALERT" else record.levelname.lower(),  # mitmproxy's own level
            "logger": record.name,
            "message": message if record.name == _MITMWEB else self._lines.redact(message),
        }
        if record.name.startswith(_QUOTING):
            fields["message"] = f"{record.filename}:{record.lineno} {_WITHHELD}"
        found = _CALL.search(message)
        if found:
            fields["request"] = found[1]
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["exception"] = type(error).__qualname__
            fields["traceback"] = self._lines.redact("".join(_told(error)))
        self._lines.write(fields)


class CallLog(Watcher):
    """A line for each call that ended or was denied. It writes past `logging`: mitmproxy sends every record of that
    through all addons, which costs more than the rest of the line."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def denied(self, flow: http.HTTPFlow, report: CallReport) -> None:
        self._write("denial", f"denied: {report.reason}", report)

    def ended(self, report: CallReport) -> None:
        self._write("call", f"call {report.ending}", report)

    def _write(self, event: str, message: str, report: CallReport) -> None:
        fields: dict[str, Any] = {
            "time": _iso(time.time()),
            "level": "error" if report.ending == "uncharged" else "info",
            "logger": CALLS,
            "message": message,
            "event": event,
            "request": report.id or None,
        }
        self._lines.write(fields | _of_caller(report) | _of_call(report))


def _of_caller(report: CallReport) -> dict[str, Any]:
    caller, details = report.caller, report.details
    return {
        "user": caller.user if caller else None,
        "conversation": caller.conversation if caller else None,
        "provider": details.provider if details else None,
        "model": details.model if details else None,
        "dialect": details.dialect if details else None,
        "endpoint": details.endpoint if details else None,
        "stream": details.stream if details else None,
    }


def _of_call(report: CallReport) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": report.status, "ending": report.ending}
    if report.reason:
        fields["reason"] = report.reason
    if report.ending == "denied":
        return fields
    fields |= {"interrupted": report.interrupted, "duration_ms": report.duration_ms}
    usage = report.usage
    if usage is None:
        return fields
    cost = report.cost_nano_usd
    return fields | {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "images": usage.images,
        "audio_ms": usage.audio_ms,
        "billed_tokens": report.billed_tokens,
        "basis": usage.basis,
        "cost_usd": None if cost is None else cost / 1e9,
        "settle_ms": report.settle_ms,
    }


def install(handler: JsonLog) -> None:
    """Have records, and Python's warnings, written by `handler`."""
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)


def open_lines(secrets: Iterable[str]) -> Lines:
    """Lines on the standard output, where mitmproxy writes too."""
    return Lines(sys.stdout, secrets)


def _iso(seconds: float) -> str:
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1000):03d}Z"


def _told(error: BaseException) -> Iterator[str]:
    """A traceback whose frames are our code and whose messages are ours: others may quote what they choked on."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    for one in reversed(chain):
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(one.__traceback__)
        safe = isinstance(one, SolarisError | OSError)
        yield f"{type(one).__qualname__}: {one if safe else _WITHHELD}\n"
