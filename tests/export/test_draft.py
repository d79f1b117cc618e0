"""A draft runs, and is sealed with what was found of it; each is written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from export import bundle
from export.bundle import BundleError, Template
from export.calibrate import ZERO_SHOT
from export.card import Findings
from export.domain import DOMAIN, Domain, fit_normal
from export.draft import UNFITTED, TrainedOrder, draft, finish
from export.graded import GradedCandidate, GradedEvent, calibrate, encode, relevance
from export.session import Session, open_session, replay


def silent(line: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def drafted(
    small_base: Path, trained_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A draft, as training judges it."""
    out = tmp_path_factory.mktemp("drafts") / "draft"
    order = TrainedOrder(
        base=str(small_base),
        trained=trained_folder,
        pair_template=Template(item_before="item: "),
        parent="0" * 64,
        training={"rows": 12},
        max_tokens=20,
        weights=False,
    )
    manifest = draft(order, out, silent)
    assert manifest == bundle.read(out)
    assert list(out.parent.iterdir()) == [out]
    return out


def test_a_draft_runs_before_it_is_sealed(drafted: Path) -> None:
    session = open_session(drafted, device="cpu")
    assert replay(session) < 1e-4
    assert session.manifest.files == {}
    assert session.manifest.max_tokens == 20
    assert session.manifest.pair_template == Template(item_before="item: ")
    assert not (drafted / "weights").exists()


def fitted(session: Session) -> Findings:
    """What is found of a draft, grades that its own pair model gives."""
    titles = ["shoe", "drill", "cable", "lamp", "9 mm bolt", "red hat"]
    logits = relevance(session, [("shoe", f"item: {title}") for title in titles])
    vectors = encode(session, ["shoe", *titles])
    logits = logits + 20.0 * (vectors[1:] @ vectors[0])
    grades = (np.argsort(np.argsort(logits)) + 0.5) / len(titles)
    candidates = tuple(
        GradedCandidate(item_id=title, title=title, grade=float(grade))
        for title, grade in zip(titles, grades, strict=True)
    )
    event = GradedEvent(query_id="q", user_query="shoe", candidates=candidates)
    calibration, blend = calibrate(session, [event], "a test")
    return Findings(
        calibration=calibration,
        blend=blend,
        report="report.json",
        files={"report.json": b"{}", "report/curve.svg": b"<svg/>"},
        training={"counts": {"pairs": 6}},
        data=[{"set": "shoes", "queries": 1, "pairs": 6}],
        metrics=[{"set": "shoes", "nDCG@10": 0.9371, "champion": 0.9}],
        trade_off=[{"dial": 0.3, "nDCG@10": 0.91, "alpha-nDCG@10": None}],
        limits="Fairness: exposure by seller was within 2 %.",
    )


def test_finish_seals_what_was_found_and_leaves_the_draft(drafted: Path, tmp_path: Path) -> None:
    findings = fitted(open_session(drafted, device="cpu"))
    digest = finish(drafted, tmp_path / "out", findings)
    manifest = bundle.verify(tmp_path / "out", digest)
    assert manifest.calibration == findings.calibration != ZERO_SHOT
    assert manifest.blend == findings.blend != UNFITTED
    assert manifest.blend is not None
    assert manifest.blend.pair > 0.0
    assert manifest.report == "report.json"
    assert manifest.parent == "0" * 64
    assert manifest.training == {"rows": 12, "counts": {"pairs": 6}}
    assert {"report.json", "report/curve.svg"} <= set(manifest.files)
    card = (tmp_path / "out/README.md").read_text()
    for stated in ("0.9371", "exposure by seller", "| shoes |", "–", "Parent: bundle"):
        assert stated in card
    assert bundle.read(drafted).files == {}
    assert digest == finish(drafted, tmp_path / "again", findings)


UNFIT = [
    ("a report that is not given", Findings(report="report.json"), "is not among the findings"),
    ("a file outside", Findings(files={"../x": b""}), "lies outside"),
]


@pytest.mark.parametrize(("findings", "why"), [u[1:] for u in UNFIT], ids=[u[0] for u in UNFIT])
def test_what_cannot_be_finished_leaves_nothing(
    drafted: Path, tmp_path: Path, findings: Findings, why: str
) -> None:
    with pytest.raises(BundleError, match=why):
        finish(drafted, tmp_path / "out", findings)
    assert list(tmp_path.iterdir()) == []


def test_finish_overwrites_nothing(drafted: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(BundleError, match="exists and is not empty"):
        finish(drafted, tmp_path, Findings())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def rewrite(name: str, content: bytes | None) -> Callable[[Path], object]:
    """What overwrites, or removes, one file of a trained folder."""
    if content is None:
        return lambda folder: (folder / name).unlink()
    return lambda folder: (folder / name).write_bytes(content)


def reshape(name: str, tensor: str, rows: int) -> Callable[[Path], object]:
    """What cuts a tensor of a trained folder."""

    def cut(folder: Path) -> None:
        weights = load_file(folder / name)
        save_file({**weights, tensor: weights[tensor][:rows].contiguous()}, folder / name)

    return cut


SPOILT: list[tuple[str, Callable[[Path], object], str]] = [
    ("nothing that is known", rewrite("trained.json", None), "neither trained.json nor adapter"),
    ("notes that are none", rewrite("trained.json", b"{}"), "missing required field `pooling`"),
    ("an unknown pooling", rewrite("trained.json", b'{"pooling": "max"}'), "Invalid enum value"),
    ("no weights", rewrite("model.safetensors", None), "not a trained model"),
    ("weights that are none", rewrite("model.safetensors", b"none"), "not a trained model"),
    ("weights of another shape", reshape("model.safetensors", "head.weight", 0), "size mismatch"),
    ("no head for its categories", rewrite("category.safetensors", None), "is missing"),
    ("too few logits", reshape("category.safetensors", "weight", 2), "2 rows for 3 categories"),
]


@pytest.mark.parametrize(("damage", "why"), [s[1:] for s in SPOILT], ids=[s[0] for s in SPOILT])
def test_a_trained_folder_that_is_not_one_is_refused_and_leaves_nothing(
    small_base: Path,
    trained_folder: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    why: str,
) -> None:
    spoilt = Path(shutil.copytree(trained_folder, tmp_path / "trained"))
    damage(spoilt)
    order = TrainedOrder(base=str(small_base), trained=spoilt)
    with pytest.raises(BundleError, match=why):
        draft(order, tmp_path / "out", silent)
    assert list(tmp_path.iterdir()) == [spoilt]


def test_other_categories_than_the_heads_are_refused(
    small_base: Path, trained_folder: Path, tmp_path: Path
) -> None:
    order = TrainedOrder(base=str(small_base), trained=trained_folder, categories=("hats",))
    with pytest.raises(BundleError, match="trained on 3 categories"):
        draft(order, tmp_path / "out", silent)


def test_a_bundle_says_how_far_its_pair_model_reaches(
    drafted: Path, small_base: Path, trained_folder: Path, tmp_path: Path
) -> None:
    session = open_session(drafted, device="cpu")
    assert session.domain is None
    vectors = encode(session, ["shoe", "red shoe", "trail shoe"]).astype(np.float32)
    domain = Domain(fit_normal(vectors), 1.0, 2.0)
    order = TrainedOrder(base=str(small_base), trained=trained_folder, domain=domain, weights=False)
    draft(order, tmp_path / "draft", silent)
    opened = open_session(tmp_path / "draft", device="cpu")
    assert opened.domain is not None
    assert (opened.domain.near, opened.domain.far) == (1.0, 2.0)
    assert opened.domain.share(vectors) == domain.share(vectors)
    found = msgspec.structs.replace(UNFITTED, beyond=ZERO_SHOT)
    finish(tmp_path / "draft", tmp_path / "out", Findings(blend=found))
    assert DOMAIN in bundle.verify(tmp_path / "out").files
    assert "there the logit is 9.3400 * cosine" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(BundleError, match=r"domain\.npz: missing, and the blend says what stands"):
        finish(drafted, tmp_path / "without", Findings(blend=found))


def test_a_domain_of_another_encoder_is_refused(drafted: Path, tmp_path: Path) -> None:
    shutil.copytree(drafted, tmp_path / "draft")
    Domain(fit_normal(np.eye(3)), 1.0, 2.0).write(tmp_path / "draft")
    with pytest.raises(BundleError, match=r"domain\.npz: of 3 dimensions, the manifest says"):
        open_session(tmp_path / "draft", device="cpu")
