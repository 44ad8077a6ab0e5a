"""Connections that are ended from our side."""

from mitmproxy import ctx, http


def hang_up(flow: http.HTTPFlow) -> None:
    """Close a flow's upstream connection: what it goes on to say would be paid by nobody.

    A client that has several streams on its connection shares the upstream one: it is left to end by itself.
    """
    if flow.request.is_http2 or flow.request.is_http3:
        return
    proxyserver = ctx.master.addons.get("proxyserver")
    handler = proxyserver.connections.get(flow.client_conn.id)
    if handler is not None and flow.server_conn in handler.transports:
        handler.close_connection(flow.server_conn)
