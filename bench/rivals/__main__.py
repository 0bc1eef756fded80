"""The command line: `python -m bench.rivals` installs the rivals and measures them beside ours, ten minutes a round."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.broker import kafka
from bench.errors import BenchError
from bench.load_server import REPOSITORY
from bench.machine import this_machine
from bench.report import write_section
from bench.rivals import plan, report
from bench.rivals.install import missing, tell
from bench.rivals.results import RivalResults, load
from bench.rivals.systems import System, systems

_RESULTS = REPOSITORY / "bench" / "results"
_DOCUMENT = REPOSITORY / "docs" / "rivals.md"
_IMAGES = REPOSITORY / "docs" / "images"
_QUIET_SECONDS = 15.0
_WIDTH_IN_FILES = 180


def main() -> int:
    """Install, measure, show; a full run also writes docs/rivals.md."""
    arguments = _parser().parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH_IN_FILES)
    exit_code = 0
    if arguments.redraw:
        results = load(arguments.redraw)
    else:
        results = RivalResults(this_machine(), time.strftime("%Y-%m-%d %H:%M:%S"), arguments.rounds)
        exit_code = _measure(results, arguments, console)
    for tables in report.tables(results).values():
        for table in tables:
            console.print(table.for_console())
    whole = not (arguments.quick or arguments.only or arguments.part)
    if exit_code == 0 and (whole if arguments.docs is None else arguments.docs):
        _document(results)
        tell(f"Written to {_DOCUMENT.relative_to(REPOSITORY)} and {_IMAGES.relative_to(REPOSITORY)}.")
    return exit_code


def _parser() -> argparse.ArgumentParser:
    names = [system.name for system in systems()]
    parser = argparse.ArgumentParser(prog="python -m bench.rivals", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: shows that it runs, no more")
    parser.add_argument("--rounds", type=int, default=1, help="how often each run is made (default 1)")
    parser.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--part", choices=["rates", "kills"], help="without it, both")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="use this broker instead of starting one")
    parser.add_argument("--redraw", type=Path, metavar="FILE", help="measure nothing: show a file of bench/results")
    parser.add_argument(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/rivals.md and its pictures (default: unless --quick, --only or --part)",
    )
    return parser


def _measure(results: RivalResults, arguments: argparse.Namespace, console: Console) -> int:
    """Run everything that could be installed; numbers from before a failure are kept."""
    sizes = plan.Sizes(
        arguments.rounds,
        share=plan.QUICK_SHARE if arguments.quick else 1,
        rates=arguments.part != "kills",
        kills=arguments.part != "rates",
        quiet_seconds=0.0 if arguments.quick else _QUIET_SECONDS,
    )
    chosen = _installed([one for one in systems() if not arguments.only or one.name in arguments.only], results)
    try:
        with kafka(arguments.kafka) as bootstrap_servers:
            plan.run(chosen, sizes, bootstrap_servers, results)
    except BenchError as error:
        console.print(f"[bold red]bench:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        tell(f"Raw numbers: {results.save(_RESULTS).relative_to(REPOSITORY)}")
    return 0


def _installed(chosen: list[System], results: RivalResults) -> list[System]:
    """Those that can run here; of the others it is said why they cannot."""
    parts = list(dict.fromkeys(system.part for system in chosen if system.part is not None))
    results.skipped.update(missing(parts))
    for name, reason in results.skipped.items():
        tell(f"{name}: skipped: {reason}")
    return [system for system in chosen if system.part is None or system.part.name not in results.skipped]


def _document(results: RivalResults) -> None:
    if results.runs:
        report.draw(results, _IMAGES)
    for section, markdown in report.sections(results).items():
        write_section(_DOCUMENT, section, markdown)


if __name__ == "__main__":
    sys.exit(main())
