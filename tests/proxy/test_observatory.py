"""The observatory over HTTP; with a ledger that is one."""

import asyncio
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.e2e.sidecar import free_port

from solaris_meter.ledger.accounts import NewAccount
from solaris_meter.ledger.database import SqliteEngine
from solaris_meter.ledger.ledger import Ledger
from solaris_meter.proxy.metrics import Metrics
from solaris_meter.proxy.observatory import Observatory
from solaris_meter.settings import Observe


class Meter:
    running, waiting = 3, 1


class Counter:
    ready, failed = True, False


@pytest.fixture
def ledger(tmp_path):
    engine = SqliteEngine(tmp_path / "solaris.db")
    ledger = Ledger(engine, "here", NewAccount("basico", "UTC"), ())
    ledger.open()
    yield ledger
    ledger.close()


def ask(ledger, tmp_path, *requests: Any, listen=None, meter: Any = Meter, before=lambda _: None, unmetered=None):
    """What the observatory answers to some requests, one after another: (method, path) or a path."""
    listen = f"127.0.0.1:{free_port()}" if listen is None else listen

    def one(request):
        method, path = ("GET", request) if isinstance(request, str) else request
        return httpx.request(method, f"http://{listen}{path}", trust_env=False, timeout=10)

    async def run():
        engine = SqliteEngine(tmp_path / "solaris.db")
        settings = Observe(listen=listen)
        counter: Any = Counter
        opened = Observatory(settings, Metrics(), meter, ledger, engine, counter, unmetered or {}, lambda: 1000)
        opened.open()
        opened.started()
        before(opened)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            answers = [await loop.run_in_executor(pool, one, request) for request in requests]
        await opened.close()
        return answers

    return asyncio.run(run())


def test_each_page_is_served(ledger, tmp_path):
    health, ready, metrics = ask(ledger, tmp_path, "/healthz", "/readyz", "/metrics", unmetered={"openai /v1/x": 2})
    assert (health.status_code, health.text) == (200, "ok\n")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert {check["subject"] for check in ready.json()["checks"]} == {"serving", "ledger", "litellm", "disk"}
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    for line in (
        "solaris_running_calls 3.0",
        "solaris_waiting_calls 1.0",
        "solaris_ledger_up 1.0",
        'solaris_unmetered_calls_total{endpoint="/v1/x",provider="openai"} 2.0',
    ):
        assert f"\n{line}\n" in metrics.text


def test_head_answers_like_get_and_nothing_else_is_there(ledger, tmp_path):
    head, post, unknown = ask(ledger, tmp_path, ("HEAD", "/healthz"), ("POST", "/metrics"), "/")
    assert (head.status_code, head.content) == (200, b"")
    assert (post.status_code, unknown.status_code) == (405, 404)


def test_while_the_sidecar_stops_it_says_so(ledger, tmp_path):
    ready, health = ask(ledger, tmp_path, "/readyz", "/healthz", before=lambda opened: opened.stopping())
    assert (ready.status_code, health.status_code) == (503, 200)
    assert "stopping" in ready.text


def test_without_its_ledger_the_rest_of_the_metrics_is_served(ledger, tmp_path):
    def break_(_):
        (tmp_path / "solaris.db").write_bytes(b"no database at all" * 500)
        for rest in tmp_path.glob("solaris.db-*"):
            rest.unlink()

    ledger.close()
    metrics, ready = ask(ledger, tmp_path, "/metrics", "/readyz", before=break_)
    assert metrics.status_code == 200
    assert "\nsolaris_ledger_up 0.0\n" in metrics.text
    assert "solaris_pending_reservations" not in metrics.text
    assert ready.status_code == 503


def test_a_defect_of_ours_is_a_warning_and_a_500(ledger, tmp_path, caplog):
    class Broken:
        waiting = 0

        @property
        def running(self):
            raise ZeroDivisionError

    (answer,) = ask(ledger, tmp_path, "/metrics", meter=Broken())
    assert answer.status_code == 500
    assert "/metrics could not be answered" in caplog.text
    assert all(record.levelno < logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_cannot_be_had_is_a_warning_that_names_the_setting(ledger, tmp_path, caplog, host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ask(ledger, tmp_path, listen=f"{host}:{port}") == []
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.WARNING
    assert "observe.listen" in record.message
    assert f"{host}:{port}" in record.message


def test_an_empty_address_serves_nothing(ledger, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert ask(ledger, tmp_path, listen="") == []
    assert caplog.records == []
