"""What texts that change do to lists: laws of the table, and the command that prints it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.session import open_session
from tests.factories import candidate, event
from tests.training import tiny
from training.__main__ import main
from training.evaluate import interval
from training.judgments import GradedQuery
from training.perturb import PERTURBATIONS
from training.report import robustness, robustness_json
from training.robustness import shake
from worker.ranking.bundled import Bundled
from worker.scoring.overlap import Overlap

GOODS = ("Birch wool hat, blue", "Acme rain coat", "red trail shoe", "Acme trail boot, 6 ft")
CHINESE = ("羊毛 帽子", "雨衣", "防水 登山鞋", "登山鞋 红色")


def query(titles: tuple[str, ...], text: str, number: int = 0) -> GradedQuery:
    """What stands last is relevant."""
    items = [
        candidate(f"i{index}", title=title, brand=title.split()[0])
        for index, title in enumerate(titles)
    ]
    return GradedQuery(event(items, query_id=f"q{number}", user_query=text), (0.0, 0.0, 1.0, 1.0))


QUERIES = [query(GOODS, "trail shoe", number) for number in range(5)]


def test_a_row_for_each_perturbation_and_the_loss_is_the_difference() -> None:
    found = shake(QUERIES, Overlap(), seed=2)
    assert [one.perturbation for one in found] == list(PERTURBATIONS)
    for one in found:
        assert 0 < one.changed <= len(QUERIES)
        assert one.loss.mean == pytest.approx(one.clean.mean - one.perturbed.mean)
        assert one.loss.low <= one.loss.mean <= one.loss.high
        assert 0.0 <= one.overlap.mean <= 1.0
    assert shake(QUERIES, Overlap(), seed=2) == found


def test_a_model_of_words_bears_their_order_and_loses_to_who_stuffs_titles() -> None:
    rows = {one.perturbation: one for one in shake(QUERIES, Overlap())}
    assert rows["word_order"].loss.mean == 0.0
    assert rows["word_order"].overlap.mean == pytest.approx(1.0)
    assert rows["stuffed_titles"].loss.low > 0.0
    assert rows["stuffed_titles"].overlap.mean < 1.0
    assert rows["query_typos"].loss.mean > 0.0


def test_only_the_queries_that_changed_are_measured() -> None:
    plain = query(("hat", "coat", "cap", "sock"), "hat", number=9)
    mixed = {one.perturbation: one for one in shake([*QUERIES, plain], Overlap())}
    alone = {one.perturbation: one for one in shake(QUERIES, Overlap())}
    for name in ("units", "attribute_shuffle", "query_typos"):
        assert mixed[name] == alone[name]


def test_where_nothing_changes_nothing_is_claimed() -> None:
    still = query(("hat", "coat", "cap", "sock"), "hat")
    rows = {one.perturbation: one for one in shake([still], Overlap())}
    assert rows["units"].changed == 0
    assert np.isnan(rows["units"].loss.mean)
    assert robustness_json([rows["units"]])[0]["loss"] is None
    assert "| units | 0 | - | - | - | - |" in robustness("still", [rows["units"]])


def test_chinese_lists_are_shaken_too() -> None:
    rows = {one.perturbation: one for one in shake([query(CHINESE, "登山鞋 防水")], Overlap())}
    assert {name for name, row in rows.items() if row.changed} >= {
        *("query_typos", "title_typos", "word_order", "stuffed_titles")
    }


def test_the_command_prints_a_table_and_the_same_as_json(
    zero_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = tiny.queries(6)
    labels = tiny.write_graded(tmp_path / "labels.jsonl", queries)
    arguments = ["evaluate", "--bundle", str(zero_shot), "--judgments", str(labels)]
    assert main([*arguments, "--methods", "mmr", "--robustness", "--json", "--markdown"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    (found,) = json.loads(last)["sets"]
    rows = shake(queries, Bundled(open_session(zero_shot)))
    assert found["robustness"] == json.loads(json.dumps(robustness_json(rows)))
    assert robustness("labels.jsonl", rows) in "\n".join(table)


def test_the_interval_of_the_loss_is_the_paired_bootstrap_of_evaluation() -> None:
    mixed = [*QUERIES, query(GOODS, "hat red", 6), query(GOODS, "wool shoe", 7)]
    (one,) = [
        row for row in shake(mixed, Overlap(), seed=4) if row.perturbation == "stuffed_titles"
    ]
    singles = [
        row.loss.mean
        for each in mixed
        for row in shake([each], Overlap(), seed=4)
        if row.perturbation == "stuffed_titles" and row.changed
    ]
    assert one.loss == interval(np.array(singles), 4)
