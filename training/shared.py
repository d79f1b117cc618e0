"""A step whose pairs are read in shares, by several ranks or one after another, as if at once.

No loss is divided. The states of all pairs are put together, the loss of the whole step is told
from them, and its gradient by the states goes back into each share (GradCache: Gao et al. 2021,
"Scaling deep contrastive learning batch size under memory limited setup", section 3.2). So the
gradients are those of the undivided step whatever the loss: its means, its weights, lambda's pairs
and pareto's products over all lists need no care. Where shares follow one another at a rank, each
is read twice, without a graph and again with one, under the same dropout: a forward pass more, for
the memory of one share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from export.models import PairModel
from training import ranks
from training.products import Products
from training.recipe import Recipe
from training.tuning import BadRecipe
from training.widths import read_by_width


class Begin(NamedTuple):
    """An order: read for this model from now on."""

    pair_model: PairModel
    recipe: Recipe


class Work(NamedTuple):
    """An order: the states of a step's p pairs, each rank those of its own parts."""

    input_ids: Tensor  # [p, s]
    attention_mask: Tensor  # [p, s]
    token_type_ids: Tensor | None  # [p, s]
    chance: int  # a seed of the step's own

    def to(self, device: torch.device | str) -> Work:
        """The same there."""
        types = None if self.token_type_ids is None else self.token_type_ids.to(device)
        ids, mask = self.input_ids.to(device), self.attention_mask.to(device)
        return Work(ids, mask, types, self.chance)

    def parts(self, rank: int, ranks: int, count: int) -> list[Tensor]:
        """The rows of a rank's parts: like shares for all ranks, and pairs of like length in a
        part; rank 0 always has some."""
        order = self.attention_mask.sum(1).argsort(stable=True)
        return [part for part in order[rank::ranks].tensor_split(count) if len(part)]


class Learn(NamedTuple):
    """An order: what the loss says of the states, [p, d]."""

    gradient: Tensor


class Reader:
    """Reads one rank's parts of each step, and learns from them."""

    def __init__(self, pair_model: PairModel, recipe: Recipe) -> None:
        self._model, self._recipe = pair_model, recipe
        self.learning = [each for each in pair_model.trunk.parameters() if each.requires_grad]
        self.device = pair_model.head.weight.device
        self._kept: list[tuple[Tensor, int, Tensor | None]] = []  # rows, seed, states with a graph

    def states(self, work: Work) -> Tensor:
        """[p, d]: those of this rank's pairs, 0 elsewhere."""
        self._model.trunk.train()
        rank, count = ranks.number(), ranks.count()
        parts = work.parts(rank, count, self._recipe.accumulate)
        self._work, self._kept = work, []
        width = self._model.trunk.config.hidden_size
        found = torch.zeros(len(work.input_ids), width, device=self.device)
        for index, rows in enumerate(parts):
            seed = work.chance + rank * self._recipe.accumulate + index
            with torch.set_grad_enabled(len(parts) == 1):
                states = self._read(rows, seed)
            found[rows] = states.detach()
            self._kept.append((rows, seed, states if len(parts) == 1 else None))
        return found

    def learn(self, gradient: Tensor) -> None:
        """Add the parts' gradient to the weights', and at rank 0 that of all ranks."""
        for rows, seed, states in self._kept:
            with torch.enable_grad():
                again = self._read(rows, seed) if states is None else states
            torch.autograd.backward(again, gradient[rows])
        self._kept = []
        if ranks.count() > 1:
            flat = torch.cat([_gradient(each).flatten() for each in self.learning])
            ranks.sum_at_leader(flat)
            self._spread(flat, [each.grad for each in self.learning])

    def follow(self) -> None:
        """Take the weights that rank 0 has now."""
        flat = torch.cat([each.detach().flatten() for each in self.learning])
        ranks.from_leader(flat)
        self._spread(flat, [each.detach() for each in self.learning])

    def forget(self) -> None:
        """No gradients, before a step."""
        for each in self.learning:
            each.grad = None

    def _read(self, rows: Tensor, seed: int) -> Tensor:
        ids, mask, types = self._work[:3]
        width = int(mask[rows].sum(1).max())
        tokens = [None if one is None else one[rows, :width] for one in (ids, mask, types)]
        bfloat16 = self._recipe.precision == "bfloat16"
        kind = self.device.type
        with (
            _chance(seed, self.device),
            Products(),
            torch.autocast(kind, torch.bfloat16, enabled=bfloat16),
        ):
            read = self._model.pooled
            if kind == "cpu":
                return read_by_width(read, *tokens).float()  # type: ignore[arg-type]  # only types may be none
            return read(*tokens).float()  # type: ignore[arg-type]  # only types may be none

    def _spread(self, flat: Tensor, into: Sequence[Tensor | None]) -> None:
        """The numbers of a flat tensor into those that they came from; what is None stays so, for
        an optimiser would let weights decay that learn nothing."""
        sizes = [each.numel() for each in self.learning]
        for values, place in zip(torch.split(flat, sizes), into, strict=True):
            if place is not None:
                place.copy_(values.view_as(place))


class Shared:
    """Reads a step's pairs in shares: tokens [p, s] -> states [p, d] that know their gradient."""

    def __init__(self, pair_model: PairModel, recipe: Recipe) -> None:
        self.reader = Reader(pair_model, recipe)
        if ranks.count() > 1:
            ranks.order(Begin(pair_model, recipe))

    def __call__(self, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        drawn = int(torch.randint(2**62, ()))  # by the generator that a checkpoint keeps
        found: Tensor = _Read.apply(
            ids.new_zeros((), dtype=torch.float32).requires_grad_(),
            self,
            Work(ids, mask, types, drawn),
        )  # type: ignore[no-untyped-call]  # of torch's
        return found


class _Read(torch.autograd.Function):
    """Gives the states of all pairs; takes what the loss says of them."""

    @staticmethod
    def forward(ctx: Any, _learns: Tensor, shared: Shared, work: Work) -> Tensor:
        ctx.shared = shared
        if ranks.count() > 1:
            ranks.order(work.to("cpu"))
            shared.reader.follow()
        found = shared.reader.states(work)
        if ranks.count() > 1:
            ranks.sum_everywhere(found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        if ranks.count() > 1:
            ranks.order(Learn(gradient.cpu()))
        ctx.shared.reader.learn(gradient)
        return None, None, None


def shared(pair_model: PairModel, recipe: Recipe) -> Shared | None:
    """How a step is shared out; None where one process reads it at once.

    Raises BadRecipe for an attack, which has to see the words of a whole step.
    """
    if recipe.accumulate == 1 and ranks.count() == 1:
        return None
    if recipe.attack.kind != "none":
        raise BadRecipe(
            f"attack.kind {recipe.attack.kind}: expected none where {ranks.count()} ranks or parts "
            f"(accumulate {recipe.accumulate}) share a step; nothing was trained"
        )
    return Shared(pair_model, recipe)


def help_out() -> None:
    """What a rank but the first does: follow orders, until there are no more."""
    reader: Reader | None = None
    while (told := ranks.ordered()) is not None:
        if isinstance(told, Begin):
            torch.set_num_threads(told.recipe.threads or torch.get_num_threads())
            device = "cuda" if torch.cuda.is_available() else "cpu"
            reader = Reader(told.pair_model.to(device), told.recipe)
            continue
        assert reader is not None, "rank 0 begins before it works: a bug"
        if isinstance(told, Work):
            reader.forget()
            reader.follow()
            ranks.sum_everywhere(reader.states(told.to(reader.device)))
        else:
            reader.learn(told.gradient.to(reader.device))


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@contextmanager
def _chance(seed: int, device: torch.device) -> Iterator[None]:
    """Under a seed of its own; afterwards the generators are as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
