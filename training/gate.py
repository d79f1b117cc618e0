"""Whether a challenger may serve: nothing guarded got worse, and something asked for got better.

Pure: checks in, a decision out, and for each check the one line that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

Verdict: TypeAlias = Literal["better", "held", "worse", "unknown"]

MARGINS: Final = {
    "relevance": 0.015,
    "diversity": 0.02,
    "calibration": 0.02,
    "classification": 0.02,
    "clicks_snips": 0.05,
    "clicks_dr": 0.05,
}
FAIR: Final = ("exposure_parity", "equal_opportunity", "equal_coverage")
"""Measures between groups of items: shown in every report, guarded where a margin names them."""
MEASURES: Final = (*MARGINS, *FAIR)


class GateSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much worse a guarded measure may be, and what must have become better."""

    margins: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]],
        Meta(
            description="measure -> what may be lost of it, for certain (the lower end of the 95 % "
            "interval of the change must lie above minus this); what is not named is not guarded"
        ),
    ] = msgspec.field(default_factory=lambda: dict(MARGINS))
    floors: Annotated[
        dict[str, float],
        Meta(
            description="measure -> what the challenger must have of it, whatever the champion "
            "has: 0.8 of exposure_parity, or -0.1 of equal_coverage, which is minus a difference; "
            "where no set of queries tells of it, nothing is promoted"
        ),
    ] = msgspec.field(default_factory=dict)
    asked: Annotated[
        tuple[str, ...],
        Meta(description="measures of which one, on some set, must be better with confidence"),
    ] = ("relevance", "diversity", "clicks_dr")
    least_queries: Annotated[
        int, Meta(ge=1, description="a measure that fewer queries tell of is not known")
    ] = 20
    latency_ratio: Annotated[
        float,
        Meta(gt=0, description="the longest that the challenger may take, in the champion's times"),
    ] = 1.3

    def __post_init__(self) -> None:
        names = ", ".join(MEASURES)
        for name in (*self.margins, *self.floors, *self.asked):
            if name not in MEASURES:
                raise ValueError(f"measure {name!r}: expected one of {names}")
        if not self.asked:
            raise ValueError(f"asked: nothing, so that nothing could be promoted; expected {names}")


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was compared. `change` is challenger minus champion, more is better.

    `low` and `high` bound the change with 95 % confidence; all are None where nothing was measured.
    """

    measure: str  # relevance, diversity, calibration, classification, latency, goldens, …
    on: str  # the set of queries, or what else it was measured on
    by: str = ""  # what tells the groups apart that were compared
    champion: float | None = None
    challenger: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None  # None: shown, and not guarded
    floor: float | None = None  # what the challenger must have; None: whatever it has
    verdict: Verdict = "unknown"
    note: str = ""

    @property
    def line(self) -> str:
        """The check as a sentence for a pager or a report."""
        where = f"{self.measure} on {self.on}"
        needed = "" if self.floor is None else f", {self.floor:g} is needed"
        if self.change is None:
            return f"{where}: {self.note or 'nothing was measured'}{needed}"
        numbers = f"{_number(self.champion)} -> {_number(self.challenger)}"
        interval = (
            ""
            if self.low is None or self.high is None
            else f" ({self.change:+.4f}, 95 % between {self.low:+.4f} and {self.high:+.4f})"
        )
        allowed = "" if self.margin is None else f", may lose {self.margin:g}"
        note = f"; {self.note}" if self.note else ""
        return f"{where} {self._word}: {numbers}{interval}{allowed}{needed}{note}"

    @property
    def short(self) -> bool:
        """Whether the challenger has less than its floor."""
        return (
            self.floor is not None and self.challenger is not None and self.challenger < self.floor
        )

    @property
    def _word(self) -> str:
        """What the numbers say: a loss that cannot be excluded is not a loss that is certain."""
        lost = self.high is not None and self.high < 0.0
        if self.verdict == "worse" and self.short:
            return "below what is needed"
        if self.verdict == "worse":
            return "worse" if lost or self.low is None else "not shown to be no worse"
        if self.verdict == "held" and lost:
            return "worse and not guarded" if self.margin is None else "worse within its margin"
        return "not known" if self.verdict == "unknown" else self.verdict


class Decision(Struct, frozen=True, kw_only=True):
    """What the gate says, and why."""

    promote: bool
    reason: str
    checks: tuple[Check, ...]


def judged(check: Check, settings: GateSettings) -> Check:
    """The check with its margin, floor and verdict.

    Worse: the interval cannot exclude a loss beyond the margin (a test of non-inferiority at
    2.5 %, one-sided), or the challenger has less than the floor. Better: neither, and the whole
    interval lies above 0.
    """
    margin, floor = (each.get(check.measure) for each in (settings.margins, settings.floors))
    check = msgspec.structs.replace(check, margin=margin, floor=floor)
    if check.change is None or check.low is None:
        verdict: Verdict = "unknown"
    elif check.short or (margin is not None and check.low < -margin):
        verdict = "worse"
    else:
        verdict = "better" if check.low > 0 else "held"
    return msgspec.structs.replace(check, verdict=verdict)


def known(check: Check, telling: int, of: int, settings: GateSettings) -> Check:
    """The check as `judged` has it; not known where too few of the queries tell of it."""
    told = f"{telling} of {of} queries tell of it"
    if check.change is not None and telling < settings.least_queries:
        few = f"{told}, {settings.least_queries} are needed"
        return msgspec.structs.replace(judged(check, settings), verdict="unknown", note=few)
    if check.change is not None and telling < of:
        note = f"{check.note}; {told}" if check.note else told
        check = msgspec.structs.replace(check, note=note)
    return judged(check, settings)


def decide(checks: Sequence[Check], settings: GateSettings) -> Decision:
    """Promote, or not: the first reason against it, or what became better."""
    failed = [check for check in checks if check.verdict == "worse"]
    failed = failed or _unheld(checks, settings.floors)
    asked = [check for check in checks if check.measure in settings.asked]
    better = [check for check in asked if check.verdict == "better"]
    if failed:
        reason = "refused: " + "; ".join(check.line for check in failed)
    elif asked and all(check.verdict == "unknown" for check in asked):
        told = "; ".join(check.line for check in asked)
        reason = f"refused: nothing asked for is known: {told}"
    elif not better:
        reason = "refused: nothing asked for got better with confidence (asked: {})".format(
            ", ".join(settings.asked)
        )
    else:
        reason = "promoted: " + "; ".join(check.line for check in better)
    return Decision(promote=not failed and bool(better), reason=reason, checks=tuple(checks))


def _unheld(checks: Sequence[Check], floors: Mapping[str, float]) -> list[Check]:
    """What was found of a measure that has a floor and is known nowhere by one way to group."""
    known = {(check.measure, check.by) for check in checks if check.verdict != "unknown"}
    guarded = [check for check in checks if check.measure in floors]
    found = [check for check in guarded if (check.measure, check.by) not in known]
    return found + [
        Check(measure=name, on="any set of queries", floor=floors[name])
        for name in sorted(floors.keys() - {check.measure for check in guarded})
    ]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
