"""A first encoder for a shop without a click: one that reads more of an item than its title, and,
where it is asked to, has learned on the bare catalogue.

Nobody has graded anything, but each item says the same thing more than once: a few words of a title
stand for the title (independent cropping, Izacard et al. 2022, "Unsupervised dense information
retrieval with contrastive learning", section 3.1), and so do its category and brand, and what its
other fields say. The encoder learns to find each text among those of other items. What comes out is
a folder like the base model's: bundles are built, and models trained, from it as from any base.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, get_scheduler, set_seed

from export.draft import written_whole
from export.models import Encoder
from export.onnx import input_names, load_trunk, quiet
from export.source import FIELDS, Read, Source, read_source
from export.template import segments
from training.progress import Say
from training.views import WarmUpSettings, steps, view
from training.visitors import BadCatalogue
from worker.events import Item
from worker.ranking.text import Fields

SAID_STEPS: Final = 50  # from one line of progress to the next


def warm_up(
    settings: WarmUpSettings, base: Path, items: Sequence[Item], out: Path, say: Say
) -> None:
    """Write the encoder that learned from `items` to `out`, a folder as `base` is one, which says
    what of an item is read.

    It is there whole or not at all. Raises BadCatalogue where no item has any of the fields,
    or fewer than a step takes have a title, and BundleError where the base cannot be loaded.
    """
    titled = [item for item in items if item.title and item.title.split()]
    if settings.steps and len(titled) < settings.pairs_per_step:
        raise BadCatalogue(
            f"{len(titled)} of {len(items)} items have a title, expected at least pairs_per_step"
            f" {settings.pairs_per_step}; nothing was written"
        )
    plain = read_source(base, base.name)
    read = segments(settings.fields, settings.separator)
    found = {each.field: _share(each.field, items) for each in read}
    if not any(found.values()):
        raise BadCatalogue(
            f"warm_up.fields {', '.join(map(repr, found))}: none of {len(items)} items has one of"
            " them, expected fields or attributes that items have; nothing was written"
        )
    for name, share in found.items():
        say(f"{name}: {share:.0%} of {len(items)} items have it")
    source = replace(plain, template=msgspec.structs.replace(plain.template, item=read))
    with written_whole(out) as part:
        shutil.copytree(base, part, dirs_exist_ok=True)
        (part / FIELDS).write_bytes(msgspec.json.encode(Read(read)))
        if settings.steps:
            set_seed(settings.seed)
            encoder = Encoder(load_trunk(source), source.pooling)
            learned(encoder, source, titled, settings, say)
            _save(encoder, source, settings.keep, part)


def _share(field: str, items: Sequence[Item]) -> float:
    """Of the items, those that have a field."""
    values = (Fields(item).get(field) for item in items)
    there = [value is not None and str(value).strip() != "" for value in values]
    return sum(there) / max(len(there), 1)


def learned(
    encoder: Encoder, source: Source, items: Sequence[Item], settings: WarmUpSettings, say: Say
) -> None:
    """Descend, in place: AdamW on all weights but those of words, rates rising and falling."""
    encoder.model.get_input_embeddings().requires_grad_(False)
    learning = [each for each in encoder.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=settings.learning_rate)
    rates = get_scheduler("linear", optimiser, settings.steps // 10, settings.steps)
    vectors = Vectors(encoder, source, min(settings.max_tokens, source.max_tokens))
    losses: list[float] = []
    encoder.train()
    for number, step in zip(range(1, settings.steps + 1), steps(items, settings), strict=False):
        views = [view(item, source.template, chance, settings) for item, chance in step]
        short, long = zip(*views, strict=True)
        loss = info_nce(vectors(short), vectors(long), alike(short, long), settings.temperature)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        rates.step()
        losses.append(loss.item())
        if number % SAID_STEPS == 0 or number == settings.steps:
            say(f"step {number} of {settings.steps}: loss {np.mean(losses[-SAID_STEPS:]):.4f}")
    encoder.eval()


def alike(short: Sequence[str], long: Sequence[str]) -> Tensor:
    """[n, n]: where a text of another item is the same text, which is then no example against."""
    same = [
        [
            row != column and (short[row] == short[column] or long[row] == long[column])
            for column in range(len(long))
        ]
        for row in range(len(short))
    ]
    return torch.tensor(same)


def info_nce(short: Tensor, long: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """-log of the softmax of the right cosine among those of all items, both ways (van den Oord et
    al. 2018, "Representation learning with contrastive predictive coding", equation 4; Radford et
    al. 2021, figure 3).

    Unit vectors [n, d] each; `alike` [n, n] are left out of the sum.
    """
    cosines = (short @ long.T / temperature).masked_fill(alike, -torch.inf)
    right = torch.arange(len(short), device=short.device)
    across = torch.nn.functional.cross_entropy
    return (across(cosines, right) + across(cosines.T, right)) / 2


class Vectors:
    """Texts -> their unit vectors [n, d], as the encoder reads them."""

    def __init__(self, encoder: Encoder, source: Source, longest: int) -> None:
        self._encoder, self._longest = encoder, longest
        self._names = input_names(encoder.model)
        with quiet():
            self._tokenizer = AutoTokenizer.from_pretrained(source.folder, local_files_only=True)
        self._lower = source.lowercases

    def __call__(self, texts: Sequence[str]) -> Tensor:
        read = [text.lower() for text in texts] if self._lower else list(texts)
        tokens = self._tokenizer(
            read, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        vectors: Tensor = self._encoder(*(tokens[name] for name in self._names))[0]
        return vectors


def _save(encoder: Encoder, source: Source, keep: float, folder: Path) -> None:
    """Other weights into the copied folder: between the base's own and those that were learned
    (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3)."""
    for each in (*folder.glob("*.safetensors*"), *folder.glob("*.bin")):
        each.unlink()
    before, after = load_trunk(source).state_dict(), encoder.model.state_dict()
    weights = {
        name: torch.lerp(each, before[name], keep).contiguous()
        if each.is_floating_point()
        else each
        for name, each in after.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
