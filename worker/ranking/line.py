"""A place of a list before it is numbered, and as it then travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.events import RankedItem, Why
from worker.ranking.join import Entry

DECIMALS: Final = 4
OF_A_CHANCE: Final = 9  # decimals


@dataclass(frozen=True, slots=True)
class Line:
    """An item, and what put it where it stands."""

    entry: Entry
    relevance: float | None
    gain: float | None = None
    why: tuple[float, float] = (0.0, 0.0)  # relevance, diversity
    rule: str | None = None
    repeats: str | None = None
    limit: str | None = None
    offer: float | None = None
    fixed: bool = False  # neighbours do not change places with it
    base: int | None = None  # its rank before a lot moved it
    chance: float = 1.0  # of standing here

    def item(self, rank: int) -> RankedItem:
        """The line at its rank."""
        item = self.entry.item
        relevance, diversity = self.why
        return RankedItem(
            item_id=item.item_id,
            rank=rank,
            relevance=rounded(self.relevance),
            gain=rounded(self.gain),
            category=item.category,
            engine_rank=self.entry.engine_rank,
            engine_score=item.score,
            sponsored=item.sponsored,
            ad_id=item.ad_id,
            base_rank=self.base or rank,
            shown_probability=round(self.chance, OF_A_CHANCE),
            why=Why(
                relevance=round(relevance, DECIMALS) + 0.0,
                diversity=round(diversity, DECIMALS) + 0.0,
                rule=self.rule,
                repeats=self.repeats,
                limit=self.limit,
                offer=rounded(self.offer),
            ),
        )


def rounded(number: float | None) -> float | None:
    """At 1e-4, and never -0."""
    return None if number is None else round(number, DECIMALS) + 0.0
