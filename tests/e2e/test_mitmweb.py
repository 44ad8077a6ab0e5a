"""mitmweb over its own API: what it shows of calls, what it keeps, and what it lets nobody see."""

import asyncio
import io
import json
import re
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from mitmproxy.io import FlowReader
from tests.bench import inspection
from tests.e2e.mitmweb import PASSWORD, Mitmweb
from tests.e2e.sidecar import CLI, ENVIRONMENT, KEY, Sidecar, free_port
from tests.e2e.upstream import Upstream
from tests.e2e.wire.answers import WHOLE_TEXT
from tests.e2e.wire.openai import REALTIME

SECRET = "sk-4f9a1c77e2b8"
QUESTION = "Ainda há pão de queijo 4711?"
MESSAGES = [{"role": "user", "content": QUESTION}]
CHAT = {"model": "gpt-4o", "messages": MESSAGES}
CALLS = {
    "openai": ("openai/v1/chat/completions", CHAT),
    "openai, streamed": ("openai/v1/chat/completions", CHAT | {"stream": True}),
    "responses": ("openai/v1/responses", {"model": "gpt-5", "input": QUESTION}),
    "responses, streamed": ("openai/v1/responses", {"model": "gpt-5", "input": QUESTION, "stream": True}),
    "anthropic": ("anthropic/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": MESSAGES}),
    "anthropic, streamed": (
        "anthropic/v1/messages",
        {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": MESSAGES, "stream": True},
    ),
    "google, streamed": (
        "google/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]},
    ),
    "google, an array": (
        "google/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]},
    ),
    "cohere, streamed": ("cohere/v2/chat", {"model": "command-a-03-2025", "messages": MESSAGES, "stream": True}),
    "ollama, streamed": ("ollama/api/chat", {"model": "llama3.2", "messages": MESSAGES}),
}


@pytest.fixture
def begin(tmp_path: Path, upstream: Upstream) -> Iterator[Callable[..., Mitmweb]]:
    """Start a sidecar under mitmweb before the scripted upstream."""
    started: list[Mitmweb] = []

    def begin(extra: str = "", **more: str) -> Mitmweb:
        folder = tmp_path / f"mitmweb-{len(started)}"
        folder.mkdir()
        web = Mitmweb(folder, upstream.url, extra, **more)
        started.append(web)
        web.start()
        return web

    yield begin
    for web in started:
        web.kill()


def _ask(web: Sidecar, client: httpx.Client, user: str = "ana", **script: object) -> httpx.Response:
    body = CHAT | {"script": script, "stream": script.pop("stream", False)}
    headers = web.headers(user) | {"authorization": f"Bearer {SECRET}"}
    return client.post(web.url("openai/v1/chat/completions"), headers=headers, json=body)


def _everything(web: Mitmweb) -> str:
    """All that mitmweb gives away of its flows: list, bodies, views, and the file to download."""
    found = [web.api.get("/flows").text, web.api.get("/events").text]
    found.append(web.api.get("/flows/dump").content.decode("latin-1"))
    for flow in web.api.get("/flows").json():
        for message in ("request", "response"):
            if flow.get(message):
                found.append(web.api.get(f"/flows/{flow['id']}/{message}/content.data").text)
                found.append(json.dumps(web.shown(flow, message)))
    return "\n".join(found)


# -------------------------------------------------------------------------------------------------------- what it shows


@pytest.mark.parametrize("encoding", ["", "gzip"])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_call_is_shown_as_a_conversation(web: Mitmweb, client: httpx.Client, name: str, encoding: str) -> None:
    path, body = CALLS[name]
    headers = web.headers("ana") | ({"x-encode": encoding} if encoding else {})
    assert client.post(web.url(path), headers=headers, json=body).status_code == 200
    flow = web.flow(lambda flow: flow["marked"] == "🟢")
    asked, answered = web.shown(flow, "request"), web.shown(flow, "response")
    assert (asked["view_name"], answered["view_name"]) == ("Solaris", "Solaris")
    assert f"── user ──\n{QUESTION}\n" in asked["text"]
    assert WHOLE_TEXT in answered["text"].partition("── Solaris Meter ──")[0]
    event = web.events()[-1]
    tokens = f"= {event['total_tokens']:,} ({event['basis']})\nbilled       {event['billed_tokens']:,}\n"
    for shown in (asked["text"], answered["text"]):
        assert tokens in shown.partition("── Solaris Meter ──")[2]
        assert event["id"] in shown
    assert f"{event['total_tokens']:,} tokens ({event['basis']})" in flow["comment"]
    left = web.cli("balance", "ana")["available"]
    assert flow["comment"].endswith(f"· {left:,} left")


def test_a_cost_is_shown(web: Mitmweb, client: httpx.Client) -> None:
    _ask(web, client)
    cost = web.events()[-1]["cost_usd"]
    assert f"· ${cost:.4f} ·" in web.flow()["comment"]


def test_a_filter_finds_the_calls_of_a_user(web: Mitmweb, client: httpx.Client) -> None:
    for user in ("ana", "bruno", "ana"):
        _ask(web, client, user)
    dump = web.api.get("/flows/dump", params={"filter": '~meta "solaris_user: ana$"'}).content
    found = list(FlowReader(io.BytesIO(dump)).stream())
    assert [flow.metadata["solaris_user"] for flow in found] == ["ana", "ana"]
    assert all(flow.metadata["solaris_tokens"] == 2307 for flow in found)


def test_every_ending_has_its_marker(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin()
    web.cli("plans", "set", "mini", "--tokens", "1000", "--period", "month")
    web.cli("users", "add", "bruno", "--plan", "mini")
    for script, marker, words in (
        ({}, "🟢", "10 in + 5 out = 15 tokens (reported)"),
        ({"input": 900}, "🟡", "905 tokens (reported)"),
        ({"status": 500}, "💥", "nothing was owed (500)"),
        ({"input": 200}, "🟡", "left"),
        ({}, "⛔", "denied: tokens_exhausted (429)"),
    ):
        _ask(web, client, "bruno", **script)
        flow = web.flow()
        assert (flow["marked"], words in flow["comment"]) == (marker, True), flow
    with pytest.raises(httpx.RemoteProtocolError):
        _ask(web, client, "ana", stream=True, words=9, cut_after=4)
    flow = web.flow(lambda flow: "running" not in flow["comment"])
    assert flow["marked"] == "✂"
    assert "interrupted" in flow["comment"]
    assert "── assistant ──\n hello hello hello\n" in web.shown(flow, "response")["text"]
    assert "denied · tokens_exhausted" in web.shown(web.flows()[-2], "response")["text"]


def test_a_running_call_is_shown_before_its_answer_ends(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin()
    headers = web.headers("ana") | {"authorization": f"Bearer {SECRET}"}
    body = CHAT | {"stream": True, "script": {"words": 3, "hold_after": 2}}
    with client.stream("POST", web.url("openai/v1/chat/completions"), headers=headers, json=body) as answer:
        next(answer.iter_bytes())
        flow = web.flow(lambda flow: flow.get("response"))
        assert flow["marked"] == "⏳"
        assert flow["comment"].startswith("ana@example.com · gpt-4o · running")
        assert SECRET not in _everything(web)
        web.post("/flows/resume")
    assert "✂" in web.flow(lambda flow: flow["marked"] != "⏳")["marked"]


def test_the_answers_of_a_session_are_added_up(web: Mitmweb) -> None:
    async def converse() -> None:
        client = openai.AsyncOpenAI(
            api_key=SECRET,
            base_url=web.url("openai/v1"),
            websocket_base_url=web.url("openai/v1").replace("http://", "ws://"),
        )
        async with (
            client,
            client.realtime.connect(model="gpt-realtime", extra_headers=web.headers("carla")) as connection,
        ):
            for _ in REALTIME:
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.done":
                        break

    asyncio.run(asyncio.wait_for(converse(), 30))
    read, written = (sum(getattr(bill, name) for bill in REALTIME) for name in ("input", "output"))
    flow = web.flow(lambda flow: "2 calls" in flow["comment"])
    words = f"gpt-realtime · 2 calls · {read} in + {written} out = {read + written} tokens (reported)"
    assert words in flow["comment"]
    assert flow["marked"] == "🟢"
    messages = web.api.get(f"/flows/{flow['id']}/messages/content/auto").json()
    assert any("response.done" in message["text"] for message in messages)
    assert SECRET not in _everything(web)


def test_what_is_not_metered_keeps_mitmproxys_views(web: Mitmweb, client: httpx.Client) -> None:
    assert client.get(web.url("openai/v1/models"), headers=web.headers("ana")).status_code == 200
    flow = web.flow()
    assert (flow["comment"], flow["marked"]) == ("", "")
    assert web.shown(flow, "response")["view_name"] == "JSON"


# ------------------------------------------------------------------------------------------------------------ commands


def test_the_ledger_is_kept_in_the_command_bar(web: Mitmweb) -> None:
    web.cli("users", "add", "dora")
    assert web.command("solaris.credit", "dora", "500K", "pix-9") == {
        "value": "credit +500,000 → dora has 1,500,000 tokens (pix-9)"
    }
    assert "nothing was changed" in web.command("solaris.credit", "dora", "500K", "pix-9")["value"]
    assert web.cli("balance", "dora")["available"] == 1_500_000
    assert web.command("solaris.balance", "dor")["value"].startswith("dora: 1,500,000 left of 1,500,000")
    assert web.command("solaris.block", "dora") == {"value": "dora is blocked"}
    assert web.cli("balance", "dora")["status"] == "blocked"
    assert web.command("solaris.usage", "dora") == {"value": "nothing was used"}
    assert "is not an amount of tokens" in web.command("solaris.credit", "dora", "lots")["error"]
    assert "no user 'nobody-at-all'" in web.command("solaris.balance", "nobody-at-all")["error"]
    assert "argument mismatch" in web.command("solaris.balance")["error"]
    statement = web.cli("statement", "dora")
    assert [(line["kind"], line["reference"], line["note"]) for line in statement][-1] == ("credit", "pix-9", "mitmweb")
    assert "mitmweb: credit +500,000" in web.api.get("/events").text


def test_a_command_does_not_wait_for_ever(begin: Callable[..., Mitmweb]) -> None:
    """Another process holds the database: every stream stands still while a command waits."""
    web = begin()
    web.cli("users", "add", "dora")
    holder = sqlite3.connect(web.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    told = web.command("solaris.credit", "dora", "1K")["error"]
    assert time.monotonic() - began < 5
    holder.execute("ROLLBACK")
    holder.close()
    again = re.search(r"'solaris\.credit (\S+) (\S+) (mitmweb-\w+)', which books it once", told)
    assert again, told
    deadline = time.monotonic() + 10
    while web.cli("balance", "dora")["available"] != 1_001_000:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "nothing was changed" in web.command("solaris.credit", *again.groups())["value"]
    assert web.cli("balance", "dora")["available"] == 1_001_000


# ---------------------------------------------------------------------------------------------------------------- keys

KEYS = {
    "bearer": ("openai/v1/chat/completions", {"authorization": f"Bearer {SECRET}"}),
    "x-api-key": ("anthropic/v1/messages", {"x-api-key": SECRET}),
    "api-key": ("openai/v1/chat/completions", {"api-key": SECRET}),
    "cookie": ("openai/v1/chat/completions", {"cookie": f"session={SECRET}"}),
    "google": ("openai/v1/chat/completions", {"x-goog-api-key": SECRET}),
    "query": (f"openai/v1/chat/completions?key={SECRET}", {}),
    "aws": (
        "openai/v1/chat/completions",
        {
            "authorization": f"AWS4-HMAC-SHA256 Credential=A/b, SignedHeaders=host, Signature={SECRET}",
            "x-amz-security-token": SECRET,
        },
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_upstream_gets_a_key_that_nobody_sees_afterwards(
    web: Mitmweb, client: httpx.Client, name: str, stream: bool, providers: Upstream
) -> None:
    path, headers = KEYS[name]
    body = CHAT | {"stream": stream, "max_tokens": 9}
    answer = client.post(web.url(path), headers=web.headers("ana") | headers, json=body)
    assert answer.status_code == 200
    [arrival] = providers.requests
    assert {key: arrival.headers.get(key) for key in headers} == headers
    assert (SECRET in arrival.path) == (name == "query")
    everything = _everything(web)
    assert "[masked]" in everything
    assert SECRET not in everything
    assert KEY not in everything


def test_a_refused_request_is_masked(begin: Callable[..., Mitmweb], client: httpx.Client, upstream: Upstream) -> None:
    web = begin()
    web.cli("users", "add", "zoe")
    web.cli("users", "block", "zoe")
    headers = web.headers("zoe") | {"authorization": f"Bearer {SECRET}"}
    path = f"v1/chat/completions?key={SECRET}"
    assert client.post(web.url(f"openai/{path}"), headers=headers, json=CHAT).status_code == 429
    assert client.post(web.url(f"openai/{path}"), headers={"authorization": f"Bearer {SECRET}"}).status_code == 401
    assert client.post(web.url(f"nowhere/{path}"), headers=headers, json=CHAT).status_code == 404
    assert upstream.requests == []
    assert SECRET not in _everything(web)
    assert KEY not in _everything(web)


def test_a_call_that_never_reached_its_upstream_is_masked(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin(routes={"openai": f"http://127.0.0.1:{free_port()}"})
    assert _ask(web, client).status_code == 502
    flow = web.flow(lambda flow: flow["marked"] == "💥")
    assert "no answer came" in flow["comment"]
    assert SECRET not in _everything(web)


def test_a_tunnel_is_masked(web: Mitmweb, providers: Upstream) -> None:
    context = ssl.create_default_context(cafile=str(web.folder / "ca" / "mitmproxy-ca-cert.pem"))
    proxy = httpx.Proxy(web.url(""), headers={"proxy-authorization": f"Basic {SECRET}"})
    with httpx.Client(proxy=proxy, verify=context, trust_env=False, timeout=30) as client:
        headers = web.headers("ana") | {"authorization": f"Bearer {SECRET}"}
        answer = client.post("https://api.openai.com/v1/chat/completions", headers=headers, json=CHAT)
    assert answer.status_code == 200
    [arrival] = providers.requests
    assert arrival.headers["authorization"] == f"Bearer {SECRET}"
    assert web.flow()["marked"] == "🟢"
    assert SECRET not in _everything(web)


def test_a_replay_is_refused_and_costs_nothing(web: Mitmweb, client: httpx.Client, providers: Upstream) -> None:
    _ask(web, client)
    used = web.cli("balance", "ana")["used"]
    events = len(web.events())
    providers.requests.clear()
    flow = web.flow()
    web.post(f"/flows/{flow['id']}/replay")
    replayed = web.flow(lambda flow: flow["is_replay"] and flow.get("response"))
    assert replayed["response"]["status_code"] == 401
    assert replayed["marked"] == "⛔"
    assert providers.requests == []
    assert (web.cli("balance", "ana")["used"], len(web.events())) == (used, events)


def test_prompts_are_kept_in_mitmweb_only(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin()
    _ask(web, client, words=3)
    _ask(web, client, stream=True)
    web.cli("users", "block", "ana")
    assert _ask(web, client).status_code == 429
    assert QUESTION in web.shown(web.flow(), "request")["text"]
    web.command("solaris.balance", "ana")
    assert QUESTION not in web.api.get("/events").text
    assert web.stop() == 0
    kept = [file for file in web.folder.rglob("*") if file.is_file()]
    assert {"solaris.db", "sidecar.log"} <= {file.name for file in kept}
    for file in kept:
        content = file.read_bytes()
        for secret in ("queijo 4711", SECRET, "hello hello"):
            assert secret.encode() not in content, file


# -------------------------------------------------------------------------------------------------------- what it keeps


def test_a_large_answer_arrives_whole_and_is_kept_in_part(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin()
    for stream in (True, False):
        words = 30_000 if stream else 300_000
        answer = _ask(web, client, words=words, stream=stream)
        assert answer.text.count(" hello") == words
        flow = web.flow(lambda flow: flow.get("response") and flow["response"]["contentLength"] == 1024 * 1024)
        shown = web.shown(flow, "response")["text"]
        assert "[only the first 1,048,576 bytes are kept]" in shown
        assert stream is (" hello hello" in shown.partition("── Solaris")[0] and "── assistant ──" in shown)
    web.check()


def test_only_so_many_flows_stay_for_so_long(begin: Callable[..., Mitmweb], client: httpx.Client) -> None:
    web = begin(inspect="keep = 5\nkeep_seconds = 4")

    def hold() -> None:
        with httpx.Client(timeout=60, trust_env=False) as patient:
            _ask(web, patient, wait_s=12)

    held = threading.Thread(target=hold)
    held.start()
    time.sleep(0.5)
    for _ in range(20):
        assert _ask(web, client).status_code == 200
    _few(web, 6)
    _few(web, 1)
    assert "running" in web.flows()[0]["comment"], "the one that runs stays, however old"
    held.join()
    web.flow(lambda flow: flow["marked"] == "🟢")
    _few(web, 0)
    assert len(web.events()) == 21


def _few(web: Mitmweb, number: int, patience_s: float = 12) -> None:
    deadline = time.monotonic() + patience_s
    while len(web.api.get("/flows").json()) > number:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_thousand_calls_leave_a_hundred_flows(tmp_path: Path) -> None:
    samples = list(inspection.measure(tmp_path, calls=1000, keep=100, warm=500))
    assert samples[-1].calls == 1000
    assert [sample.flows for sample in samples] == [100] * len(samples)


# ------------------------------------------------------------------------------------------------------------ password


def test_the_page_is_never_open(begin: Callable[..., Mitmweb]) -> None:
    web = begin()
    for headers in (
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic Og=="},
    ):
        for path in ("/", "/flows", "/flows/dump", "/events", "/options", "/commands"):
            assert httpx.get(web.page + path, headers=headers, trust_env=False).status_code == 403
    assert httpx.get(f"{web.page}/flows?token=", trust_env=False).status_code == 403
    assert PASSWORD not in web.api.get("/options").text
    assert "plaintext password" not in web.log.read_text()


def test_an_empty_password_means_a_random_one_that_is_printed(tmp_path: Path, upstream: Upstream) -> None:
    web = Mitmweb(tmp_path, upstream.url)
    web.config.write_text(web.config.read_text().replace(f'password = "{PASSWORD}"', 'password = ""'))
    web.mitmproxy_args = ["--set", "web_password="]
    try:
        web.start()
        assert httpx.get(f"{web.page}/flows?token=", trust_env=False).status_code == 403
        printed = re.search(r"listening at http://\S+/\?token=(\w+)", web.log.read_text())
        assert printed
        assert len(printed[1]) == 32
        assert httpx.get(f"{web.page}/flows?token={printed[1]}", trust_env=False).status_code == 200
    finally:
        web.kill()


def test_mitmproxys_own_option_comes_first(tmp_path: Path, upstream: Upstream) -> None:
    web = Mitmweb(tmp_path, upstream.url)
    web.mitmproxy_args = ["--set", "web_password=another-password", "--set", "web_columns=path"]
    try:
        web.start()
        assert web.api.get("/flows").status_code == 403
        web.api.headers["authorization"] = "Bearer another-password"
        assert web.api.get("/options").json()["web_columns"]["value"] == ["path"]
    finally:
        web.kill()


@pytest.mark.parametrize("password", ["short", " " * 12, "$argon2-but-no-hash"])
def test_a_password_that_is_none_stops_the_start(tmp_path: Path, upstream: Upstream, password: str) -> None:
    web = Mitmweb(tmp_path, upstream.url)
    done = subprocess.run(
        [CLI, "--config", str(web.config), "run", "--web", "--listen", f"127.0.0.1:{web.port}",
         "--", "--web-port", str(web.web_port), "--set", f"confdir={tmp_path / 'ca'}"],
        env=ENVIRONMENT | {"SOLARIS_INSPECT_PASSWORD": password}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "password" in done.stderr + done.stdout


def test_the_comment_has_a_column(web: Mitmweb) -> None:
    assert "comment" in web.api.get("/options").json()["web_columns"]["value"]
