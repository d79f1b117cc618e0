"""The two torch models of a bundle: the encoder of one text, and the judge of a query-item pair.

Both pool so that a float32 row is the same to the last bit in any batch and under any padding,
which makes the worker's answers repeatable.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from export.source import Pooling

PairPooling: TypeAlias = Literal["mean", "cls", "last", "product"]


class Encoder(torch.nn.Module):
    """Tokens -> the unit-length vector of each text and, with a head, its category logits."""

    def __init__(
        self, model: PreTrainedModel, pooling: Pooling, head: torch.nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.head = head  # d -> C

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """[n, s] each -> the vectors [n, d], and the category logits [n, C] where it has a head."""
        states = hidden(self.model, input_ids, attention_mask, token_type_ids)
        pooled = pool(states, attention_mask, self.pooling)
        vector = torch.nn.functional.normalize(pooled, dim=1)
        if self.head is None:
            return (vector,)
        # Not self.head(vector): it becomes a Gemm, which the quantiser rewrites and cannot type.
        return vector, vector @ self.head.weight.t() + self.head.bias


class PairModel(torch.nn.Module):
    """Tokens of a query and an item, read together -> the logit of their relevance.

    A cross-encoder, or a causal LM with pooling "last" (Nogueira & Cho 2019, "Passage re-ranking
    with BERT", section 3). The trunk is any Hugging Face model that gives `last_hidden_state`.
    With pooling "product" the pair's state is made of the query's and the item's own (`match`);
    the trunk then reads both as one text of one type, as a text encoder knows it.
    """

    def __init__(self, trunk: PreTrainedModel, pooling: PairPooling) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.head = torch.nn.Linear(trunk.config.hidden_size, 1)

    def pooled(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[n, s] each -> [n, d]: one state a pair."""
        if self.pooling == "product":
            if token_type_ids is None:
                raise ValueError("pooling product: expected token types, to tell query from item")
            plain = torch.zeros_like(token_type_ids)
            states = hidden(self.trunk, input_ids, attention_mask, plain)
            return match(states, attention_mask, token_type_ids)
        states = hidden(self.trunk, input_ids, attention_mask, token_type_ids)
        return pool(states, attention_mask, self.pooling)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[n, s] each -> [n] logits.

        The head is a sum over the first axis of [d, n], not its own product: a matrix product
        with one column may take another kernel, and add up in another order, where n is 1.
        """
        pooled = self.pooled(input_ids, attention_mask, token_type_ids)
        return (pooled * self.head.weight).transpose(0, 1).contiguous().sum(0) + self.head.bias


def hidden(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
) -> Tensor:
    """[n, s] each -> the last layer's states [n, s, d], for padding on the right."""
    more: dict[str, Any] = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
    if is_causal(model):
        # Said outright: left to the decoder they have one row, and the exporter loses the batch.
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        more["position_ids"] = positions.expand_as(input_ids)
        more["use_cache"] = False
    states: Tensor = model(
        input_ids=input_ids, attention_mask=attention_mask, **more
    ).last_hidden_state
    return states


def is_causal(model: PreTrainedModel) -> bool:
    """Whether each token sees only those before it: a decoder, which keeps keys and values."""
    keeps = {"past_key_values", "position_ids"} <= set(inspect.signature(model.forward).parameters)
    return keeps and not hasattr(model.config, "type_vocab_size")


def pool(states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """One state a text: [n, s, d], [n, s] -> [n, d]."""
    if pooling == "cls":
        return states[:, 0]
    return (mean_pool if pooling == "mean" else last_pool)(states, attention_mask)


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over the real tokens: [n, s, d], [n, s] -> [n, d].

    Summed as a matrix [s, n*d] over its first axis: onnxruntime adds a [n, s, d] up in another
    order when n is 1, and a row's last bits would then depend on its batch (144 of 177 texts did).
    """
    n, s, d = states.shape
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    total = (states * mask).transpose(0, 1).reshape(s, n * d).sum(0).reshape(n, d)
    return total / mask.sum(1).clamp(min=1e-9)


def match(states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
    """Query and item, dimension by dimension: [n, s, d], [n, s], [n, s] -> [n, d].

    The product of the unit means of their tokens (Conneau et al. 2017, "Supervised learning of
    universal sentence representations", section 3.2), times the root of d: its sum is then the
    cosine of the two times that root, and a head of equal weights begins as a text encoder's
    cosine, but of texts that have seen each other.
    """
    of_item = attention_mask * token_type_ids
    query, item = (
        torch.nn.functional.normalize(mean_pool(states, mask), dim=1)
        for mask in (attention_mask - of_item, of_item)
    )
    return query * item * math.sqrt(states.shape[2])


def last_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """The state of the last real token, padding on the right: [n, s, d], [n, s] -> [n, d]."""
    last = (attention_mask.sum(1) - 1).clamp(min=0)
    index = last.reshape(-1, 1, 1).expand(-1, 1, states.shape[2])
    return states.gather(1, index).squeeze(1)
