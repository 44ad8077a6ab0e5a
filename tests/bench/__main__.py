"""`make bench`: what metering costs, beside a bare mitmdump with a streaming addon that does nothing.

Both proxies run in turns on this machine, against the same upstream, each several times; the medians are compared.
Numbers of one machine say little; the ratios are what counts. `--json` prints them for programs.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import notices
from tests.bench.load import Measured, measure
from tests.e2e.sidecar import CLI, ENVIRONMENT, Sidecar, free_port

NOOP = """
def responseheaders(flow):
    flow.response.stream = lambda data: data
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = _proxies(Path(folder), options)
        results |= notices.measure(Path(folder))
        results["command line"] = _command_line(Path(folder))
    if options.json:
        print(json.dumps(results, indent=2))
        return 0
    for name, values in results.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    return 0


def _proxies(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    upstream_port, bare_port = free_port(), free_port()
    noop = folder / "noop.py"
    noop.write_text(NOOP)
    upstream = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream", str(upstream_port)])
    mitmdump = str(Path(sys.executable).with_name("mitmdump"))
    bare = subprocess.Popen(
        [
            mitmdump, "-q", "-s", str(noop), "--mode", f"reverse:http://127.0.0.1:{upstream_port}@{bare_port}",
            "--set", f"confdir={folder / 'bare'}",
        ],
        env=ENVIRONMENT,
    )  # fmt: skip
    sidecar = Sidecar(folder, f"http://127.0.0.1:{upstream_port}")
    try:
        sidecar.cli("plans", "set", "basico", "--tokens", "100T", "--period", "month")
        sidecar.start()
        time.sleep(8)  # litellm is loaded in the background: its import is not what is measured
        measured: dict[str, list[Measured]] = {}
        for number in range(options.rounds):
            for stream in (False, True):
                kind = "streamed" if stream else "not streamed"
                for name, port, path in (
                    ("bare", bare_port, "/v1/chat/completions"),
                    ("metered", sidecar.port, "/openai/v1/chat/completions"),
                ):
                    print(f"round {number + 1} of {options.rounds}: {kind}, {name}", file=sys.stderr)
                    result = measure(
                        port, path, sidecar.headers("ana"), stream=stream, clients=options.clients,
                        seconds=options.seconds,
                    )  # fmt: skip
                    measured.setdefault(f"{kind} {name}", []).append(result)
        sidecar.no_holds()
        sidecar.check()
    finally:
        sidecar.kill()
        for process in (bare, upstream):
            process.terminate()
            process.wait(10)
    return {
        "not streamed, calls/s": _compare(measured, "not streamed", lambda result: result.calls_per_s),
        "not streamed, median ms": _compare(measured, "not streamed", lambda result: result.median_ms),
        "streamed, events/s": _compare(measured, "streamed", lambda result: result.events_per_s),
    }


def _compare(measured: dict[str, list[Measured]], kind: str, value: Callable[[Measured], float]) -> dict[str, object]:
    bare, metered = (
        statistics.median(value(result) for result in measured[f"{kind} {name}"]) for name in ("bare", "metered")
    )
    return {"bare": round(bare, 1), "metered": round(metered, 1), "ratio": round(metered / bare, 3)}


def _command_line(folder: Path) -> dict[str, object]:
    """How long `solaris-cli balance` takes, and that it loads neither litellm nor mitmproxy."""
    command = [CLI, "--database", f"sqlite:///{folder / 'solaris.db'}", "balance"]
    times = []
    for _ in range(15):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, cwd=folder)
        times.append(time.monotonic() - began)
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", *command], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in traced.stderr.splitlines()}
    return {
        "balance, median s": round(statistics.median(times), 3),
        "modules imported": len(re.findall(r"^import time:", traced.stderr, re.MULTILINE)),
        "litellm or mitmproxy imported": bool(loaded & {"litellm", "mitmproxy"}),
    }


if __name__ == "__main__":
    sys.exit(main())
