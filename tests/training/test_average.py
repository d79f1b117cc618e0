"""Means of weights: what they are made of, and that a run judges and keeps them."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import get_swa_avg_fn

from tests.training.tuned import tuned
from training.average import interpolate, moving_average
from training.fine_tune import Trained


def linear(chance: torch.Generator) -> torch.nn.Linear:
    """A small layer of random weights."""
    layer = torch.nn.Linear(2, 3)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=chance))
    return layer


def followed(decay: float, steps: list[torch.nn.Linear]) -> dict[str, Tensor]:
    """The average after all steps."""
    average = moving_average(steps[0], decay)
    for one in steps:
        average.update_parameters(one)
    return dict(average.module.named_parameters())


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), decay=st.floats(0, 0.999))
def test_the_average_is_the_mean_of_all_steps_under_an_exponential_window(
    seed: int, count: int, decay: float
) -> None:
    chance = torch.Generator().manual_seed(seed)
    steps = [linear(chance) for _ in range(count)]
    window = torch.tensor([decay ** (count - 1 - step) for step in range(count)]).double()
    for name, found in followed(decay, steps).items():
        rows = torch.stack([one.get_parameter(name) for one in steps]).double()
        expected = torch.tensordot(window / window.sum(), rows, 1)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


def test_a_long_window_gives_torchs_plain_mean() -> None:
    chance = torch.Generator().manual_seed(1)
    steps = [linear(chance) for _ in range(6)]
    plain = steps[0].weight
    for count, one in enumerate(steps[1:], start=1):
        plain = get_swa_avg_fn()(plain, one.weight, count)  # type: ignore[no-untyped-call]  # torch's
    torch.testing.assert_close(followed(1 - 1e-7, steps)["weight"], plain)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), decay=st.floats(0, 0.999))
def test_the_average_of_what_does_not_move_is_that_to_the_last_bit(
    seed: int, count: int, decay: float
) -> None:
    still = linear(torch.Generator().manual_seed(seed))
    for name, found in followed(decay, [still] * count).items():
        assert torch.equal(found, still.get_parameter(name))


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_the_way_back_is_straight(seed: int, share: float) -> None:
    chance = torch.Generator().manual_seed(seed)
    first, last = linear(chance), linear(chance)
    began = {name: each.detach().clone() for name, each in first.named_parameters()}
    ended = {name: each.detach().clone() for name, each in last.named_parameters()}
    interpolate(last, began, share)
    for name, found in last.named_parameters():
        expected = (1 - share) * began[name] + share * ended[name]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    ends = {0.0: began, 1.0: ended}
    if share in ends:
        assert all(torch.equal(last.get_parameter(name), ends[share][name]) for name in began)


def weights(trained: Trained) -> dict[str, Tensor]:
    return load_file(Path(trained.folder) / "model.safetensors")


def test_a_run_keeps_the_mean_of_its_steps_and_leaves_nothing_else(
    base: Path, tmp_path: Path
) -> None:
    """A run of n steps is the beginning of one of n + 1 where the rates stay as they are."""
    decay = 0.9
    still = {"schedule": "constant", "warmup": 0.0, "pooling": "mean"}
    plain = [
        weights(tuned({**still, "max_steps": steps}, base, tmp_path / f"{steps}"))
        for steps in (1, 2, 3)
    ]
    dials = {**still, "max_steps": 3, "average": decay}
    trained = tuned(dials, base, tmp_path / "average")
    window = [decay**2, decay, 1.0]
    for name, found in weights(trained).items():
        mean = sum(w * one[name] for w, one in zip(window, plain, strict=True)) / sum(window)
        torch.testing.assert_close(found, mean, atol=1e-6, rtol=1e-5)
    left = sorted(each.name for each in (tmp_path / "average").iterdir())
    assert left == ["fine_tune.json", "model", "run.json", "tensorboard"]


def test_what_is_judged_is_the_mean_and_the_steps_are_as_without_it(
    base: Path, tmp_path: Path
) -> None:
    plain = tuned({}, base, tmp_path / "plain")
    averaged = tuned({"average": 0.9}, base, tmp_path / "averaged")
    losses = [[row["loss"] for row in one.losses if "loss" in row] for one in (plain, averaged)]
    judged = [
        [row["relevance"] for row in one.losses if "ndcg" in row] for one in (plain, averaged)
    ]
    assert losses[0] == losses[1]
    assert judged[0] != judged[1]


def test_a_run_goes_half_of_the_way_back_to_what_it_began_with(base: Path, tmp_path: Path) -> None:
    began, whole, half = (
        weights(tuned({"max_steps": 4, "interpolate": share}, base, tmp_path / f"{share}"))
        for share in (0.0, 1.0, 0.5)
    )
    assert any(not torch.equal(began[name], whole[name]) for name in began)
    for name, found in half.items():
        torch.testing.assert_close(found, (began[name] + whole[name]) / 2, atol=1e-6, rtol=1e-5)
    untouched = load_file(base / "model.safetensors")
    trunk = {name.removeprefix("trunk."): each for name, each in began.items()}
    assert all(torch.equal(trunk[name], each) for name, each in untouched.items() if name in trunk)
    assert trunk.keys() & untouched.keys()
