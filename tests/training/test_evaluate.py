"""What a model's lists are worth: laws of the rows, and the command that prints them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import bundle
from export.session import open_session
from tests.factories import candidate, event, joined, random_search
from training import fairness
from training.__main__ import main
from training.dataset import LabelledList, graded
from training.evaluate import DIALS, MEASURES, Row, evaluate, interval, judge, served
from training.fairness import Pools, pools
from training.judgments import GradedQuery
from training.peers import PEERS, by_peers, named
from training.report import as_json, curves, markdown
from worker import codec
from worker.events import HistoryEntry, Item
from worker.ranking.bundled import Bundled
from worker.ranking.diversify import METHODS
from worker.ranking.join import Tables
from worker.scoring.overlap import Overlap

ROUNDING = 1e-12
QUERIES = [
    GradedQuery(
        random_search(seed, 14, query_id=f"q{seed}", user_query="red running shoe"),
        tuple(np.random.default_rng(seed).integers(4, size=14) / 3),
    )
    for seed in range(6)
]
SHELF = (
    *(candidate(f"a{i}", title="red shoe", brand="Acme", category="shoes") for i in range(4)),
    candidate("b0", title="red boot", brand="Birch"),
    candidate("b1", title="red boot", brand="BIRCH "),
    candidate("c", title="wool hat", category="hats"),
)
GRADES = (1.0, 1.0, 2 / 3, 0.0, 1.0, 0.0, 1.0)
NEAR_COPIES = (
    candidate("a", title="red shoe", brand="Acme", category="shoes"),
    candidate("b", title="red shoe", brand="Acme", category="shoes"),
    candidate("c", title="red boot", brand="Birch", category="boots"),
)
HATS = tuple(candidate(f"d{i}", title="wool hat") for i in range(4))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return evaluate(QUERIES, Overlap(), seed=1)


def test_there_is_a_row_for_each_baseline_and_each_dial_of_each_method(rows: list[Row]) -> None:
    baselines: list[tuple[str, float | None]] = [("random", None), ("bm25", None), ("cosine", None)]
    dialled = [(method, dial) for method in METHODS for dial in DIALS]
    assert [(row.method, row.dial) for row in rows] == [*baselines, *dialled]


def test_values_lie_in_0_to_1_inside_their_intervals(rows: list[Row]) -> None:
    for row in rows:
        for name in MEASURES:
            value, change = row.values[name], row.changes[name]
            bounds = [0.0, value.low, value.mean, value.high, 1.0]
            assert all(low <= high + ROUNDING for low, high in pairwise(bounds))
            bounds = [change.low, change.mean, change.high]
            assert all(low <= high + ROUNDING for low, high in pairwise(bounds))


def test_dial_0_changes_nothing(rows: list[Row]) -> None:
    for row in rows:
        if row.dial == 0.0:
            assert all(change.low == change.high == 0.0 for change in row.changes.values())


def test_dial_0_of_a_model_that_knows_cosines_alone_is_the_order_by_the_cosine() -> None:
    titles = ["red shoe", "red boot", "wool hat", "blue shoe lace", "shoe"]
    items = [candidate(title, title=title) for title in titles]
    query = GradedQuery(event(items, user_query="red shoe"), (1 / 3, 0.0, 1.0, 2 / 3, 0.0))
    *_, cosine, served_at_0 = evaluate([query], Overlap(), ["mmr"], [0.0])
    assert cosine.method == "cosine"
    assert cosine.values == served_at_0.values


def test_equal_seeds_give_equal_rows(rows: list[Row]) -> None:
    assert evaluate(QUERIES, Overlap(), seed=1) == rows


def test_what_the_words_say_is_found_by_bm25_and_by_the_cosine() -> None:
    search = event([*HATS, *NEAR_COPIES], user_query="red shoe")
    query = GradedQuery(search, (*[0.0] * len(HATS), 1.0, 1.0, 2 / 3))
    found = {row.method: row for row in evaluate([query], Overlap(), ["mmr"], [0.0])}
    assert found["bm25"].values["ndcg"].mean == 1.0
    assert found["cosine"].values["ndcg"].mean == 1.0
    assert found["random"].values["ndcg"].mean < 1.0


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"cover"}))  # shows what many are like
def test_full_diversity_spreads_a_list_of_near_copies(method: str) -> None:
    model = Overlap()
    query = GradedQuery(event(NEAR_COPIES, user_query="red shoe"), (1.0, 1.0, 2 / 3))
    judged = judge([query], model)
    plain, diverse = (served(judged, model, method, dial).values[0] for dial in (0.0, 1.0))
    assert plain[MEASURES.index("ndcg")] == 1.0
    assert diverse[MEASURES.index("alpha_ndcg")] > plain[MEASURES.index("alpha_ndcg")]


def test_a_list_is_judged_as_its_user_would_be_served() -> None:
    past = Item(item_id="old", title="wool hat")
    done = (HistoryEntry(item_id="old", action_name="purchase"),)
    search = event([*NEAR_COPIES, *HATS[:1]], user_query="present", history=done)
    grades = np.array([0.0, 0.0, 0.0, 1.0])
    one = LabelledList(joined(search, Tables(catalogue={"old": past})), grades, np.ones(4))
    query = graded(one)
    (known,) = served(judge([query], Overlap()), Overlap(), "mmr", 0.0).values
    stranger = replace(query, past=())
    (unknown,) = served(judge([stranger], Overlap()), Overlap(), "mmr", 0.0).values
    assert known[0] == 1.0 > unknown[0]


def test_an_item_without_a_title_is_measured_where_it_stands_last() -> None:
    search = event([candidate("a", title=None), candidate("b", title="shoe")], user_query="shoe")
    (judged,) = judge([GradedQuery(search, (1.0, 0.0))], Overlap())
    (values,) = served([judged], Overlap(), "mmr", 0.0).values
    assert values[0] == pytest.approx(1 / np.log2(3))
    assert np.isnan(values[1])
    assert values[3] == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 3))
def test_an_interval_lies_among_its_numbers_and_knows_nothing_of_nan(
    numbers: list[float], gaps: int
) -> None:
    estimate = interval(np.array([*numbers, *[np.nan] * gaps]), seed=0)
    assert estimate == interval(np.array(numbers), seed=0)
    bounds = [min(numbers), estimate.low, estimate.high, max(numbers)]
    assert all(low <= high + ROUNDING for low, high in pairwise(bounds))


def test_where_nothing_is_measured_nothing_is_claimed() -> None:
    (row,) = evaluate([GradedQuery(event([candidate()]), (1.0,))], Overlap(), ["mmr"], [0.0])[-1:]
    assert np.isnan(row.values["alpha_ndcg"].mean)
    assert as_json([row])[0]["values"]["alpha_ndcg"] is None
    assert markdown("set", 1, [row]).splitlines()[-1] == "| mmr | 0 | 1.000 | - | - | 0.000 |"


def test_curves_are_the_dials_of_each_method(rows: list[Row]) -> None:
    assert {method: tuple(points) for method, points in curves(rows).items()} == dict.fromkeys(
        METHODS, DIALS
    )


def test_each_row_says_what_the_lists_of_all_queries_make_of_the_catalogue(rows: list[Row]) -> None:
    spreads = [spread for row in rows for spread in row.catalogue]
    assert len(spreads) == len(rows)
    for spread in spreads:
        assert (spread.group, spread.groups) == ("brand", 2)
        assert tuple(spread.values) == fairness.MEASURES
        unknown = {name for name, value in spread.values.items() if value is None}
        assert unknown == {"equal_opportunity"}  # too few of a brand are relevant
        assert all(0.0 <= value <= 1.0 for value in spread.values.values() if value is not None)


def test_the_lists_that_are_spread_are_those_that_are_served(rows: list[Row]) -> None:
    run = served(judge(QUERIES, Overlap()), Overlap(), "mmr", 0.3)
    (row,) = [row for row in rows if (row.method, row.dial) == ("mmr", 0.3)]
    assert [len(ranked) for ranked in run.lists[0]] == [10] * len(QUERIES)
    assert row.catalogue == (pools(QUERIES).spread(run.lists, 10),)


def shelf(fewest: int = 1) -> Pools:
    return pools([GradedQuery(event(SHELF), GRADES)], fewest)


def test_what_a_list_makes_of_a_catalogue_by_hand() -> None:
    spread = shelf().spread([[["b0", "c", "a3", "a0"]]], k=3)
    assert (spread.group, spread.groups) == ("brand", 2)
    acme, birch = 1 / np.log2(4) / 4, 1 / 2  # the mean exposure of each
    assert spread.values == pytest.approx(
        {
            "coverage": 3 / 7,
            "gini": 4 / 7,
            "equal_coverage": 1 / 2 - 1 / 4,
            "equal_opportunity": 1.0 - 0.0,
            "exposure_parity": acme / birch,
            "exposure_per_merit": (acme / (2 / 3)) / (birch / (1 / 2)),
        }
    )


def test_an_order_that_is_a_lottery_spreads_as_its_draws_do_in_the_mean() -> None:
    draws = [[["a0"]], [["b0"]], [["a0", "b0"]]]
    each = [shelf().spread([lists], k=2).values for lists in draws]
    mean = {name: np.mean([values[name] for values in each]) for name in fairness.MEASURES}
    assert shelf().spread(draws, k=2).values == pytest.approx(mean)


def test_an_item_that_two_queries_know_is_one_item_of_the_catalogue() -> None:
    both = pools([GradedQuery(event(SHELF), GRADES)] * 2, fewest=1)
    spread = both.spread([[["a0"], ["a0", "b0"]]], k=1)
    assert spread.values["coverage"] == 1 / 7
    assert spread.values["gini"] == 6 / 7
    assert spread.values["equal_coverage"] == 2 / 8


def test_groups_of_too_few_are_not_compared_and_where_brands_do_not_tell_categories_do() -> None:
    two = shelf(fewest=2)
    assert (two.field, set(two.groups)) == ("brand", {"acme", "birch", None})
    assert set(two.relevant) == {"acme", None}
    assert two.spread([[["a0"]]], k=1).values["equal_opportunity"] is None
    unbranded = [msgspec.structs.replace(item, brand=None) for item in SHELF]
    three = pools([GradedQuery(event(unbranded), GRADES)], fewest=1)
    assert (three.field, set(three.groups)) == ("category", {"shoes", "hats", None})


def test_without_two_groups_nothing_is_compared() -> None:
    spread = shelf(fewest=3).spread([[["a0"]]], k=1)
    assert (spread.group, spread.groups) == (None, 0)
    assert spread.plain() == {
        "group": None,
        "groups": 0,
        **dict.fromkeys(fairness.MEASURES),
        "coverage": round(1 / 7, 5),
        "gini": round(6 / 7, 5),
    }


def write_labels(path: Path) -> Path:
    with path.open("wb") as stream:
        for query in QUERIES:
            tree = json.loads(codec.encode(query.event))
            for item, grade in zip(tree["candidates"], query.grades, strict=True):
                item["grade"] = grade
            stream.write(json.dumps(tree).encode() + b"\n")
    return path


def test_the_command_prints_tables_then_one_line_of_json_and_draws_the_curve(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, picture = write_labels(tmp_path / "labels.jsonl"), tmp_path / "curve.png"
    arguments = ["evaluate", "--frontier", "--bundle", str(zero_shot), "--judgments", str(labels)]
    options = ["--seed", "1", "--json", "--markdown", "--plot", str(picture)]
    assert main([*arguments, *options]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert table[0] == "**labels.jsonl**, 6 queries"
    answer = json.loads(last)
    assert answer["bundle"] == bundle.digest(zero_shot)
    (found,) = answer["sets"]
    model = Bundled(open_session(zero_shot))
    assert found["rows"] == json.loads(json.dumps(as_json(evaluate(QUERIES, model, seed=1))))
    assert all(row["catalogue"]["group"] == "brand" for row in found["rows"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_frontier_only_dial_0_is_judged(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = str(write_labels(tmp_path / "labels.jsonl"))
    arguments = ["evaluate", "--bundle", str(zero_shot), "--judgments", labels]
    assert main([*arguments, "--methods", "mmr"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:2] for line in lines if line.startswith("| mmr")] == [["| mmr", "0"]]


def test_peers_stand_below_ours_and_at_dial_0_order_as_we_do(zero_shot: Path) -> None:
    model = Bundled(open_session(zero_shot))
    rows = evaluate(QUERIES, model, ["mmr"], (0.0, 1.0), peers=by_peers)
    ours, *theirs = [row for row in rows if row.dial == 0.0]
    assert [row.method for row in theirs] == [named(method) for method in PEERS]
    assert {row.values["ndcg"] for row in theirs} == {ours.values["ndcg"]}
    shown = {row.method: row.values["ild"].mean for row in rows if row.dial == 1.0}
    assert shown[named("dpp")] > ours.values["ild"].mean


def test_without_the_peers_library_nothing_is_judged(
    zero_shot: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyversity", None)
    labels = str(write_labels(tmp_path / "labels.jsonl"))
    assert main(["evaluate", "--peers", "--bundle", str(zero_shot), "--judgments", labels]) == 2
    assert "pyversity" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--judgments", "none.jsonl"], ["--data", "nowhere"]])
def test_what_cannot_be_read_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--bundle", "b", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_folder_that_is_no_bundle_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write_labels(tmp_path / "labels.jsonl")
    assert main(["evaluate", "--bundle", str(tmp_path), "--judgments", str(labels)]) == 2
    assert "manifest.json" in capsys.readouterr().err
