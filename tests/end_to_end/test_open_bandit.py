"""On real logs, what an estimator says of a policy is what the policy earned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks.open_bandit import CAMPAIGNS, Row, read, rows


@pytest.fixture(scope="module")
def found(data: Path) -> list[Row]:
    """Every estimate, of each policy from the other's logs."""
    return list(rows(data))


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("target", ["random", "bts"])
def test_what_a_policy_earned_lies_within_the_interval_of_the_others_logs(
    found: Sequence[Row], estimator: str, campaign: str, target: str
) -> None:
    chosen = [
        row
        for row in found
        if (row.estimator, row.campaign, row.target) == (estimator, campaign, target)
    ]
    assert chosen
    assert all(row.ours.low <= row.truth.value <= row.ours.high for row in chosen)


def test_the_logs_are_those_that_were_published(data: Path) -> None:
    logs = read(data)
    assert {len(one.clicks) for one in logs.values()} == {10_000}
    for (policy, _), one in logs.items():
        if policy == "random":
            assert one.propensities == pytest.approx(1 / one.shape[1])
