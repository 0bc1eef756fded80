"""The alerts and the Grafana dashboard: valid, tested, and only about metrics that the worker exports."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics_docs import families
from tests.helm.conftest import CHART, Helm, Values, with_settings

pytestmark = [pytest.mark.helm, pytest.mark.timeout(60)]

ROOT = CHART.parents[1]
ALERTS = CHART / "files" / "alerts.yaml"
ALERT_TESTS = Path(__file__).with_name("alerts.yaml")
DASHBOARD = CHART / "files" / "dashboard.json"
PAGES = {
    "StreamsLagGrows": "lag-grows",
    "StreamsTimeToLoss": "time-to-loss",
    "StreamsStalled": "stalled",
    "StreamsDeadLetters": "dead-letters",
    "StreamsThrottled": "throttled",
    "StreamsSinkDown": "sink-down",
    "StreamsPartitionHeld": "partition-held",
    "StreamsLostToRetention": "lost-to-retention",
    "StreamsLedgerNotWritten": "ledger-not-written",
    "StreamsKafkaUnreachable": "kafka-unreachable",
    "StreamsCommitsFail": "commits-fail",
    "StreamsPartitionWithoutLeader": "partition-without-leader",
    "StreamsLagUnknown": "lag-unknown",
    "StreamsGroupNotJoined": "group-not-joined",
    "StreamsTopicGone": "topic-gone",
    "StreamsTopicRecreated": "topic-recreated",
    "StreamsLedgerHole": "ledger-hole",
    "StreamsAbsent": "absent",
}


def rules() -> list[Values]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[Values] = group["rules"]
    return found


def exported() -> dict[str, set[str]]:
    """The labels of every series that /metrics can have, by name."""
    series: dict[str, set[str]] = {}
    for family in families():
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def series_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:streams|process|python)_[a-z_]+", expression))


def queries(value: Any) -> list[str]:
    """Every PromQL expression of the dashboard, those of its variables too."""
    if isinstance(value, list):
        return [query for item in value for query in queries(item)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("expr", "definition") if isinstance(value.get(key), str)]
    return own + [query for item in value.values() for query in queries(item)]


def run(program: str, *arguments: str) -> str:
    finished = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=50, check=False, cwd=ROOT)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    """promtool has nothing to say, its lints among them."""
    assert "18 rules found" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))


def test_each_alert_fires_when_it_should_and_only_then(promtool: str) -> None:
    """The cases of alerts.yaml, evaluated by Prometheus' own engine."""
    assert "SUCCESS" in run(promtool, "test", "rules", str(ALERT_TESTS))


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    """An alert without a case would be guesswork."""
    cases = [
        (case["alertname"], bool(case.get("exp_alerts")))
        for test in yaml.safe_load(ALERT_TESTS.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    fires = {name for name, fires in cases if fires}
    assert PAGES.keys() == fires
    # Those of one partition are told apart from the others within the case that fires.
    assert PAGES.keys() - {"StreamsStalled", "StreamsPartitionHeld"} == {name for name, fires in cases if not fires}


def test_cases_find_a_broken_rule(promtool: str, tmp_path: Path) -> None:
    """The cases do tell: with any single threshold or condition changed they fail."""
    for found, broken in (("> 1000", "> 100000"), ("< 86400", "< 864"), ("unless on", "and on"), ("== 1", "== 2")):
        (tmp_path / "alerts.yaml").write_text(ALERTS.read_text(encoding="utf-8").replace(found, broken))
        cases = ALERT_TESTS.read_text(encoding="utf-8").replace("../../helm/streams/files/", "")
        (tmp_path / "cases.yaml").write_text(cases)
        command = [promtool, "test", "rules", str(tmp_path / "cases.yaml")]
        assert subprocess.run(command, capture_output=True, timeout=50, check=False).returncode != 0, found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_alert_says_what_how_bad_and_what_to_do(rule: Values) -> None:
    """Severity, a summary and a description with the value, and a runbook that exists."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    is_yes_or_no = rule["alert"] in ("StreamsAbsent", "StreamsPartitionHeld")
    assert is_yes_or_no or "$value" in notes["summary"]
    assert len(notes["summary"]) < 140
    assert f"docs/runbooks/{PAGES[rule['alert']]}.md" == notes["runbook"]
    assert (ROOT / notes["runbook"]).is_file()


def test_alerts_are_those_that_were_agreed_on() -> None:
    """Runbooks and the schema of the chart name the same ones."""
    assert list(PAGES) == [rule["alert"] for rule in rules()]
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    disabled = schema["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"]
    assert list(PAGES) == disabled


def test_alerts_use_metrics_and_labels_that_exist() -> None:
    """Every name in a rule is served by /metrics, and every label is one of it or of Prometheus."""
    series = exported()
    labels = set().union(*series.values()) | {"namespace", "job", "instance"}
    for rule in rules():
        assert series_in(rule["expr"]) <= series.keys(), rule["alert"]
        for group in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]):
            assert {label.strip() for label in group.split(",")} <= labels, rule["alert"]


def test_dashboard_uses_metrics_that_exist() -> None:
    """A panel about a metric that nobody exports would be empty for ever."""
    series = exported()
    found = queries(json.loads(DASHBOARD.read_text(encoding="utf-8")))
    used = set().union(*map(series_in, found))
    assert used <= series.keys()
    for metric in ("streams_partition_lag_events", "streams_cost_usd_per_day", "streams_write_latency_seconds_bucket"):
        assert metric in used


def test_dashboard_shows_every_metric_of_the_worker() -> None:
    """What /metrics has is seen somewhere; the rest is said here, with the reason."""
    not_shown = {
        "streams_partition_watermark_offset",  # the lag says it
        "streams_billed_requests_total",  # the cost says it
        "streams_asyncio_tasks",  # for the soak test
    }
    found = queries(json.loads(DASHBOARD.read_text(encoding="utf-8")))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for query in found for name in series_in(query)}
    ours = {f"{family.name}_total" if family.type == "counter" else family.name for family in families()}
    assert {name for name in ours if name.startswith("streams_")} - not_shown == {
        name for name in shown if name.startswith("streams_")
    }


def test_dashboard_queries_are_promql(promtool: str, tmp_path: Path) -> None:
    """Each query parses, with Grafana's variables filled in."""
    found = queries(json.loads(DASHBOARD.read_text(encoding="utf-8")))
    expressions = [query for query in found if not query.startswith("label_values")]
    filled = [re.sub(r"\$__(?:rate_interval|range)", "5m", query) for query in expressions]
    recording = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(filled)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recording}]}))
    assert f"{len(filled)} rules found" in run(promtool, "check", "rules", "--lint=none", str(file))


def test_dashboard_panels_are_told_apart_and_do_not_overlap() -> None:
    """Grafana needs ids of their own; every panel has a description and the chosen data source."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= covered
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_default_thresholds_are_those_of_the_file(helm: Helm) -> None:
    """The chart renders the rules of the file, but for the namespace of its own release."""
    manifests = helm.manifests(with_settings() | {"prometheusRule": {"enabled": True}})
    (group,) = manifests["PrometheusRule"]["spec"]["groups"]
    expected = [
        {**rule, "expr": rule["expr"].replace("in_flight{}", 'in_flight{namespace="default"}')} for rule in rules()
    ]
    assert expected == group["rules"]


def test_each_threshold_changes_its_alert(helm: Helm, promtool: str, tmp_path: Path) -> None:
    """No threshold is a value that nobody reads, and the rules are still valid."""
    thresholds = {"lagEvents": 11, "timeToLossSeconds": 12, "stalledSeconds": 13, "throttledShare": 0.14}
    values = with_settings() | {"prometheusRule": {"enabled": True, "thresholds": thresholds}}
    spec = helm.manifests(values)["PrometheusRule"]["spec"]
    changed = {rule["alert"]: rule["expr"] for rule in spec["groups"][0]["rules"]}
    assert "> 11\n" in changed["StreamsLagGrows"]
    assert "< 12\n" in changed["StreamsTimeToLoss"]
    assert changed["StreamsStalled"].endswith("> 13\n")
    assert changed["StreamsThrottled"].endswith("> 0.14\n")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(spec))
    run(promtool, "check", "rules", str(file))


def test_dashboard_arrives_whole_in_its_configmap(helm: Helm) -> None:
    """Grafana's sidecar gets the very dashboard, found by its label."""
    manifest = helm.manifests(with_settings() | {"dashboard": {"enabled": True}})["Dashboard"]
    assert json.loads(DASHBOARD.read_text(encoding="utf-8")) == json.loads(manifest["data"]["streams.json"])
    assert "1" == manifest["metadata"]["labels"]["grafana_dashboard"]
