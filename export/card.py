"""The model card: a bundle's README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from export.bundle import Blend, Calibration, Manifest
from export.golden_texts import PAIRS, TEXTS

Row: TypeAlias = Mapping[str, str | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found of a draft: its constants, and what its card and its report say.

    `files` are written into the bundle by name, `report` names the one that the manifest points
    to. `data`, `metrics` and `trade_off` are tables of the card: rows of one kind each, whose
    first column names the row. `training` is added to the manifest's.
    """

    calibration: Calibration | None = None
    blend: Blend | None = None
    report: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Sequence[Row] = ()
    metrics: Sequence[Row] = ()
    trade_off: Sequence[Row] = ()
    limits: str = ""


def write_card(folder: Path, manifest: Manifest, findings: Findings) -> None:
    """Write README.md."""
    (folder / "README.md").write_text(render_card(manifest, findings), encoding="utf-8")


def render_card(manifest: Manifest, findings: Findings) -> str:
    """What the bundle is, its data, metrics, parity, constants and limits, as Markdown."""
    trained = manifest.blend is not None
    sections = [
        _what(manifest),
        _section("Data", findings.data),
        _section("Metrics", findings.metrics),
        _section("Trade-off of relevance and diversity", findings.trade_off),
        _parity(manifest),
        _constants(manifest),
        _limits(trained, findings.limits),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _what(manifest: Manifest) -> str:
    base, template, pairs = manifest.base_model, manifest.template, manifest.pair_template
    kind = (
        f"A zero-shot text encoder: query and item each become a unit vector of "
        f"{manifest.dimensions} numbers,\nand their cosine orders the list. Nothing was trained "
        "for this bundle."
    )
    if pairs is not None:
        head = "" if "category" not in manifest.outputs else ", and tells the categories of an item"
        kind = (
            f"Two stages. A text encoder turns query and item each into a unit vector of "
            f"{manifest.dimensions} numbers{head};\ntheir cosine finds the best candidates. A "
            "model trained for this bundle reads query and item together\nand says how relevant "
            "they are; a blend of both orders the best."
        )
    facts = [
        f"- Base model: `{base['name']}`; its own licence applies.",
        f"- sha256 of its safetensors: `{base['weights_sha256']}`.",
        f"- Pooling: {base['pooling']}. At most {manifest.max_tokens} tokens; longer texts are "
        "cut.",
        f"- An item is its {_fields(template.item)}. Before a query stands "
        f"{template.query_before!r},\n  before an item {template.item_before!r}.",
        f"- Categories: {len(manifest.categories) or 'those of catalogue and event'}.",
    ]
    if pairs is not None:
        facts.append(
            f"- A pair is the query after {pairs.query_before!r} and, after "
            f"{pairs.item_before!r}, the item's {_fields(pairs.item)}."
        )
    if pairs is not None and pairs.history:
        facts.append(
            f"- Behind the query stand up to {pairs.history} items that the user acted on, each "
            f"after {pairs.history_before!r}."
        )
    if manifest.parent is not None:
        facts.append(f"- Parent: bundle `{manifest.parent}`.")
    for name, value in sorted((manifest.training or {}).items()):
        if isinstance(value, str | int | float):
            facts.append(f"- Training, {name}: {_cell(value)}.")
    as_what = "a Prismrank bundle"
    return f"# {base['name']}, as {as_what}\n\n{kind}\n\n" + "\n".join(facts)


def _fields(segments: Sequence[Any]) -> str:
    return ", ".join(segment.field for segment in segments)


def _section(title: str, rows: Sequence[Row]) -> str:
    return f"## {title}\n\n{_table(rows)}" if rows else ""


def _table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [" | ".join(columns), "|".join(["---"] * len(columns))]
    lines += [" | ".join(_cell(row.get(name)) for name in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _parity(manifest: Manifest) -> str:
    pairs = f", and on {len(PAIRS)} pairs" if manifest.pair_template is not None else ""
    return f"""## Parity with the trained model

Against the torch model, on the CPU, on {len(TEXTS)} texts: short, long, in many scripts, empty,
and one at the maximum length{pairs}. Errors of logits stand in their own unit.

{_table(list(_parity_rows(manifest)))}

Bit-equal was tested with one thread on the CPU that built the bundle."""


def _parity_rows(manifest: Manifest) -> list[Row]:
    rows: list[Row] = []
    for name, variant in manifest.variants.items():
        for output in manifest.outputs:
            prefix = "" if output == "vector" else f"{output}_"
            graph = variant.graphs["model" if output == "relevance" else "encoder"]
            parity = variant.parity
            tolerated = variant.logit_tolerance.get(output, variant.golden_tolerance)
            rows.append(
                {
                    "variant": name,
                    "output": output,
                    "graph": graph,
                    "largest error": f"{parity[f'{prefix}max_abs_error']:.2g}",
                    "least cosine": f"{parity['min_cosine']:.6f}" if not prefix else None,
                    "Spearman": f"{parity[f'{prefix}spearman']:.4f}" if prefix else None,
                    "tolerated elsewhere": f"{tolerated:.3g}",
                    "bit-equal in any batch": "yes" if variant.deterministic else "no",
                }
            )
    return rows


def _constants(manifest: Manifest) -> str:
    calibration, blend = manifest.calibration, manifest.blend
    text = f"""## Calibration

P(relevant) = 1 / (1 + exp(-({calibration.slope:.4f} * cosine + {calibration.intercept:.4f}))).
Origin: {calibration.origin}."""
    if blend is None:
        return text
    terms = [
        f"{blend.pair:.4f} * pair logit",
        f"{blend.cosine:.4f} * cosine",
        f"{blend.engine:.4f} * (engine's share - 1/2)",
        *(
            f"{curve.weight:.4f} * (share of {name} - 1/2)"
            for name, curve in sorted(blend.features.items())
        ),
        f"{blend.intercept:.4f}",
    ]
    beyond = ""
    if (other := blend.beyond) is not None:
        beyond = (
            "\n\nIt has its full word among items like those that were learned from "
            f"(`domain.npz`), and none far from\nthem: there the logit is {other.slope:.4f} * "
            f"cosine + {other.intercept:.4f}. Origin: {other.origin}."
        )
    return f"""{text}

## Blend

The logit of P(relevant) in the second stage: {" + ".join(terms)}.
Origin: {blend.origin}.{beyond}"""


def _limits(trained: bool, more: str) -> str:
    said = (
        "The pair model learnt from what this shop's users did, or from its judges: it knows "
        "little of items\nand queries unlike those."
        if trained
        else "The model never saw this shop: its notion of relevance is that of general text."
    )
    return f"""## Limits

{said} It inherits the bias of what it was trained on, reads languages other than its own poorly,
and its probabilities are only as good as the calibration's origin is near to this shop.
{more or "Fairness was not measured."}"""
