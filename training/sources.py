"""What is learned beside the newest grades: a teacher's scores, older lists, lists without grades.
Knows no torch."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

Distillation: TypeAlias = Literal["margin_mse", "kl"]
CHAMPION: Final = "champion"  # the teacher's folder, where it is what serves


class Teacher(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose scores are learned beside the grades; nobody's by default."""

    folder: Annotated[
        str,
        Meta(
            description="of a bundle, a trained model or a Hugging Face cross-encoder of one "
            'label; "champion": the bundle that serves; empty: nobody teaches'
        ),
    ] = ""
    loss: Annotated[
        Distillation,
        Meta(description="margin_mse: of the margins of pairs; kl: of a list's softmax"),
    ] = "margin_mse"
    weight: Annotated[float, Meta(ge=0, le=1, description="w in w L_teacher + (1 - w) L_rel")] = 0.5
    temperature: Annotated[float, Meta(gt=0, description="of kl, in logits")] = 1.0


class Replay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of older periods is learned again."""

    share: Annotated[
        Annotated[float, Meta(ge=0, lt=1)] | None,
        Meta(
            description="of the lists, that are drawn from older periods, evenly; 0: the newest "
            "period alone; left out: all lists of all periods"
        ),
    ] = None
    period_days: Annotated[
        float, Meta(gt=0, description="length of a period, counted back from the newest list")
    ] = 7.0


class Unlabelled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learned from lists on which nobody acted, where two teachers agree on their order."""

    share: Annotated[
        float,
        Meta(
            ge=0,
            description="lists on which nobody acted that two teachers are asked about, for each "
            "that is learned from; 0: none",
        ),
    ] = 0.0
    agreement: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="share of a list's candidates that both have to put in one order; less, "
            "and nothing of it is learned",
        ),
    ] = 0.8
    weight: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="of a grade that they agree on, in mean weights of a real one; what a "
            "teacher says, diversity and groups count in full",
        ),
    ] = 0.3
