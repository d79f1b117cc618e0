"""How far a list lies from what was learned from, and how far the pair model's word then counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf  # type: ignore[import-untyped]  # ships no types

from export.blend import Reach
from export.domain import DOMAIN, Domain, fit_domain, shrunk_covariance


def cloud(seed: int, count: int, dimensions: int = 6) -> NDArray[Any]:
    chance = np.random.default_rng(seed)
    stretch = chance.uniform(0.1, 2.0, dimensions)
    return (chance.normal(size=(count, dimensions)) * stretch + 0.5).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12))
def test_the_covariance_is_shrunk_as_ledoit_and_wolf_do(
    seed: int, count: int, dimensions: int
) -> None:
    rows = cloud(seed, count, dimensions).astype(np.float64)
    wanted, _ = ledoit_wolf(rows)
    np.testing.assert_allclose(
        shrunk_covariance(rows - rows.mean(0)), wanted, rtol=1e-9, atol=1e-12
    )


@given(st.integers(0, 10_000))
def test_items_like_those_learned_from_are_near_and_others_far(seed: int) -> None:
    domain = fit_domain(cloud(seed, 400))
    reach = domain.reach([cloud(seed, 400)[start : start + 10] for start in range(0, 400, 10)])
    assert reach.share(domain.distance(cloud(seed, 400)[:100])) > 0.0
    assert reach.share(domain.distance(cloud(seed, 10) + np.float32(9))) == 0.0


def test_a_distance_counts_in_the_spreads_of_what_was_learned_from() -> None:
    rows = cloud(3, 5_000)
    domain = fit_domain(rows)
    np.testing.assert_allclose(
        np.cov((rows - domain.mean) @ domain.whitening, rowvar=False), np.eye(6), atol=0.02
    )
    assert domain.distance(domain.mean[np.newaxis]) == pytest.approx(0.0, abs=1e-5)
    assert domain.distance(rows[:0]) == 0.0


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_order_of_a_list_does_not_move_it(seed: int, count: int) -> None:
    domain = fit_domain(cloud(seed, 50))
    rows = cloud(seed + 1, count)
    turned = np.random.default_rng(seed).permutation(rows)
    assert domain.distance(turned) == pytest.approx(domain.distance(rows), rel=1e-6)


@given(st.floats(0, 9), st.floats(0, 9), st.lists(st.floats(0, 20), min_size=2, max_size=2))
def test_the_word_never_grows_with_the_distance(one: float, other: float, two: list[float]) -> None:
    reach = Reach(near=min(one, other), far=max(one, other))
    nearer, further = sorted(two)
    assert 0.0 <= reach.share(further) <= reach.share(nearer) <= 1.0


def test_three_of_four_lists_like_those_learned_from_are_within_the_full_reach() -> None:
    domain = fit_domain(cloud(1, 500))
    lists = [cloud(seed, 12) for seed in range(200)]
    reach = domain.reach(lists)
    shares = np.array([reach.share(domain.distance(each)) for each in lists])
    assert np.mean(shares == 1.0) == pytest.approx(0.75, abs=0.01)
    assert np.mean(shares == 0.0) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((7, 4))], ids=["one", "equal"])
def test_items_without_any_spread_still_have_a_domain(rows: NDArray[Any]) -> None:
    domain = fit_domain(rows)
    assert domain.distance(rows.astype(np.float32)) == pytest.approx(0.0, abs=1e-6)
    assert domain.distance(np.zeros((1, 4), np.float32)) > 100.0


def test_nothing_has_no_domain() -> None:
    with pytest.raises(ValueError, match="no items"):
        fit_domain(np.empty((0, 4)))


@pytest.mark.parametrize(("near", "far"), [(2.0, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_a_reach_ends_after_it_begins(near: float, far: float) -> None:
    with pytest.raises(ValueError, match="expected near <= far"):
        Reach(near=near, far=far)


def test_a_domain_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Domain.read(tmp_path) is None
    wrote = fit_domain(cloud(5, 40))
    wrote.write(tmp_path)
    found = Domain.read(tmp_path)
    assert found is not None
    assert found.distance(cloud(6, 9)) == wrote.distance(cloud(6, 9))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"mean": np.zeros(3, np.float32)}, "whitening"),
        ({"mean": np.zeros(3, np.float32), "whitening": np.eye(2, dtype=np.float32)}, "square"),
        ({"mean": np.float32(1), "whitening": np.eye(2, dtype=np.float32)}, "square"),
        ({"mean": np.zeros(2), "whitening": np.eye(2)}, "float32"),
        (
            {"mean": np.zeros(1, np.float32), "whitening": np.full((1, 1), np.nan, np.float32)},
            "finite",
        ),
    ],
)
def test_a_domain_that_is_none_is_refused(
    tmp_path: Path, arrays: dict[str, NDArray[Any]], why: str
) -> None:
    np.savez(tmp_path / DOMAIN, **arrays)  # type: ignore[arg-type]  # its stub thinks of allow_pickle
    with pytest.raises(ValueError, match=why):
        Domain.read(tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / DOMAIN).write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=DOMAIN):
        Domain.read(tmp_path)
