"""An evaluation on paper: rows as a Markdown table, as JSON, and as the curve of the dial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from training.evaluate import DEPTH, MEASURES, Estimate, Row
from training.gate import FAIR
from training.robustness import Shaken

TITLES: Final = {
    "ndcg": f"nDCG@{DEPTH}",
    "alpha_ndcg": f"alpha-nDCG@{DEPTH}",
    "s_recall": f"S-recall@{DEPTH}",
    "ild": f"ILD@{DEPTH}",
}
"""What a table shows; JSON has every measure."""
LABELLED: Final = frozenset({0.0, 0.1, 0.3, 1.0})  # the dials that a plot names


def markdown(name: str, count: int, rows: Sequence[Row]) -> str:
    """A table: each measure, and how it differs from dial 0, with the 95 % interval of that."""
    lines = [
        f"**{name}**, {count} queries",
        "",
        "| order | dial | " + " | ".join(TITLES.values()) + " |",
        "|---|--:|" + "--:|" * len(TITLES),
    ]
    for row in rows:
        dial = "" if row.dial is None else f"{row.dial:g}"
        cells = [_cell(row.values[measure], row.changes[measure]) for measure in TITLES]
        lines.append(f"| {row.method} | {dial} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values: an estimate is [mean, low, high], null where there is none.
    `catalogue` is there where it was measured, `further_groups` where groups are told apart in
    other ways too."""
    return [
        {
            "method": row.method,
            "dial": row.dial,
            "values": {name: _numbers(row.values[name]) for name in MEASURES},
            "changes": {name: _numbers(row.changes[name]) for name in MEASURES},
            **({"catalogue": row.catalogue[0].plain()} if row.catalogue else {}),
            **(
                {"further_groups": [each.plain() for each in row.catalogue[1:]]}
                if row.catalogue[1:]
                else {}
            ),
        }
        for row in rows
    ]


def fairness(name: str, rows: Sequence[Row]) -> str:
    """A table: what each order shows of groups of items, and its nDCG beside, as it differs from
    the order that changes are against. Empty where there are no groups to compare."""
    titles = [title.replace("_", " ") for title in FAIR]
    lines = [
        f"**{name}**, between groups (parity: 1 is even; opportunity, coverage: the largest "
        "difference, 0 is even)",
        "",
        f"| order | dial | groups | {' | '.join(titles)} | {TITLES['ndcg']} |",
        "|---|--:|---|" + "--:|" * (len(titles) + 1),
    ]
    compared = [(row, each) for row in rows for each in row.catalogue if each.groups > 1]
    for row, each in compared:
        dial = "" if row.dial is None else f"{row.dial:g}"
        values = (each.values[measure] for measure in FAIR)
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        cells.append(_cell(row.values["ndcg"], row.changes["ndcg"]))
        groups = f"{each.groups} of {each.group}"
        lines.append(f"| {row.method} | {dial} | {groups} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if compared else ""


def robustness(name: str, found: Sequence[Shaken]) -> str:
    """A table: what each perturbation did to the lists of the queries that it changed."""
    ndcg = TITLES["ndcg"]
    lines = [
        f"**{name}**, perturbed",
        "",
        f"| perturbation | queries changed | {ndcg} clean | perturbed | loss | RBO@{DEPTH} |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        loss = f"{one.loss.mean:.4f} [{one.loss.low:.4f}, {one.loss.high:.4f}]"
        means = f"{one.clean.mean:.4f} | {one.perturbed.mean:.4f} | {loss} | {one.overlap.mean:.3f}"
        cells = means if one.changed else "- | - | - | -"
        lines.append(f"| {one.perturbation} | {one.changed} | {cells} |")
    return "\n".join(lines)


def robustness_json(found: Sequence[Shaken]) -> list[dict[str, Any]]:
    """The same as plain values: an estimate is [mean, low, high], null where nothing changed."""
    return [
        {
            "perturbation": one.perturbation,
            "changed": one.changed,
            "clean": _numbers(one.clean),
            "perturbed": _numbers(one.perturbed),
            "loss": _numbers(one.loss),
            "overlap": _numbers(one.overlap),
        }
        for one in found
    ]


def plot(sets: Mapping[str, Sequence[Row]], path: Path | IO[bytes]) -> None:
    """nDCG against alpha-nDCG: a panel a set, a curve a method, dials written beside the first."""
    # Imported here: it costs a second that only a plot is worth. Figure draws without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(sets), 4.2), layout="constrained")
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for panel, (name, rows) in zip(panels, sets.items(), strict=True):
        found = curves(rows)
        for method, points in found.items():
            panel.plot(*zip(*points.values(), strict=True), marker="o", markersize=4, label=method)
        first = next(iter(found.values()), {})
        for dial in sorted(first.keys() & LABELLED):
            at = first[dial]
            panel.annotate(f"{dial:g}", at, (5, 3), textcoords="offset points", color="0.4")
        panel.set(title=name, xlabel=TITLES["ndcg"], ylabel=TITLES["alpha_ndcg"])
        panel.locator_params(nbins=5)
        panel.spines[["top", "right"]].set_visible(False)
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=2 * len(sets), frameon=False)
    figure.savefig(path, dpi=150)


def curves(rows: Sequence[Row]) -> dict[str, dict[float, tuple[float, float]]]:
    """method -> dial -> (nDCG, alpha-nDCG)."""
    found: dict[str, dict[float, tuple[float, float]]] = {}
    for row in rows:
        if row.dial is not None:
            at = (row.values["ndcg"].mean, row.values["alpha_ndcg"].mean)
            found.setdefault(row.method, {})[row.dial] = at
    return found


def _cell(value: Estimate, change: Estimate) -> str:
    if math.isnan(value.mean):
        return "-"
    if change.low == change.high == 0.0:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} {change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def _numbers(estimate: Estimate) -> list[float] | None:
    if math.isnan(estimate.mean):
        return None
    return [round(number, 5) for number in (estimate.mean, estimate.low, estimate.high)]
