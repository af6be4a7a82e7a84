"""The configuration and the alert rules as Prometheus's own tool judges them, and what the dashboards rest on."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import CONFIG, program

BOARDS = sorted((CONFIG.parent / "grafana/dashboards").glob("*.json"))
RULES = [
    rule
    for path in sorted(CONFIG.glob("rules/*.rules.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]


def promtool(*arguments: str) -> str:
    result = subprocess.run(
        [program("promtool"), *arguments], cwd=CONFIG, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_the_configuration_and_the_rules_are_sound() -> None:
    assert "2 rule files found" in promtool("check", "config", "prometheus.yml")
    promtool("check", "config", "../compose/prometheus.yml")


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", "tests/alerts.test.yml")


def test_every_alert_has_a_case_that_fires_it_and_a_text_that_says_what_to_do() -> None:
    cases = [
        case
        for test in yaml.safe_load((CONFIG / "tests/alerts.test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len(alerts) > 10
    for alert in alerts:
        assert any(case["alertname"] == alert["alert"] and case["exp_alerts"] for case in cases), alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket"), alert["alert"]
        assert {"summary", "description"} <= set(alert["annotations"]), alert["alert"]


def test_every_alert_compares_one_measure_with_one_number() -> None:
    """So that the measure can be seen to have data while the alert is silent."""
    for rule in RULES:
        if "alert" in rule:
            assert re.fullmatch(r".+ [<>] [\d.e]+", rule["expr"], re.DOTALL), rule["alert"]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_well_formed(path: Path) -> None:
    """What Grafana would not say until somebody looks: panels over one another, ids used twice, queries missing."""
    board = json.loads(path.read_text())
    assert board["uid"]
    assert board["title"].startswith("LAPOR! Pontianak")
    panels: list[dict[str, Any]] = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    names = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(panels)))
    assert used == names


def test_both_dashboards_are_there_and_rest_on_measures_that_are_recorded() -> None:
    assert [path.stem for path in BOARDS] == ["procedure", "services"]
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for path in BOARDS:
        used = set(re.findall(r"\b(?:lapor|service|instance):\w+(?::\w+)+", path.read_text()))
        assert used <= recorded, path.stem
