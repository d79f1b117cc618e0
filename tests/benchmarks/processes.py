"""Benchmarks of trainings whose cells are processes of their own, and a JSON line each.

What is finished is skipped, and what was killed is begun again: its training goes on from its last
checkpoint. Each has the same places: labels, base model, work, and the file of finished cells.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.benchmarks.measuring import commit, finished, machine
from training.config import Config, RegistrySettings
from training.debias import DebiasSettings
from training.logs import LogSettings
from training.recipe import Recipe
from training.teach import ModelSettings

PLACES: Final = ("data", "base", "work", "out")
SHOW: Final = "the table of what is there"


def asks(module: str) -> argparse.ArgumentParser:
    """A parser that asks for the places, the seeds, and whether all is only to be shown."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--work", type=Path, required=True, help="where trainings go on from")
    parser.add_argument("--out", type=Path, required=True, help="the finished cells")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--show", action="store_true", help=SHOW)
    return parser


def fill(module: str, cell: Mapping[str, Any], said: Sequence[str], at: argparse.Namespace) -> None:
    """Add the cell's line to the finished ones where none says what `cell` says: the last that
    `python -m module`, told of the places and of what is `said`, prints. Raises CalledProcessError
    where that process fails; what it left goes on the next time."""
    if any(cell.items() <= row.items() for row in finished(at.out)):
        return
    places = [word for name in PLACES for word in (f"--{name}", str(getattr(at, name)))]
    child = subprocess.run(
        [sys.executable, "-m", module, *said, *places],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with at.out.open("a") as stream:
        stream.write(child.stdout.splitlines()[-1] + "\n")


def configured(
    options: argparse.Namespace, recipe: Mapping[str, Any], categories: int = 200
) -> Config:
    """A configuration that leaves everything in the work folder. Raises ValueError where the recipe
    is none. Every list is one of its own, as human labels are, so that a recipe may replay them."""
    return Config(
        work=str(options.work),
        model=ModelSettings(base=str(options.base), most_categories=categories),
        logs=LogSettings(url=str(options.work / "logs")),
        registry=RegistrySettings(url=str(options.work / "registry")),
        debias=DebiasSettings(rows="impression"),
        recipe=msgspec.convert(recipe, Recipe),
    )


def measured_here() -> dict[str, str]:
    """What every line says of where its numbers come from."""
    return {"commit": commit(), "machine": machine()}


def say(line: str) -> None:
    """To people: stdout is for the cell."""
    print(line, file=sys.stderr, flush=True)
