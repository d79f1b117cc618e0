"""Teachers of every kind say what they would say elsewhere, once, and a student comes to agree."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import kendalltau
from sentence_transformers import CrossEncoder as TheirCrossEncoder
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from export.bundle import Template
from export.session import open_session
from export.source import read_source
from export.tokenizer import PairTokenizer
from export.trained import read_trained
from tests.export.models import SMALL as VOCABULARY
from tests.export.models import decoder_tokenizer, save_trained, tokenizer
from tests.training.conftest import Made
from tests.training.lists import labelled_lists, vectors_of
from tests.training.tuned import SMALL, silent
from training.batches import Steps
from training.checkpoints import TAUGHT
from training.dataset import LabelledList
from training.fine_tune import Trained, fine_tune
from training.recipe import Recipe
from training.sheets import Words, tokenised
from training.sources import CHAMPION, Teacher
from training.teachers import find_teacher, taught
from training.tuning import BadRecipe
from worker.ranking.bundled import Bundled
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Model
from worker.ranking.rerank import rerank
from worker.ranking.text import pair_texts

LARGE: dict[str, Any] = {
    **VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}


def save_cross_encoder(folder: Path, causal: bool = False, **config: Any) -> Path:
    """A random sequence classifier, larger than any student here, with its tokenizer."""
    torch.manual_seed(5)
    shape = {**LARGE, "num_labels": 1, **config}
    model: Any
    if causal:
        model = LlamaForSequenceClassification(LlamaConfig(**shape, num_key_value_heads=2))
    else:
        model = BertForSequenceClassification(BertConfig(**shape))
    model.save_pretrained(folder)
    (decoder_tokenizer() if causal else tokenizer()).save(str(folder / "tokenizer.json"))
    inputs = ("input_ids", "attention_mask", *(() if causal else ("token_type_ids",)))
    names = {"model_max_length": 128, "pad_token": "[PAD]", "model_input_names": inputs}
    names["tokenizer_class"] = "TokenizersBackend"
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("teacher") / "large")


def said(folder: str | Path, base: Path, champion: Model | None = None) -> list[Doubles]:
    """What the teacher in a folder says of some lists."""
    recipe = Recipe(teacher=Teacher(folder=str(folder)), threads=1)
    teacher = find_teacher(recipe, read_source(base, "base"), Template(), champion)
    assert teacher is not None
    return teacher.ready()(searches())


def searches() -> list[JoinedSearch]:
    return [one.search for one in labelled_lists(12)]


def pairs() -> list[tuple[str, str]]:
    """Every pair of them, as texts."""
    return [
        pair
        for search in searches()
        for pair in pair_texts(search, range(len(search.entries)), Template())
    ]


def test_a_cross_encoder_says_what_it_says_to_sentence_transformers(
    cross_encoder: Path, base: Path
) -> None:
    theirs = TheirCrossEncoder(str(cross_encoder), device="cpu", local_files_only=True)
    expected = theirs.predict(pairs(), activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(np.concatenate(said(cross_encoder, base)), expected, atol=1e-4)


@pytest.mark.parametrize("padding", [1, None])
def test_a_decoder_teaches_too_whether_or_not_it_names_its_padding(
    base: Path, tmp_path: Path, padding: int | None
) -> None:
    folder = save_cross_encoder(tmp_path / "large", causal=True, pad_token_id=padding)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = PairTokenizer(folder, 128)(pairs())
    with torch.inference_mode():
        alone = [float(model(torch.tensor([ids])).logits[0, 0]) for ids, _ in tokens]
    np.testing.assert_allclose(np.concatenate(said(folder, base)), alone, atol=1e-4)


def test_a_trained_model_says_what_it_says_of_each_pair_alone(base: Path, tmp_path: Path) -> None:
    folder = save_trained(tmp_path / "trained", base, "product")
    model = read_trained(folder, read_source(base, "base")).pair_model
    tokens = PairTokenizer(base, 40)(pairs())
    with torch.inference_mode():
        alone = [
            float(model(torch.tensor([ids]), torch.ones(1, len(ids)), torch.tensor([types])))
            for ids, types in tokens
        ]
    np.testing.assert_allclose(np.concatenate(said(folder, base)), alone, atol=1e-4)


def test_a_bundle_says_what_it_serves_and_so_does_the_champion(
    first_round: Made, base: Path, tmp_path: Path
) -> None:
    ended = first_round.round(1).outcome()
    assert ended is not None
    bundle = first_round.registry.fetch(ended.bundle, tmp_path)
    model = Bundled(open_session(bundle, device="cpu"))
    assert model.pairs is not None
    found = said(bundle, base)
    for search, logits, ranked in zip(searches(), found, rerank(searches(), model), strict=True):
        served = {item.item_id: item.relevance for item in ranked.items}
        chances = 1.0 / (1.0 + np.exp(-logits))
        for entry, chance in zip(search.entries, chances, strict=True):
            assert served.get(entry.item.item_id, chance) == pytest.approx(chance, abs=1e-4)
    for one, again in zip(found, said(CHAMPION, base, model), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("nowhere", "expected a folder with a bundle's manifest.json"),
        (CHAMPION, "nothing serves here"),
        ("two labels", "has 2 labels, expected 1"),
        ("no numbers", "logits: .* are not finite"),
    ],
)
def test_who_cannot_teach_is_refused_with_the_reason(
    base: Path, tmp_path: Path, folder: str, why: str
) -> None:
    save_cross_encoder(tmp_path / "two labels", num_labels=2)
    save_cross_encoder(tmp_path / "no numbers", initializer_range=1e30)
    named = folder if folder == CHAMPION else str(tmp_path / folder)
    with pytest.raises(BadRecipe, match=why):
        learned({"teacher": {"folder": named}}, base, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def without_grades(count: int) -> list[LabelledList]:
    """Lists whose grades say nothing: what is learned of an order, the teacher said."""
    return [replace(one, grades=np.full(len(one.grades), 0.5)) for one in labelled_lists(count)]


def learned(
    dials: dict[str, Any], base: Path, out: Path, say: Any = silent, count: int = 40
) -> Trained:
    recipe = msgspec.convert({**SMALL, **dials}, Recipe)
    lists = without_grades(count)
    return fine_tune(recipe, base, lists, [], vectors_of(lists, queries=True), (), out, say)


def test_the_scores_stay_beside_their_items_through_cuts_and_padding(
    cross_encoder: Path, base: Path, tmp_path: Path
) -> None:
    recipe = Recipe(**{**SMALL, "max_list": 2}, teacher=Teacher(folder=str(cross_encoder)))
    lists = without_grades(40)
    words = Words(Template(), Template(), PairTokenizer(base, 40), vectors_of(lists), ())
    teacher = find_teacher(recipe, read_source(base, "base"), Template(), None)
    assert teacher is not None
    sheets = taught(teacher, tokenised(lists, words), tmp_path / TAUGHT, silent)
    known = {
        tuple(ids): score
        for sheet in sheets
        if sheet.taught is not None
        for (ids, _), score in zip(sheet.pairs, sheet.taught.tolist(), strict=True)
    }
    for batch in map(Steps(sheets, words, recipe, typed=True).__getitem__, range(4)):
        assert batch.taught is not None
        for row, score in zip(batch.rows.flatten(), batch.taught.flatten(), strict=True):
            ids = batch.input_ids[row][batch.attention_mask[row] > 0] if row >= 0 else None
            assert float(score) == (0.0 if ids is None else known[tuple(ids.tolist())])


@pytest.mark.parametrize("loss", ["margin_mse", "kl"])
def test_a_student_comes_to_order_as_a_larger_teacher_does(
    cross_encoder: Path, base: Path, tmp_path: Path, loss: str
) -> None:
    teacher = {"folder": str(cross_encoder), "loss": loss, "weight": 1.0}
    dials = {"teacher": teacher, "epochs": 20, "dropout": 0.0, "learning_rate": 3e-3}
    wanted = said(cross_encoder, base)

    def agreement(folder: Path) -> float:
        found = said(folder, base)
        several = [each for each in zip(found, wanted, strict=True) if len(each[0]) > 1]
        taus = [kendalltau(*each).statistic for each in several]
        return float(np.nan_to_num(taus).mean())  # one that says the same of all agrees with nobody

    before = learned({"max_steps": 1}, base, tmp_path / "before", count=12)
    after = learned(dials, base, tmp_path / "after", count=12)
    assert agreement(Path(before.folder)) < 0.4
    assert agreement(Path(after.folder)) > 0.7
    parts = [row for row in after.losses if "distilled" in row]
    assert parts[-1]["loss"] == pytest.approx(parts[-1]["distilled"])


def test_a_teacher_is_asked_once_whatever_kills_the_run(
    cross_encoder: Path, base: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def until(begins: str, heard: list[str], line: str) -> None:
        heard.append(line)
        if line.startswith(begins):
            raise Killed

    dials = {"teacher": {"folder": str(cross_encoder)}, "average": 0.5}
    whole = learned(dials, base, tmp_path / "whole")
    heard: list[str] = []
    count = sum(len(one.grades) for one in without_grades(40))
    asked = f"the teacher scores {count} pairs, once"
    with pytest.raises(Killed):
        learned(dials, base, tmp_path / "cut", partial(until, "step 2 ", heard))
    with pytest.raises(Killed):
        learned(dials, base, tmp_path / "cut", partial(until, "step 10 ", heard))
    resumed = learned(dials, base, tmp_path / "cut", heard.append)
    assert heard.count(asked) == 1
    assert "going on from checkpoint-8" in heard
    assert resumed.losses == whole.losses
    weights = [load_file(Path(one.folder) / "model.safetensors") for one in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not (tmp_path / "cut" / TAUGHT).exists()
