"""What learns beside a trunk that keeps still: it alone learns, it begins without effect, and what
is exported is what was trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerControl, TrainerState

from export import bundle
from export.adapters import adapters, insert_those_of
from export.build import Order, build
from export.bundle import BundleError
from export.golden_texts import PAIRS
from export.graded import relevance
from export.session import open_session, replay
from export.source import read_source
from export.trained import read_trained
from tests.export.models import make_model, save_base
from tests.training.tuned import silent, tuned
from training.adapters import KINDS, ORTHOGONALITY, inject, merge, orthogonality
from training.recipe import Recipe
from training.tuning import BadRecipe, optimiser

FAMILIES = ("bert", "roberta", "distilbert", "qwen3")
WIDTH, RANK = 8, 2
# Of a BERT's two layers of 32 dimensions, 64 between: six linear layers each, with in + out of
# 64 (four of attention) and 96 (two), and a pooler that only the kinds of before adapt.
FACTORS = RANK * (2 * (4 * 64 + 2 * 96) + 64)
COUNTS = {
    "lora": FACTORS,
    "rslora": FACTORS,
    "dora": FACTORS + 2 * (4 * 32 + 64 + 32) + 32,  # a magnitude for each output
    "adalora": 3 * (2 * (4 * 65 + 2 * 97)),  # rank 3 to begin with, and its singular values
    "ia3": 2 * (32 + 32 + 64),  # keys, values, and what is between
    "adapters": 4 * (2 * 32 * WIDTH + 32 + WIDTH),  # 2 d m + d + m, twice a layer
}
ENDS = {
    "ia3": (".ia3_l.default",),
    "adapters": ("down.weight", "down.bias", "up.weight", "up.bias"),
}


def adapted(kind: str, family: str = "bert", steps: int = 3, **dials: Any) -> tuple[Any, list[Any]]:
    """A small trunk with what the kind puts in, and what a training must call back."""
    torch.manual_seed(3)
    trunk = make_model(family).eval()
    recipe = Recipe(tuning=kind, lora_rank=RANK, adapter_width=WIDTH, **dials)  # type: ignore[arg-type]
    return trunk, inject(trunk, recipe, steps)


def output(trunk: Any) -> torch.Tensor:
    tokens = torch.arange(4, 24).reshape(2, 10)
    found: torch.Tensor = trunk(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    return found


def learn(trunk: Any, watching: list[Any], steps: int = 3, kind: str = "") -> None:
    """So many steps towards a state that a norm lets through, called back as the Trainer does."""
    wanted = torch.linspace(-1.0, 1.0, 32)
    torch_steps = optimiser(trunk, torch.nn.Linear(32, 1), None, Recipe(learning_rate=3e-2))
    for step in range(steps):
        loss = (output(trunk) - wanted).square().mean()
        if kind == "adalora":
            loss = loss + orthogonality(trunk)
        torch.autograd.backward(loss)
        torch_steps.step()
        for each in watching:
            each.on_optimizer_step(None, TrainerState(global_step=step), TrainerControl())
        torch_steps.zero_grad()


def test_full_and_frozen_tuning_put_nothing_in() -> None:
    for kind in ("full", "frozen"):
        trunk, watching = adapted(kind)
        assert not watching
        assert all(each.requires_grad for each in trunk.parameters())
        assert set(trunk.state_dict()) == set(make_model("bert").state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_was_put_in_learns(kind: str) -> None:
    trunk, watching = adapted(kind)
    before = {name: each.detach().clone() for name, each in trunk.named_parameters()}
    learning = {name: each for name, each in trunk.named_parameters() if each.requires_grad}
    assert sum(each.numel() for each in learning.values()) == COUNTS[kind]
    ends = ENDS.get(kind, (".default", ".default.weight"))
    assert all(name.endswith(ends) for name in learning)
    learn(trunk, watching, kind=kind)
    for name, each in trunk.named_parameters():
        assert name in learning or torch.equal(each, before[name]), name
    moved = {name for name in learning if not torch.equal(learning[name], before[name])}
    still = set(learning) - moved
    assert all("pooler" in name or not learning[name].any() for name in still)  # or lost its rank
    assert len(still) < len(learning) / 4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_one_adds_nothing_and_a_trained_one_merges_into_the_same_model(
    kind: str, family: str
) -> None:
    torch.manual_seed(3)
    base = output(make_model(family).eval())
    trunk, watching = adapted(kind, family)
    torch.testing.assert_close(output(trunk), base, atol=1e-6, rtol=0)
    learn(trunk, watching, kind=kind)
    unmerged = output(trunk)
    assert (unmerged - base).abs().max() > 2e-5
    merge(trunk)
    torch.testing.assert_close(output(trunk), unmerged, atol=1e-5, rtol=0)
    if kind == "adapters":
        insert_those_of(plain := make_model(family), trunk.state_dict().items())
        plain.load_state_dict(trunk.state_dict())
        assert torch.equal(output(plain.eval()), unmerged)
    else:
        assert set(trunk.state_dict()) == set(make_model(family).state_dict())
    merge(trunk)  # there is nothing left
    torch.testing.assert_close(output(trunk), unmerged, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "family", "dials", "steps", "why"),
    [
        ("dora", "bert", {"lora_targets": ("q_proj",)}, 3, "expected ends of dense, key, query"),
        ("ia3", "bert", {"lora_targets": ("q_proj",)}, 3, "expected ends of dense, key, query"),
        ("adalora", "bert", {}, 2, "tuning adalora: 2 steps; expected at least 3"),
    ],
)
def test_what_does_not_fit_the_base_is_refused(
    kind: str, family: str, dials: dict[str, Any], steps: int, why: str
) -> None:
    with pytest.raises(BadRecipe, match=why):
        adapted(kind, family, steps, **dials)


def test_weight_decay_leaves_scales_and_singular_values_alone() -> None:
    for kind, scale in {"ia3": "ia3_l", "adalora": "lora_E"}.items():
        trunk, _ = adapted(kind)
        groups = optimiser(trunk, torch.nn.Linear(32, 1), None, Recipe()).param_groups
        decays = {id(e): group["weight_decay"] for group in groups for e in group["params"]}
        found = [decays[id(e)] for name, e in trunk.named_parameters() if scale in name]
        assert found
        assert set(found) == {0.0}


def test_targets_are_ends_of_names() -> None:
    for kind in ("lora", "dora", "rslora", "adalora", "ia3"):
        trunk, _ = adapted(kind, lora_targets=("query", "value"))
        names = [name for name, each in trunk.named_parameters() if each.requires_grad]
        assert len({name.partition(".self.")[2].partition(".")[0] for name in names}) == 2


def test_a_layer_without_attention_has_no_place_for_adapters() -> None:
    flat: Any = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(3, 3))])
    with pytest.raises(BadRecipe, match="expected linear layers of an attention"):
        inject(flat, Recipe(tuning="adapters"), 3)


@pytest.mark.parametrize("steps", [3, 4, 7, 20])
def test_adalora_ends_with_the_rank_that_was_asked_for_spread_by_importance(steps: int) -> None:
    trunk, watching = adapted("adalora", steps=steps)
    learn(trunk, watching, steps, kind="adalora")
    ranks = [int((e != 0).sum()) for n, e in trunk.named_parameters() if ".lora_E." in n]
    assert len(ranks) == 12
    assert sum(ranks) == RANK * len(ranks)


def test_the_orthogonality_is_what_peft_adds_to_a_loss() -> None:
    class Losing(torch.nn.Module):
        def __init__(self, trunk: Any) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self) -> Any:
            return SimpleNamespace(loss=torch.zeros(()))

    from peft import AdaLoraConfig, AdaLoraModel

    model: Any = AdaLoraModel(  # type: ignore[no-untyped-call]  # peft's
        Losing(make_model("bert")),
        AdaLoraConfig(init_r=3, target_r=2, total_step=9, target_modules=["query", "value"]),
        "default",
    )
    added = model().loss.detach()
    assert float(added) > 0.0
    assert float(ORTHOGONALITY * orthogonality(model).detach()) == pytest.approx(
        float(added), rel=1e-6
    )


@pytest.mark.parametrize(("kind", "family"), [("adapters", "bert"), ("dora", "qwen3")])
def test_what_was_tuned_is_what_serves(tmp_path: Path, kind: str, family: str) -> None:
    base = save_base(tmp_path / "base", family)
    dials = {"tuning": kind, "max_steps": 3, "learning_rate": 3e-2, "adapter_width": 8}
    trained = Path(tuned(dials, base, tmp_path / "run").folder)
    found = read_trained(trained, read_source(base, "base"))
    assert len(adapters(found.pair_model)) == (4 if kind == "adapters" else 0)
    build(Order(str(base), tmp_path / "bundle", adapter=trained), silent)
    manifest = bundle.verify(tmp_path / "bundle")
    assert manifest.variants["fp32"].deterministic
    session = open_session(tmp_path / "bundle", device="cpu")
    assert replay(session) < 1e-4
    template = found.pair_template
    pairs = [(template.query(query), template.render({"title": item})) for query, item in PAIRS]
    for pair, logit in zip(session.tokenize_pairs(pairs), relevance(session, pairs), strict=True):
        ids, types = torch.tensor([pair.ids]), torch.tensor([pair.types])
        typed = {"token_type_ids": types} if "token_type_ids" in manifest.inputs else {}
        wanted = found.pair_model(ids, torch.ones_like(ids), **typed)[0].item()
        assert logit == pytest.approx(wanted, abs=1e-4)
    again = read_trained(tmp_path / "bundle" / "weights", read_source(base, "base"))
    for name, weight in found.pair_model.state_dict().items():
        assert torch.equal(again.pair_model.state_dict()[name], weight)


def test_adapters_of_an_earlier_training_go_on_learning() -> None:
    trunk, _ = adapted("adapters")
    learn(trunk, [], 1)
    learned = output(trunk)
    inject(trunk, Recipe(tuning="adapters", adapter_width=3), 3)
    assert torch.equal(output(trunk), learned)
    assert all(each.down.out_features == WIDTH for each in adapters(trunk))


def test_weights_of_adapters_that_have_no_place_are_refused(base: Path, tmp_path: Path) -> None:
    trained = Path(tuned({"max_steps": 1, "tuning": "adapters"}, base, tmp_path / "run").folder)
    weights = load_file(trained / "model.safetensors")
    wrong = {name.replace("layer.1.", "layer.7."): each for name, each in weights.items()}
    save_file(wrong, trained / "model.safetensors")
    with pytest.raises(BundleError, match="not a trained model"):
        read_trained(trained, read_source(base, "base"))
