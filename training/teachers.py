"""Who teaches, and what is taught: a logit for every candidate of the lists to learn from.

In go searches, out come logits [n] each: of a bundle what it would serve, of a trained model or a
Hugging Face cross-encoder what it says of each pair of texts. A teacher is asked once, before
training, and what it said is kept beside the checkpoints: no step waits for it, whatever its size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from export import bundle
from export.bundle import BundleError, Template
from export.models import PairModel
from export.onnx import input_names, quiet
from export.session import open_session
from export.source import Source, max_tokens, weights_sha256
from export.tokenizer import PairTokenizer
from export.trained import ADAPTER, NOTES, read_trained
from training.progress import Say
from training.recipe import Recipe
from training.sheets import Sheet
from training.sources import CHAMPION
from training.tuning import BadRecipe
from worker.ranking.bundled import Bundled
from worker.ranking.join import JoinedSearch
from worker.ranking.judge import Judged, first_stage
from worker.ranking.model import Doubles, Model, TokenBatch, TokenBudget
from worker.ranking.pairs import second_stage
from worker.ranking.rerank import needed, read
from worker.ranking.spelling import spelled
from worker.ranking.text import pair_texts
from worker.ranking.tokens import pack_pairs

CONFIG: Final = "config.json"  # of a Hugging Face model
LISTS: Final = 64  # that are scored together, those of like length in one batch

Score: TypeAlias = Callable[[Sequence[JoinedSearch]], list[Doubles]]
"""Searches with a query -> the logits of their candidates, [n] each."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """Somebody's knowledge."""

    sha256: str  # of the bundle, or of the weights
    ready: Callable[[], Score]  # loads it


def find_teacher(
    recipe: Recipe, base: Source, template: Template, champion: Model | None
) -> Teacher | None:
    """Whom the recipe names; None where nobody is to teach.

    `base` lends a trained model the tokenizer that its folder lacks; `template` says how a pair is
    written for all but bundles, which have their own. Raises BadRecipe where there is no teacher in
    the folder, and BundleError where it cannot be read.
    """
    check_teacher(recipe)
    folder = Path(recipe.teacher.folder)
    if not recipe.teacher.folder:
        return None
    if recipe.teacher.folder == CHAMPION:
        if champion is None:
            raise BadRecipe(f'teacher.folder "{CHAMPION}": nothing serves here; name a folder')
        return Teacher(champion.digest or "", lambda: partial(as_served, champion))
    if (folder / bundle.MANIFEST).is_file():
        return Teacher(bundle.digest(folder), partial(_bundle, folder, recipe.threads or 1))
    if any((folder / name).is_file() for name in (NOTES, ADAPTER)):
        make = partial(_trained, folder, base, template)
    else:
        make = partial(_cross_encoder, folder, template)
    return Teacher(weights_sha256(folder, folder.name), make)


def check_teacher(recipe: Recipe) -> None:
    """Raise BadRecipe where the folder that the recipe names has no teacher."""
    named = recipe.teacher.folder
    known = (bundle.MANIFEST, NOTES, ADAPTER, CONFIG)
    if named in ("", CHAMPION) or any((Path(named) / each).is_file() for each in known):
        return
    raise BadRecipe(
        f"teacher.folder {named!r}: expected a folder with a bundle's {bundle.MANIFEST}, a"
        f" training's {NOTES} or a Hugging Face {CONFIG}"
    )


def taught(teacher: Teacher, sheets: Sequence[Sheet], kept: Path, say: Say) -> list[Sheet]:
    """The sheets with what the teacher says of them: asked once, then read from the file `kept`,
    which is whole wherever it exists. Raises BadRecipe where a logit is no finite number."""
    if not kept.is_file():
        said = np.concatenate(list(_asked(teacher, sheets, say))).astype(np.float32)
        if not np.isfinite(said).all():
            raise BadRecipe(f"the teacher's logits: {(~np.isfinite(said)).sum()} are not finite")
        part = kept.with_name(kept.name + ".part")
        with part.open("wb") as stream:
            np.save(stream, said)
        part.rename(kept)
    ends = list(accumulate(len(sheet.pairs) for sheet in sheets))
    parts = np.split(np.load(kept), ends[:-1])
    return [replace(sheet, taught=each) for sheet, each in zip(sheets, parts, strict=True)]


def _asked(teacher: Teacher, sheets: Sequence[Sheet], say: Say) -> Iterator[Doubles]:
    say(f"the teacher scores {sum(len(one.pairs) for one in sheets)} pairs, once")
    yield from scored(teacher.ready(), [sheet.labelled.search for sheet in sheets])


def scored(score: Score, searches: Sequence[JoinedSearch]) -> Iterator[Doubles]:
    """What is said of each search, some at a time, with a progress bar."""
    starts = range(0, len(searches), LISTS)
    for start in tqdm(starts, desc="teacher", disable=not sys.stderr.isatty()):
        yield from score(searches[start : start + LISTS])


def _bundle(folder: Path, threads: int) -> Score:
    return partial(as_served, Bundled(open_session(folder, threads=threads)))


def as_served(model: Model, searches: Sequence[JoinedSearch]) -> list[Doubles]:
    """The logits that a worker would order by: both stages, blended and calibrated."""
    logits = [one.logits for one in _judged(model, searches)]
    return [each for each in logits if each is not None]  # all: each has a query


def own_word(model: Model, searches: Sequence[JoinedSearch]) -> list[Doubles]:
    """The same, but 0 for all of a list of which a part is the base model's word and not its own:
    its items lie beyond what its pair model learned from."""
    return [
        one.logits if model.pairs is None or one.pair_share == 1.0 else 0.0 * one.logits
        for one in _judged(model, searches)
        if one.logits is not None  # of none: each has a query
    ]


def _judged(model: Model, searches: Sequence[JoinedSearch]) -> list[Judged]:
    searches = [spelled(replace(_whole(search), asked=None), model) for search in searches]
    readings = read(needed(searches, model), model)
    judged = [first_stage(search, readings, model) for search in searches]
    return list(second_stage(searches, judged, model))


def _whole(search: JoinedSearch) -> JoinedSearch:
    """A pair model is to read every candidate: there is no hurry."""
    return replace(search, dials=replace(search.dials, pair_candidates=len(search.entries)))


def _trained(folder: Path, base: Source, template: Template) -> Score:
    """What training left. Of a model that is not pooled by product this is what it adds to what its
    encoder's cosine says; a bundle says both."""
    trained = read_trained(folder, base)
    marks = trained.pair_template
    own = folder if (folder / "tokenizer.json").is_file() else base.folder
    written = msgspec.structs.replace(
        template,
        query_before=template.query_before or marks.query_before,
        item_before=template.item_before or marks.item_before,
    )
    return _of_pairs(trained.pair_model, PairTokenizer(own, base.max_tokens), written)


def _cross_encoder(folder: Path, template: Template) -> Score:
    try:
        with quiet():
            classifier: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise BundleError(folder, f"not a cross-encoder: {str(error).splitlines()[0]}") from error
    if classifier.config.num_labels != 1:
        raise BadRecipe(
            f"teacher.folder {str(folder)!r}: has {classifier.config.num_labels} labels, expected 1"
        )
    tokenizer = PairTokenizer(folder, max_tokens(folder))
    padded = classifier.config.pad_token_id is not None
    budget = TokenBudget() if padded else TokenBudget(rows=1)
    return _of_pairs(CrossEncoder(classifier), tokenizer, template, budget)


class CrossEncoder(torch.nn.Module):
    """A Hugging Face sequence classifier of one label, asked as a PairModel is."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.trunk = classifier

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[n, s] each -> [n] logits. A decoder's classifier finds the last token by what follows
        it, so what is padded has to be padding by name."""
        padding = self.trunk.config.pad_token_id
        if padding is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, padding)
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found: Tensor = self.trunk(input_ids, attention_mask=attention_mask, **more).logits[:, 0]
        return found


def _of_pairs(
    model: PairModel | CrossEncoder,
    tokenizer: PairTokenizer,
    template: Template,
    budget: TokenBudget | None = None,
) -> Score:
    """What a torch model says of each pair of texts, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    typed = "token_type_ids" in input_names(model.trunk)
    model.to(device).eval()

    @torch.inference_mode()
    def logits(batch: TokenBatch) -> Doubles:
        types = batch.token_type_ids if typed else None
        arrays = (batch.input_ids, batch.attention_mask, types)
        moved = (None if each is None else torch.from_numpy(each).to(device) for each in arrays)
        found: Doubles = model(*moved).double().cpu().numpy()
        return found

    def score(searches: Sequence[JoinedSearch]) -> list[Doubles]:
        sizes = [len(search.entries) for search in searches]
        pairs = [
            pair
            for search, size in zip(searches, sizes, strict=True)
            for pair in pair_texts(search, range(size), template)
        ]
        found = np.empty(len(pairs))
        for batch in pack_pairs(pairs, tokenizer, budget or TokenBudget()):
            found[list(batch.rows)] = logits(batch)
        return np.split(found, np.cumsum(sizes)[:-1])

    return score
