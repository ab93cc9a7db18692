"""Dashboards and alerts speak of metrics and labels that exist, and the dashboards are what their script makes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.metrics import ALL, Metric, exported_names

GRAFANA = sorted(Path("configs/grafana").glob("*.json"))
ALERTS = yaml.safe_load(Path("configs/prometheus/alerts.yml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
BY_EXPORTED: dict[str, Metric] = {name: metric for metric in ALL for name in exported_names([metric])}
OPERATIONS = Path("docs/operations.md").read_text()


def expressions() -> list[str]:
    panels = [panel for path in GRAFANA for panel in json.loads(path.read_text())["panels"]]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in RULES]


def test_there_is_something_to_check() -> None:
    assert len(GRAFANA) == 2 and len(RULES) >= 8 and len(expressions()) > 30


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_only_metrics_and_labels_that_exist(expression: str) -> None:
    names = re.findall(r"\bray_\w+", expression)
    assert names
    assert set(names) <= exported_names()
    known = {label for name in names for label in BY_EXPORTED[name].labels} | {"le"}
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    selected = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    assert grouped | selected <= known
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_a_counter_is_only_ever_looked_at_through_its_rate() -> None:
    for expression in expressions():
        for name in re.findall(r"\bray_\w+", expression):
            if BY_EXPORTED[name].kind != "gauge":
                assert re.search(rf"(rate|increase)\({name}", expression), expression


def test_every_metric_is_shown_on_a_dashboard() -> None:
    shown = {BY_EXPORTED[name] for expression in expressions() for name in re.findall(r"\bray_\w+", expression)}
    assert {metric.name for metric in ALL} == {metric.name for metric in shown}


def test_the_dashboards_are_what_their_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", "scripts/dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {path.name: path.read_text() for path in GRAFANA} == module.documents()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    for section in re.findall(r'See "([^"]+)"', rule["annotations"]["description"]):
        assert section in OPERATIONS


def test_prometheus_finds_the_endpoints_in_the_file_that_ray_writes() -> None:
    config = yaml.safe_load(Path("configs/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["file_sd_configs"]
    assert found["files"][0].endswith("/prom_metrics_service_discovery.json")
    assert config["rule_files"] == ["alerts.yml"]
