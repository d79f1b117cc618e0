"""A registry of two small random bundles, one of them much slower than the other."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel

from export.build import Order, build
from export.registry import Registry
from tests.export.models import SMALL, save_base

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
