"""Readiness: what is wrong is said within a bounded time, with what to do about it."""

import asyncio
import shutil
import time
from collections import namedtuple
from concurrent.futures import Future
from typing import Any

import pytest

from solaris_meter.errors import Unavailable
from solaris_meter.proxy import readiness
from solaris_meter.proxy.readiness import Readiness, Recent


class Books:
    """A ledger whose writes end as the test wants: after `answer` is set, or with an error."""

    def __init__(self, error=None, hangs=False):
        self.error = error
        self.hangs = hangs
        self.probes: list[Future[None]] = []

    def probe(self):
        future: Future[None] = Future()
        self.probes.append(future)
        if self.error:
            future.set_exception(self.error)
        elif not self.hangs:
            future.set_result(None)
        return future


class Counter:
    ready, failed = True, False


def examine(books, tmp_path, counter=Counter, **changes):
    async def run():
        examined = Readiness(books, counter, tmp_path, within_s=0.05)
        examined.started = True
        for name, value in changes.items():
            setattr(examined, name, value)
        return await examined.examine()

    return {check.subject: check for check in asyncio.run(run())}


def failing(checks):
    wrong = [check.subject for check in checks.values() if not check.ok]
    assert all(checks[subject].remedy for subject in wrong)
    return wrong


def test_all_is_well(tmp_path):
    checks = examine(Books(), tmp_path)
    assert list(checks) == ["serving", "ledger", "litellm", "disk"]
    assert failing(checks) == []


def test_a_ledger_that_refuses_a_write_is_quoted(tmp_path):
    checks = examine(Books(Unavailable("the disk is full")), tmp_path)
    assert failing(checks) == ["ledger"]
    assert checks["ledger"].text == "the disk is full"


def test_a_probe_that_fails_in_a_way_nobody_thought_of_is_no_readiness(tmp_path, caplog):
    checks = examine(Books(ZeroDivisionError("hm")), tmp_path)
    assert failing(checks) == ["ledger"]
    assert "ZeroDivisionError" in checks["ledger"].text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_ledger_that_does_not_answer_is_not_waited_for(tmp_path):
    began = time.monotonic()
    checks = examine(Books(hangs=True), tmp_path)
    assert failing(checks) == ["ledger"]
    assert time.monotonic() - began < 1


def test_a_probe_that_hangs_is_not_repeated(tmp_path):
    books: Any = Books(hangs=True)
    counter: Any = Counter

    async def run():
        examined = Readiness(books, counter, tmp_path, within_s=0.01)
        for _ in range(3):
            await examined.examine()
        books.probes[0].set_result(None)
        return await examined.examine()

    found = {check.subject: check.ok for check in asyncio.run(run())}
    assert found["ledger"]
    assert len(books.probes) == 1


def test_litellm_on_its_way_and_litellm_broken_are_told_apart(tmp_path):
    class Loading(Counter):
        ready = False

    class Broken(Loading):
        failed = True

    assert "being loaded" in examine(Books(), tmp_path, Loading)["litellm"].text
    assert "cannot be loaded" in examine(Books(), tmp_path, Broken)["litellm"].text
    assert failing(examine(Books(), tmp_path, Broken)) == ["litellm"]


def test_a_disk_that_is_nearly_full_is_named(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, readiness.LEAST_FREE - 1))
    checks = examine(Books(), tmp_path)
    assert failing(checks) == ["disk"]
    assert str(tmp_path) in checks["disk"].text


def test_a_folder_that_is_gone_is_named(tmp_path):
    checks = examine(Books(), tmp_path / "gone")
    assert failing(checks) == ["disk"]
    assert "gone" in checks["disk"].text


def test_before_the_start_is_over_and_once_it_stops_the_sidecar_is_not_ready(tmp_path):
    assert failing(examine(Books(), tmp_path, started=False)) == ["serving"]
    books = Books()
    checks = examine(books, tmp_path, stopping=True)
    assert failing(checks) == ["serving"]
    assert "stopping" in checks["serving"].text
    assert books.probes == []


def test_those_who_ask_at_once_share_an_answer_and_those_who_ask_later_get_a_new_one():
    begun = []

    async def run():
        loop = asyncio.get_running_loop()

        def work():
            begun.append(loop.create_future())
            return begun[-1]

        recent = Recent(work, kept_s=0.05)
        asking = [asyncio.create_task(recent.get(1)) for _ in range(3)]
        await asyncio.sleep(0)
        begun[0].set_result("one")
        assert await asyncio.gather(*asking) == ["one"] * 3
        await asyncio.sleep(0.06)
        late = asyncio.create_task(recent.get(1))
        await asyncio.sleep(0)
        begun[1].set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await late

    asyncio.run(run())
    assert len(begun) == 2
