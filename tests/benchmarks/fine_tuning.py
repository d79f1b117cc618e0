"""Our fine-tuning on the pairs that `peer.py` trains on, to be held against it.

    python tests/benchmarks/fine_tuning.py --data DIR --base FOLDER --out DIR [--seed 1 --steps 900]
        [--set loss=listnet --set learning_rate=3e-5 ...]

Writes `scores.json`: of each labelled set, query_id -> item_id -> the pair model's logit, and the
same of the base encoder's cosine. Killed, it goes on from its last checkpoint; finished, it does
nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from export.bundle import Template
from export.models import Encoder
from export.onnx import input_names, load_trunk
from export.source import read_source
from export.tokenizer import PairTokenizer, read_tokenizer
from export.trained import read_trained
from tests.benchmarks.peer import TRAINED_ON, pairs
from training.batches import judging
from training.dataset import LabelledList, labelled
from training.fine_tune import Trained, fine_tune
from training.judgments import SETS, GradedQuery, read_set, worth_measuring
from training.recipe import Recipe
from training.sheets import Words, tokenised
from training.teach import ModelSettings
from worker.ranking.model import Vector
from worker.ranking.text import item_text, query_text

Scores = dict[str, dict[str, float]]  # query_id -> item_id -> score
ROWS = 64  # texts that the encoder reads at once


def main() -> None:
    """Train, and score what was kept apart."""
    options = _parser().parse_args()
    if (options.out / "scores.json").exists():
        return
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(options)
    train = [one for name in TRAINED_ON for one in labelled(read_set(name, options.data, "train"))]
    settings = ModelSettings(base=str(options.base))
    categories = settings.categories(train) if options.categories else ()
    known = _vectors(train, options.base, options.out / "vectors.npz")
    trained = fine_tune(
        recipe,
        options.base,
        train,
        [],
        known,
        categories,
        options.out / "run",
        lambda line: print(line, flush=True),
        settings.pair_template,
    )
    sets = {
        name: worth_measuring(read_set(name, options.data), columns.fewest)
        for name, columns in SETS.items()
    }
    found: dict[str, Any] = {
        "recipe": msgspec.to_builtins(recipe),
        "pairs": sum(len(one.grades) for one in train),
        "seconds": trained.seconds,
        "scores": score(sets, trained, recipe, options.base, settings.pair_template),
        "cosine": {name: cosine(queries, options.base) for name, queries in sets.items()},
    }
    written = options.out / "scores.json.part"
    written.write_text(json.dumps(found))
    written.rename(options.out / "scores.json")


@torch.inference_mode()
def score(
    sets: dict[str, list[GradedQuery]],
    trained: Trained,
    recipe: Recipe,
    base: Path,
    template: Template,
) -> dict[str, Scores]:
    """The pair model's logit of every candidate."""
    model = read_trained(Path(trained.folder), read_source(base, base.name)).pair_model.eval()
    typed = "token_type_ids" in input_names(model.trunk)
    words = Words(Template(), template, PairTokenizer(base, recipe.max_tokens), {}, ())
    found: dict[str, Scores] = {}
    for name, queries in sets.items():
        sheets = tokenised(labelled(queries), words)
        ordered = sorted(sheets, key=lambda sheet: int(sheet.widths.max()))
        logits: list[float] = []
        for batch in judging(sheets, recipe, typed):
            logits += model(batch.input_ids, batch.attention_mask, batch.token_type_ids).tolist()
        rest = iter(logits)
        found[name] = {
            sheet.labelled.search.event.query_id: {
                entry.item.item_id: value
                for entry, value in zip(
                    sheet.labelled.search.entries,
                    itertools.islice(rest, len(sheet.pairs)),
                    strict=True,
                )
            }
            for sheet in ordered
        }
    return found


def cosine(queries: list[GradedQuery], base: Path) -> Scores:
    """The base encoder's cosine of query and title."""
    texts = sorted({text for query in queries for pair, _ in pairs(query) for text in pair})
    known = encoded(texts, base)
    return {
        query.event.query_id: {
            item.item_id: float(known[query.event.user_query] @ known[item.title or ""])
            for item in query.event.candidates
        }
        for query in queries
    }


@torch.inference_mode()
def encoded(texts: Sequence[str], base: Path) -> dict[str, Vector]:
    """The base encoder's vector of each text."""
    source = read_source(base, base.name)
    encoder = Encoder(load_trunk(source), source.pooling).eval()
    tokenizer = read_tokenizer(base, source.max_tokens, "longest_first")
    tokens = [each.ids for each in tokenizer.encode_batch_fast(list(texts))]
    order = sorted(range(len(texts)), key=lambda row: len(tokens[row]))
    found: dict[str, Vector] = {}
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        width = max(len(tokens[row]) for row in rows)
        table = torch.zeros(len(rows), width, dtype=torch.int64)
        for place, row in enumerate(rows):
            table[place, : len(tokens[row])] = torch.tensor(tokens[row])
        mask = torch.arange(width) < torch.tensor([[len(tokens[row])] for row in rows])
        (vectors,) = encoder(table, mask.long())
        found |= {texts[row]: vector for row, vector in zip(rows, vectors.numpy(), strict=True)}
    return found


def _vectors(lists: Sequence[LabelledList], base: Path, kept: Path) -> dict[str, Vector]:
    """Of every item and query, computed once and kept in a file."""
    template = Template()
    texts = sorted(
        {item_text(entry.item, template) for one in lists for entry in one.search.entries}
        | {query_text(one.search, template) or "" for one in lists}
    )
    if not kept.exists():
        known = encoded(texts, base)
        np.savez(kept, vectors=np.stack([known[text] for text in texts]))
    with np.load(kept) as found:
        return dict(zip(texts, found["vectors"], strict=True))


def _recipe(options: argparse.Namespace) -> Recipe:
    """The defaults, with what the command line says of them."""
    said: dict[str, Any] = {"seed": options.seed, "max_steps": options.steps}
    for each in options.set:
        name, _, value = each.partition("=")
        try:
            said[name] = json.loads(value)
        except ValueError:
            said[name] = value
    return msgspec.convert(said, Recipe)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--categories", action="store_true", help="train the category head too")
    parser.add_argument("--set", action="append", default=[], metavar="DIAL=VALUE")
    return parser


if __name__ == "__main__":
    main()
