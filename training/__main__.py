"""The command line of training: collect, run, loop, evaluate, simulate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from export.bundle import BundleError
from export.calibrate import CalibrationError
from export.registry import RegistryError
from training.judgments import SETS
from worker.errors import PrismrankError
from worker.ranking.diversify import METHODS

MISUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it did what was asked, 2 where it could not."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (PrismrankError, BundleError, RegistryError, CalibrationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    return status


def names(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from training import commands  # torch and its kin: seconds that --help should not cost

        found: int = getattr(commands, name)(options)
        return found

    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Prismrank's training.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_evaluate(commands.add_parser("evaluate", help="what a bundle's lists are worth to people"))
    _add_collect(
        commands.add_parser("collect", help="Kafka, or a shop's past, into the log tables")
    )
    _add_run(commands.add_parser("run", help="one round: from the logs, or from human labels"))
    loop = commands.add_parser("loop", help="a round on a schedule, or when enough is new")
    loop.add_argument("config", type=Path, metavar="CONFIG.toml")
    loop.add_argument("--rounds", type=int, help="end after so many; without it: never")
    loop.set_defaults(run=_command("loop"))
    simulate = commands.add_parser("simulate", help="people with known tastes, into the log tables")
    simulate.add_argument("config", type=Path, metavar="CONFIG.toml")
    simulate.add_argument("--catalogue", type=Path, help="items to sell; without it: the built-in")
    simulate.add_argument("--judgments", type=Path, nargs="+", default=[], help="or graded queries")
    simulate.add_argument("--jsonl", type=Path, help="a folder for JSONL, instead of the tables")
    simulate.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    simulate.set_defaults(run=_command("simulate"))
    return parser


def _add_collect(collect: argparse.ArgumentParser) -> None:
    collect.add_argument("config", type=Path, metavar="CONFIG.toml")
    collect.add_argument("--once", action="store_true", help="to the end of the topics, and stop")
    collect.add_argument("--replay-from", type=int, metavar="OFFSET", help="first read again")
    collect.add_argument("--parquet", type=Path, help="a shop's own past, a row an impression")
    collect.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    collect.set_defaults(run=_command("collect"))


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml")
    run.add_argument("--judgments", type=Path, nargs="+", default=[], help="JSONL with grades")
    run.add_argument("--data", type=Path, help="the folder of the labelled sets: their train parts")
    run.add_argument("--sets", type=names, default=["home_depot", "crowdflower"])
    run.add_argument("--base", help="folder of a Hugging Face model, or its id on the hub")
    run.add_argument("--out", type=Path, help="the folder of the bundle")
    run.add_argument("--seed", type=int, help="of all chance")
    run.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    run.set_defaults(run=_command("run"))


def _add_evaluate(judge: argparse.ArgumentParser) -> None:
    judge.add_argument("--bundle", type=Path, required=True, help="the folder of the bundle")
    judge.add_argument("--variant", default="fp32", help="which of its graphs")
    judge.add_argument("--data", type=Path, help="the folder of the labelled sets")
    judge.add_argument("--sets", type=names, default=list(SETS), help=",".join(SETS))
    judge.add_argument("--split", choices=("train", "dev", "all"), help="default: the set's own")
    judge.add_argument("--judgments", type=Path, nargs="+", default=[], help="JSONL with grades")
    judge.add_argument("--frontier", action="store_true", help="every dial, not only 0")
    judge.add_argument("--methods", type=names, default=list(METHODS), help=",".join(METHODS))
    judge.add_argument("--seed", type=int, default=0, help="of the shuffles and the bootstrap")
    judge.add_argument("--markdown", action="store_true", help="tables (the default)")
    judge.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    judge.add_argument("--plot", type=Path, help="write the curves to this PNG")
    judge.set_defaults(run=_command("evaluate"))


if __name__ == "__main__":
    sys.exit(main())
