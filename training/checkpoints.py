"""What a run keeps on disk to go on from: whole checkpoints, and the best weights.

A file or folder has its name only once it is whole; what is being written is called otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

PART: Final = ".part"  # what is being written; never read
BEST: Final = "best.safetensors"
FIRST: Final = "first.safetensors"  # what the pair model began with, to go back towards
TAUGHT: Final = "taught.npy"  # what a teacher said of the lists
AVERAGE: Final = "average.safetensors"  # in a checkpoint
STATE: Final = "trainer_state.json"

History = Sequence[Mapping[str, Any]]


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = [each for each in folder.glob("checkpoint-*") if (each / STATE).is_file()]
    return sorted(found, key=lambda each: int(each.name.rpartition("-")[2]))


def history(checkpoint: Path) -> list[dict[str, Any]]:
    """What was logged up to a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    entries: list[dict[str, Any]] = state["log_history"]
    return entries


def best_step(entries: History) -> tuple[int, int]:
    """The step whose evaluation was best (the first of equals), and how many came after it."""
    scores = [(one["ndcg"], one["step"]) for one in entries if "ndcg" in one]
    if not scores:
        return 0, 0
    best = max(range(len(scores)), key=lambda each: (scores[each][0], -each))
    return scores[best][1], len(scores) - 1 - best


def save_whole(model: torch.nn.Module, path: Path) -> None:
    """Write the weights so that the file has its name only once it is whole."""
    part = path.with_name(path.name + PART)
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, part)
    os.replace(part, path)


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Read them back."""
    model.load_state_dict(load_file(path))
