"""A small fine-tuning, as the tests of it run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from tests.training.lists import CATEGORIES, labelled_lists, vectors_of
from training.fine_tune import Trained, fine_tune
from training.recipe import Recipe

SMALL: dict[str, Any] = {
    "pairs_per_step": 8,
    "max_list": 4,
    "checkpoint_steps": 4,
    "log_steps": 2,
    "evaluate_steps": 5,
    "learning_rate": 1e-3,
    "threads": 1,
    "seed": 3,
}


def silent(_line: str) -> None:
    """Nobody listens."""


def tuned(dials: dict[str, Any], base: Path, out: Path, say: Any = silent) -> Trained:
    """One small run; the same in any process."""
    train, dev = labelled_lists(50), labelled_lists(12, first=1000)
    recipe = msgspec.convert({**SMALL, **dials}, Recipe)
    width = json.loads((base / "config.json").read_text())["hidden_size"]
    vectors = vectors_of([*train, *dev], queries=True, width=width)
    return fine_tune(recipe, base, train, dev, vectors, CATEGORIES, out, say)
