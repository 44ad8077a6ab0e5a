"""The story that `solaris-cli demo` tells: one person who notices nothing, one who is warned, one who has to buy.

This module sets the stage; `scenes` plays on it. Everything happens in a temporary directory and on 127.0.0.1.
"""

import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from solaris_cli.demo.programs import Failed, Programs, free_port
from solaris_cli.demo.upstream import Upstream

_KEY = "demo-key"
_BUY_AT = "vendas@iasolaris.example"
_SETTINGS = """\
[ledger]
database = "sqlite:///{directory}/solaris.db"

[identity]
key = "{key}"

[routes]
openai = "{upstream}"
anthropic = "{upstream}"

[purchase]
email = "{buy_at}"
url = "https://iasolaris.example/comprar"
"""


def tell() -> int:
    """Tell it, and return the exit code: 0 only where everything came as expected."""
    started = time.monotonic()
    # By default SIGTERM would end the demo alone and leave the sidecar running.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with tempfile.TemporaryDirectory(prefix="solaris-demo-") as directory:
            _tell_in(Path(directory))
    except (Failed, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"\nEverything came as expected, in {time.monotonic() - started:.0f} s. Nothing was left running.")
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _tell_in(directory: Path) -> None:
    programs, port = Programs(directory), free_port()
    print("Solaris Meter: three people on the plan basico, 1M tokens a month each. No key, no network.\n", flush=True)
    with Upstream() as upstream:
        print(f"upstream  {upstream.url}, in place of OpenAI and Anthropic; a model's name says what a call costs")
        settings = _SETTINGS.format(directory=directory.as_posix(), key=_KEY, upstream=upstream.url, buy_at=_BUY_AT)
        (directory / "solaris.toml").write_text(settings, "utf-8")
        print(f"sidecar   http://127.0.0.1:{port}, by solaris-cli run; starting .", end="", flush=True)
        started = time.monotonic()
        with programs.sidecar(port) as sidecar:
            # Loading the SDKs takes seconds, in which the sidecar starts.
            from solaris_cli.demo.scenes import Scenes

            sidecar.wait(tick=lambda: print(".", end="", flush=True))
            print(f" ready after {time.monotonic() - started:.0f} s", flush=True)
            Scenes(programs, upstream, f"http://127.0.0.1:{port}", _KEY, _BUY_AT).play()
