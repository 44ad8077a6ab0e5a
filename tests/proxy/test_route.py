import json

import pytest
from mitmproxy.options import Options
from mitmproxy.proxy import context, events, layer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from solaris_meter.metering.providers import Providers
from solaris_meter.proxy.route import Router, Upstream
from solaris_meter.settings import Settings

ROUTES = Settings(routes={"local": "http://llm.intern:8000/api/v1/", "porto": "https://example.com:8443"}).all_routes


@pytest.fixture
def router():
    return Router(ROUTES, Providers(ROUTES, []))


def arriving(path, *, host="sidecar", mode="regular", method="POST"):
    """A live request as it stands before it is routed."""
    flow = tflow.tflow()
    flow.live = True
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    request = flow.request
    request.method, request.scheme, request.host, request.port, request.path = method, "http", host, 8080, path
    request.headers["Host"] = f"{host}:8080"
    return flow


def connect(router, flow, first_bytes, *, server=None):
    """The first bytes of the flow's connection, as mitmproxy shows them to the addons."""
    ctx = context.Context(flow.client_conn, Options())
    ctx.server.address = server
    nextlayer = layer.NextLayer(ctx)
    nextlayer.events.append(events.DataReceived(flow.client_conn, first_bytes))
    router.next_layer(nextlayer)


def base_url(router, path, **options):
    flow = arriving(path, **options)
    connect(router, flow, f"{flow.request.method} {path} HTTP/1.1\r\nHost: sidecar:8080\r\n".encode())
    router.requestheaders(flow)
    return flow


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("https://api.openai.com", Upstream("https", "api.openai.com", 443, "")),
        ("http://llm:8000/api/v1/", Upstream("http", "llm", 8000, "/api/v1")),
        ("http://llm", Upstream("http", "llm", 80, "")),
        ("https://[::1]:9/x", Upstream("https", "::1", 9, "/x")),
    ],
)
def test_an_upstream_is_read_from_its_url(url, upstream):
    assert Upstream.parse(url) == upstream


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/openai/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("/anthropic/v1/messages?beta=true", "https://api.anthropic.com/v1/messages?beta=true"),
        ("/anthropic/models", "https://api.anthropic.com/v1/models"),
        ("/anthropic/v1/models", "https://api.anthropic.com/v1/models"),
        ("/openai/models?a=/b?c", "https://api.openai.com/models?a=/b?c"),
        ("/local/chat/completions", "http://llm.intern:8000/api/v1/chat/completions"),
        ("/porto/v1/x%2Fy", "https://example.com:8443/v1/x%2Fy"),
        ("/openai", "https://api.openai.com/"),
        ("/openai/", "https://api.openai.com/"),
        ("/openai?x=1", "https://api.openai.com/?x=1"),
    ],
)
def test_a_base_url_leads_to_its_upstream(router, path, url):
    flow = base_url(router, path)
    assert flow.response is None
    assert flow.request.url == url


def test_the_host_header_is_that_of_the_upstream(router):
    assert base_url(router, "/openai/v1/models").request.headers["Host"] == "api.openai.com"
    assert base_url(router, "/porto/v1/models").request.headers["Host"] == "example.com:8443"
    assert base_url(router, "/local/models").request.headers["Host"] == "llm.intern:8000"


@pytest.mark.parametrize(
    "path", ["/", "/v1/chat/completions", "/OpenAI/v1/models", "//openai/v1", "/openaix/v1", "/?openai"]
)
def test_a_path_that_names_no_route_is_a_404_that_names_them(router, path):
    flow = base_url(router, path)
    assert flow.response is not None
    assert flow.response.status_code == 404
    error = json.loads(flow.response.content)["error"]
    assert error["code"] == "route_unknown"
    assert "anthropic, cohere, deepseek" in error["message"]
    assert "local" in error["message"]


def test_an_absolute_url_is_left_alone(router):
    # A forward-proxy client names its upstream itself, also where the path looks like a route.
    flow = arriving("/openai/v1/models", host="api.groq.com")
    connect(router, flow, b"POST http://api.groq.com/openai/v1/models HTTP/1.1\r\n")
    router.requestheaders(flow)
    assert (flow.request.host, flow.request.path, flow.response) == ("api.groq.com", "/openai/v1/models", None)


def test_what_comes_through_a_tunnel_is_left_alone(router):
    # Inside CONNECT the request is in origin form as well, but its upstream is known by then.
    flow = arriving("/openai/v1/chat/completions", host="api.groq.com")
    connect(router, flow, b"POST /openai/v1/chat/completions HTTP/1.1\r\n", server=("api.groq.com", 443))
    router.requestheaders(flow)
    assert (flow.request.host, flow.request.path) == ("api.groq.com", "/openai/v1/chat/completions")


def test_in_reverse_mode_every_request_is_a_base_url(router):
    flow = arriving("/openai/v1/models", mode="reverse:http://localhost:1")
    router.requestheaders(flow)
    assert flow.request.url == "https://api.openai.com/v1/models"


def test_in_reverse_mode_a_provider_behind_it_is_served_without_a_route(router):
    flow = arriving("/v1/chat/completions", host="api.openai.com", mode="reverse:https://api.openai.com")
    router.requestheaders(flow)
    assert flow.response is None
    assert (flow.request.host, flow.request.path) == ("api.openai.com", "/v1/chat/completions")


def test_a_connection_keeps_its_form_until_it_ends(router):
    first = base_url(router, "/openai/v1/models")
    second = arriving("/groq/openai/v1/models")
    second.client_conn = first.client_conn
    router.requestheaders(second)
    assert second.request.host == "api.groq.com"
    router.client_disconnected(first.client_conn)
    third = arriving("/openai/v1/models")
    third.client_conn = first.client_conn
    router.requestheaders(third)
    assert third.request.host == "sidecar"


def test_what_is_replayed_is_not_routed_again(router):
    flow = arriving("/openai/v1/models", mode="reverse:http://localhost:1")
    flow.is_replay = "request"
    router.requestheaders(flow)
    assert flow.request.host == "sidecar"
