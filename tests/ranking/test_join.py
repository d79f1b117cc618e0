"""Joining: what wins, what is repeated, what is unknown."""

from __future__ import annotations

import pytest

from tests.factories import candidate, catalogue, event, joined
from worker.errors import Invalid
from worker.events import Candidate, HistoryEntry, Item
from worker.policies import Policy
from worker.ranking.join import Dials, Tables, join

SHOE = Item(item_id="a", title="Shoe", brand="Acme", price=10.0, attributes={"colour": "blue"})


def test_what_a_candidate_does_not_carry_comes_from_the_catalogue() -> None:
    found = joined(event([Candidate(item_id="a")]), Tables(catalogue=catalogue(SHOE)))
    item = found.entries[0].item
    assert (item.title, item.brand, item.price) == ("Shoe", "Acme", 10.0)


@pytest.mark.parametrize(
    ("carried", "field", "expected"),
    [
        ({"title": "Boot"}, "title", "Boot"),
        ({"price": 0.0}, "price", 0.0),
        ({"in_stock": False}, "in_stock", False),
        ({"attributes": {"size": 9}}, "attributes", {"colour": "blue", "size": 9}),
        ({"attributes": {"colour": "red"}}, "attributes", {"colour": "red"}),
    ],
)
def test_what_a_candidate_carries_wins(
    carried: dict[str, object], field: str, expected: object
) -> None:
    tables = Tables(catalogue=catalogue(SHOE))
    found = joined(event([Candidate(item_id="a", **carried)]), tables)  # type: ignore[arg-type]
    assert getattr(found.entries[0].item, field) == expected


def test_a_repeated_item_keeps_its_first_place_and_is_named_once() -> None:
    found = joined(
        event([candidate("a", score=1.0), candidate("b"), candidate("a"), candidate("a")])
    )
    assert [entry.item.item_id for entry in found.entries] == ["a", "b"]
    assert found.entries[0].item.score == 1.0
    assert found.repeated == ("a",)


def test_an_item_without_a_title_anywhere_is_unknown() -> None:
    found = joined(event([Candidate(item_id="x"), candidate("a"), candidate("y", title=" ")]))
    assert [entry.item.item_id for entry in found.unknown] == ["x", "y"]
    assert [entry.engine_rank for entry in found.entries] == [2]


DIALS = [
    ("setting", None, None, None, 0.3),
    ("policy before setting", None, None, 0.4, 0.4),
    ("event before policy", None, 0.5, 0.4, 0.5),
    ("flag before event", 0.6, 0.5, 0.4, 0.6),
    ("a flag of 0 is a flag", 0.0, 0.5, 0.4, 0.0),
    ("an event's 0 is a 0", None, 0.0, 0.4, 0.0),
]


@pytest.mark.parametrize(("flag", "given", "policy", "expected"), [d[1:] for d in DIALS])
def test_precedence_of_dials(
    flag: float | None, given: float | None, policy: float | None, expected: float
) -> None:
    policies = {"default": Policy(policy_id="default", diversity=policy)}
    found = join(event(diversity=given), Tables(policies=policies), Dials(diversity=0.3), flag)
    assert found.dials.diversity == expected


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(Invalid, match=r"\$\.policy: expected one of .*got 'sale'"):
        joined(event(policy="sale"))


def test_a_policy_that_is_there_is_in_force_and_in_the_list() -> None:
    policies = {"sale": Policy(policy_id="sale", method="mmr", engine_weight=0.2, deadline_ms=50)}
    found = joined(event(policy="sale"), Tables(policies=policies))
    assert found.policy_id == "sale"
    assert (found.dials.method, found.dials.engine_weight, found.dials.deadline_ms) == (
        "mmr",
        0.2,
        50,
    )


@pytest.mark.parametrize(("policy", "expected"), [(None, 0.1), (0.0, 0.0), (0.5, 0.5)])
def test_a_policys_exploration_goes_before_the_setting(
    policy: float | None, expected: float
) -> None:
    policies = {"default": Policy(policy_id="default", explore=policy)}
    assert joined(event(), Tables(policies=policies), explore=0.1).dials.explore == expected


def test_over_long_texts_are_cut_and_counted() -> None:
    search = event([candidate(title="x" * 30, brand="y" * 30)], user_query="z" * 30)
    found = joined(search, max_text_chars=20)
    assert found.truncated == 3
    assert found.event.user_query == "z" * 20
    assert found.entries[0].item.title == "x" * 20


HISTORY = (HistoryEntry(item_id="a"),)
USERS = [
    ("the profile of the user", {"user_id": "u"}, ["a"]),
    ("of the client, where no user is known", {"client_id": "u"}, ["a"]),
    ("nobody", {}, []),
    ("who does not want it", {"user_id": "u", "personalise": False}, []),
    ("history inline wins", {"user_id": "u", "history": (HistoryEntry(item_id="b"),)}, ["b"]),
    ("an empty history wins too", {"user_id": "u", "history": ()}, []),
    ("inline, but not wanted", {"history": HISTORY, "personalise": False}, []),
    ("items that nobody knows tell nothing", {"history": (HistoryEntry(item_id="?"),)}, []),
]


@pytest.mark.parametrize(("fields", "expected"), [u[1:] for u in USERS], ids=[u[0] for u in USERS])
def test_whose_history_counts(fields: dict[str, object], expected: list[str]) -> None:
    items = catalogue(SHOE, Item(item_id="b", title="Boot"))
    tables = Tables(catalogue=items, history=lambda user: HISTORY if user == "u" else ())
    found = joined(event((), **fields), tables)
    assert [item.item_id for item, _ in found.history] == expected


def test_a_worker_that_keeps_no_profiles_takes_no_history_either() -> None:
    tables = Tables(catalogue=catalogue(SHOE), history=lambda _user: HISTORY)
    assert joined(event(user_id="u", history=HISTORY), tables, personalise=False).history == ()


def test_category_names_are_gathered_only_where_an_item_lacks_one() -> None:
    named, unnamed = candidate("a", category="shoes"), candidate("b")
    tables = Tables(categories=("coats", "hats"))
    assert joined(event([named]), tables).categories == ()
    assert joined(event([named, unnamed]), tables).categories == ("coats", "hats", "shoes")
