"""How numbers of a pair become the logit of P(relevant): the first stage's and the second's. Pure.

Training fits these constants, the manifest carries them, and the worker evaluates them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]

MISSING = 0.5  # the share of a value that is not known: the middle, which adds nothing


class Calibration(Struct, frozen=True, kw_only=True):
    """P(relevant) = 1 / (1 + exp(-(slope * cosine + intercept))) (Platt 1999, section 2)."""

    slope: Annotated[float, Meta(gt=0)]
    intercept: float
    origin: str

    def logits(self, cosine: Doubles) -> Doubles:
        """[n] -> [n]."""
        return np.asarray(self.slope * cosine + self.intercept)


class Curve(Struct, frozen=True, kw_only=True):
    """A feature's own scale: its empirical distribution in training, piecewise linear, in [0, 1].

    `knots` are its quantiles at even shares, never falling; `weight` is of the logit, and its sign
    says whether more is better. A missing value stands at 1/2 and so adds nothing.
    """

    knots: Annotated[tuple[float, ...], Meta(min_length=2)]
    weight: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.knots).all() and (np.diff(self.knots) >= 0.0).all()):
            raise ValueError(f"knots {self.knots}: expected finite numbers that never fall")
        if not self.knots[0] < self.knots[-1]:
            raise ValueError(f"knots {self.knots}: a feature that is constant has no scale")

    def share(self, x: Doubles) -> Doubles:
        """[n] -> [n]: the share of training at or below x; 1/2 where x is NaN.

        On a value that several knots share (a jump of the distribution) it is the middle of the
        jump: the mid-distribution function (Parzen 2004, "Quantile probability and statistical
        data modeling", section 3).

        >>> Curve(knots=(0.0, 0.0, 4.0), weight=1.0).share(np.array([-1, 0, 1, 4, 9, np.nan]))
        array([0.   , 0.25 , 0.625, 1.   , 1.   , 0.5  ])
        """
        knots = np.array(self.knots)
        low, high = np.searchsorted(knots, x, "left"), np.searchsorted(knots, x, "right")
        place = (low + high - 1) / 2.0  # on a knot: the middle of those that equal x
        inside = (low == high) & (low > 0) & (low < len(knots))
        after = low[inside]
        before = knots[after - 1]
        place[inside] = after - 1 + (x[inside] - before) / (knots[after] - before)
        share = np.clip(place, 0.0, len(knots) - 1) / (len(knots) - 1)
        return np.where(np.isnan(x), MISSING, share)


class Blend(Struct, frozen=True, kw_only=True):
    """The second stage: everything that is known of a pair -> the logit of P(relevant).

    pair * pair_logit + cosine * cos + engine * (share - 1/2)
    + sum over features of weight * (curve(x) - 1/2) + intercept,
    with `share` the engine's score moved to [0, 1] over the event. Monotone in each part.
    """

    pair: Annotated[float, Meta(gt=0)]
    cosine: Annotated[float, Meta(ge=0)]
    intercept: float
    engine: Annotated[float, Meta(ge=0)] = 0.0
    features: dict[str, Curve] = {}
    beyond: Calibration | None = None  # of the cosine, outside the domain; none: there is no domain
    origin: str

    def logits(
        self,
        pair: NDArray[np.floating],
        cosine: NDArray[np.floating],
        engine_share: Doubles,
        features: Mapping[str, Doubles],
    ) -> Doubles:
        """[n] each, aligned -> [n]. A missing engine score is 1/2, a missing feature NaN.

        Features that the blend does not know are left out, and those that it knows and are not
        given count as missing. Each row is the same to the last bit in any company: sums are taken
        element by element, in one order.
        """
        found = self.pair * pair.astype(np.float64) + self.cosine * cosine.astype(np.float64)
        found = found + self.engine * (engine_share - MISSING)
        for name in sorted(self.features):
            if name in features:
                curve = self.features[name]
                found = found + curve.weight * (curve.share(features[name]) - MISSING)
        return np.asarray(found + self.intercept)
