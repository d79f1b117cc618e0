"""What `tune` searches: the dials of a recipe that may move, how far, and what is too dear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from training.recipe import Recipe

Value: TypeAlias = float | int | str


@dataclass(frozen=True, slots=True)
class Among:
    """One of these."""

    values: tuple[Value, ...]

    def holds(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True, slots=True)
class Between:
    """A number, both ends included; `log`: each power of ten as likely as another."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: Any) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high


SPACE: Final[Mapping[str, Among | Between]] = {
    "loss": Among(("bce", "listnet", "lambda")),
    "tuning": Among(("full", "frozen", "lora")),
    "learning_rate": Between(5e-6, 1e-3, log=True),
    "head_learning_rate": Between(1e-4, 1e-2, log=True),
    "weight_decay": Between(0.0, 0.1),
    "warmup": Between(0.0, 0.3),
    "field_dropout": Between(0.0, 0.5),
    "pairs_per_step": Among((16, 32, 64)),
    "max_tokens": Among((32, 48, 64, 96, 128)),
}


class TuneSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a search over recipes may change, and what its bundles may cost."""

    dials: Annotated[
        tuple[str, ...],
        Meta(description="of the recipe, that a search moves; the others stay as they are"),
    ] = tuple(SPACE)
    random_trials: Annotated[
        int, Meta(ge=1, description="trials that are drawn evenly before the search learns")
    ] = 10
    longest_ms: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="milliseconds that a pair may take here, on one thread; none: any"),
    ] = None
    largest_mb: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="megabytes that a bundle's graphs may have; none: any"),
    ] = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.dials if name not in SPACE]
        if unknown or not self.dials:
            raise ValueError(
                f"tune.dials {', '.join(map(repr, unknown)) or 'none'}: expected some of"
                f" {', '.join(SPACE)}"
            )

    @property
    def space(self) -> dict[str, Among | Between]:
        """The dials that move, in the order of the table."""
        return {name: dial for name, dial in SPACE.items() if name in self.dials}

    def own(self, recipe: Recipe) -> dict[str, Value] | None:
        """The recipe as a point of the space; None where it lies outside."""
        point = {name: getattr(recipe, name) for name in self.space}
        inside = all(dial.holds(point[name]) for name, dial in self.space.items())
        return point if inside else None


def at(recipe: Recipe, point: Mapping[str, Value]) -> Recipe:
    """The recipe with the dials of a point; its lists as long as a step allows."""
    moved = {**msgspec.to_builtins(recipe), **point}
    moved["max_list"] = min(moved["max_list"], moved["pairs_per_step"])
    return msgspec.convert(moved, Recipe)
