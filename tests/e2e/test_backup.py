"""Backups of a ledger that is being served: each restores to one that adds up, charges nobody more, and serves."""

import sqlite3
import threading
import time
from contextlib import closing

import httpx
import pytest
from sqlite_utils import Database
from tests.e2e.sidecar import Sidecar

from solaris_meter.ledger import migrations

OPENAI, ANTHROPIC = "openai/v1/chat/completions", "anthropic/v1/messages"
MODELS = {OPENAI: "gpt-4o", ANTHROPIC: "claude-sonnet-4-6"}
USERS = 8


def _body(path, **script):
    return {
        "model": MODELS[path],
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "oi"}],
        "stream": True,
        "script": {"input": 10, "words": 5, "delay_s": 0.01} | script,
    }


class Load:
    """Eight people who call without a pause until they are told to stop."""

    def __init__(self, sidecar):
        self.sidecar = sidecar
        self.failed = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(USERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, number):
        path = (OPENAI, ANTHROPIC)[number % 2]
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._stop.is_set():
                answer = client.post(
                    self.sidecar.url(path), headers=self.sidecar.headers(f"u{number}"), json=_body(path)
                )
                if answer.status_code != 200:
                    self.failed.append(answer.text)


def _unpriced(events):
    """Without their costs: the first calls after a start are priced later, when the price map is there."""
    return {identity: event | {"cost_usd": None} for identity, event in events.items()}


@pytest.fixture
def elsewhere(tmp_path, upstream):
    """Sidecars on restored ledgers."""
    made = []

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        made.append(Sidecar(folder, upstream.url))
        return made[-1]

    yield make
    for sidecar in made:
        sidecar.kill()


def test_backups_under_load_restore_to_ledgers_that_check(start, elsewhere, client):
    sidecar = start()
    backups = []
    with Load(sidecar) as load:
        while len(sidecar.events()) < 20:
            time.sleep(0.1)
        for number in range(4):
            made = sidecar.cli("db", "backup", f"backup-{number}.db")
            assert made["check"]["ok"]
            backups.append((sidecar.folder / made["file"], made))
            time.sleep(0.5)
    assert load.failed == []
    sidecar.no_holds()
    sidecar.check()
    final = {event["id"]: event for event in sidecar.events()}
    entries = [made["check"]["entries"] for _, made in backups]
    assert entries == sorted(entries)
    assert entries[0] < entries[-1] <= len(final) + USERS
    for number, (file, _) in enumerate(backups):
        other = elsewhere(f"restored-{number}")
        restored = other.cli("db", "restore", str(file))
        assert (restored["previous"], restored["check"]["ok"]) == (None, True)
        other.check()
        before = {event["id"]: event for event in other.events()}
        # What was settled at that moment stands there as it does in the ledger that went on.
        assert _unpriced(before) == _unpriced({identity: final[identity] for identity in before})
        held = other.cli("ledger", "holds")

        # It serves; calls that ran at that moment are charged a low estimate, and none that the other has not.
        other.start()
        served = client.post(other.url(OPENAI), headers=other.headers("u0"), json=_body(OPENAI))
        assert served.status_code == 200
        other.no_holds()
        other.check()
        after = {event["id"]: event for event in other.events() if event["id"] != served.headers["x-solaris-request"]}
        assert set(after) == set(before) | {hold["id"] for hold in held}
        assert set(after) <= set(final)
        assert all(event["billed_tokens"] <= final[identity]["billed_tokens"] for identity, event in after.items())
        assert other.stop() == 0


def test_a_ledger_is_restored_in_its_own_place(start, client):
    sidecar = start()
    assert client.post(sidecar.url(OPENAI), headers=sidecar.headers("ana"), json=_body(OPENAI)).status_code == 200
    sidecar.no_holds()
    made = sidecar.cli("db", "backup")
    assert client.post(sidecar.url(OPENAI), headers=sidecar.headers("ana"), json=_body(OPENAI)).status_code == 200
    sidecar.no_holds()

    refused = sidecar.run_cli("db", "restore", made["file"], "--force")
    assert refused.returncode == 1
    assert "a sidecar is running on" in refused.stderr
    assert len(sidecar.events()) == 2

    assert sidecar.stop() == 0
    refused = sidecar.run_cli("db", "restore", made["file"])
    assert "1 entries of" in refused.stderr
    restored = sidecar.cli("db", "restore", made["file"], "--force")
    assert restored["lost_entries"] == 1
    sidecar.start()
    assert client.post(sidecar.url(OPENAI), headers=sidecar.headers("ana"), json=_body(OPENAI)).status_code == 200
    sidecar.no_holds()
    assert sidecar.cli("balance", "ana")["used"] == 30
    sidecar.check()


def test_a_sidecar_that_upgrades_the_ledger_says_where_the_old_one_is(start):
    sidecar = start()
    assert sidecar.stop() == 0
    sidecar.database.unlink()
    _older(sidecar.database)
    sidecar.start()
    (copy,) = sidecar.folder.glob("solaris.db-before-m004_notices-*.db")
    assert f"as it was before: {copy}" in sidecar.log.read_text()
    sidecar.check()


def _older(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        database = Database(raw)
        migrations.steps.apply(database, stop_before="m004_notices")
        database.close()


def test_doctor_asks_a_real_sidecar_and_costs_nothing(start, upstream):
    sidecar = start()
    url = f"http://127.0.0.1:{sidecar.port}"
    done = sidecar.run_cli("doctor", "--sidecar", url)
    assert f"ok       sidecar {url}: refuses whom it must" in done.stdout
    assert "clock: the sidecar's" not in done.stdout
    other = sidecar.config.read_text().replace("0123456789abcdef", "fedcba9876543210")
    sidecar.config.write_text(other)
    done = sidecar.run_cli("doctor", "--sidecar", url)
    assert f"fault    sidecar {url}: refuses the key of these settings" in done.stdout
    assert (upstream.requests, sidecar.events()) == ([], [])
