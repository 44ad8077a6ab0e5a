"""Where a request goes: the host it names, and the provider behind it."""

from mitmproxy import http
from mitmproxy.proxy import mode_specs

from solaris_meter.metering.providers import Providers
from solaris_meter.proxy.route import ROUTE


def provider(flow: http.HTTPFlow, providers: Providers) -> tuple[str | None, str]:
    """The provider, None where its host is not metered, and the host.

    Behind a transparent redirect the request holds an address only: the TLS handshake has the name, and without TLS
    the Host header. Each of them can be forged, so that any that names a provider counts.
    """
    host = flow.request.host
    found = providers.name(host, flow.metadata.get(ROUTE))
    if found is not None:
        return found, host
    names = [flow.client_conn.sni]
    if isinstance(flow.client_conn.proxy_mode, mode_specs.TransparentMode):
        names.append(flow.request.host_header and flow.request.host_header.rpartition("@")[2].partition(":")[0])
    known = [name for name in names if name]
    for name in known:
        found = providers.name(name)
        if found is not None:
            return found, name
    return None, known[0] if known else host
