"""What a cosine says, on grades that were drawn from a known slope, and where a model begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # ships no types

from export.bundle import Template
from export.models import PairModel
from export.onnx import load_trunk
from export.source import read_source
from export.tokenizer import PairTokenizer
from tests.export.models import save_base
from tests.training.lists import labelled_list, labelled_lists, vectors_of
from training.batches import Steps
from training.model import RankingModel
from training.offset import FIRST, begin_as_cosine, cosine_says
from training.recipe import Recipe
from training.sheets import Sheet, Words, tokenised
from worker.ranking.model import Doubles


def sheet(cosine: Doubles, grades: Doubles, weights: Doubles | None = None) -> Sheet:
    """A sheet of which only these columns matter."""
    count = len(cosine)
    one = np.ones(count) if weights is None else weights
    whole = np.zeros(count, dtype=np.int64)
    return Sheet(
        labelled=labelled_list(1, 2),
        pairs=(),
        widths=whole,
        grades=grades.astype(np.float32),
        weights=one.astype(np.float32),
        cosine=cosine.astype(np.float32),
        known=whole,
        vectors=np.empty((count, 0), dtype=np.float32),
    )


def drawn(slope: float, intercept: float, count: int = 4000) -> tuple[Doubles, Doubles]:
    chance = np.random.default_rng(2)
    cosine = chance.uniform(-0.2, 0.9, count)
    relevant = chance.random(count) < 1 / (1 + np.exp(-(slope * cosine + intercept)))
    return cosine, relevant.astype(np.float64)


def test_the_slope_is_that_of_scikit_learn() -> None:
    cosine, grades = drawn(4.0, -1.0)
    theirs = LogisticRegression(C=np.inf).fit(cosine.reshape(-1, 1), grades)
    slope, intercept = cosine_says([sheet(cosine, grades)])
    assert slope == pytest.approx(theirs.coef_[0, 0], rel=0.02)
    assert intercept == pytest.approx(theirs.intercept_[0], rel=0.02)


def test_a_cosine_that_misleads_or_is_not_there_says_the_mean_grade() -> None:
    cosine, grades = drawn(-4.0, 1.0)
    prior = float(torch.logit(torch.tensor(grades.mean())))
    for misleading in (cosine, np.zeros_like(cosine)):
        slope, intercept = cosine_says([sheet(misleading, grades)])
        assert slope == 0.0
        assert intercept == pytest.approx(prior, abs=1e-5)


def test_what_counts_nothing_says_nothing() -> None:
    cosine, grades = drawn(4.0, -1.0)
    silent = sheet(cosine, 1 - grades, np.zeros(len(cosine)))
    plain = cosine_says([sheet(cosine, grades)])
    assert cosine_says([sheet(cosine, grades), silent]) == pytest.approx(plain)


@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_grades_that_are_all_the_same_stay_finite(grade: float) -> None:
    cosine, _ = drawn(1.0, 0.0, 50)
    assert np.isfinite(cosine_says([sheet(cosine, np.full(50, grade))])).all()


def test_a_model_of_products_begins_as_a_cosine_that_is_calibrated(tmp_path: Path) -> None:
    lists = labelled_lists(30)
    base = save_base(tmp_path / "base", "bert")
    source = read_source(base, "base")
    pair_model = PairModel(load_trunk(source), "product")
    words = Words(Template(), Template(), PairTokenizer(base, 40), vectors_of(lists), ())
    steps = Steps(tokenised(lists, words), words, Recipe(pairs_per_step=8, max_list=4), typed=True)
    begin_as_cosine(pair_model, steps)
    weight = pair_model.head.weight.detach()
    slope = float(weight[0, 0])
    assert torch.equal(weight, torch.full_like(weight, slope))
    assert slope > 0.0
    pair_model.eval()
    cosines, logits, grades = [], [], []
    with torch.inference_mode():
        for index in range(min(FIRST, len(steps))):
            batch = steps[index]
            shown = batch.rows >= 0
            pooled = pair_model.pooled(batch.input_ids, batch.attention_mask, batch.token_type_ids)
            root = pooled.shape[1] ** 0.5
            cosines += (pooled.sum(1) / root)[batch.rows[shown]].tolist()
            logits += RankingModel(pair_model, None)(batch).logits[shown].tolist()
            grades += batch.grades[shown].tolist()
    bias = float(pair_model.head.bias.detach())
    assert logits == pytest.approx([slope * root * each + bias for each in cosines], abs=1e-4)
    # A logistic fit with an intercept is right on average over what it was fitted on.
    said = 1.0 / (1.0 + np.exp(-np.array(logits)))
    assert np.mean(said) == pytest.approx(np.mean(grades), abs=5e-3)
