"""The command line of training: each command, with what it takes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from export.bundle import BundleError
from export.calibrate import CalibrationError
from export.registry import RegistryError
from training.judgments import SETS
from worker.errors import PrismrankError
from worker.ranking.diversify import METHODS

MISUSED = 2
SEEDS = range(2**32)


class Misused(PrismrankError):
    """An option cannot be used. Nothing was begun; the command ends with status 2."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(f"{option} {value!r}: expected {expected}; nothing was begun")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it did what was asked, 2 where it could not.

    Under torchrun at rank 0, which the other ranks help to learn.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        ranks, shared = (
            importlib.import_module(f"training.{name}") for name in ("ranks", "shared")
        )
        status: int = ranks.together(partial(_run, arguments), shared.help_out)
        return status
    return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
    except (PrismrankError, BundleError, RegistryError, CalibrationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"error: {why}; the command ends, what it had finished stays", file=sys.stderr)
        return MISUSED
    return status


def names(text: str) -> list[str]:
    """The words of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _methods(text: str) -> list[str]:
    found = names(text)
    if not found or not METHODS.keys() >= set(found):
        raise Misused("--methods", text, f"some of {', '.join(METHODS)}")
    return found


def _whole(option: str, allowed: range) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.removeprefix("-")
        if not digits.isdecimal() or int(text) not in allowed:
            expected = f"a whole number from {allowed.start} to {allowed.stop - 1}"
            raise Misused(option, text, expected)
        return int(text)

    return read


def _folder(option: str) -> Callable[[str], Path]:
    """A folder that is there, or can be made."""

    def read(text: str) -> Path:
        path = Path(text)
        there = next(each for each in (path, *path.parents) if each.exists())
        if not there.is_dir():
            raise Misused(option, text, f"a folder, and {there} is a file")
        return path

    return read


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".png" or path.is_dir() or not path.parent.is_dir():
        raise Misused("--plot", text, "a file NAME.png in a folder that is there")
    return path


def _command(name: str, module: str = "commands") -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        # torch and its kin: seconds that --help should not cost
        found: int = getattr(importlib.import_module(f"training.{module}"), name)(options)
        return found

    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Prismrank's training.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_evaluate(commands.add_parser("evaluate", help="what a bundle's lists are worth to people"))
    _add_explain(commands.add_parser("explain", help="why an item is as relevant as it is"))
    _add_collect(
        commands.add_parser("collect", help="Kafka, or a shop's past, into the log tables")
    )
    _add_run(commands.add_parser("run", help="one round: from the logs, or from human labels"))
    _add_tune(commands.add_parser("tune", help="a search over recipes, by human labels"))
    loop = commands.add_parser("loop", help="a round on a schedule, or when enough is new")
    loop.add_argument("config", type=Path, metavar="CONFIG.toml")
    rounds = _whole("--rounds", range(1, 2**31))
    loop.add_argument("--rounds", type=rounds, help="end after so many; without it: never")
    loop.set_defaults(run=_command("loop"))
    simulate = commands.add_parser("simulate", help="people with known tastes, into the log tables")
    simulate.add_argument("config", type=Path, metavar="CONFIG.toml")
    simulate.add_argument("--catalogue", type=Path, help="items to sell; without it: the built-in")
    simulate.add_argument("--judgments", type=Path, nargs="+", default=[], help="or graded queries")
    jsonl = _folder("--jsonl")
    simulate.add_argument("--jsonl", type=jsonl, help="a folder for JSONL, instead of the tables")
    simulate.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    simulate.set_defaults(run=_command("simulate"))
    warm = commands.add_parser("warm-up", help="an encoder that knows a catalogue, without labels")
    warm.add_argument("config", type=Path, metavar="CONFIG.toml")
    warm.add_argument("--catalogue", type=Path, help="its items; without it: those of the logs")
    warm.add_argument("--out", type=_folder("--out"), required=True, help="the encoder's folder")
    warm.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    warm.set_defaults(run=_command("warm_up"))
    tenants = commands.add_parser("tenants", help="an adapter for each market, beside one base")
    tenants.add_argument("config", type=Path, metavar="CONFIG.toml")
    tenants.add_argument("--out", type=_folder("--out"), required=True, help="of their bundles")
    tenants.add_argument("--seed", type=_whole("--seed", SEEDS), help="of all chance")
    tenants.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    tenants.set_defaults(run=_command("tenants"))
    return parser


def _add_collect(collect: argparse.ArgumentParser) -> None:
    collect.add_argument("config", type=Path, metavar="CONFIG.toml")
    collect.add_argument("--once", action="store_true", help="to the end of the topics, and stop")
    offset = _whole("--replay-from", range(2**63))
    collect.add_argument("--replay-from", type=offset, metavar="OFFSET", help="first read again")
    collect.add_argument("--parquet", type=Path, help="a shop's own past, a row an impression")
    collect.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    collect.set_defaults(run=_command("collect"))


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml")
    run.add_argument("--judgments", type=Path, nargs="+", default=[], help="JSONL with grades")
    run.add_argument("--data", type=Path, help="the folder of the labelled sets: their train parts")
    run.add_argument("--sets", type=names, default=["home_depot", "crowdflower"])
    run.add_argument("--base", help="folder of a Hugging Face model, or its id on the hub")
    run.add_argument("--out", type=_folder("--out"), help="the folder of the bundle")
    run.add_argument("--seed", type=_whole("--seed", SEEDS), help="of all chance")
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
    judge.add_argument("--robustness", action="store_true", help="and with their texts changed")
    judge.add_argument("--methods", type=_methods, default=list(METHODS), help=",".join(METHODS))
    judge.add_argument("--peers", action="store_true", help="pyversity's methods beside ours")
    seed = _whole("--seed", SEEDS)
    judge.add_argument("--seed", type=seed, default=0, help="of the shuffles and the bootstrap")
    judge.add_argument("--markdown", action="store_true", help="tables (the default)")
    judge.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    judge.add_argument("--plot", type=_picture, help="write the curves to this PNG")
    judge.set_defaults(run=_command("evaluate", "judging"))


def _add_explain(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("--bundle", type=Path, required=True, help="the folder of the bundle")
    explain.add_argument("--variant", default="fp32", help="which of its graphs")
    explain.add_argument("--data", type=Path, help="the folder of the labelled sets")
    explain.add_argument("--sets", type=names, default=list(SETS), help=",".join(SETS))
    explain.add_argument("--split", choices=("train", "dev", "all"), help="default: the set's own")
    explain.add_argument("--judgments", type=Path, nargs="+", default=[], help="or JSONL")
    explain.add_argument("--catalogue", type=Path, help="items of the events on stdin, as JSONL")
    explain.add_argument("--query-id", help="only of this query")
    explain.add_argument("--item-id", help="only this item")
    pairs = _whole("--pairs", range(1, 2**31))
    explain.add_argument("--pairs", type=pairs, default=40, help="at most so many, drawn evenly")
    calls = _whole("--evaluations", range(2, 2**20))
    explain.add_argument(
        "--evaluations", type=calls, default=256, help="of a game; more is exacter"
    )
    explain.add_argument(
        "--gradients", action="store_true", help="and the pair model's logit, by its gradients"
    )
    seed = _whole("--seed", SEEDS)
    explain.add_argument("--seed", type=seed, default=0, help="of all chance")
    explain.add_argument("--markdown", action="store_true", help="tables (the default)")
    explain.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    explain.set_defaults(run=_command("explain", "explain"))


def _add_tune(tune: argparse.ArgumentParser) -> None:
    tune.add_argument("config", type=Path, metavar="CONFIG.toml")
    tune.add_argument("--judgments", type=Path, nargs="+", default=[], help="JSONL with grades")
    tune.add_argument(
        "--data", type=Path, help="the folder of the labelled sets: their train parts"
    )
    tune.add_argument("--sets", type=names, default=["home_depot", "crowdflower"])
    trials = _whole("--trials", range(1, 2**31))
    tune.add_argument("--trials", type=trials, default=30, help="in all, those of before included")
    tune.add_argument("--seed", type=_whole("--seed", SEEDS), help="of all chance")
    tune.add_argument("--json", action="store_true", help="one line of JSON, last on stdout")
    tune.set_defaults(run=_command("tune"))


if __name__ == "__main__":
    sys.exit(main())
