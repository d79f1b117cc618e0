"""The study of students judges as evaluation does, and asks for what its cells are called."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.draft import TrainedOrder, draft
from export.session import open_session
from tests.benchmarks.distilled import (
    CELLS,
    COSTS,
    TEACHER,
    dials,
    lists,
    served,
    shaped,
)
from tests.export.models import save_trained
from tests.training.tiny import queries
from tests.training.tuned import silent
from training import evaluate
from training.dataset import labelled
from training.recipe import Recipe
from worker.ranking.bundled import Bundled


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Bundled:
    root = tmp_path_factory.mktemp("study")
    trained = save_trained(root / "trained", base, "product")
    draft(TrainedOrder(base=str(base), trained=trained), root / "draft", silent)
    return Bundled(open_session(root / "draft", device="cpu"))


def test_lists_read_whole_are_worth_what_evaluation_says(model: Bundled) -> None:
    graded = queries(12)
    theirs = evaluate.served(evaluate.judge(graded, model), model, "facets", 0.0).values[:, 0]
    np.testing.assert_allclose(served(graded, model), theirs, atol=1e-4)


@pytest.mark.parametrize(("part", "read"), [(1, 64), (2, 32), (3, 22)])
def test_a_timed_list_has_a_hundred_candidates_of_which_a_part_is_read(
    part: int, read: int
) -> None:
    timed = list(lists(labelled(queries(20)), part))
    assert {len(one.entries) for one in timed} == {100}
    assert {one.dials.pair_candidates for one in timed} == {read}
    assert len({one.event.user_query for one in timed}) == len(timed)


def test_a_cells_recipe_is_what_its_name_says() -> None:
    teacher = Path("teacher")
    found = {name: msgspec.convert(dials(name, teacher), Recipe) for name in CELLS if name != COSTS}
    assert found[TEACHER] == found[f"{TEACHER}, reading half"] == found["zero-shot"] == Recipe()
    assert found["3 layers, kl"].layers == 3
    assert found["3 layers, kl"].teacher.loss == "kl"
    assert found["2 layers, labels"] == Recipe(layers=2)
    assert all(one.teacher.folder == "teacher" for name, one in found.items() if "mse" in name)


def test_shapes_of_fewer_layers_can_be_timed_without_a_training(base: Path, tmp_path: Path) -> None:
    one, two = (shaped(layers, base, tmp_path) for layers in (1, 2))
    sizes = [(each / "onnx" / "model.onnx").stat().st_size for each in (one, two)]
    assert sizes[0] < sizes[1]
    assert shaped(1, base, tmp_path) == one
