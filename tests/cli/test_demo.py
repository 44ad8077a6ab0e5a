"""`solaris-cli demo`, run as a person runs it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from solaris_cli.demo import story, upstream

SOLARIS_CLI = Path(sys.executable).with_name("solaris-cli")
LONGEST_S = 60

KEY_LINES = [
    'joao has      250K tokens restantes (RateLimit: "tokens";r=250000;t=',
    "percent used  75.0 %",
    'maria has     150K tokens restantes (RateLimit: "tokens";r=150000;t=',
    "percent used  85.0 %",
    "crossed 80 % of the limit at ",
    "carlos sees   Seus tokens acabaram: você usou 1.000.000 de 1.000.000",
    "vendas@iasolaris.example",
    "6 requests before these two, 6 after them; none was retried",
    "$ solaris-cli credit carlos 500K --paid 49.90 --reference demo-pix-1",
    "credit +500,000 → carlos has 500,000 tokens",
    "carlos has    480K tokens restantes",
    "$ solaris-cli usage --by user",
    "ok: 3 accounts, 11 entries",
    "Everything came as expected",
]


@contextmanager
def demo(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """The demo in a process group of its own, with `tmp_path` as the place of its temporary directory.

    The environment holds what must not reach it: a proxy that is not there, and settings of another sidecar.
    """
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "SOLARIS_LEDGER_DATABASE": "sqlite:////nowhere/solaris.db",
        "SOLARIS_CONFIG": "/nowhere/solaris.toml",
        "PYTHONIOENCODING": "utf-8",
    }
    process = subprocess.Popen(
        [SOLARIS_CLI, "demo"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if _is_alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def _is_alive(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_tells_the_whole_story(tmp_path):
    started = time.monotonic()
    with demo(tmp_path) as process:
        out, err = process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0, out + err
        assert not _is_alive(process.pid)
    assert time.monotonic() - started < LONGEST_S
    position = 0
    for line in KEY_LINES:
        found = out.find(line, position)
        assert found >= 0, f"{line!r} is not where it should be in:\n{out}"
        position = found
    assert "\x1b" not in out
    assert err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("heard", ["by SIGTERM", "by Ctrl-C"])
@pytest.mark.parametrize("when", ["sidecar ", "joao asks "])
def test_leaves_nothing_running_when_it_is_stopped(tmp_path, heard, when):
    with demo(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(when):
                break
        if heard == "by SIGTERM":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGINT)  # a terminal tells every process in front
        out, err = process.communicate(timeout=LONGEST_S)
        assert process.returncode == (128 + signal.SIGTERM if heard == "by SIGTERM" else 1), out + err
        assert not _is_alive(process.pid)
    assert list(tmp_path.iterdir()) == []


def test_notices_when_something_is_otherwise_than_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(upstream, "_cost", lambda body: (1_000, 1))
    assert story.tell() == 1
    out, err = capsys.readouterr()
    assert "The demo failed: joao: percent used: 0.2, and it should be 75.0" in err
    assert "Everything came as expected" not in out
    assert list(tmp_path.iterdir()) == []


def test_says_why_the_sidecar_does_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(story, "_SETTINGS", "[nonsense]")
    assert story.tell() == 1
    err = capsys.readouterr().err
    assert "The demo failed: the sidecar ended with exit 1" in err
    assert "unknown key 'nonsense'" in err
