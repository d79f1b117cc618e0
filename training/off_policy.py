"""What a policy would have earned, from what another one logged: value, interval, and how far to
trust it.

Every estimate here is a sum over parts of a ratio of means, so that all of them share one interval
by the delta method, one bootstrap, and one paired difference. `for_actions` is for logs of single
actions (a bandit's), `for_lists` for ranked lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
from msgspec import Meta, Struct

from training.bootstrap import block_sums, percentiles, resampled
from training.columns import columns
from training.examination import Examination
from training.impressions import ImpressionList
from worker.ranking.model import Doubles, Integers

Estimator: TypeAlias = Literal["ips", "snips", "dm", "dr", "pbm"]
Attraction: TypeAlias = Callable[[ImpressionList], Mapping[str, float]]
"""A reward model: item_id -> the mean grade of an item of this list when it is examined."""

NORMAL: Final = 1.959964  # of the standard normal, 97.5 %


class OffPolicySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How estimates are kept finite, and drawn."""

    clip: Annotated[
        float, Meta(ge=1, description="no impression counts more than this many times")
    ] = 20.0
    seed: Annotated[int, Meta(description="of the bootstrap")] = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """An estimate before it is summed: sum over m of mean(above[:, m]) / mean(below[:, m]).

    A row is what is independent of all others: an action, or a list. `weights` are the importance
    weights that went in, of which the effective sample size is made.
    """

    above: Doubles  # [rows, m]
    below: Doubles  # [rows, m]
    weights: Doubles  # [any]

    @property
    def value(self) -> float:
        """The estimate; NaN where a part has no support at all."""
        with np.errstate(invalid="ignore"):
            return float((self.above.sum(axis=0) / self.below.sum(axis=0)).sum())


class Estimate(Struct, frozen=True, kw_only=True):
    """A value with its 95 % intervals, all NaN where the logs do not support it."""

    value: float
    low: float  # percentile bootstrap
    high: float
    normal_low: float  # delta method
    normal_high: float
    effective: float  # sample size (sum w)^2 / sum w^2 (Kish 1965)


@dataclass(frozen=True, slots=True)
class Actions:
    """n logged actions of a bandit; each array is [n]."""

    rewards: Doubles
    logged: Doubles  # P(the action that was taken) under the policy that logged, > 0
    target: Doubles  # and under the one that is asked about
    modelled: Doubles  # a reward model's reward of that action; zeros for none
    expected: Doubles  # and its mean reward over the target's actions in the same context


def for_actions(
    actions: Actions, estimator: Estimator, settings: OffPolicySettings | None = None
) -> Terms:
    """The value of the target policy for each action.

    ips: mean of w r with w = min(target / logged, clip) (Horvitz and Thompson 1952; clipped as in
    Ionides 2008, "Truncated importance sampling"); snips: sum of w r over sum of w (Swaminathan and
    Joachims, NeurIPS 2015, "The self-normalized estimator for counterfactual learning"); dm: the
    model alone; dr: the model, corrected by w (r - modelled) (Dudik et al., ICML 2011, "Doubly
    robust policy evaluation and learning"). Raises ValueError for any other name.
    """
    weights = np.minimum(actions.target / actions.logged, (settings or OffPolicySettings()).clip)
    ones = np.ones(len(weights))
    match estimator:
        case "ips":
            above, below = weights * actions.rewards, ones
        case "snips":
            above, below = weights * actions.rewards, weights
        case "dm":
            above, below = actions.expected, ones
        case "dr":
            above = actions.expected + weights * (actions.rewards - actions.modelled)
            below = ones
        case _:
            raise ValueError(f"{estimator}: expected one of ips, snips, dm, dr for single actions")
    return Terms(above[:, np.newaxis], below[:, np.newaxis], weights)


@dataclass(frozen=True, slots=True)
class Placed:
    """n impressions of logged lists beside the place that the target gives to each; [n] arrays.

    `modelled` and `expected` are a reward model's: zeros for none.
    """

    lists: Integers  # counted from 0
    places: Integers  # 1 is the first
    targets: Integers  # the same item's place in the target's list; 0 where it is not in it
    probabilities: Doubles  # of standing at `places`
    rewards: Doubles
    modelled: Doubles  # attraction of each item
    expected: Doubles  # [lists] sum over the target's list of theta[place] x attraction

    @property
    def count(self) -> int:
        """How many lists."""
        return len(self.expected)


def placed(
    lists: Sequence[ImpressionList],
    orders: Sequence[Sequence[str]],
    examination: Examination,
    attraction: Attraction | None = None,
) -> Placed:
    """The logged `lists` beside the target's: `orders` are item ids, best first, one for each list
    and cut at what would be shown. Rewards are grades. Raises ValueError where counts differ.

    An item without an attraction counts as worth nothing.
    """
    targets, modelled, expected = [], [], []
    for one, order in zip(lists, orders, strict=True):
        place = {item_id: rank for rank, item_id in enumerate(order, start=1)}
        worth = attraction(one) if attraction is not None else {}
        targets += [place.get(each.item.item_id, 0) for each in one.shown]
        modelled += [worth.get(each.item.item_id, 0.0) for each in one.shown]
        theta = examination.at(np.arange(1, len(order) + 1))
        expected.append(float(theta @ np.array([worth.get(item_id, 0.0) for item_id in order])))
    table, _ = columns(lists)
    return Placed(
        lists=table.lists,
        places=table.places,
        targets=np.array(targets, dtype=np.int64),
        probabilities=table.probabilities,
        rewards=table.grades,
        modelled=np.array(modelled),
        expected=np.array(expected),
    )


def for_lists(
    logs: Placed,
    examination: Examination,
    estimator: Estimator,
    settings: OffPolicySettings | None = None,
) -> Terms:
    """The reward that a list of the target earns, on average.

    ips: the item-position model (Li et al., KDD 2018, "Offline evaluation of ranking policies with
    click models"): an item counts where the target leaves it at its place, over the
    chance of standing there; snips: the same, each place normalised by its own weights. Neither
    sees an item that the target moves by more than exploration did. pbm: every item counts, by
    theta[its target's place] / theta[its place] (ibid., the estimator of
    the position-based model). dr: the reward model's value
    of the target's list, corrected by pbm of what it did not foresee; dm: the model's alone.
    Weights end at `clip`. Raises ValueError for any other name.
    """
    clip = (settings or OffPolicySettings()).clip
    theta = examination.at(logs.places)
    wanted = np.where(logs.targets > 0, examination.at(np.maximum(logs.targets, 1)), 0.0)
    kept = np.minimum((logs.places == logs.targets) / logs.probabilities, clip)
    moved = np.minimum(wanted / np.maximum(theta, 1e-9), clip)
    ones = np.ones((logs.count, 1))
    match estimator:
        case "ips":
            return Terms(_by_list(logs, kept * logs.rewards), ones, kept)
        case "snips":
            return _self_normalised(logs, kept)
        case "pbm":
            return Terms(_by_list(logs, moved * logs.rewards), ones, moved)
        case "dm":
            return Terms(logs.expected[:, np.newaxis], ones, ones)
        case "dr":
            surprise = moved * (logs.rewards - theta * logs.modelled)
            above = logs.expected[:, np.newaxis] + _by_list(logs, surprise)
            return Terms(above, ones, moved)
    raise ValueError(f"{estimator}: expected one of ips, snips, dm, dr, pbm")


def summed_up(terms: Terms, settings: OffPolicySettings | None = None) -> Estimate:
    """The value with its intervals.

    The normal one is from the rows' influence, (above - ratio x below) / mean(below) summed over
    the parts (Owen 2013, "Monte Carlo theory, methods and examples", section 9.2).
    """
    seed = (settings or OffPolicySettings()).seed
    value, rows = terms.value, len(terms.above)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = terms.above.sum(axis=0) / terms.below.sum(axis=0)
        influence = (terms.above - ratios * terms.below) / terms.below.mean(axis=0)
    error = NORMAL * float(influence.sum(axis=1).std() / np.sqrt(rows))
    both = np.concatenate([terms.above, terms.below], axis=1)
    above, below = np.split(resampled(block_sums(both, np.arange(rows)), seed), 2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = percentiles((above / below).sum(axis=1, keepdims=True))[:, 0]
    squares = float((terms.weights**2).sum())
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        normal_low=value - error,
        normal_high=value + error,
        effective=float(terms.weights.sum()) ** 2 / squares if squares else 0.0,
    )


def difference(new: Terms, old: Terms) -> Terms:
    """new minus old, paired row by row: what both share cancels. The weights are new's."""
    return Terms(
        above=np.concatenate([new.above, -old.above], axis=1),
        below=np.concatenate([new.below, old.below], axis=1),
        weights=new.weights,
    )


def both_supported(one: Terms, other: Terms) -> tuple[Terms, Terms]:
    """The two on the rows that both have support in: self-normalised, an estimate speaks of those
    alone, and two of different rows cannot be compared."""
    rows = one.below.any(axis=1) & other.below.any(axis=1)
    return (
        replace(one, above=one.above[rows], below=one.below[rows]),
        replace(other, above=other.above[rows], below=other.below[rows]),
    )


def _by_list(logs: Placed, values: Doubles) -> Doubles:
    sums = np.bincount(logs.lists, weights=values, minlength=logs.count)
    return sums.astype(np.float64)[:, np.newaxis]


def _self_normalised(logs: Placed, weights: Doubles) -> Terms:
    """[lists, places] a ratio for each place; one that no list supports is left out."""
    wanted = np.unique(logs.places[weights > 0])
    inside = np.isin(logs.places, wanted)
    cells = logs.lists[inside] * len(wanted) + np.searchsorted(wanted, logs.places[inside])
    size = logs.count * len(wanted)
    sums = (
        np.bincount(cells, weights=each[inside], minlength=size).astype(np.float64)
        for each in (weights * logs.rewards, weights)
    )
    above, below = (each.reshape(logs.count, len(wanted)) for each in sums)
    return Terms(above, below, weights)
