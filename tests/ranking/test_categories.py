"""P(category | item): named, told by a head, or told by the names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.factories import candidate, catalogue, event, joined
from worker.events import Candidate, HistoryEntry, Item
from worker.ranking.categories import category_probabilities, category_taste
from worker.ranking.join import JoinedSearch, Tables
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


def taste(
    candidates: Sequence[Candidate], past: dict[str, tuple[str | None, str]], model: Overlap
) -> list[float] | None:
    """Of a user who did `past`: title -> (category, action)."""
    items = [Item(item_id=title, title=title, category=kind) for title, (kind, _) in past.items()]
    done = [HistoryEntry(item_id=title, action_name=action) for title, (_, action) in past.items()]
    search = joined(event(candidates, history=tuple(done)), Tables(catalogue=catalogue(*items)))
    found = category_taste(search, read(needed([search], model), model), model)
    return None if found is None else found.round(6).tolist()


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


NAMED = [candidate("a", category="hats"), candidate("b", category="coats")]
OPEN = [*NAMED, candidate("c")]


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ({}, None),
        ({"h": ("hats", "click")}, [0.0, 1.0]),
        ({"h": ("hats", "click"), "coat": ("coats", "add_to_cart")}, [0.75, 0.25]),
        (
            {"h": ("hats", "click"), "g": ("hats", "view"), "coat": ("coats", "view")},
            [1 / 3, 2 / 3],
        ),
        ({"h": ("hats", "click"), "s": ("shoes", "purchase")}, [0.0, 1.0]),
        ({"s": ("shoes", "purchase")}, None),
        ({"n": (None, "purchase")}, None),
        ({"h": ("hats", "click"), "n": (None, "purchase")}, [0.0, 1.0]),
    ],
)
def test_a_taste_is_the_categories_of_what_the_user_acted_on_by_its_weights(
    past: dict[str, tuple[str | None, str]], expected: list[float] | None
) -> None:
    found = taste(NAMED, past, Overlap())
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_a_taste_is_told_by_the_names_where_an_item_names_no_category() -> None:
    found = taste(OPEN, {"wool hats": (None, "click"), "s": ("shoes", "click")}, Overlap())
    assert found is not None
    assert found[:2] == pytest.approx([0.0, 1.0], abs=1e-5)


def test_a_taste_is_told_by_the_head_as_far_as_candidates_can_be_what_it_says() -> None:
    odds = np.exp([0.0, 2.0])
    hats, shoes = odds / odds.sum()
    past: dict[str, tuple[str | None, str]] = {
        "one two": (None, "click"),
        "coat": ("coats", "click"),
    }
    assert taste(OPEN, past, Headed()) == pytest.approx([0.5, hats / 2, shoes / 2], abs=1e-6)
    assert taste(NAMED, past, Headed()) == pytest.approx([1 / (1 + hats), hats / (1 + hats)])


def test_a_taste_has_the_columns_of_the_candidates() -> None:
    past = [Item(item_id="h", title="h", category="hats")]
    search = event(OPEN, history=(HistoryEntry(item_id="h"),))
    for model in (Overlap(), Headed()):
        known = joined(search, Tables(catalogue=catalogue(*past)))
        readings = read(needed([known], model), model)
        found = category_taste(known, readings, model)
        assert found is not None
        assert found.shape == category_probabilities(known, readings, model).shape[1:]
        assert found.argmax() == category_probabilities(known, readings, model)[0].argmax()
