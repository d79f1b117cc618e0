"""Off-policy estimates on real logs: the value of each Open Bandit policy from the other's logs.

    python -m tests.benchmarks.open_bandit [--data FOLDER] [--json]

Zozotown showed items by chance alone ("random") and by Thompson sampling ("bts") in the same week
(Saito et al., NeurIPS 2021 datasets, "Open Bandit Dataset and Pipeline"), so that what an estimator
says of one from the other's logs stands beside what it earned. `ours` and `truth` are clicks a
thousand impressions, each with its 95 % interval; `effective` is the sample size that is left. The
interval of dm knows nothing of its model's own error.

Propensities of "bts" are of the moment and not logged for actions that it did not take; but it
knows no context, so its mean policy is how often it showed each item at each position.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.measuring import show
from training.off_policy import (
    Actions,
    Estimate,
    Estimator,
    OffPolicySettings,
    Terms,
    for_actions,
    summed_up,
)
from worker.ranking.model import Doubles, Integers

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"
COLUMNS = ["policy", "campaign", "item_id", "position", "click", "propensity_score"]
CAMPAIGNS = ("men", "women")
ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "dm", "dr")
CLIPS = (10.0, 100.0)
PSEUDO = 300.0  # impressions of the mean click rate that each item's reward model begins with
FOLDS = 2


@dataclass(frozen=True, slots=True)
class Logs:
    """One policy's logs of one campaign; [n] arrays."""

    items: Integers
    positions: Integers  # from 0
    clicks: Doubles
    propensities: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """(positions, items)"""
        return 3, int(self.items.max()) + 1

    def count(self, weights: Doubles | None = None) -> Doubles:
        """[positions, items] rows, or the sum of their weights."""
        cells = self.positions * self.shape[1] + self.items
        sums = np.bincount(cells, weights=weights, minlength=self.shape[0] * self.shape[1])
        return sums.reshape(self.shape).astype(np.float64)

    def part(self, rows: Any) -> Logs:
        """Some of the rows."""
        fields = (self.items, self.positions, self.clicks, self.propensities)
        return Logs(*(field[rows] for field in fields))


@dataclass(frozen=True, slots=True)
class Row:
    """What one estimator says of a policy, from the other's logs, beside what it earned."""

    campaign: str
    target: str
    estimator: str
    clip: float
    ours: Estimate
    truth: Estimate


def read(data: Path) -> dict[tuple[str, str], Logs]:
    """(policy, campaign) -> its logs."""
    table = pq.read_table(data / "open_bandit" / "events.parquet", columns=COLUMNS)
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS}
    logs = Logs(
        items=columns["item_id"].astype(np.int64),
        positions=columns["position"].astype(np.int64) - 1,
        clicks=columns["click"].astype(np.float64),
        propensities=columns["propensity_score"].astype(np.float64),
    )
    return {
        (policy, campaign): logs.part(
            (columns["policy"] == policy) & (columns["campaign"] == campaign)
        )
        for policy in ("random", "bts")
        for campaign in CAMPAIGNS
    }


def rows(data: Path) -> Iterator[Row]:
    """Both directions of both campaigns, by every estimator at every clip."""
    logs = read(data)
    for campaign in CAMPAIGNS:
        for target, logging in (("random", "bts"), ("bts", "random")):
            earned, logged = logs[target, campaign], logs[logging, campaign]
            truth = summed_up(plain(earned.clicks))
            actions = beside(logged, policy(earned, target))
            for estimator in ESTIMATORS:
                for clip in CLIPS[:1] if estimator == "dm" else CLIPS:  # dm weighs nothing
                    chosen = OffPolicySettings(clip=clip)
                    ours = summed_up(for_actions(actions, estimator, chosen), chosen)
                    yield Row(campaign, target, estimator, clip, ours, truth)


def policy(logs: Logs, name: str) -> Doubles:
    """[positions, items] the chance of each item at each position."""
    if name == "random":
        return np.full(logs.shape, 1.0 / logs.shape[1])
    shown = logs.count()
    return np.asarray(shown / shown.sum(axis=1, keepdims=True))


def beside(logs: Logs, target: Doubles) -> Actions:
    """The logged actions under the target, with a reward model that never saw what it judges:
    each item's click rate in the other half, drawn towards the mean."""
    modelled, expected = np.zeros(len(logs.clicks)), np.zeros(len(logs.clicks))
    for fold in range(FOLDS):
        own = np.arange(len(logs.clicks)) % FOLDS == fold
        other = logs.part(~own)
        clicks, shown = other.count(other.clicks).sum(axis=0), other.count().sum(axis=0)
        rate = (clicks + PSEUDO * other.clicks.mean()) / (shown + PSEUDO)
        modelled[own] = rate[logs.items[own]]
        expected[own] = (target @ rate)[logs.positions[own]]
    return Actions(
        rewards=logs.clicks,
        logged=logs.propensities,
        target=target[logs.positions, logs.items],
        modelled=modelled,
        expected=expected,
    )


def plain(values: Doubles) -> Terms:
    """The mean of what was earned, as an estimate."""
    ones = np.ones((len(values), 1))
    return Terms(values[:, np.newaxis], ones, ones)


def table(found: Iterator[Row]) -> list[dict[str, Any]]:
    """The rows as `measuring.show` prints them; rates are a thousand impressions."""
    return [
        {
            "method": f"{row.estimator} clip {row.clip:g}",
            "campaign": row.campaign,
            "target": row.target,
            "ours": round(1e3 * row.ours.value, 2),
            "low": round(1e3 * row.ours.low, 2),
            "high": round(1e3 * row.ours.high, 2),
            "truth": round(1e3 * row.truth.value, 2),
            "truth_low": round(1e3 * row.truth.low, 2),
            "truth_high": round(1e3 * row.truth.high, 2),
            "effective": round(row.ours.effective),
        }
        for row in found
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="open_bandit")
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(table(rows(options.data)), as_json=options.json)
