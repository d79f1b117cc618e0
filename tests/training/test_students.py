"""A student has some of its base's layers, and of these everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    Qwen3Config,
    Qwen3Model,
    SmolLM3Config,
    SmolLM3Model,
)

from export.draft import TrainedOrder, draft
from export.models import hidden
from export.onnx import load_trunk
from export.session import open_session
from export.source import read_source
from export.trained import read_folder
from tests.export.models import SMALL as VOCABULARY
from tests.export.models import save_trained
from tests.training.lists import labelled_lists
from tests.training.tuned import silent, tuned
from training.beginning import first_model
from training.recipe import Recipe
from training.sharing import Shared
from training.students import kept, thin
from training.tuning import BadRecipe, layers
from worker.ranking.bundled import Bundled
from worker.ranking.rerank import rerank

SIZES: dict[str, Any] = {
    **VOCABULARY,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
DEPTH = 5


def model(family: str, depth: int = DEPTH) -> Any:
    """A random trunk so deep."""
    torch.manual_seed(3)
    if family == "distilbert":
        shape = {"dim": 32, "n_layers": depth, "n_heads": 2, "hidden_dim": 64}
        return DistilBertModel(DistilBertConfig(**VOCABULARY, **shape)).eval()
    if family == "smollm3":  # three of four layers turn by place, and a list says which
        own = {"num_key_value_heads": 1, "initializer_range": 0.3, "num_hidden_layers": depth}
        return SmolLM3Model(SmolLM3Config(**SIZES, **own)).eval()
    if family == "qwen3":
        heads = {"num_key_value_heads": 1, "head_dim": 16}
        return Qwen3Model(Qwen3Config(**SIZES, **heads, num_hidden_layers=depth)).eval()
    config, made = {
        "bert": (BertConfig, BertModel),
        "modernbert": (ModernBertConfig, ModernBertModel),
    }[family]
    special = {"cls_token_id": 0, "sep_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
    known = special if family == "modernbert" else {}
    return made(config(**SIZES, **known, num_hidden_layers=depth)).eval()


def states(trunk: Any) -> torch.Tensor:
    """What it makes of three texts."""
    ids = torch.arange(24).reshape(3, 8) + 4
    with torch.inference_mode():
        return hidden(trunk, ids, torch.ones_like(ids))


@given(some.integers(1, 48), some.data())
def test_layers_are_kept_in_order_and_spread_evenly_between_the_first_and_the_last(
    depth: int, data: Any
) -> None:
    count = data.draw(some.integers(1, depth))
    found = kept(depth, count)
    assert len(found) == count
    assert found[0] == 0
    if count > 1:
        gaps = np.diff(found)
        assert found[-1] == depth - 1
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
    if count == depth:
        assert found == tuple(range(depth))


def test_of_twelve_layers_those_of_distilbert_are_kept() -> None:
    assert kept(12, 6) == (0, 2, 4, 7, 9, 11)  # transformers' research project, distillation


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "qwen3", "smollm3"])
def test_a_student_is_the_same_when_it_is_made_anew_from_its_own_config(
    family: str, tmp_path: Path
) -> None:
    trunk = model(family)
    thin(trunk, 3)
    trunk.config.to_json_file(tmp_path / "config.json")
    again = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path))
    again.load_state_dict(trunk.state_dict())
    assert len(layers(again)) == 3
    assert torch.equal(states(again.eval()), states(trunk))


def test_a_student_that_its_config_does_not_tell_of_is_refused() -> None:
    trunk = model("smollm3", 8)
    trunk.config.no_rope_layers = trunk.config.no_rope_layers[::-1]  # not what was built
    with pytest.raises(BadRecipe, match="layers 3: without some of its layers SmolLM3Model is not"):
        thin(trunk, 3)


def test_layers_that_stay_keep_their_very_weights_and_nothing_else_changes() -> None:
    trunk = model("bert")
    before = dict(trunk.named_parameters())
    thin(trunk, 3)
    after = dict(trunk.named_parameters())
    for place, was in enumerate(kept(DEPTH, 3)):
        mine, old = f"encoder.layer.{place}.", f"encoder.layer.{was}."
        assert all(
            each is before[name.replace(mine, old)]
            for name, each in after.items()
            if name.startswith(mine)
        )
    rest = [name for name in before if ".layer." not in name]
    assert all(after[name] is before[name] for name in rest)


def test_all_layers_are_the_trunk_as_it_was() -> None:
    trunk, whole = model("bert"), model("bert")
    thin(trunk, DEPTH)
    assert torch.equal(states(trunk), states(whole))


def test_more_layers_than_there_are_or_shared_ones_are_refused_by_name() -> None:
    with pytest.raises(BadRecipe, match=r"layers 6: expected at most 5.*nothing was trained"):
        thin(model("bert"), 6)
    shared = AlbertModel(AlbertConfig(**SIZES, embedding_size=16, num_hidden_layers=4))
    with pytest.raises(BadRecipe, match="layers 2: the base has 4 layers and weights of 1"):
        thin(shared, 2)


def test_no_layer_is_no_student() -> None:
    with pytest.raises(msgspec.ValidationError, match=r">= 1 - at `\$.layers`"):
        msgspec.convert({"layers": 0}, Recipe)


def test_a_student_is_taught_exported_and_served_with_the_encoder_of_its_base(
    base: Path, tmp_path: Path
) -> None:
    whole = tuned({"max_steps": 4}, base, tmp_path / "whole")
    teacher = {"folder": whole.folder, "weight": 0.5}
    dials = {"max_steps": 4, "layers": 1, "teacher": teacher}
    student = tuned(dials, base, tmp_path / "student")
    assert all(one["distilled"] > 0.0 for one in student.losses if "loss" in one)
    bundles = []
    for trained in (whole, student):
        out = Path(trained.folder).parent / "bundle"
        draft(TrainedOrder(base=str(base), trained=Path(trained.folder)), out, silent)
        bundles.append(out)
    encoders, pairs = (
        [(each / "onnx" / name).stat().st_size for each in bundles]
        for name in ("encoder.onnx", "model.onnx")
    )
    assert encoders[0] == encoders[1]
    assert pairs[1] < 0.8 * pairs[0]
    assert len(layers(read_folder(bundles[1] / "weights").pair_model.trunk)) == 1
    search = labelled_lists(3)[2].search
    found = rerank([search], Bundled(open_session(bundles[1], device="cpu")))[0]
    assert found.model is not None
    assert len(found.items) == len(search.entries)


def test_asking_for_all_layers_gives_the_very_weights_of_not_asking(
    base: Path, tmp_path: Path
) -> None:
    plain, asked = (
        tuned({"max_steps": 4, **dials}, base, tmp_path / name)
        for name, dials in {"plain": {}, "asked": {"layers": 2}}.items()
    )
    assert plain.losses == asked.losses
    weights = [Path(each.folder) / "model.safetensors" for each in (plain, asked)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_student_may_begin_with_some_of_the_layers_of_an_earlier_training(
    base: Path, tmp_path: Path
) -> None:
    start = save_trained(tmp_path / "earlier", base, "product")
    source = read_source(base, "base")
    student = first_model(Recipe(layers=1), source, (), start).pair_model
    earlier = read_folder(start).pair_model
    mine, theirs = (layers(each.trunk)[0].state_dict() for each in (student, earlier))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert torch.equal(student.head.weight, earlier.head.weight)


def test_a_tenants_student_leaves_the_shared_base_whole(base: Path) -> None:
    source, load = read_source(base, "base"), Shared()
    student = first_model(Recipe(layers=1), source, (), None, load).pair_model.trunk
    whole = load(source)
    assert (len(layers(student)), len(layers(whole))) == (1, 2)
    assert whole.config.num_hidden_layers == 2
    assert torch.equal(states(whole), states(load_trunk(source)))
