"""What training leaves for the export: a pair model, a category head, and how they are read.

In: a folder of training (`trained.json`) or of peft (`adapter_config.json`). Out: a Trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from export.adapters import insert_those_of
from export.bundle import BundleError, Template
from export.models import PairModel, PairPooling, is_causal
from export.onnx import load_trunk, quiet
from export.source import Source

NOTES: Final = "trained.json"
ADAPTER: Final = "adapter_config.json"
WEIGHTS: Final = "model.safetensors"
CATEGORY: Final = "category.safetensors"
UNREADABLE: Final = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
SAME: Final = 1e-4  # of a logit: the pair model against the classifier that the adapter was of


class Notes(Struct, frozen=True, kw_only=True):
    """`trained.json`: what the weights do not say of themselves."""

    pooling: PairPooling
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained pair model and, with categories, the head over the encoder's unit vector."""

    pair_model: PairModel
    head: torch.nn.Linear | None  # d -> C
    categories: tuple[str, ...]  # [C]

    @property
    def pair_template(self) -> Template:
        """How a pair is written where nobody says otherwise: decoders have no marks of their own
        between query and item, so words stand for them."""
        if is_causal(self.pair_model.trunk):
            return Template(query_before="Query: ", item_before="\nItem: ")
        return Template()

    def save(self, folder: Path) -> None:
        """Write the weights as a folder of training, from which another round can start."""
        folder.mkdir(parents=True)
        weights = {name: each.contiguous() for name, each in self.pair_model.state_dict().items()}
        save_file(weights, folder / WEIGHTS)
        if self.head is not None:
            save_file(dict(self.head.state_dict()), folder / CATEGORY)
        self.pair_model.trunk.config.to_json_file(folder / "config.json", use_diff=True)
        notes = Notes(pooling=self.pair_model.pooling, categories=self.categories)
        (folder / NOTES).write_bytes(msgspec.json.encode(notes))


def read_trained(folder: Path, source: Source) -> Trained:
    """Load the folder; BundleError where it holds no pair model that can be exported."""
    if (folder / NOTES).is_file():
        return read_folder(folder)
    if (folder / ADAPTER).is_file():
        return Trained(_merged(folder, source), None, ())
    raise BundleError(folder, f"neither {NOTES} nor {ADAPTER} is in it: not a trained model")


def read_folder(folder: Path) -> Trained:
    """Load what training left, which needs no base beside it; BundleError where it cannot be."""
    try:
        notes = msgspec.json.decode((folder / NOTES).read_bytes(), type=Notes)
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            trunk = AutoModel.from_config(config, dtype=torch.float32)
        pair_model = PairModel(trunk, notes.pooling)
        weights = load_file(folder / WEIGHTS)
        insert_those_of(pair_model, weights.items())
        pair_model.load_state_dict(weights)
        head = _head(folder, notes)
    except (*UNREADABLE, AttributeError) as error:
        raise BundleError(folder, f"not a trained model: {_first(error)}") from error
    return Trained(pair_model.float().eval(), head, notes.categories)


def _head(folder: Path, notes: Notes) -> torch.nn.Linear | None:
    path = folder / CATEGORY
    if not path.is_file():
        if notes.categories:
            raise ValueError(f"{NOTES} names categories, and {CATEGORY} is missing")
        return None
    weights = load_file(path)
    count, dimensions = weights["weight"].shape
    if count != len(notes.categories):
        raise ValueError(f"{CATEGORY} has {count} rows for {len(notes.categories)} categories")
    head = torch.nn.Linear(dimensions, count)
    head.load_state_dict(weights)
    return head.eval()


def _merged(folder: Path, source: Source) -> PairModel:
    """The pair model of a peft adapter, merged into the base."""
    try:
        from peft import PeftConfig, PeftModel  # seconds, and only an adapter needs it
    except ModuleNotFoundError as error:
        raise BundleError(folder, "peft is missing: install the `export` extra") from error
    try:
        with quiet():
            config = PeftConfig.from_pretrained(str(folder))
            base = _adapted(folder, source, str(config.task_type))
            merged: Any = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except UNREADABLE as error:
        raise BundleError(folder, f"the adapter does not fit its base: {_first(error)}") from error
    if isinstance(merged, PairModel):
        return merged.eval()
    return _from_classifier(folder, source, merged.eval())


def _adapted(folder: Path, source: Source, task: str) -> torch.nn.Module:
    """What the adapter was trained on: a PairModel pooled as its base is, or a classifier of one
    logit."""
    kept = [name for name in _keys(folder) if "lora_" not in name]
    if any(name.startswith("base_model.model.head.") for name in kept):
        return PairModel(load_trunk(source), source.pooling)
    if "SEQ_CLS" in task and kept:
        model: torch.nn.Module = AutoModelForSequenceClassification.from_pretrained(
            source.folder, local_files_only=True, num_labels=1, dtype=torch.float32
        )
        return model
    raise BundleError(
        folder,
        f"the adapter (task {task}) carries no relevance head: expected `modules_to_save` with "
        "`head` of a PairModel, or the head of a sequence classifier with one label",
    )


def _keys(folder: Path) -> list[str]:
    return list(load_file(folder / "adapter_model.safetensors"))


def _from_classifier(folder: Path, source: Source, classifier: Any) -> PairModel:
    """The same logits as a PairModel; refused where the classifier's head is more than linear."""
    head = getattr(classifier, "score", getattr(classifier, "classifier", None))
    if not isinstance(head, torch.nn.Linear):
        raise BundleError(folder, f"its head {type(head).__name__} is not one linear layer")
    trunk = classifier.base_model
    pair_model = PairModel(trunk, "last" if is_causal(trunk) else "cls").eval()
    with torch.no_grad():
        pair_model.head.weight.copy_(head.weight)
        pair_model.head.bias.copy_(torch.zeros(1) if head.bias is None else head.bias)
        tokens = torch.arange(2, 10).unsqueeze(0)
        wanted = classifier(tokens, attention_mask=torch.ones_like(tokens)).logits[:, 0]
        error = float((pair_model(tokens, torch.ones_like(tokens)) - wanted).abs().max())
    if not error <= SAME:
        raise BundleError(
            folder,
            f"its classifier is not a linear head on the {pair_model.pooling} token of "
            f"{source.name}: the logits differ by {error:.2g}",
        )
    return pair_model


def _first(error: Exception) -> str:
    """What an error says, on one line and not for pages: torch names every tensor that differs."""
    return " ".join(str(error).split())[:300] or type(error).__name__
