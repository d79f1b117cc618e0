"""Cosine -> P(relevant): Platt's logistic on graded pairs, fitted by Newton's method. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from export.bundle import Calibration

MAX_STEPS: Final = 50
CONVERGED: Final = 1e-10
RIDGE: Final = 1e-9  # keeps the Hessian invertible where the pairs are almost separable

ZERO_SHOT: Final = Calibration(
    slope=9.340,
    intercept=-4.065,
    origin=(
        "the default: fitted with all-MiniLM-L6-v2 on 6,000 query-title pairs, half each from the "
        "train parts of the Crowdflower search relevance and Home Depot product search sets, "
        "grades scaled to [0, 1], and as many pairs with a random title of the same set, which "
        "count as 0: judged pairs alone say nothing of what is beside the point (Brier score "
        ".0545, .1799 for a constant; on the judged pairs alone .097, .090 for a constant, for "
        "it expects less of them than judges who saw only plausible products)"
    ),
)

Grade = Annotated[float, Meta(ge=0.0, le=1.0)]
NotEmpty = Annotated[str, Meta(min_length=1)]


class CalibrationError(Exception):
    """The graded events do not give a calibration. Nothing is written."""


class GradedCandidate(Struct, frozen=True, kw_only=True):
    """A candidate with a judge's grade and the fields that the template reads."""

    item_id: NotEmpty
    title: str
    grade: Grade
    description: str | None = None
    category: str | None = None
    brand: str | None = None


class GradedEvent(Struct, frozen=True, kw_only=True):
    """A search event whose candidates carry a grade in [0, 1]."""

    query_id: NotEmpty
    user_query: str
    candidates: tuple[GradedCandidate, ...]


def read_graded(path: Path) -> list[GradedEvent]:
    """The events of a JSONL file; a bad line is an error that names line, path and value."""
    decoder = msgspec.json.Decoder(GradedEvent)
    events = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            where = f"{path.name} line {number}"
            raise CalibrationError(f"{where}: {error}{_value_at(line, str(error))}") from error
    return events


def fit_platt(cosine: NDArray[np.float64], grade: NDArray[np.float64], origin: str) -> Calibration:
    """Maximum likelihood of P = 1 / (1 + exp(-(slope * cosine + intercept))), grades as soft labels
    (Platt 1999, section 2, with Newton's steps and the halving of Lin, Lin and Weng 2007)."""
    if len(cosine) == 0:
        raise CalibrationError("no graded pairs")
    if not (np.isfinite(cosine).all() and np.isfinite(grade).all()):
        raise CalibrationError("cosines and grades must be finite")
    design = np.stack([cosine, np.ones_like(cosine)], axis=1)
    weights = np.zeros(2)
    for _ in range(MAX_STEPS):
        chance = 0.5 * (1.0 + np.tanh(design @ weights / 2.0))  # the logistic, without overflow
        gradient = design.T @ (chance - grade) + RIDGE * weights
        hessian = (design.T * (chance * (1.0 - chance))) @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        before = _loss(design, grade, weights)
        while _loss(design, grade, weights - scale * step) > before and scale > CONVERGED:
            scale /= 2.0
        weights = weights - scale * step
        if np.abs(scale * step).max() < CONVERGED:
            break
    slope, intercept = (float(weight) for weight in weights)
    if not slope > 0.0:
        raise CalibrationError(
            f"slope {slope:.3g} is not positive: the grades do not rise with the cosine"
        )
    return Calibration(slope=slope, intercept=intercept, origin=origin)


def _loss(
    design: NDArray[np.float64], grade: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    logit = design @ weights
    return float((np.logaddexp(0.0, logit) - grade * logit).sum() + RIDGE * (weights @ weights) / 2)


def _value_at(line: bytes, message: str) -> str:
    """`, got VALUE` for a message that ends in msgspec's "at `$.path`"."""
    if " - at `$" not in message:
        return ""
    value = msgspec.json.decode(line)
    for step in re.findall(r"\w+", message.rsplit("`$", 1)[1]):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
    return f", got {value!r}"
