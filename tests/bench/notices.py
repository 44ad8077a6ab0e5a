"""What a notice costs the answer that carries it: the time to its first content chunk, and the gaps between chunks."""

import itertools
import statistics
import time
from pathlib import Path

import httpx
from tests.e2e.sidecar import Sidecar
from tests.e2e.upstream import Upstream

_CALLS = 30
_WORDS = 40
_DELAY_S = 0.005
_MARK = "\\u2063"


def measure(folder: Path) -> dict[str, dict[str, object]]:
    """Calls that each cross 80 %, by somebody new each time, with `alerts.in_chat` and without it."""
    upstream = Upstream()
    upstream.start()
    sidecars = {}
    try:
        for name in ("with", "without"):
            place = folder / name
            place.mkdir()
            sidecar = Sidecar(place, upstream.url, f"[alerts]\nin_chat = {str(name == 'with').lower()}\n")
            sidecar.cli("plans", "set", "basico", "--tokens", "1000", "--period", "month")
            sidecar.start()
            sidecars[name] = sidecar
        time.sleep(8)  # litellm is loaded in the background
        first: dict[str, list[float]] = {name: [] for name in sidecars}
        gaps: dict[str, list[float]] = {name: [] for name in sidecars}
        for number in range(_CALLS):
            for name, sidecar in sidecars.items():
                came = _chunks(sidecar, f"u{number}", told=name == "with")
                first[name].append(came[0])
                gaps[name] += [after - before for before, after in itertools.pairwise(came)]
    finally:
        for sidecar in sidecars.values():
            sidecar.kill()
        upstream.stop()
    return {
        "notice, first chunk ms": {name: _ms(statistics.median(times)) for name, times in first.items()},
        "notice, median gap ms": {name: _ms(statistics.median(times)) for name, times in gaps.items()},
        "notice, 99 % of gaps ms": {name: _ms(statistics.quantiles(times, n=100)[98]) for name, times in gaps.items()},
    }


def _chunks(sidecar: Sidecar, user: str, *, told: bool) -> list[float]:
    """When each content chunk of one answer came, in seconds since it was asked for."""
    script = {"input": 800, "words": _WORDS, "delay_s": _DELAY_S}
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Olá"}], "stream": True, "script": script}
    came, text = [], ""
    began = time.monotonic()
    with httpx.stream(
        "POST", sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers(user), json=body, trust_env=False
    ) as answer:
        for piece in answer.iter_text():
            came += [time.monotonic() - began] * piece.count('" hello"')
            text += piece
    assert (_MARK in text) == told, "every answer with notices carries one, and no other does"
    return came


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
