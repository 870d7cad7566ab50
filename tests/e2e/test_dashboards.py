"""deploy/: the dashboard and the alert rules ask only for metrics and labels that a server has."""
import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "tandem.json"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
KEYWORDS = {"and", "or", "unless", "on", "by", "without", "ignoring", "group_left", "group_right", "bool", "offset"}
OF_PROMETHEUS = {"up"}  # made when it scrapes
ITS_LABELS = {"job", "instance"}


GROUPING = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"


def parse(expression):
    """(metrics with the labels their matchers name, labels that are grouped or joined by)."""
    text = re.sub(r'"[^"]*"', '""', expression)  # what is in strings is neither name nor bracket
    for pair in ("()", "[]", "{}"):
        assert text.count(pair[0]) == text.count(pair[1]), f"{pair} do not match in {expression}"
    text = re.sub(r"\[[^\]]*\]", "", text)  # ranges
    grouped = {label.strip() for group in re.findall(GROUPING, text) for label in group.split(",")} - {""}
    text = re.sub(GROUPING, "", text)
    metrics = {}
    for name, matchers, call in re.findall(r"(?<![\w:])([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?\s*(\(?)", text):
        if not call and name not in KEYWORDS:
            metrics.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
    return metrics, grouped


def test_the_parser_of_this_test():
    metrics, grouped = parse('histogram_quantile(0.95, sum by (le, model) (rate(a_bucket{model=~"$model", x!="b{"}[5m]))) '
                             '/ on (model) b > 0 and c:d{y="(z"}')
    assert metrics == {"a_bucket": {"model", "x"}, "b": set(), "c:d": {"y"}}
    assert grouped == {"le", "model"}


def dashboard_expressions():
    dashboard = json.loads(DASHBOARD.read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def rule_expressions():
    """The file is simple on purpose: an expression is one line, or a block that is indented deeper."""
    found, lines = [], RULES.read_text().splitlines()
    for i, line in enumerate(lines):
        match = re.match(r"( *)expr: (.*)", line)
        if match and match.group(2) == "|":
            block = []
            for rest in lines[i + 1:]:
                if not rest.startswith(match.group(1) + "  "):
                    break
                block.append(rest.strip())
            found.append((lines[i - 1].strip(), " ".join(block)))
        elif match:
            found.append((lines[i - 1].strip(), match.group(2)))
    return found


@pytest.fixture(scope="module")
def served(scripted):
    """{sample: labels} of a server that has answered something."""
    scripted.complete("KEY-PLAIN", max_tokens=3)
    samples = {}
    for family in text_string_to_metric_families(scripted.http.get("/metrics").text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


@pytest.mark.parametrize("where,expression", dashboard_expressions() + rule_expressions())
def test_what_is_asked_for_exists(served, where, expression):
    metrics, grouped = parse(expression)
    assert metrics, f"{where}: {expression} asks for nothing"
    for name, labels in metrics.items():
        assert name in served or name in OF_PROMETHEUS, f"{where}: there is no {name}"
        there = served.get(name, set()) | ITS_LABELS
        assert labels <= there, f"{where}: {name} has no {labels - there}"
    everywhere = set().union(*(served.get(name, set()) for name in metrics)) | ITS_LABELS
    assert grouped <= everywhere, f"{where}: nothing has {grouped - everywhere}"


def test_the_dashboard_is_well_formed():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Traffic", "Latency", "Engine", "Cache", "Memory", "HTTP and gateway"]
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["model"]["multi"]
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"], panel["title"]
            letters = [target["refId"] for target in panel["targets"]]
            assert len(set(letters)) == len(letters)
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells), "no panel lies on another"
    assert all(p["x"] + p["w"] <= 24 for p in places)


def test_every_rule_says_what_and_how_bad():
    text = RULES.read_text()
    names = re.findall(r"- alert: (\w+)", text)
    assert len(names) == len(set(names)) == len(rule_expressions()) > 5
    assert len(re.findall(r"severity: (?:critical|warning)", text)) == len(re.findall(r"summary: \"", text)) == len(names)
