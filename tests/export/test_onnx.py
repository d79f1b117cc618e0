"""The exported graph is the trained model, bit by bit alike in any batch, or it is refused."""

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
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from export import bundle
from export.build import Order, build
from export.bundle import BundleError, Goldens
from export.golden_texts import TEXTS
from export.precision import PRECISIONS
from export.proof import prove
from export.session import Session, open_session
from export.source import read_source
from tests.export.models import save_base

FAMILIES = [("bert", "mean"), ("roberta", "mean"), ("distilbert", "cls")]


class Exported(NamedTuple):
    """A bundle and what it was made of."""

    base: Path
    bundle: Path
    family: str
    pooling: str


def silent(line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module", params=FAMILIES, ids=[family for family, _ in FAMILIES])
def exported(
    request: pytest.FixtureRequest,
    small_base: Path,
    small_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    """A bundle of each family."""
    family, pooling = request.param
    if family == "bert":
        return Exported(small_base, small_bundle, family, pooling)
    folder = tmp_path_factory.mktemp(family)
    save_base(folder / "base", family, pooling)
    build(Order(str(folder / "base"), folder / "bundle"), silent)
    return Exported(folder / "base", folder / "bundle", family, pooling)


def pad(tokens: list[Any], width: int) -> dict[str, NDArray[np.int64]]:
    """Token lists as one batch, `width` columns wide or as wide as the longest."""
    width = max(width, *(len(ids) for ids in tokens))
    rows = [[*ids, *[0] * (width - len(ids))] for ids in tokens]
    mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in tokens]
    return {"input_ids": np.array(rows), "attention_mask": np.array(mask)}


def test_each_family_gives_what_its_torch_model_gives(exported: Exported) -> None:
    session = open_session(exported.bundle, device="cpu")
    model = AutoModel.from_pretrained(exported.base).eval()
    assert ("token_type_ids" in session.manifest.inputs) == (exported.family == "bert")
    for ids in session.tokenize(TEXTS):
        with torch.inference_mode():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        pooled = hidden[0] if exported.pooling == "cls" else hidden.mean(0)
        wanted = (pooled / pooled.norm()).numpy()
        found = session.run("encoder", pad([ids], 0))["vector"][0]
        assert found == pytest.approx(wanted, abs=2e-6)


def assert_rows_do_not_know_their_batch(
    session: Session, tokens: list[Any], rows: list[int], width: int
) -> None:
    together = session.run("encoder", pad([tokens[row] for row in rows], width))["vector"]
    for row, vector in zip(rows, together, strict=True):
        alone = session.run("encoder", pad([tokens[row]], 0))["vector"][0]
        assert np.array_equal(vector, alone), f"row {row} of {rows} at width {width}"


batches = st.lists(st.integers(0, len(TEXTS) - 2), min_size=1, max_size=20)  # without the longest


@given(rows=batches, width=st.integers(0, 40))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_float32_is_bit_equal_in_any_batch(exported: Exported, rows: list[int], width: int) -> None:
    session = open_session(exported.bundle, device="cpu")
    assert_rows_do_not_know_their_batch(session, session.tokenize(TEXTS), rows, width)


@given(rows=batches, width=st.integers(0, 120))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_minilm_in_float32_is_bit_equal_in_any_batch(
    minilm_session: Session, rows: list[int], width: int
) -> None:
    assert_rows_do_not_know_their_batch(minilm_session, minilm_session.tokenize(TEXTS), rows, width)


@pytest.fixture(scope="module")
def minilm_session(minilm_bundle: Path) -> Session:
    """all-MiniLM-L6-v2 in float32."""
    return open_session(minilm_bundle, device="cpu")


def test_minilm_gives_what_sentence_transformers_gives(
    minilm: Path, minilm_session: Session
) -> None:
    from sentence_transformers import SentenceTransformer  # seconds that one test pays

    oracle = SentenceTransformer(str(minilm), device="cpu")
    wanted = oracle.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)
    for ids, vector in zip(minilm_session.tokenize(TEXTS), wanted, strict=True):
        found = minilm_session.run("encoder", pad([ids], 0))["vector"][0]
        assert found == pytest.approx(vector, abs=2e-6)


def test_minilm_knows_a_shoe_from_a_drill(minilm_session: Session) -> None:
    texts = ["running shoes", "Trail runner for women, waterproof", "Cordless drill 18 V"]
    query, shoe, drill = minilm_session.run("encoder", pad(minilm_session.tokenize(texts), 0))[
        "vector"
    ]
    assert query @ shoe > query @ drill + 0.2


def test_the_manifest_of_minilm_states_what_was_measured(minilm_bundle: Path) -> None:
    manifest = bundle.verify(minilm_bundle)
    float32, int8 = manifest.variants["fp32"], manifest.variants["int8"]
    assert manifest.max_tokens == 256
    assert manifest.dimensions == 384
    assert float32.deterministic
    assert float32.parity["max_abs_error"] < 1e-6
    assert not int8.deterministic
    assert int8.parity["min_cosine"] > 0.97
    assert len(Goldens.read(minilm_bundle).vector) == len(TEXTS) == 24
    assert max(Goldens.read(minilm_bundle).attention_mask.sum(axis=1)) == 256
    card = (minilm_bundle / "README.md").read_text()
    for stated in (manifest.base_model["weights_sha256"], "mean", manifest.calibration.origin):
        assert stated in card


def test_a_graph_keeps_no_path_of_the_machine_that_made_it(minilm_bundle: Path) -> None:
    for graph in (minilm_bundle / "onnx").iterdir():
        assert b"site-packages" not in graph.read_bytes()


def test_a_graph_that_is_not_the_trained_model_is_refused(
    small_bundle: Path, tmp_path: Path
) -> None:
    draft = Path(shutil.copytree(small_bundle, tmp_path / "draft"))
    strict = dataclasses.replace(PRECISIONS["fp32"], max_error=0.0)
    goldens = Goldens.read(draft)
    with pytest.raises(BundleError, match=r"fp32 is not the trained model in vector: .*at most 0"):
        prove(draft, bundle.read(draft), goldens, "fp32", strict)


@pytest.mark.parametrize("name", PRECISIONS)
def test_other_devices_may_differ_more_than_the_builder(name: str) -> None:
    assert PRECISIONS[name].golden_tolerance > PRECISIONS[name].max_error
    assert PRECISIONS[name].logit_tolerance > PRECISIONS[name].max_logit_error


def modules(*kinds: str) -> list[dict[str, str]]:
    """modules.json."""
    return [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in kinds]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("max pooling", {"pooling": "max"}, "pooling max; only mean, cls and lasttoken"),
    (
        "two poolings",
        {"1_Pooling/config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}},
        "only mean, cls and lasttoken",
    ),
    ("a dense layer", {"modules": modules("Transformer", "Pooling", "Dense")}, "Dense cannot be"),
    ("no pooling", {"modules": modules("Transformer")}, "names no Pooling"),
    (
        "a prompt left out of the mean",
        {"1_Pooling/config": {"pooling_mode": "mean", "include_prompt": False}},
        "include_prompt",
    ),
]


@pytest.mark.parametrize(("files", "why"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_base_that_cannot_be_reproduced_is_refused(
    tmp_path: Path, files: dict[str, Any], why: str
) -> None:
    save_base(tmp_path / "base", "bert", **files)
    with pytest.raises(BundleError, match=why):
        build(Order(str(tmp_path / "base"), tmp_path / "out"), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_base_without_a_needed_file_is_refused(tmp_path: Path, name: str) -> None:
    base = save_base(tmp_path / "base", "bert")
    (base / name).unlink()
    with pytest.raises(BundleError, match=r"missing|pickle"):
        read_source(base, "base")


def test_weights_that_are_not_numbers_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "bert")
    weights = load_file(base / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] *= float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match="largest error nan"):
        build(Order(str(base), tmp_path / "out"), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


SOURCES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("the tokenizer's maximum", {}, {"max_tokens": 40, "pooling": "mean"}),
    ("the sentence maximum", {"sentence_bert_config": {"max_seq_length": 9}}, {"max_tokens": 9}),
    ("no more than the positions", {"tokenizer_config": {}}, {"max_tokens": 64}),
    (
        "an endless tokenizer",
        {"tokenizer_config": {"model_max_length": 10**30}},
        {"max_tokens": 64},
    ),
    ("no word on pooling", {"pooling": None}, {"pooling": "mean", "pooling_is_assumed": True}),
    ("a word on pooling", {"pooling": "cls"}, {"pooling": "cls", "pooling_is_assumed": False}),
    ("a word on the last token", {"pooling": "lasttoken"}, {"pooling": "last"}),
    (
        "a flag of old",
        {"1_Pooling/config": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}},
        {"pooling": "cls"},
    ),
]


@pytest.mark.parametrize(("files", "wanted"), [s[1:] for s in SOURCES], ids=[s[0] for s in SOURCES])
def test_the_models_own_files_say_how_it_is_read(
    tmp_path: Path, files: dict[str, Any], wanted: dict[str, Any]
) -> None:
    source = read_source(save_base(tmp_path / "base", "bert", **files), "base")
    assert {name: getattr(source, name) for name in wanted} == wanted


def test_roberta_has_two_positions_less_than_its_table(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "roberta", tokenizer_config={})
    assert read_source(base, "base").max_tokens == 64


def test_prompts_become_the_template(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "query: ", "document": "passage: "}}
    base = save_base(tmp_path / "base", "bert", config_sentence_transformers=prompts)
    template = read_source(base, "base").template
    assert template.query("shoe") == "query: shoe"
    assert template.render({"title": "Shoe"}) == "passage: Shoe"
