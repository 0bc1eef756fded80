"""The command line: `python -m bench.soak` runs for an hour; exit code 0 means that everything held."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.errors import BenchError
from bench.load_server import REPOSITORY
from bench.machine import this_machine
from bench.report import write_section
from bench.soak import report
from bench.soak.plan import FAULTS, Fault, schedule
from bench.soak.results import SoakResults, load
from bench.soak.run import soak
from bench.soak.site import STEADY

_RESULTS = REPOSITORY / "bench" / "results"
_DOCUMENT = REPOSITORY / "docs" / "soak.md"
_IMAGES = REPOSITORY / "docs" / "images"
_FULL_MINUTES = 60.0
_WIDTH_IN_FILES = 150


def main() -> int:
    """Run, show, and for a full run write docs/soak.md."""
    arguments = _parser().parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_IN_FILES)
    # So that servers are ended and results kept, as at Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    results = load(arguments.redraw) if arguments.redraw else _run(arguments, console)
    for table in (report.summary(results), report.fault_table(results), report.trend_table(results)):
        console.print(table.for_console())
    failures = report.failures(results)
    for failure in failures:
        console.print(f"[bold red]FAILED[/] {escape(failure)}", highlight=False)
    if not failures:
        console.print("[bold green]PASSED[/]: every event is there, and everything that was checked held.")
    full = results.minutes >= _FULL_MINUTES and results.verdict is not None
    if full if arguments.docs is None else arguments.docs:
        _document(results)
        console.print(f"Written to {_DOCUMENT.relative_to(REPOSITORY)} and {_IMAGES.relative_to(REPOSITORY)}.")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=_FULL_MINUTES, help="how long the load runs (default 60)")
    parser.add_argument("--rate", type=int, default=200, help="events per second (default 200)")
    parser.add_argument("--partitions", type=int, default=12, help="of the topic (default 12)")
    parser.add_argument("--first", type=float, default=120.0, help="seconds to the first fault (default 120)")
    parser.add_argument("--every", type=float, default=102.0, help="seconds from fault to fault (default 102)")
    parser.add_argument("--faults", nargs="+", metavar="NAME", help="only these, in this order: see bench/soak/plan.py")
    parser.add_argument("--sample", type=int, default=10_000, help="events that verify compares byte for byte")
    parser.add_argument("--directory", type=Path, help="where servers and logs live; it is kept (default: temporary)")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="run nothing: show a file of bench/results")
    parser.add_argument(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/soak.md and its picture (default: after a run of an hour or more)",
    )
    return parser


def _run(arguments: argparse.Namespace, console: Console) -> SoakResults:
    planned = schedule(arguments.minutes * 60, arguments.first, arguments.every, _faults(arguments.faults))
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    results = SoakResults(
        this_machine(), started, arguments.minutes, arguments.rate, arguments.partitions, list(STEADY)
    )
    console.print(f"{arguments.minutes:g} minutes at {arguments.rate} events/s with {len(planned)} faults.")
    try:
        with _directory(arguments.directory) as directory:
            soak(results, planned, directory, arguments.sample, lambda words: console.print(words, highlight=False))
    except (BenchError, AssertionError) as error:
        console.print(f"[bold red]soak:[/] {escape(str(error))}", highlight=False)
    finally:
        console.print(f"Raw numbers: {results.save(_RESULTS).relative_to(REPOSITORY)}")
    return results


def _faults(names: list[str] | None) -> list[Fault]:
    """The named ones in their order, or all."""
    known = {fault.name: fault for fault in FAULTS}
    for name in names or ():
        if name not in known:
            sys.exit(f"soak: there is no fault {name}: choose from {', '.join(known)}")
    return [known[name] for name in names] if names else list(FAULTS)


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        yield Path(directory)


def _document(results: SoakResults) -> None:
    report.draw(results, _IMAGES)
    how = f"Run {results.started[:16]}. {results.machine.describe()}"
    tables = [report.summary(results), report.trend_table(results)]
    write_section(_DOCUMENT, "soak", "\n\n".join([*(table.for_markdown() for table in tables), how]))
    write_section(_DOCUMENT, "soak-faults", report.fault_table(results).for_markdown())


if __name__ == "__main__":
    sys.exit(main())
