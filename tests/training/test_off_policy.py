"""What a policy would have earned: near the truth where logs support it, and honest elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.training.clicked import Truth, clicked
from tests.training.pages import did, joined, ranked, search
from training.columns import Columns
from training.examination import Examination
from training.off_policy import (
    Actions,
    Estimator,
    OffPolicySettings,
    Placed,
    difference,
    for_actions,
    for_lists,
    placed,
    summed_up,
)
from worker.ranking.model import Doubles, Integers

HARMONIC = Examination(
    method="assumed", why="a test", theta=tuple(1 / np.arange(1, 11)), clicks=(0,) * 10, eta=1.0
)
WIDE = OffPolicySettings(clip=1_000.0)
ACTION_ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "dr")
LIST_ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "pbm", "dr")


def bandit(count: int, seed: int = 0, model_error: float = 0.0) -> tuple[Actions, float]:
    """Logs of a bandit with 5 actions and contexts of 2 kinds, and the target's true value."""
    chance = np.random.default_rng(seed)
    rewards = chance.random((2, 5)) * 0.5
    logging, target = chance.dirichlet(np.ones(5) * 3, size=2), chance.dirichlet(np.ones(5), size=2)
    context = chance.integers(2, size=count)
    drawn = chance.random((count, 1))
    action = (np.cumsum(logging, axis=1)[context] < drawn).sum(axis=1).clip(0, 4)
    modelled = rewards + model_error * chance.normal(size=(2, 5))
    logs = Actions(
        rewards=(chance.random(count) < rewards[context, action]).astype(np.float64),
        logged=logging[context, action],
        target=target[context, action],
        modelled=modelled[context, action],
        expected=(target * modelled).sum(axis=1)[context],
    )
    return logs, float((target * rewards).sum(axis=1)[context].mean())


@pytest.mark.parametrize("estimator", ACTION_ESTIMATORS)
def test_the_value_of_another_policy_lies_within_the_intervals(estimator: Estimator) -> None:
    inside: list[bool] = []
    for seed in range(20):
        logs, truth = bandit(1_500, seed, model_error=0.1)
        found = summed_up(for_actions(logs, estimator, WIDE), WIDE)
        inside += [found.low <= truth <= found.high]
        inside += [found.normal_low <= truth <= found.normal_high]
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize("estimator", [*ACTION_ESTIMATORS, "dm"])
def test_all_come_near_the_truth_with_many_logs(estimator: Estimator) -> None:
    logs, truth = bandit(20_000)
    assert for_actions(logs, estimator, WIDE).value == pytest.approx(truth, abs=0.02)


def test_a_wrong_model_misleads_dm_and_not_dr() -> None:
    logs, truth = bandit(20_000)
    wrong = replace(logs, modelled=logs.modelled + 0.2, expected=logs.expected + 0.2)
    assert for_actions(wrong, "dm").value == pytest.approx(truth + 0.2, abs=0.01)
    assert for_actions(wrong, "dr", WIDE).value == pytest.approx(truth, abs=0.02)


def test_the_two_intervals_agree() -> None:
    logs, _ = bandit(4_000)
    for estimator in ACTION_ESTIMATORS:
        found = summed_up(for_actions(logs, estimator, WIDE), WIDE)
        width = found.normal_high - found.normal_low
        assert found.low == pytest.approx(found.normal_low, abs=0.2 * width)
        assert found.high == pytest.approx(found.normal_high, abs=0.2 * width)


def test_a_clipped_weight_counts_no_more_than_the_clip() -> None:
    one = np.ones(1)
    logs = Actions(rewards=one, logged=one * 1e-6, target=one, modelled=one * 0, expected=one * 0)
    assert for_actions(logs, "ips", OffPolicySettings(clip=7.0)).value == 7.0


@pytest.mark.parametrize("name", ["pbm", "median"])
def test_an_unknown_estimator_is_refused(name: str) -> None:
    logs, _ = bandit(10)
    with pytest.raises(ValueError, match=f"{name}: expected one of ips, snips, dm, dr"):
        for_actions(logs, name)  # type: ignore[arg-type]


def aside(
    table: Columns, truth: Truth, targets: Integers, modelled: Doubles | None = None
) -> tuple[Placed, float]:
    """Logged lists beside a target's places for the same items, and the target's true value."""
    lists = int(table.lists.max()) + 1
    modelled = np.zeros(len(truth.attraction)) if modelled is None else modelled
    theta = truth.theta[targets - 1]
    logs = Placed(
        lists=table.lists,
        places=table.places,
        targets=targets,
        probabilities=table.probabilities,
        rewards=table.clicks,
        modelled=modelled[table.pairs],
        expected=(theta * modelled[table.pairs]).reshape(lists, -1).sum(axis=1),
    )
    return logs, float((theta * truth.attraction[table.pairs]).sum() / lists)


def ideal(table: Columns, truth: Truth) -> Integers:
    """The places that the items of each list have when the best stand first."""
    worth = truth.attraction[table.pairs].reshape(-1, 10)
    return np.argsort(np.argsort(-worth, axis=1, kind="stable"), axis=1).ravel() + 1


@pytest.mark.parametrize("estimator", LIST_ESTIMATORS)
def test_the_value_of_the_order_before_exploration_is_found(estimator: Estimator) -> None:
    table, truth = clicked(20_000, share=0.5)
    logs, true = aside(table, truth, table.bases)
    found = summed_up(for_lists(logs, HARMONIC, estimator))
    assert found.low <= true <= found.high
    assert found.high - found.low < 0.05


@pytest.mark.parametrize("estimator", ["pbm", "dr"])
def test_a_better_order_is_seen_to_be_better(estimator: Estimator) -> None:
    table, truth = clicked(5_000, skill=0.5, share=0.5)
    half = truth.attraction * 0.5 + 0.2
    logs, true = aside(table, truth, ideal(table, truth), half)
    champion, before = aside(table, truth, table.bases, half)
    new, old = (for_lists(one, HARMONIC, estimator) for one in (logs, champion))
    gain = summed_up(difference(new, old))
    assert gain.low > 0
    assert gain.low <= true - before <= gain.high


def test_ips_by_place_sees_little_of_what_moves_far() -> None:
    table, truth = clicked(5_000, skill=0.5, share=0.5)
    logs, true = aside(table, truth, ideal(table, truth))
    base, _ = aside(table, truth, table.bases)
    far = summed_up(for_lists(logs, HARMONIC, "ips"))
    assert far.high < 0.7 * true
    assert far.effective < 0.3 * summed_up(for_lists(base, HARMONIC, "ips")).effective


def test_a_paired_difference_is_surer_than_two_values() -> None:
    table, truth = clicked(5_000, share=0.5)
    new, old = (
        for_lists(aside(table, truth, places)[0], HARMONIC, "pbm")
        for places in (ideal(table, truth), table.bases)
    )
    pair, apart = summed_up(difference(new, old)), [summed_up(new), summed_up(old)]
    assert pair.value == pytest.approx(apart[0].value - apart[1].value)
    assert pair.high - pair.low < min(one.high - one.low for one in apart)


def test_lists_are_placed_by_item_and_the_model_is_asked_for_each() -> None:
    lists = joined([did("purchase", "b")], [ranked(1)], [search(1)]).lists
    worth = {"a": 0.1, "b": 0.5, "z": 0.4}
    logs = placed(lists, [["b", "z", "a"]], HARMONIC, lambda one: worth)
    assert logs.targets.tolist() == [3, 1, 0, 0]
    assert logs.modelled.tolist() == [0.1, 0.5, 0.0, 0.0]
    assert logs.expected.tolist() == [pytest.approx(0.5 + 0.4 / 2 + 0.1 / 3)]
    # b earned 1 at place 2 and would be seen twice as often at place 1; z is the model's word.
    dr = logs.expected[0] + 2 * (1 - 0.5 * 0.5) + (1 / 3) * (0 - 0.1)
    assert for_lists(logs, HARMONIC, "dr").value == pytest.approx(dr)
    assert for_lists(logs, HARMONIC, "pbm").value == pytest.approx(2.0)


def test_one_order_is_needed_for_each_list() -> None:
    lists = joined([], [ranked(1)], [search(1)]).lists
    with pytest.raises(ValueError, match="zip"):
        placed(lists, [], HARMONIC)


@given(st.integers(0, 1_000))
@examples(max_examples=30)
def test_where_the_target_is_what_logged_the_value_is_the_plain_mean(seed: int) -> None:
    logs, _ = bandit(50, seed)
    same = replace(logs, target=logs.logged, expected=logs.modelled)
    for estimator in ACTION_ESTIMATORS:
        assert for_actions(same, estimator).value == pytest.approx(logs.rewards.mean())
    table, truth = clicked(50, share=0.0, seed=seed, queries=5)
    lists, _ = aside(table, truth, table.places, truth.attraction)
    for each in LIST_ESTIMATORS:
        assert for_lists(lists, HARMONIC, each).value == pytest.approx(table.clicks.sum() / 50)


@given(st.integers(0, 1_000), st.floats(0.1, 1.0))
@examples(max_examples=30)
def test_dr_with_a_perfect_model_has_no_variance_from_rewards(seed: int, share: float) -> None:
    logs, _ = bandit(50, seed)
    sure = replace(logs, rewards=logs.modelled)
    assert for_actions(sure, "dr").value == pytest.approx(logs.expected.mean())
    table, known = clicked(20, share=share, seed=seed, queries=5)
    told, true = aside(table, known, ideal(table, known), known.attraction)
    sure_lists = replace(told, rewards=known.theta[table.places - 1] * told.modelled)
    assert for_lists(sure_lists, HARMONIC, "dr").value == pytest.approx(true)


@given(st.integers(0, 1_000), st.floats(1.0, 50.0))
@examples(max_examples=30)
def test_weights_end_at_the_clip_and_the_sample_counts_no_more_than_it_is(
    seed: int, clip: float
) -> None:
    logs, _ = bandit(60, seed)
    chosen = OffPolicySettings(clip=clip)
    for estimator in ACTION_ESTIMATORS:
        terms = for_actions(logs, estimator, chosen)
        assert terms.weights.max() <= clip
        found = summed_up(terms, chosen)
        assert found.low <= found.high
        assert 0 < found.effective <= 60 + 1e-9


@given(st.integers(0, 1_000))
@examples(max_examples=20)
def test_snips_lies_among_the_rewards_and_moves_with_them(seed: int) -> None:
    logs, _ = bandit(40, seed)
    value = for_actions(logs, "snips").value
    assert logs.rewards.min() <= value <= logs.rewards.max()
    shifted = replace(logs, rewards=logs.rewards + 3.0)
    assert for_actions(shifted, "snips").value == pytest.approx(value + 3.0)
