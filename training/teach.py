"""Graded lists in, a draft bundle out: fine-tune, export, calibrate.

The encoder stays as the base model has it, so nothing that it knew is forgotten, and what workers
remember of items outlives a swap; the pair model and the category head learn.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from export.bundle import Template
from export.calibrate import CalibrationError, fit_blend, fit_platt, order_alone
from export.domain import Domain, fit_domain
from export.precision import PRECISIONS
from export.session import Session
from export.source import find_base
from export.template import segments
from training.dataset import LabelledList
from worker.errors import PrismrankError
from worker.ranking.bundled import Bundled
from worker.ranking.judge import first_stage
from worker.ranking.model import Doubles, Model, Vector
from worker.ranking.pairs import evidence, read_pairs
from worker.ranking.rerank import embed, needed, read
from worker.ranking.text import item_text, pair_texts

Say = Callable[[str], None]
ENOUGH_PAIRS: Final = 50  # below, a calibration would be a guess


class NotEnough(PrismrankError):
    """There is too little to learn from. Nothing was trained; the live model stays."""


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained, and how items and queries become its text."""

    base: Annotated[
        str, Meta(min_length=1, description="folder of a Hugging Face model, or its id on the hub")
    ]
    fields: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="fields and attributes of an item that the pair model reads, in order; "
            "description:100 is the first 100 characters of one",
        ),
    ] = ("title",)
    separator: Annotated[str, Meta(description="between the fields of an item")] = " | "
    query_before: Annotated[str, Meta(description="before the query, in a pair")] = ""
    history: Annotated[
        int,
        Meta(
            ge=0,
            description="items that the user acted on, by their first field, that the pair model "
            'reads behind the query; a round learns them with `debias.rows = "impression"`',
        ),
    ] = 0
    history_before: Annotated[str, Meta(description="before each of them")] = " | "
    spelling: Annotated[
        bool,
        Meta(
            description="a query's word that neither the candidates nor the base model know is "
            "read as the candidates' word that is one slip away"
        ),
    ] = True
    item_before: Annotated[
        str, Meta(description='before the item, in a pair; a causal model wants one, "\\nItem: "')
    ] = ""
    variants: Annotated[
        tuple[str, ...], Meta(description="precisions that are exported: fp32, fp16, int8")
    ] = ("fp32",)
    smallest_category: Annotated[
        int, Meta(ge=1, description="items that a category needs to be learned")
    ] = 20
    most_categories: Annotated[int, Meta(ge=0, description="the largest so many are learned")] = 200

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.variants) - PRECISIONS.keys()):
            raise ValueError(
                f"variants {', '.join(map(repr, unknown))}: expected some of"
                f" {', '.join(PRECISIONS)}"
            )

    @property
    def base_folder(self) -> Path:
        """Where the base model lies; BundleError where there is none."""
        return find_base(self.base)[0]

    @property
    def pair_template(self) -> Template:
        """How a pair becomes text: an absent field gives nothing."""
        return Template(
            query_before=self.query_before,
            item_before=self.item_before,
            history=self.history,
            history_before=self.history_before,
            item=segments(self.fields, self.separator),
        )

    def categories(self, lists: Sequence[LabelledList]) -> tuple[str, ...]:
        """The categories that are learned: those of enough distinct items, sorted by name."""
        named = {
            entry.item.item_id: entry.item.category
            for one in lists
            for entry in one.search.entries
            if entry.item.category
        }
        sizes = Counter(named.values())
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[: self.most_categories]
        return tuple(sorted(name for name in largest if sizes[name] >= self.smallest_category))


@dataclass(frozen=True, slots=True)
class Fit:
    """What the second stage was fitted on, row by row: [m] each."""

    pair: Doubles
    cosine: Doubles
    engine_share: Doubles
    features: Mapping[str, Doubles]
    grade: Doubles
    weight: Doubles


def check_enough(learn: Sequence[LabelledList], kept: Sequence[LabelledList]) -> None:
    """Raise NotEnough where there is nothing to learn from, or too little kept to calibrate on."""
    learned = sum(_counted(one) for one in learn)
    calibrating = sum(_counted(one) for one in kept)
    if not learned or calibrating < ENOUGH_PAIRS:
        raise NotEnough(
            f"{learned} graded pairs of {len(learn)} lists to learn from and {calibrating} of"
            f" {len(kept)} to calibrate on, expected at least 1 and {ENOUGH_PAIRS}; nothing was"
            " trained"
        )


def vectors_of(lists: Sequence[LabelledList], model: Model) -> Mapping[str, Vector]:
    """Rendered text -> the encoder's vector, for all queries and items of `lists`."""
    return embed(needed([one.search for one in lists], model), model)


def domain_of(
    learn: Sequence[LabelledList],
    kept: Sequence[LabelledList],
    vectors: Mapping[str, Vector],
    template: Template,
    say: Say,
) -> Domain | None:
    """That of the items of `learn`, each once, with a reach that takes in the lists `kept`."""
    texts = [
        [
            [item_text(entry.item, template) for entry in one.search.entries]
            for one in lists
            if one.teaches
        ]
        for lists in (learn, kept)
    ]
    learned, seen = ([{text: vectors[text] for text in one} for one in lists] for lists in texts)
    found = fit_domain({text: one[text] for one in learned for text in one}, seen)
    if found is None:
        say(
            f"{len(seen)} lists are too few to tell what is far: the model's word counts everywhere"
        )
    return found


def fitted(draft: Session, lists: Sequence[LabelledList], say: Say) -> Session:
    """The draft with the two stages' constants, fitted through its own graphs on lists kept for it.

    Where the pair model orders worse than chance its logit stands alone.
    """
    model = Bundled(draft)
    found = _fit_rows(lists, model)
    say(f"calibrating on {len(found.grade)} pairs of {len(lists)} lists")
    origin = f"fitted on {len(found.grade)} graded pairs of {len(lists)} lists"
    try:
        blend = fit_blend(
            found.pair,
            found.cosine,
            found.engine_share,
            found.features,
            found.grade,
            found.weight,
            sum(one.teaches for one in lists),
            origin,
        )
        if draft.domain is not None:
            blend = msgspec.structs.replace(blend, beyond=draft.manifest.calibration)
    except CalibrationError as error:  # a bad model is the judges' to refuse, with its numbers
        say(f"the blend cannot be fitted ({error}); the pair model stands alone before its judges")
        assert draft.manifest.blend is not None, "a draft has a blend: this is a bug"
        blend = draft.manifest.blend
    try:
        calibration = fit_platt(found.cosine, found.grade, origin, found.weight)
    except CalibrationError as error:
        say(f"the cosine cannot be calibrated ({error}); it keeps its order and says little")
        calibration = order_alone(found.cosine, found.grade, origin, found.weight)
    manifest = msgspec.structs.replace(draft.manifest, calibration=calibration, blend=blend)
    return dataclasses.replace(draft, manifest=manifest)


def _counted(one: LabelledList) -> int:
    """How many pairs of a list count: none without a query."""
    return int(np.count_nonzero(one.weights)) if one.teaches else 0


def _fit_rows(lists: Sequence[LabelledList], model: Bundled) -> Fit:
    assert model.pairs is not None, "a draft has its pair model: this is a bug"
    asked = [one for one in lists if one.teaches]
    readings = read(needed([one.search for one in asked], model), model)
    names = sorted(
        {name for one in asked for entry in one.search.entries for name in entry.item.features}
    )
    pairs: list[tuple[str, str]] = []
    known = []
    for one in asked:
        rows = range(len(one.search.entries))
        pairs += pair_texts(one.search, rows, model.pairs.template)
        known.append(evidence(one.search, first_stage(one.search, readings, model), rows, names))
    weight = _joined([one.weights for one in asked])
    counted = weight > 0.0
    return Fit(
        pair=read_pairs(pairs, model.pairs, model.budget)[counted].astype(np.float64),
        cosine=_joined([each.cosine for each in known])[counted],
        engine_share=_joined([each.engine_share for each in known])[counted],
        features={
            name: _joined([each.features[name] for each in known])[counted] for name in names
        },
        grade=_joined([one.grades for one in asked])[counted],
        weight=weight[counted],
    )


def _joined(columns: Sequence[Doubles]) -> Doubles:
    return np.concatenate(columns) if columns else np.empty(0)
