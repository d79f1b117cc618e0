"""What a misspelt query is read as: the shop's own words, and never what a candidate says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import candidate, event, joined
from training.perturb import typo
from worker.ranking.join import JoinedSearch
from worker.ranking.rerank import needed, rerank
from worker.ranking.spelling import corrections, one_slip, spelled
from worker.scoring.overlap import Overlap

LETTERS = st.text("abcde", min_size=4, max_size=7)
KNOWN = ("black", "cordless", "drill", "shoes", "wine", "glasses", "sock")


class Pieces(Overlap):
    """Reads misspelt queries; words that it does not know fall into pieces."""

    spelling = True

    def tokenize(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [
            [1, *(n for word in text.lower().split() for n in _pieces(word)), 2] for text in texts
        ]


def _pieces(word: str) -> list[int]:
    return [3 + KNOWN.index(word)] if word in KNOWN else [100 + ord(each) % 300 for each in word]


def asking(query: str, *titles: str) -> JoinedSearch:
    """A search for some items."""
    items = [candidate(f"i{n}", title=title) for n, title in enumerate(titles)]
    return joined(event(items, user_query=query))


@pytest.mark.parametrize(
    ("query", "titles", "read"),
    [
        ("cordles dril", ["Cordless Drill 18 V", "Drill bit"], "Cordless Drill"),
        ("cordless drill", ["Cordles Dril"], "cordless drill"),  # the model knows these words
        ("bosh hammer", ["Bosch saw", "Bosch drill"], "Bosch hammer"),
        ("gardn hose", ["Garden hose", "GARDEN shears", "Garden gnome"], "Garden hose"),
        ("gardn", ["garden", "gardens of Rome"], "garden"),
        ("wal lamp", ["Wall lamp"], "wal lamp"),  # three letters are near too much
        ("m18x drill", ["M18 drill"], "m18x drill"),  # a name with digits is no word
        ("hedgehog", ["Hedge trimmer"], "hedgehog"),  # two slips and more are another word
        ("makita", ["Bosch", "Makita"], "makita"),  # a candidate has it
        ("国产手机壳", ["国产手机"], "国产手机壳"),  # nothing stands between its words
        ("asics", ["Basics running shirt"], "asics"),  # the first letter stays
        ("kissen", ["Kisten, 2 Stück"], "Kisten"),  # and what neither knows may be another's word
        ("agrden", ["Garden hose"], "Garden"),
        ("รองเท้า", ["รองเทา"], "รองเท้า"),  # a fragment of a word is none
        ("cafe\u0301teria", ["cafeteri"], "cafe\u0301teria"),
        ("kreditkarte schutz", ["Kreditkarten Schutz"], "Kreditkarten schutz"),
        ("  gardn,hose!", ["Garden hose"], "  Garden,hose!"),
        ("   ", ["Garden hose"], "   "),
        ("gardn", [], "gardn"),
    ],
)
def test_a_query_is_read_as_its_candidates_spell_it(
    query: str, titles: list[str], read: str
) -> None:
    search = spelled(asking(query, *titles), Pieces())
    assert search.query == read
    assert search.event.user_query == query
    assert spelled(search, Pieces()) is search


def test_of_two_words_as_near_the_one_is_meant_that_more_candidates_have() -> None:
    assert corrections(["limee"], ["lime tee", "lime", "Limes"]) == {"limee": "lime"}
    assert corrections(["limex"], ["lime", "limes", "Limes"]) == {"limex": "Limes"}
    assert corrections(["limex"], ["limey", "limes"]) == {"limex": "limes"}


def test_what_a_candidate_says_anywhere_is_no_slip() -> None:
    shirt = candidate(
        "a", title="Basic running shirts", brand="Basick", attributes={"fit": "Slimm"}
    )
    assert (
        spelled(joined(event([shirt], user_query="basick slimm")), Pieces()).query == "basick slimm"
    )


def test_a_query_longer_than_anybody_types_costs_no_more_than_one_of_eight_words() -> None:
    query = " ".join([*(f"qqqq{chr(97 + n)}" for n in range(26)), "gardn"])
    assert spelled(asking(query, "garden"), Pieces()).query == query
    words = " ".join([*["gardn"] * 50, "hose"])
    assert spelled(asking(words, "garden hose"), Pieces()).query == words.replace("gardn", "garden")


def test_what_is_read_makes_the_list_and_the_list_says_so() -> None:
    model, right = Pieces(), ["Garden hose", "Wine glasses", "Black shoes"]
    (meant,) = rerank([asking("Garden hose", *right)], model)
    (found,) = rerank([asking("Gardn hose", *right)], model)
    assert (found.user_query, found.read_as) == ("Gardn hose", "Garden hose")
    assert found.items == meant.items
    assert meant.read_as is None
    plain = Overlap()
    (as_written,) = rerank([asking("Gardn hose", *right)], plain)
    assert as_written.read_as is None
    assert "Gardn hose" in needed([asking("Gardn hose", *right)], plain)


@given(LETTERS, LETTERS)
def test_a_slip_is_what_one_edit_or_one_swap_of_neighbours_undoes(one: str, other: str) -> None:
    assert one_slip(one, other) == one_slip(other, one) == (_distance(one, other) == 1)


@given(st.sampled_from([*KNOWN, "headphones", "refrigerator"]), st.integers(0, 2**32 - 1))
def test_every_typo_that_robustness_is_measured_with_is_one_slip(word: str, seed: int) -> None:
    wrong = typo(word, np.random.default_rng(seed))
    assert wrong == word or one_slip(word, wrong)


@given(st.lists(LETTERS, max_size=6), st.lists(LETTERS, max_size=6))
def test_a_correction_is_a_candidates_word_and_never_of_one_that_they_have(
    unknown: list[str], texts: list[str]
) -> None:
    meant = corrections(unknown, texts)
    assert set(meant.values()) <= set(texts)
    assert not set(meant) & set(texts)
    assert all(one_slip(*pair) for pair in meant.items())
    assert all(
        word in meant
        or word in texts
        or not any(one_slip(word, each) and word[0] == each[0] for each in texts)
        for word in unknown
    )


def _distance(one: str, other: str) -> int:
    """Optimal string alignment, by the textbook's table (Damerau 1964)."""
    table = np.add.outer(np.arange(len(one) + 1), np.arange(len(other) + 1))
    for i, a in enumerate(one, start=1):
        for j, b in enumerate(other, start=1):
            ways = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b)]
            if i > 1 and j > 1 and (a, b) == (other[j - 2], one[i - 2]):
                ways.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(ways)
    return int(table[-1, -1])
