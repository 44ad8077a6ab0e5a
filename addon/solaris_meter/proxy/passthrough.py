"""What is not ours passes undecrypted, or is refused (`policy.unknown_hosts`).

mitmproxy's own allow_hosts would also exempt reverse listeners from metering; this looks at CONNECT tunnels and at
connections that a transparent redirect brought here. They are looked into when their address or the name in their TLS
handshake is one to meter. A handshake to an address, without a name, is looked into as well: nobody can tell what it
is for.
"""

import ipaddress
import logging
from typing import Literal

from mitmproxy import http, tcp, tls
from mitmproxy.proxy import context, layer, layers, mode_specs

from solaris_meter.metering.providers import Providers
from solaris_meter.proxy import destination
from solaris_meter.proxy.route import ROUTE

log = logging.getLogger(__name__)

_TLS_HANDSHAKE = b"\x16\x03"


class Passthrough:
    """Decides for each tunnelled host whether it is looked into."""

    def __init__(self, providers: Providers, unknown_hosts: Literal["pass", "meter", "deny"]) -> None:
        self._providers = providers
        self._unknown_hosts = unknown_hosts

    def http_connect(self, flow: http.HTTPFlow) -> None:
        unknown = self._unknown_hosts == "deny" and not self._providers.name(flow.request.host)
        if unknown or _is_link_local(flow.request.host):
            flow.response = _refusal(flow.request.host)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        # A plain-http request to a forward proxy needs no tunnel.
        if not flow.live or flow.response is not None:
            return
        if _is_link_local(flow.request.host):
            flow.response = _refusal(flow.request.host)
            return
        if self._unknown_hosts != "deny":
            return
        known, host = destination.provider(flow, self._providers)
        if not known and not flow.metadata.get(ROUTE):
            flow.response = _refusal(host)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        if nextlayer.layer or nextlayer.context.client.tls_established or not self._passes(nextlayer.context):
            return  # (what is inside of an opened tunnel was opened on purpose)
        if not nextlayer.data_client().startswith(_TLS_HANDSHAKE):
            nextlayer.layer = layers.TCPLayer(nextlayer.context, ignore=True)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        address = data.context.server.address
        name = data.client_hello.sni or (address[0] if address and not _is_ip(address[0]) else "")
        redirected = isinstance(data.context.client.proxy_mode, mode_specs.TransparentMode)
        passes = self._unknown_hosts == "pass" if redirected else self._passes(data.context)
        if passes and name and not self._providers.name(name):
            data.ignore_connection = True

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        # What passes on purpose fires no hook: this is a known host to which somebody does not speak HTTP.
        address = flow.server_conn.address
        if address and self._providers.name(address[0]):
            log.warning("a connection to %s that is not HTTP was cut", address[0])
            flow.kill()

    def _passes(self, of: context.Context) -> bool:
        """Whether a connection is a tunnel to an address that is not one to meter."""
        address = of.server.address
        tunnelled = address is not None and isinstance(of.client.proxy_mode, mode_specs.RegularMode)
        return tunnelled and self._unknown_hosts == "pass" and not self._providers.name(address[0] if address else "")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_link_local(host: str) -> bool:
    """Whether a host is an address of the link, where clouds hand out a machine's credentials (169.254.169.254)."""
    return _is_ip(host) and ipaddress.ip_address(host).is_link_local


def _refusal(host: str) -> http.Response:
    log.warning("refused: %s is not a host to be reached from here (policy.unknown_hosts)", host)
    return http.Response.make(403, b"policy.unknown_hosts = deny\n", {"content-type": "text/plain"})
