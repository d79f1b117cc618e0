"""The dials of fairness between groups of items, checked once. Knows no torch.

The groups are told apart as the limits of a policy do (`worker.policies.Group`), and one table of
them serves the training and the judges.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from training.judgments import RELEVANT
from worker.errors import Invalid
from worker.policies import Group, check_group

FEWEST: Final = 20  # candidates of a group that is compared: the extremes of fewer are chance
Due: TypeAlias = Literal["equal", "merit"]


class Groups(Group, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One way to tell items apart: by each value of a field; or, with `value` or `from` and `to`,
    those that have it and the rest that carry the field."""


class Fairness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between which groups there is to be fairness, and what the training does for it."""

    groups: Annotated[
        tuple[Groups, ...],
        Meta(
            description='ways to tell items apart, as a policy\'s limits do: `{field = "brand"}` '
            'is a group a brand, `{field = "price", to = 20}` the cheap and the rest; the judges '
            "compare them too (none: brands, or categories)"
        ),
    ] = ()
    fewest: Annotated[
        int, Meta(ge=1, description="candidates of a group; one of fewer is left out of it all")
    ] = FEWEST
    relevant: Annotated[
        float, Meta(gt=0, le=1, description="the grade from which a candidate is relevant")
    ] = RELEVANT
    reweigh: Annotated[
        bool,
        Meta(
            description="pairs learned from weigh P(group) P(relevant) / P(group, relevant), so "
            "that neither tells of the other; the groups of all ways together"
        ),
    ] = False
    exposure: Annotated[
        float,
        Meta(ge=0, description="weight of L_exposure: groups' exposure apart from what is due"),
    ] = 0.0
    due: Annotated[
        Due,
        Meta(description="to a group, by L_exposure: as much as to others, or as its grades merit"),
    ] = "equal"
    opportunity: Annotated[
        float,
        Meta(ge=0, description="weight of L_opportunity: the same of the relevant items alone"),
    ] = 0.0

    def __post_init__(self) -> None:
        for place, group in enumerate(self.groups):
            try:
                check_group(f"groups[{place}]", group)
            except Invalid as error:
                raise ValueError(str(error)) from error
        asked = {name: getattr(self, name) for name in ("reweigh", "exposure", "opportunity")}
        for name, value in asked.items():
            if value and not self.groups:
                raise ValueError(
                    f'{name} {value}: expected groups beside it, such as [{{field = "brand"}}]'
                )

    @property
    def descends(self) -> bool:
        """Whether a loss of it is on."""
        return self.exposure > 0.0 or self.opportunity > 0.0
