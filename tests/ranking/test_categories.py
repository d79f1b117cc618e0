"""P(category | item): named, told by a head, or told by the names."""

from __future__ import annotations

import numpy as np

from tests.factories import candidate, event, joined
from worker.ranking.categories import category_probabilities
from worker.ranking.join import JoinedSearch
from worker.ranking.model import Doubles, Encoded, TokenBatch
from worker.ranking.rerank import needed, read
from worker.scoring.overlap import Overlap


class Headed(Overlap):
    """Tells shoes from hats by how many words a text has."""

    categories: tuple[str, ...] = ("hats", "shoes")
    category_head = True

    def score(self, batch: TokenBatch) -> Encoded:
        words = batch.attention_mask.sum(axis=1).astype(np.float32)
        return Encoded(super().score(batch).vectors, np.stack([0.0 * words, words], axis=1))


def probabilities(search: JoinedSearch, model: Overlap) -> Doubles:
    return category_probabilities(search, read(needed([search], model), model), model)


def test_a_head_tells_the_category_of_an_item_that_names_none() -> None:
    search = joined(event([candidate("a", title="one two"), candidate("b", category="coats")]))
    found = probabilities(search, Headed())
    odds = np.exp([0.0, 2.0])
    assert np.allclose(found, [[0.0, *(odds / odds.sum())], [1.0, 0.0, 0.0]])  # coats, hats, shoes


def test_a_head_needs_no_names_to_be_read_nor_given() -> None:
    search = joined(event([candidate("a", title="one two")]))
    model = Headed()
    assert needed([search], model) == ("running shoes", "one two")
    assert probabilities(search, model).shape == (1, 2)


def test_an_item_that_names_its_category_is_believed_over_the_head() -> None:
    search = joined(event([candidate("a", category="hats")]))
    assert probabilities(search, Headed()).tolist() == [[1.0]]


def test_what_the_head_said_is_remembered_with_the_vector() -> None:
    search = joined(event([candidate("a", title="one two")]))
    model = Headed()
    assert (probabilities(search, model) == probabilities(search, model)).all()
    assert len(model.readings) == 2


def test_without_a_head_the_cosine_with_the_names_tells() -> None:
    search = joined(
        event([candidate("a", title="wool hats"), candidate("b", category="hats"), candidate("c")])
    )
    found = probabilities(search, Overlap())
    assert np.allclose(found, 1.0)


def test_without_names_nothing_is_known() -> None:
    search = joined(event([candidate("a"), candidate("b")]))
    assert probabilities(search, Overlap()).shape == (2, 0)
