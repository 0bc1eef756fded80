"""Each alert has its page and each page its alert; and what the pages name is there: links, variables, metrics."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.settings import Settings
from tests.conftest import require
from tests.services.install import PROMTOOL, PROMTOOL_PROGRAM, ROOT

DOCS = ROOT / "docs"
RUNBOOKS = DOCS / "runbooks"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
RUNBOOK_PAGES = sorted(page for page in RUNBOOKS.glob("*.md") if page.name != "README.md")
PROMQL = re.compile(r"^    (.*\bstreams_\w+.*?)(?:  +#.*)?$")
METRIC = re.compile(r"(?<![\w./-])streams_[a-z][a-z_]*[a-z](?![\w(]|\.py)")
VARIABLE = re.compile(r"\bSTREAMS_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_])(\*|_\*|_?…)?")
KAFKA_COMMAND_BEGINS = re.compile(r"kafka-[a-z-]+ --bootstrap-server [\w.:]+ --command-config admin\.properties ")
OTHERS = ("STREAMS_TEST_", "STREAMS_DEMO_", "STREAMS_BENCH_")


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def alerts() -> dict[str, dict[str, Any]]:
    """Rules by their alert's name."""
    text = (ROOT / "helm" / "streams" / "files" / "alerts.yaml").read_text()
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


def without_code(text: str) -> str:
    """A page without its code blocks, fenced or indented: what is in them is no link."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)


def kafka_commands(pages: Iterable[Path]) -> Iterator[str]:
    """The commands of Kafka itself, in code blocks and within sentences."""
    for page in pages:
        for line in page.read_text().splitlines():
            blocks = re.findall(r"^ {4,}(kafka-[a-z-]+ --.*?)(?: +#.*)?$", line)
            yield from blocks or re.findall(r"`(kafka-[a-z-]+ --[^`]*)`", line)


# -- alerts and pages --------------------------------------------------------------------------------------------------


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """One to one, and the page's heading is the alert's name."""
    pages = {page.read_text().partition("\n")[0].removeprefix("# "): relative(page) for page in RUNBOOK_PAGES}
    assert {name: rule["annotations"]["runbook"] for name, rule in alerts().items()} == pages


def test_index_lists_every_alert() -> None:
    """With a link to its page."""
    index = (RUNBOOKS / "README.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \| \[[\w-]+\]\(([\w-]+\.md)\)", index, re.MULTILINE))
    assert {name: Path(rule["annotations"]["runbook"]).name for name, rule in alerts().items()} == rows


@pytest.mark.parametrize("page", RUNBOOK_PAGES, ids=relative)
def test_runbook_has_all_its_parts(page: Path) -> None:
    """Meaning, when it fires, impact, how to check, remedies, when to escalate, when it clears; one screen."""
    text = page.read_text()
    parts = ["**Meaning.**", "**Fires**", "**Impact.**", "## Check", "\n## ", "**Escalate**", "**Clears**"]
    places = [text.find(part) for part in parts]
    assert -1 not in places, dict(zip(parts, places, strict=True))
    assert text.index("## Check") < text.rindex("\n## ") < text.index("**Escalate**")
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("name", alerts())
def test_page_says_when_the_alert_fires(name: str) -> None:
    """The rule's own waiting time."""
    rule = alerts()[name]
    when = f"after {rule['for']}" if "for" in rule else "at once"
    assert f"**Fires** {when}: " in (ROOT / rule["annotations"]["runbook"]).read_text()


def expressions() -> Iterator[tuple[str, str]]:
    for page in [*RUNBOOK_PAGES, DOCS / "handbook.md"]:
        for line in page.read_text().splitlines():
            if (found := PROMQL.match(line)) and not found[1].startswith(("curl ", "faust ", "kubectl ")):
                yield relative(page), found[1]


def test_expressions_are_promql(tmp_path: Path) -> None:
    """Everything that a page says to ask Prometheus parses, by Prometheus' own tool."""
    require(PROMTOOL_PROGRAM)
    found = list(expressions())
    assert len(found) > 15
    rules = [{"record": f"page:{number}", "expr": text} for number, (_, text) in enumerate(found)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))
    command = [str(PROMTOOL), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, f"{done.stdout}{done.stderr}\n{list(enumerate(found))}"


def test_kafka_commands_say_where_and_as_whom() -> None:
    """On every page: pasted as they stand, they reach the cluster and may log in."""
    found = list(kafka_commands(PAGES))
    assert len(found) > 12
    assert [] == [command for command in found if not KAFKA_COMMAND_BEGINS.match(command)]


# -- what pages name ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def links(page: Path) -> list[str]:
    """What a page links to in this repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = Path(os.path.normpath(page.parent / path)) if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert [] == broken


def is_variable(name: str, stands_for_several: bool) -> bool:
    settings = {f"STREAMS_{field.upper()}" for field in Settings.model_fields}
    if name.startswith(OTHERS) or f"{name}_" in OTHERS:
        return True
    return any(one.startswith(name) for one in settings) if stands_for_several else name in settings


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_variables_are_settings(page: Path) -> None:
    """No page tells of a variable that the worker would refuse; `STREAMS_KAFKA_OAUTH_*` stands for several."""
    found = {(match[0].rstrip("*…_"), match[1] is not None) for match in VARIABLE.finditer(page.read_text())}
    assert [] == sorted(name for name, several in found if not is_variable(name, several))


def metrics() -> set[str]:
    """All names in the generated reference, and what Prometheus makes of its histograms."""
    rows = re.findall(r"^\| `(streams_\w+)` \| (\w+) \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert rows
    parts = {f"{name}_{part}" for name, kind in rows if kind == "histogram" for part in ("bucket", "sum", "count")}
    return {name for name, _ in rows} | parts


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_metrics_exist(page: Path) -> None:
    """No page tells of a metric that the worker does not have."""
    assert set() == set(METRIC.findall(page.read_text())) - metrics()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_error_types_exist(page: Path) -> None:
    """A label's value that no metric has would make an alert or a search silent."""
    known = re.search(r"^\| `error_type` \| (.*) \|$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert known is not None
    used = set(re.findall(r'error_type="(\w+)"', page.read_text()))
    assert set() == used - set(re.findall(r"`(\w+)`", known[1]))
