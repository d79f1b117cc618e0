"""The cells of `clicks_only`: what each arm came to in each round; kept as JSONL, and shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct

from training.evaluate import RESAMPLES
from worker.ranking.model import Doubles

ZERO_SHOT: Final = "zero-shot"
FULL: Final = "full"


class Cell(Struct, frozen=True, kw_only=True):
    """What one arm came to in one round; `ndcg` is of each dev query, in one order for all."""

    arm: str
    round: int
    ndcg: dict[str, list[float]]
    seconds: float = 0.0
    theta: tuple[float, ...] = ()  # the estimate of examination
    worst: float | None = None  # its largest difference to the truth, over all places of a page
    clicks: int = 0
    examination: str = ""


def read_cells(path: Path) -> list[Cell]:
    """The finished cells; a line that a killed run left unfinished is dropped."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    path.write_bytes(b"".join(whole))
    return [msgspec.json.decode(line, type=Cell) for line in whole]


def rows(cells: Mapping[tuple[str, int], Cell]) -> list[dict[str, Any]]:
    """Of each cell: nDCG@10 of each set, the gain over zero-shot and the share of the full gain
    with their 95 % intervals, all queries counting once, and the error of examination."""
    zero, best = together(cells[ZERO_SHOT, 0]), together(cells[FULL, 0])
    found = []
    for cell in cells.values():
        gain, share = estimates(together(cell) - zero, best - zero)
        found.append(
            {
                "arm": cell.arm,
                "round": cell.round,
                **{name: round(float(np.mean(each)), 4) for name, each in cell.ndcg.items()},
                "gain": gain,
                "share of full": "" if cell.arm == ZERO_SHOT else share,
                "worst theta": "" if cell.worst is None else f"{cell.worst:.3f}",
                "clicks": cell.clicks,
                "seconds": cell.seconds,
            }
        )
    return found


def together(cell: Cell) -> Doubles:
    """[queries] the nDCG of the dev queries of all sets."""
    return np.concatenate([np.array(each) for each in cell.ndcg.values()])


def estimates(gains: Doubles, of: Doubles) -> tuple[str, str]:
    """The mean of paired gains, and their share of those of `of`, with percentile intervals from a
    bootstrap over queries (Efron & Tibshirani 1993, chapter 13)."""
    drawn = np.random.default_rng(0).integers(len(gains), size=(RESAMPLES, len(gains)))
    means, wholes = gains[drawn].mean(axis=1), of[drawn].mean(axis=1)
    whole = of.mean()
    low, high = np.percentile(means, (2.5, 97.5))
    least, most = np.percentile(means / wholes, (2.5, 97.5))
    share = gains.mean() / whole if whole else np.nan
    return (
        f"{gains.mean():+.4f} [{low:+.4f}, {high:+.4f}]",
        f"{share:.2f} [{least:.2f}, {most:.2f}]",
    )
