"""Tenants beside one base: its weights are there once, and each learns as it would alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import PreTrainedModel

from export import bundle
from export.onnx import load_trunk
from export.source import Source, read_source
from tests.training import tiny
from tests.training.lists import CATEGORIES, labelled_lists, vectors_of
from tests.training.tuned import SMALL, silent
from training import config as configs
from training.__main__ import main
from training.adapters import KINDS
from training.config import BadConfig, Config
from training.fine_tune import fine_tune
from training.judgments import read_jsonl
from training.pipeline import run_judgments
from training.recipe import Recipe
from training.sharing import Shared, run_tenants
from training.tenants import Tenant

WEIGHTS = "model.safetensors"
NAMES = ("de", "fr")


class Watched(Shared):
    """Keeps the trunks that it gave away, as their tensors were."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[PreTrainedModel] = []
        self.at: list[set[int]] = []

    def __call__(self, source: Source) -> PreTrainedModel:
        trunk = super().__call__(source)
        self.given.append(trunk)
        self.at.append(places(trunk))
        return trunk


def places(trunk: PreTrainedModel) -> set[int]:
    """Where its weights lie in memory."""
    return {each.data_ptr() for each in trunk.parameters()}


def learned(kind: str, number: int, base: Path, out: Path, load: Any, **more: Any) -> bytes:
    """What a tenant's fine-tuning came to: its lists and its seed are its own."""
    first = 100 * number
    train, dev = labelled_lists(12, first=first), labelled_lists(4, first=1000 + first)
    dials = {**SMALL, "tuning": kind, "max_steps": 4, "seed": number, "learning_rate": 3e-2}
    recipe = msgspec.convert({**dials, "lora_rank": 2, "adapter_width": 8, **more}, Recipe)
    known = vectors_of([*train, *dev], queries=True)
    done = fine_tune(recipe, base, train, dev, known, CATEGORIES, out, silent, load=load)
    return (Path(done.folder) / WEIGHTS).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_tenants_share_the_bases_tensors_and_each_learns_bit_by_bit_as_alone(
    kind: str, base: Path, tmp_path: Path
) -> None:
    load = Watched()
    beside = [learned(kind, n, base, tmp_path / f"{n}", load) for n in (1, 2, 3)]
    source = read_source(base, "base")
    shared, whole = load(source), load_trunk(source)
    assert load.at[0] == load.at[1] == load.at[2] == places(shared)  # before a training
    for trunk in load.given[:3]:  # and after it: what was merged into is the tenant's own
        assert len(places(trunk) & places(shared)) >= len(places(shared)) // 4
    alone = [learned(kind, n, base, tmp_path / f"alone-{n}", load_trunk) for n in (1, 2, 3)]
    assert beside == alone
    assert len(set(beside)) == 3
    for name, weight in whole.state_dict().items():
        assert torch.equal(shared.state_dict()[name], weight), name


def ready(zero_shot: Path, config: Config) -> Config:
    """The configuration, where the base's zero-shot bundle is there."""
    shutil.copytree(zero_shot, Path(config.work) / "zero-shot" / zero_shot.name)
    return config


def tenants(root: Path, base: Path, *names: str, **dials: Any) -> Config:
    """A configuration with a tenant of each name, whose labels are its own."""
    made = []
    for seed, name in enumerate(names):
        path = tiny.write_graded(root / f"{name}.jsonl", tiny.queries(40, seed=seed))
        made.append(Tenant(name=name, judgments=(str(path),), recipe={"epochs": 1 + seed % 2}))
    config = tiny.config(root, base)
    recipe = msgspec.structs.replace(config.recipe, **{"tuning": "lora", **dials})
    return msgspec.structs.replace(config, recipe=recipe, tenants=tuple(made))


def test_each_tenant_has_a_bundle_as_if_it_were_alone_and_a_kill_costs_none_of_them(
    tiny_base: Path, zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ready(zero_shot, tenants(tmp_path, tiny_base, *NAMES))
    out = tmp_path / "bundles"
    out.mkdir()

    def killed(line: str) -> None:
        if line.startswith("calibrating") and (out / NAMES[0]).exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tenants(config, out, killed)
    assert [each.name for each in out.iterdir()] == [NAMES[0]]
    file = tiny.write_config(tmp_path / "config.toml", config)
    assert main(["tenants", str(file), "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    assert "tenant de was finished before" in said.err
    found = json.loads(said.out.splitlines()[-1])
    for one in config.tenants:
        bundle.verify(out / one.name, found[one.name])
        assert (out / one.name / "report/report.md").exists()
    alone = msgspec.structs.replace(
        config, work=str(tmp_path / "alone-work"), recipe=one.by(config.recipe), tenants=()
    )
    shutil.copytree(Path(config.work) / "zero-shot", Path(alone.work) / "zero-shot")
    run_judgments(alone, read_jsonl(Path(one.judgments[0])), tmp_path / "alone", silent)
    weights = f"weights/{WEIGHTS}"
    assert (out / one.name / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()


def test_what_another_configuration_made_is_not_overwritten(
    tiny_base: Path, zero_shot: Path, tmp_path: Path
) -> None:
    (tmp_path / "bundles" / "de").mkdir(parents=True)
    config = ready(zero_shot, tenants(tmp_path, tiny_base, "de"))
    with pytest.raises(BadConfig, match="bundles/de: holds what was made of other labels"):
        run_tenants(config, tmp_path / "bundles", silent)


BAD: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any], str]] = [
    (NAMES, {"tuning": "full"}, {}, "tenants de: tuning full: expected lora, dora, .* 2 tenants"),
    (NAMES, {"tuning": "frozen"}, {}, "tenants de: tuning frozen: expected lora"),
    (NAMES, {}, {"tuning": "full"}, "tenants de: tuning full: expected lora"),
    (NAMES, {}, {"attack": {"steps": "x"}}, r"tenants de: recipe: Expected `int`.*attack.steps"),
    (("de", "de"), {}, {}, "tenants de: expected each name once"),
    (("../x",), {}, {}, "name"),
]


@pytest.mark.parametrize(("names", "dials", "own", "why"), BAD)
def test_tenants_that_cannot_share_a_base_are_refused(
    names: tuple[str, ...],
    dials: dict[str, Any],
    own: dict[str, Any],
    why: str,
    tmp_path: Path,
) -> None:
    tree = msgspec.to_builtins(tiny.config(tmp_path, tmp_path))
    tree["recipe"] |= {"tuning": "lora", **dials}
    tree["tenants"] = [{"name": name, "judgments": ["x.jsonl"], "recipe": own} for name in names]
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(tree, Config)


def test_one_tenant_may_write_to_the_base_and_a_configuration_without_any_is_none(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tenants(tmp_path, tiny_base, "de", tuning="full")
    assert configs.read(tiny.write_config(tmp_path / "one.toml", one)).tenants == one.tenants
    file = tiny.write_config(tmp_path / "none.toml", tiny.config(tmp_path, tiny_base))
    assert main(["tenants", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "none.toml: tenants: expected one or more" in capsys.readouterr().err
