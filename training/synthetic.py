"""Lists that nobody asked for: an item's own words as the query, and the item as its answer.

Queries made from documents teach where people's are few (Ma et al., EACL 2021, "Zero-shot neural
passage retrieval via domain-targeted synthetic question generation"); words taken out of the item
stand for a generator here (Izacard et al. 2022, "Unsupervised dense information retrieval with
contrastive learning", section 3.1), so nothing but the catalogue is needed. The others of a list
are items by lot that lack a word of the query: whatever has them all may be an answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.random import Generator

from training.dataset import LabelledList
from training.negatives import bare
from training.views import crop
from worker.events import Candidate, SearchEvent
from worker.ranking.join import Dials, Tables, join
from worker.ranking.rules import words

SIZE: Final = 8  # candidates of a list
MOST_WORDS: Final = 4  # of a query
TRIES: Final = 4  # draws a place, of items that lack a word


def synthetic(lists: Sequence[LabelledList], share: float, seed: int) -> list[LabelledList]:
    """As many lists as that share of `lists`, of their items; the same for equal arguments.

    One of which no other item lacks a word is left out.
    """
    items = list({e.item.item_id: e.item for one in lists for e in one.search.entries}.values())
    chance = np.random.default_rng((seed, len(items)))
    made = (_made(number, items, chance) for number in range(round(share * len(lists))))
    return [one for one in made if one is not None]


def _made(number: int, items: Sequence[Candidate], chance: Generator) -> LabelledList | None:
    answer = items[int(chance.integers(len(items)))]
    query = crop(answer.title or "", MOST_WORDS, chance)
    asked = set(words(query))
    drawn = (items[row] for row in chance.integers(len(items), size=TRIES * SIZE).tolist())
    others = {item.item_id: item for item in drawn if not asked <= set(words(item.title or ""))}
    shown = [answer, *list(others.values())[: SIZE - 1]]
    if len(shown) == 1:
        return None
    order = chance.permutation(len(shown)).tolist()
    event = SearchEvent(
        query_id=f"synthetic {number}",
        user_query=query,
        candidates=tuple(bare(shown[place]) for place in order),
    )
    search = join(event, Tables(), Dials())
    grades = [float(entry.item.item_id == answer.item_id) for entry in search.entries]
    return LabelledList(search, np.array(grades), np.ones(len(grades)))
