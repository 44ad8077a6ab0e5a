"""`deploy/monitoring`: what it asks for is what a real sidecar serves, and Prometheus and Grafana can read it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.sidecar import Sidecar
from tests.e2e.upstream import Upstream

from solaris_meter.models import Basis

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES = [
    (rule["alert"], rule)
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "solaris.json").read_text())
QUERIES = [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
FROM_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to whatever it scrapes; `up` is its own metric."""
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "oi"}]}


def parse(expression: str) -> promql_parser.Expr:
    """A query, with Grafana's variables filled in."""
    plain = expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*")
    assert "$" not in plain, f"a variable that this test does not know: {expression}"
    return promql_parser.parse(plain)


def selectors(expression: promql_parser.Expr) -> Iterator[promql_parser.VectorSelector]:
    found: list[Any] = []
    promql_parser.walk(expression, lambda node: found.append(node))
    for node in found:
        if isinstance(node, promql_parser.MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, promql_parser.VectorSelector):
            yield node


def grouped_by(expression: promql_parser.Expr) -> set[str]:
    found: list[Any] = []
    promql_parser.walk(expression, lambda node: found.append(node))
    groupings = [node.modifier for node in found if isinstance(node, promql_parser.AggregateExpr) and node.modifier]
    return {label for grouping in groupings for label in grouping.labels}


def shown_labels(expression: promql_parser.Expr, served: dict[str, dict[str, set[str]]]) -> set[str]:
    """The labels that a result can have: what it is grouped by, or else those of the metric."""
    found: list[Any] = []
    promql_parser.walk(expression, lambda node: found.append(node))
    if any(isinstance(node, promql_parser.AggregateExpr) for node in found):
        return grouped_by(expression)
    return {label for selector in selectors(expression) for label in served.get(selector.name or "", ())} | (
        FROM_PROMETHEUS
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> dict[str, dict[str, set[str]]]:
    """What a sidecar serves that has settled, refused, failed and passed on calls: metric → label → values."""
    upstream = Upstream()
    upstream.start()
    sidecar = Sidecar(tmp_path_factory.mktemp("monitored"), upstream.url)
    try:
        sidecar.start()
        for path, script, user in (
            ("v1/chat/completions", {}, "ana"),
            ("v1/chat/completions", {"usage": False}, "ana"),
            ("v1/chat/completions", {"status": 500}, "ana"),
            ("v1/brand/new", {"raw": "{}"}, "ana"),
            ("v1/chat/completions", {}, ""),
        ):
            httpx.post(
                sidecar.url(f"openai/{path}"),
                headers=sidecar.headers(user),
                json=CHAT | {"script": script},
                timeout=60,
                trust_env=False,
            )
        text = httpx.get(f"http://127.0.0.1:{sidecar.observe_port}/metrics", timeout=10, trust_env=False).text
    finally:
        sidecar.kill()
        upstream.stop()
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def assert_served(expression: promql_parser.Expr, served: dict[str, dict[str, set[str]]]) -> None:
    names: set[str] = set()
    for selector in selectors(expression):
        assert selector.name in served, f"nobody serves {selector.name}"
        labels = served[selector.name]
        names |= labels.keys()
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels.keys() | FROM_PROMETHEUS, f"{selector.name} has no label {matcher.name}"
            if matcher.name in labels:
                known = labels[matcher.name] | set(get_args(Basis))
                wanted = set(matcher.value.split("|"))
                assert wanted <= known or ".*" in wanted, f"{matcher.name} of {selector.name} is never {matcher.value}"
    assert grouped_by(expression) <= names | FROM_PROMETHEUS


@pytest.mark.parametrize(("name", "rule"), RULES, ids=[name for name, _ in RULES])
def test_a_rule_asks_for_what_is_served_and_says_what_to_do(name, rule, served):
    expression = parse(rule["expr"])
    assert_served(expression, served)
    assert re.fullmatch(r"Solaris[A-Z]\w+", name)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook"} <= rule["annotations"].keys()
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert used <= shown_labels(expression, served)


def test_rules_have_names_of_their_own_and_cover_what_can_go_wrong():
    names = [name for name, _ in RULES]
    assert len(names) == len(set(names))
    metrics = {selector.name for _, rule in RULES for selector in selectors(parse(rule["expr"]))}
    assert metrics >= {
        "up",
        "solaris_ledger_errors_total",
        "solaris_ledger_up",
        "solaris_journalled_calls",
        "solaris_denials_total",
        "solaris_settlement_duration_seconds_bucket",
        "solaris_alert_outbox_overdue_seconds",
        "solaris_alert_outbox_messages",
        "solaris_unmetered_calls_total",
        "solaris_disk_free_bytes",
    }


@pytest.mark.parametrize(
    ("panel", "target"), QUERIES, ids=[f"{panel['title']}-{target['refId']}" for panel, target in QUERIES]
)
def test_a_panel_asks_for_what_is_served(panel, target, served):
    expression = parse(target["expr"])
    assert_served(expression, served)
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= shown_labels(expression, served)


def test_the_dashboard_can_be_read_with_any_data_source():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for part in [variables["instance"], *(panel for panel in DASHBOARD["panels"] if panel["type"] != "row")]:
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for _, target in QUERIES:
        assert target["datasource"]["uid"] == "${datasource}"


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["targets"], panel["title"]


def test_the_dashboard_shows_every_metric_that_is_served(served):
    asked = {selector.name for _, target in QUERIES for selector in selectors(parse(target["expr"]))}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in served if name.startswith("solaris_")}
    assert families - {re.sub(r"_bucket$", "", name or "") for name in asked} == {"solaris_litellm_ready"}


def test_prometheus_scrapes_the_service_and_reads_the_rules():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape["job_name"] == "solaris"
    assert scrape["static_configs"] == [{"targets": ["solaris:9464"]}]
    assert all((FOLDER / name).is_file() for name in config["rule_files"])


def test_grafana_is_provisioned_with_the_data_source_and_the_folder():
    provisioning = FOLDER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "solaris.yml").read_text())["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here: Debian has it in the package prometheus"
)
@pytest.mark.parametrize("arguments", [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_agrees(arguments):
    done = subprocess.run(
        ["promtool", "check", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
