"""run: what it makes of its arguments. mitmproxy itself is started in tests/e2e."""

import importlib.util
import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from solaris_cli import sidecar


class Started:
    """What `run` would have become."""

    def __init__(self, path, arguments, environment):
        assert path == arguments[0] == sys.executable
        # -P: the current folder must not be on the path of the program
        assert arguments[1:3] == ["-P", "-c"]
        self.program = arguments[3]
        self.arguments = arguments[4:]
        self.environment = environment

    def value(self, option):
        """Of an option that is given once."""
        assert self.arguments.count(option) == 1
        return self.arguments[self.arguments.index(option) + 1]

    def values(self, option):
        return [value for name, value in zip(self.arguments, self.arguments[1:], strict=False) if name == option]


@pytest.fixture
def run(empty_cli, monkeypatch):
    """`run` up to the moment when it becomes mitmproxy, and nothing is bound."""
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(Started(*arguments)))
    monkeypatch.setattr(sidecar, "_check_free", lambda host, port: None)

    def run(*arguments, before=()):
        empty_cli.ok(*before, "run", *arguments)
        return started.pop()

    return run


@pytest.fixture
def never(empty_cli, monkeypatch):
    """The command line, where nothing may be started."""

    def start(*arguments):
        raise AssertionError(f"started with {arguments}")

    monkeypatch.setattr(os, "execve", start)
    return empty_cli


@pytest.fixture(params=["127.0.0.1", "::1"])
def busy(request):
    """HOST:PORT where somebody listens already."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with closing(server):
        host = f"[{request.param}]" if ":" in request.param else request.param
        yield f"{host}:{server.getsockname()[1]}"


def test_it_becomes_mitmdump_with_the_addon(run):
    started = run()
    assert started.program.endswith("; from mitmproxy.tools.main import mitmdump; mitmdump()")
    addon = Path(started.value("-s"))
    assert addon.name == "solaris_addon.py"
    assert addon.is_absolute()
    assert addon.exists()


def test_it_becomes_mitmweb_that_opens_no_browser(run):
    started = run("--web")
    assert started.program.endswith("; from mitmproxy.tools.main import mitmweb; mitmweb()")
    assert "--no-web-open-browser" in started.arguments
    assert "--no-web-open-browser" not in run().arguments


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ([], "127.0.0.1", "8080"),
        (["--listen", "9090"], "127.0.0.1", "9090"),
        (["--listen", "0.0.0.0:9090"], "0.0.0.0", "9090"),
        (["--listen", "localhost:1"], "localhost", "1"),
        (["--listen", "sidecar.example:65535"], "sidecar.example", "65535"),
        (["--listen", "[::1]:9090"], "::1", "9090"),
        (["--listen", "[::]:9090"], "::", "9090"),
        (["--listen=[2001:db8::1]:9090"], "2001:db8::1", "9090"),
    ],
)
def test_where_it_listens(run, listen, host, port):
    started = run(*listen)
    assert (started.value("--listen-host"), started.value("--listen-port")) == (host, port)
    assert "--mode" not in started.arguments


NO_ADDRESSES = [
    ":8080",
    "127.0.0.1:",
    "127.0.0.1",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:http",
    "127.0.0.1:-1",
    "::1:8080",
    "[::1",
    "[::1]",
    "[localhost]:8080",
    "http://127.0.0.1:8080",
]


@pytest.mark.parametrize("listen", ["", "127.0.0.1:8080 ", *NO_ADDRESSES])
def test_an_address_that_is_none_is_refused(never, listen):
    said = never.misused("run", "--listen", listen)
    assert f"--listen: {listen!r} is not HOST:PORT, such as 127.0.0.1:8080" in said


def test_listeners_of_mitmproxy_replace_its_own(run):
    started = run("--mode", "regular@9090", "--mode", "transparent@9091")
    assert started.values("--mode") == ["regular@9090", "transparent@9091"]
    assert "--listen-host" not in started.arguments
    assert "--listen-port" not in started.arguments


def test_both_kinds_of_listeners_are_refused(never):
    said = never.misused("run", "--listen", "127.0.0.1:9090", "--mode", "regular@9091")
    assert "--mode replaces the listener of --listen: give one of the two" in said


def test_what_follows_two_dashes_is_mitmproxy_s_and_has_the_last_word(run):
    started = run("--web", "--", "--set", "web_port=9091", "--set", "flow_detail=2", "~d example.com")
    assert started.arguments[-5:] == ["--set", "web_port=9091", "--set", "flow_detail=2", "~d example.com"]
    assert started.arguments.index("flow_detail=0") < started.arguments.index("flow_detail=2")


def test_options_after_two_dashes_are_not_its_own(run):
    started = run("--", "--mode", "regular@9090", "--web")
    assert started.program.endswith("mitmdump()")
    assert started.arguments[-3:] == ["--mode", "regular@9090", "--web"]
    assert "--listen-port" in started.arguments


def test_the_settings_file_is_passed_with_its_absolute_path(run, empty_cli, monkeypatch):
    expected = f"solaris_config={empty_cli.config}"
    assert expected in run().values("--set")
    assert expected in run(before=["--config", "settings.toml"]).values("--set")


def test_settings_that_were_found_are_passed_too(run, empty_cli, monkeypatch):
    for name in ("solaris.toml", "elsewhere.toml"):
        (empty_cli.folder / name).write_text(empty_cli.config.read_text())
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(Started(*arguments)))
    assert empty_cli.run_bare("run").exit_code == 0
    assert f"solaris_config={empty_cli.folder / 'solaris.toml'}" in started.pop().values("--set")
    monkeypatch.setenv("SOLARIS_CONFIG", "elsewhere.toml")
    assert empty_cli.run_bare("run").exit_code == 0
    assert f"solaris_config={empty_cli.folder / 'elsewhere.toml'}" in started.pop().values("--set")


def test_without_settings_none_are_passed(run, empty_cli, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(Started(*arguments)))
    assert empty_cli.run_bare("run").exit_code == 0
    assert started[0].values("--set") == ["flow_detail=0"]


def test_the_database_of_the_command_line_reaches_the_sidecar(run, empty_cli, monkeypatch):
    assert "SOLARIS_LEDGER_DATABASE" not in run().environment
    assert run(before=["--database", "sqlite:///o.db"]).environment["SOLARIS_LEDGER_DATABASE"] == "sqlite:///o.db"
    monkeypatch.setenv("SOLARIS_LEDGER_DATABASE", "sqlite:///setting.db")
    assert run().environment["SOLARIS_LEDGER_DATABASE"] == "sqlite:///setting.db"
    assert run(before=["--database", "sqlite:///o.db"]).environment["SOLARIS_LEDGER_DATABASE"] == "sqlite:///o.db"


def test_the_environment_is_handed_on(run, monkeypatch):
    monkeypatch.setenv("SOMETHING", "else")
    assert run().environment["SOMETHING"] == "else"


def test_the_environment_of_this_process_stays_as_it_is(run):
    run(before=["--database", "sqlite:///o.db"])
    assert "SOLARIS_LEDGER_DATABASE" not in os.environ


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost:9/solaris", "is the server running, and are host, user, password and database"),
        ("sqlite:///nowhere/solaris.db", "nowhere does not exist: make it, or change ledger.database"),
    ],
)
def test_a_ledger_that_cannot_be_used_is_named_before_anything_starts(never, url, said, monkeypatch):
    monkeypatch.setattr(sidecar, "_check_free", lambda host, port: None)
    assert said in never.refused("--database", url, "run")


def test_an_option_that_nobody_knows_is_wrong_usage(never):
    assert "No such option" in never.refused("run", "--listne", "x", code=2)


def test_a_port_in_use_is_refused_with_the_address_and_the_remedy(never, busy):
    said = never.refused("run", "--listen", busy)
    assert f"cannot listen on {busy}: Address already in use" in said
    assert "choose another address with --listen HOST:PORT" in said


def test_an_address_of_another_machine_is_refused(never):
    # 192.0.2.0/24 is for documentation: nobody has it
    said = never.refused("run", "--listen", "192.0.2.1:8080")
    assert "cannot listen on 192.0.2.1:8080: " in said
    assert "--listen HOST:PORT" in said


def test_a_host_that_cannot_be_a_name_is_refused(never):
    # Python raises TypeError for it, not OSError
    result = never.run("run", "--listen", "é..b:8080")
    assert result.exit_code in (1, 2)
    assert "é..b" in result.stderr


def test_listeners_of_mitmproxy_are_left_to_it(never, busy, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    never.ok("run", "--mode", f"regular@{busy.rpartition(':')[2]}")
    assert len(started) == 1


def test_settings_that_are_wrong_are_refused_before_anything_starts(never):
    never.configure("[nonsense]\n")
    assert "unknown key 'nonsense'" in never.refused("run")


def test_an_addon_that_is_not_installed_is_refused(never, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert (
        never.refused("run") == "Error: solaris_addon is not installed beside solaris-cli: install the package again\n"
    )


def test_a_demo_without_its_packages_is_refused_with_the_remedy(never, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert never.refused("demo") == (
        "Error: the demo needs aiohttp, anthropic, openai: pip install 'solaris-meter[demo]'\n"
    )


def test_what_it_becomes_is_mitmproxy(program):
    # --mode: no port is looked at, so that nobody else's test is in the way
    done = program("run", "--mode", "regular@1", "--", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Mitmproxy: ")
