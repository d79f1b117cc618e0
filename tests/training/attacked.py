"""Small models, a batch of pairs, and one step of learning under an attack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from export.models import PairModel, PairPooling
from tests.export.models import make_model
from training.adversary import Kind
from training.attacks import attacked
from training.batches import Batch
from training.model import RankingModel
from training.recipe import Loss, Recipe
from training.step import losses
from training.tuning import prepare

KINDS: tuple[Kind, ...] = ("fgm", "pgd", "freelb", "smart")
LOSSES: tuple[Loss, ...] = ("bce", "listnet", "lambda")
WORDS = 40
seeds = st.integers(0, 2**32 - 1)
sizes = st.floats(1e-3, 10.0)


class Words(torch.nn.Module):
    """A trunk whose states are its word embeddings: under mean pooling a logit is linear in them.
    Keeps what each pass read. With a leak each state sees the mean of all, padding too."""

    def __init__(self, dimensions: int, leak: float) -> None:
        super().__init__()
        self.leak = leak
        self.config = SimpleNamespace(hidden_size=dimensions)
        self.table = torch.nn.Embedding(WORDS, dimensions)
        self.read: list[Tensor] = []

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        states = self.table(input_ids)
        self.read.append(states.detach())
        return BaseModelOutput(last_hidden_state=states + self.leak * states.mean(1, keepdim=True))


class Step(NamedTuple):
    """What one step gave: its loss and parts, and the gradient of every parameter that has one."""

    loss: Tensor
    parts: dict[str, Tensor]
    gradients: dict[str, Tensor]


def linear(dimensions: int = 5, seed: int = 0, leak: float = 0.0) -> RankingModel:
    torch.manual_seed(seed)
    return RankingModel(PairModel(Words(dimensions, leak), "mean"), None)


def network(family: str = "bert", pooling: PairPooling = "mean", **dials: Any) -> RankingModel:
    """A small network with dropout, learning as the dials say."""
    torch.manual_seed(3)
    trunk = make_model(family)
    model = RankingModel(PairModel(trunk, pooling), None)
    torch.nn.init.normal_(model.pair_model.head.weight)
    prepare(trunk, Recipe(**{"dropout": 0.2, **dials}))
    return model.train()


def batch(seed: int = 0, longest: int = 7) -> Batch:
    """Six pairs of one to `longest` words in lists of three, two and one."""
    chance = torch.Generator().manual_seed(seed)
    rows = torch.tensor([[0, 1, 2], [3, 4, -1], [5, -1, -1]])
    there = (rows >= 0).float()
    lengths = torch.randint(1, longest + 1, (6, 1), generator=chance)
    mask = (torch.arange(longest) < lengths).long()
    return Batch(
        input_ids=torch.randint(0, WORDS, (6, longest), generator=chance) * mask,
        attention_mask=mask,
        token_type_ids=None,
        rows=rows,
        grades=torch.randint(0, 2, rows.shape, generator=chance) * there,
        weights=(0.5 + torch.rand(rows.shape, generator=chance)) * there,
        cosine=torch.zeros(rows.shape),
        known=torch.full(rows.shape, -1),
        vectors=torch.zeros((*rows.shape, 1)),
    )


def descended(model: RankingModel, told: tuple[Tensor, dict[str, Tensor]]) -> Step:
    """A step's backward pass as the trainer makes it; the gradients are taken away."""
    loss, parts = told
    torch.autograd.backward(loss)
    named = [(name, each.grad) for name, each in model.named_parameters()]
    model.zero_grad()
    gradients = {name: each for name, each in named if each is not None}
    return Step(loss.detach(), {name: each.detach() for name, each in parts.items()}, gradients)


def step(model: RankingModel, one: Batch, seed: int = 1, **dials: Any) -> Step:
    """One step under the recipe of these dials, with chance from `seed`."""
    recipe = msgspec.convert(dials, Recipe)
    torch.manual_seed(seed)
    told = attacked(model, one, lambda reading: losses(one, reading, recipe), recipe)
    return descended(model, told)


def plain(model: RankingModel, one: Batch, seed: int = 1, **dials: Any) -> Step:
    """The same without what is tested: read, loss, backward."""
    torch.manual_seed(seed)
    return descended(model, losses(one, model(one), Recipe(**dials)))


def shifts(model: RankingModel, one: Batch, **dials: Any) -> list[Tensor]:
    """The shift of each pass of a step of a linear model: [p, s, d]."""
    read = model.pair_model.trunk.read
    read.clear()
    step(model, one, **dials)
    table = model.pair_model.trunk.table.weight.detach()
    return [each - table[one.input_ids] for each in read]


def lengths(shift: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2))
    return found


def worst(model: RankingModel, one: Batch, reach: float) -> Tensor:
    """The shift of that length which harms a linear logit most, by hand: with m words the logit is
    the head times their mean, so each word moves along the head, reach / sqrt(m) of it, downward
    where the grade is 1 and upward where it is 0."""
    head = model.pair_model.head.weight.detach()[0]
    mask = one.attention_mask.float()
    grades = one.grades[one.rows >= 0]
    each = (1.0 - 2.0 * grades) * reach / mask.sum(1).sqrt()
    found: Tensor = each[:, None, None] * mask[:, :, None] * head / head.norm()
    return found
