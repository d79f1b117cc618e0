"""The model card: a bundle's README.md."""

from __future__ import annotations

from pathlib import Path

from export.bundle import Manifest
from export.golden_texts import TEXTS
from export.source import Source


def write_card(folder: Path, manifest: Manifest, source: Source) -> None:
    """Write README.md."""
    (folder / "README.md").write_text(render_card(manifest, source), encoding="utf-8")


def render_card(manifest: Manifest, source: Source) -> str:
    """Base model, pooling, parity, calibration and limits, as Markdown."""
    assumed = " (assumed: the base model's files do not say)" if source.pooling_is_assumed else ""
    template, calibration = manifest.template, manifest.calibration
    return f"""# {source.name}, as a Prismrank bundle

A zero-shot text encoder: query and item each become a unit vector of {manifest.dimensions} numbers,
and their cosine orders the list. Nothing was trained for this bundle.

- Base model: `{source.name}`; its own licence applies.
- sha256 of its safetensors: `{source.weights_sha256}`.
- Pooling: {source.pooling}{assumed}. At most {manifest.max_tokens} tokens; longer texts are cut.
- An item is its title. Before a query stands {template.query_before!r},
  before an item {template.item_before!r}.
- Categories: {len(manifest.categories) or "those of catalogue and event"}.

## Parity with the trained model

Against the torch model, on the CPU, on {len(TEXTS)} texts: short, long, in many scripts, empty,
and one at the maximum length.

| variant | graph | largest error | least cosine | tolerated elsewhere | bit-equal in any batch |
|---|---|---|---|---|---|
{_parity(manifest)}

Bit-equal was tested with one thread on the CPU that built the bundle.

## Calibration

P(relevant) = 1 / (1 + exp(-({calibration.slope:.4f} * cosine + {calibration.intercept:.4f}))).
Origin: {calibration.origin}.

## Limits

The model never saw this shop: its notion of relevance is that of general text. It inherits the
bias of what it was trained on, reads languages other than its own poorly, and its probabilities
are only as good as the calibration's origin is near to this shop. Fairness was not measured.
"""


def _parity(manifest: Manifest) -> str:
    return "\n".join(
        f"| {name} | {variant.graphs['encoder']} | {variant.parity['max_abs_error']:.2g} "
        f"| {variant.parity['min_cosine']:.6f} | {variant.golden_tolerance:g} "
        f"| {'yes' if variant.deterministic else 'no'} |"
        for name, variant in manifest.variants.items()
    )
