"""Labels as graded queries: from JSONL, from the parquet sets, and what counts as relevant."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import candidate, event
from training.dataset import labelled
from training.judgments import (
    SETS,
    BadJudgments,
    GradedQuery,
    digest,
    read_jsonl,
    read_set,
    worth_measuring,
)
from worker.events import Item

DATA = Path(os.environ.get("PRISMRANK_DATA", Path(__file__).parents[2] / "../shared/data"))


def line(*candidates: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"query_id": "q", "user_query": "shoe", "candidates": candidates, **fields})


def item(item_id: str, grade: object, **fields: Any) -> dict[str, Any]:
    return {"item_id": item_id, "title": item_id, "grade": grade, **fields}


def graded(*grades: float, **fields: Any) -> GradedQuery:
    return GradedQuery(event([candidate(str(i), **fields) for i in range(len(grades))]), grades)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def test_a_line_is_a_search_event_whose_candidates_carry_grades(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(line(item("a", 1), item("b", 0.25, brand="Acme"), item("a", 0)) + "\n\n")
    (query,) = read_jsonl(file)
    assert query.event.user_query == "shoe"
    assert query.gains() == {"a": 1.0, "b": 0.25}
    assert [one.brand for one in query.event.candidates] == [None, "Acme"]


def test_a_history_is_described_by_the_candidates_of_the_whole_file(tmp_path: Path) -> None:
    done = [{"item_id": name, "action_name": "purchase"} for name in ("later", "b", "gone", "b")]
    lines = [
        line({"item_id": "later", "grade": 0}, item("b", 1, brand="Acme"), history=done),
        line(item("later", 0.5, title="first", score=3.0), item("b", 0, brand="Birch")),
        line(item("later", 1, title="second")),
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(lines))
    one, *others = read_jsonl(file)
    later, b = Item(item_id="later", title="first"), Item(item_id="b", title="b", brand="Acme")
    assert one.past == (later, b)
    assert [query.past for query in others] == [(), ()]
    (learned, *_) = labelled([one])
    assert learned.search.history == ((b, 10.0), (later, 5.0))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "one JSON object"),
        (line(query_id=""), "query_id"),
        (line(item("a", 1.5)), r"\$.candidates\[0\].grade: expected a grade in \[0, 1\], got 1.5"),
        (line(item("a", True)), "got True"),
        (line(item("a", "high")), "got 'high'"),
        (line({"item_id": "a"}), "got None"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, bad: str, why: str) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(line(item("a", 1)) + "\n" + bad + "\n")
    with pytest.raises(BadJudgments, match=rf"labels.jsonl:2: .*{why}"):
        read_jsonl(file)


def test_a_set_that_is_joined_with_its_catalogue(tmp_path: Path) -> None:
    folder = tmp_path / "chorus_icecat"
    products = [
        {"product_id": name, "title": name, "brand": brand, "category_derived": category}
        for name, brand, category in [("a", "HP", "mouse"), ("b", "", "other"), ("c", "LG", "tv")]
    ]
    write(folder, "products", [{**row, "short_description": ""} for row in products])
    labels = [("q", "b", 3, "dev"), ("q", "a", 1, "dev"), ("r", "c", 0, "train")]
    names = ("query", "product_id", "rating", "split")
    write(folder, "judgments", [dict(zip(names, row, strict=True)) for row in labels])

    first, second = read_set("chorus_icecat", tmp_path)
    assert (first.event.user_query, first.split) == ("q", "dev")
    assert first.gains() == {"a": 1 / 3, "b": 1.0}
    facets = [(one.brand, one.category) for one in first.event.candidates]
    assert facets == [("HP", "mouse"), (None, None)]
    assert (second.event.user_query, second.split) == ("r", "train")
    assert [one.split for one in read_set("chorus_icecat", tmp_path, "train")] == ["train"]


def test_a_set_of_pairs_gives_its_dev_part_unless_asked(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "query": "q", "median_relevance": 4, "split": "train"},
        {"id": 2, "query": "r", "median_relevance": 1, "split": "dev"},
        {"id": 3, "query": "r", "median_relevance": 3, "split": "dev"},
    ]
    texts = {"product_title": "t", "product_description": "d", "brand_derived": "b"}
    write(tmp_path / "crowdflower", "pairs", [{**row, **texts} for row in rows])
    (query,) = read_set("crowdflower", tmp_path)
    assert query.gains() == {"2": 0.0, "3": 2 / 3}
    assert len(read_set("crowdflower", tmp_path, "all")) == 2


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadJudgments, match="home_depot"):
        read_set("home_depot", tmp_path)
    with pytest.raises(BadJudgments, match="no such set"):
        read_set("esci", tmp_path)
    with pytest.raises(BadJudgments, match=r"none.jsonl"):
        read_jsonl(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("grade", "facets", "expected"),
    [
        (1.0, {"brand": "HP", "category": "Mouse"}, {"brand=hp", "category=mouse"}),
        (2 / 3, {"brand": "HP"}, {"brand=hp"}),
        (0.66, {"brand": "HP"}, set()),
        (1.0, {"brand": " ", "category": "other"}, set()),
        (1.0, {}, set()),
    ],
)
def test_subtopics_are_brand_and_category_of_what_is_relevant(
    grade: float, facets: dict[str, str], expected: set[str]
) -> None:
    assert graded(grade, **facets).subtopics() == {"0": expected}


def test_lists_where_no_order_is_better_do_not_count() -> None:
    short, flat, good = graded(0, 1), graded(1, 1, 1), graded(0, 0, 1)
    assert worth_measuring([short, flat, good]) == [short, good]
    assert worth_measuring([short, flat, good], fewest=3) == [good]


def test_the_digest_speaks_of_texts_and_grades() -> None:
    assert digest([graded(0, 1)]) == digest([graded(0, 1)])
    assert digest([graded(0, 1)]) != digest([graded(1, 0)])
    assert digest([graded(0, 1)]) != digest([graded(0, 1, brand="HP")])
    known = replace(graded(0, 1), past=(Item(item_id="old", title="hat"),))
    assert digest([known]) != digest([graded(0, 1)])


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled sets at {DATA} (PRISMRANK_DATA)")
@pytest.mark.parametrize(("name", "queries"), [("chorus_icecat", 75), ("crowdflower", 28)])
def test_the_real_sets_give_queries_that_can_be_measured(name: str, queries: int) -> None:
    found = worth_measuring(read_set(name, DATA), SETS[name].fewest)
    assert len(found) == queries
    assert all(0 <= grade <= 1 for query in found for grade in query.grades)
    assert any(any(query.subtopics().values()) for query in found)
