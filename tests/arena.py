"""A registry of two small random bundles, one of them much slower than the other; and such as no
shop would want, made of the quick one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from export.build import Order, build
from export.registry import Registry
from tests.chaos.scenes import variant_of
from tests.export.models import LETTERS, SMALL, SPECIAL, save_base

BRAND = "Zizzo"  # whose letter z no other word has
WIDTH = 256  # of the slow one's layers; the other's have 32


def make(folder: Path) -> Path:
    """A registry in which `live` names the quick bundle and `slow` the other."""
    quick, slow = (save_base(folder / name, "bert") for name in ("quick", "slow"))
    torch.manual_seed(8)
    wide = BertConfig(
        **SMALL,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=64,
    )
    BertModel(wide).save_pretrained(slow)
    registry = Registry(folder / "registry")
    for base, alias in ((quick, "live"), (slow, "slow")):
        out = folder / f"{base.name}-bundle"
        build(Order(str(base), out, ("fp32",)), say=lambda line: None)
        registry.promote(registry.publish(out), alias, reason="a test")
    return folder / "registry"


def unfair(folder: Path, live: Path) -> Path:
    """It reads the letter of a brand as if it were all that a title says, and likes others more."""
    row = len(SPECIAL) + LETTERS.index("z")
    return _retold(folder / "unfair", lambda words: words[row].mul_(1_000.0))


def forgetful(folder: Path, live: Path) -> Path:
    """It knows no word any more: what is left of a text is how long it is."""
    return _retold(folder / "forgetful", lambda words: words.zero_())


def doubtful(folder: Path, live: Path) -> Path:
    """The live bundle's order, and five less on every logit."""
    return variant_of(live, folder, 49)


def _retold(folder: Path, change: Callable[[torch.Tensor], object]) -> Path:
    """The bundle of the quick base with other word vectors."""
    base = save_base(folder / "base", "bert")
    trunk = BertModel.from_pretrained(base)
    with torch.no_grad():
        change(trunk.get_input_embeddings().weight)
    trunk.save_pretrained(base)
    build(Order(str(base), folder / "bundle", ("fp32",)), say=lambda line: None)
    return folder / "bundle"
