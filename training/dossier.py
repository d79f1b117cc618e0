"""What a round leaves in its bundle: the report in JSON, Markdown and plots, and the card."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from export.bundle import Manifest
from export.card import Findings
from training import report
from training.assess import Assessment
from training.evaluate import Row
from training.examination import Examination
from training.gate import Decision
from training.recipe import Recipe
from training.uses import Uses

REPORT: Final = "report/report.json"
DECISION: Final = "report/decision.json"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """Everything that a round found out."""

    decision: Decision
    assessment: Assessment
    manifest: Manifest  # with the constants that were judged
    champion: str  # digest of the bundle that it was judged against
    counts: Mapping[str, float]
    losses: Sequence[Mapping[str, float]]  # of each logged step
    examination: Examination | None = None  # none where labels, not clicks, were learned from
    uses: Uses | None = None  # none where no pair was judged

    def findings(self) -> Findings:
        """As the export takes it."""
        files = {
            REPORT: msgspec.json.format(msgspec.json.encode(self._numbers()), indent=1),
            DECISION: msgspec.json.encode(self.decision),
            "report/report.md": self.markdown().encode(),
        }
        tables = self.assessment.tables
        if tables:
            files["report/frontier.png"] = _png(lambda target: report.plot(tables, target))
        if self.losses:
            files["report/losses.png"] = _png(lambda target: _plot_losses(self.losses, target))
        if self.examination is not None:
            curve = self.examination
            files["report/examination.png"] = _png(lambda target: _plot_curve(curve, target))
        return Findings(
            calibration=self.manifest.calibration,
            blend=self.manifest.blend,
            report=REPORT,
            files=files,
            data=[{"of": name, "count": value} for name, value in self.counts.items()],
            metrics=[_metric(name, row) for name, rows in tables.items() for row in _plain(rows)],
            trade_off=[_metric(name, row) for name, rows in tables.items() for row in _dials(rows)],
        )

    def markdown(self) -> str:
        """The report for people."""
        verdict = "Promoted" if self.decision.promote else "Not promoted"
        parts = [
            f"# {verdict}",
            self.decision.reason[0].upper() + self.decision.reason[1:] + ".",
            "## What was compared",
            self._beside(),
            "\n".join(f"- {check.line}" for check in self.decision.checks),
            "## What was learned from, and how",
            "\n".join(f"- {name}: {value:g}" for name, value in self.counts.items()),
            f"By the default recipe{self._recipe()}.",
            "![losses by step](losses.png)" if self.losses else "",
        ]
        if self.examination is not None:
            curve = ", ".join(f"{theta:.3f}" for theta in self.examination.theta)
            parts += [
                "## How far people look",
                f"Examination by place: {curve}.",
                f"By {self.examination.method}: {self.examination.why}.",
                "![examination by place](examination.png)",
            ]
        if self.uses is not None:
            parts += [
                "## What the model uses",
                f"The pair model's logit, by integrated gradients over {self.uses.pairs} judged"
                " pairs, and what would lower the relevance of some:",
                self.uses.markdown(),
            ]
        if self.assessment.tables:
            parts.append("![nDCG@10 against alpha-nDCG@10](frontier.png)")
        for name, rows in self.assessment.tables.items():
            parts.append(report.markdown(name, self.assessment.counts[name], rows))
            parts.append(report.fairness(name, rows))
        return "\n\n".join(filter(None, parts)) + "\n"

    def _beside(self) -> str:
        """Whose numbers stand on which side of an arrow."""
        parent = self.manifest.parent
        who = "the base model as it comes" if parent is None else "the bundle that served"
        return f"{who[0].upper()}{who[1:]} ({self.champion[:12]}) -> this one:"

    def _recipe(self) -> str:
        """What of the recipe is not its default, as its TOML has it."""
        own = (self.manifest.training or {}).get("recipe", {})
        plain = msgspec.to_builtins(Recipe())
        told = [f"{name} {each}" for name, each in own.items() if each != plain.get(name)]
        return f", but for {', '.join(told)}" if told else ""

    def _numbers(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "champion": self.champion,
            "counts": dict(self.counts),
            "examination": self.examination,
            "losses": list(self.losses),
            "uses": self.uses,
            "sets": [
                {
                    "set": name,
                    "queries": self.assessment.counts[name],
                    "rows": report.as_json(rows),
                }
                for name, rows in self.assessment.tables.items()
            ],
        }


def _plain(rows: Sequence[Row]) -> list[Row]:
    """One row an order: without a dial, or at dial 0."""
    return [row for row in rows if row.dial in (None, 0.0)]


def _dials(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.method == CHALLENGER]


def _metric(name: str, row: Row) -> dict[str, str | float | None]:
    dial = {} if row.dial is None else {"dial": row.dial}
    measures = {measure: round(each.mean, 4) for measure, each in row.values.items()}
    return {"order": f"{row.method} on {name}", **dial, **measures}


def _png(draw: Any) -> bytes:
    target = io.BytesIO()
    draw(target)
    return target.getvalue()


def _plot_losses(losses: Sequence[Mapping[str, float]], target: io.BytesIO) -> None:
    from matplotlib.figure import Figure  # a second that only a plot is worth

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    panel = figure.subplots()
    names = sorted({name for each in losses for name in each if "loss" in name})
    for name in names:
        points = [(each["step"], each[name]) for each in losses if name in each]
        panel.plot(*zip(*points, strict=True), label=name)
    panel.set(xlabel="step", ylabel="loss")
    panel.legend(frameon=False)
    figure.savefig(target, dpi=120, metadata={"Software": None})


def _plot_curve(curve: Examination, target: io.BytesIO) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    panel = figure.subplots()
    places = range(1, len(curve.theta) + 1)
    panel.plot(places, curve.theta, marker="o", markersize=4)
    if curve.low is not None and curve.high is not None:
        panel.fill_between(places, curve.low, curve.high, alpha=0.2)
    panel.set(xlabel="place", ylabel="examined, against the first", ylim=(0, 1.05))
    figure.savefig(target, dpi=120, metadata={"Software": None})
