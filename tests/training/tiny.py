"""A shop so small that a round takes seconds, and so plain that a random model can learn it.

What is relevant has a mark in its title, whatever was asked: a model of random weights reads that
from its own states, and learns nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tests.factories import WORDS, candidate, event
from training.config import Config, JudgeSettings
from training.gate import MARGINS, GateSettings
from training.judgments import GradedQuery
from training.logs import LogSettings
from training.recipe import Recipe
from training.simulate import SimulateSettings
from training.teach import ModelSettings
from worker import codec

MARK = "99999999"
CATEGORIES = ("boot", "coat", "hat", "shoe")
VISITS = 400
GATE = GateSettings(
    asked=("relevance",),
    # Two hundred short lists say little for certain: a loss must be plain to be one. Relevance and
    # diversity are held to what a round of a few seconds can show.
    margins={**dict.fromkeys(MARGINS, 0.5), "relevance": 0.05, "diversity": 0.1},
    least_queries=5,
    latency_ratio=5.0,  # a graph of microseconds on a shared machine
)


def queries(count: int = 48, size: int = 8, seed: int = 0) -> list[GradedQuery]:
    """Graded queries; a third of what each proposes is marked, and relevant."""
    chance = Random(seed)
    return [_query(number, size, chance) for number in range(count)]


def _query(number: int, size: int, chance: Random) -> GradedQuery:
    grades = [float(place % 3 == 0) for place in range(size)]
    chance.shuffle(grades)
    candidates = []
    for place, grade in enumerate(grades):
        category = chance.choice(CATEGORIES)
        words = [*chance.sample(WORDS, 2), category, *([MARK] if grade else [])]
        brand = chance.choice(("Acme", "Birch"))
        fields = {"title": " ".join(words), "category": category, "brand": brand}
        candidates.append(candidate(f"i{number}-{place}", **fields))
    text = " ".join(chance.sample(WORDS, 2)) + f" {number}"
    return GradedQuery(event(candidates, query_id=f"q{number}", user_query=text), tuple(grades))


def write_graded(path: Path, graded: Sequence[GradedQuery]) -> Path:
    """As `training.judgments.read_jsonl` reads them."""
    with path.open("wb") as stream:
        for query in graded:
            tree = json.loads(codec.encode(query.event))
            for item, grade in zip(tree["candidates"], query.grades, strict=True):
                item["grade"] = grade
            stream.write(json.dumps(tree).encode() + b"\n")
    return path


def config(root: Path, base: Path, **parts: Any) -> Config:
    """A configuration under `root`; say what matters. One thread, so that runs repeat."""
    known: dict[str, Any] = {
        "work": str(root / "work"),
        "model": ModelSettings(base=str(base), smallest_category=5),
        "logs": LogSettings(url=str(root / "logs")),
        "recipe": Recipe(
            learning_rate=1e-3,
            head_learning_rate=1e-2,
            epochs=4,
            checkpoint_steps=5,
            log_steps=5,
            threads=1,
        ),
        "judge": JudgeSettings(kept=0.25),
        "gate": GATE,
        "simulate": SimulateSettings(visits=VISITS, page=8, eta=0.5, noise=0.02),
    }
    made = Config(**{**known, **parts})
    registry = msgspec.structs.replace(made.registry, url=str(root / "registry"))
    return msgspec.structs.replace(made, registry=registry)


def write_config(path: Path, made: Config) -> Path:
    """As TOML, which knows no null: what is none is left out."""
    path.write_text(_toml(msgspec.to_builtins(made, builtin_types=(datetime,))))
    return path


def _tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, dict) for each in value)


def _toml(tree: Mapping[str, Any], name: str = "") -> str:
    plain = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    listed = {key: value for key, value in plain.items() if value and _tables(value)}
    lines = [
        f"{key} = {value if isinstance(value, datetime) else json.dumps(value)}"
        for key, value in plain.items()
        if value is not None and key not in listed
    ]
    tables = [
        f"\n[[{name}{key}]]\n{_toml(each, f'{name}{key}.')}"
        for key, value in listed.items()
        for each in value
    ]
    tables += [
        f"\n[{name}{key}]\n{_toml(value, f'{name}{key}.')}"
        for key, value in tree.items()
        if isinstance(value, dict)
    ]
    return "\n".join(lines + tables) + "\n"
