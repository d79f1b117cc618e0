"""A trained model -> a bundle in two steps: a draft that runs, and the draft sealed with findings.

Between the two stands the judging: what is judged is what ships.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from export import bundle
from export.bundle import Blend, BundleError, Calibration, Goldens, Manifest, Template
from export.calibrate import ZERO_SHOT
from export.card import Findings, write_card
from export.domain import Domain
from export.golden_texts import PAIRS, TEXTS
from export.models import Encoder
from export.onnx import input_names, load_trunk, make_goldens, to_onnx
from export.precision import PRECISIONS
from export.proof import PATHS, prove, untested_variant, write_manifest
from export.session import Session, open_session
from export.source import Source, find_base, read_source
from export.trained import Trained, read_trained

COPIED: Final = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
WEIGHTS: Final = "weights"
UNFITTED: Final = Blend(
    pair=1.0, cosine=0.0, intercept=0.0, origin="the pair model's own logit; nothing was fitted"
)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOrder:
    """What is to be drafted of a trained model.

    `base` is the Hugging Face folder or hub id whose encoder, tokenizer and pooling the bundle
    takes; `trained` a folder of training or of peft. Templates left out are the base's own, and
    what the pair model needs. `max_tokens` cuts texts shorter than the base would. `domain` is that
    of the items that were learned from.
    """

    base: str
    trained: Path
    template: Template | None = None
    pair_template: Template | None = None
    categories: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("fp32",)
    calibration: Calibration = ZERO_SHOT
    parent: str | None = None
    training: dict[str, Any] | None = None
    max_tokens: int | None = None
    domain: Domain | None = None
    weights: bool = True
    spelling: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """The torch models of a bundle; no pair model in a zero-shot one."""

    encoder: Encoder
    trained: Trained | None = None


def draft(order: TrainedOrder, out: Path, say: Say) -> Manifest:
    """Write the unsealed folder `out`: graphs, tokenizer, goldens, each variant proved, and the
    weights. It opens as a session. Whole or not at all; BundleError says what is wrong.

    Its calibration is the order's and its blend the pair model's logit alone, until `finish`.
    """
    with written_whole(out) as folder:
        check_variants(out, order.variants)
        source = read_source(*find_base(order.base))
        say(f"loading {source.name} and {order.trained.name}")
        trained = read_trained(order.trained, source)
        parts = Parts(Encoder(load_trunk(source), source.pooling, trained.head), trained)
        manifest = msgspec.structs.replace(
            first_manifest(source, _categories(order, trained), parts),
            parent=order.parent,
            max_tokens=min(source.max_tokens, order.max_tokens or source.max_tokens),
            template=order.template or source.template,
            spelling=order.spelling,
            pair_template=order.pair_template or trained.pair_template,
            blend=UNFITTED,
            calibration=order.calibration,
            training=order.training,
        )
        manifest = write_draft(folder, source, parts, manifest, order.variants, say)
        if order.domain is not None:
            order.domain.write(folder)
        if order.weights:
            trained.save(folder / WEIGHTS)
        return manifest


def finish(folder: Path, out: Path, findings: Findings) -> str:
    """Copy the draft `folder` to `out` with what was found of it: calibration and blend in the
    manifest, the files of `findings`, the model card; sealed, and renamed into place, whole or not
    at all. The draft stays as it is. The bundle's digest."""
    manifest = bundle.read(folder)
    found = msgspec.structs.replace(
        manifest,
        calibration=findings.calibration or manifest.calibration,
        blend=findings.blend or manifest.blend,
        report=findings.report,
        training={**(manifest.training or {}), **findings.training} or None,
    )
    if findings.report is not None and findings.report not in findings.files:
        raise BundleError(out, f"report {findings.report!r} is not among the findings' files")
    with written_whole(out) as target:
        shutil.copytree(folder, target, dirs_exist_ok=True)
        for name, content in findings.files.items():
            if not (target / name).resolve().is_relative_to(target.resolve()):
                raise BundleError(out, f"{name}: lies outside the bundle")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
        write_card(target, found, findings)
        return bundle.seal(target, found)


def first_manifest(source: Source, categories: tuple[str, ...], parts: Parts) -> Manifest:
    """What is known of a bundle before any of its graphs was run."""
    pair_model = parts.trained and parts.trained.pair_model
    inputs = {*input_names(parts.encoder.model)}
    if pair_model:
        inputs |= {*input_names(pair_model.trunk)}
    head = ("category",) if parts.encoder.head is not None else ()
    assumed = " (assumed: the base model's files do not say)" if source.pooling_is_assumed else ""
    return Manifest(
        format_version=bundle.FORMAT_VERSION,
        task="rank",
        base_model={
            "name": source.name,
            "weights_sha256": source.weights_sha256,
            "pooling": source.pooling + assumed,
        },
        parent=None,
        inputs=tuple(name for name in bundle.INPUTS if name in inputs),
        outputs=("vector", *head, *(("relevance",) if pair_model else ())),
        dimensions=0,
        max_tokens=source.max_tokens,
        template=source.template,
        categories=categories,
        calibration=ZERO_SHOT,
        variants={},
        files={},
    )


def write_draft(
    folder: Path,
    source: Source,
    parts: Parts,
    manifest: Manifest,
    variants: Sequence[str],
    say: Say,
) -> Manifest:
    """Fill `folder` with graphs, tokenizer and goldens; the manifest with each variant proved."""
    for name in COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    say("exporting the float32 graphs")
    graphs = ["encoder", "model"] if parts.trained else ["encoder"]
    to_onnx(parts.encoder, folder / PATHS["encoder"].format(""))
    if parts.trained:
        to_onnx(parts.trained.pair_model, folder / PATHS["model"].format(""))
    opened = untested_variant("fp32", PRECISIONS["fp32"], graphs, None)
    write_manifest(folder, msgspec.structs.replace(manifest, variants={"fp32": opened}))
    session = open_session(folder, device="cpu")
    _check_tokenizer(source, session, parts)
    goldens = _goldens(session, parts)
    goldens.write(folder)
    manifest = msgspec.structs.replace(manifest, dimensions=int(goldens.vector.shape[1]))
    for name in (each for each in PRECISIONS if each in {"fp32", *variants}):
        say(
            f"proving {name} on {len(TEXTS)} texts"
            + (f", {len(PAIRS)} pairs" * bool(parts.trained))
        )
        manifest = prove(folder, manifest, goldens, name)
    write_manifest(folder, manifest)
    return manifest


def check_variants(where: Path, variants: Sequence[str]) -> None:
    """BundleError for a variant that nobody knows how to make."""
    if unknown := sorted(set(variants) - set(PRECISIONS)):
        raise BundleError(where, f"variants {unknown} are not among {sorted(PRECISIONS)}")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that becomes it, or goes away where the body raises."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(out, "exists and is not empty; nothing is overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rmdir()
        folder.rename(out)


def _goldens(session: Session, parts: Parts) -> Goldens:
    manifest = session.manifest
    tokens = session.tokenize([manifest.template.query(text) for text in TEXTS])
    if not parts.trained or manifest.pair_template is None:
        return make_goldens(parts.encoder, tokens)
    asked, shown = manifest.pair_template.query, manifest.pair_template.render
    pairs = [(asked(query), shown({"title": title})) for query, title in PAIRS]
    pair_tokens = session.tokenize_pairs(pairs)
    return make_goldens(parts.encoder, tokens, parts.trained.pair_model, pair_tokens)


def _check_tokenizer(source: Source, session: Session, parts: Parts) -> None:
    if not session.tokenize([""])[0]:
        raise BundleError(source.name, "its tokenizer gives no token for an empty text")
    upper, lower = session.tokenize(["Acme", "acme"])
    if source.lowercases and upper != lower:
        raise BundleError(source.name, "do_lower_case is set and its tokenizer.json does not do it")
    if parts.trained:
        known = parts.trained.pair_model.trunk.config.vocab_size
        if known < (count := session.tokenizer.get_vocab_size()):
            raise BundleError(
                source.name, f"its tokenizer has {count} tokens, the trained model knows {known}"
            )


def _categories(order: TrainedOrder, trained: Trained) -> tuple[str, ...]:
    if trained.head is not None and order.categories not in ((), trained.categories):
        raise BundleError(
            order.trained,
            f"its category head was trained on {len(trained.categories)} categories, and the "
            f"{len(order.categories)} of the order are not the same",
        )
    return trained.categories if trained.head is not None else order.categories
