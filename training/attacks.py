"""Adversarial training: a step whose word embeddings are shifted to the loss's harm.

A shift [p, s, d] is added to what the trunk's word embeddings give, before positions, types and
norm, so a frozen table is attacked as a learning one is. Each pair has its own, of an L2 length
of at most epsilon over its words; padding is never shifted. All passes of a step see the same
dropout, for the attack is on one network (Zhu et al. 2020, "FreeLB: Enhanced adversarial training
for natural language understanding", section 3.3).

Where losses of several passes are averaged, all but the last add their gradients here, so that one
graph is held at a time: the loss that is returned has the value of the whole, and the gradient of
what is still to be added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import get_device_states, set_device_states

from training.adversary import Attack
from training.batches import Batch
from training.losses import mean
from training.model import RankingModel, Reading
from training.recipe import Loss, Recipe

LEAST: Final = 1e-20  # a gradient shorter than this has no direction

Told: TypeAlias = tuple[Tensor, dict[str, Tensor]]  # a loss, and its parts by name
LossOf: TypeAlias = Callable[[Reading], Told]


def attacked(model: RankingModel, batch: Batch, loss_of: LossOf, recipe: Recipe) -> Told:
    """One step's loss under the recipe's attack; without one, that of a plain reading.

    The parts are those of the plain reading (freelb has none: of its last), and `adversarial`: the
    loss of the shifted pairs, or what smart adds, before its weight.
    """
    attack = recipe.attack
    if attack.kind == "none":
        return loss_of(model(batch))
    passes = Passes(model, batch)
    if attack.kind == "fgm":
        return fgm(passes, loss_of, attack)
    if attack.kind == "pgd":
        return pgd(passes, loss_of, attack)
    if attack.kind == "freelb":
        return freelb(passes, loss_of, attack)
    return smart(passes, loss_of, attack, recipe.loss)


class Passes:
    """Reads one batch again and again, under any shift and always with the same dropout."""

    def __init__(self, model: RankingModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.words: torch.nn.Embedding = model.pair_model.trunk.get_input_embeddings()
        self.real = batch.attention_mask.unsqueeze(-1).float()  # [p, s, 1]
        self._remember()

    def read(self, shift: Tensor) -> Reading:
        """The batch under a shift [p, s, d]."""
        torch.set_rng_state(self._chance)
        set_device_states(*self._chances)
        with self.words.register_forward_hook(lambda _module, _ids, words: words + shift):
            reading: Reading = self.model(self.batch)
        return reading

    def still(self) -> Tensor:
        """No shift: zeros [p, s, d]."""
        return self.real.new_zeros((*self.real.shape[:2], self.words.embedding_dim))

    def start(self, epsilon: float) -> Tensor:
        """A random shift in the ball: U(-epsilon, epsilon) / sqrt(N), N the numbers of a pair's
        words (FreeLB, algorithm 1, line 4). Draws from the generator before dropout does."""
        drawn = self.still().uniform_(-epsilon, epsilon) * self.real
        self._remember()
        return drawn / (self.real.sum(1, keepdim=True) * drawn.shape[2]).sqrt()

    def climbed(self, shift: Tensor, gradient: Tensor, size: float, epsilon: float) -> Tensor:
        """A step of length `size` up each pair's own gradient, and back into the ball.

        The steepest step under an L2 norm is g / ||g|| (Madry et al. 2018, "Towards deep learning
        models resistant to adversarial attacks", equation 2, where it is sign g under L-infinity).
        """
        upward = normalize((gradient * self.real).flatten(1), dim=1, eps=LEAST)
        moved = shift.detach().flatten(1) + size * upward
        lengths = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        inside: Tensor = moved * (epsilon / lengths.clamp(min=max(epsilon, LEAST)))
        return inside.view_as(shift)

    def _remember(self) -> None:
        self._chance = torch.get_rng_state()
        self._chances = get_device_states(self.batch.input_ids)


def fgm(passes: Passes, loss_of: LossOf, attack: Attack) -> Told:
    """The plain loss and that under epsilon g / ||g||, g the plain loss's gradient (Miyato, Dai &
    Goodfellow 2017, "Adversarial training methods for semi-supervised text classification",
    equations 5 and 6): a climb of one step, as long as the ball is wide."""
    return _plain_and_worst(passes, loss_of, attack, 1, attack.epsilon)


def pgd(passes: Passes, loss_of: LossOf, attack: Attack) -> Told:
    """The plain loss and that after `steps` steps upward from no shift, each projected onto the
    ball (Madry et al. 2018, equation 2)."""
    return _plain_and_worst(passes, loss_of, attack, attack.steps, attack.step_size)


def _plain_and_worst(
    passes: Passes, loss_of: LossOf, attack: Attack, steps: int, size: float
) -> Told:
    """(L + w L_adv) / (1 + w): a mean, so that the rates keep their meaning, as Goodfellow et al.
    2015, "Explaining and harnessing adversarial examples", section 6, have it."""
    shift = passes.still().requires_grad_()
    plain, parts = loss_of(passes.read(shift))
    done, gradient = _learned(plain / (1.0 + attack.weight), shift)
    shift = passes.climbed(shift, gradient, size, attack.epsilon)
    for _ in range(steps - 1):
        loss, _ = loss_of(passes.read(shift.requires_grad_()))
        (gradient,) = torch.autograd.grad(loss, shift)
        shift = passes.climbed(shift, gradient, size, attack.epsilon)
    worst, _ = loss_of(passes.read(shift))
    total = done + worst * (attack.weight / (1.0 + attack.weight))
    return total, {**parts, "adversarial": worst}


def freelb(passes: Passes, loss_of: LossOf, attack: Attack) -> Told:
    """The mean loss of `steps` passes from a random start: a pass's one backward gives both its
    share of the weights' gradient and the step to the next shift (Zhu et al. 2020, algorithm 1)."""
    shift = passes.start(attack.epsilon)
    total: Tensor | float = 0.0
    for _ in range(attack.steps - 1):
        loss, _ = loss_of(passes.read(shift.requires_grad_()))
        done, gradient = _learned(loss / attack.steps, shift)
        total = total + done
        shift = passes.climbed(shift, gradient, attack.step_size, attack.epsilon)
    loss, parts = loss_of(passes.read(shift))
    total = total + loss / attack.steps
    return total, {**parts, "adversarial": total}


def _learned(share: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Add a share of the loss's gradient to the weights; its value, and the shift's gradient."""
    torch.autograd.backward(share)
    assert shift.grad is not None, "every loss reads the words: a bug"
    return share.detach(), shift.grad


def smart(passes: Passes, loss_of: LossOf, attack: Attack, kind: Loss) -> Told:
    """L + w R, R how far outputs can be moved within the ball (Jiang et al. 2020, "SMART: Robust
    and efficient fine-tuning for pre-trained natural language models", equation 1 and R_s below).

    It needs no label. R climbs from a random start, for it has no slope where nothing is shifted
    (Miyato et al. 2018, "Virtual adversarial training", section 3.3); both of its sides learn.
    """
    shift = passes.start(attack.epsilon)
    reading = passes.read(passes.still())
    loss, parts = loss_of(reading)
    there = passes.batch.rows >= 0
    for _ in range(attack.steps):
        moved = passes.read(shift.requires_grad_()).logits
        apart = divergence(kind, moved, reading.logits.detach(), there)
        (gradient,) = torch.autograd.grad(apart, shift)
        shift = passes.climbed(shift, gradient, attack.step_size, attack.epsilon)
    adversarial = divergence(kind, passes.read(shift).logits, reading.logits, there)
    return loss + attack.weight * adversarial, {**parts, "adversarial": adversarial}


def divergence(kind: Loss, first: Tensor, second: Tensor, there: Tensor) -> Tensor:
    """KL(P || Q) + KL(Q || P) of what logits [b, n] say, over the places that are `there`.

    bce reads a logit as the chance sigmoid(logit), so P and Q are those, mean over pairs. The list
    losses read differences alone, as a list's softmax does: so P and Q are those, mean over lists.
    For both the sum of the two is (p - q) . (logits of p - logits of q).
    """
    if kind == "bce":
        apart = (torch.sigmoid(first) - torch.sigmoid(second)) * (first - second)
        return mean(apart, there.float())
    chances, others = (
        torch.softmax(each.masked_fill(~there, -torch.inf), dim=1) for each in (first, second)
    )
    return ((chances - others) * (first - second)).sum(1).mean()
