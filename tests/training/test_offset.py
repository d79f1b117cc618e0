"""Where a pair model begins: at what a cosine says of relevance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import Template
from export.models import PairModel
from export.onnx import load_trunk
from export.source import read_source
from export.tokenizer import PairTokenizer
from tests.export.models import save_base
from tests.training.lists import labelled_lists, vectors_of
from training.batches import Steps
from training.model import RankingModel
from training.offset import FIRST, begin_as_cosine, cosine_says
from training.recipe import Recipe
from training.sheets import Words, tokenised


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
    assert slope >= 0.0
    said, grades = [], []
    pair_model.eval()
    with torch.inference_mode():
        for index in range(min(FIRST, len(steps))):
            batch = steps[index]
            shown = batch.rows >= 0
            logits = RankingModel(pair_model, None)(batch).logits
            said += torch.sigmoid(logits[shown]).tolist()
            grades += batch.grades[shown].tolist()
    # A logistic fit with an intercept is right on average over what it was fitted on.
    assert np.mean(said) == pytest.approx(np.mean(grades), abs=5e-3)


def test_without_cosines_what_is_said_is_the_mean_grade(tmp_path: Path) -> None:
    lists = labelled_lists(20)
    base = save_base(tmp_path / "base", "bert")
    words = Words(Template(), Template(), PairTokenizer(base, 40), {}, ())
    slope, intercept = cosine_says(tokenised(lists, words))
    assert slope == 0.0
    mean = np.mean(np.concatenate([one.grades for one in lists]))
    assert 1.0 / (1.0 + np.exp(-intercept)) == pytest.approx(mean, abs=1e-3)
