"""A Hugging Face text encoder -> `onnx/encoder.onnx`, and the goldens that prove it the same.

The only file of export that needs torch and transformers.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir
import torch
from huggingface_hub import snapshot_download
from onnxscript.rewriter.ort_fusions import optimize_for_ort
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from export.bundle import BundleError, Goldens
from export.source import Pooling, Source

# Opset 20 and onnxscript's fusions: as fast on the CPU as opset 23's native Attention (both within
# the noise of the graph as exported), its fused Attention runs on CUDA in every onnxruntime of
# today, and it is the form that quantises.
OPSET: Final = 20
FETCHED: Final = ("*.json", "*.safetensors", "*/config.json")


class Encoder(torch.nn.Module):
    """Tokens -> the unit-length vector of each text."""

    def __init__(self, model: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """[n, s] -> [n, d]."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask, **types
        ).last_hidden_state  # [n, s, d]
        pooled = hidden[:, 0] if self.pooling == "cls" else mean_pool(hidden, attention_mask)
        return torch.nn.functional.normalize(pooled, dim=1)


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over the real tokens: [n, s, d], [n, s] -> [n, d].

    Summed as a matrix [s, n*d] over its first axis: onnxruntime adds a [n, s, d] up in another
    order when n is 1, and a row's last bits would then depend on its batch (144 of 177 texts did).
    """
    n, s, d = hidden.shape
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    total = (hidden * mask).transpose(0, 1).reshape(s, n * d).sum(0).reshape(n, d)
    return total / mask.sum(1).clamp(min=1e-9)


def find_base(base: str) -> tuple[Path, str]:
    """The folder and the name of a base model: a folder as it is, a hub id through the hub."""
    folder = Path(base)
    if folder.is_dir():
        return folder, folder.resolve().name
    try:
        return Path(snapshot_download(base, allow_patterns=list(FETCHED))), base
    except Exception as error:  # the hub's client raises a dozen kinds; each means: no such model
        first = str(error).strip().splitlines()[0]
        raise BundleError(base, f"neither a folder nor on the hub: {first}") from error


def load_encoder(source: Source) -> Encoder:
    """The model with its pooling, ready to be exported."""
    with _quiet():
        try:
            model = AutoModel.from_pretrained(
                source.folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0]
            raise BundleError(source.name, f"transformers cannot load it: {first}") from error
    if model.config.is_encoder_decoder:
        raise BundleError(source.name, "an encoder-decoder model is not a text encoder")
    # On the outermost module: with dropout left on anywhere, parity fails at 1e-2.
    return Encoder(model, source.pooling).eval()


def input_names(encoder: Encoder) -> tuple[str, ...]:
    """The inputs that the model has; token types only where it knows more than one."""
    takes_types = "token_type_ids" in inspect.signature(encoder.model.forward).parameters
    if takes_types and getattr(encoder.model.config, "type_vocab_size", 1) > 1:
        return ("input_ids", "attention_mask", "token_type_ids")
    return ("input_ids", "attention_mask")


def to_onnx(encoder: Encoder, path: Path) -> None:
    """Write the float32 graph, with dynamic batch and sequence."""
    names = input_names(encoder)
    # One tensor each: torch takes a tensor that stands for two inputs to be one and the same input.
    example = tuple(torch.full((3, 7), int("type" not in name)) for name in names)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    with _quiet():
        program = torch.onnx.export(
            encoder,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(names),
            output_names=["vector"],
            dynamic_shapes={name: axes for name in names},
            verbose=False,
        )
        assert program is not None, "dynamo=True gives a program: this is a bug"
        fused, _ = optimize_for_ort(program.model)
    _forget_origin(fused)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(fused, path)


def _forget_origin(model: onnx_ir.Model) -> None:
    """Drop the exporter's notes, which hold stack traces with the paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


@torch.inference_mode()
def make_goldens(encoder: Encoder, tokens: Sequence[Sequence[int]]) -> Goldens:
    """What the trained model itself gives for these texts."""
    width = max(len(ids) for ids in tokens)
    input_ids = np.zeros((len(tokens), width), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    vectors = []
    for row, ids in enumerate(tokens):  # one by one: the trained model's own rows, unpadded
        vectors.append(
            encoder(
                torch.from_numpy(input_ids[row : row + 1, : len(ids)]),
                torch.from_numpy(attention_mask[row : row + 1, : len(ids)]),
            ).numpy()
        )
    return Goldens(
        input_ids=input_ids,
        attention_mask=attention_mask,
        vector=np.concatenate(vectors).astype(np.float32),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the chatter of loading and exporting, all of it known and harmless."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # "torchvision is not installed"
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # torch 2.13 calls its own deprecated pytree names, and copyreg is where that surfaces
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            # every input has the same two axes, so all names but the first go unused, as meant
            warnings.filterwarnings("ignore", r"# The axis name", UserWarning)
            yield
    finally:
        registration.setLevel(level)
        transformers_logging.enable_progress_bar()
