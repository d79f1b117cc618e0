"""A base model -> a sealed bundle, whole or not at all: the flow of `export build`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from export import bundle
from export.card import Findings, write_card
from export.draft import (
    Parts,
    Say,
    TrainedOrder,
    check_variants,
    draft,
    finish,
    first_manifest,
    write_draft,
    written_whole,
)
from export.graded import GradedEvent, calibrate, read_graded
from export.models import Encoder
from export.onnx import load_trunk
from export.session import open_session
from export.source import find_base, read_source


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built. `adapter` is a folder that training or peft left; none: zero-shot.
    `spelling` lets workers read a misspelt query as its candidates spell it."""

    base: str
    out: Path
    variants: tuple[str, ...] = ("fp32",)
    categories: tuple[str, ...] = ()
    graded: Path | None = None
    adapter: Path | None = None
    spelling: bool = True


def build(order: Order, say: Say) -> str:
    """Build the bundle at `order.out`; its digest. On any error nothing is left there."""
    check_variants(order.out, order.variants)
    events = read_graded(order.graded) if order.graded else []
    with written_whole(order.out) as folder:
        if order.adapter is not None:
            return _trained(order, order.adapter, folder, events, say)
        return _zero_shot(order, folder, events, say)


def _zero_shot(order: Order, folder: Path, events: list[GradedEvent], say: Say) -> str:
    source = read_source(*find_base(order.base))
    say(f"loading {source.name}")
    parts = Parts(Encoder(load_trunk(source), source.pooling))
    first = first_manifest(source, order.categories, parts)
    manifest = msgspec.structs.replace(first, spelling=order.spelling)
    manifest = write_draft(folder, source, parts, manifest, order.variants, say)
    findings = _fitted(folder, events, say)
    calibration = findings.calibration or manifest.calibration
    manifest = msgspec.structs.replace(manifest, calibration=calibration)
    write_card(folder, manifest, findings)
    return bundle.seal(folder, manifest)


def _trained(order: Order, adapter: Path, folder: Path, events: list[GradedEvent], say: Say) -> str:
    trained = TrainedOrder(
        base=order.base,
        trained=adapter,
        categories=order.categories,
        variants=order.variants,
        spelling=order.spelling,
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unsealed = Path(temporary) / "draft"
        draft(trained, unsealed, say)
        say("what it learned from is not known here: its word counts in every list")
        return finish(unsealed, folder, _fitted(unsealed, events, say))


def _fitted(folder: Path, events: list[GradedEvent], say: Say) -> Findings:
    if not events:
        return Findings()
    say(f"calibrating on {len(events)} graded events")
    origin = f"fitted on {len(events)} graded events"
    calibration, blend = calibrate(open_session(folder, device="cpu"), events, origin)
    return Findings(calibration=calibration, blend=blend)
