"""The command line: run, demo, rerank, validate, dead-letters, bench."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from worker import codec
from worker.errors import BadSetting, PrismrankError

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ("scoring", "diversify", "limited", "stream")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. 2: it could not start as asked."""
    # Read when numpy is imported. A list's matrices are small: threads cost them more than they
    # give, and one repeats itself bit by bit.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    chosen = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = chosen.command
    try:
        return command(chosen)
    except BadSetting as error:
        print(f"prismrank: {error}", file=sys.stderr)
        return 2
    except PrismrankError as error:
        print(f"prismrank: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who read us has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run(_chosen: argparse.Namespace) -> int:
    """The worker on Kafka."""
    from worker import compose, settings, telemetry

    telemetry.log_to_stderr()
    asyncio.run(compose.run(settings.read(os.environ)))
    return 0


def demo(chosen: argparse.Namespace) -> int:
    """The embedded broker, a worker, and a simulated shop."""
    from worker.demo import play

    return play.run(chosen.events, chosen.catalogue, chosen.json, chosen.round)


def rerank(chosen: argparse.Namespace) -> int:
    """SearchEvent JSONL on stdin, RankedList JSONL on stdout."""
    from worker import compose, settings, tables
    from worker.lines import Lines
    from worker.ranking.join import Tables

    read = settings.read(os.environ)
    catalogue = tables.read_catalogue(chosen.catalogue) if chosen.catalogue else {}
    lines = Lines(
        rank=compose.ranker(read, chosen.bundle),
        tables=Tables(
            catalogue=catalogue,
            rules=tables.read_rules(chosen.rules) if chosen.rules else {},
            policies=tables.read_policies(chosen.policies) if chosen.policies else {},
            categories=tables.categories_of(catalogue.values()),
        ),
        dials=read.dials,
        limits=read.limits,
        batch_events=read.batch_events,
        now=lambda: datetime.now(UTC),
        diversity=chosen.diversity,
        explain=chosen.explain,
    )
    with contextlib.ExitStack() as stack:
        letters = sys.stderr.buffer
        if chosen.dead_letters:
            letters = stack.enter_context(_writable(chosen.dead_letters))
        dead = lines.run(sys.stdin.fileno(), sys.stdout.buffer, letters)
    return 1 if dead and chosen.strict else 0


def validate(chosen: argparse.Namespace) -> int:
    """Every fault of the files; status 1 where there is one."""
    from worker import settings
    from worker.validate import faults, notes, unknown_policies

    limits, count = settings.read(os.environ).limits, 0
    for path in chosen.files:
        for fault in faults(path, limits):
            count += 1
            print(codec.encode(fault).decode() if chosen.json else str(fault))
        for note in notes(path):
            print(f"note: {note}", file=sys.stderr)
    for note in unknown_policies(chosen.files):
        print(f"note: {note}", file=sys.stderr)
    if not chosen.json:
        print(f"{count} faults in {len(chosen.files)} files")
    return 1 if count else 0


def dead_letters(chosen: argparse.Namespace) -> int:
    """Look at dead letters, or send them again."""
    from worker import dead_letters as letters
    from worker import settings

    selection = letters.Selection(
        topic=chosen.topic, kind=chosen.error_class, offset=chosen.offset, since=chosen.since
    )
    return asyncio.run(
        letters.run(settings.read(os.environ), chosen.action, selection, chosen.rate, chosen.json)
    )


def bench(chosen: argparse.Namespace) -> int:
    """A benchmark of the checkout, as a process of its own."""
    script = ROOT / "tests" / "benchmarks" / f"{chosen.benchmark}.py"
    if not script.is_file():
        raise BadSetting(f"{script}: benchmarks are run from a checkout")
    flags = ["--json"] if chosen.json else []
    module = f"tests.benchmarks.{chosen.benchmark}"
    return subprocess.call([sys.executable, "-m", module, *flags], cwd=ROOT)


def _writable(path: Path) -> contextlib.AbstractContextManager[object]:
    try:
        return path.open("wb")
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from error


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0.0 <= number <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text}")
    return number


def rate(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not number > 0.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def count(text: str) -> int:
    """A whole number from 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        added.set_defaults(command=function)
        return added

    command("run", run)
    added = command("demo", demo)
    added.add_argument("--events", type=count, default=None, help="searches to play")
    added.add_argument("--catalogue", type=Path, help="items as JSONL or parquet")
    added.add_argument("--json", action="store_true", help="one JSON object as the last line")
    added.add_argument(
        "--round",
        action=argparse.BooleanOptionalAction,
        help="with a round of training in it, or without; default: with, from 100 searches on",
    )

    added = command("rerank", rerank)
    added.add_argument("--bundle", type=Path, required=True, help="a bundle's folder")
    added.add_argument("--catalogue", type=Path, help="items as JSONL or parquet")
    added.add_argument("--rules", type=Path, help="list rules as JSONL")
    added.add_argument("--policies", type=Path, help="policies as JSONL")
    added.add_argument("--diversity", type=share, help="the dial; goes before the events' own")
    added.add_argument("--explain", action="store_true", help="lists as text, a reason an item")
    added.add_argument("--dead-letters", type=Path, help="where bad lines go (default: stderr)")
    added.add_argument("--strict", action="store_true", help="status 1 if any line was bad")

    added = command("validate", validate)
    added.add_argument("files", type=Path, nargs="+", metavar="FILE")
    added.add_argument("--json", action="store_true", help="one JSON object a fault")

    added = command("dead-letters", dead_letters)
    added.add_argument("action", choices=("list", "show", "redrive"))
    added.add_argument("--topic", default="search-events", help="the source topic")
    added.add_argument("--class", dest="error_class", help="only this class of error")
    added.add_argument("--offset", help="only PARTITION:OFFSET")
    added.add_argument("--since", help="only those written since this RFC 3339 time")
    added.add_argument("--rate", type=rate, default=100.0, help="redriven records a second")
    added.add_argument("--json", action="store_true", help="one JSON object a record")

    added = command("bench", bench)
    added.add_argument("benchmark", choices=BENCHMARKS)
    added.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
