"""Every metric of training, declared once, with unit and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from training.drift import TESTS, Finding
from training.gate import Check
from training.rounds import Outcome

PREFIX = "prismrank_training_"


class Telemetry:
    """Training's own Prometheus metrics, in a registry of their own. No ids in labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows = self._gauge("rows", "records kept in the log tables", "table")
        self.rounds = self._counter("rounds", "rounds that ended", "decision")
        self.failures = self._counter("failures", "rounds that could not go on", "error")
        self.counts = self._gauge("counts", "what the last round learned from", "of")
        self.loss = self._gauge(
            "loss", "of the last round's last steps, the whole and its objectives", "objective"
        )
        self.quality = self._gauge("quality", "of the last round's trial", "measure", "on", "side")
        self.change = self._gauge("change", "challenger minus champion", "measure", "on", "bound")
        self.drift = self._gauge(
            "drift", "change of a share since the last round's data; NaN where too few lists", "of"
        )
        self.drift_called = self._gauge("drift_called", "whether it is more than chance", "of")
        self.promoted = self._gauge("promoted", "whether the last round's model was promoted")
        self.ended = self._gauge("ended_timestamp_seconds", "when the last round ended")
        self.live_age = self._gauge("live_age_seconds", "since the live model was promoted")

    def tell(self, outcome: Outcome) -> None:
        """What a round came to."""
        self.promoted.set(outcome.promoted)
        self.ended.set(outcome.ended.timestamp())
        for name, value in outcome.losses.items():
            self.loss.labels(name).set(value)
        for name, value in outcome.counts.items():
            self.counts.labels(name).set(value)
        for check in outcome.decision.checks:
            self._tell_check(check)

    def drifted(self, findings: Sequence[Finding]) -> None:
        """What a look for a drift came to."""
        found = {one.of: one for one in findings}
        for of in TESTS:
            one = found.get(of)
            self.drift.labels(of).set(float("nan") if one is None else one.effect)
            self.drift_called.labels(of).set(one is not None and one.called)

    def age(self, promoted_at: datetime | None, now: datetime) -> None:
        """How long the live model has served; NaN while nothing is live."""
        age = float("nan") if promoted_at is None else (now - promoted_at).total_seconds()
        self.live_age.set(age)

    def _tell_check(self, check: Check) -> None:
        sides = {"champion": check.champion, "challenger": check.challenger}
        for side, value in sides.items():
            if value is not None:
                self.quality.labels(check.measure, check.on, side).set(value)
        for bound, value in {"mean": check.change, "low": check.low, "high": check.high}.items():
            if value is not None:
                self.change.labels(check.measure, check.on, bound).set(value)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, meaning, labels, registry=self.registry)
