"""A trained bundle: its graphs are the trained models, its pairs are read whole, its folder is
written whole, and whatever is wrong with it is refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
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
from export.models import Encoder, PairModel, last_pool, match
from export.onnx import load_trunk
from export.precision import PRECISIONS
from export.proof import prove, spearman
from export.session import open_session, replay
from export.source import read_source
from export.tokenizer import PairTokens
from export.trained import read_trained
from tests.export.conftest import CATEGORIES
from tests.export.models import make_model, save_base, save_trained

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


@pytest.fixture
def copied(trained_bundle: Path, tmp_path: Path) -> Path:
    """A trained bundle that a test may break."""
    return Path(shutil.copytree(trained_bundle, tmp_path / "bundle"))


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


@pytest.mark.parametrize("output", ["relevance", "category", "vector"])
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_goldens_of_another_model_are_refused_by_output(
    copied: Path, output: str, variant: str
) -> None:
    goldens = Goldens.read(copied)
    wrong = getattr(goldens, output) + 100.0
    msgspec.structs.replace(goldens, **{output: wrong}).write(copied)
    with pytest.raises(BundleError, match=f"goldens differ by .* in {output} on cpu"):
        replay(open_session(copied, variant, device="cpu"))


def test_goldens_that_lack_what_the_graphs_give_are_refused(copied: Path) -> None:
    goldens = Goldens.read(copied)
    msgspec.structs.replace(goldens, category=None).write(copied)
    with pytest.raises(BundleError, match=r"graph encoder differ in \['category'\]"):
        replay(open_session(copied, device="cpu"))


def without(*names: str) -> Callable[[Path], object]:
    """What takes arrays out of the goldens."""
    return lambda folder: msgspec.structs.replace(
        Goldens.read(folder), **dict.fromkeys(names)
    ).write(folder)


PAIRED = (*("pair_input_ids", "pair_attention_mask", "pair_token_type_ids"), "relevance")
HALF: list[tuple[str, dict[str, Any], Callable[[Path], object], str]] = [
    ("no pair template", {"pair_template": None}, without(), "pair_template: missing"),
    ("no blend", {"blend": None}, without(), "blend: missing"),
    ("no such output", {"outputs": ("vector", "category")}, without(), "outputs: relevance"),
    ("no golden pairs", {}, without(*PAIRED), "goldens: relevance: missing"),
    ("no golden categories", {}, without("category"), "goldens: category: missing"),
    ("half a golden pair", {}, without("relevance"), "tokens and outputs of model"),
    ("other categories", {"categories": ("shoes",)}, without(), "1 names, 3 logits"),
]


@pytest.mark.parametrize(
    ("fields", "damage", "why"), [h[1:] for h in HALF], ids=[h[0] for h in HALF]
)
def test_a_bundle_that_promises_half_a_model_is_neither_sealed_nor_verified(
    copied: Path, fields: dict[str, Any], damage: Callable[[Path], object], why: str
) -> None:
    damage(copied)
    broken = msgspec.structs.replace(bundle.read(copied), **fields)
    with pytest.raises(BundleError, match=why):
        bundle.seal(copied, broken)
    files = {name: bundle.sha256(copied / name) for name in broken.files}
    broken = msgspec.structs.replace(broken, files=files)
    (copied / "manifest.json").write_bytes(msgspec.json.encode(broken))
    with pytest.raises(BundleError, match=why):
        bundle.verify(copied)


def test_a_variant_without_the_pair_graph_is_refused(copied: Path) -> None:
    manifest = bundle.read(copied)
    bare = msgspec.structs.replace(
        manifest.variants["int8"], graphs={"encoder": "onnx/encoder_int8.onnx"}
    )
    broken = msgspec.structs.replace(manifest, variants={**manifest.variants, "int8": bare})
    with pytest.raises(BundleError, match=r"expected encoder, or encoder and model, in all"):
        bundle.seal(copied, broken)


def test_the_last_token_is_the_last_that_is_real() -> None:
    states = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert torch.equal(last_pool(states, mask), torch.stack([states[0, 1], states[1, 2]]))


def test_a_pair_model_does_not_see_its_padding() -> None:
    torch.manual_seed(3)
    kinds = (("bert", "cls"), ("bert", "mean"), ("bert", "product"), ("qwen3", "last"))
    for family, pooling in kinds:
        model = PairModel(make_model(family), pooling).eval()  # type: ignore[arg-type]
        ids = torch.tensor([[5, 6, 7, 8]])
        types = torch.tensor([[0, 0, 1, 1]]) if family == "bert" else None
        padded = torch.tensor([[5, 6, 7, 8, 9, 9, 9]])
        mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
        padded_types = torch.tensor([[0, 0, 1, 1, 1, 0, 1]]) if family == "bert" else None
        with torch.inference_mode():
            alone = model(ids, torch.ones_like(ids), types)
            assert model(padded, mask, padded_types) == pytest.approx(alone, abs=1e-4)


def test_a_product_adds_up_to_the_cosine_of_query_and_item() -> None:
    torch.manual_seed(4)
    states, mask = torch.randn(2, 5, 9), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    types = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    found = match(states, mask, types)
    ends = ((states[0, :2], states[0, 2:4]), (states[1, :1], states[1, 1:]))
    for row, (query, item) in zip(found, ends, strict=True):
        cosine = torch.cosine_similarity(query.mean(0), item.mean(0), dim=0)
        assert row.sum() / 3.0 == pytest.approx(float(cosine), abs=1e-6)


def test_a_product_wants_to_know_which_token_is_whose() -> None:
    model = PairModel(make_model("bert"), "product")
    ids = torch.tensor([[5, 6, 7, 8]])
    with pytest.raises(ValueError, match="expected token types"):
        model(ids, torch.ones_like(ids))


@given(st.permutations(range(12)))
def test_rank_correlation_without_ties_is_spearmans_formula(order: list[int]) -> None:
    places, n = np.arange(12.0), 12
    squares = float(((places - np.array(order)) ** 2).sum())
    found = spearman(np.exp(places), np.array(order))
    assert found == pytest.approx(1.0 - 6.0 * squares / (n * (n**2 - 1)))


def test_tied_ranks_stand_at_their_mean_and_a_constant_has_none() -> None:
    assert spearman(np.array([5, 5, 9]), np.array([1.5, 1.5, 3.0])) == pytest.approx(1.0)
    assert np.isnan(spearman(np.arange(3), np.ones(3)))
