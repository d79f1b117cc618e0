"""What is fine-tuned: a pair model with its relevance head, and a category head beside it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from export.models import PairModel
from training.batches import Batch
from training.widths import Read, read_by_width


class Reading(NamedTuple):
    """What the model made of a batch."""

    pooled: Tensor  # [p, d]: a state for each pair
    logits: Tensor  # [b, n] of relevance; where padded, anything
    categories: Tensor | None  # [b, n, C] logits; None without a category head


class RankingModel(torch.nn.Module):
    """The pair model learns; the category head reads the vectors of the encoder, which does not.

    So the encoder forgets nothing, and what workers remember of items outlives a swap. A pair model
    whose pooling is `product` begins as a cosine of its own. Any other knows nothing at first, and
    learns what its logit must add to `slope` * the encoder's cosine + `intercept`, as a boosted
    learner would (Friedman 2001, "Greedy function approximation", section 4.4). Where they serve,
    logit and cosine are blended.
    """

    calibration: Tensor  # [2]: slope and intercept; they do not learn

    def __init__(
        self,
        pair_model: PairModel,
        category_head: torch.nn.Linear | None,
        calibration: tuple[float, float] = (0.0, 0.0),
        by_width: bool = False,
    ) -> None:
        """`by_width`: on a CPU, pairs of like length are read together."""
        super().__init__()
        self.pair_model = pair_model
        self.category_head = category_head
        self.by_width = by_width
        self.shared: Read | None = None  # how a step is read in shares, while it learns
        self.register_buffer("calibration", torch.tensor(calibration))

    def forward(self, batch: Batch) -> Reading:
        """Read every pair of the batch once."""
        tokens = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        if self.training and self.shared is not None:
            pooled = self.shared(*tokens)
        elif self.by_width and batch.input_ids.device.type == "cpu":
            pooled = read_by_width(self.pair_model.pooled, *tokens).float()
        else:
            pooled = self.pair_model.pooled(*tokens).float()
        flat = self.pair_model.head(pooled).squeeze(1)
        logits = flat[batch.rows.clamp(min=0)] + self.offset(batch)
        told = None if self.category_head is None else self.category_head(batch.vectors)
        return Reading(pooled, logits, told)

    def offset(self, batch: Batch) -> Tensor:
        """What the cosine says of each place: [b, n]."""
        return self.calibration[0] * batch.cosine + self.calibration[1]
