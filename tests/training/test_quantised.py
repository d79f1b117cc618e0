"""A base in 8 or 4 bits keeps still, byte by byte, while what stands beside it learns as it would
beside the same weights in float32; and what is exported is the base in float32, with that."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model, TrainerControl, TrainerState
from transformers.integrations.bitsandbytes import dequantize_bnb_weight

from export import bundle
from export.adapters import adapters
from export.models import PairModel
from export.onnx import load_trunk
from export.session import open_session, replay
from export.source import Source, read_source
from export.trained import read_trained
from tests.export.models import save_base
from tests.training import tiny
from tests.training.conftest import begin
from tests.training.test_adapters import output
from tests.training.test_resuming import assert_same, kept_at
from tests.training.test_shared import NEAR, STILL, assert_near, ended, gradients
from tests.training.test_tenants import learned, ready
from tests.training.tuned import silent, tuned
from training.__main__ import main
from training.adapters import KINDS, inject, merge, orthogonality
from training.pipeline import run_judgments
from training.quantised import load_quantised, restore
from training.recipe import Recipe
from training.sharing import Shared
from training.tuning import BadRecipe, optimiser

ROOT = Path(__file__).parents[2]
BITS = (8, 4)
STEPS = 6
RANK = 2
NF4_GAP = 0.3039 / 2  # half of the widest gap between NF4's values (Dettmers et al. 2023, E)
WIDTH = 64  # whole blocks of NF4
WANTED = torch.linspace(-1.0, 1.0, WIDTH)
DIALS = {"lora_rank": RANK, "adapter_width": 8}
BOTH = [(kind, bits) for kind in KINDS for bits in BITS if (kind, bits) != ("dora", 8)]

few_bits = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="the extra `bits` is not installed"
)


@pytest.fixture(scope="module", params=["bert", "qwen3"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    base = save_base(tmp_path_factory.mktemp("few") / request.param, request.param, width=WIDTH)
    return read_source(base, request.param)


def recipe(**dials: Any) -> Recipe:
    return msgspec.convert({"tuning": "lora", **DIALS, **dials}, Recipe)


def held(trunk: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a base's own weights are, with the scales of those of few bits."""
    found = {}
    for name, each in trunk.named_parameters():
        if each.requires_grad:
            continue
        found[name] = each.detach().clone()
        if (state := getattr(each, "quant_state", None)) is not None:
            found |= {f"{name}.{part}": one for part, one in state.as_dict(packed=True).items()}
    for name, module in trunk.named_modules():
        if module.__class__.__name__ == "Linear8bitLt" and "base_layer" not in module._modules:
            known = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            found[f"{name}.scales"] = known.clone()
    return found


def size(trunk: torch.nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in held(trunk).values())


def widened(trunk: Any, source: Source) -> Any:
    """The base in float32, with the values that few bits left of it."""
    plain = load_trunk(source).requires_grad_(False)
    for name, module in trunk.named_modules():
        if module.__class__.__name__ == "Linear4bit":
            weight = dequantize_bnb_weight(module.weight)
        elif module.__class__.__name__ == "Linear8bitLt":
            weight = module.weight.data * module.weight.SCB.unsqueeze(1) / 127.0
        else:
            continue
        plain.get_submodule(name).weight.copy_(weight)
    words = plain.get_input_embeddings()
    words.weight.copy_(words.weight.bfloat16())
    return plain


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "bert", "bert", width=WIDTH)


def learn(trunk: Any, watching: list[Any], kind: str) -> None:
    """A few steps towards a state that a norm lets through, called back as the Trainer does."""
    steps = optimiser(trunk, torch.nn.Linear(WIDTH, 1), None, Recipe(learning_rate=3e-2))
    for step in range(STEPS):
        loss = (output(trunk) - WANTED).square().mean()
        if kind == "adalora":
            loss = loss + orthogonality(trunk)
        torch.autograd.backward(loss)
        steps.step()
        for each in watching:
            each.on_optimizer_step(None, TrainerState(global_step=step), TrainerControl())
        steps.zero_grad()


@few_bits
@pytest.mark.parametrize("bits", BITS)
def test_each_weight_is_near_its_own(source: Source, bits: int) -> None:
    trunk = load_quantised(source, recipe(base_bits=bits))
    near, own = widened(trunk, source).state_dict(), load_trunk(source).state_dict()
    moved = 0
    for name, weight in own.items():
        error = (near[name] - weight).abs()
        if torch.equal(near[name], weight):
            continue
        moved += 1
        if name.endswith(("word_embeddings.weight", "embed_tokens.weight")):
            assert (error <= weight.abs() * 2**-8).all()
        elif bits == 8:  # half a step of a row's largest, and float16's own rounding before
            assert (error <= weight.abs().amax(1, keepdim=True) * (0.51 / 127 + 2**-10)).all()
        else:
            largest = weight.flatten().unflatten(0, (-1, 64)).abs().amax(1, keepdim=True)
            blocks = error.flatten().unflatten(0, (-1, 64))
            assert (blocks <= (NF4_GAP + 0.01) * largest).all()  # 0.01: of the scale's own bits
    assert moved == 1 + sum("Linear" in m.__class__.__name__ for m in trunk.modules())


@few_bits
def test_a_moderate_base_takes_a_fraction_of_the_bytes(tmp_path: Path) -> None:
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    save_base(tmp_path / "base", "qwen3")
    torch.manual_seed(1)
    config = Qwen3Config(**shape, **heads, vocab_size=2048, pad_token_id=1)
    Qwen3Model(config).save_pretrained(tmp_path / "base")
    source = read_source(tmp_path / "base", "base")
    whole = size(load_trunk(source).requires_grad_(False))
    sizes = {bits: size(load_quantised(source, recipe(base_bits=bits))) for bits in BITS}
    assert whole > 3.4 * sizes[8]
    assert whole > 5.3 * sizes[4]


@few_bits
@pytest.mark.parametrize(("kind", "bits"), BOTH)
def test_what_learns_beside_few_bits_learns_as_beside_the_same_weights_in_float32(
    source: Source, kind: str, bits: int
) -> None:
    dials = recipe(tuning=kind, base_bits=bits)
    found, trunk = [], load_quantised(source, dials).train()
    for each in (trunk, widened(trunk, source).train()):
        torch.manual_seed(5)
        inject(each, dials, 3)
        for module in each.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with torch.inference_mode():  # as the dev lists are judged on the way
            each.eval()
            output(each)
        torch.autograd.backward((output(each.train()) - WANTED).square().sum())
        learning = [(n, e) for n, e in each.named_parameters() if e.requires_grad]
        found.append({n: e.grad for n, e in learning if e.grad is not None})
    few, many = found
    assert few.keys() == many.keys()
    largest = max(float(each.abs().max()) for each in many.values())
    assert largest > 1e-2
    for name, each in many.items():
        assert (few[name] - each).abs().max() <= 1e-5 * largest, name


@few_bits
@pytest.mark.parametrize(("kind", "bits"), BOTH)
def test_the_base_keeps_still_the_loss_falls_and_its_own_weights_take_what_was_learned(
    source: Source, kind: str, bits: int
) -> None:
    dials = recipe(tuning=kind, base_bits=bits)
    trunk = load_quantised(source, dials)
    watching = inject(trunk, dials, STEPS)
    before, first = held(trunk), output(trunk.train())
    learn(trunk, watching, kind)
    after, last = held(trunk), output(trunk)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (last - WANTED).square().mean() < (first - WANTED).square().mean()
    learned = {name: each.clone() for name, each in trunk.state_dict().items()}
    assert sum(each.numel() for each in learned.values()) < sum(e.numel() for e in after.values())
    pair = PairModel(trunk, "mean")
    restore(pair, dials, STEPS, lambda: load_trunk(source))
    whole = pair.trunk.state_dict()
    assert all(torch.equal(whole[name], each) for name, each in learned.items())
    merge(pair.trunk)
    own = load_trunk(source).state_dict()
    for name, weight in pair.trunk.state_dict().items():
        if kind == "lora" and not torch.equal(weight, own[name]):
            assert torch.linalg.matrix_rank(weight - own[name], rtol=1e-3) <= RANK
    assert len(adapters(pair.trunk)) == (0 if kind != "adapters" else 2 * len(_layers(source)))


def _layers(source: Source) -> range:
    return range(load_trunk(source).config.num_hidden_layers)


@few_bits
@pytest.mark.parametrize("bits", BITS)
def test_a_run_over_few_bits_leaves_a_model_that_needs_none(source: Source, bits: int) -> None:
    base = source.folder
    out = base.parent / f"run-{bits}"
    dials = {"tuning": "lora", **DIALS, "base_bits": bits, "max_steps": 8}
    kept_at(4, base, out, {**dials, "patience": 3})
    saved = load_file(out / "checkpoint-4" / "model.safetensors")
    assert not [name for name in saved if "base_layer" in name or "embed" in name]
    trained = read_trained(Path(tuned({**dials, "patience": 3}, base, out).folder), source)
    own = load_trunk(source).state_dict()
    found = trained.pair_model.trunk.state_dict()
    assert found.keys() == own.keys()
    still = [name for name in own if torch.equal(found[name], own[name])]
    assert {name for name in own if "orm" in name or "embed" in name} <= set(still)
    assert len(still) < len(own)


@few_bits
def test_a_student_over_few_bits_has_the_layers_of_a_student(base: Path, tmp_path: Path) -> None:
    source = read_source(base, "base")
    dials = {"tuning": "lora", **DIALS, "base_bits": 8, "max_steps": 8, "layers": 1}
    student = read_trained(Path(tuned(dials, base, tmp_path / "student").folder), source)
    found, own = student.pair_model.trunk, load_trunk(source)
    assert found.config.num_hidden_layers == 1 < own.config.num_hidden_layers
    whole = own.state_dict()
    assert any(not torch.equal(each, whole[name]) for name, each in found.state_dict().items())


RUNS: dict[str, dict[str, Any]] = {
    "8 bits, averaged, stopping early": {"base_bits": 8, "average": 0.5, "patience": 2},
    "4 bits, in parts": {"base_bits": 4, "accumulate": 2},
    "4 bits, while adalora takes rank away": {"base_bits": 4, "tuning": "adalora"},
    "4 bits, freelb": {"base_bits": 4, "attack": {"kind": "freelb"}},
    "8 bits, smart": {"base_bits": 8, "attack": {"kind": "smart", "steps": 1}},
}


@few_bits
@pytest.mark.parametrize("dials", RUNS.values(), ids=RUNS)
def test_a_run_over_few_bits_goes_on_from_its_checkpoint(
    base: Path, tmp_path: Path, dials: dict[str, Any]
) -> None:
    dials = {"tuning": "lora", **DIALS, **dials}
    whole = tuned(dials, base, tmp_path / "whole")
    kept_at(8, base, tmp_path / "cut", dials)
    assert_same(tuned(dials, base, tmp_path / "cut"), whole)


@few_bits
@pytest.mark.parametrize("bits", BITS)
def test_two_ranks_and_parts_have_the_gradients_of_one(
    base: Path, tmp_path: Path, bits: int
) -> None:
    dials = {**STILL, **DIALS, "tuning": "lora", "base_bits": bits}
    whole = gradients(dials, base, tmp_path / "whole")
    assert any(each.abs().max() > 100 * NEAR for each in whole.values())
    assert_near(gradients({**dials, "accumulate": 3}, base, tmp_path / "parted"), whole)
    status, _, errors = ended("gradients", dials, base, tmp_path / "shared")
    assert status == 0, errors.decode()
    assert_near(torch.load(tmp_path / "shared" / "gradients.pt"), whole)


@few_bits
def test_tenants_over_few_bits_learn_as_alone(tiny_base: Path, tmp_path: Path) -> None:
    load = Shared()
    beside = [learned("lora", n, tiny_base, tmp_path / f"{n}", load, base_bits=8) for n in (1, 2)]
    alone = [
        learned("lora", n, tiny_base, tmp_path / f"alone-{n}", load_trunk, base_bits=8)
        for n in (1, 2)
    ]
    assert beside == alone
    assert len(set(beside)) == 2


@few_bits
def test_labels_make_a_bundle_over_few_bits_whose_graph_is_what_was_exported(
    tiny_base: Path, zero_shot: Path, tmp_path: Path
) -> None:
    config = tiny.config(tmp_path, tiny_base)
    dials = msgspec.structs.replace(config.recipe, tuning="lora", base_bits=8)
    config = ready(zero_shot, msgspec.structs.replace(config, recipe=dials))
    run_judgments(config, tiny.queries(60), tmp_path / "bundle", silent)
    manifest = bundle.verify(tmp_path / "bundle")
    assert manifest.training is not None
    assert manifest.training["recipe"]["base_bits"] == 8
    assert replay(open_session(tmp_path / "bundle", device="cpu")) < 1e-4


@pytest.mark.parametrize(
    ("dials", "why"),
    [
        ({"tuning": "full"}, "base_bits 4: expected tuning lora, .* not full, which writes"),
        ({"tuning": "frozen"}, "base_bits 4: expected tuning lora, .* not frozen, which writes"),
        ({"tuning": "dora", "base_bits": 8}, "tuning dora: expected base_bits 4 or 32"),
        ({"start": "champion"}, "start champion: expected base with base_bits 4"),
        ({"interpolate": 0.5}, "interpolate 0.5: expected 1 with base_bits 4"),
        ({"base_bits": 16}, "Invalid enum value 16"),
    ],
)
def test_what_cannot_go_with_few_bits_is_refused(dials: dict[str, Any], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        recipe(**{"base_bits": 4, **dials})


@few_bits
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads blocks that rows share")
def test_a_base_whose_rows_are_no_whole_blocks_is_refused_on_a_cpu(tmp_path: Path) -> None:
    source = read_source(save_base(tmp_path / "base", "bert", width=96), "base")
    load_quantised(source, recipe(base_bits=8))
    with pytest.raises(BadRecipe, match="reads 96 dimensions; expected a multiple of 64 on a CPU"):
        load_quantised(source, recipe(base_bits=4))


def test_a_search_over_tunings_is_refused(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = begin(tmp_path, tiny_base)
    dials = msgspec.structs.replace(made.config.recipe, tuning="lora", base_bits=4)
    tiny.write_config(made.file, msgspec.structs.replace(made.config, recipe=dials))
    assert main(["tune", str(made.file), "--judgments", str(made.graded), "--trials", "1"]) == 2
    assert "base_bits 4: expected tune.dials without tuning" in capsys.readouterr().err


def test_without_the_extra_few_bits_are_refused_by_its_name(base: Path, tmp_path: Path) -> None:
    for folder in filter(Path.is_dir, map(Path, sys.path)):
        if "site-packages" in folder.name:
            for each in folder.iterdir():
                if "bitsandbytes" not in each.name and not (tmp_path / each.name).exists():
                    (tmp_path / each.name).symlink_to(each)
    child = (
        "import sys; from pathlib import Path; from export.source import read_source\n"
        "from training.quantised import load_quantised; from training.recipe import Recipe\n"
        "load_quantised(read_source(Path(sys.argv[1]), 'base'), Recipe(tuning='lora', base_bits=4))"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", child, str(base)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
    )
    said = found.stderr.strip().splitlines()[-1]
    assert said.startswith(f"{BadRecipe.__module__}.BadRecipe: base_bits 4: expected bitsandbytes")
    assert "pip install 'prismrank[bits]'" in said


@pytest.mark.parametrize("module", ["training.pipeline", "export.trained, peft"])
def test_who_asks_for_no_few_bits_hears_nothing_of_them(module: str) -> None:
    command = [sys.executable, "-c", f"import {module}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")
