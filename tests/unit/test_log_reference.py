"""docs/logs.md has every warning and error that the worker can log, in the code's own words, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "logs.md"
CODE = sorted((PROJECT / "streams").rglob("*.py"))
LEVELS = {"warning": "warning", "error": "error", "critical": "critical", "exception": "error", "info": "info"}
SUMMARY = "…"
"""The once-a-minute line is made elsewhere (`Status.summary`); the page says it in words."""
_PLACEHOLDERS = re.compile(r"(?:%(?:\(\w+\))?[-+#0 ]*\d*(?:\.\d+)?[sdrfgx])+")


class Line(NamedTuple):
    """A message as the page shows it, and where it is in the code."""

    text: str
    level: str
    place: str


def constant_text(node: ast.expr) -> str | None:
    """What is constant in a message, `…` for the rest; `None` where nothing is known of it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _PLACEHOLDERS.sub("…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def logger_names(tree: ast.AST) -> set[str]:
    """What a module calls its loggers."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("logging.getLogger(")
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def logged_lines(source: str, name: str) -> Iterator[Line]:
    """Every message that is given to a logger in a module."""
    tree = ast.parse(source)
    loggers = logger_names(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, method = node.func.value, node.func.attr
        name_of_owner = getattr(owner, "id", getattr(owner, "attr", ""))  # `logger`, `self.logger`
        is_logger = name_of_owner in loggers or name_of_owner.endswith("logger")
        if not (is_logger and (method in LEVELS or method == "log")):
            continue
        message = node.args[1 if method == "log" else 0]
        text = constant_text(message)
        assert text is not None, f"{name}:{node.lineno}: a message must be a constant, so that people can look it up"
        yield Line(text, LEVELS.get(method, "any"), f"{name}:{node.lineno}")


def all_lines() -> list[Line]:
    return [line for file in CODE for line in logged_lines(file.read_text(), str(file.relative_to(PROJECT)))]


def page_rows() -> list[list[str]]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[row[0].strip("`"), *row[1:]] for row in rows]


def test_every_warning_and_error_is_on_the_page() -> None:
    """With its level; a new one needs a row that says what it means and what to do."""
    levels = {row[0]: row[1] for row in page_rows() if len(row) == 4}
    wanted = [line for line in all_lines() if line.level != "info"]
    assert len(wanted) > 15
    assert [] == [line for line in wanted if line.text not in levels]
    assert [] == [line for line in wanted if line.level not in ("any", *levels[line.text].split(", "))]


def test_every_row_is_a_line_of_the_code() -> None:
    """What is not logged any more leaves the page; so it is with what is printed before there is a log."""
    lines = {line.text for line in all_lines()} - {SUMMARY}
    printed = {text for file in CODE for text in printed_lines(file.read_text())}
    assert [] == [row[0] for row in page_rows() if row[0] not in lines | printed]
    assert {row[0] for row in page_rows() if row[0].startswith("streams: ")} == printed


def printed_lines(source: str) -> Iterator[str]:
    """What a worker says without a logger: `print(f"streams: ...", file=sys.stderr)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            text = constant_text(node.args[0])
            if text is not None and text.startswith("streams: "):
                yield text


def test_every_row_says_what_to_do() -> None:
    """A line that nobody can act on helps nobody at night."""
    for row in page_rows():
        if len(row) == 4:
            assert row[2].strip(), row
            assert row[3].strip(), row


def test_links_lead_somewhere() -> None:
    """The runbooks are there under the names that the alerts use."""
    targets = re.findall(r"\]\(([^)#]+)", PAGE.read_text())
    assert targets
    assert [] == [target for target in targets if not (PAGE.parent / target).exists()]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('logger.warning("a %s of %.1f and %d", 1, 2, 3)', ("a … of … and …", "warning")),
        ('logger.error("a " "b", exc_info=True)', ("a b", "error")),
        ('self.logger.critical(f"x {y}")', ("x …", "critical")),
        ('logger.log(level, "either %r")', ("either …", "any")),
        ('audit_logger.warning(f"by {name}: done")', ("by …: done", "warning")),
        ('book = logging.getLogger("x")\nbook.error("written %r")', ("written …", "error")),
        ('logger.debug("%s")', None),
    ],
)
def test_lines_are_found(source: str, expected: tuple[str, str] | None) -> None:
    """However the message is written; debug lines are nobody's business."""
    found = [(line.text, line.level) for line in logged_lines(source, "x.py")]
    assert ([] if expected is None else [expected]) == found
