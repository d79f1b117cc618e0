"""What is trained and how it is calibrated: templates, categories, and the constants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Template
from export.domain import Domain, Normal
from export.session import Session, open_session
from tests.factories import candidate, event, joined
from tests.training import tiny
from tests.training.conftest import Made
from training.dataset import LabelledList, labelled
from training.teach import (
    ModelSettings,
    NotEnough,
    check_enough,
    domain_of,
    fitted,
    vectors_of,
)
from worker.ranking.bundled import Bundled
from worker.ranking.join import Dials, Tables, join
from worker.ranking.rerank import rerank
from worker.ranking.text import item_text, pair_texts
from worker.scoring.overlap import Overlap

NOWHERE = ModelSettings(base="b")


@pytest.fixture
def draft(first_round: Made) -> Session:
    """The first round's model before its constants."""
    return open_session(first_round.round(1).folder / "draft", device="cpu")


def kept() -> list[LabelledList]:
    return labelled(tiny.queries(12, seed=5))


def item(category: str | None, number: int) -> LabelledList:
    search = joined(event([candidate(f"{category}{number}", category=category)]))
    return LabelledList(search, np.ones(1), np.ones(1))


def test_a_pair_is_written_with_the_fields_that_the_item_has() -> None:
    settings = ModelSettings(
        base="b",
        fields=("title", "brand", "colour"),
        query_before="Query: ",
        item_before="\nItem: ",
    )
    items = [
        candidate("a", title="shoe", brand="Acme", attributes={"colour": "blue"}),
        candidate("b", title="shoe", attributes={"colour": "blue"}),
        candidate("c", title="shoe"),
    ]
    search = joined(event(items, user_query="red"))
    texts = pair_texts(search, range(3), settings.pair_template)
    assert [asked for asked, _ in texts] == ["Query: red"] * 3
    assert [shown for _, shown in texts] == [
        "\nItem: shoe | Acme | blue",
        "\nItem: shoe | blue",
        "\nItem: shoe",
    ]
    assert NOWHERE.pair_template == Template()


def test_categories_of_enough_items_are_learned_the_largest_of_them_by_name() -> None:
    lists = [
        item(name, number)
        for name, count in {"b": 3, "a": 4, "c": 2, None: 9, "d": 5}.items()
        for number in range(count)
    ]
    twice = [*lists, *lists]
    settings = ModelSettings(base="b", smallest_category=3)
    assert settings.categories(twice) == ("a", "b", "d"), "an item counts once"
    assert ModelSettings(base="b", smallest_category=3, most_categories=2).categories(lists) == (
        "a",
        "d",
    )
    assert ModelSettings(base="b", most_categories=0).categories(lists) == ()


def test_every_query_and_item_has_a_vector() -> None:
    lists = labelled(tiny.queries(3))
    vectors = vectors_of(lists, Overlap())
    for one in lists:
        assert one.search.event.user_query in vectors
        assert all(item_text(entry.item, Template()) in vectors for entry in one.search.entries)


def test_what_is_too_little_is_counted() -> None:
    lists = labelled(tiny.queries(7))
    check_enough(lists, lists)
    with pytest.raises(NotEnough, match="56 of 7 to calibrate on") as refusal:
        check_enough([], lists)
    assert "0 graded pairs of 0 lists to learn from" in str(refusal.value)
    unseen = [replace(one, weights=np.zeros(len(one.weights))) for one in lists]
    with pytest.raises(NotEnough, match="and 0 of 7 to calibrate on, expected at least 1 and 50"):
        check_enough(lists, unseen)
    asked = [joined(event(one.search.event.candidates, user_query=" ")) for one in lists]
    silent = [replace(one, search=search) for one, search in zip(lists, asked, strict=True)]
    with pytest.raises(NotEnough, match=r"^0 graded pairs of 7 lists"):
        check_enough(silent, lists)


def test_the_constants_are_fitted_so_that_what_is_claimed_comes_true(draft: Session) -> None:
    lists = kept()
    session = fitted(draft, lists, lambda line: None)
    blend = session.manifest.blend
    assert blend is not None
    assert blend.origin == "fitted on 96 graded pairs of 12 lists"
    assert blend.pair > 0.0
    searches = [join(one.search.event, Tables(), Dials(diversity=0.0)) for one in lists]
    claimed: list[float] = []
    true: list[float] = []
    for ranked, one in zip(rerank(searches, Bundled(session)), lists, strict=True):
        ids = (entry.item.item_id for entry in one.search.entries)
        worth = dict(zip(ids, one.grades, strict=True))
        claimed += [shown.relevance or 0.0 for shown in ranked.items]
        true += [worth[shown.item_id] for shown in ranked.items]
    # A logistic fit with an intercept is right on average over what it was fitted on.
    assert np.mean(claimed) == pytest.approx(np.mean(true), abs=0.02)


def test_beyond_the_domain_stands_what_the_base_model_said(draft: Session) -> None:
    items = Normal(np.zeros(32, np.float32), np.eye(32, dtype=np.float32))
    bounded = replace(draft, domain=Domain(items, 1.0, 2.0))
    blend = fitted(bounded, kept(), lambda line: None).manifest.blend
    assert blend is not None
    assert blend.beyond == draft.manifest.calibration
    unbounded = fitted(replace(draft, domain=None), kept(), lambda line: None).manifest.blend
    assert unbounded is not None
    assert unbounded.beyond is None


def test_only_what_something_was_learned_from_makes_the_domain() -> None:
    lists = labelled(tiny.queries(40))
    browsed = replace(
        labelled(tiny.queries(1, seed=9))[0],
        search=joined(event([candidate("far", title="a drill")], user_query=" ")),
    )
    uncounted = replace(browsed, search=lists[0].search, weights=np.zeros(8))
    vectors = vectors_of([*lists, browsed], Overlap())
    said: list[str] = []
    found, again = (
        domain_of(learn, lists[:20], vectors, Template(), said.append)
        for learn in (lists, [*lists, browsed, uncounted])
    )
    assert found is not None
    assert again is not None
    assert found.items.mean.tolist() == again.items.mean.tolist()
    assert (found.near, found.far) == (again.near, again.far)
    assert said == []
    assert domain_of(lists, lists[:19], vectors, Template(), said.append) is None
    assert "19 lists are too few" in said[0]


def test_a_pair_that_does_not_count_has_no_say_in_the_constants(draft: Session) -> None:
    lists = kept()
    spoiled = [
        replace(
            one,
            grades=np.where(np.arange(len(one.grades)) < 2, 1.0 - one.grades, one.grades),
            weights=np.where(np.arange(len(one.grades)) < 2, 0.0, 1.0),
        )
        for one in lists
    ]
    left_out = [
        replace(one, weights=other.weights) for one, other in zip(lists, spoiled, strict=True)
    ]
    first, second = (
        fitted(draft, each, lambda line: None).manifest for each in (spoiled, left_out)
    )
    assert (first.blend, first.calibration) == (second.blend, second.calibration)


def test_a_pair_model_that_orders_backwards_stands_alone_before_its_judges(draft: Session) -> None:
    said: list[str] = []
    backwards = [replace(one, grades=1.0 - one.grades) for one in kept()]
    session = fitted(draft, backwards, said.append)
    assert session.manifest.blend == draft.manifest.blend
    assert any("the blend cannot be fitted" in line for line in said)


def test_where_the_cosine_says_nothing_it_does_not_outweigh_what_was_learned(
    draft: Session,
) -> None:
    """The two stages stand in one list, and a user's taste is worth what the cosine is."""
    said: list[str] = []
    backwards = [replace(one, grades=1.0 - one.grades) for one in kept()]
    session = fitted(draft, backwards, said.append)
    assert any("the cosine cannot be calibrated" in line for line in said)
    mean = np.mean(np.concatenate([one.grades for one in backwards]))
    model = Bundled(session)
    for one in backwards:
        plain, dialled = (
            rerank(
                [join(one.search.event, Tables(), Dials(diversity=dial, pair_candidates=0))], model
            )[0]
            for dial in (0.0, 0.5)
        )
        claimed = [shown.relevance for shown in plain.items]
        assert claimed == pytest.approx([mean] * len(claimed), abs=0.13)
        assert claimed == sorted(claimed, key=lambda share: -(share or 0.0))
        assert {item.item_id for item in dialled.items} == {item.item_id for item in plain.items}
    assert model.calibration.slope == 1.0


def test_nothing_of_the_draft_changes_but_its_constants(draft: Session, tmp_path: Path) -> None:
    before = draft.manifest
    session = fitted(draft, kept(), lambda line: None)
    assert draft.manifest is before
    assert session.graphs is draft.graphs
    assert session.folder == draft.folder
