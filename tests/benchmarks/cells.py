"""The cells of `clicks_only`: what each arm came to in each round; kept as JSONL, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from tests.benchmarks.measuring import finished
from training.evaluate import RESAMPLES, Estimate, interval
from worker.ranking.model import Doubles

ZERO_SHOT: Final = "zero-shot"
FULL: Final = "full"
ASKED: Final = "asked"  # the set of the train queries; all others are of dev queries


class Cell(Struct, frozen=True, kw_only=True):
    """What one arm came to in one round; `ndcg` is of each query of a set, in one order for all."""

    seed: int
    arm: str
    round: int
    ndcg: dict[str, list[float]]
    seconds: float = 0.0
    theta: tuple[float, ...] = ()  # the estimate of examination
    worst: float | None = None  # its largest difference to the truth, over all places of a page
    clicks: int = 0
    examination: str = ""


def read_cells(path: Path) -> list[Cell]:
    """The finished cells."""
    return msgspec.convert(finished(path), list[Cell])


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of each arm and round, over the seeds that have it: nDCG@10 of each set, the gain over
    zero-shot and the share of the full gain, of dev queries (all counting once) and of asked ones,
    with 95 % intervals, and the worst error of examination."""
    known = {(cell.seed, cell.arm, cell.round): cell for cell in cells}
    found = []
    for arm, number in dict.fromkeys((cell.arm, cell.round) for cell in cells):
        of = [cell for cell in cells if (cell.arm, cell.round) == (arm, number)]
        zeros = [known[cell.seed, ZERO_SHOT, 0] for cell in of]
        fulls = [known[cell.seed, FULL, 0] for cell in of if (cell.seed, FULL, 0) in known]
        row: dict[str, Any] = {"arm": arm, "round": number, "seeds": len(of)}
        for name in of[0].ndcg:
            row[name] = f"{np.mean([cell.ndcg[name] for cell in of]):.4f}"
        for asked in (False, True):
            zero = together(zeros, asked)
            gains = together(of, asked) - zero
            whole = together(fulls, asked) - zero if len(fulls) == len(of) else None
            gain, share = estimates(gains, whole)
            row["gain, asked" if asked else "gain, dev"] = gain
            row["share, asked" if asked else "share, dev"] = "" if arm == ZERO_SHOT else share
        errors = [cell.worst for cell in of if cell.worst is not None]
        row["worst theta"] = f"{max(errors):.4f}" if errors else ""
        row["clicks"] = round(float(np.mean([cell.clicks for cell in of])))
        row["seconds"] = round(float(np.mean([cell.seconds for cell in of])))
        found.append(row)
    return found


def together(cells: Sequence[Cell], asked: bool) -> Doubles:
    """[queries] the nDCG of the queries that were asked, or of all dev queries; over seeds."""
    by_seed = [
        np.concatenate([each for name, each in cell.ndcg.items() if (name == ASKED) == asked])
        for cell in cells
    ]
    means: Doubles = np.mean(by_seed, axis=0)
    return means


def estimates(gains: Doubles, of: Doubles | None) -> tuple[str, str]:
    """The mean of paired gains, and their share of those of `of`, with percentile intervals from a
    bootstrap over queries (Efron & Tibshirani 1993, chapter 13)."""
    gain = told(interval(gains, 0))
    if of is None or not of.mean():
        return gain, ""
    share = ratio(gains, of)
    return gain, f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"


def ratio(values: Doubles, of: Doubles) -> Estimate:
    """The mean of `values` [queries] over that of the paired `of` [queries], with its 95 %
    percentile interval: queries are drawn, and both means are of the same ones (Efron & Tibshirani
    1993, chapter 13)."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    ratios = values[drawn].mean(axis=1) / of[drawn].mean(axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Estimate(float(values.mean() / of.mean()), float(low), float(high))


def told(found: Estimate) -> str:
    """A difference, and its interval."""
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
