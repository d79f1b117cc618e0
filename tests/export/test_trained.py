"""A trained bundle: its graphs are the trained models, its pairs are read whole, and it starts the
next round."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from export import bundle
from export.build import Order, build
from export.bundle import BundleError, Goldens, Template
from export.draft import UNFITTED
from export.golden_texts import LONG, PAIRS, TEXTS
from export.graded import relevance
from export.models import Encoder
from export.onnx import load_trunk
from export.precision import PRECISIONS
from export.proof import prove, spearman
from export.session import open_session, replay
from export.source import read_source
from export.tokenizer import PairTokens
from export.trained import read_trained
from tests.export.conftest import CATEGORIES
from tests.export.models import save_base, save_trained

FAMILIES = ["bert", "qwen3", "llama"]


class Made(NamedTuple):
    """A trained bundle and what it was made of."""

    base: Path
    trained: Path
    bundle: Path


def silent(line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module", params=FAMILIES)
def made(
    request: pytest.FixtureRequest,
    small_base: Path,
    trained_folder: Path,
    trained_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    """A trained bundle of a BERT, and of two decoders, which pool the last token."""
    if request.param == "bert":
        return Made(small_base, trained_folder, trained_bundle)
    folder = tmp_path_factory.mktemp(request.param)
    base = save_base(folder / "base", request.param, "lasttoken")
    trained = save_trained(folder / "trained", base, "last", CATEGORIES)
    build(Order(str(base), folder / "bundle", adapter=trained), silent)
    return Made(base, trained, folder / "bundle")


def test_its_logits_are_those_of_the_trained_models(made: Made) -> None:
    source = read_source(made.base, "base")
    trained = read_trained(made.trained, source)
    session = open_session(made.bundle, device="cpu")
    encoder = Encoder(load_trunk(source), source.pooling, trained.head).eval()
    template = session.manifest.pair_template
    assert template is not None
    pairs = [(template.query(q), template.render({"title": i})) for q, i in PAIRS]
    found = relevance(session, pairs)
    with torch.inference_mode():
        for pair, logit in zip(session.tokenize_pairs(pairs), found, strict=True):
            ids, types = torch.tensor([pair.ids]), torch.tensor([pair.types])
            typed = {"token_type_ids": types} if "token_type_ids" in session.manifest.inputs else {}
            wanted = float(trained.pair_model(ids, torch.ones_like(ids), **typed)[0])
            assert logit == pytest.approx(wanted, abs=1e-4)
        for tokens in session.tokenize(TEXTS):
            ids = torch.tensor([tokens])
            given_out = session.run("encoder", row(tokens))
            for name, part in zip(
                ("vector", "category"), encoder(ids, torch.ones_like(ids)), strict=True
            ):
                assert given_out[name] == pytest.approx(part.numpy(), abs=1e-5)


def row(ids: Any) -> dict[str, Any]:
    """One text as a batch."""
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}


def batch(pairs: list[PairTokens], width: int) -> dict[str, Any]:
    """Pairs as one batch, padded to `width` or more."""
    width = max(width, *(len(pair.ids) for pair in pairs))

    def table(rows: list[Any]) -> Any:
        return np.array([[*values, *[0] * (width - len(values))] for values in rows])

    return {
        "input_ids": table([pair.ids for pair in pairs]),
        "attention_mask": table([[1] * len(pair.ids) for pair in pairs]),
        "token_type_ids": table([pair.types for pair in pairs]),
    }


@given(
    rows=st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=20), width=st.integers(0, 60)
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_float32_is_bit_equal_in_any_batch(made: Made, rows: list[int], width: int) -> None:
    session = open_session(made.bundle, device="cpu")
    tokens = session.tokenize_pairs(PAIRS)
    for graph in ("encoder", "model"):
        together = session.run(graph, batch([tokens[each] for each in rows], width))
        for i, each in enumerate(rows):
            alone = session.run(graph, batch([tokens[each]], 0))
            for name, values in together.items():
                assert np.array_equal(values[i], alone[name][0]), f"{name} of {each} in {rows}"


@pytest.mark.parametrize("graph", ["encoder", "model"])
def test_a_row_of_any_length_is_bit_equal_under_padding(made: Made, graph: str) -> None:
    session = open_session(made.bundle, device="cpu")
    for length in range(1, 40):  # fused, a decoder's attention changed a row of 33 alone
        pair = PairTokens([4 + each % 30 for each in range(length)], [0] * length)
        alone, padded = (session.run(graph, batch([pair], width)) for width in (0, length + 1))
        assert all(np.array_equal(alone[name], padded[name]) for name in alone), length


def test_its_manifest_states_what_it_is(made: Made) -> None:
    manifest = bundle.verify(made.bundle)
    decoder = "llama" in str(made.bundle) or "qwen3" in str(made.bundle)
    assert manifest.outputs == ("vector", "category", "relevance")
    assert manifest.categories == CATEGORIES
    assert manifest.variants["fp32"].deterministic
    assert manifest.variants["fp32"].parity["relevance_spearman"] > 0.999
    assert manifest.blend == UNFITTED
    assert ("token_type_ids" in manifest.inputs) == (not decoder)
    assert manifest.pair_template == (
        Template(query_before="Query: ", item_before="\nItem: ") if decoder else Template()
    )
    card = (made.bundle / "README.md").read_text()
    for stated in ("## Blend", "onnx/model.onnx", UNFITTED.origin, manifest.base_model["name"]):
        assert stated in card


def test_every_precision_replays_within_the_tolerance_of_each_output(trained_bundle: Path) -> None:
    manifest = bundle.read(trained_bundle)
    assert set(manifest.variants) == set(PRECISIONS)
    for name, variant in manifest.variants.items():
        assert replay(open_session(trained_bundle, name, device="cpu")) >= 0.0
        assert set(variant.logit_tolerance) == {"category", "relevance"}
        assert variant.parity["relevance_max_abs_error"] < variant.logit_tolerance["relevance"]
        assert variant.parity["relevance_spearman"] > 0.9
    assert manifest.variants["fp32"].deterministic
    assert not manifest.variants["int8"].deterministic


def test_int8_leaves_the_heads_in_float(trained_bundle: Path) -> None:
    import onnx

    for graph in ("encoder", "model"):
        nodes = onnx.load(trained_bundle / f"onnx/{graph}_int8.onnx").graph.node
        products = [node.op_type for node in nodes if node.op_type in ("MatMul", "Gemm")]
        assert products == (["MatMul"] if graph == "encoder" else [])
        assert any(node.op_type == "MatMulInteger" for node in nodes)


def test_int8_that_lost_too_much_is_refused(made: Made, tmp_path: Path) -> None:
    draft_folder = Path(shutil.copytree(made.bundle, tmp_path / "draft"))
    goldens = Goldens.read(draft_folder)
    strict = dataclasses.replace(PRECISIONS["int8"], min_spearman=1.1)
    with pytest.raises(BundleError, match="variant int8 is not the trained model in"):
        prove(draft_folder, bundle.read(draft_folder), goldens, "int8", strict)


def test_the_weights_travel_and_start_the_next_round(made: Made, tmp_path: Path) -> None:
    source = read_source(made.base, "base")
    again = read_trained(made.bundle / "weights", source)
    before = load_file(made.trained / "model.safetensors")
    assert {name: each.shape for name, each in again.pair_model.state_dict().items()} == {
        name: each.shape for name, each in before.items()
    }
    for name, weight in again.pair_model.state_dict().items():
        assert torch.equal(weight, before[name])
    assert again.categories == CATEGORIES
    assert again.head is not None
    assert "weights/model.safetensors" in bundle.read(made.bundle).files


SHORT = "ab"
CUTS = [
    ("both fit", (SHORT, "cd"), 2, 2),
    ("the item is cut", (SHORT, "c" * 500), 2, 35),
    ("an empty item", (SHORT, ""), 2, 0),
    ("an empty query", ("", "cd"), 0, 2),
    ("a query that leaves no room", ("a" * 500, "cd"), 35, 2),
    ("both too long", ("a" * 500, "c" * 500), 18, 19),
]


@pytest.mark.parametrize(
    ("pair", "asked", "shown"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS]
)
def test_a_pair_is_marked_and_cut(
    trained_bundle: Path, pair: tuple[str, str], asked: int, shown: int
) -> None:
    session = open_session(trained_bundle, device="cpu")
    found = session.tokenize_pairs([pair])[0]
    assert len(found.ids) == len(found.types) == asked + shown + 3 <= session.manifest.max_tokens
    assert list(found.types) == [0] * (asked + 2) + [1] * (shown + 1)


def test_a_pair_has_the_same_tokens_in_any_company(trained_bundle: Path) -> None:
    session = open_session(trained_bundle, device="cpu")
    alone = [session.tokenize_pairs([pair])[0] for pair in PAIRS]
    assert session.tokenize_pairs(PAIRS) == alone
    assert session.tokenize_pairs([]) == []
    long_alone = session.tokenize([LONG])
    assert session.tokenize([LONG]) == long_alone  # and pairs leave the cut of texts as it was


def test_a_zero_shot_bundle_reads_no_pairs(small_bundle: Path) -> None:
    session = open_session(small_bundle, device="cpu")
    with pytest.raises(BundleError, match="no graph 'model'"):
        session.tokenize_pairs([("a", "b")])


@given(st.permutations(range(12)))
def test_rank_correlation_without_ties_is_spearmans_formula(order: list[int]) -> None:
    places, n = np.arange(12.0), 12
    squares = float(((places - np.array(order)) ** 2).sum())
    found = spearman(np.exp(places), np.array(order))
    assert found == pytest.approx(1.0 - 6.0 * squares / (n * (n**2 - 1)))


def test_tied_ranks_stand_at_their_mean_and_a_constant_has_none() -> None:
    assert spearman(np.array([5, 5, 9]), np.array([1.5, 1.5, 3.0])) == pytest.approx(1.0)
    assert np.isnan(spearman(np.arange(3), np.ones(3)))
