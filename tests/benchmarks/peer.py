"""sentence-transformers' CrossEncoderTrainer on the same pairs: the peer of `training run`.

    python tests/benchmarks/peer.py --data DIR --base FOLDER --out DIR [--seed 1 --steps 900]

Writes `scores.json`: of each labelled set, query_id -> item_id -> score. Killed, it goes on from
its last checkpoint; finished, it does nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.judgments import SETS, GradedQuery, read_set

TRAINED_ON = ("crowdflower", "home_depot")
BATCH = 32


def main() -> None:
    """Train, score what was kept apart, and say how long it took."""
    options = _parser().parse_args()
    if (options.out / "scores.json").exists():
        return
    queries = [each for name in TRAINED_ON for each in read_set(name, options.data, "train")]
    rows = [(*pair, grade) for query in queries for pair, grade in pairs(query)]
    start = time.monotonic()
    model = trained(options, rows)
    seconds = time.monotonic() - start
    scores = {name: score(model, read_set(name, options.data)) for name in SETS}
    found = {"seed": options.seed, "steps": options.steps, "pairs": len(rows), "seconds": seconds}
    written = options.out / "scores.json.part"
    written.write_text(json.dumps({**found, "scores": scores}))
    written.rename(options.out / "scores.json")


def trained(options: argparse.Namespace, rows: Sequence[tuple[str, str, float]]) -> Any:
    """A CrossEncoder of the base, tuned as its documentation does it, on (query, title, grade)."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import (
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from transformers.trainer_utils import get_last_checkpoint

    columns = zip(*rows, strict=True)
    dataset = Dataset.from_dict(dict(zip(("query", "title", "label"), columns, strict=True)))
    model = CrossEncoder(str(options.base), num_labels=1, max_length=128, device="cpu")
    checkpoints = options.out / "checkpoints"
    trainer = CrossEncoderTrainer(
        model=model,
        args=CrossEncoderTrainingArguments(
            output_dir=str(checkpoints),
            max_steps=options.steps,
            per_device_train_batch_size=BATCH,
            learning_rate=2e-5,
            warmup_steps=options.steps // 10,
            seed=options.seed,
            data_seed=options.seed,
            save_steps=100,
            save_total_limit=1,
            logging_steps=50,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=dataset,
        loss=BinaryCrossEntropyLoss(model),
    )
    begun = checkpoints.is_dir()
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if begun else None)
    return model


def pairs(query: GradedQuery) -> list[tuple[tuple[str, str], float]]:
    """(query, title) and grade of each candidate."""
    text = query.event.user_query
    return [
        ((text, item.title or ""), grade)
        for item, grade in zip(query.event.candidates, query.grades, strict=True)
    ]


def score(model: Any, queries: list[GradedQuery]) -> dict[str, dict[str, float]]:
    """query_id -> item_id -> the model's score."""
    texts = [pair for query in queries for pair, _ in pairs(query)]
    found = iter(model.predict(texts, batch_size=32, show_progress_bar=False).tolist())
    return {
        query.event.query_id: dict(
            zip(
                (item.item_id for item in query.event.candidates),
                itertools.islice(found, len(query.event.candidates)),
                strict=True,
            )
        )
        for query in queries
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the labelled sets")
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base model")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=900)
    return parser


if __name__ == "__main__":
    main()
