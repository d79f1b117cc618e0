"""What each token, word and field of a pair adds to the pair model's logit: integrated gradients.

Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks", equation 1: along the
straight line from a baseline to what was read, the gradient times the way. They add up to the logit
less the baseline's (their proposition 1, completeness), but for the error of the quadrature. It
needs gradients, so it reads the trained weights that lie in a bundle, not its graph; and it tells
of the pair model alone, where `training.reasons` tells of the relevance that is served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from export.bundle import BundleError, Template
from export.draft import WEIGHTS
from export.models import PairModel
from export.onnx import input_names
from export.session import Session
from export.trained import read_folder
from training.parts import PAST, QUERY, Pair, Part, pieces, text_of
from worker.ranking.model import Doubles
from worker.ranking.spelling import spelled
from worker.ranking.text import Fields, pair_texts

STEPS: Final = 32  # points of the quadrature
Range: TypeAlias = tuple[Part, int, int]  # where a part stands in its text: from, to


@dataclass(frozen=True, slots=True)
class Attributed:
    """A pair, and what its parts add: `values` and `rest` add up to about whole - nothing."""

    parts: tuple[Part, ...]
    values: Doubles  # [n] logits
    rest: float  # what stands between the parts
    nothing: float  # the logit of the baseline
    whole: float  # that of the pair

    def by_field(self) -> dict[str, float]:
        """What each field of the item, the query and the past add as wholes."""
        found: dict[str, float] = {}
        for part, value in zip(self.parts, self.values.tolist(), strict=True):
            found[part.field] = found.get(part.field, 0.0) + value
        return found


class Gradients:
    """The trained pair model of an open bundle or draft."""

    def __init__(self, session: Session, steps: int = STEPS) -> None:
        """BundleError where the bundle has no pair model, or was drafted without its weights."""
        self._template = session.manifest.pair_template
        if session.pair_tokenizer is None or not (session.folder / WEIGHTS).is_dir():
            raise BundleError(session.folder, f"no trained pair model in {WEIGHTS}: no gradients")
        self._tokenizer = session.pair_tokenizer
        self._model = read_folder(session.folder / WEIGHTS).pair_model.requires_grad_(False)
        self._typed = "token_type_ids" in input_names(self._model.trunk)
        self._steps = steps

    def of(self, pair: Pair) -> Attributed:
        """What each word adds; where a text was cut, what is left of it."""
        assert self._template is not None, "a pair model has its template: a bug"
        pair = replace(pair, search=spelled(pair.search, pair.model))
        ((query, item),) = pair_texts(pair.search, (pair.row,), self._template)
        tokens, spans = self._tokenizer.spans((query, item))
        types = torch.tensor([tokens.types]) if self._typed else None
        read = torch.tensor([span is not None for span in spans])
        found = integrated(self._model, torch.tensor([tokens.ids]), read, types, self._steps)
        ranges = (list(_asked(pair, self._template)), list(_shown(pair, self._template)))
        added: dict[Part, float] = {part: 0.0 for each in ranges for part, _, _ in each}
        rest = 0.0
        for span, value in zip(spans, found.values.tolist(), strict=True):
            part = None if span is None else _part(ranges[span.text], span.start, span.end)
            if part is None:
                rest += value
            else:
                added[part] += value
        values = np.array(list(added.values()))
        return Attributed(tuple(added), values, rest, found.nothing, found.whole)


@dataclass(frozen=True, slots=True)
class Integrated:
    """Of one row of tokens."""

    values: Doubles  # [s] logits
    nothing: float
    whole: float


def integrated(
    model: PairModel, ids: Tensor, read: Tensor, types: Tensor | None = None, steps: int = STEPS
) -> Integrated:
    """[1, s], [s], [1, s] -> what each token adds to the logit.

    The baseline has the padding's word vector (where a base has none, a vector of zeros) for every
    token that was `read`; the others, the base's own marks, stay and add nothing. Where that vector
    is all zeros and a norm by the root mean square comes next, the logit jumps there, and the sum
    misses what it jumps by.
    """
    from captum.attr import IntegratedGradients  # half a second, and only an explanation needs it

    embedding: Any = model.trunk.get_input_embeddings()
    padding = model.trunk.config.pad_token_id
    zero = torch.zeros(embedding.embedding_dim)
    nothing = zero if padding is None else embedding(torch.tensor(padding))
    given = embedding(ids).detach()
    baseline = torch.where(read[:, None], nothing, given)

    def logits(vectors: Tensor) -> Tensor:
        rows = [len(vectors), -1]
        handle = embedding.register_forward_hook(lambda *_: vectors)
        try:
            mask = torch.ones_like(ids).expand(rows)
            found: Tensor = model(
                ids.expand(rows), mask, None if types is None else types.expand(rows)
            )
        finally:
            handle.remove()
        return found

    along = IntegratedGradients(logits, multiply_by_inputs=True)
    found = along.attribute(given, baseline, n_steps=steps, method="gausslegendre")
    ends = logits(torch.cat([baseline, given])).double()
    values = found.double().sum(-1)[0].numpy()
    return Integrated(values, float(ends[0]), float(ends[1]))


def _asked(pair: Pair, template: Template) -> Iterator[Range]:
    """The words of the query in its text, and what the user did behind them."""
    at = len(template.query_before)
    query = pair.search.query
    yield from _words(QUERY, query, at)
    if pair.search.history and template.history:
        yield Part(PAST, "", 0), at + len(query), 1 << 30


def _shown(pair: Pair, template: Template) -> Iterator[Range]:
    """The words of the item's texts in its text; of what is no text, the whole."""
    at, known = len(template.item_before), Fields(pair.item)
    for segment in template.item:
        text = text_of(pair.item, segment.field)[: segment.longest or None]
        if not text.strip():
            continue
        at += len(segment.before)
        if isinstance(known.get(segment.field), str):
            yield from _words(segment.field, text, at)
        else:
            yield Part(segment.field, "", 0), at, at + len(text)
        at += len(text) + len(segment.after)


def _words(field: str, text: str, at: int) -> Iterator[Range]:
    for place, piece in enumerate(pieces(text)):
        yield Part(field, piece.strip(), place), at, at + len(piece)
        at += len(piece)


def _part(ranges: list[Range], start: int, end: int) -> Part | None:
    """The part that a token of these characters is of: the one that it has most of."""
    shared = [(min(end, to) - max(start, since), part) for part, since, to in ranges]
    most, found = max(shared, key=lambda each: each[0], default=(0, None))
    return found if most > 0 else None
