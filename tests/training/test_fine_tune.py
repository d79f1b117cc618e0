"""Fine-tuning on small random models: it learns, survives kills, and export reads what it left."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]  # ships no types
    EventAccumulator,
)

from export.bundle import Template
from export.source import read_source
from export.tokenizer import PairTokenizer
from export.trained import read_trained
from tests.export.models import save_base
from tests.factories import candidate, event, joined
from tests.training.lists import CATEGORIES, labelled_list, labelled_lists, vectors_of
from tests.training.tuned import SMALL, silent, tuned
from training.batches import judging
from training.checkpoints import best_step
from training.dataset import LabelledList
from training.fine_tune import fine_tune
from training.model import RankingModel
from training.recipe import Recipe
from training.sheets import Words, tokenised
from training.trainer import TrainingFailed, judged
from training.tuning import BadRecipe
from worker.events import HistoryEntry, Item
from worker.ranking.join import Tables
from worker.ranking.model import Doubles


def test_the_seed_alone_decides(base: Path, tmp_path: Path) -> None:
    first, again = (tuned({"max_steps": 6}, base, tmp_path / name) for name in "ab")
    other = tuned({"max_steps": 6, "seed": 4}, base, tmp_path / "c")
    assert first.losses == again.losses != other.losses


def test_early_stopping_keeps_the_best_weights(base: Path, tmp_path: Path) -> None:
    dials = {"patience": 1, "epochs": 8, "evaluate_steps": 2, "learning_rate": 3e-2}
    trained = tuned(dials, base, tmp_path / "run")
    scores = {one["step"]: one["ndcg"] for one in trained.losses if "ndcg" in one}
    assert trained.best_step == max(scores, key=lambda step: (scores[step], -step))
    assert trained.steps < 8 * 20
    dev = labelled_lists(12, first=1000)
    found = read_trained(Path(trained.folder), read_source(base, "base"))
    known = vectors_of([*labelled_lists(50), *dev], queries=True)
    words = Words(Template(), Template(), PairTokenizer(base, 40), known, CATEGORIES)
    batches = list(judging(tokenised(dev, words), Recipe(**SMALL), typed=True))
    model = RankingModel(found.pair_model, None)
    assert judged(model, batches, Recipe())["ndcg"] == pytest.approx(max(scores.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], (0, 0)),
        ([0.5], (5, 0)),
        ([0.5, 0.7, 0.6], (10, 1)),
        ([0.7, 0.7, 0.6], (5, 2)),
    ],
)
def test_the_best_step_is_the_first_of_the_best(
    scores: list[float], expected: tuple[int, int]
) -> None:
    history: list[dict[str, float]] = [{"loss": 1.0, "step": 1}]
    history += [{"ndcg": each, "step": 5 * at} for at, each in enumerate(scores, start=1)]
    assert best_step(history) == expected


def overfitted(base: Path, out: Path, grades: Doubles, **dials: Any) -> list[float]:
    """The grades of one list in the order that a model gives after learning it by heart."""
    one = labelled_list(3, len(grades), user_query="wool hat")
    lists = [LabelledList(one.search, grades, np.ones(len(grades)))] * 8
    by_heart = {"epochs": 16, "dropout": 0.0, "learning_rate": 3e-3, "head_learning_rate": 0.1}
    recipe = Recipe(**{**SMALL, **by_heart, "max_tokens": 64, **dials})
    trained = fine_tune(recipe, base, lists, [], {}, (), out, silent)
    model = read_trained(Path(trained.folder), read_source(base, "base"))
    words = Words(model.pair_template, model.pair_template, PairTokenizer(base, 40), {}, ())
    (batch,) = judging(tokenised(lists[:1], words), recipe, typed=True)
    with torch.inference_mode():
        logits = RankingModel(model.pair_model, None)(batch).logits[0]
    found: list[float] = grades[logits.argsort(descending=True).numpy()].tolist()
    return found


@pytest.mark.parametrize("loss", ["bce", "listnet", "lambda"])
def test_one_list_can_be_learned_by_heart_and_so_can_its_opposite(
    base: Path, tmp_path: Path, loss: str
) -> None:
    grades = np.array([0.0, 1.0, 0.3, 0.6])
    for name, worth in (("as it is", grades), ("opposite", 1 - grades)):
        found = overfitted(base, tmp_path / name, worth, loss=loss)
        assert found == sorted(worth.tolist(), reverse=True)


@pytest.mark.parametrize(("history", "learned"), [(1, True), (0, False)])
def test_what_the_query_does_not_tell_the_users_past_can(
    base: Path, tmp_path: Path, history: int, learned: bool
) -> None:
    """Two users ask the same in the same words; each wants what the other does not."""
    titles = {"h": "wool hat", "r": "rain coat"}
    catalogue = Tables(catalogue={name: Item(item_id=name, title=titles[name]) for name in titles})
    items = [candidate("1", title="red hat"), candidate("2", title="blue coat")]
    lists = []
    for name, grades in (("h", [1.0, 0.0]), ("r", [0.0, 1.0])):
        done = (HistoryEntry(item_id=name, action_name="purchase"),)
        search = joined(event(items, user_query="gift", history=done), catalogue)
        lists.append(LabelledList(search, np.array(grades), np.ones(2)))
    by_heart = {"epochs": 16, "dropout": 0.0, "learning_rate": 3e-3, "head_learning_rate": 0.1}
    recipe = Recipe(**{**SMALL, **by_heart, "max_tokens": 64})
    template = Template(history=history)
    trained = fine_tune(recipe, base, lists * 8, [], {}, (), tmp_path / "r", silent, template)
    model = read_trained(Path(trained.folder), read_source(base, "base"))
    words = Words(Template(), template, PairTokenizer(base, 40), {}, ())
    (batch,) = judging(tokenised(lists, words), recipe, typed=True)
    with torch.inference_mode():
        logits = RankingModel(model.pair_model, None)(batch).logits
    assert (logits.argmax(dim=1).tolist() == batch.grades.argmax(dim=1).tolist()) == learned


def test_the_category_head_learns_what_events_name(base: Path, tmp_path: Path) -> None:
    lists = []
    for one in labelled_lists(40):
        entries = one.search.entries
        named = [
            msgspec.structs.replace(
                entry.item, category="shoes" if "shoe" in (entry.item.title or "") else "hats"
            )
            for entry in entries
        ]
        event = msgspec.structs.replace(one.search.event, candidates=tuple(named))
        lists.append(LabelledList(joined(event), one.grades, one.weights))
    recipe = Recipe(**{**SMALL, "epochs": 3, "category_learning_rate": 0.2})
    trained = fine_tune(
        recipe, base, lists, lists[:10], vectors_of(lists), CATEGORIES, tmp_path / "run", silent
    )
    assert trained.losses[-1]["accuracy"] > 0.9


def test_products_are_refused_where_tokens_have_no_types(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "roberta")
    with pytest.raises(BadRecipe, match="pooling product: base does not tell a query's tokens"):
        tuned({"max_steps": 1, "pooling": "product"}, base, tmp_path / "run")


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", "product"), ("qwen3", "last"), ("roberta", "mean")]
)
def test_other_families_are_tuned_and_read_by_export(
    tmp_path: Path, family: str, pooling: str
) -> None:
    base = save_base(tmp_path / "base", family)
    trained = tuned({"max_steps": 2}, base, tmp_path / "run")
    model = read_trained(Path(trained.folder), read_source(base, "base"))
    assert model.pair_model.pooling == pooling
    assert model.categories == CATEGORIES
    assert model.head is not None


def test_another_training_can_go_on_from_an_earlier_one(base: Path, tmp_path: Path) -> None:
    first = tuned({"max_steps": 4}, base, tmp_path / "first")
    lists = labelled_lists(10)
    recipe = Recipe(
        **{**SMALL, "max_steps": 1, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    )
    second = fine_tune(
        recipe, base, lists, [], {}, (), tmp_path / "second", silent, start=Path(first.folder)
    )
    was, is_ = (load_file(Path(each.folder) / "model.safetensors") for each in (first, second))
    for name, each in was.items():
        torch.testing.assert_close(is_[name], each, atol=1e-6, rtol=0)


def test_tensorboard_finds_the_curves(base: Path, tmp_path: Path) -> None:
    trained = tuned({"diversity_weight": 0.2}, base, tmp_path / "run")
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    names = {"train/loss", "train/relevance", "train/diversity", "train/category", "dev/ndcg"}
    assert names <= set(curves.Tags()["scalars"])
    drawn = [(point.step, point.value) for point in curves.Scalars("train/loss")]
    logged = [(one["step"], one["loss"]) for one in trained.losses if "loss" in one]
    assert drawn == [(step, pytest.approx(loss)) for step, loss in logged]


def test_plain_lines_tell_how_far_it_is(base: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    tuned({"max_steps": 6}, base, tmp_path / "run", heard.append)
    assert heard[0] == "reading 50 lists to learn from and 12 to watch"
    assert any(line.startswith("step 6 of 6: loss ") for line in heard)
    assert any(line.startswith("step 6 of 6: ndcg ") for line in heard)


@pytest.mark.parametrize(
    ("dials", "lists", "dev", "why"),
    [
        ({}, [], [], "nothing to learn"),
        ({"patience": 1}, labelled_lists(2), [], "no dev lists"),
        ({"learning_rate": 1e30}, labelled_lists(20), [], "expected a number"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_reason(
    base: Path,
    tmp_path: Path,
    dials: dict[str, Any],
    lists: list[LabelledList],
    dev: list[LabelledList],
    why: str,
) -> None:
    recipe = Recipe(**{**SMALL, **dials})
    with pytest.raises(TrainingFailed, match=why):
        fine_tune(recipe, base, lists, dev, {}, (), tmp_path / "run", silent)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("dials", "why"),
    [
        ({"max_list": 64}, "max_list 64: expected at most pairs_per_step 32"),
        ({"checkpoint_steps": 15}, "checkpoint_steps 15: expected a multiple of log_steps 10"),
        ({"diversity_weight": 1.5}, "<= 1.0"),
        ({"patience": 0}, ">= 1"),
        ({"loss": "hinge"}, "hinge"),
        ({"speed": 1}, "unknown field `speed`"),
        ({"interpolate": 0.5, "tuning": "adapters"}, "expected 1 with tuning adapters"),
        ({"average": 0.9, "tuning": "adalora"}, "expected 0 with tuning adalora"),
    ],
)
def test_a_recipe_checks_itself(dials: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(dials, Recipe)


def test_a_tokenizer_without_types_is_not_read_by_products(tmp_path: Path) -> None:
    """Some bases have the embeddings of two types, and a tokenizer that never writes the second."""
    base = save_base(tmp_path / "base", "bert")
    words = json.loads((base / "tokenizer.json").read_text())
    for special in words["post_processor"]["pair"]:
        next(iter(special.values()))["type_id"] = 0
    (base / "tokenizer.json").write_text(json.dumps(words))
    trained = tuned({"max_steps": 1}, base, tmp_path / "run")
    model = read_trained(Path(trained.folder), read_source(base, "base"))
    assert model.pair_model.pooling == "mean"


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_weights_and_biases_are_asked_for_by_name(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="report_to wandb: expected wandb to be installed"):
        tuned({"report_to": "wandb"}, base, tmp_path / "run")
    assert "WANDB_MODE" not in os.environ  # a refusal leaves nothing to the processes after it
