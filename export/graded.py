"""Graded search events through a bundle's graphs: what calibration and blend are fitted on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from export.bundle import Blend, Calibration
from export.calibrate import CalibrationError, fit_blend, fit_platt
from export.session import Array, Session

ROWS = 16  # of a batch

Grade = Annotated[float, Meta(ge=0, le=1)]
NotEmpty = Annotated[str, Meta(min_length=1)]


class GradedCandidate(Struct, frozen=True, kw_only=True):
    """A candidate with a judge's grade and the fields that the template reads."""

    item_id: NotEmpty
    title: str
    grade: Grade
    description: str | None = None
    category: str | None = None
    brand: str | None = None


class GradedEvent(Struct, frozen=True, kw_only=True):
    """A search event whose candidates carry a grade in [0, 1]."""

    query_id: NotEmpty
    user_query: str
    candidates: tuple[GradedCandidate, ...]


def read_graded(path: Path) -> list[GradedEvent]:
    """The events of a JSONL file; a bad line is an error that names line, path and value."""
    decoder = msgspec.json.Decoder(GradedEvent)
    events = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            events.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            where = f"{path.name} line {number}"
            raise CalibrationError(f"{where}: {error}{_value_at(line, str(error))}") from error
    return events


def calibrate(
    session: Session, events: Sequence[GradedEvent], origin: str
) -> tuple[Calibration, Blend | None]:
    """The logistic from this session's cosines to the judges' grades and, where it has a pair
    model, the blend of its logit with the cosine; engine scores and features are not read here."""
    manifest = session.manifest
    pairs: list[tuple[str, str]] = []
    cosines: list[float] = []
    for event in events:
        fields = [msgspec.structs.asdict(each) for each in event.candidates]
        query = manifest.template.query(event.user_query)
        vectors = encode(session, [query, *map(manifest.template.render, fields)])
        cosines.extend((vectors[1:] @ vectors[0]).tolist())
        if manifest.pair_template is not None:
            query = manifest.pair_template.query(event.user_query)
            pairs.extend((query, manifest.pair_template.render(each)) for each in fields)
    cosine = np.array(cosines)
    grade = np.array([each.grade for event in events for each in event.candidates])
    calibration = fit_platt(cosine, grade, origin)
    if not pairs:
        return calibration, None
    blend = fit_blend(
        pair=relevance(session, pairs),
        cosine=cosine,
        engine_share=np.full(len(grade), 0.5),
        features={},
        grade=grade,
        weight=np.ones(len(grade)),
        lists=len(events),
        origin=origin,
    )
    return calibration, blend


def encode(session: Session, texts: Sequence[str]) -> Array:
    """The vectors of texts, in their order: [n, d] in double precision."""
    tokens = session.tokenize(texts)
    return _batched(session, "encoder", "vector", tokens, None)


def relevance(session: Session, pairs: Sequence[tuple[str, str]]) -> Array:
    """The pair model's logits of (query, item) texts, in their order: [n] in double precision."""
    tokens = session.tokenize_pairs(pairs)
    types = [pair.types for pair in tokens]
    return _batched(session, "model", "relevance", [pair.ids for pair in tokens], types)


def _batched(
    session: Session,
    graph: str,
    output: str,
    tokens: Sequence[Sequence[int]],
    types: Sequence[Sequence[int]] | None,
) -> Array:
    """One output for each row of tokens; shortest first through the graph, to pad little."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    found: dict[int, Array] = {}
    for start in range(0, len(order), ROWS):
        batch = order[start : start + ROWS]
        shape = (len(batch), max(len(tokens[row]) for row in batch))
        names = ("input_ids", "attention_mask", *(() if types is None else ("token_type_ids",)))
        arrays = {name: np.zeros(shape, dtype=np.int64) for name in names}
        for i, row in enumerate(batch):
            arrays["input_ids"][i, : len(tokens[row])] = tokens[row]
            arrays["attention_mask"][i, : len(tokens[row])] = 1
            if types is not None:
                arrays["token_type_ids"][i, : len(tokens[row])] = types[row]
        found.update(zip(batch, session.run(graph, arrays)[output], strict=True))
    return np.stack([found[row] for row in range(len(tokens))]).astype(np.float64)


def _value_at(line: bytes, message: str) -> str:
    """`, got VALUE` for a message that ends in msgspec's "at `$.path`"."""
    if " - at `$" not in message:
        return ""
    value = msgspec.json.decode(line)
    for step in re.findall(r"\w+", message.rsplit("`$", 1)[1]):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
    return f", got {value!r}"
