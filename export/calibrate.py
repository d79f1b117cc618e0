"""The constants of both stages, fitted on graded pairs: cosine -> P(relevant), and the blend of
everything that is known of a pair. Logistic regression by Newton's method. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from export.blend import MISSING, Doubles
from export.bundle import Blend, Calibration, Curve

MAX_STEPS: Final = 50
CONVERGED: Final = 1e-10
RIDGE: Final = 1e-9  # keeps the Hessian invertible where the pairs are almost separable
EDGE: Final = 1e-3  # a mean grade is kept this far from 0 and 1, where a logit has no end
LEAST_SLOPE: Final = 1.0  # a cosine from 0 to 1 then moves P by a quarter at most
KNOTS: Final = 17  # of a feature's curve
PRESENT: Final = 0.1  # of the rows must know a feature
NEVER_NEGATIVE: Final = (1, 2)  # cosine and engine, among a blend's columns

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


class CalibrationError(Exception):
    """The graded pairs do not give a calibration or a blend. Nothing is written."""


def fit_platt(
    cosine: Doubles, grade: Doubles, origin: str, weight: Doubles | None = None
) -> Calibration:
    """Maximum likelihood of P = 1 / (1 + exp(-(slope * cosine + intercept))), grades as soft labels
    (Platt 1999, section 2). [n] each; CalibrationError where the grades do not rise."""
    design = np.stack([cosine, np.ones_like(cosine)], axis=1)
    counts = np.ones(len(grade)) if weight is None else weight
    slope, intercept = map(float, _Logistic.of(design, grade, counts).fit())
    if not slope > 0.0:
        raise CalibrationError(
            f"slope {slope:.3g} is not positive: the grades do not rise with the cosine"
        )
    return Calibration(slope=slope, intercept=intercept, origin=origin)


def order_alone(cosine: Doubles, grade: Doubles, origin: str, weight: Doubles) -> Calibration:
    """What stands where `fit_platt` is refused: the cosine orders, P is about the mean grade. [n].

    Beside a blend that is fitted to the same grades, items that the pair model did not read then
    stand near the average, and a user's taste, which comes from the same cosine, moves little. The
    slope is not 0, so that the dial still has something to give up.
    """
    mean = float(np.clip(np.average(grade, weights=weight), EDGE, 1.0 - EDGE))
    middle = LEAST_SLOPE * float(np.average(cosine, weights=weight))
    intercept = float(np.log(mean / (1.0 - mean))) - middle
    return Calibration(slope=LEAST_SLOPE, intercept=intercept, origin=origin)


def fit_blend(
    pair: Doubles,
    cosine: Doubles,
    engine_share: Doubles,
    features: Mapping[str, Doubles],
    grade: Doubles,
    weight: Doubles,
    lists: int,
    origin: str,
) -> Blend:
    """The blend's logistic at its maximum a posteriori, grades as soft labels: [n] each.

    The prior is the pair model alone: its logit times its own slope (Platt 1999, section 2), every
    other weight normal around 0 with variance 1 (Bishop 2006, section 4.5.1, whose w ~ N(m, S)).
    The rows weigh as much as the `lists` they come from, for those of one list say much the same,
    and corrections from clicks give a pair the weight of many: a few lists leave the pair model's
    order as it is, and many decide.

    `engine_share` is 1/2 and a feature NaN where missing. A feature enters with a tenth of the
    rows or more, unless it is constant. Weights of cosine and engine are at least 0, by leaving
    out what would be negative (an active set: Nocedal & Wright 2006, section 16.5). Raises
    CalibrationError where the pair model's weight is not positive, alone or beside the others at
    their maximum likelihood.
    """
    curves = {
        name: curve
        for name, values in sorted(features.items())
        if (curve := _curve(values)) is not None
    }
    columns = {"pair": pair, "cosine": cosine, "engine": engine_share - MISSING}
    shares = {name: curve.share(features[name]) - MISSING for name, curve in curves.items()}
    design = np.stack([*columns.values(), *shares.values(), np.ones(len(pair))], axis=1)
    rows = _Logistic.of(design, grade, weight)
    slope = float(_Logistic.of(design[:, [0, -1]], grade, weight).fit()[0])
    for each, company in (
        (slope, "by itself"),
        (rows.fit_at_least_zero(NEVER_NEGATIVE)[0], "beside the cosine and the features"),
    ):
        if not each > 0.0:
            raise CalibrationError(
                f"the pair model's weight is {each:.3g}, expected above 0: it orders worse than "
                f"chance {company}"
            )
    design[:, 0] *= slope
    found = _Logistic.of(design, grade, weight * (lists / weight.sum())).around_the_first()
    found[0] *= slope
    weights = found[len(columns) : -1].tolist()
    return Blend(
        pair=float(found[0]),
        cosine=float(found[1]),
        engine=float(found[2]),
        intercept=float(found[-1]),
        features={
            name: Curve(knots=curve.knots, weight=each)
            for (name, curve), each in zip(curves.items(), weights, strict=True)
        },
        origin=origin,
    )


def _curve(values: Doubles) -> Curve | None:
    """The distribution of what is known of a feature; None where that is too little."""
    known = values[~np.isnan(values)]
    distinct = len(np.unique(known))
    if len(known) < PRESENT * len(values) or distinct < 2:
        return None
    shares = np.linspace(0.0, 1.0, min(KNOTS, distinct))
    # Observed values only: interpolated quantiles may fall by a last bit.
    knots = np.quantile(known, shares, method="inverted_cdf")
    return Curve(knots=tuple(knots.tolist()), weight=0.0)


@dataclass(frozen=True, slots=True)
class _Logistic:
    """Weighted logistic regression: rows [n, p], soft labels and weights [n], a normal prior of
    the p weights as a ridge."""

    design: Doubles
    grade: Doubles
    weight: Doubles
    centre: Doubles
    strength: Doubles

    @classmethod
    def of(cls, design: Doubles, grade: Doubles, weight: Doubles) -> _Logistic:
        """Without a prior to speak of."""
        if not len(grade):
            raise CalibrationError("no graded pairs")
        if not all(np.isfinite(each).all() for each in (design, grade, weight)):
            raise CalibrationError("cosines, logits, grades and weights must be finite")
        if not ((weight >= 0.0).all() and weight.sum() > 0.0):
            raise CalibrationError("weights must be at least 0, and some above")
        columns = design.shape[1]
        return cls(design, grade, weight, np.zeros(columns), np.full(columns, RIDGE))

    def around_the_first(self) -> Doubles:
        """[p]: with weight 1 of the first column expected, 0 of the others, and a free last."""
        centre, strength = np.zeros_like(self.centre), np.ones_like(self.strength)
        centre[0], strength[-1] = 1.0, RIDGE
        prior = dataclasses.replace(self, centre=centre, strength=strength)
        return prior.fit_at_least_zero(NEVER_NEGATIVE)

    def fit_at_least_zero(self, bounded: tuple[int, ...]) -> Doubles:
        """`fit` with the columns `bounded` at 0 or above: the best of those without some of them.

        The loss is convex, so where a free fit leaves the bounds the best within lies on one.
        """
        found = self.fit()
        negative = [column for column in bounded if found[column] < 0.0]
        if not negative:
            return found
        trials = []
        for column in negative:
            rest = tuple(other for other in bounded if other != column)
            left_out = self.design.copy()
            left_out[:, column] = 0.0
            trial = dataclasses.replace(self, design=left_out).fit_at_least_zero(rest)
            trial[column] = 0.0
            trials.append(trial)
        return min(trials, key=self.loss)

    def fit(self) -> Doubles:
        """[p], by Newton's steps, halved where they go too far (Lin, Lin & Weng 2007, "A note on
        Platt's probabilistic outputs", section 3)."""
        found = self.centre.copy()
        for _ in range(MAX_STEPS):
            chance = 0.5 * (1.0 + np.tanh(self.design @ found / 2.0))  # without overflow
            gradient = self.design.T @ (self.weight * (chance - self.grade))
            gradient += self.strength * (found - self.centre)
            curvature = self.weight * chance * (1.0 - chance)
            hessian = (self.design.T * curvature) @ self.design + np.diag(self.strength)
            step = np.linalg.solve(hessian, gradient)
            scale = 1.0
            before = self.loss(found)
            while self.loss(found - scale * step) > before and scale > CONVERGED:
                scale /= 2.0
            found = found - scale * step
            if np.abs(scale * step).max() < CONVERGED:
                break
        return found

    def loss(self, found: Doubles) -> float:
        """Of the weights [p], the prior's part with it."""
        logit = self.design @ found
        losses = self.weight * (np.logaddexp(0.0, logit) - self.grade * logit)
        away = found - self.centre
        return float(losses.sum() + self.strength @ (away * away) / 2.0)
