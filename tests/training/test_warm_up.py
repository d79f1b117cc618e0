"""A catalogue alone teaches an encoder to find its items; what comes out is a base as before."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from export import bundle
from export.build import Order, build
from export.bundle import BundleError, Template
from export.models import Encoder
from export.onnx import load_trunk
from export.source import FIELDS, read_source
from tests.export.models import save_base
from training.__main__ import main
from training.views import WarmUpSettings, steps, view
from training.visitors import BadCatalogue
from training.warm_up import Vectors, alike, info_nce, warm_up
from worker import codec
from worker.events import Item
from worker.shop.catalogue import generate

ITEMS = list(generate().values())[:60]
QUICK = WarmUpSettings(steps=2, pairs_per_step=12)
LEARNING = WarmUpSettings(steps=20, pairs_per_step=12, keep=0.0)


def silent(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return save_base(folder, "bert")


@torch.no_grad()
def loss(folder: Path) -> float:
    """Of views that were not learned from."""
    source, chance = read_source(folder, folder.name), np.random.default_rng(99)
    vectors = Vectors(Encoder(load_trunk(source), source.pooling).eval(), source, 64)
    views = [view(item, source.template, chance, LEARNING) for item in ITEMS]
    short, long = zip(*views, strict=True)
    return float(info_nce(vectors(short), vectors(long), alike(short, long), 0.05))


def test_what_is_said_of_an_item_finds_it_better_than_before(minilm: Path, tmp_path: Path) -> None:
    warm_up(LEARNING, minilm, ITEMS, tmp_path / "out", silent)
    assert loss(tmp_path / "out") < 0.9 * loss(minilm)


def test_equal_seeds_give_equal_weights_and_others_do_not(base: Path, tmp_path: Path) -> None:
    another = msgspec.structs.replace(QUICK, seed=1)
    for name, settings in {"first": QUICK, "same": QUICK, "other": another}.items():
        warm_up(settings, base, ITEMS, tmp_path / name, silent)
    first, same, other = (
        load_file(tmp_path / name / "model.safetensors") for name in ("first", "same", "other")
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_encoder_that_learns_nothing_still_reads_more_than_the_title(
    base: Path, tmp_path: Path
) -> None:
    settings = WarmUpSettings(fields=("title", "description:5", "sole"), separator=" - ")
    said: list[str] = []
    sized = Item(item_id="x", title="Boot", attributes={"sole": 42})
    warm_up(settings, base, [sized, *ITEMS[:3]], tmp_path / "out", said.append)
    assert said[0] == "title: 100% of 4 items have it"
    assert said[-1] == "sole: 25% of 4 items have it"
    before, after = (read_source(folder, "base") for folder in (base, tmp_path / "out"))
    assert after.weights_sha256 == before.weights_sha256
    fields = {"title": "Boot", "description": "Warm and dry", "sole": 42}
    assert before.template.render(fields) == "Boot | Warm and dry"
    assert after.template.render(fields) == "Boot - Warm  - 42"
    build(Order(str(tmp_path / "out"), tmp_path / "bundle"), silent)
    assert bundle.read(tmp_path / "bundle").template == after.template


def test_fields_that_no_item_has_are_refused(base: Path, tmp_path: Path) -> None:
    settings = WarmUpSettings(fields=("hue:9", "sole"))
    with pytest.raises(BadCatalogue, match="fields 'hue', 'sole': none of 60 items has one"):
        warm_up(settings, base, ITEMS, tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ('{"item": [{"field": 3}]}', "Expected `str`, got `int` - at"),
        ('{"item": [{"field": "title", "shortest": 3}]}', "unknown field `shortest` - at"),
        ('{"items": [{"field": "title"}]}', "unknown field `items`"),
    ],
)
def test_fields_that_are_not_understood_are_refused(
    base: Path, tmp_path: Path, written: str, why: str
) -> None:
    warm_up(WarmUpSettings(), base, ITEMS, tmp_path / "out", silent)
    (tmp_path / "out" / FIELDS).write_text(written)
    with pytest.raises(BundleError, match=rf"prismrank\.json: .*{why}"):
        read_source(tmp_path / "out", "base")


def test_keeping_all_of_the_base_gives_the_base(base: Path, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(QUICK, learning_rate=3e-3, keep=1.0)
    warm_up(settings, base, ITEMS, tmp_path / "kept", silent)
    before, after = (
        load_trunk(read_source(folder, "base")).state_dict() for folder in (base, tmp_path / "kept")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_catalogue_that_says_too_little_is_refused_and_nothing_is_written(
    base: Path, tmp_path: Path
) -> None:
    untitled = [*ITEMS[:11], Item(item_id="x"), Item(item_id="y", title="  ")]
    with pytest.raises(BadCatalogue, match="11 of 13 items have a title, expected at least"):
        warm_up(QUICK, base, untitled, tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()


def textbook(short: torch.Tensor, long: torch.Tensor, temperature: float) -> float:
    """Van den Oord et al. 2018, equation 4, sum by sum, and the same from the other side."""
    size, total = len(short), 0.0
    for one in range(size):
        for rows, columns in ((short, long), (long, short)):
            terms = [np.exp(float(rows[one] @ columns[k]) / temperature) for k in range(size)]
            total -= np.log(terms[one] / sum(terms)) / (2 * size)
    return total


@given(st.integers(2, 6), st.integers(0, 2**31 - 1), st.sampled_from([0.05, 0.5, 2.0]))
def test_the_loss_is_that_of_the_paper(size: int, seed: int, temperature: float) -> None:
    drawn = torch.randn(2, size, 4, generator=torch.Generator().manual_seed(seed)).double()
    short, long = torch.nn.functional.normalize(drawn, dim=2)
    none = torch.zeros(size, size, dtype=torch.bool)
    loss = float(info_nce(short, long, none, temperature))
    assert loss == pytest.approx(textbook(short, long, temperature), rel=1e-9, abs=1e-9)


def test_an_equal_text_of_another_item_is_no_example_against() -> None:
    short, long = ("red shoe", "hat", "shoes"), ("Red shoe 42", "Hat", "Red shoe 42")
    assert alike(short, long).tolist() == [
        [False, False, True],
        [False, False, False],
        [True, False, False],
    ]
    vectors = torch.eye(3, dtype=torch.double)[[0, 1, 0]]
    known = float(info_nce(vectors, vectors, alike(short, long), 0.01))
    assert known < 1e-9  # of the two that are one, each has its own place


@given(st.sampled_from(ITEMS), st.integers(0, 2**31 - 1), st.integers(1, 6))
def test_what_stands_for_an_item_is_said_by_the_item(item: Item, seed: int, most: int) -> None:
    settings = WarmUpSettings(most_words=most)
    short, long = view(item, Template(), np.random.default_rng(seed), settings)
    assert long == item.title
    assert short.strip()
    if short not in (item.description, item.category, f"{item.brand} {item.category}"):
        told = iter((item.title or "").split())
        assert all(word in told for word in short.split())  # in the title's order
        assert len(short.split()) <= most


def test_a_model_that_asks_for_prompts_gets_them() -> None:
    template = Template(query_before="query: ", item_before="passage: ")
    chance = np.random.default_rng(0)
    views = [view(ITEMS[0], template, chance, WarmUpSettings()) for _ in range(40)]
    assert all(long.startswith("passage: ") for _, long in views)
    assert all(short.startswith(("query: ", "passage: ")) for short, _ in views)


def test_every_item_comes_once_before_one_comes_again() -> None:
    settings = WarmUpSettings(pairs_per_step=7)
    epoch = [
        item.item_id
        for _, step in zip(range(8), steps(ITEMS, settings), strict=False)
        for item, _ in step
    ]
    assert len(epoch) == len(set(epoch)) == 56


def test_the_command_writes_a_base_that_bundles_are_built_from(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, config, out = (tmp_path / name for name in ("items.jsonl", "c.toml", "encoder"))
    catalogue.write_bytes(b"".join(codec.encode(item) + b"\n" for item in ITEMS))
    config.write_text(
        f'work = "{tmp_path}/work"\n[model]\nbase = "{base}"\n[logs]\nurl = "{tmp_path}/logs"\n'
        "[warm_up]\nsteps = 3\npairs_per_step = 8\n"
    )
    arguments = ["warm-up", str(config), "--catalogue", str(catalogue), "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"base": str(out), "items": 60}
    assert "step 3 of 3: loss" in told.err
    assert read_source(out, "warm").weights_sha256 != read_source(base, "base").weights_sha256
    assert main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err
