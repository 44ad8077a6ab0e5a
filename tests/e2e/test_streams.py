"""Streams pass as they come; what the sidecar asked for is kept from who did not ask."""

import json
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

MESSAGES = [{"role": "user", "content": "oi"}]


@pytest.fixture
def sidecar(start):
    return start()


def _openai(sidecar):
    return openai.OpenAI(api_key="k", base_url=sidecar.url("openai/v1"), default_headers=sidecar.headers("ana"))


def test_chunks_are_relayed_when_they_come(sidecar, client):
    body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True, "script": {"words": 5, "delay_s": 0.2}}
    came = []
    with client.stream(
        "POST", sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=body
    ) as answer:
        came += [time.monotonic() for _ in answer.iter_raw()]
    assert len(came) >= 6
    assert came[-1] - came[0] > 0.8


def test_the_usage_chunk_is_asked_for_and_hidden_from_who_did_not_ask(sidecar, upstream):
    chunks = list(
        _openai(sidecar).chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, extra_body={"script": {"input": 11, "words": 7}}
        )
    )
    assert upstream.requests[-1].body["stream_options"] == {"include_usage": True}
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    sidecar.no_holds()  # the client goes on at [DONE], a moment before the end of the answer
    [event] = sidecar.events()
    assert (event["input_tokens"], event["output_tokens"], event["basis"]) == (11, 7, "reported")


def test_the_usage_chunk_reaches_who_asked(sidecar):
    chunks = list(
        _openai(sidecar).chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"script": {"input": 11, "words": 7}},
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18


def test_the_sdks_run_unchanged_streamed_and_not(sidecar):
    script = {"input": 20, "words": 3}
    client = _openai(sidecar)
    whole = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, extra_body={"script": script})
    assert whole.choices[0].message.content == " hello hello hello"
    sdk = anthropic.Anthropic(api_key="k", base_url=sidecar.url("anthropic"), default_headers=sidecar.headers("ana"))
    arguments: Any = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": MESSAGES}
    arguments["extra_body"] = {"script": script}
    assert sdk.messages.create(**arguments).usage.input_tokens == 20
    with sdk.messages.stream(**arguments) as stream:
        assert "".join(stream.text_stream) == " hello hello hello"
    assert [(event["dialect"], event["stream"], event["billed_tokens"]) for event in sidecar.events()] == [
        ("openai-chat", False, 23),
        ("anthropic", False, 23),
        ("anthropic", True, 23),
    ]
    sidecar.check()


def test_identity_headers_never_reach_the_upstream_and_teach_the_email(sidecar, upstream, client):
    headers = sidecar.headers("65f0c0ffee65f0c0ffee65f0") | {"X-Solaris-Conversation": "c-1"}
    body = {"model": "gpt-4o", "messages": MESSAGES}
    assert client.post(sidecar.url("openai/v1/chat/completions"), headers=headers, json=body).status_code == 200
    assert not [name for name in upstream.requests[-1].headers if name.startswith("x-solaris")]
    assert upstream.requests[-1].body == body
    [event] = sidecar.events()
    assert (event["user"], event["conversation"]) == ("65f0c0ffee65f0c0ffee65f0", "c-1")
    assert sidecar.cli("users", "show", "65f0")["email"] == "65f0c0ffee65f0c0ffee65f0@example.com"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("openai/v1/chat/completions", {"user": "65f0c0ffee65f0c0ffee65f1"}),
        ("anthropic/v1/messages", {"metadata": {"user_id": "65f0c0ffee65f0c0ffee65f1"}}),
    ],
)
def test_the_body_says_who_calls_where_no_header_does(sidecar, client, path, field):
    headers = {"X-Solaris-Key": sidecar.headers("x")["X-Solaris-Key"], "X-Solaris-User": "{{LIBRECHAT_USER_ID}}"}
    body = {"model": "m", "max_tokens": 5, "messages": MESSAGES} | field
    assert client.post(sidecar.url(path), headers=headers, json=body).status_code == 200
    assert sidecar.events()[0]["user"] == "65f0c0ffee65f0c0ffee65f1"


def test_what_runs_no_model_passes_without_an_identity(sidecar, upstream, client):
    assert client.get(sidecar.url("openai/v1/models")).status_code == 200
    assert client.get(sidecar.url("anthropic/models")).status_code == 200
    assert [arrival.path for arrival in upstream.requests] == ["/v1/models", "/v1/models"]
    assert sidecar.events() == []


def test_an_unknown_endpoint_is_charged_what_its_answer_reports(sidecar, client):
    usage = '{"usage": {"input_tokens": 30, "output_tokens": 12}}'
    for raw in (usage, "{}"):
        answer = client.post(
            sidecar.url("openai/v1/brand/new"), headers=sidecar.headers("ana"), json={"script": {"raw": raw}}
        )
        assert answer.status_code == 200
    [event] = sidecar.events()
    assert (event["input_tokens"], event["output_tokens"], event["dialect"]) == (30, 12, "generic")
    assert "reported no usage that is known" in sidecar.log.read_text()
    sidecar.no_holds()


def test_usage_that_cannot_be_is_counted_instead(sidecar, client):
    usage = {"prompt_tokens": -900, "completion_tokens": 2}
    text = json.dumps({"choices": [{"message": {"content": " hello hello"}}], "usage": usage})
    answer = client.post(
        sidecar.url("openai/v1/chat/completions"),
        headers=sidecar.headers("ana"),
        json={"model": "gpt-4o", "messages": MESSAGES, "script": {"raw": text}},
    )
    assert answer.status_code == 200
    [event] = sidecar.events()
    assert event["input_tokens"] > 0
    assert (event["output_tokens"], event["basis"]) == (2, "counted")


def test_calls_without_an_identity_are_charged_to_the_anonymous_account(start, client):
    sidecar = start("[accounts]\nauto_create = true\n")
    text = sidecar.config.read_text().replace("[routes]", 'anonymous = "account:sem-dono"\n[routes]')
    sidecar.stop()
    sidecar.config.write_text(text)
    sidecar.start()
    key = {"X-Solaris-Key": sidecar.headers("x")["X-Solaris-Key"]}
    body = {"model": "gpt-4o", "messages": MESSAGES}
    with httpx.Client(trust_env=False, timeout=30) as fresh:
        assert fresh.post(sidecar.url("openai/v1/chat/completions"), headers=key, json=body).status_code == 200
        # As LibreChat sends pictures and speech; and somebody who says whose account it is, without the key.
        assert fresh.post(sidecar.url("openai/v1/chat/completions"), json=body | {"user": "ana"}).status_code == 200
        forged = {"X-Solaris-User": "ana"}
        assert fresh.post(sidecar.url("openai/v1/chat/completions"), headers=forged, json=body).status_code == 401
    assert [event["user"] for event in sidecar.events()] == ["sem-dono", "sem-dono"]


@pytest.mark.parametrize(("policy", "status", "arrived"), [("deny", 403, 0), ("pass", 200, 1)])
def test_unknown_endpoints_follow_the_policy(start, upstream, client, policy, status, arrived):
    sidecar = start(f'[policy]\nunknown_endpoints = "{policy}"\n')
    answer = client.post(
        sidecar.url("openai/v1/brand/new"), headers=sidecar.headers("ana"), json={"script": {"raw": "{}"}}
    )
    assert (answer.status_code, len(upstream.requests)) == (status, arrived)
    assert sidecar.events() == []


def test_users_that_nobody_added_are_refused_where_accounts_are_not_made(start, upstream, client):
    sidecar = start("[accounts]\nauto_create = false\n")
    body = {"model": "gpt-4o", "messages": MESSAGES}
    url = sidecar.url("openai/v1/chat/completions")
    refused = client.post(url, headers=sidecar.headers("ana"), json=body)
    assert (refused.status_code, refused.headers["x-solaris-denied"]) == (403, "account_unknown")
    assert upstream.requests == []
    sidecar.cli("users", "add", "ana")
    assert client.post(url, headers=sidecar.headers("ana"), json=body).status_code == 200
