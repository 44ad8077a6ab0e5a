"""Providers by host: whose server a call goes to, and which hosts are metered at all."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

_PROVIDERS: tuple[tuple[str, str], ...] = (
    (r"api\.openai\.com|(eu|us)\.api\.openai\.com", "openai"),
    (r"api\.anthropic\.com", "anthropic"),
    (r"generativelanguage\.googleapis\.com", "google"),
    (r"([a-z0-9-]+-)?aiplatform\.googleapis\.com", "vertex_ai"),
    (r"[a-z0-9-]+\.openai\.azure\.com|[a-z0-9-]+\.cognitiveservices\.azure\.com|[a-z0-9.-]+\.ai\.azure\.com", "azure"),
    (r"([a-z0-9-]+\.)?bedrock-runtime(-fips)?\.[a-z0-9-]+\.(vpce\.)?amazonaws\.com(\.cn)?", "bedrock"),
    (r"api\.mistral\.ai", "mistral"),
    (r"api\.groq\.com", "groq"),
    (r"api\.deepseek\.com", "deepseek"),
    (r"api\.x\.ai", "xai"),
    (r"openrouter\.ai", "openrouter"),
    (r"api\.perplexity\.ai", "perplexity"),
    (r"api\.cohere\.(com|ai)", "cohere"),
    (r"api\.together\.(xyz|ai)", "together"),
    (r"api\.fireworks\.ai", "fireworks"),
    (r"api\.moonshot\.(ai|cn)", "moonshot"),
    (r"api\.cerebras\.ai", "cerebras"),
    (r"router\.huggingface\.co", "huggingface"),
    (r"api\.writer\.com", "writer"),
    (r"api\.voyageai\.com", "voyage"),
)


KNOWN: Final = frozenset(name for _, name in _PROVIDERS)
"""The providers whose hosts are known: what they speak at a path is known as well."""


class Providers:
    """The hosts that are metered: the known providers, the upstreams of the routes, and those of `policy.hosts`."""

    def __init__(self, routes: Mapping[str, str], hosts: Iterable[str]) -> None:
        self._known = [(re.compile(pattern, re.IGNORECASE), name) for pattern, name in _PROVIDERS]
        self._named = {host.lower(): host.lower() for host in hosts}
        self._named |= {(urlsplit(url).hostname or "").lower(): name for name, url in routes.items()}

    def name(self, host: str, route: str | None = None) -> str | None:
        """The provider behind a host; None where the host is not one to meter.

        A route's name says more than its host, which it may share with others, but less than a well-known host.
        """
        host = host.rstrip(".").lower()  # the root's dot names the same host
        for pattern, name in self._known:
            if pattern.fullmatch(host):
                return name
        return route or self._named.get(host)
