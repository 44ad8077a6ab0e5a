"""What is not ours passes undecrypted, or is refused (`policy.unknown_hosts`).

mitmproxy's own allow_hosts would also exempt reverse listeners from metering; this looks at CONNECT requests only.
"""

import logging
from typing import Literal

from mitmproxy import http
from mitmproxy.proxy import layer, layers, mode_specs

from solaris_meter.metering.providers import Providers
from solaris_meter.proxy.route import ROUTE

log = logging.getLogger(__name__)


class Passthrough:
    """Decides for each tunnelled host whether it is looked into."""

    def __init__(self, providers: Providers, unknown_hosts: Literal["pass", "meter", "deny"]) -> None:
        self._providers = providers
        self._unknown_hosts = unknown_hosts

    def http_connect(self, flow: http.HTTPFlow) -> None:
        if self._unknown_hosts == "deny" and not self._providers.name(flow.request.host):
            flow.response = _refusal(flow.request.host)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        # A plain-http request to a forward proxy needs no tunnel.
        known = flow.metadata.get(ROUTE) or self._providers.name(flow.request.host)
        if self._unknown_hosts == "deny" and not known and flow.live and flow.response is None:
            flow.response = _refusal(flow.request.host)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        context = nextlayer.context
        address = context.server.address
        if nextlayer.layer or address is None or not isinstance(context.client.proxy_mode, mode_specs.RegularMode):
            return
        if self._unknown_hosts == "pass" and not self._providers.name(address[0]):
            nextlayer.layer = layers.TCPLayer(context, ignore=True)


def _refusal(host: str) -> http.Response:
    log.warning("refused: %s is not a known host (policy.unknown_hosts)", host)
    return http.Response.make(403, b"policy.unknown_hosts = deny\n", {"content-type": "text/plain"})
