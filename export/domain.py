"""Where a trained pair model knows what it says: how far a list lies from what it learned from.

Fine-tuned on one kind of goods, a model orders others worse than the encoder that it came from. So
its word counts in full among items like those that it was trained on, less further out, and not at
all beyond: there the base model's own calibrated cosine stands as if nothing had been trained.
Pure.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from export.blend import Doubles

DOMAIN: Final = "domain.npz"
NEAR, FAR = 0.75, 0.95  # shares of lists like those learned from: full word up to one, none beyond
FOLDS: Final = 5
FEWEST_LISTS: Final = 20  # from which a share of one in twenty can be told
# What reading an archive may raise, by which of its bytes are wrong.
DAMAGED: Final = (
    *(OSError, KeyError, TypeError, ValueError, EOFError, RuntimeError, MemoryError),
    *(BadZipFile, zlib.error, struct.error),
)
LEAST: Final = 1e-6  # of a variance: equal items have none

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Normal:
    """Items as one normal distribution of the encoder's vectors."""

    mean: Floats  # [d]
    whitening: Floats  # [d, d]: (x - mean) @ whitening has unit covariance

    def distances(self, vectors: Floats) -> Doubles:
        """[n, d] -> [n] Mahalanobis distances.

        Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and
        adversarial attacks", equation 2, with one class: that of what was learned from.
        """
        apart = ((vectors - self.mean) @ self.whitening).astype(np.float64)
        return np.asarray(np.sqrt((apart * apart).sum(axis=1)))


@dataclass(frozen=True, slots=True)
class Domain:
    """The items that were learned from, and how far from them the pair model's word reaches."""

    items: Normal
    near: float  # a list's mean distance up to which its word counts in full
    far: float  # and from which on it does not count

    def share(self, vectors: Floats) -> float:
        """How far its word counts in a list of items [n, d]: from 1 to 0, linear between `near` and
        `far`. A list without items is near."""
        if not len(vectors):
            return 1.0
        distance = float(self.items.distances(vectors).mean())
        if distance <= self.near:
            return 1.0
        if distance >= self.far:
            return 0.0
        return (self.far - distance) / (self.far - self.near)

    def write(self, folder: Path) -> None:
        """Write `domain.npz`."""
        np.savez_compressed(
            folder / DOMAIN,
            mean=self.items.mean,
            whitening=self.items.whitening,
            reach=np.array([self.near, self.far]),
        )

    @classmethod
    def read(cls, folder: Path) -> Domain | None:
        """Read `domain.npz`; None where there is none, ValueError where it is not what it should
        be."""
        if not (folder / DOMAIN).exists():
            return None
        try:
            content = io.BytesIO((folder / DOMAIN).read_bytes())  # a bad file is left open
            with np.load(content, allow_pickle=False) as arrays:
                items = Normal(arrays["mean"], arrays["whitening"])
                near, far = map(float, arrays["reach"])
        except DAMAGED as error:
            raise ValueError(f"{DOMAIN}: {error}") from error
        both = (items.mean, items.whitening)
        if items.mean.ndim != 1 or items.whitening.shape != items.mean.shape * 2:
            raise ValueError(f"{DOMAIN}: expected a vector and a square table of its length")
        if not all(each.dtype == np.float32 and np.isfinite(each).all() for each in both):
            raise ValueError(f"{DOMAIN}: expected finite float32 numbers")
        if not 0.0 <= near <= far < np.inf:
            raise ValueError(f"{DOMAIN}: reach {near}, {far}: expected 0 <= near <= far")
        return cls(items, near, far)


def fit_domain(
    learned: Mapping[str, Floats], lists: Sequence[Mapping[str, Floats]]
) -> Domain | None:
    """The domain of the items `learned`, by their text, as far as it takes in the `lists`, which
    are like those that will come; None where either are too few to say.

    A shop's lists are mostly of items that were learned from, and those lie nearer than new ones
    will. So each of them is measured by a distribution that was fitted without it (one of `FOLDS`),
    and the reach is two quantiles of the lists' distances.
    """
    texts = sorted(learned)
    if len(texts) < 2 * FOLDS or len(lists) < FEWEST_LISTS:
        return None
    items = np.stack([learned[text] for text in texts])
    fold = np.arange(len(texts)) % FOLDS
    whole = fit_normal(items)
    apart = np.empty(len(texts))
    for each in range(FOLDS):
        apart[fold == each] = fit_normal(items[fold != each]).distances(items[fold == each])
    known = dict(zip(texts, apart.tolist(), strict=True))
    means = []
    for one in lists:
        new = [vector for text, vector in one.items() if text not in known]
        found = [known[text] for text in one if text in known]
        if new:
            found += whole.distances(np.stack(new)).tolist()
        means.append(np.mean(found))
    near, far = np.quantile(means, (NEAR, FAR))
    return Domain(whole, float(near), float(far))


def fit_normal(vectors: NDArray[np.floating]) -> Normal:
    """[n, d], one row an item -> their distribution, n at least 1.

    The covariance is shrunk towards a sphere (Ledoit & Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices", lemma 3.2 to 3.4), so that fewer items than dimensions
    will do; the fewer, the rounder.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(shrunk_covariance(vectors - mean))
    whitening = axes / np.sqrt(np.maximum(values, LEAST))
    return Normal(mean.astype(np.float32), whitening.astype(np.float32))


def shrunk_covariance(centred: Doubles) -> Doubles:
    """[n, d], mean 0 -> [d, d]."""
    count, dimensions = centred.shape
    sample = centred.T @ centred / count
    size = np.trace(sample) / dimensions
    sphere = size * np.eye(dimensions)
    apart = float(((sample - sphere) ** 2).sum())
    lengths = (centred * centred).sum(axis=1)
    noise = float((lengths @ lengths) / count - (sample * sample).sum()) / count
    share = min(max(noise, 0.0), apart) / apart if apart > 0.0 else 1.0
    return np.asarray(share * sphere + (1.0 - share) * sample)
