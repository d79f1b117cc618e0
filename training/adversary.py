"""The dials of adversarial training, checked once. Knows no torch."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

Kind: TypeAlias = Literal["none", "fgm", "pgd", "freelb", "smart"]


class Attack(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How each pair's word embeddings are shifted to its loss's harm: see `training.attacks`."""

    kind: Annotated[
        Kind,
        Meta(
            description="adversarial training on word embeddings: fgm and pgd learn from shifted "
            "pairs too, freelb from them alone, smart that a shift changes no output; none: off"
        ),
    ] = "none"
    epsilon: Annotated[
        float,
        Meta(ge=0, description="the greatest L2 length of a shift, over all words of a pair"),
    ] = 1.0
    step_size: Annotated[
        float, Meta(gt=0, description="length of one step of it; fgm makes one of epsilon")
    ] = 0.3
    steps: Annotated[
        int, Meta(ge=1, description="pgd, smart: steps upward; freelb: passes, a step between two")
    ] = 2
    weight: Annotated[
        float,
        Meta(
            ge=0,
            description="fgm, pgd: of the shifted pairs' loss, in a mean with the plain one, which "
            "weighs 1; smart: of what it adds to the loss; freelb has none",
        ),
    ] = 1.0
