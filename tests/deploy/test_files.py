"""What is deployed, as its files say it: nothing here needs an engine."""

import re

import msgspec
import pytest
from dotenv import dotenv_values
from ruamel.yaml import YAML
from tests.deploy.engine import ROOT

from solaris_meter.settings import Settings

EXAMPLE = ROOT / ".env.example"
NOT_PASSED = {"WEB"}
"""Tables whose keys have no effect yet."""
IN_THE_FILE = {"ROUTES", "PRICES"}
"""Tables with names of the operator's own: they stand in solaris.toml."""


def compose():
    return YAML(typ="safe").load(ROOT / "compose.yaml")


def test_no_value_of_the_example_is_its_comment():
    """Compose takes what follows the blanks behind `=` for the value."""
    assert [line for line in EXAMPLE.read_text().splitlines() if re.match(r"#? ?[A-Z_]+=.*#", line)] == []


def test_what_must_be_filled_in_stands_in_the_example_and_is_empty():
    text = (ROOT / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    values = dotenv_values(EXAMPLE, interpolate=False)
    assert needed
    assert {name: values[name] for name in needed} == dict.fromkeys(needed, "")


def test_every_variable_of_the_example_is_used():
    text = "".join(file.read_text() for file in (ROOT / "compose.yaml", *(ROOT / "deploy").glob("compose.*.yaml")))
    named = re.findall(r"^#? ?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert [name for name in named if name not in text and not name.startswith("COMPOSE_")] == []


def test_every_setting_can_be_set_in_env():
    passed = set(compose()["services"]["solaris"]["environment"])
    settings = {
        f"SOLARIS_{table.upper()}_{key.upper()}"
        for table, keys in msgspec.to_builtins(Settings()).items()
        for key in keys
        if table.upper() not in NOT_PASSED | IN_THE_FILE
    }
    assert settings - passed == set()
    known = {name.removesuffix("_FILE") for name in passed if name.startswith("SOLARIS_")} - {"SOLARIS_CONFIG"}
    assert known - settings == set()


@pytest.mark.parametrize("name", ["front", "inspect"])
def test_caddy_may_start(name):
    """Its program carries a file capability: the kernel refuses to start it where that is taken away altogether."""
    assert compose()["services"][name]["cap_add"] == ["NET_BIND_SERVICE"]


def test_only_the_sidecar_has_a_way_out_besides_doors():
    services = compose()["services"]
    out = {name for name, service in services.items() if {"uplink", "front"} & set(service.get("networks", ()))}
    assert out == {"solaris", "front", "inspect", "grafana"}
    assert [name for name, service in services.items() if "uplink" in service.get("networks", ())] == ["solaris"]
    networks = compose()["networks"]
    assert {name for name, network in networks.items() if network and network.get("internal")} == {
        "chat",
        "ledger",
        "watch",
    }
