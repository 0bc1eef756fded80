"""The command line: `python -m bench.scale` scales real workers by hand and by rule, and computes what does not fit."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.errors import BenchError
from bench.load_server import REPOSITORY
from bench.machine import this_machine
from bench.report import write_section
from bench.scale import report, scenarios
from bench.scale.loop import run_loop
from bench.scale.results import ScaleResults, load
from bench.scale.steps import run_steps

_RESULTS = REPOSITORY / "bench" / "results"
_DOCUMENT = REPOSITORY / "docs" / "scale.md"
_IMAGES = REPOSITORY / "docs" / "images"
_PARTS = ("steps", "loop", "paper")
_WIDTH_IN_FILES = 160
_HOLD_SECONDS = 20.0
_QUICK_HOLD_SECONDS = 4.0
_QUICK_STEPS = (1, 2, 1)
_QUICK_LOOP_SECONDS = 60.0


def main() -> int:
    """Run, show, and for a full run write docs/scale.md."""
    arguments = _parser().parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_IN_FILES)
    # So that workers are ended, as at Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    exit_code = 0
    if arguments.redraw:
        results = load(arguments.redraw)
        results.beside = arguments.beside or results.beside
    else:
        results = ScaleResults(this_machine(), time.strftime("%Y-%m-%d %H:%M:%S"), beside=arguments.beside)
        if arguments.add_to:
            before = load(arguments.add_to)
            results.steps, results.loop = before.steps, before.loop
        exit_code = _run(results, arguments, console)
    for tables in report.tables(results).values():
        for table in tables:
            console.print(table.for_console())
    failures = _failures(results)
    for failure in failures:
        console.print(f"[bold red]FAILED[/] {escape(failure)}", highlight=False)
    if exit_code == 0 and not failures and (not arguments.quick if arguments.docs is None else arguments.docs):
        _document(results)
        console.print(f"Written to {_DOCUMENT.relative_to(REPOSITORY)} and {_IMAGES.relative_to(REPOSITORY)}.")
    return exit_code or (1 if failures else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--part", choices=_PARTS, help="only this one (default: all)")
    parser.add_argument("--quick", action="store_true", help="one minute a part: shows that it runs, no more")
    parser.add_argument("--beside", default="", metavar="WORDS", help="what else ran on the machine, for the document")
    parser.add_argument("--add-to", type=Path, metavar="FILE", help="keep the other part of a file of bench/results")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="run nothing: show a file of bench/results")
    parser.add_argument(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/scale.md and its pictures (default: unless --quick)",
    )
    return parser


def _run(results: ScaleResults, arguments: argparse.Namespace, console: Console) -> int:
    """The measured parts; what was measured before a failure is kept."""

    def tell(words: str) -> None:
        console.print(words, highlight=False)

    wanted = [arguments.part] if arguments.part else list(_PARTS)
    quick = arguments.quick
    try:
        if "steps" in wanted:
            counts = _QUICK_STEPS if quick else scenarios.STEPS
            hold = _QUICK_HOLD_SECONDS if quick else _HOLD_SECONDS
            results.steps = run_steps(counts, max(counts) * scenarios.STEPS_LOAD // 8, hold, tell)
        if "loop" in wanted:
            seconds = _QUICK_LOOP_SECONDS if quick else scenarios.LOOP_SECONDS
            steps = [step for step in scenarios.LOOP_STEPS if step.at < seconds]
            results.loop = run_loop(steps, scenarios.LOOP_RULE, seconds, tell)
    except (BenchError, AssertionError) as error:
        console.print(f"[bold red]scale:[/] {escape(str(error))}", highlight=False)
        return 1
    finally:
        if results.steps or results.loop:
            tell(f"Raw numbers: {results.save(_RESULTS).relative_to(REPOSITORY)}")
    return 0


def _failures(results: ScaleResults) -> list[str]:
    """Everything that was published must be durable, whatever came and went."""
    return [
        f"{run.published:,} events were published and {run.durable:,} are durable"
        for run in (results.steps, results.loop)
        if run is not None and run.published != run.durable
    ]


def _document(results: ScaleResults) -> None:
    report.draw(results, _IMAGES)
    how = " ".join(
        part for part in (f"Run {results.started[:16]}.", results.machine.describe(), results.beside) if part
    )
    measured = {"scale-steps", "scale-loop"}
    for section, tables in report.tables(results).items():
        words = [table.for_markdown() for table in tables]
        write_section(_DOCUMENT, section, "\n\n".join([*words, how] if section in measured else words))


if __name__ == "__main__":
    sys.exit(main())
