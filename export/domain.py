"""Where a trained pair model knows what it says: how far a list lies from what it learned from.

Fine-tuned on one kind of goods, a model orders others worse than the encoder that it came from. So
its word counts in full among items like those that it was trained on, less further out, and not at
all beyond: there the encoder's calibrated cosine stands as if nothing had been trained. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from export.blend import Doubles, Reach

DOMAIN: Final = "domain.npz"
LEAST: Final = 1e-6  # of a variance: equal items have none
NEAR, FAR = 0.75, 0.95  # shares of lists like those learned from: full word up to one, none beyond

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Domain:
    """The items that were learned from, as one normal distribution of the encoder's vectors."""

    mean: Floats  # [d]
    whitening: Floats  # [d, d]: (x - mean) @ whitening has unit covariance

    def distance(self, vectors: Floats) -> float:
        """[n, d] -> the mean Mahalanobis distance of a list's items; 0 where there are none.

        Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and
        adversarial attacks", equation 2, with one class: that of what was learned from.
        """
        if not len(vectors):
            return 0.0
        apart = ((vectors - self.mean) @ self.whitening).astype(np.float64)
        return float(np.sqrt((apart * apart).sum(axis=1)).mean())

    def reach(self, lists: Sequence[Floats]) -> Reach:
        """From lists like those that will come, [n, d] vectors each: two quantiles of their
        distances. Raises ValueError where there is no list."""
        near, far = np.quantile([self.distance(each) for each in lists], (NEAR, FAR))
        return Reach(near=float(near), far=float(far))

    def write(self, folder: Path) -> None:
        """Write `domain.npz`."""
        np.savez_compressed(folder / DOMAIN, mean=self.mean, whitening=self.whitening)

    @classmethod
    def read(cls, folder: Path) -> Domain | None:
        """Read `domain.npz`; None where there is none, ValueError where it is not what it should
        be."""
        if not (folder / DOMAIN).exists():
            return None
        try:
            with np.load(folder / DOMAIN, allow_pickle=False) as arrays:
                found = cls(arrays["mean"], arrays["whitening"])
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise ValueError(f"{DOMAIN}: {error}") from error
        both = (found.mean, found.whitening)
        if found.mean.ndim != 1 or found.whitening.shape != found.mean.shape * 2:
            raise ValueError(f"{DOMAIN}: expected a vector and a square table of its length")
        if not all(each.dtype == np.float32 and np.isfinite(each).all() for each in both):
            raise ValueError(f"{DOMAIN}: expected finite float32 numbers")
        return found


def fit_domain(vectors: NDArray[np.floating]) -> Domain:
    """[n, d], one row an item -> their domain. Raises ValueError where there is no item.

    The covariance is shrunk towards a sphere (Ledoit & Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices", lemma 3.2 to 3.4), so that fewer items than dimensions
    will do; the fewer, the rounder.
    """
    if not len(vectors):
        raise ValueError("no items: a domain needs at least one")
    mean = vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(shrunk_covariance(vectors - mean))
    whitening = axes / np.sqrt(np.maximum(values, LEAST))
    return Domain(mean.astype(np.float32), whitening.astype(np.float32))


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
