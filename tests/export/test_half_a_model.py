"""A trained bundle that lacks a part, or whose goldens another model gave, is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from export import bundle
from export.bundle import BundleError, Goldens
from export.session import open_session, replay


@pytest.fixture
def copied(trained_bundle: Path, tmp_path: Path) -> Path:
    """A trained bundle that a test may break."""
    return Path(shutil.copytree(trained_bundle, tmp_path / "bundle"))


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
