"""Several markets or tenants that learn beside one base: who they are, and what each is trained by.

Knows no torch: it is part of the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from training.recipe import WHOLE, Recipe


class Tenant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A market, with labels of its own."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$",
            description="of the tenant, and of its bundle's folder",
        ),
    ]
    judgments: Annotated[
        tuple[str, ...], Meta(min_length=1, description="JSONL of its search events with grades")
    ]
    recipe: Annotated[
        dict[str, Any], Meta(description="what of [recipe] is other for this tenant")
    ] = {}

    def by(self, recipe: Recipe) -> Recipe:
        """The recipe that the tenant is trained by; ValueError where its own part does not fit."""
        plain = _merged(msgspec.to_builtins(recipe), self.recipe)
        try:
            return msgspec.convert(plain, Recipe)
        except msgspec.ValidationError as error:
            raise ValueError(f"tenants {self.name}: recipe: {error}") from error


def check(tenants: Sequence[Tenant], recipe: Recipe) -> None:
    """Raise ValueError where two tenants have one name, or would write to what they share."""
    names = [one.name for one in tenants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"tenants {', '.join(twice)}: expected each name once")
    for one in tenants:
        found = one.by(recipe)
        if len(tenants) > 1 and found.tuning in WHOLE:
            raise ValueError(
                f"tenants {one.name}: tuning {found.tuning}: expected lora, dora, rslora, adalora,"
                f" ia3 or adapters, for {len(tenants)} tenants share the weights of one base, and"
                f" {found.tuning} tuning writes to them"
            )


def _merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`other` over `base`, table by table."""
    found = dict(base)
    for name, value in other.items():
        known = found.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = _merged(known, value)
        found[name] = value
    return found
