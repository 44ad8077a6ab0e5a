"""The programs of the story: `solaris-cli` for its commands, and for the sidecar that runs behind it all."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Not the console script: wherever this package can be imported, this starts it.
_SOLARIS_CLI = [sys.executable, "-P", "-c", "from solaris_cli.main import main; main(prog_name='solaris-cli')"]
_START_TIMEOUT_S = 40
_COMMAND_TIMEOUT_S = 20
_STOP_TIMEOUT_S = 10


class Failed(Exception):
    """A program of the demo did not do its part; the message says which, and what it wrote."""


class Programs:
    """Runs programs in `directory`, where their `solaris.toml` lies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = _environment()

    def cli(self, *arguments: str) -> str:
        """Run one command to its end and return what it printed. Raises Failed."""
        try:
            done = subprocess.run(  # noqa: S603  (our own program)
                [*_SOLARIS_CLI, *arguments],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=_COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"solaris-cli {' '.join(arguments)}: no end after {_COMMAND_TIMEOUT_S} s") from error
        if done.returncode != 0:
            raise Failed(f"solaris-cli {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextmanager
    def sidecar(self, port: int) -> Iterator["Sidecar"]:
        """The sidecar on 127.0.0.1:`port`, from its start to its end; `wait` until it listens."""
        arguments = ["--config", str(self._directory / "solaris.toml"), "run", "--listen", f"127.0.0.1:{port}"]
        arguments += ["--", "--set", f"confdir={self._directory / 'ca'}"]
        log = self._directory / "sidecar.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  (our own program)
                [*_SOLARIS_CLI, *arguments],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Sidecar(process, port)
        except Failed as error:
            said = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-20:])
            raise Failed(f"{error}\nThe last lines of the sidecar's log:\n{said}") from error
        finally:
            _stop(process)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The running sidecar."""

    process: "subprocess.Popen[bytes]"
    port: int

    def wait(self, tick: Callable[[], None]) -> None:
        """Return when it listens; `tick` is called every second until then. Raises Failed."""
        started = ticked = time.monotonic()
        while not _listens(self.port):
            now = time.monotonic()
            if self.process.poll() is not None:
                raise Failed(f"the sidecar ended with exit {self.process.returncode}")
            if now - started > _START_TIMEOUT_S:
                raise Failed(f"the sidecar does not listen after {_START_TIMEOUT_S} s")
            if now - ticked >= 1:
                tick()
                ticked = now
            time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Ours without what would change the story: settings of another sidecar, and proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SOLARIS_") and not name.lower().endswith("_proxy")
    }
    return kept | {"PYTHONIOENCODING": "utf-8"}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it; with force where it does not go, or where a second Ctrl-C does not let it."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
