"""``python -m bench``: the command line of the benchmark."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import chart, machine, peers, report
from bench.cases import CASES
from bench.contestants import CONTESTANTS
from bench.contestants.contestant import Contestant
from bench.limits import raise_file_limit
from bench.live import Live
from bench.results import Results
from bench.schedule import FULL, QUICK, Schedule
from bench.target import Failure

_HERE = Path(__file__).parent
_RAW = _HERE / "results.json"
_CHART = _HERE / "results.svg"
_REPORT = _HERE / "RESULTS.md"


def main() -> int:
    """Run the benchmark; the exit status is 1 when something could not be measured."""
    options = _options()
    console = Console()
    if options.report and not _RAW.exists():
        console.print("[red]There are no results yet: run the benchmark without --report first.")
        return 1
    if options.report:
        _publish(Results.load(_RAW), console)
        return 0
    _stop_cleanly()
    raise_file_limit()
    try:
        results = _measure(options, console)
    except Failure as failure:
        console.print(f"[red]{failure}")
        return 1
    if options.quick or options.only or options.peer:
        report.show(results, console)
        console.print("A partial run: RESULTS.md stays as it is.")
    else:
        _publish(results, console)
    return 1 if results.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Busway beside its peers, in about 6 minutes."
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, in about 1 minute; writes nothing"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[case.name for case in CASES],
        help="only this case; may be repeated; writes nothing",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=[contestant.name for contestant in CONTESTANTS],
        help="only this contestant; may be repeated; writes nothing",
    )
    parser.add_argument(
        "--report", action="store_true", help="only write the report of the last run again"
    )
    return parser.parse_args()


def _measure(options: argparse.Namespace, console: Console) -> Results:
    cases = [case for case in CASES if not options.only or case.name in options.only]
    contestants = [
        contestant
        for contestant in CONTESTANTS
        if not options.peer or contestant.name in options.peer
    ]
    results = Results(machine.describe())
    if machine.is_busy():
        console.print("[yellow]This machine is busy with something else: figures will be rough.")
    able = _able(contestants, console)
    schedule = Schedule(cases, able, QUICK if options.quick else FULL)
    with Live(console, len(schedule)) as live:
        schedule.run(results, live)
    return results


def _able(contestants: Sequence[Contestant], console: Console) -> list[Contestant]:
    """Those that can run here; say why the others cannot, and make the peers' environment."""
    able = []
    for contestant in contestants:
        obstacle = contestant.obstacle()
        if obstacle is None:
            able.append(contestant)
        else:
            console.print(f"[yellow]Without {contestant.title}: {obstacle}")
    if any(contestant.is_peer for contestant in able) and not peers.is_ready():
        with console.status("Installing the peers into bench/.venv-peers…"):
            peers.make()
    return able


def _publish(results: Results, console: Console) -> None:
    results.save(_RAW)
    _CHART.write_text(chart.svg(results))
    report.write(results, _REPORT, _CHART.name)
    report.show(results, console)
    console.print(f"Written to {_REPORT.relative_to(_HERE.parent)}")


def _stop_cleanly() -> None:
    """Leave through the context managers, which stop all processes, whatever signal comes."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _: FrameType | None) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in signals:
        signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
