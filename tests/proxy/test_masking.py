"""Keys do not stay in what is kept."""

import pytest
from mitmproxy.http import Headers
from mitmproxy.test import tflow, tutils

from solaris_meter.proxy import masking

SECRET = "sk-4f9a1c77e2"


def masked(path="/v1/chat/completions", **headers):
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    flow = tflow.tflow(req=tutils.treq(path=path.encode(), headers=Headers(fields)))
    changed = masking.mask_request(flow, "X-Solaris-Key")
    return flow.request, changed


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", f"Bearer {SECRET}", "Bearer [masked]"),
        ("Authorization", f"AWS4-HMAC-SHA256 Credential=AKIA/x, Signature={SECRET}", "AWS4-HMAC-SHA256 [masked]"),
        ("authorization", SECRET, "[masked]"),
        ("Proxy-Authorization", f"Basic {SECRET}", "Basic [masked]"),
        ("x-api-key", SECRET, "[masked]"),
        ("api-key", SECRET, "[masked]"),
        ("x-goog-api-key", SECRET, "[masked]"),
        ("X-Amz-Security-Token", SECRET, "[masked]"),
        ("Ocp-Apim-Subscription-Key", SECRET, "[masked]"),
        ("Cookie", f"session={SECRET}", "[masked]"),
        ("x-solaris-key", SECRET, "[masked]"),
        ("Sec-WebSocket-Protocol", f"a, openai-insecure-api-key.{SECRET}", "a, openai-insecure-api-key.[masked]"),
    ],
)  # fmt: skip
def test_a_header_that_holds_a_key_is_masked(name, value, shown):
    request, changed = masked(**{name: value})
    assert (request.headers[name], changed) == (shown, True)
    assert SECRET not in str(request.get_state())


@pytest.mark.parametrize(
    "name", ["content-type", "idempotency-key", "anthropic-version", "x-stainless-lang", "x-max-tokens"]
)
def test_other_headers_stay(name):
    request, changed = masked(**{name: "value"})
    assert (request.headers[name], changed) == ("value", False)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/v1beta/models/g:generateContent?key={SECRET}", "/v1beta/models/g:generateContent?key=[masked]"),
        (f"/a?alt=sse&key={SECRET}&x=1", "/a?alt=sse&key=[masked]&x=1"),
        (f"/a?X-Amz-Credential={SECRET}&b=c", "/a?X-Amz-Credential=[masked]&b=c"),
        (f"/a?X-Amz-Signature={SECRET}", "/a?X-Amz-Signature=[masked]"),
        (f"/a?access_token={SECRET}#top", "/a?access_token=[masked]#top"),
        (f"/a?api_key={SECRET}&apikey={SECRET}", "/a?api_key=[masked]&apikey=[masked]"),
        ("/a?max_tokens=5&monkey=1&keys=2", "/a?max_tokens=5&monkey=1&keys=2"),
        ("/keys/key=1", "/keys/key=1"),
    ],
)  # fmt: skip
def test_a_query_is_masked_where_a_key_stands(path, shown):
    assert masked(path)[0].path == shown


def test_a_response_loses_its_cookies_and_nothing_else():
    flow = tflow.tflow(resp=tutils.tresp(headers=Headers([(b"set-cookie", SECRET.encode()), (b"x-a", b"b")])))
    assert masking.mask_response(flow)
    assert not masking.mask_response(flow)
    assert flow.response is not None
    assert dict(flow.response.headers) == {"set-cookie": "[masked]", "x-a": "b"}


def test_masking_twice_changes_nothing():
    flow = tflow.tflow(req=tutils.treq(path=b"/a?key=1", headers=Headers([(b"Authorization", b"Bearer 1")])))
    assert masking.mask_request(flow, "x")
    assert not masking.mask_request(flow, "x")
