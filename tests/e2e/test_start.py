"""Every way to start it, and what must stop the start."""

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from tests.e2e.sidecar import CLI, ENVIRONMENT, Sidecar, free_port

ADDON = str(Path(__file__).parents[2] / "addon" / "solaris_addon.py")
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}], "script": {"input": 5, "words": 5}}


@pytest.fixture
def sidecar(tmp_path, upstream):
    sidecar = Sidecar(tmp_path, upstream.url)
    yield sidecar
    sidecar.kill()


def _mitmproxy(program, sidecar, *more):
    program_path = str(Path(sys.executable).with_name(program))
    return [
        program_path, "-s", ADDON, "--set", f"solaris_config={sidecar.config}", "--listen-port", str(sidecar.port),
        "--set", f"confdir={sidecar.folder / 'ca'}", *more,
    ]  # fmt: skip


def _run_to_its_end(command, folder):
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=folder, timeout=60, check=False)


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb"])
def test_plain_mitmproxy_behaves_as_run_does(sidecar, upstream, client, program):
    web = ["--no-web-open-browser", "--web-port", str(free_port()), "--set", "web_password=secret"]
    sidecar.start(_mitmproxy(program, sidecar, *(web if program == "mitmweb" else [])))
    url = sidecar.url("openai/v1/chat/completions")
    served = client.post(url, headers=sidecar.headers("ana"), json=CHAT)
    assert (served.status_code, "x-solaris-request" in served.headers) == (200, True)
    assert sidecar.cli("balance", "ana")["used"] == 10
    upstream.requests.clear()
    assert client.post(url, json=CHAT).status_code == 401
    assert upstream.requests == []
    assert sidecar.stop() == 0


def test_it_listens_on_this_machine_only_unless_told_otherwise(sidecar):
    sidecar.start([CLI, "--config", str(sidecar.config), "run", "--listen", str(sidecar.port)])
    assert sidecar.stop() == 0
    assert f"listening at 127.0.0.1:{sidecar.port}" in sidecar.log.read_text()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("solaris_cofnig=x", "solaris_cofnig"),
        ("solaris_config=/nowhere/solaris.toml", "/nowhere/solaris.toml"),
    ],
)
def test_a_wrong_option_stops_the_start(sidecar, setting, named):
    right = f"solaris_config={sidecar.config}"
    command = [part for part in _mitmproxy("mitmdump", sidecar, "--set", setting) if part != right]
    command.pop(command.index("--set"))
    done = _run_to_its_end(command, sidecar.folder)
    assert done.returncode == 1
    assert named in done.stdout + done.stderr


def test_a_misspelt_key_stops_both_ways_to_start(sidecar):
    sidecar.config.write_text("[ledger]\ndatabse = 'x'\n")
    for command in (_mitmproxy("mitmdump", sidecar), [CLI, "--config", str(sidecar.config), "run"]):
        done = _run_to_its_end(command, sidecar.folder)
        assert done.returncode == 1
        assert "unknown key 'ledger.databse'" in done.stdout + done.stderr


def test_a_port_in_use_is_named(sidecar):
    sidecar.start()
    second = [CLI, "--config", str(sidecar.config), "run", "--listen", f"127.0.0.1:{sidecar.port}"]
    done = _run_to_its_end(second, sidecar.folder)
    assert done.returncode == 1
    assert f"127.0.0.1:{sidecar.port}" in done.stderr
    assert "--listen" in done.stderr


def test_a_database_from_a_newer_version_stops_the_start(sidecar):
    sidecar.cli("db", "migrate")
    with sqlite3.connect(sidecar.database) as database:
        database.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('solaris', 'm999_future', 'x')"
        )
    database.close()
    for command in (_mitmproxy("mitmdump", sidecar), [CLI, "--config", str(sidecar.config), "balance"]):
        done = _run_to_its_end(command, sidecar.folder)
        assert done.returncode == 1
        assert "m999_future" in done.stdout + done.stderr
        assert "newer version" in done.stdout + done.stderr


def test_a_script_that_is_touched_or_deleted_does_not_unmeter(sidecar, upstream, client, tmp_path):
    copy = tmp_path / "solaris_addon.py"
    shutil.copy(ADDON, copy)
    command = [str(copy) if part == ADDON else part for part in _mitmproxy("mitmdump", sidecar)]
    sidecar.start(command)
    url = sidecar.url("openai/v1/chat/completions")
    for change in (lambda: copy.touch(), lambda: copy.unlink()):
        time.sleep(1.2)
        change()
        time.sleep(2.2)
        assert client.post(url, json=CHAT).status_code != 200
        upstream.requests.clear()
        served = client.post(url, headers=sidecar.headers("ana"), json=CHAT)
        assert served.status_code != 200 or "x-solaris-request" in served.headers


def test_two_sidecars_share_one_ledger(sidecar, upstream, tmp_path):
    sidecar.start()
    other = Sidecar(tmp_path, upstream.url)
    other.log = tmp_path / "other.log"
    try:
        other.start()
        sidecar.give("ana", 2_000)
        answers = []

        def ask(which):
            with httpx.Client(trust_env=False, timeout=60) as client:
                answers.append(
                    client.post(
                        which.url("openai/v1/chat/completions"),
                        headers=which.headers("ana"),
                        json=CHAT | {"script": {"input": 10, "words": 5, "output": 90, "wait_s": 0.05}},
                    ).status_code
                )

        threads = [threading.Thread(target=ask, args=(which,)) for which in (sidecar, other) * 10]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 20
        assert sidecar.cli("balance", "ana")["balance"] == 0
        sidecar.check()
    finally:
        other.kill()
