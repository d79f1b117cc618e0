"""How far a list lies from what was learned from, and how far the pair model's word then counts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf  # type: ignore[import-untyped]  # ships no types

from export.domain import DOMAIN, Domain, Normal, fit_domain, fit_normal, shrunk_covariance


def cloud(seed: int, count: int, dimensions: int = 6, start: int = 0) -> NDArray[Any]:
    """Items of the distribution `seed`: others for another `start`."""
    stretch = np.random.default_rng(seed).uniform(0.1, 2.0, dimensions)
    drawn = np.random.default_rng((seed, start)).normal(size=(count, dimensions))
    return (drawn * stretch + 0.5).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 12))
def test_the_covariance_is_shrunk_as_ledoit_and_wolf_do(
    seed: int, count: int, dimensions: int
) -> None:
    rows = cloud(seed, count, dimensions).astype(np.float64)
    wanted, _ = ledoit_wolf(rows)
    np.testing.assert_allclose(
        shrunk_covariance(rows - rows.mean(0)), wanted, rtol=1e-9, atol=1e-12
    )


def named(rows: NDArray[Any], name: str = "item") -> dict[str, NDArray[Any]]:
    return {f"{name} {number}": row for number, row in enumerate(rows)}


def lists(seed: int, count: int, size: int = 10) -> list[dict[str, NDArray[Any]]]:
    """Lists of items that nobody has learned from."""
    return [named(cloud(seed, size, start=7 * n + 1), f"new {n}") for n in range(count)]


def domain_of(seed: int, count: int = 400) -> Domain:
    found = fit_domain(named(cloud(seed, count)), lists(seed, 60))
    assert found is not None
    return found


@given(st.integers(0, 10_000))
def test_items_like_those_learned_from_are_near_and_others_far(seed: int) -> None:
    domain = domain_of(seed)
    shares = [domain.share(np.stack([*one.values()])) for one in lists(seed, 90)[60:]]
    assert np.mean(np.array(shares) > 0.0) > 0.6
    assert domain.share(cloud(seed, 10) + np.float32(9)) == 0.0
    assert domain.share(cloud(seed, 0)) == 1.0


def test_a_distance_counts_in_the_spreads_of_what_was_learned_from() -> None:
    rows = cloud(3, 5_000)
    items = fit_normal(rows)
    spread = np.cov((rows - items.mean) @ items.whitening, rowvar=False)
    np.testing.assert_allclose(spread, np.eye(6), atol=0.02)
    assert items.distances(items.mean[np.newaxis]) == pytest.approx([0.0], abs=1e-5)


@given(st.lists(st.floats(0, 9), min_size=4, max_size=4))
def test_the_word_never_grows_with_the_distance(numbers: list[float]) -> None:
    near, far = sorted(numbers[:2])
    plain = Domain(Normal(np.zeros(1, np.float32), np.ones((1, 1), np.float32)), near, far)
    nearer, further = (
        plain.share(np.array([[distance]], np.float32)) for distance in sorted(numbers[2:])
    )
    assert 0.0 <= further <= nearer <= 1.0


def test_three_of_four_lists_like_those_that_it_was_fitted_to_have_the_full_word() -> None:
    seen = lists(1, 200)
    domain = fit_domain(named(cloud(1, 500)), seen)
    assert domain is not None
    shares = np.array([domain.share(np.stack([*one.values()])) for one in seen])
    assert np.mean(shares == 1.0) == pytest.approx(0.75, abs=0.01)
    assert np.mean(shares == 0.0) == pytest.approx(0.05, abs=0.01)


def test_new_items_of_the_same_kind_are_not_far_though_all_lists_were_of_known_ones() -> None:
    """Fewer items than dimensions: by the distribution that they made, their own are too near."""
    old = cloud(2, 60, 40)
    known = named(old)
    names = [*known]
    chance = np.random.default_rng(0)
    seen = [
        {name: known[name] for name in chance.choice(names, 8, replace=False)} for _ in range(40)
    ]
    domain = fit_domain(known, seen)
    assert domain is not None
    fresh = [domain.share(cloud(2, 8, 40, start=n)) for n in range(1, 61)]
    assert np.mean(np.array(fresh) > 0.0) > 0.6


@pytest.mark.parametrize(("items", "count"), [(9, 40), (400, 19), (0, 0)])
def test_too_few_say_nothing(items: int, count: int) -> None:
    assert fit_domain(named(cloud(1, items)), lists(1, count)) is None


@pytest.mark.parametrize("rows", [np.ones((1, 4)), np.ones((7, 4))], ids=["one", "equal"])
def test_items_without_any_spread_still_have_a_distribution(rows: NDArray[Any]) -> None:
    items = fit_normal(rows)
    assert items.distances(rows.astype(np.float32)) == pytest.approx(0.0, abs=1e-6)
    assert items.distances(np.zeros((1, 4), np.float32)) > 100.0


def test_a_domain_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Domain.read(tmp_path) is None
    wrote = domain_of(5)
    wrote.write(tmp_path)
    found = Domain.read(tmp_path)
    assert found is not None
    assert (found.near, found.far) == (wrote.near, wrote.far)
    rows = cloud(6, 9)
    assert found.items.distances(rows).tolist() == wrote.items.distances(rows).tolist()


VECTOR, SQUARE = np.zeros(2, np.float32), np.eye(2, dtype=np.float32)
REACH = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"mean": VECTOR, "reach": REACH}, "whitening"),
        ({"mean": VECTOR, "whitening": SQUARE}, "reach"),
        ({"mean": np.zeros(3, np.float32), "whitening": SQUARE, "reach": REACH}, "square"),
        ({"mean": np.float32(1), "whitening": SQUARE, "reach": REACH}, "square"),
        ({"mean": np.zeros(2), "whitening": np.eye(2), "reach": REACH}, "float32"),
        ({"mean": VECTOR * np.nan, "whitening": SQUARE, "reach": REACH}, "finite"),
        ({"mean": VECTOR, "whitening": SQUARE, "reach": REACH[::-1]}, "near <= far"),
        ({"mean": VECTOR, "whitening": SQUARE, "reach": np.array([1.0, np.inf])}, "near <= far"),
        ({"mean": VECTOR, "whitening": SQUARE, "reach": np.ones(3)}, "too many values"),
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


@given(place=st.integers(0, 5_000), flip=st.integers(1, 255))
def test_a_damaged_file_is_refused_or_still_a_domain(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    domain_of(5).write(folder)
    content = bytearray((folder / DOMAIN).read_bytes())
    content[place % len(content)] ^= flip
    (folder / DOMAIN).write_bytes(content)
    with suppress(ValueError):  # and nothing else
        assert Domain.read(folder) is not None
