"""How near a variant's graphs come to the trained model, and whether that is near enough. No torch.

In: a draft folder and its goldens. Out: a manifest that states what was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from export import bundle
from export.bundle import BundleError, Goldens, Manifest, Variant
from export.precision import PRECISIONS, Precision
from export.session import Session, max_error, open_session, outputs

PATHS = {"encoder": "onnx/encoder{}.onnx", "model": "onnx/model{}.onnx"}


def prove(
    draft: Path,
    manifest: Manifest,
    goldens: Goldens,
    name: str,
    precision: Precision | None = None,
) -> Manifest:
    """Make the variant `name` of the float32 graphs, measure it against the goldens, and name it
    in the manifest; BundleError past its bounds."""
    bounds = precision or PRECISIONS[name]
    graphs = [graph for graph in PATHS if (draft / PATHS[graph].format("")).is_file()]
    if bounds.convert is not None:
        for graph in graphs:
            _convert(draft, graph, name, bounds)
    untested = untested_variant(name, bounds, graphs, goldens)
    trial = msgspec.structs.replace(manifest, variants={**manifest.variants, name: untested})
    write_manifest(draft, trial)
    session = open_session(draft, name, device="cpu")
    parity: dict[str, float] = {}
    for graph in graphs:
        parity |= _measured(draft, name, bounds, outputs(session, graph, goldens), goldens, graph)
    tested = msgspec.structs.replace(
        untested,
        parity=parity,
        deterministic=all(repeats_itself(session, graph, goldens) for graph in graphs),
    )
    return msgspec.structs.replace(manifest, variants={**manifest.variants, name: tested})


def untested_variant(
    name: str, precision: Precision, graphs: list[str], goldens: Goldens | None
) -> Variant:
    """The variant before anything was measured. Logits are tolerated in shares of their spread."""
    logits = goldens.outputs("encoder") | goldens.outputs("model") if goldens else {}
    return Variant(
        graphs={graph: PATHS[graph].format(precision.suffix) for graph in graphs},
        golden_tolerance=precision.golden_tolerance,
        logit_tolerance={
            output: precision.logit_tolerance * spread(wanted)
            for output, wanted in logits.items()
            if output != "vector"
        },
        parity={},
        deterministic=name == "fp32",
    )


def write_manifest(draft: Path, manifest: Manifest) -> None:
    """What lets a draft be opened as a session."""
    (draft / bundle.MANIFEST).write_bytes(msgspec.json.encode(manifest))


def spread(logits: NDArray[np.float32]) -> float:
    """What an error of a logit is held against: from least to largest, and at least 1."""
    return max(1.0, float(np.ptp(logits)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n, d]: each row at length one, in double precision."""
    doubles = vectors.astype(np.float64)
    return np.asarray(doubles / np.linalg.norm(doubles, axis=1, keepdims=True))


def spearman(left: NDArray[Any], right: NDArray[Any]) -> float:
    """The correlation of the ranks, ties at their mean (Spearman 1904); NaN for a constant."""
    return pearson(_ranks(left), _ranks(right))


def pearson(left: NDArray[Any], right: NDArray[Any]) -> float:
    """The correlation of two series [n]; NaN where one is constant or holds a NaN."""
    x, y = (each.astype(np.float64) - each.astype(np.float64).mean() for each in (left, right))
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length > 0.0 else np.nan


def repeats_itself(session: Session, graph: str, goldens: Goldens) -> bool:
    """Whether each golden's row is bit-equal alone, in company, in another order and padded."""
    tokens = goldens.tokens(graph)
    lengths = tokens["attention_mask"].sum(axis=1)

    def run(rows: NDArray[np.int64], width: int) -> list[tuple[bytes, ...]]:
        found = session.run(graph, {name: each[rows, :width] for name, each in tokens.items()})
        return [tuple(each[row].tobytes() for each in found.values()) for row in range(len(rows))]

    alone = [run(np.array([row]), int(lengths[row]))[0] for row in range(len(lengths))]
    by_length = np.argsort(lengths, kind="stable")
    for rows, order in ((3, by_length), (5, by_length[::-1]), (16, np.arange(len(lengths)))):
        for start in range(0, len(order), rows):
            batch = order[start : start + rows]
            if run(batch, int(lengths[batch].max())) != [alone[row] for row in batch]:
                return False
    return True


def _convert(draft: Path, graph: str, name: str, precision: Precision) -> None:
    assert precision.convert is not None, "only a variant that is made is converted: this is a bug"
    source, target = (draft / PATHS[graph].format(each) for each in ("", precision.suffix))
    try:
        precision.convert(source, target)
    except Exception as error:  # the converters raise bare ones
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(draft.name, f"{name} cannot be made of {graph}: {first}") from error


def _measured(
    draft: Path,
    name: str,
    bounds: Precision,
    found: dict[str, NDArray[np.float32]],
    goldens: Goldens,
    graph: str,
) -> dict[str, float]:
    """The parity of one graph's outputs: max_abs_error and min_cosine of the vectors; error and
    correlations of the logits."""
    parity: dict[str, float] = {}
    for output, wanted in goldens.outputs(graph).items():
        error = max_error(found[output], wanted)
        if output == "vector":
            cosine = float(np.einsum("nd,nd->n", unit(found[output]), unit(wanted)).min())
            parity |= {"max_abs_error": error, "min_cosine": cosine}
            checks = [("largest error", error, bounds.max_error, "at most")]
            checks.append(("least cosine", cosine, bounds.min_cosine, "at least"))
        else:
            rank, line = (
                each(found[output].ravel(), wanted.ravel()) for each in (spearman, pearson)
            )
            parity |= {f"{output}_max_abs_error": error, f"{output}_spearman": rank}
            parity |= {f"{output}_pearson": line}
            checks = [("largest error", error, bounds.max_logit_error * spread(wanted), "at most")]
            checks.append(("Spearman correlation", rank, bounds.min_spearman, "at least"))
        passed = [v <= limit if side == "at most" else v >= limit for _, v, limit, side in checks]
        if not all(passed):  # written so that NaN is refused too
            said = ", ".join(
                f"{what} {v:.6g} ({side} {limit:.6g})" for what, v, limit, side in checks
            )
            raise BundleError(
                draft.name, f"variant {name} is not the trained model in {output}: {said}"
            )
    return parity


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[place])
