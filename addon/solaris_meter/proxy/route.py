"""Base URLs: `http://sidecar:8080/openai/v1/…` is a request for the upstream of the route `openai`.

A forward-proxy client names its upstream itself (CONNECT, or an absolute URL); what arrives in origin form on the same
port names a route with its first path segment.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mitmproxy import connection, http
from mitmproxy.proxy import layer, mode_specs

from solaris_meter.metering.providers import Providers

log = logging.getLogger(__name__)

ROUTE = "solaris_route"
"""The key in a flow's metadata under which the name of its route stands."""

_ORIGIN_FORM = re.compile(rb"[A-Z]+ /")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a route leads. `prefix` comes before the path, without a slash at its end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "Upstream":
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))


class Router:
    """Points base-URL requests at their upstream; a path that names no route is answered with a 404."""

    def __init__(self, routes: Mapping[str, str], providers: Providers) -> None:
        self._upstreams = {name: Upstream.parse(url) for name, url in routes.items()}
        self._providers = providers
        # mitmproxy forgets in which form a request came, so the first bytes of its connection have to tell.
        self._origin_form: set[str] = set()

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        client = nextlayer.context.client
        if nextlayer.context.server.address is None and _ORIGIN_FORM.match(nextlayer.data_client()):
            self._origin_form.add(client.id)

    def client_disconnected(self, client: connection.Client) -> None:
        self._origin_form.discard(client.id)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if not flow.live or flow.is_replay:
            return
        try:
            self._route(flow)
        except Exception:
            # mitmproxy would go on, to wherever the Host header says.
            log.exception("%s cannot be routed", flow.request.path.partition("?")[0])
            flow.response = http.Response.make(503, b"", {"x-solaris-denied": "internal_error"})

    def _route(self, flow: http.HTTPFlow) -> None:
        client = flow.client_conn
        is_base_url = client.id in self._origin_form
        # A reverse listener may have been given a provider as its target: then a path without a route is for that.
        is_reverse = isinstance(client.proxy_mode, mode_specs.ReverseMode)
        if (is_base_url or is_reverse or _asks_for_itself(flow)) and self._apply(flow):
            return
        if is_base_url or (is_reverse and not self._providers.name(flow.request.host)):
            log.warning("no route for %s %s", flow.request.method, flow.request.path.partition("?")[0])
            headers = {"content-type": "application/json"}
            flow.response = http.Response.make(404, self._unknown_route(flow.request), headers)

    def _apply(self, flow: http.HTTPFlow) -> bool:
        request = flow.request
        path, question, query = request.path.partition("?")
        _, name, *rest = path.split("/", 2) if path.startswith("/") else ("", "")
        upstream = self._upstreams.get(name)
        if upstream is None:
            return False
        inner = rest[0] if rest else ""
        if name == "anthropic" and inner == "models":
            inner = "v1/models"  # LibreChat leaves the version out of this one
        # The setters of host and port rewrite the Host header by the scheme, so the scheme comes first.
        request.scheme = upstream.scheme
        request.host = upstream.host
        request.port = upstream.port
        request.path = f"{upstream.prefix}/{inner}{question}{query}"
        flow.metadata[ROUTE] = name
        return True

    def _unknown_route(self, request: http.Request) -> bytes:
        segment = request.path.partition("?")[0].split("/")[1] if "/" in request.path else ""
        message = (
            f"no route {segment!r}: a base URL begins with one of {', '.join(sorted(self._upstreams))}; "
            "add others under [routes] in solaris.toml"
        )
        return json.dumps({"error": {"message": message, "type": "route_unknown", "code": "route_unknown"}}).encode()


def _asks_for_itself(flow: http.HTTPFlow) -> bool:
    """Whether a regular listener is asked for its own port: a base URL whose first bytes came in pieces, perhaps.

    Somebody else may listen on a port of that number, so it is one only if it names a route.
    """
    client = flow.client_conn
    is_regular = isinstance(client.proxy_mode, mode_specs.RegularMode)
    return is_regular and client.sockname is not None and flow.request.port == client.sockname[1]
