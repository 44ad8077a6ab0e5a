"""A refused call: never sent upstream, attempted once, and told as documented to SDKs and to plain clients."""

import json

import anthropic
import httpx
import openai
import pytest

MESSAGES = [{"role": "user", "content": "oi"}]


def _openai(sidecar, user, **options):
    return openai.OpenAI(
        api_key="k", base_url=sidecar.url("openai/v1"), default_headers=sidecar.headers(user), **options
    )


def _anthropic(sidecar, user):
    return anthropic.Anthropic(api_key="k", base_url=sidecar.url("anthropic"), default_headers=sidecar.headers(user))


@pytest.fixture
def sidecar(start):
    sidecar = start()
    sidecar.cli("users", "add", "bia")
    sidecar.cli("users", "block", "bia")
    return sidecar


def _attempts(sidecar):
    return sidecar.log.read_text().count("denied bia")


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_gets_one_429_and_does_not_try_again(sidecar, upstream, stream):
    with pytest.raises(openai.RateLimitError) as caught:
        _openai(sidecar, "bia").chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=stream)
    error = caught.value
    assert error.code == "insufficient_quota"
    assert error.response.headers["x-solaris-denied"] == "account_blocked"
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers
    shown = json.loads(error.response.json()["error"]["message"])
    assert shown["type"] == "google_error"
    assert "bloqueada" in shown["info"]
    assert (upstream.requests, _attempts(sidecar)) == ([], 1)


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk_gets_one_429_and_does_not_try_again(sidecar, upstream, stream):
    with pytest.raises(anthropic.RateLimitError) as caught:
        _anthropic(sidecar, "bia").messages.create(
            model="claude-sonnet-4-6", max_tokens=10, messages=MESSAGES, stream=stream
        )
    body = caught.value.response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "rate_limit_error"
    assert body["code"] == "insufficient_quota"
    assert json.loads(body["message"])["info"] == json.loads(body["error"]["message"])["info"]
    assert (upstream.requests, _attempts(sidecar)) == ([], 1)


def test_an_exhausted_account_is_told_when_it_renews_and_where_to_buy(start, upstream, client):
    sidecar = start()
    sidecar.cli("plans", "set", "mini", "--tokens", "100", "--period", "year")
    sidecar.cli("users", "add", "bia", "--plan", "mini")
    body = {"model": "gpt-4o", "messages": MESSAGES, "script": {"input": 60, "words": 40}}
    url = sidecar.url("openai/v1/chat/completions")
    first = client.post(url, headers=sidecar.headers("bia"), json=body)
    assert first.status_code == 200
    assert first.headers["ratelimit"].startswith('"tokens";r=0;t=')
    assert first.headers["ratelimit-policy"].startswith('"tokens";q=100;w=')
    assert first.headers["x-solaris-request"] == sidecar.events()[0]["id"]
    upstream.requests.clear()
    refused = client.post(url, headers=sidecar.headers("bia"), json=body)
    assert refused.status_code == 429
    assert refused.headers["x-solaris-denied"] == "tokens_exhausted"
    assert int(refused.headers["retry-after"]) > 60
    human = json.loads(refused.json()["error"]["message"])["info"]
    assert "100 de 100" in human
    assert "01/01/" in human
    assert "vendas@example.com" in human
    assert upstream.requests == []
    assert [alert["threshold"] for alert in sidecar.cli("balance", "bia")["alerts"]] == [80, 95, 100]


def test_http_402_shows_the_plain_sentence(start, client):
    sidecar = start('[denial]\nmode = "http_402"\n[locale]\nlanguage = "en"\n')
    sidecar.cli("users", "add", "bia")
    sidecar.cli("users", "block", "bia")
    refused = client.post(
        sidecar.url("anthropic/v1/messages"),
        headers=sidecar.headers("bia"),
        json={"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": MESSAGES},
    )
    assert refused.status_code == 402
    assert refused.json()["message"].startswith("Your account is blocked")


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "identity_refused"),
        ({"X-Solaris-Key": "wrong", "X-Solaris-User": "bia"}, 401, "identity_refused"),
        ({"X-Solaris-Key": "0123456789abcdef"}, 401, "identity_missing"),
        ({"X-Solaris-Key": "0123456789abcdef", "X-Solaris-User": "{{LIBRECHAT_USER_ID}}"}, 401, "identity_missing"),
    ],
)
def test_who_is_not_identified_is_refused(start, upstream, client, headers, status, reason):
    sidecar = start()
    for path, model in (("openai/v1/chat/completions", "gpt-4o"), ("anthropic/v1/messages", "claude-sonnet-4-6")):
        refused = client.post(sidecar.url(path), headers=headers, json={"model": model, "messages": MESSAGES})
        assert (refused.status_code, refused.headers["x-solaris-denied"]) == (status, reason)
        assert refused.headers["x-should-retry"] == "false"
    assert upstream.requests == []
    assert sidecar.cli("users", "list") == []


@pytest.mark.parametrize("body", [b"{broken", b"[1, 2]", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_cannot_be_read_is_a_400_and_charges_nothing(start, upstream, client, body):
    sidecar = start()
    refused = client.post(
        sidecar.url("openai/v1/chat/completions"),
        headers=sidecar.headers("bia") | {"content-type": "application/json"},
        content=body,
    )
    assert (refused.status_code, refused.headers["x-solaris-denied"]) == (400, "body_unreadable")
    assert "JSON" in refused.json()["error"]["message"]
    assert upstream.requests == []
    assert sidecar.cli("users", "list") == []


def test_a_header_that_stands_twice_is_refused(start, upstream, client):
    sidecar = start()
    headers = [*sidecar.headers("bia").items(), ("X-Solaris-User", "ana")]
    refused = client.post(sidecar.url("openai/v1/chat/completions"), headers=headers, json={"messages": MESSAGES})
    assert (refused.status_code, refused.headers["x-solaris-denied"]) == (401, "identity_refused")
    assert upstream.requests == []


def test_a_base_url_without_a_route_is_a_404_that_names_the_routes(start, upstream, client):
    sidecar = start()
    answer = client.post(sidecar.url("opnai/v1/chat/completions"), headers=sidecar.headers("bia"), json={})
    assert answer.status_code == 404
    assert "'opnai'" in answer.json()["error"]["message"]
    assert "openai" in answer.json()["error"]["message"]
    assert upstream.requests == []


def test_an_upstream_error_is_relayed_and_charges_nothing(start, client):
    sidecar = start()
    for status in (400, 404, 429, 500):
        body = {"model": "no-such-model", "messages": MESSAGES, "script": {"status": status}}
        answer = client.post(sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("bia"), json=body)
        assert (answer.status_code, answer.json()["error"]["message"]) == (status, "scripted")
    assert sidecar.events() == []
    assert sidecar.cli("balance", "bia")["available"] == 1_000_000


def test_an_upstream_that_cannot_be_reached_charges_nothing(start, client):
    sidecar = start("")
    with httpx.Client(trust_env=False, timeout=30) as fresh:
        sidecar.stop()
        text = sidecar.config.read_text()
        sidecar.config.write_text(text.replace("[purchase]", 'dead = "http://127.0.0.1:1"\n[purchase]'))
        sidecar.start()
        answer = fresh.post(
            sidecar.url("dead/v1/chat/completions"),
            headers=sidecar.headers("bia"),
            json={"model": "gpt-4o", "messages": MESSAGES},
        )
    assert answer.status_code == 502
    assert sidecar.events() == []
    sidecar.no_holds()
