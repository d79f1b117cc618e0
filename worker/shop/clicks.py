"""What users do with a list: they click what they examine and find relevant, and sometimes err.

The position-based model (Craswell et al., WSDM 2008, "baseline" of section 4; Joachims et al.,
WSDM 2017, section 4.1): P(click) = P(examined at the position) x P(click | examined, relevance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class ClickModel:
    """`eta` steepens examination; `noise` is the chance of a click on what is not relevant."""

    eta: float = 1.0
    noise: float = 0.05
    most: float = 0.95  # the chance of a click on what is fully relevant

    def examination(self, position: int) -> float:
        """P(examined) at a 1-based position: (1 / position) ** eta (Joachims 2017, section 6).

        >>> ClickModel(eta=1.0).examination(2)
        0.5
        """
        return float((1.0 / position) ** self.eta)

    def examinations(self, depth: int) -> tuple[float, ...]:
        """The truth that an estimate is held against: P(examined) at positions 1 to `depth`."""
        return tuple(self.examination(position) for position in range(1, depth + 1))

    def attraction(self, relevance: float) -> float:
        """P(click | examined), linear in relevance from `noise` to `most`."""
        return self.noise + (self.most - self.noise) * relevance

    def clicks(self, random: Random, relevances: Sequence[float]) -> tuple[int, ...]:
        """The 1-based positions that are clicked, given each shown item's relevance."""
        return tuple(
            position
            for position, relevance in enumerate(relevances, start=1)
            if random.random() < self.examination(position) * self.attraction(relevance)
        )
