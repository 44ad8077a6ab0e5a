"""Operators look in: metrics, health, readiness, the log and spans of real sidecars that serve real calls."""

import json
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.sidecar import CLI, ENVIRONMENT, KEY, Sidecar, free_port
from tests.proxy.collector import Collector, attributes

PROMPT = "meu diário secreto"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}], "script": {"input": 20, "words": 5}}
SECRET = "sk-abcdefghijklmnopqrstuvwxyz"
QUERY = "AIzaSyAabcdefghijklmnopqrstuvwxyz"


def page(sidecar, path):
    return httpx.get(f"http://127.0.0.1:{sidecar.observe_port}/{path}", timeout=10, trust_env=False)


def samples(sidecar):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page(sidecar, "metrics").text)
        for sample in family.samples
    }


def total(found, name, **labels):
    return sum(number for key, number in found.items() if key[0] == name and set(labels.items()) <= set(key[1:]))


def post(client, sidecar, user="ana", path="openai/v1/chat/completions", headers=None, **changes):
    return client.post(sidecar.url(path), headers=sidecar.headers(user) | (headers or {}), json=CHAT | changes)


def until(condition, patience_s=20):
    deadline = time.monotonic() + patience_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@contextmanager
def locked(sidecar):
    raw = sqlite3.connect(sidecar.database, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        raw.close()


def failing(answer):
    assert answer.json()["ready"] is False
    return {check["subject"]: check for check in answer.json()["checks"] if not check["ok"]}


# metrics


def test_settled_denied_free_and_unmetered_calls_are_counted(start, client):
    sidecar = start()
    sidecar.give("bia", 1)
    assert post(client, sidecar).status_code == 200
    streamed = post(client, sidecar, stream=True)
    assert streamed.content.endswith(b"data: [DONE]\n\n")
    assert post(client, sidecar, script={"status": 500}).status_code == 500
    assert post(client, sidecar, "bia").status_code == 200  # the last one may finish
    assert post(client, sidecar, "bia").status_code == 429
    assert post(client, sidecar, headers={"X-Solaris-Key": "wrong"}).status_code == 401
    unmetered = {"script": {"raw": "{}"}}
    for _ in range(2):
        assert post(client, sidecar, path="openai/v1/brand/new", **unmetered).status_code == 200
    found = samples(sidecar)
    settled = sum(event["total_tokens"] for event in sidecar.events())
    assert total(found, "solaris_calls_total", ending="settled", provider="openai", model="gpt-4o") == 3
    assert total(found, "solaris_calls_total", ending="free", status="5xx", model="gpt-4o") == 1
    assert total(found, "solaris_tokens_total", model="gpt-4o", basis="reported") == settled == 75
    assert total(found, "solaris_tokens_total", kind="output") == 15
    assert total(found, "solaris_billed_tokens_total") == sum(event["billed_tokens"] for event in sidecar.events())
    assert total(found, "solaris_denials_total", reason="tokens_exhausted") == 1
    # the first was the question whether the sidecar answers
    assert total(found, "solaris_denials_total", reason="identity_refused") == 2
    assert total(found, "solaris_unmetered_calls_total", provider="openai", endpoint="/v1/brand/new") == 2
    assert total(found, "solaris_settlement_duration_seconds_count") == 3
    assert total(found, "solaris_ledger_up") == 1
    assert total(found, "solaris_ledger_errors_total") == 0
    assert "ana" not in page(sidecar, "metrics").text
    sidecar.check()


def test_what_runs_and_waits_shows_in_the_gauges(start, client):
    sidecar = start()
    body = CHAT | {"stream": True, "script": {"input": 20, "words": 30, "delay_s": 0.1}}
    with client.stream(
        "POST", sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=body
    ) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        found = samples(sidecar)
        held = sidecar.cli("ledger", "holds")
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    assert total(found, "solaris_running_calls") == 1
    assert total(found, "solaris_pending_reservations") == 1
    assert total(found, "solaris_reserved_tokens") == held[0]["reserved"] > 0
    sidecar.no_holds()
    assert total(samples(sidecar), "solaris_running_calls") == 0


def test_users_are_counted_where_the_operator_wants_it(start, client):
    sidecar = start(f'[observe]\nlisten = "127.0.0.1:{(port := free_port())}"\nusers = true\n')
    sidecar.observe_port = port
    post(client, sidecar)
    assert total(samples(sidecar), "solaris_user_billed_tokens_total", user="ana") == 25


# health and readiness


def test_a_sidecar_is_ready_once_litellm_is_loaded(start):
    sidecar = start()
    assert page(sidecar, "healthz").text == "ok\n"
    answer = until(lambda: (found := page(sidecar, "readyz")).status_code == 200 and found)
    assert answer, page(sidecar, "readyz").text
    assert answer.json()["ready"] is True
    assert total(samples(sidecar), "solaris_litellm_ready") == 1


def test_a_locked_ledger_is_not_ready_within_seconds_and_ready_again_after(start):
    sidecar = start()
    assert until(lambda: page(sidecar, "readyz").status_code == 200)
    time.sleep(1.1)  # what was found a moment ago still holds
    with locked(sidecar):
        began = time.monotonic()
        answer = page(sidecar, "readyz")
        assert time.monotonic() - began < 4
        assert page(sidecar, "healthz").status_code == 200
        assert page(sidecar, "metrics").status_code == 200
    assert answer.status_code == 503
    assert list(failing(answer)) == ["ledger"]
    assert failing(answer)["ledger"]["remedy"]
    assert until(lambda: page(sidecar, "readyz").status_code == 200)
    sidecar.check()


def test_a_disk_that_takes_no_more_is_not_ready_and_says_why(start):
    """The kernel refuses the process every byte more in a file, as a full or a read-only disk does."""
    sidecar = json_sidecar(start)
    assert until(lambda: page(sidecar, "readyz").status_code == 200)
    assert sidecar.process is not None
    _, most = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (1, most))
    time.sleep(1.1)
    answer = page(sidecar, "readyz")
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (most, most))
    assert answer.status_code == 503
    assert "solaris.db" in failing(answer)["ledger"]["text"]
    assert until(lambda: page(sidecar, "readyz").status_code == 200)
    sidecar.check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write whatever it likes")
def test_a_folder_that_may_not_be_written_is_not_ready(start):
    sidecar = start()
    assert until(lambda: page(sidecar, "readyz").status_code == 200)
    time.sleep(1.1)
    sidecar.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "disk" in failing(page(sidecar, "readyz"))
    finally:
        sidecar.folder.chmod(stat.S_IRWXU)


def test_errors_of_the_ledger_are_counted(start, client):
    sidecar = start()
    with locked(sidecar):
        assert post(client, sidecar).status_code == 503
    found = samples(sidecar)
    assert total(found, "solaris_ledger_errors_total", operation="reserve") == 1
    assert total(found, "solaris_denials_total", reason="ledger_unavailable") == 1


def test_journalled_calls_show_until_they_are_billed(start, client):
    sidecar = start()
    sidecar.stop()
    sidecar.config.write_text(sidecar.config.read_text().replace("[ledger]\n", '[ledger]\non_error = "allow"\n'))
    sidecar.start()
    with locked(sidecar):
        assert post(client, sidecar).status_code == 200
        time.sleep(5.1)  # what was read a moment ago still holds
        found = samples(sidecar)
    assert total(found, "solaris_journalled_calls") == 1
    assert total(found, "solaris_ledger_errors_total", operation="settle") == 1
    assert total(found, "solaris_tokens_total") == 25
    assert until(lambda: total(samples(sidecar), "solaris_journalled_calls") == 0, patience_s=40)
    sidecar.check()


def test_while_it_stops_a_sidecar_answers_and_is_not_ready(start, client):
    sidecar = start()
    body = CHAT | {"stream": True, "script": {"input": 20, "words": 20, "delay_s": 0.1}}
    with client.stream(
        "POST", sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana"), json=body
    ) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert sidecar.process is not None
        sidecar.process.terminate()
        stopping = until(lambda: "stopping" in (found := page(sidecar, "readyz")).text and found, patience_s=2)
        assert stopping
        assert stopping.status_code == 503
        assert page(sidecar, "healthz").status_code == 200
        assert total(samples(sidecar), "solaris_running_calls") == 1
        assert b"".join(pieces).endswith(b"data: [DONE]\n\n")
    assert sidecar.process.wait(20) == 0
    with pytest.raises(httpx.ConnectError):
        page(sidecar, "healthz")


def test_two_sidecars_on_one_address_both_serve_calls_and_the_second_says_why_it_is_not_watched(start, client):
    listen = f'[observe]\nlisten = "127.0.0.1:{(port := free_port())}"\n'
    first, second = start(listen), start(listen)
    first.observe_port = port
    for sidecar in (first, second):
        assert post(client, sidecar).status_code == 200
    assert "observe.listen" in second.log.read_text()
    assert f"127.0.0.1:{port}" in second.log.read_text()
    assert "observe.listen" not in first.log.read_text()
    assert total(samples(first), "solaris_calls_total") == 1
    assert second.stop() == 0


# the log


def json_sidecar(start, arguments=()):
    sidecar = start(f'[observe]\nlisten = "127.0.0.1:{(port := free_port())}"\nlog = "json"\n', arguments)
    sidecar.observe_port = port
    return sidecar


def log_of(sidecar):
    """Every line of the log, each of which must be an object."""
    return [json.loads(line) for line in sidecar.log.read_text().splitlines()]


BREAK = """
from solaris_meter.metering.dialects.openai_chat import OpenAIChat

def broken(self, answer, event):
    raise ValueError(f"cannot read {event}")

OpenAIChat.read_event = broken
"""


def test_every_line_is_json_with_the_request_id_and_nothing_that_was_said(start, client, upstream):
    sidecar = json_sidecar(start)
    secret = {"authorization": f"Bearer {SECRET}", "X-Solaris-Conversation": "fio-1"}
    served = post(client, sidecar, path=f"openai/v1/chat/completions?key={QUERY}", headers=secret)
    streamed = post(client, sidecar, headers=secret, stream=True)
    failed = post(client, sidecar, headers=secret, script={"status": 500})
    refused = post(client, sidecar, headers=secret | {"X-Solaris-Key": "wrong-" + KEY})
    broken = client.post(
        sidecar.url(f"openai/v1/chat/completions?key={QUERY}"),
        headers=sidecar.headers("ana") | secret,
        content=f'{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "{PROMPT}"',
    )
    cut = CHAT | {"stream": True, "script": {"words": 5, "cut_after": 3}}
    with (
        client.stream(
            "POST", sidecar.url("openai/v1/chat/completions"), headers=sidecar.headers("ana") | secret, json=cut
        ) as broken_off,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        broken_off.read()
    sidecar.no_holds()
    assert sidecar.stop() == 0
    assert (served.status_code, failed.status_code, refused.status_code, broken.status_code) == (200, 500, 401, 400)
    lines = log_of(sidecar)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    calls = {line["request"]: line for line in lines if line.get("event") == "call"}
    for answer, expected in ((served, 25), (streamed, 25)):
        line = calls[answer.headers["X-Solaris-Request"]]
        assert (line["user"], line["conversation"], line["billed_tokens"]) == ("ana", "fio-1", expected)
        assert (line["ending"], line["status"], line["endpoint"]) == ("settled", 200, "/v1/chat/completions")
    assert calls[broken_off.headers["X-Solaris-Request"]]["interrupted"] is True
    assert [line["status"] for line in calls.values() if line["ending"] == "free"] == [500]
    assert {event["id"] for event in sidecar.events()} == {
        request for request, line in calls.items() if line["ending"] == "settled"
    }
    denied = [line["reason"] for line in lines if line.get("event") == "denial"]
    assert sorted(denied) == ["body_unreadable", "identity_refused", "identity_refused"]
    text = sidecar.log.read_text()
    for never in (PROMPT, json.dumps(PROMPT)[1:-1], SECRET, KEY, QUERY, "hello", "key="):
        assert never not in text


def test_a_failure_of_ours_is_a_line_with_its_frames_and_without_the_answer_it_choked_on(start, client, tmp_path):
    script = tmp_path / "seeded.py"
    script.write_text(BREAK)
    sidecar = json_sidecar(start, arguments=["-s", str(script)])
    answer = post(client, sidecar, stream=True)
    assert answer.content.count(b" hello") == 5
    sidecar.no_holds()
    lines = log_of(sidecar)
    [line] = [line for line in lines if line.get("exception") == "ValueError"][:1]
    assert "in broken" in line["traceback"]
    assert line["request"] == answer.headers["X-Solaris-Request"]
    assert "hello" not in sidecar.log.read_text()


def test_as_text_the_log_has_no_line_for_each_call(start, client):
    sidecar = start()
    identities = [post(client, sidecar).headers["X-Solaris-Request"] for _ in range(3)]
    text = sidecar.log.read_text()
    assert "{" not in text
    assert not [identity for identity in identities if identity in text]


def test_mitmweb_writes_its_log_as_json_too(start, tmp_path, upstream):
    sidecar = Sidecar(tmp_path, upstream.url, f'[observe]\nlisten = "127.0.0.1:{free_port()}"\nlog = "json"\n')
    command = [
        CLI, "--config", str(sidecar.config), "run", "--web", "--listen", f"127.0.0.1:{sidecar.port}", "--",
        "--set", f"confdir={tmp_path / 'ca'}", "--web-port", str(free_port()), "--set", "web_password=geheim-geheim",
    ]  # fmt: skip
    try:
        sidecar.start(command)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
    assert any("solaris_meter.calls" in line["logger"] for line in log_of(sidecar))


# spans


def test_spans_reach_a_collector_and_the_last_ones_leave_when_the_sidecar_stops(start, client):
    collector = Collector()
    try:
        port = free_port()
        sidecar = start(f'[observe]\nlisten = "127.0.0.1:{port}"\notlp_endpoint = "{collector.url}"\n')
        answer = post(client, sidecar, headers={"X-Solaris-Conversation": "fio-1"})
        assert sidecar.stop() == 0
        by_id = {attributes(span).get("solaris.request.id"): span for span in collector.spans}
        span = by_id[answer.headers["X-Solaris-Request"]]
        found = attributes(span)
        assert (span.name, found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (
            "chat gpt-4o",
            20,
            5,
        )
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
        wire = b"".join(request.SerializeToString() for request in collector.requests)
        for never in (PROMPT.encode(), KEY.encode(), b"hello", b"ana@example.com"):
            assert never not in wire
    finally:
        collector.stop()


def test_a_collector_that_is_away_costs_no_call_and_no_end(start, client):
    sidecar = start(f'[observe]\nlisten = ""\notlp_endpoint = "http://127.0.0.1:{free_port()}"\n')
    assert post(client, sidecar).status_code == 200
    assert sidecar.stop() == 0
    sidecar.check()


def test_without_the_packages_for_spans_the_start_says_what_to_install(tmp_path):
    """A module that hides them stands first on the path."""
    hidden = tmp_path / "hidden"
    (hidden / "opentelemetry").mkdir(parents=True)
    (hidden / "opentelemetry" / "__init__.py").write_text("")
    config = tmp_path / "solaris.toml"
    config.write_text('[observe]\nlisten = ""\notlp_endpoint = "http://127.0.0.1:4318"\n')
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    program = (
        "from pathlib import Path\n"
        "from mitmproxy.test import taddons\n"
        "from solaris_meter.errors import SettingsError\n"
        "from solaris_meter.proxy import addons\n"
        "from solaris_meter.settings import load_settings\n"
        f"settings = load_settings(Path({str(config)!r}), {{}})\n"
        "try:\n    with taddons.context():\n        addons._build(settings, None)\n"
        "except SettingsError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=ENVIRONMENT | {"PYTHONPATH": path}, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "observe.otlp_endpoint" in done.stdout
    assert "pip install 'solaris-meter[otel]'" in done.stdout
