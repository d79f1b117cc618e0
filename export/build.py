"""A base model -> a sealed bundle, whole or not at all: the flow of `export build`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from export import bundle
from export.bundle import BundleError, Calibration, Goldens, Manifest, Variant
from export.calibrate import ZERO_SHOT, GradedEvent, fit_platt, read_graded
from export.card import write_card
from export.golden_texts import TEXTS
from export.onnx import find_base, input_names, load_encoder, make_goldens, to_onnx
from export.precision import PRECISIONS, Precision
from export.session import Session, max_error, open_session, vectors
from export.source import Source, read_source

COPIED = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
ENCODER = "onnx/encoder{}.onnx"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built."""

    base: str
    out: Path
    variants: tuple[str, ...] = ("fp32",)
    categories: tuple[str, ...] = ()
    graded: Path | None = None


def build(order: Order, say: Callable[[str], None]) -> str:
    """Build the bundle at `order.out`; its digest. On any error nothing is left there."""
    if order.out.exists() and (not order.out.is_dir() or any(order.out.iterdir())):
        raise BundleError(order.out, "exists and is not empty; nothing is overwritten")
    if unknown := sorted(set(order.variants) - set(PRECISIONS)):
        raise BundleError(order.out, f"variants {unknown} are not among {sorted(PRECISIONS)}")
    events = read_graded(order.graded) if order.graded else []
    source = read_source(*find_base(order.base))
    order.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=order.out.parent, prefix=f".{order.out.name}."
    ) as temporary:
        draft = Path(temporary) / "bundle"
        digest = _build(source, draft, order, events, say)
        if order.out.exists():
            order.out.rmdir()
        draft.rename(order.out)
    return digest


def _build(
    source: Source,
    draft: Path,
    order: Order,
    events: Sequence[GradedEvent],
    say: Callable[[str], None],
) -> str:
    draft.mkdir()
    for name in COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, draft / name)
    say(f"loading {source.name}")
    encoder = load_encoder(source)
    manifest = _draft_manifest(source, order, input_names(encoder))
    say("exporting the float32 graph")
    to_onnx(encoder, draft / ENCODER.format(""))
    _write(draft, manifest)
    session = open_session(draft, device="cpu")
    _check_tokenizer(source, session)
    texts = [manifest.template.query(text) for text in TEXTS]
    goldens = make_goldens(encoder, session.tokenize(texts))
    goldens.write(draft)
    manifest = msgspec.structs.replace(manifest, dimensions=int(goldens.vector.shape[1]))
    for name in (each for each in PRECISIONS if each in {"fp32", *order.variants}):
        say(f"proving {name} on {len(TEXTS)} goldens")
        manifest = prove(draft, manifest, name, PRECISIONS[name], goldens)
    if events:
        say(f"calibrating on {len(events)} graded events")
        origin = f"fitted on {len(events)} graded events"
        calibration = calibrate(open_session(draft, device="cpu"), events, origin)
        manifest = msgspec.structs.replace(manifest, calibration=calibration)
    write_card(draft, manifest, source)
    return bundle.seal(draft, manifest)


def calibrate(session: Session, events: Sequence[GradedEvent], origin: str) -> Calibration:
    """The logistic from this session's cosines to the judges' grades."""
    template = session.manifest.template
    cosines: list[float] = []
    grades: list[float] = []
    for event in events:
        items = [template.render(msgspec.structs.asdict(each)) for each in event.candidates]
        found = encode(session, [template.query(event.user_query), *items])
        cosines.extend((found[1:] @ found[0]).tolist())
        grades.extend(candidate.grade for candidate in event.candidates)
    return fit_platt(np.array(cosines), np.array(grades), origin)


def encode(session: Session, texts: Sequence[str], rows: int = 16) -> NDArray[np.float64]:
    """The vectors of texts, in their order; shortest first through the graph, to pad little."""
    tokens = session.tokenize(texts)
    order = sorted(range(len(tokens)), key=lambda text: len(tokens[text]))
    found: dict[int, NDArray[np.float64]] = {}
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        width = max(len(tokens[text]) for text in batch)
        input_ids = np.zeros((len(batch), width), dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, text in enumerate(batch):
            input_ids[row, : len(tokens[text])] = tokens[text]
            attention_mask[row, : len(tokens[text])] = 1
        arrays = {"input_ids": input_ids, "attention_mask": attention_mask}
        found.update(zip(batch, session.run("encoder", arrays)["vector"], strict=True))
    return np.stack([found[text] for text in range(len(tokens))]).astype(np.float64)


def _draft_manifest(source: Source, order: Order, inputs: tuple[str, ...]) -> Manifest:
    return Manifest(
        format_version=bundle.FORMAT_VERSION,
        task="rank",
        base_model={"name": source.name, "weights_sha256": source.weights_sha256},
        parent=None,
        inputs=inputs,
        outputs=("vector",),
        dimensions=0,
        max_tokens=source.max_tokens,
        template=source.template,
        categories=order.categories,
        calibration=ZERO_SHOT,
        variants={"fp32": _untested("fp32", PRECISIONS["fp32"])},
        files={},
    )


def _untested(name: str, precision: Precision) -> Variant:
    return Variant(
        graphs={"encoder": ENCODER.format(precision.suffix)},
        golden_tolerance=precision.golden_tolerance,
        parity={},
        deterministic=name == "fp32",
    )


def prove(
    draft: Path, manifest: Manifest, name: str, precision: Precision, goldens: Goldens
) -> Manifest:
    """Make the variant, measure it against the trained model, and refuse it past its bounds."""
    if precision.convert is not None:
        precision.convert(draft / ENCODER.format(""), draft / ENCODER.format(precision.suffix))
    untested = _untested(name, precision)
    trial = msgspec.structs.replace(manifest, variants={**manifest.variants, name: untested})
    _write(draft, trial)
    session = open_session(draft, name, device="cpu")
    found = vectors(session)
    error = max_error(found, goldens.vector)
    cosine = float(np.einsum("nd,nd->n", unit(found), unit(goldens.vector)).min())
    if not (error <= precision.max_error and cosine >= precision.min_cosine):
        raise BundleError(
            draft.name,
            f"variant {name} is not the trained model: largest error {error:.3g} "
            f"(at most {precision.max_error:.3g}), least cosine {cosine:.6f} "
            f"(at least {precision.min_cosine})",
        )
    tested = msgspec.structs.replace(
        untested,
        parity={"max_abs_error": error, "min_cosine": cosine},
        deterministic=repeats_itself(session, goldens),
    )
    return msgspec.structs.replace(manifest, variants={**manifest.variants, name: tested})


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each row at length one, in double precision."""
    doubles = vectors.astype(np.float64)
    return np.asarray(doubles / np.linalg.norm(doubles, axis=1, keepdims=True))


def repeats_itself(session: Session, goldens: Goldens) -> bool:
    """Whether each golden's vector is bit-equal alone, in company, in another order and padded."""
    lengths = goldens.attention_mask.sum(axis=1)

    def run(rows: NDArray[np.int64], width: int) -> NDArray[np.float32]:
        tokens = {
            "input_ids": goldens.input_ids[rows, :width],
            "attention_mask": goldens.attention_mask[rows, :width],
        }
        return np.asarray(session.run("encoder", tokens)["vector"])

    alone = [run(np.array([row]), int(lengths[row]))[0] for row in range(len(lengths))]
    by_length = np.argsort(lengths, kind="stable")
    for rows, order in ((3, by_length), (5, by_length[::-1]), (16, np.arange(len(lengths)))):
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            together = run(batch, int(lengths[batch].max()))
            if any(not np.array_equal(together[i], alone[row]) for i, row in enumerate(batch)):
                return False
    return True


def _check_tokenizer(source: Source, session: Session) -> None:
    if not session.tokenize([""])[0]:
        raise BundleError(source.name, "its tokenizer gives no token for an empty text")
    upper, lower = session.tokenize(["Acme", "acme"])
    if source.lowercases and upper != lower:
        raise BundleError(source.name, "do_lower_case is set and its tokenizer.json does not do it")


def _write(draft: Path, manifest: Manifest) -> None:
    (draft / bundle.MANIFEST).write_bytes(msgspec.json.encode(manifest))
