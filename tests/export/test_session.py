"""A bundle's graphs, running: what they give, and what is refused before they serve."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export import bundle
from export.bundle import BundleError, Goldens
from export.session import has_gpu, open_session, replay


@pytest.fixture
def copied(small_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may break."""
    return Path(shutil.copytree(small_bundle, tmp_path / "bundle"))


def test_a_bundle_replays_within_its_tolerance_in_every_precision(small_bundle: Path) -> None:
    manifest = bundle.read(small_bundle)
    for name, variant in manifest.variants.items():
        session = open_session(small_bundle, name, device="cpu")
        assert session.device == "cpu"
        assert session.digest == bundle.digest(small_bundle)
        assert replay(session) == variant.parity["max_abs_error"] <= variant.golden_tolerance


def test_the_device_is_cuda_where_a_gpu_answers_and_cpu_elsewhere(small_bundle: Path) -> None:
    session = open_session(small_bundle)
    assert session.device == ("cuda" if has_gpu() else "cpu")
    assert replay(session) >= 0.0


@pytest.mark.skipif(has_gpu(), reason="a GPU answers here")
def test_cuda_without_a_gpu_is_refused(
    small_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match="device cuda"):
        open_session(small_bundle, device="cuda")
    assert capfd.readouterr().out == ""


TEXTS = [
    ("an empty text", "", [0, 2]),
    ("two letters in any case", "aB", [0, 4, 5, 2]),
    ("an unknown letter", "é", [0, 3, 2]),
    ("one that is too long", "a" * 500, [0, *[4] * 38, 2]),
]


@pytest.mark.parametrize(("text", "tokens"), [t[1:] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_a_text_is_tokenised_with_its_ends_and_cut(
    small_bundle: Path, text: str, tokens: list[int]
) -> None:
    assert open_session(small_bundle, device="cpu").tokenize([text]) == [tokens]


def test_token_types_are_zeros_unless_they_are_given(small_bundle: Path) -> None:
    session = open_session(small_bundle, device="cpu")
    ids = np.array([[0, 4, 5, 2]])
    tokens = {"input_ids": ids, "attention_mask": np.ones_like(ids), "unknown": ids}
    plain = session.run("encoder", tokens)["vector"]
    zeros = session.run("encoder", {**tokens, "token_type_ids": ids * 0})["vector"]
    ones = session.run("encoder", {**tokens, "token_type_ids": ids * 0 + 1})["vector"]
    assert np.array_equal(plain, zeros)
    assert not np.allclose(plain, ones)
    assert np.linalg.norm(plain) == pytest.approx(1.0, abs=1e-6)


def test_a_graph_that_the_bundle_has_not_is_an_error(small_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no graph 'model'"):
        open_session(small_bundle, device="cpu").run("model", {})


def test_a_draft_runs_before_it_is_sealed(copied: Path) -> None:
    draft = msgspec.structs.replace(bundle.read(copied), files={})
    (copied / "manifest.json").write_bytes(msgspec.json.encode(draft))
    assert replay(open_session(copied, device="cpu")) < 1e-5


def write(name: str, content: bytes) -> Callable[[Path], object]:
    """What overwrites one file of a bundle."""
    return lambda folder: (folder / name).write_bytes(content)


def change(**fields: object) -> Callable[[Path], object]:
    """What changes fields of a bundle's manifest."""
    return lambda folder: (folder / "manifest.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(bundle.read(folder), **fields))
    )


BROKEN = [
    ("a graph that is none", write("onnx/encoder.onnx", b"none"), r"onnx/encoder\.onnx: "),
    ("a graph that is absent", lambda f: (f / "onnx/encoder.onnx").unlink(), r"encoder\.onnx: "),
    ("a tokenizer that is none", write("tokenizer.json", b"{"), r"tokenizer\.json: "),
    ("a tokenizer that is absent", lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json: "),
    ("an input that is unknown", change(inputs=("input_ids",)), "knows no .*attention_mask"),
    ("an output that is absent", change(outputs=("vector", "category")), "'category'.*no graph"),
    ("a manifest that is absent", lambda f: (f / "manifest.json").unlink(), r"manifest\.json: "),
]


@pytest.mark.parametrize(("damage", "why"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_a_broken_bundle_is_refused_with_what_is_wrong(
    copied: Path, damage: Callable[[Path], object], why: str
) -> None:
    damage(copied)
    with pytest.raises(BundleError, match=why):
        open_session(copied, device="cpu")


def test_an_unknown_variant_is_refused(small_bundle: Path) -> None:
    with pytest.raises(BundleError, match="'fp8' is not among fp16, fp32, int8"):
        open_session(small_bundle, "fp8")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            lambda vector: vector + 0.01,
            r"differ by 0\.01 in vector on cpu, variant fp32 tolerates 0\.0001",
        ),
        (lambda vector: vector * np.nan, "differ by nan"),
        (lambda vector: vector[:, :5], r"goldens are \(8, 5\), the graph gives \(8, 32\)"),
    ],
    ids=["another model's", "not a number", "another shape"],
)
def test_goldens_that_do_not_replay_are_refused(
    copied: Path, wrong: Callable[[np.ndarray], np.ndarray], why: str
) -> None:
    goldens = Goldens.read(copied)
    msgspec.structs.replace(goldens, vector=wrong(goldens.vector)).write(copied)
    with pytest.raises(BundleError, match=why):
        replay(open_session(copied, device="cpu"))


def test_goldens_that_the_graph_cannot_read_are_refused(copied: Path) -> None:
    goldens = Goldens.read(copied)
    msgspec.structs.replace(goldens, input_ids=goldens.input_ids + 10_000).write(copied)
    with pytest.raises(BundleError, match="the goldens do not run"):
        replay(open_session(copied, device="cpu"))


def test_what_serves_needs_no_torch() -> None:
    code = (
        "import sys, export.session, export.registry\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
